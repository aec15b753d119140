"""Activations by hook, and principal components: exact on tiny networks, and against independent computations."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cubic_crystals import rocksalt
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from torch import Tensor, nn

from models.activations import (
    activations_by_layer,
    layer_activations,
    layer_names,
    n_layers,
    principal_components,
    untrained_copy,
)
from models.cgcnn import CGCNN, make_batch
from models.crystal_graph import build_graphs
from models.elemnet import ElemNet
from models.errors import InputError
from models.registry import build

WIDTHS = (5, 4, 3, 1)


def tiny() -> ElemNet:
    """Two inputs, two units, one output; all weights by hand."""
    network = ElemNet(2, (2, 1), input_scale=1.0)
    with torch.no_grad():
        network.dense_layers[0].weight.copy_(torch.tensor([[1.0, -1.0], [2.0, 1.0]]))
        network.dense_layers[0].bias.copy_(torch.tensor([0.0, -1.0]))
        network.dense_layers[1].weight.copy_(torch.tensor([[3.0, -2.0]]))
        network.dense_layers[1].bias.copy_(torch.tensor([0.5]))
    return network


def random_network(**options: object) -> ElemNet:
    torch.manual_seed(3)
    return ElemNet(7, WIDTHS, **options)  # type: ignore[arg-type]


def rows(n: int, width: int = 7) -> NDArray[np.float32]:
    return np.random.default_rng(n).dirichlet(np.full(width, 0.5), size=n).astype(np.float32)


def test_values_by_hand() -> None:
    x = np.array([[1.0, 0.0], [0.0, 1.0], [0.25, 0.75]], dtype=np.float32)
    network = tiny()
    before = [[1.0, 1.0], [-1.0, 0.0], [-0.5, 0.25]]
    assert layer_activations(network, x, "layers.0").tolist() == before
    assert layer_activations(network, x, 1).tolist() == [[1.0, 1.0], [0.0, 0.0], [0.0, 0.25]]
    assert layer_activations(network, x, "1").tolist() == layer_activations(network, x, 1).tolist()
    # the output layer is linear
    assert layer_activations(network, x, 2).tolist() == [[1.5], [0.5], [0.0]]


@pytest.mark.parametrize("batch_rows", [1, 8, 33, 64])
def test_every_layer_is_that_of_the_chain(batch_rows: int) -> None:
    network, x = random_network(), rows(33)
    hidden = x.astype(np.float64) * network.input_scale
    for number, layer in enumerate(network.dense_layers, start=1):
        hidden = hidden @ layer.weight.detach().numpy().T.astype(np.float64) + layer.bias.detach().numpy()
        hidden = np.maximum(hidden, 0.0) if number < len(WIDTHS) else hidden
        found = layer_activations(network, x, number, batch_rows=batch_rows)
        assert found.shape == (33, WIDTHS[number - 1])
        assert found.dtype == np.float32
        assert found == pytest.approx(hidden, abs=1e-5)


def test_a_row_does_not_depend_on_the_others() -> None:
    network, x = random_network(), rows(40)
    whole = layer_activations(network, x, 2, batch_rows=16)
    order = np.random.default_rng(0).permutation(40)
    assert layer_activations(network, x[order], 2, batch_rows=16) == pytest.approx(whole[order], abs=1e-6)
    assert layer_activations(network, x[:16], 2, batch_rows=16).tobytes() == whole[:16].tobytes()


def test_several_layers_in_one_pass() -> None:
    network, x = random_network(), rows(33)
    passes: list[int] = []
    network.register_forward_hook(lambda *_: passes.append(1))
    found = activations_by_layer(network, x, (1, "layers.0", 4, 3), batch_rows=16)
    assert len(passes) == 3
    assert list(found) == [1, "layers.0", 4, 3]
    for layer, table in found.items():
        assert table.tobytes() == layer_activations(network, x, layer, batch_rows=16).tobytes()
    both = 33 * (WIDTHS[0] + WIDTHS[1]) * 4
    assert set(activations_by_layer(network, x, (1, 2), max_bytes=both)) == {1, 2}
    with pytest.raises(InputError, match="layer 1, 2 take more"):
        activations_by_layer(network, x, (1, 2), max_bytes=both - 1)


def test_names_and_numbers() -> None:
    assert layer_names(random_network()) == ["layers.0", "layers.1", "layers.2", "layers.3"]
    assert n_layers(random_network()) == 4
    sequence = nn.Sequential(nn.Linear(2, 3), nn.ReLU(), nn.Linear(3, 1))
    assert layer_names(sequence) == ["0", "1", "2"]
    x = rows(5, 2)
    # a name counts before a number, a number counts from 1
    assert layer_activations(sequence, x, "1").tolist() == layer_activations(sequence, x, 2).tolist()
    assert layer_activations(sequence, x, 3).shape == (5, 1)


@pytest.mark.parametrize("layer", [0, 5, -1, "5", "layers.4", "layers", "", True])
def test_unknown_layers_are_refused_with_the_names(layer: str | int) -> None:
    with pytest.raises(InputError, match=r"no layer .*from 1 to 4 or one of layers.0, layers.1, layers.2, layers.3"):
        layer_activations(random_network(), rows(3), layer)


def test_the_network_is_left_as_it_was() -> None:
    network = random_network(dropout=(0.5,), dropout_after=(1,))
    network.train()
    network.dense_layers[1].eval()
    still = random_network()
    assert layer_activations(network, rows(9), 3).tobytes() == layer_activations(still, rows(9), 3).tobytes()
    assert network.training
    assert network.drops["1"].training
    assert not network.dense_layers[1].training
    assert not any(module._forward_hooks for module in network.modules())
    assert "drops.1" in layer_names(network)


def test_graph_batches_of_the_crystal_network() -> None:
    torch.manual_seed(1)
    network = CGCNN(atom_width=6, hidden_width=5, n_hidden=2)
    graphs, reasons = build_graphs([rocksalt(a, "Na", "Cl") for a in (5.6, 5.7, 5.8)])
    assert reasons == [None, None, None]
    batches = [make_batch(graphs.select([0, 1])), make_batch(graphs.select([2]))]
    assert layer_activations(network, batches, "embedding").shape == (24, 6)
    assert layer_activations(network, batches, "hidden.1").shape == (3, 5)
    network.eval()
    with torch.no_grad():
        expected = torch.cat([network(batch) for batch in batches]).numpy()
    assert layer_activations(network, batches, "output").tobytes() == expected.tobytes()
    # embedding, three convolutions, two hidden layers, output
    assert n_layers(network) == 7


class Odd(nn.Module):
    """Runs one layer twice, one never, and one that gives no tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.twice, self.never, self.pair = nn.Linear(2, 2), nn.Linear(2, 2), Pair()

    def forward(self, x: Tensor) -> Tensor:
        return self.twice(self.twice(x)) + self.pair(x)[0]


class Pair(nn.Module):
    """Gives two tensors."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


@pytest.mark.parametrize(
    ("layer", "words"), [("twice", "runs 2 times"), ("never", "runs 0 times"), ("pair", "gives no table.*tuple")]
)
def test_layers_without_one_table_are_refused(layer: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        layer_activations(Odd(), rows(3, 2), layer)


def test_bad_inputs_are_refused() -> None:
    network = random_network()
    with pytest.raises(InputError, match="at least one"):
        layer_activations(network, rows(3)[:0], 1)
    with pytest.raises(InputError, match="finite table"):
        layer_activations(network, np.full((2, 7), np.nan, dtype=np.float32), 1)
    with pytest.raises(InputError, match="finite table"):
        layer_activations(network, np.zeros(7, dtype=np.float32), 1)
    with pytest.raises(InputError, match="batch_rows"):
        layer_activations(network, rows(3), 1, batch_rows=0)
    with pytest.raises(InputError, match=r"more than .* GiB; give fewer rows"):
        layer_activations(network, rows(100), 1, batch_rows=10, max_bytes=100 * 5 * 4 - 1)
    assert layer_activations(network, rows(100), 1, batch_rows=10, max_bytes=100 * 5 * 4).shape == (100, 5)


def test_the_untrained_copy_is_drawn_from_its_seed_alone() -> None:
    architecture = {"name": "elemnet", "parameters": {"n_features": 7, "widths": list(WIDTHS)}}
    trained = build(architecture)
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one, same, other = (untrained_copy(trained, architecture, seed) for seed in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    x = rows(4)
    first = layer_activations(one, x, 2)
    assert layer_activations(same, x, 2).tobytes() == first.tobytes()
    assert not np.allclose(layer_activations(other, x, 2), first)
    assert not np.allclose(layer_activations(trained, x, 2), first)


# Principal components


def test_components_by_hand() -> None:
    points = np.array([[10.0, -2.0], [13.0, 2.0], [7.0, -6.0]])
    scores, explained, components = principal_components(points, 2)
    assert components == pytest.approx(np.array([[0.6, 0.8], [0.8, -0.6]]), abs=1e-12)
    assert scores == pytest.approx(np.array([[0.0, 0.0], [5.0, 0.0], [-5.0, 0.0]]), abs=1e-12)
    assert explained == pytest.approx([1.0, 0.0], abs=1e-12)


tables = st.tuples(st.integers(4, 30), st.integers(3, 12), st.integers(0, 999))


@given(tables)
def test_components_are_those_of_another_implementation(case: tuple[int, int, int]) -> None:
    n, width, seed = case
    rng = np.random.default_rng(seed)
    table = (rng.normal(size=(n, width)) * np.geomspace(4.0, 0.5, width)).astype(np.float32)
    k = min(3, n, width)
    scores, explained, components = principal_components(table, k)
    oracle = PCA(k, svd_solver="full").fit(table.astype(np.float64))
    assert explained == pytest.approx(oracle.explained_variance_ratio_, abs=1e-8)
    assert components @ components.T == pytest.approx(np.eye(k), abs=1e-9)
    assert scores.mean(axis=0) == pytest.approx(0.0, abs=1e-6)
    assert (scores**2).sum(axis=0) == pytest.approx(oracle.singular_values_[:k] ** 2, rel=1e-7)
    assert (components[np.arange(k), np.abs(components).argmax(axis=1)] > 0).all()
    flipped = principal_components(-table, k)[2]
    assert flipped == pytest.approx(components, abs=1e-6)


def test_all_components_give_the_table_back_and_rows_keep_their_scores() -> None:
    table = np.random.default_rng(2).normal(size=(20, 6))
    scores, explained, components = principal_components(table, 6)
    assert scores @ components + table.mean(axis=0) == pytest.approx(table, abs=1e-10)
    assert explained.sum() == pytest.approx(1.0)
    order = np.random.default_rng(3).permutation(20)
    assert principal_components(table[order], 2)[0] == pytest.approx(scores[order, :2], abs=1e-9)


def test_what_does_not_vary_has_no_variance_to_explain() -> None:
    scores, explained, components = principal_components(np.full((5, 3), 2.0), 2)
    assert not scores.any()
    assert explained.tolist() == [0.0, 0.0]
    assert np.isfinite(components).all()


@pytest.mark.parametrize(
    ("table", "k", "words"),
    [
        (np.zeros((3, 5)), 4, "take 1 to 3"),
        (np.zeros((5, 1)), 2, "5 rows of 1 activations have no 2"),
        (np.zeros((3, 5)), 0, "take 1 to 3"),
        (np.array([[1.0, np.inf], [0.0, 0.0]]), 1, "finite table"),
        (np.zeros(4), 1, "finite table"),
    ],
)
def test_impossible_components_are_refused(table: NDArray[np.float64], k: int, words: str) -> None:
    with pytest.raises(InputError, match=words):
        principal_components(table, k)
