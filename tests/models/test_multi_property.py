"""MultiPropertyNet: one trunk of any architecture, one head per property."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from models.elemnet import ElemNet
from models.errors import InputError
from models.multi_property import ELEMNET_TRUNK, MultiPropertyNet
from models.registry import build
from models.residual import ResidualNet

SMALL: dict[str, Any] = {"name": "elemnet", "parameters": {"widths": [8, 6]}}
RESIDUAL: dict[str, Any] = {"name": "residual", "parameters": {"widths": [8, 8], "n_outputs": 6}}


def test_elemnet_trunk_and_heads_have_the_widths_asked_for() -> None:
    network = MultiPropertyNet(86, ELEMNET_TRUNK, 3)
    assert isinstance(network.trunk, ElemNet)
    assert [layer.out_features for layer in network.trunk.dense_layers] == [1024] * 4 + [512] * 3 + [256] * 3 + [
        128
    ] * 3
    for head in network.heads:
        shapes = [(m.in_features, m.out_features) for m in head.modules() if isinstance(m, nn.Linear)]
        assert shapes == [(128, 64), (64, 32), (32, 1)]
    # ElemNet without its last four layers 128-64-64-32-1, and 128-64-32-1 three times
    assert network.n_weights == 4_624_416 - (8192 + 4096 + 2048 + 32) + 3 * (8192 + 2048 + 32)


def test_forward_by_hand() -> None:
    trunk = {"name": "elemnet", "parameters": {"widths": [2], "input_scale": 1.0}}
    network = MultiPropertyNet(1, trunk, 2, head_widths=(1,))
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.trunk.dense_layers[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        for head, weight in zip(network.heads, ([[2.0, 5.0]], [[-1.0, 5.0]]), strict=True):
            head[0].weight.copy_(torch.tensor(weight))
            head[2].weight.fill_(10.0)
            head[2].bias.fill_(0.5)
    # x = 3: the trunk gives relu(3), relu(-3) = 3, 0; heads relu(6) = 6 and relu(-3) = 0
    # x = -1: 0, 1; both heads relu(5) = 5
    assert network(torch.tensor([[3.0], [-1.0]])).tolist() == [[60.5, 0.5], [50.5, 50.5]]


@pytest.mark.parametrize("trunk", [SMALL, RESIDUAL])
def test_columns_follow_the_heads(trunk: dict[str, Any]) -> None:
    torch.manual_seed(0)
    network = MultiPropertyNet(4, trunk, 3).eval()
    x = torch.rand(5, 4)
    output = network(x)
    assert output.shape == (5, 3)
    shared = network.trunk(x).relu()
    for column, head in enumerate(network.heads):
        torch.testing.assert_close(output[:, column : column + 1], head(shared))


def test_a_property_without_labels_moves_nothing_of_its_head() -> None:
    torch.manual_seed(0)
    network = MultiPropertyNet(4, SMALL, 2)
    network(torch.rand(16, 4))[:, 1].square().mean().backward()
    assert all(p.grad is None or not p.grad.any() for p in network.heads[0].parameters())
    assert all(p.grad is not None for p in network.heads[1].parameters())
    assert any(p.grad is not None and bool(p.grad.any()) for p in network.trunk.parameters())


def test_scales_of_the_inputs_are_the_trunks() -> None:
    rows = torch.tensor([[100.0, 5.0], [300.0, 5.0]])
    network = MultiPropertyNet(2, RESIDUAL, 2)
    network.fit_inputs(rows)
    assert isinstance(network.trunk, ResidualNet)
    assert network.trunk.input_mean.tolist() == [200.0, 5.0]
    assert "trunk.input_scale" in network.state_dict()
    fractions = MultiPropertyNet(2, SMALL, 2)
    before = {name: value.clone() for name, value in fractions.state_dict().items()}
    fractions.fit_inputs(rows)  # element fractions are taken as they are
    assert all(torch.equal(before[name], value) for name, value in fractions.state_dict().items())


def test_asking_for_the_width_leaves_no_trace() -> None:
    network = MultiPropertyNet(4, RESIDUAL, 2)
    assert all(module.training for module in network.modules())
    assert int(network.state_dict()["trunk.stacks.0.layers.1.num_batches_tracked"]) == 0


def test_no_hidden_units_make_linear_heads() -> None:
    network = MultiPropertyNet(4, SMALL, 2, head_widths=())
    assert [[type(m) for m in head] for head in network.heads] == [[nn.Linear]] * 2
    assert network(torch.rand(3, 4)).shape == (3, 2)


def test_mixed_precision_keeps_the_heads_in_fp32() -> None:
    network = MultiPropertyNet(4, {"name": "elemnet", "parameters": {"widths": [128, 128]}}, 2)
    with torch.autocast("cpu", torch.bfloat16):
        assert network(torch.rand(3, 4)).dtype == torch.float32


def test_registry_builds_it_and_initialisation_follows_the_seed() -> None:
    architecture = {"name": "multi_property", "parameters": {"n_features": 4, "trunk": RESIDUAL, "n_properties": 2}}
    networks = []
    for _ in range(2):
        torch.manual_seed(5)
        networks.append(build(architecture))
    assert isinstance(networks[0], MultiPropertyNet)
    assert all(torch.equal(a, b) for a, b in zip(*(n.parameters() for n in networks), strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((4, {"name": "unknown"}, 2), "Unknown network 'unknown'"),
        ((4, {"parameters": {}}, 2), "Unknown network None"),
        ((4, {"name": "elemnet", "parameters": {"width": 3}}, 2), "cannot be built"),
        (
            (4, {"name": "elemnet", "parameters": {"n_features": 5, "widths": [8]}}, 2),
            "takes 5 inputs",
        ),
        ((4, {"name": "elemnet"}, 2), r"gives \(1, 1\) for one row: leave out its last layers"),
        ((4, {"name": "residual"}, 2), "set n_outputs"),
        ((0, SMALL, 2), "needs inputs"),
        ((4, SMALL, 0), "and properties"),
        ((4, SMALL, 2, (8, 0)), "head_widths"),
    ],
)
def test_impossible_networks_are_refused(arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        MultiPropertyNet(*arguments)
