"""Atom features and crystal graphs."""

from __future__ import annotations

import importlib.util
import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cubic_crystals import rocksalt
from pymatgen.core import Element, Lattice, Structure

from models.atom_features import N_ATOM_FEATURES, atom_feature_table
from models.crystal_graph import CrystalGraphs, GraphParameters, build_graph, build_graphs
from models.elements import ELEMENTS
from models.errors import InputError

BLOCKS = [0, 19, 26, 36, 46, 58, 68, 78, 82, 92]
ROCKSALT = rocksalt(4.03, "Li", "F")


def low_symmetry() -> Structure:
    rng = np.random.default_rng(4)
    lattice = Lattice.from_parameters(5.1, 6.3, 7.7, 81, 95, 104)
    grid = np.array([[i / 2, j / 2, k / 2] for i in range(2) for j in range(2) for k in range(2)])
    return Structure(lattice, ["Li", "Li", "O", "O", "Si", "O", "P", "S"], grid + rng.normal(0, 0.03, (8, 3)))


# --- atom features


def test_table_has_92_one_hot_columns_for_every_element():
    table = atom_feature_table()
    assert table.shape == (101, N_ATOM_FEATURES)
    assert set(np.unique(table)) == {0, 1}
    assert not table.flags.writeable
    for start, stop in pairwise(BLOCKS):
        assert (table[:, start:stop].sum(axis=1) <= 1).all()
    numbers = [Element(symbol).Z for symbol in ELEMENTS]
    # every element of the composition space has group, period, valence and block; at most one property is unknown
    assert (table[numbers].sum(axis=1) >= 8).all()
    assert table[0].sum() == 0


def test_oxygen_and_iron_by_hand():
    oxygen, iron = (np.flatnonzero(atom_feature_table()[z]) for z in (8, 26))
    # group 16, period 2, X 3.44, r 66 pm, 6 valence electrons, ln 13.6 eV, 1.46 eV, p, ln 17.36 cm3/mol
    assert oxygen.tolist() == [16, 20, 34, 37, 51, 64, 74, 79, 86]
    assert iron[:2].tolist() == [8, 22]
    assert iron[4] == 46 + 7
    assert iron[7] == 80


def test_layout_is_the_one_of_the_original_table():
    spec = importlib.util.find_spec("matminer")
    if spec is None or spec.origin is None:
        pytest.skip("matminer, which ships the original table, is not installed")
    path = Path(spec.origin).parent / "utils" / "data_files" / "cgcnn_atom_feature.json"
    stated = json.loads(path.read_text())
    table = atom_feature_table()
    theirs = np.array([stated[str(z)] for z in range(1, 95)])
    agreement = {}
    for start, stop in pairwise(BLOCKS):
        ours, other = table[1:95, start:stop], theirs[:, start:stop]
        known = (ours.sum(axis=1) > 0) & (other.sum(axis=1) > 0)
        agreement[start] = np.mean(np.abs(ours.argmax(1) - other.argmax(1))[known] <= 1)
    assert agreement[0] == agreement[19] == 1
    assert min(agreement.values()) > 0.93


# --- graphs


def test_rocksalt_shells():
    graph = build_graph(ROCKSALT)
    assert len(graph) == 1
    assert graph.atomic_numbers.tolist() == [3] * 4 + [9] * 4
    for atom in range(8):
        assert graph.distances[atom, :6] == pytest.approx(4.03 / 2, abs=1e-6)
        assert graph.distances[atom, 6:] == pytest.approx(4.03 / np.sqrt(2), abs=1e-6)
        kinds = graph.atomic_numbers[graph.neighbours[atom]]
        assert set(kinds[:6]) == {12 - graph.atomic_numbers[atom]}
        assert set(kinds[6:]) == {graph.atomic_numbers[atom]}


def test_agrees_with_get_all_neighbors():
    structure = low_symmetry()
    graph = build_graph(structure)
    for atom, neighbours in enumerate(structure.get_all_neighbors(8.0)):
        nearest = sorted(neighbours, key=lambda n: n.nn_distance)[:12]
        assert graph.distances[atom] == pytest.approx([n.nn_distance for n in nearest], abs=1e-5)
        assert graph.neighbours[atom].tolist() == [n.index for n in nearest]


def test_order_of_the_sites_does_not_matter():
    structure = low_symmetry()
    order = np.random.default_rng(0).permutation(len(structure))
    shuffled = Structure.from_sites([structure[i] for i in order])
    a, b = build_graph(structure), build_graph(shuffled)
    assert np.allclose(a.distances[order], b.distances, atol=1e-5)
    assert np.array_equal(a.atomic_numbers[a.neighbours][order], b.atomic_numbers[b.neighbours])


def test_fewer_than_twelve_neighbours():
    pair = Structure(Lattice.cubic(30.0), ["Li", "F"], [[0, 0, 0], [0, 0, 0.1]])
    graph = build_graph(pair)
    assert graph.distances[0, 0] == pytest.approx(3.0)
    assert graph.neighbours[0].tolist() == [1] + [0] * 11
    assert np.isinf(graph.distances[:, 1:]).all()
    alone = build_graph(Structure(Lattice.cubic(30.0), ["Xe"], [[0, 0, 0]]))
    assert np.isinf(alone.distances).all()
    assert (alone.neighbours == 0).all()


def test_cutoff_and_number_are_parameters():
    few = build_graph(ROCKSALT, GraphParameters(n_neighbours=8, cutoff=2.5, gaussian_step=0.5))
    assert few.distances.shape == (8, 8)
    assert np.isinf(few.distances).sum(axis=1).tolist() == [2] * 8
    assert GraphParameters().n_gaussians == 41
    with pytest.raises(InputError, match="not positive"):
        GraphParameters(cutoff=-1)


def test_select_concatenate_and_arrays():
    parts = [build_graph(ROCKSALT), build_graph(low_symmetry()), build_graph(ROCKSALT.get_primitive_structure())]
    joined = CrystalGraphs.concatenate(parts)
    assert joined.n_atoms.tolist() == [8, 8, 2]
    chosen = joined.select([2, 0])
    assert chosen.n_atoms.tolist() == [2, 8]
    assert np.array_equal(chosen.distances[2:], parts[0].distances)
    assert np.array_equal(chosen.neighbours[:2], parts[2].neighbours)
    again = CrystalGraphs.from_arrays(joined.to_arrays())
    for name, array in joined.to_arrays().items():
        assert np.array_equal(again.to_arrays()[name], array)
    assert len(joined.select([])) == 0


def test_damaged_arrays_are_refused():
    arrays = build_graph(ROCKSALT).to_arrays()
    with pytest.raises(InputError, match="lack the arrays offsets"):
        CrystalGraphs.from_arrays({k: v for k, v in arrays.items() if k != "offsets"})
    with pytest.raises(InputError, match="do not fit"):
        CrystalGraphs.from_arrays({**arrays, "offsets": np.array([0, 5])})
    with pytest.raises(InputError, match="do not exist"):
        CrystalGraphs.from_arrays({**arrays, "neighbours": arrays["neighbours"] + 4})
    with pytest.raises(InputError, match="without atoms"):
        CrystalGraphs.from_arrays({**arrays, "offsets": np.array([0, 0, 8]), "volumes": np.ones(2)})
    for volumes in (np.zeros(1), np.array([np.inf]), np.ones(2)):
        with pytest.raises(InputError, match="volume of a cell"):
            CrystalGraphs.from_arrays({**arrays, "volumes": volumes})


def test_failures_are_reasons():
    disordered = Structure(Lattice.cubic(4), [{"Li": 0.5, "Na": 0.5}], [[0, 0, 0]])
    heavy = Structure(Lattice.cubic(4), ["Lr"], [[0, 0, 0]])
    steps: list[int] = []
    graphs, reasons = build_graphs([ROCKSALT, None, disordered, heavy, ROCKSALT], progress=steps.append)
    assert len(graphs) == 2
    assert steps == [1, 2, 3, 4, 5]
    assert [r is None for r in reasons] == [True, False, False, False, True]
    assert "missing" in reasons[1]
    assert "disordered" in reasons[2]
    assert "atom features" in reasons[3]
    assert len(build_graphs([])[0]) == 0
