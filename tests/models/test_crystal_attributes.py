"""Attributes of crystals: rock salt by hand, and what must not change them."""

from __future__ import annotations

import numpy as np
import pytest
from cubic_crystals import copper, rocksalt
from pymatgen.core import Lattice, Structure

from models.crystal_attributes import CRYSTAL_ATTRIBUTES, crystal_attributes
from models.crystal_graph import GraphParameters, build_graph, build_graphs
from models.errors import InputError


def attributes(*structures: Structure) -> np.ndarray:
    graphs, reasons = build_graphs(structures)
    assert not any(reasons)
    return crystal_attributes(graphs)


def test_rock_salt_by_hand() -> None:
    """Six neighbours at a / 2, then twelve at a / sqrt(2): the shell of six is all that has weight."""
    found = dict(zip(CRYSTAL_ATTRIBUTES, attributes(rocksalt(4.0, "Li", "F"))[0], strict=True))
    further = np.exp(-(((2**0.5 - 1) / 0.15) ** 2))
    distances = np.array([2.0] * 6 + [8**0.5] * 6)
    radii = {"Li": 1.28, "F": 0.57}
    expected = {
        "mean Number": 6.0,
        "deviation Number": 3.0,
        "minimum Electronegativity": 0.98,
        "maximum Electronegativity": 3.98,
        "log10 volume per atom": np.log10(8.0),
        "density": (6.941 + 18.9984032) / 2 / 8 * 1.66053907,
        "packing": 4 / 3 * np.pi * (1.28**3 + 0.57**3) / 2 / 8,
        "log10 valence electrons per volume": np.log10((1 + 7) / 2 / 8),  # the 1s electrons of Li are none
        "mean distance of 1 neighbour": 2.0,
        "mean distance of 6 neighbours": 2.0,
        "mean distance of 12 neighbours": distances.mean(),
        "spread of the distances": distances.std(),
        "spread of the nearest distances": 0.0,
        "nearest distance over radii": 2.0 / (radii["Li"] + radii["F"]),
        "mean coordination": 6 + 6 * further,
        "squared electronegativity difference": 9.0 * 6 / (6 + 6 * further),
    }
    assert {name: found[name] for name in expected} == pytest.approx(expected, rel=1e-6)


def test_the_choice_of_the_cell_does_not_matter() -> None:
    cell = Structure(
        Lattice.from_parameters(4.1, 5.2, 6.3, 80, 95, 104), ["Li", "S", "P"], [[0] * 3, [0.4] * 3, [0.7] * 3]
    )
    turned = cell.copy()
    turned.make_supercell([[1, 1, 0], [0, 1, 0], [0, 0, 2]])
    one, other = attributes(cell, turned)
    assert other == pytest.approx(one, rel=1e-5, abs=1e-5)


def test_neither_do_ties_among_the_neighbours() -> None:
    """Body-centred: of six at the second distance four are kept, which ones is the order's business."""
    cell = Structure(Lattice.cubic(3.4), ["Li", "Mg"], [[0] * 3, [0.5] * 3])
    larger = cell.copy()
    larger.make_supercell([2, 2, 1])
    one, other = attributes(cell, larger)
    assert other == pytest.approx(one, rel=1e-5, abs=1e-5)


def test_rows_are_independent_and_finite() -> None:
    """An atom alone in its cell, one whose neighbours are few, elements that Magpie lacks data of or gives none."""
    crystals = [
        Structure(Lattice.cubic(30.0), ["Xe"], [[0] * 3]),
        Structure(Lattice.cubic(12.0), ["Na", "Cl"], [[0] * 3, [0.2, 0, 0]]),
        copper(4.4, "Am"),
        copper(3.9, "Pd"),  # no s and no p electrons
        rocksalt(5.6, "Na", "Cl"),
    ]
    together = attributes(*crystals)
    assert together.shape == (5, len(CRYSTAL_ATTRIBUTES)) == (5, 113)
    assert np.isfinite(together).all()
    assert together == pytest.approx(np.concatenate([attributes(one) for one in crystals]), abs=1e-12)
    graphs, _ = build_graphs([])
    assert crystal_attributes(graphs).shape == (0, 113)
    few = build_graph(rocksalt(5.6, "Na", "Cl"), GraphParameters(n_neighbours=8))
    with pytest.raises(InputError, match="12 neighbours"):
        crystal_attributes(few)
