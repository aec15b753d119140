"""Transfer: which weights are taken over, which layers are frozen or slowed, which elements are new."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from models.composition_attention import CompositionAttention
from models.elemnet import ElemNet
from models.errors import InputError
from models.multi_property import MultiPropertyNet
from models.residual import ResidualNet
from models.training_state import load_arrays, to_array
from models.transfer import TransferReport, compare_elements, initial_weights, layer_groups, rate_factors

TRUNK = {"name": "elemnet", "parameters": {"widths": [8, 4]}}


def elemnet(n_outputs: int = 1, hidden: tuple[int, ...] = (8, 4), seed: int = 0) -> ElemNet:
    torch.manual_seed(seed)
    return ElemNet(5, (*hidden, n_outputs))


def heads(n_properties: int, seed: int = 0) -> MultiPropertyNet:
    torch.manual_seed(seed)
    return MultiPropertyNet(5, TRUNK, n_properties, (4,))


def weights(network: nn.Module) -> dict[str, NDArray[Any]]:
    return {name: to_array(tensor) for name, tensor in network.state_dict().items()}


def assert_from(found: dict[str, NDArray[Any]], source: dict[str, NDArray[Any]], names: Any) -> None:
    for name in names:
        assert np.array_equal(found[name], source[name]), name


# --- elements


def test_elements_by_hand() -> None:
    elements = ("Li", "O", "F", "Xe")
    fractions = np.array([[0.5, 0.5, 0, 0], [0.5, 0, 0.5, 0], [0, 0.3, 0.7, 0], [1, 0, 0, 0]])
    report = compare_elements({"Li": 3, "O": 7, "Xe": 1, "F": 0}, fractions, elements)
    assert report == TransferReport(("Li", "O"), ("Xe",), ("F",), 2)
    assert report.to_dict() == {"shared": ["Li", "O"], "only_source": ["Xe"], "only_target": ["F"],
                                "target_rows_with_new": 2}  # fmt: skip


def test_a_source_that_says_nothing_shares_nothing() -> None:
    report = compare_elements({}, np.eye(2), ("Li", "O"))
    assert (report.shared, report.only_target, report.target_rows_with_new) == ((), ("Li", "O"), 2)


# --- groups


def test_groups_of_elemnet_are_its_layers() -> None:
    assert layer_groups(elemnet()) == [[f"layers.{k}.weight", f"layers.{k}.bias"] for k in range(3)]


def test_groups_of_the_other_networks() -> None:
    def first(network: nn.Module) -> list[str]:
        return [group[0] for group in layer_groups(network)]

    residual = ResidualNet(5, widths=(8, 8))
    assert first(residual) == ["stacks.0.layers.0.weight", "stacks.1.layers.0.weight", "output.weight"]
    # heads lie side by side: none of them is nearer to the output
    assert first(heads(3)) == ["trunk.layers.0.weight", "heads.0.0.weight"]
    attention = layer_groups(CompositionAttention(width=8, n_layers=2, n_heads=2, head_width=8))
    assert {name.split(".")[0] for name in attention[0]} == set(CompositionAttention.input_parts)
    assert len(attention) == 1 + 2 + 1 + 2 + 1  # inputs, layers, norm, hidden layers, output
    assert attention[-1] == ["output.weight", "output.bias"]
    for network in (residual, heads(2), elemnet()):
        names = [name for group in layer_groups(network) for name in group]
        assert names == [name for name, _ in network.named_parameters()]


def test_rates_fall_towards_the_input() -> None:
    assert rate_factors(elemnet(), 1, 0.5) == {
        "layers.0.weight": 0.0, "layers.0.bias": 0.0,
        "layers.1.weight": 0.5, "layers.1.bias": 0.5,
        "layers.2.weight": 1.0, "layers.2.bias": 1.0,
    }  # fmt: skip
    assert set(rate_factors(elemnet(), 0, 1.0).values()) == {1.0}
    assert rate_factors(elemnet(), 0, 0.1)["layers.0.bias"] == pytest.approx(0.01)
    three = rate_factors(heads(3), 0, 0.5)
    assert {three[f"heads.{k}.2.bias"] for k in range(3)} == {1.0}


def test_something_is_left_to_train() -> None:
    assert rate_factors(elemnet(), 2, 1.0)["layers.2.weight"] == 1.0
    with pytest.raises(InputError, match="3 groups of layers and 3 are frozen"):
        rate_factors(elemnet(), 3, 1.0)


# --- weights


def test_the_same_network_takes_everything() -> None:
    source = weights(elemnet(seed=1))
    found, missing = initial_weights(elemnet(), source, "m")
    assert missing == []
    assert list(found) == list(source)
    assert_from(found, source, source)


def test_another_number_of_outputs_keeps_its_own_last_layer() -> None:
    network, source = elemnet(2), weights(elemnet(1, seed=1))
    found, missing = initial_weights(network, source, "m")
    assert missing == ["layers.2.bias", "layers.2.weight"]
    assert_from(found, source, [f"layers.{k}.{what}" for k in (0, 1) for what in ("weight", "bias")])
    assert_from(found, weights(network), missing)
    load_arrays(network, found, "model")  # nothing is missing and everything fits


def test_buffers_travel_too() -> None:
    network = ResidualNet(5, widths=(8, 8))
    network.fit_inputs(torch.arange(10.0).reshape(2, 5))
    found, missing = initial_weights(ResidualNet(5, widths=(8, 8), n_outputs=3), weights(network), "m")
    assert missing == ["output.bias", "output.weight"]
    assert found["input_mean"].tolist() == [2.5, 3.5, 4.5, 5.5, 6.5]
    assert "stacks.0.layers.1.running_var" in found


@pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1)])
def test_heads_come_and_go(before: int, after: int) -> None:
    network, source = heads(after), weights(heads(before, seed=1))
    found, missing = initial_weights(network, source, "m")
    assert set(found) == set(network.state_dict())
    taken = [name for name in found if name.startswith(("trunk.", "heads.0."))]
    assert set(missing) == set(found) - set(taken)
    assert_from(found, source, taken)
    assert_from(found, weights(network), missing)


@pytest.mark.parametrize(
    ("network", "wrong"),
    [
        (elemnet(hidden=(6, 4)), r"layers\.0\.bias"),  # another width
        (elemnet(hidden=(8,)), r"layers\.\d"),  # fewer layers
        (elemnet(hidden=(8, 4, 4)), r"layers\.\d"),  # more of them
        (ResidualNet(5, widths=(8, 4)), r"input_mean|layers\.0"),
    ],
)
def test_other_architectures_are_refused(network: nn.Module, wrong: str) -> None:
    with pytest.raises(InputError, match=rf"model abc is of another architecture \(({wrong})"):
        initial_weights(network, weights(elemnet()), "abc")
