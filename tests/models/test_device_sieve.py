"""The fp16 sieve: near fp32, and never wrong without saying so."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from models.cascade import Band, decide, measure_band
from models.device_predictor import DevicePredictor
from models.device_sieve import NEVER, SAFE, _halves, half_function
from models.elemnet import ElemNet
from models.errors import InputError
from models.inference import dense_chain
from models.predictor import Predictor
from models.screening import composition_fractions
from models.sieve import largest_activations
from models.space import CompositionSpace

CPU = torch.device("cpu")
BATCH = 64
WIDTHS = (160, 128, 96, 64, 32, 1)


def network(widths: tuple[int, ...] = WIDTHS) -> ElemNet:
    torch.manual_seed(5)
    return ElemNet(widths=widths).eval().requires_grad_(False)


def rows(n: int = BATCH) -> torch.Tensor:
    x = torch.rand(n, 86, generator=torch.Generator().manual_seed(1)) ** 40
    return x / x.sum(dim=1, keepdim=True)


@torch.inference_mode()
def values(net: ElemNet, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    return half_function(net, -0.4, 1.5, len(x), CPU)(x), net(x).reshape(-1) * 1.5 - 0.4


@pytest.mark.parametrize("widths", [WIDTHS, (40, 20, 1), (200, 1), (1,), (128, 128, 128, 1)])
def test_near_fp32_whatever_the_shape(widths: tuple[int, ...]) -> None:
    got, exact = values(network(widths), rows())
    assert got.dtype == torch.float32
    assert (got - exact).abs().max() < 4e-3 * exact.abs().max()


def test_a_composition_is_not_rounded_to_another_one() -> None:
    """One third and its neighbour are one number in fp16; a network that looks at the difference still sees it."""
    x = torch.zeros(2, 86)
    x[0, :2] = torch.tensor([1 / 3, 2 / 3])
    x[1, :2] = torch.tensor([1 / 3 + 3e-5, 2 / 3 - 3e-5])
    assert torch.equal(x[0].half(), x[1].half())
    net = network((96, 1))
    net.dense_layers[0].weight[:] = 0.0
    net.dense_layers[0].weight[:, 0] = 2.0
    net.dense_layers[0].weight[:, 1] = -1.0
    got, exact = values(net, x)
    assert abs(exact[1] - exact[0]) > 1e-5
    assert float(got[1] - got[0]) == pytest.approx(float(exact[1] - exact[0]), rel=0.05)


@pytest.mark.parametrize("factor", [1e3, 1e5, 1e8])
def test_sizes_beyond_the_halves_are_scaled(factor: float) -> None:
    """A network of huge activations is the same network: one factor on its values brings them into range."""
    net = network()
    net.dense_layers[0].weight *= factor
    for layer in net.dense_layers[:-1]:
        layer.bias *= factor
    net.dense_layers[-1].weight /= factor
    got, exact = values(net, rows())
    assert (got - exact).abs().max() < 4e-3 * exact.abs().max()


def test_an_overflow_is_not_a_number_and_never_a_wrong_one() -> None:
    """One element alone drives a unit beyond fp16, and the next layer subtracts it: infinity, then zero, then a value.

    The unit is silent on other compositions, so nothing warns of it beforehand.
    """
    net = network((128, 128, 128, 1))
    x = rows()
    x[7] = 0.0
    x[7, 40] = 1.0
    first, second, third = net.dense_layers[:3]
    first.weight[3] = 0.0
    first.weight[3, 40] = 5e6 / net.input_scale
    first.bias[3] = -4.85e6  # silent below 97 % of the element
    second.weight[5, 3], second.weight[6, 3] = 1000.0, 30.0
    third.weight[:, 5], third.weight[:, 6] = -0.01, 0.5
    chain = dense_chain(net, -0.4, 1.5)
    # a sample may hold the element alone or not: here it does not
    quiet = [largest.clamp(max=20.0) for largest in largest_activations(chain)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.device_sieve.largest_activations", lambda _: quiet)
        got, exact = values(net, x)
        patch.setattr("models.device_sieve.SAFE", 1e300)  # no row is looked at
        blind, _ = values(net, x)
    assert torch.isfinite(blind[7])
    assert (blind[7] - exact[7]).abs() > 0.1
    assert torch.isnan(got[7])
    others = torch.arange(BATCH) != 7
    assert torch.isfinite(got[others]).all()
    assert (got - exact)[others].abs().max() < 4e-3 * exact[others].abs().max()


def test_weights_beyond_the_halves_send_every_row_back() -> None:
    net = network((128, 128, 1))
    net.dense_layers[1].weight[0, 0] = 1e6
    chain = dense_chain(net, 0.0, 1.0)
    _, layers = _halves(chain[:2], largest_activations(chain)[:2])
    assert layers[1].limit == NEVER
    assert torch.isnan(values(net, rows())[0]).all()


def test_no_value_can_pass_the_bound_that_the_layers_keep() -> None:
    """The worst that rows within the limits can do to the next layer stays below half of what fp16 holds."""
    chain = dense_chain(network((96,) * 8 + (1,)), 0.0, 1.0)
    _, layers = _halves(chain[:8], largest_activations(chain)[:8])
    assert layers[0].limit is None
    assert 1 <= sum(layer.limit is not None for layer in layers) <= 4
    first = layers[0]
    worst = (first.weight.double().amax(dim=1) + first.bias.double()).clamp(min=0.0)
    for layer in layers[1:]:
        worst = worst if layer.limit is None else worst.clamp(max=layer.limit)
        # every unit at its own largest value, those that take away at zero
        worst = (layer.weight.double().clamp(min=0.0) @ worst + layer.bias.double()).clamp(min=0.0)
        assert worst.max() <= SAFE


def test_the_cascade_keeps_rows_that_the_sieve_leaves_open() -> None:
    class Open(DevicePredictor):
        def sieve(self, fractions, kind):  # type: ignore[no-untyped-def]
            found = super().sieve(fractions, kind)
            found[::3] = np.nan
            return found

    net = network()
    member = {name: tensor.numpy() for name, tensor in net.state_dict().items()}
    architecture = {"name": "elemnet", "parameters": {"widths": list(WIDTHS)}}
    host = Predictor(architecture, {"mean": [-0.5], "std": [0.9]}, [member], batch_size=32, engine="eager")
    predictor = Open(host, "cpu", sieve_rows=32)
    space = CompositionSpace(("Li", "O", "Fe", "F"), (2, 3), 6)
    compositions = space.unrank(np.arange(len(space)))
    fractions = composition_fractions(compositions.elements, compositions.counts).astype(np.float32)
    energies, _ = predictor.predict(fractions)
    threshold = float(np.quantile(energies, 0.4))
    band = measure_band(predictor, space, composition_fractions, "fp16", chunk=100)
    assert np.isfinite([band.width, band.largest, band.mean]).all()
    plain = decide(predictor, fractions, np.zeros(len(space)), threshold)
    fast = decide(predictor, fractions, np.zeros(len(space)), threshold, band)
    assert np.isin(np.flatnonzero(energies <= threshold - 1e-4), fast.rows).all()
    assert plain.rows.tolist() == fast.rows.tolist()
    assert plain.prediction.tobytes() == fast.prediction.tobytes()
    nothing = decide(predictor, fractions, np.zeros(len(space)), -99.0, Band("fp16", 0.0, 1, 0.0, 0.0))
    assert nothing.n_again == len(range(0, len(space), 3))
    assert len(nothing.rows) == 0


def test_other_networks_have_no_halves() -> None:
    with pytest.raises(InputError, match="screen with precision fp32"):
        half_function(torch.nn.Linear(86, 1), 0.0, 1.0, 8, CPU)
