"""The sieves: near fp32 on a network with awkward units, the same value for a row wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.elemnet import ElemNet
from models.errors import InputError
from models.inference import dense_chain, precise_function
from models.predictor import Predictor
from models.sieve import (
    SIEVES,
    _equalised,
    _without_silent_units,
    best_sieve,
    can_sieve,
    largest_activations,
    sieve_function,
)

BATCH = 64

needs = {
    kind: pytest.mark.skipif(not can_sieve(kind), reason=f"this processor has no instructions for {kind}")
    for kind in SIEVES
}
needs_vnni = needs["int8"]
kinds = pytest.mark.parametrize("kind", [pytest.param(kind, marks=needs[kind]) for kind in SIEVES])


def network(widths: tuple[int, ...] = (160, 128, 96, 64, 32, 1)) -> ElemNet:
    torch.manual_seed(5)
    return ElemNet(widths=widths).eval().requires_grad_(False)


def rows(n: int) -> torch.Tensor:
    x = torch.rand(n, 86, generator=torch.Generator().manual_seed(1)) ** 40
    return x / x.sum(dim=1, keepdim=True)


@kinds
def test_a_row_has_one_value_wherever_it_stands(kind: str) -> None:
    function = sieve_function(network(), 0.1, 2.0, BATCH, kind)
    x = rows(BATCH)
    with torch.inference_mode():
        expected = function(x)
        others = rows(3 * BATCH)[-BATCH:].clone()
        others[5] = x[40]
        assert torch.equal(function(x.roll(9, 0)), expected.roll(9, 0))
        assert function(others)[5] == expected[40]


@kinds
@pytest.mark.parametrize("widths", [(160, 128, 96, 64, 32, 1), (40, 20, 1), (200, 1), (128, 128, 128, 1)])
def test_near_fp32_whatever_the_shape(kind: str, widths: tuple[int, ...]) -> None:
    net = network(widths)
    function = sieve_function(net, -0.4, 1.5, BATCH, kind)
    x = rows(BATCH)
    with torch.inference_mode():
        exact = net(x).reshape(-1) * 1.5 - 0.4
        deviation = (function(x) - exact).abs().max()
    # a few steps of a hundred or so in each of up to five layers
    assert deviation < 0.05 * exact.abs().max()


@needs_vnni
def test_units_of_very_different_size_are_made_equal() -> None:
    """One unit a thousand times the others, its weights a thousandth: the network is the same, one step size is not."""
    net = network()
    plain = sieve_function(net, 0.0, 1.0, BATCH, "int8")
    x = rows(BATCH)
    with torch.inference_mode():
        exact, before = net(x).reshape(-1), plain(x)
        net.dense_layers[1].weight[3] *= 1000.0
        net.dense_layers[1].bias[3] *= 1000.0
        net.dense_layers[2].weight[:, 3] /= 1000.0
        after = sieve_function(net, 0.0, 1.0, BATCH, "int8")(x)
    assert (after - exact).abs().max() < 2 * (before - exact).abs().max()


def test_what_the_sieve_folds_away_is_exact() -> None:
    """Without silent units and with equal ranges, in float64: the same function on the rows that it was made from."""
    net = network()
    with torch.inference_mode():
        net.dense_layers[1].weight[1:31] = 0.0
        net.dense_layers[1].bias[1:31] = -1.0  # silent on every row
    chain = dense_chain(net, 0.2, 1.3)
    folded, ranges = _equalised(*_without_silent_units(chain, largest_activations(chain)))
    assert len(folded[1].weight) <= 128 - 30
    assert folded[2].weight.shape[1] == len(folded[1].weight) == len(ranges[1])
    value = rows(20).double()
    for layer in folded:
        value = torch.nn.functional.linear(value, layer.weight.double(), layer.bias.double())
        value = value.relu() if layer.relu else value
    with torch.inference_mode():
        exact = precise_function(net, 0.2, 1.3)(rows(20).double())
    assert torch.allclose(value.reshape(-1), exact, atol=1e-6)


@needs_vnni
def test_an_ensemble_sieves_with_all_its_members() -> None:
    members = [{k: v.numpy() for k, v in network().state_dict().items()} for _ in range(2)]
    members[1] = {k: v * np.float32(1.1) for k, v in members[1].items()}
    widths = [160, 128, 96, 64, 32, 1]
    predictor = Predictor(
        {"name": "elemnet", "parameters": {"widths": widths}}, {"mean": [0.0], "std": [1.0]}, members, batch_size=BATCH
    )
    x = rows(100).numpy()
    mean, _ = predictor.predict(x)
    assert np.abs(predictor.sieve(x, "int8") - mean).max() < 0.05 * np.abs(mean).max()


@pytest.mark.parametrize("kind", SIEVES)
def test_a_processor_without_the_instructions_is_one_clear_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.sieve.can_sieve", lambda kind: False)
    with pytest.raises(InputError, match=f"no instructions for the sieve {kind}: screen with precision fp32"):
        sieve_function(network(), 0.0, 1.0, BATCH, kind)


def test_the_best_sieve_is_one_that_runs() -> None:
    kind = best_sieve()
    assert kind is None or can_sieve(kind)
