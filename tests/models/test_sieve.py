"""The sieves: near fp32 on a network with awkward units, the same value for a row wherever it stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.elemnet import ElemNet
from models.errors import InputError
from models.inference import dense_chain, precise_function
from models.predictor import Predictor
from models.sieve import (
    SIEVES,
    _add_up,
    _equalised,
    _is_exact,
    _largest_pair,
    _library_is_exact,
    _padded,
    _quantised,
    _without_silent_units,
    best_sieve,
    can_sieve,
    largest_activations,
    second_sieve,
    sieve_function,
    units_multiple,
)

BATCH = 64

needs = {
    kind: pytest.mark.skipif(not can_sieve(kind), reason=f"this processor has no instructions for {kind}")
    for kind in SIEVES
}
byte_kinds = pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=needs[kind]) for kind in SIEVES if kind.startswith("int8")]
)
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


@byte_kinds
def test_units_of_very_different_size_are_made_equal(kind: str) -> None:
    """One unit a thousand times the others, its weights a thousandth: the network is the same, one step size is not."""
    net = network()
    plain = sieve_function(net, 0.0, 1.0, BATCH, kind)
    x = rows(BATCH)
    with torch.inference_mode():
        exact, before = net(x).reshape(-1), plain(x)
        net.dense_layers[1].weight[3] *= 1000.0
        net.dense_layers[1].bias[3] *= 1000.0
        net.dense_layers[2].weight[:, 3] /= 1000.0
        after = sieve_function(net, 0.0, 1.0, BATCH, kind)(x)
    # the mean: which of 64 rows is furthest off is a matter of roundings
    assert (after - exact).abs().mean() < 2 * (before - exact).abs().mean()


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


@byte_kinds
def test_an_ensemble_sieves_with_all_its_members(kind: str) -> None:
    members = [{k: v.numpy() for k, v in network().state_dict().items()} for _ in range(2)]
    members[1] = {k: v * np.float32(1.1) for k, v in members[1].items()}
    widths = [160, 128, 96, 64, 32, 1]
    predictor = Predictor(
        {"name": "elemnet", "parameters": {"widths": widths}}, {"mean": [0.0], "std": [1.0]}, members, batch_size=BATCH
    )
    x = rows(100).numpy()
    mean, _ = predictor.predict(x)
    assert np.abs(predictor.sieve(x, kind) - mean).max() < 0.05 * np.abs(mean).max()


@pytest.mark.parametrize("kind", SIEVES)
def test_a_processor_without_the_instructions_is_one_clear_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.sieve.can_sieve", lambda kind: False)
    with pytest.raises(InputError, match=f"no instructions for the sieve {kind}: screen with precision fp32"):
        sieve_function(network(), 0.0, 1.0, BATCH, kind)


def test_the_best_sieve_is_one_that_runs() -> None:
    kind = best_sieve()
    assert kind is None or can_sieve(kind)


@pytest.mark.parametrize(
    ("vnni", "bf16", "avx2", "kind"),
    [
        (True, True, True, "int8"),
        (False, True, True, "bf16"),
        (False, False, True, "int8-avx2"),
        (False,) * 3 + (None,),
    ],
)
def test_the_best_sieve_of_a_processor(
    monkeypatch: pytest.MonkeyPatch, vnni: bool, bf16: bool, avx2: bool, kind: str | None
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    monkeypatch.setattr("torch.cpu._is_vnni_supported", lambda: vnni)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: bf16)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: False)
    monkeypatch.setattr("torch.cpu._is_avx2_supported", lambda: avx2)
    monkeypatch.setattr("models.sieve._library_is_exact", lambda: True)
    assert best_sieve() == kind
    assert can_sieve("int8-avx2") is avx2


def test_the_largest_pair_is_of_neighbours_that_pull_the_same_way() -> None:
    weight = torch.tensor([[3.0, 4.0, -9.0, 1.0], [-2.0, -5.0, 6.0, -6.0], [0.0, 0.0, 0.0, 0.0]])
    assert _largest_pair(weight).tolist() == [9.0, 7.0, 0.0]


@given(st.lists(st.floats(-100, 100, width=32), min_size=2, max_size=64).filter(lambda row: len(row) % 2 == 0))
def test_no_two_products_of_bytes_overflow_16_bits(row: list[float]) -> None:
    """Every pair of weights, rounded, times the highest bytes stays below 2**15, whatever the weights."""
    quantised = _quantised(torch.tensor([row], dtype=torch.float64), in_pairs=True)[0].int().reshape(-1, 2)
    assert int(quantised.abs().max()) <= 127
    for sign in (1, -1):
        assert int((quantised * sign).clamp(min=0).sum(dim=1).max()) * 255 < 2**15


def is_exact(weights: torch.Tensor, of_library: torch.Tensor | None = None) -> bool:
    of_library = weights if of_library is None else of_library
    prepacked = torch.ops.onednn.qlinear_prepack(of_library, [BATCH, of_library.shape[1]])
    return _is_exact(weights, prepacked, BATCH)


@needs["int8-avx2"]
@pytest.mark.parametrize("value", [64, -64])
def test_one_weight_of_another_value_is_seen_in_either_sign_and_past_a_batch(value: int) -> None:
    safe = torch.full((BATCH + 32, 32), value, dtype=torch.int8)
    assert is_exact(safe)
    for row in (0, BATCH - 1, BATCH, BATCH + 31):
        other = safe.clone()
        other[row, 7] = value // 2
        assert not is_exact(safe, other)


@needs["int8-avx2"]
@pytest.mark.skipif(can_sieve("int8"), reason="this processor sums in 32 bits: nothing overflows")
@pytest.mark.parametrize("value", [127, -127])
def test_products_that_do_overflow_are_seen(value: int) -> None:
    assert not is_exact(torch.full((32, 32), value, dtype=torch.int8))


@needs["int8-avx2"]
def test_sums_beyond_the_integers_of_fp32_are_no_overflow() -> None:
    assert is_exact(torch.arange(2048, dtype=torch.int32).remainder(15).add(50).to(torch.int8).repeat(32, 1))


@needs["int8-avx2"]
def test_a_library_whose_products_overflow_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.sieve._is_exact", lambda *arguments: False)
    with pytest.raises(InputError, match="overflow in this machine's library: screen with precision fp32"):
        sieve_function(network(), 0.0, 1.0, BATCH, "int8-avx2")


def test_a_library_without_products_of_bytes_sieves_in_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*arguments: object) -> bool:
        raise AttributeError("no such operator")

    monkeypatch.setattr("models.sieve._is_exact", missing)
    _library_is_exact.cache_clear()
    assert not _library_is_exact()
    _library_is_exact.cache_clear()


@pytest.mark.parametrize("n_elements", [1, 2, 3, 4, 5, 9])
def test_bytes_of_the_first_layer_are_those_of_a_product(n_elements: int) -> None:
    """Whatever the number of elements: four rows of weights are added at a time, and what is left one by one."""
    random = np.random.default_rng(n_elements)
    x = np.zeros((40, 86), dtype=np.float32)
    for row in x:
        row[random.choice(86, n_elements, replace=False)] = random.dirichlet(np.ones(n_elements))
    weight, bias = random.normal(0, 300, (86, 33)).astype(np.float32), random.normal(50, 9, 33).astype(np.float32)
    output = np.full((40, 33), 7, dtype=np.uint8)
    _add_up(x, weight, bias, output)
    exact = (x.astype(np.float64) @ weight + bias).clip(0.0, 255.0)
    assert np.abs(output - np.floor(exact)).max() <= 1
    assert (output != np.floor(exact)).mean() < 0.01  # fp32 falls on the other side of an integer now and then


@pytest.mark.parametrize(
    ("amx", "kind", "second"), [(True, "int8", "bf16"), (True, "bf16", None), (False, "int8", None)]
)
def test_a_second_sieve_where_the_processor_multiplies_tiles(
    monkeypatch: pytest.MonkeyPatch, amx: bool, kind: str, second: str | None
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    assert second_sieve(kind) == second


@pytest.mark.parametrize(
    ("amx", "kind", "multiple"), [(True, "int8", 64), (False, "int8", 1), (False, "int8-avx2", 32)]
)
def test_units_fill_what_the_processor_multiplies_at_once(
    monkeypatch: pytest.MonkeyPatch, amx: bool, kind: str, multiple: int
) -> None:
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: amx)
    assert units_multiple(kind) == multiple


def test_padding_is_the_same_function() -> None:
    chain = dense_chain(network((50, 33, 7, 1)), 0.3, 1.2)
    padded = _padded(chain, 32)
    assert [tuple(layer.weight.shape) for layer in padded] == [(64, 86), (48, 64), (16, 48), (1, 16)]
    said = [rows(9).double(), rows(9).double()]
    for layers in zip(chain, padded, strict=True):
        said = [
            torch.nn.functional.linear(value, layer.weight.double(), layer.bias.double()).clamp(
                min=0.0 if layer.relu else None, max=None if layer.relu else torch.inf
            )
            for value, layer in zip(said, layers, strict=True)
        ]
    assert torch.allclose(said[0], said[1], rtol=1e-14, atol=0)
