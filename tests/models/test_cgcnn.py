"""The crystal-graph network."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

import numpy as np
import pytest
import torch
from cubic_crystals import rocksalt
from pymatgen.core import Lattice, Structure

from models.cgcnn import CGCNN, make_batch, pack_by_atoms
from models.crystal_graph import CrystalGraphs, build_graph, build_graphs
from models.errors import InputError
from models.moduli_training import torch_threads
from models.registry import build


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with torch_threads(1):
        yield


SMALL = {"n_convolutions": 2, "atom_width": 8, "hidden_width": 12}


@lru_cache(maxsize=1)
def crystals() -> CrystalGraphs:
    salt = rocksalt(4.03, "Li", "F")
    bcc = Structure(Lattice.cubic(3.4), ["Li", "Mg"], [[0, 0, 0], [0.5, 0.5, 0.5]])
    sparse = Structure(Lattice.cubic(12.0), ["Na", "Cl"], [[0, 0, 0], [0.2, 0, 0]])
    alone = Structure(Lattice.cubic(30.0), ["Xe"], [[0, 0, 0]])
    graphs, reasons = build_graphs([salt, bcc, sparse, alone, salt.get_primitive_structure()])
    assert reasons == [None] * 5
    return graphs


def network(seed: int = 0, **changes: int) -> CGCNN:
    torch.manual_seed(seed)
    return CGCNN(**{**SMALL, **changes})


def trained_statistics(net: CGCNN, attributes: np.ndarray | None = None) -> CGCNN:
    net.train()
    for _ in range(5):
        net(make_batch(crystals(), attributes))
    return net.eval()


def test_shapes_and_gaussians():
    net = network(n_hidden=2)
    assert net(make_batch(crystals())).shape == (5, 2)
    bonds = net.expand(torch.tensor([0.0, 1.0, 8.0, float("inf")]))
    assert bonds.shape == (4, 41)
    assert bonds[0, 0] == 1
    assert bonds[1, 5] == 1
    assert bonds[1, 6] == pytest.approx(np.exp(-1), rel=1e-5)
    assert bonds[3].abs().sum() == 0


def test_prediction_does_not_depend_on_the_batch():
    net, graphs = trained_statistics(network()), crystals()
    with torch.no_grad():
        together = net(make_batch(graphs))
        alone = torch.cat([net(make_batch(graphs.select([i]))) for i in range(5)])
        turned = net(make_batch(graphs.select([4, 3, 2, 1, 0]))).flip(0)
    assert torch.allclose(together, alone, atol=1e-5)
    assert torch.allclose(together, turned, atol=1e-5)


def test_supercell_and_primitive_cell_agree():
    net = trained_statistics(network())
    with torch.no_grad():
        out = net(make_batch(crystals()))
    assert torch.allclose(out[0], out[4], atol=1e-4)


def test_order_of_the_atoms_does_not_matter():
    net = trained_statistics(network())
    places = [[0, 0, 0], [0.5, 0.5, 0.31]]
    structure = Structure.from_spacegroup("P4/mmm", Lattice.tetragonal(3, 5), ["Ti", "O"], places)
    turned = Structure.from_sites(list(structure)[::-1])
    with torch.no_grad():
        a, b = (net(make_batch(build_graph(s))) for s in (structure, turned))
    assert torch.allclose(a, b, atol=1e-5)


def test_free_places_send_nothing():
    net, graphs = trained_statistics(network()), crystals()
    pair = graphs.select([2])
    assert np.isinf(pair.distances).any()
    elsewhere = CrystalGraphs(
        pair.atomic_numbers,
        np.where(np.isinf(pair.distances), 1 - pair.neighbours, pair.neighbours).astype(np.int32),
        pair.distances,
        pair.offsets,
        pair.volumes,
    )
    with torch.no_grad():
        assert torch.equal(net(make_batch(pair)), net(make_batch(elsewhere)))


def test_masked_and_dense_convolutions_agree():
    net, full = trained_statistics(network()), crystals().select([0])
    batch = make_batch(full)
    convolution = net.convolutions[0]
    atoms, bonds = net.embedding(net.table[batch.atomic_numbers]), net.expand(batch.distances)
    everything = torch.ones(len(batch.distances), dtype=torch.bool)
    with torch.no_grad():
        dense = convolution(atoms, bonds, batch.neighbours, None)
        masked = convolution(atoms, bonds, batch.neighbours, everything)
    assert torch.allclose(dense, masked, atol=1e-6)


def test_split_linear_map_is_the_published_one():
    net = trained_statistics(network())
    batch = make_batch(crystals().select([1]))
    c = net.convolutions[0]
    atoms, bonds = net.embedding(net.table[batch.atomic_numbers]), net.expand(batch.distances)
    centre = torch.arange(len(atoms)).repeat_interleave(12)
    joint = torch.cat([atoms[centre], atoms[batch.neighbours], bonds], dim=1)
    weight = torch.cat([c.centre.weight, c.neighbour.weight, c.bond.weight], dim=1)
    with torch.no_grad():
        gate, core = c.edge_norm(joint @ weight.T + c.centre.bias).chunk(2, dim=1)
        message = torch.sigmoid(gate) * torch.nn.functional.softplus(core)
        summed = torch.zeros_like(atoms).index_add(0, centre, message)
        expected = torch.nn.functional.softplus(atoms + c.atom_norm(summed))
        assert torch.allclose(c(atoms, bonds, batch.neighbours, None), expected, atol=1e-5)


def test_batches_by_atoms():
    sizes = np.array([5, 5, 20, 1, 1, 3])
    batches = [b.tolist() for b in pack_by_atoms(sizes, np.arange(6), 10)]
    assert batches == [[0, 1], [2], [3, 4, 5]]
    assert list(pack_by_atoms(sizes, np.array([], dtype=np.int64), 10)) == []


def test_architecture_rebuilds_the_network():
    net = network(n_hidden=2)
    again = build(net.architecture())
    again.load_state_dict(net.state_dict())
    net.eval(), again.eval()
    with torch.no_grad():
        assert torch.equal(net(make_batch(crystals())), again(make_batch(crystals())))


def test_bad_architectures_are_refused():
    with pytest.raises(InputError, match="below 1"):
        CGCNN(n_convolutions=0)
    with pytest.raises(InputError, match="version 99"):
        CGCNN(feature_version=99)
    with pytest.raises(InputError, match="cannot be built"):
        build({"name": "cgcnn", "parameters": {"colour": 3}})


def test_attributes_stand_beside_the_atoms():
    """They are brought to mean 0 and variance 1; what lies farther than four deviations counts as four."""
    graphs = crystals()
    known = np.random.default_rng(0).normal(3.0, 2.0, size=(5, 7))
    known[:, 6] = 1.5  # constant: whatever it is later counts for nothing
    torch.manual_seed(0)
    net = CGCNN(atom_width=6, hidden_width=5, n_attributes=7, attribute_width=4)
    net.fit_attributes(known)
    net = trained_statistics(net, known)
    with torch.no_grad():
        z = torch.from_numpy(
            (known - known.mean(axis=0)) / np.where(known.std(axis=0) > 0, known.std(axis=0), 1)
        ).float()
        beside = torch.nn.functional.softplus(net.beside(z))
        assert torch.allclose(net.read_attributes(torch.from_numpy(known).float()), beside, atol=1e-5)
        said = net(make_batch(graphs, known))
        far, farther = (np.where(np.arange(7) == 2, known.mean(axis=0) + n * known.std(axis=0), known) for n in (4, 9))
        assert torch.allclose(net(make_batch(graphs, far)), net(make_batch(graphs, farther)), atol=1e-5)
        assert not torch.allclose(net(make_batch(graphs, far)), said, atol=1e-5)
        other = np.where(np.arange(7) == 6, 99.0, known)
        assert torch.allclose(net(make_batch(graphs, other)), said, atol=1e-5)
    for wrong in (None, known[:, 1:]):
        with pytest.raises(InputError, match="reads 7 attributes"):
            net(make_batch(graphs, wrong))
    again = build(net.architecture())
    again.load_state_dict(net.state_dict())
    assert torch.equal(again.eval()(make_batch(graphs, known)), said)
