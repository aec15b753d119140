"""ElemNet: the published architecture, its options and its construction by name."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from models.element_table import element_table
from models.elements import ELEMENT_INDEX
from models.elemnet import ELEMNET_DROPOUT_KEEP, ELEMNET_WIDTHS, OWN_SHARE, ElemNet
from models.errors import InputError
from models.registry import ARCHITECTURES, build


def test_published_layers_have_the_published_number_of_weights() -> None:
    network = ElemNet()
    shapes = [(layer.in_features, layer.out_features) for layer in network.dense_layers]
    assert len(shapes) == 17
    assert shapes[0] == (86, 1024)
    assert shapes[-1] == (32, 1)
    assert [out for _, out in shapes] == [1024] * 4 + [512] * 3 + [256] * 3 + [128] * 3 + [64] * 2 + [32, 1]
    assert network.n_weights == 4_624_416
    biases = sum(ELEMNET_WIDTHS)
    assert biases == 6_945
    assert sum(p.numel() for p in network.parameters()) == 4_624_416 + biases


def test_dropout_is_off_by_default_and_stands_after_layers_4_7_10_13() -> None:
    assert not any(isinstance(m, nn.Dropout) for m in ElemNet(widths=(4, 4, 1)).modules())
    network = ElemNet(dropout=ELEMNET_DROPOUT_KEEP)
    rates = {name: drop.p for name, drop in network.drops.items() if isinstance(drop, nn.Dropout)}
    assert rates == pytest.approx({"4": 0.2, "7": 0.1, "10": 0.3, "13": 0.2})


def test_dropout_acts_in_training_only() -> None:
    torch.manual_seed(0)
    network = ElemNet(3, (64, 64, 1), dropout=(0.5,), dropout_after=(2,))
    x = torch.rand(5, 3)
    assert not torch.equal(network(x), network(x))
    network.eval()
    assert torch.equal(network(x), network(x))


def test_forward_by_hand() -> None:
    network = ElemNet(2, (2, 1), input_scale=2.0)
    first, second = network.dense_layers
    with torch.no_grad():
        first.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, -1.0]]))
        first.bias.copy_(torch.tensor([0.5, 0.25]))
        second.weight.copy_(torch.tensor([[3.0, 7.0]]))
        second.bias.copy_(torch.tensor([-1.0]))
    # relu(2*0.25 + 0.5) = 1, relu(-2*0.75 + 0.25) = 0 -> 3*1 + 7*0 - 1
    assert network(torch.tensor([[0.25, 0.75]])).tolist() == [[2.0]]


def test_initialisation_follows_the_seed_and_keeps_the_variance() -> None:
    torch.manual_seed(3)
    first = ElemNet()
    torch.manual_seed(3)
    second = ElemNet()
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), second.parameters(), strict=True))
    x = torch.zeros(512, 86)
    for row in range(512):
        x[row, torch.randperm(86)[:3]] = 1 / 3
    with torch.no_grad():
        hidden = x * first.input_scale
        for layer in first.dense_layers[:-1]:
            hidden = layer(hidden).relu()
    assert 0.1 < float(hidden.square().mean()) < 20.0


def test_mixed_precision_keeps_the_last_layers_in_fp32() -> None:
    network = ElemNet(3, (128, 64, 1))
    with torch.autocast("cpu", torch.bfloat16):
        output = network(torch.rand(4, 3))
    assert output.dtype == torch.float32


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": ()}, "positive widths"),
        ({"widths": (4, 0)}, "positive widths"),
        ({"n_features": 0}, "at least one input"),
        ({"input_scale": 0.0}, "input_scale"),
        ({"dropout": (0.5,)}, "4 positions"),
        ({"dropout": (0.0, 0.5, 0.5, 0.5)}, "share of inputs kept"),
        ({"widths": (4, 1), "dropout": (0.5,), "dropout_after": (2,)}, "layers 1 to 1"),
    ],
)
def test_impossible_architectures_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ElemNet(**arguments)  # type: ignore[arg-type]


def test_registry_builds_by_name() -> None:
    network = build({"name": "elemnet", "parameters": {"n_features": 3, "widths": [4, 1]}})
    assert isinstance(network, ElemNet)
    assert network.n_weights == 16
    assert isinstance(build({"name": "elemnet"}), ElemNet)


def test_registry_names_what_it_knows() -> None:
    with pytest.raises(InputError, match="cgcnn, elemnet"):
        build({"name": "transformer"})
    with pytest.raises(InputError, match="depth"):
        build({"name": "elemnet", "parameters": {"depth": 3}})


def test_registry_refuses_what_is_no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(ARCHITECTURES, "dictionary", "builtins:dict")
    with pytest.raises(TypeError, match="Module"):
        build({"name": "dictionary"})


def test_a_periodic_first_layer_starts_alike_where_elements_are_alike() -> None:
    torch.manual_seed(0)
    network = ElemNet(86, (4096, 1), first_layer="periodic")
    before = network.dense_layers[0].weight.clone()
    network.fit_inputs(torch.zeros(1, 86))
    weight = network.dense_layers[0].weight.detach()
    assert not torch.equal(weight, before)
    assert float(weight.std()) == pytest.approx((2.0 / 86) ** 0.5, rel=0.02)  # He's variance
    table = torch.from_numpy(element_table())
    table = table / table.norm(dim=1, keepdim=True)
    expected = (1.0 - OWN_SHARE) * (table @ table.T)
    expected.fill_diagonal_(1.0)
    assert (torch.corrcoef(weight.T) - expected).abs().max() < 0.1
    alike, unlike = (ELEMENT_INDEX[symbol] for symbol in ("K", "F"))
    found = torch.corrcoef(weight.T)[ELEMENT_INDEX["Na"]]
    assert found[alike] > 0.5 > 0.0 > found[unlike]


def test_a_random_first_layer_stays_as_it_was_drawn() -> None:
    torch.manual_seed(0)
    network = ElemNet(86, (8, 1))
    before, state = network.dense_layers[0].weight.clone(), torch.get_rng_state()
    network.fit_inputs(torch.ones(3, 86))
    assert torch.equal(network.dense_layers[0].weight, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_first_layers_of_no_use_are_refused() -> None:
    for arguments in ({"first_layer": "warm"}, {"first_layer": "periodic", "n_features": 5}):
        with pytest.raises(InputError, match="first_layer is random or periodic, the latter with 86"):
            ElemNet(**arguments)
