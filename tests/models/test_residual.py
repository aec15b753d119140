"""ResidualNet: the published depths and skips, arithmetic by hand, and inputs on their own scale."""

from __future__ import annotations

import copy
import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from models.errors import InputError
from models.magpie import MAGPIE_NAMES
from models.registry import build
from models.residual import INPUT_LIMIT, RESIDUAL_WIDTHS, SKIPS, ResidualNet

#: Architecture strings of the authors' repository: units x layers, joined by dashes, the output last.
PUBLISHED = {
    17: "1024x4-512x3-256x3-128x3-64x2-32x1-1",
    24: "1024x4-512x4-256x4-128x4-64x3-32x2-16x2-1",
    48: "1024x4-1024x4-512x4-512x4-256x4-256x4-128x4-128x4-64x4-64x4-32x4-16x3-1",
}


def blocks_of(text: str) -> list[tuple[int, int]]:
    units_and_layers = [block.split("x") for block in text.split("-")[:-1]]
    return [(int(units), int(layers)) for units, layers in units_and_layers]


def linear_layers(module: nn.Module) -> list[nn.Linear]:
    return [child for child in module.modules() if isinstance(child, nn.Linear)]


def set_weights(layer: nn.Linear | None, weight: list[list[float]]) -> None:
    assert layer is not None
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weight))
        if layer.bias is not None:
            layer.bias.zero_()


@pytest.mark.parametrize("depth", PUBLISHED)
def test_published_widths(depth: int) -> None:
    flat = [units for units, layers in blocks_of(PUBLISHED[depth]) for _ in range(layers)]
    assert list(RESIDUAL_WIDTHS[depth]) == flat
    assert len(flat) + 1 == depth
    network = ResidualNet(depth=depth, skip="none")
    shapes = [(layer.in_features, layer.out_features) for layer in linear_layers(network)]
    assert shapes == list(itertools.pairwise([len(MAGPIE_NAMES), *flat, 1]))


@pytest.mark.parametrize("depth", PUBLISHED)
def test_stacks_are_the_published_ones(depth: int) -> None:
    network = ResidualNet(depth=depth, skip="stacked")
    sizes = [[layer.out_features for layer in linear_layers(stack.layers)] for stack in network.stacks]
    assert sizes == [[units] * layers for units, layers in blocks_of(PUBLISHED[depth])]


@pytest.mark.parametrize(
    ("depth", "plain", "projections"),
    [
        # ElemNet's 4,624,416 with 145 inputs in place of 86: 59 x 1024 more
        (17, 4_624_416 + 59 * 1024, 145 * 1024 + 1024 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 32),
        (24, 5_034_768, 145 * 1024 + 1024 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 32 + 32 * 16),
        (48, 10_628_112, 145 * 1024 + 1024 * 512 + 512 * 256 + 256 * 128 + 128 * 64 + 64 * 32 + 32 * 16),
    ],
)
def test_number_of_weights(depth: int, plain: int, projections: int) -> None:
    assert ResidualNet(depth=depth, skip="none").n_weights == plain
    assert sum(a * b for a, b in itertools.pairwise([145, *RESIDUAL_WIDTHS[depth], 1])) == plain
    # as published: stacked and individual skips need the same number of parameters
    networks = [ResidualNet(depth=depth, skip=skip) for skip in ("stacked", "individual")]
    assert [network.n_weights for network in networks] == [plain + projections] * 2
    # beside the matrices: a scale and a shift of each normalised unit, and the output's bias; nothing else
    rest = 2 * sum(RESIDUAL_WIDTHS[depth]) + 1
    assert [sum(p.numel() for p in network.parameters()) for network in networks] == [plain + projections + rest] * 2


@pytest.mark.parametrize("skip", SKIPS)
def test_every_layer_but_the_last_is_matrix_normalisation_relu(skip: str) -> None:
    network = ResidualNet(3, widths=(8, 8, 4), skip=skip)
    modules = [module for stack in network.stacks for module in stack.layers]
    assert [type(module) for module in modules] == [nn.Linear, nn.BatchNorm1d, nn.ReLU] * 3
    assert isinstance(network.output, nn.Linear)
    plain = ResidualNet(3, widths=(8, 8, 4), skip=skip, batch_norm=False)
    assert not any(isinstance(module, nn.BatchNorm1d) for module in plain.modules())


def test_individual_skips_by_hand() -> None:
    network = ResidualNet(2, widths=(1, 1), batch_norm=False).eval()
    first, second = network.stacks
    set_weights(first.layers[0], [[1.0, -1.0]])
    set_weights(first.projection, [[10.0, 0.0]])
    set_weights(second.layers[0], [[-2.0]])
    assert second.projection is None
    set_weights(network.output, [[3.0]])
    # h1 = relu(2 - 1) + 10*2 = 21; h2 = relu(-42) + 21 = 21
    # h1 = relu(-3 - 1) - 30 = -30, the sum is not cut off; h2 = relu(60) - 30 = 30
    assert network(torch.tensor([[2.0, 1.0], [-3.0, 1.0]])).tolist() == [[63.0], [90.0]]


def test_stacked_skips_by_hand() -> None:
    network = ResidualNet(1, widths=(1, 1, 1, 1, 1), skip="stacked", batch_norm=False).eval()
    first, second = network.stacks
    for layer, weight in zip(linear_layers(first), (2.0, 3.0, -1.0, 5.0), strict=True):
        set_weights(layer, [[weight]])
    set_weights(second.layers[0], [[4.0]])
    set_weights(network.output, [[1.0]])
    # one width throughout: no projection anywhere, and a fifth layer starts a new stack
    # x = 1: relu(2), relu(6), relu(-6) = 0, relu(0); h = 0 + 1; then relu(4) + 1
    assert network(torch.tensor([[1.0]])).tolist() == [[5.0]]


def test_batch_normalisation_comes_before_relu_and_inside_the_skip() -> None:
    network = ResidualNet(1, widths=(1,)).train()
    (stack,) = network.stacks
    set_weights(stack.layers[0], [[1.0]])
    set_weights(network.output, [[1.0]])
    # normalised over the batch: -1, 1 -> relu 0, 1 -> plus the inputs 4, 6 themselves
    assert network(torch.tensor([[4.0], [6.0]])).flatten().tolist() == pytest.approx([4.0, 7.0], abs=1e-4)


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("depth", PUBLISHED)
def test_outputs_neither_vanish_nor_explode_at_the_start(depth: int, skip: str) -> None:
    torch.manual_seed(0)
    widths = tuple(max(width // 8, 16) for width in RESIDUAL_WIDTHS[depth])
    for batch_norm in (True, False):
        network = ResidualNet(20, widths=widths, skip=skip, n_outputs=32, batch_norm=batch_norm).train()
        mean_square = float(network(torch.randn(256, 20)).detach().square().mean())
        assert 1e-3 < mean_square < 1e3


@pytest.mark.parametrize(("skip", "passes"), [("individual", True), ("stacked", True), ("none", False)])
def test_layers_that_add_nothing_pass_their_input_on(skip: str, passes: bool) -> None:
    """The point of learning residuals (§4.3.2): the identity is where a layer starts from, not what it has to learn."""
    torch.manual_seed(0)
    network = ResidualNet(4, widths=(4,) * 10 + (2,) * 3, skip=skip, batch_norm=False)
    for stack in network.stacks:
        for layer in linear_layers(stack.layers):
            nn.init.zeros_(layer.weight)
    x = torch.randn(5, 4)
    projections = [stack.projection for stack in network.stacks if stack.projection is not None]
    assert len(projections) == (1 if passes else 0)
    expected = network.output(projections[0](x)) if passes else network.output.bias.expand(5, 1)
    torch.testing.assert_close(network(x), expected)


def test_fit_inputs_by_hand() -> None:
    network = ResidualNet(3, widths=(4,))
    network.fit_inputs(torch.tensor([[100.0, 7.0, 0.0], [300.0, 7.0, 4.0]]))
    assert network.input_mean.tolist() == [200.0, 7.0, 2.0]
    assert network.input_scale.tolist() == [100.0, 1.0, 2.0]  # a constant column is only shifted
    x = torch.tensor([[300.0, 7.5, 1.0], [1e6, -200.0, 2.0]])
    assert network.standardised(x).tolist() == [[1.0, 0.5, -0.5], [INPUT_LIMIT, -INPUT_LIMIT, 0.0]]


def test_a_column_of_rounding_errors_is_constant() -> None:
    column = torch.tensor([1.0, 1.0 + 2.0**-23, 1.0 - 2.0**-24])
    network = ResidualNet(2, widths=(4,))
    network.fit_inputs(torch.stack([column, column * 1e-5 - 1e-5], dim=1))
    assert float(network.input_scale[0]) == 1.0
    assert float(network.input_scale[1]) < 1e-10  # differences of the column's own size are none


def test_fit_inputs_agrees_with_numpy_over_several_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("models.residual._FIT_ROWS", 7)
    x = np.random.default_rng(0).normal(3000.0, 0.5, (50, 4)).astype(np.float32)
    network = ResidualNet(4, widths=(4,))
    network.fit_inputs(torch.from_numpy(x))
    np.testing.assert_allclose(network.input_mean.numpy(), x.astype(np.float64).mean(axis=0), rtol=1e-7)
    np.testing.assert_allclose(network.input_scale.numpy(), x.astype(np.float64).std(axis=0), rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 1e4), st.floats(-1e3, 1e3)), min_size=3, max_size=3))
def test_units_of_the_inputs_do_not_matter(units: list[tuple[float, float]]) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(40, 3, generator=generator, dtype=torch.float64)
    factor, shift = (torch.tensor(column, dtype=torch.float64) for column in zip(*units, strict=True))
    torch.manual_seed(1)
    network = ResidualNet(3, widths=(8, 8)).double().eval()
    other = copy.deepcopy(network)
    network.fit_inputs(x)
    other.fit_inputs(x * factor + shift)
    torch.testing.assert_close(network(x), other(x * factor + shift), rtol=1e-6, atol=1e-6)


def test_an_attribute_that_was_constant_in_training_cannot_explode() -> None:
    torch.manual_seed(0)
    x = torch.randn(64, 3)
    x[:, 2] = 0.0
    network = ResidualNet(3, widths=(8, 8)).eval()
    network.fit_inputs(x)
    other = x[:1].clone()
    other[0, 2] = 200.0
    at_limit = x[:1].clone()
    at_limit[0, 2] = INPUT_LIMIT
    assert torch.equal(network(other), network(at_limit))


def test_statistics_are_buffers_that_travel_with_the_weights() -> None:
    torch.manual_seed(0)
    network = ResidualNet(3, widths=(8, 4), n_outputs=2)
    network.fit_inputs(torch.randn(32, 3) * 50 + 7)
    network(torch.randn(32, 3) * 50 + 7)  # moves the running statistics
    names = {name for name, _ in network.named_buffers()}
    assert {"input_mean", "input_scale", "stacks.0.layers.1.running_mean", "stacks.1.layers.1.running_var"} <= names
    assert names <= set(network.state_dict())
    loaded = build({"name": "residual", "parameters": {"n_features": 3, "widths": [8, 4], "n_outputs": 2}})
    loaded.load_state_dict(network.state_dict())
    x = torch.randn(5, 3) * 50
    assert torch.equal(loaded.eval()(x), network.eval()(x))
    assert loaded(x).shape == (5, 2)


@pytest.mark.parametrize("skip", SKIPS)
def test_rows_are_independent_in_evaluation(skip: str) -> None:
    torch.manual_seed(0)
    network = ResidualNet(4, widths=(8, 8, 8, 4), skip=skip).double()
    x = torch.randn(16, 4, dtype=torch.float64)
    network(x)
    network.eval()
    whole = network(x)
    torch.testing.assert_close(torch.cat([network(row) for row in x.split(1)]), whole)
    torch.testing.assert_close(network(x.flip(0)), whole.flip(0))


def test_initialisation_follows_the_seed() -> None:
    def weights(seed: int) -> Tensor:
        torch.manual_seed(seed)
        return torch.cat([p.flatten() for p in ResidualNet(3, widths=(8, 4)).parameters()])

    assert torch.equal(weights(3), weights(3))
    assert not torch.equal(weights(3), weights(4))


def test_mixed_precision_keeps_sums_and_output_in_fp32() -> None:
    torch.manual_seed(0)
    network = ResidualNet(3, widths=(128, 128)).eval()
    seen: list[torch.dtype] = []
    for stack in network.stacks:
        stack.register_forward_hook(lambda module, inputs, output: seen.append(output.dtype))
    x = torch.randn(4, 3)
    with torch.autocast("cpu", torch.bfloat16):
        output = network(x)
    assert seen == [torch.float32] * 2
    assert output.dtype == torch.float32
    torch.testing.assert_close(output, network(x), rtol=0.05, atol=0.05)


def test_learns_from_raw_attributes() -> None:
    torch.manual_seed(0)
    x = torch.rand(256, 4) * torch.tensor([1.0, 1e3, 1e-3, 0.0]) + torch.tensor([0.0, 3e3, 0.0, 5.0])
    y = (x[:, 1:2] - 3e3) / 1e3 * x[:, :1]
    network = ResidualNet(4, widths=(32, 32, 16))
    network.fit_inputs(x)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-2)
    for _ in range(150):
        optimiser.zero_grad()
        loss = (network(x) - y).abs().mean()
        loss.backward()
        optimiser.step()
    error = float((network.eval()(x) - y).detach().abs().mean())
    assert error < 0.2 * float((y - y.mean()).abs().mean())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"depth": 18}, "depth 18: choose 17, 24, 48"),
        ({"skip": "dense"}, "'dense': choose one of individual, stacked, none"),
        ({"n_features": 0}, "at least one input"),
        ({"n_outputs": 0}, "one output"),
        ({"widths": ()}, "positive widths"),
        ({"widths": (4, 0)}, "positive widths"),
    ],
)
def test_impossible_architectures_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        ResidualNet(**arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (torch.zeros(4, 2), r"\(n, 3\), got shape \(4, 2\)"),
        (torch.zeros(0, 3), r"got shape \(0, 3\)"),
        (torch.zeros(3), r"got shape \(3,\)"),
        (torch.tensor([[0.0, float("nan"), 0.0]]), "NaN"),
        (torch.tensor([[0.0, float("inf"), 0.0], [0.0, 1.0, 0.0]]), "infinite"),
    ],
)
def test_unusable_rows_are_refused_and_change_nothing(rows: Tensor, message: str) -> None:
    network = ResidualNet(3, widths=(4,))
    with pytest.raises(InputError, match=message):
        network.fit_inputs(rows)
    assert network.input_mean.tolist() == [0.0] * 3
    assert network.input_scale.tolist() == [1.0] * 3
