"""Compact structures survive the way out and back."""

from __future__ import annotations

import numpy as np
import pytest
from cubic_crystals import rocksalt
from pymatgen.core import Lattice, Structure

from models.crystals import read_structure, shortest_ratio, spacegroup_number, structure_json


def test_json_round_trip_to_five_decimals() -> None:
    crystal = Structure(
        Lattice.from_parameters(3.123456789, 4, 5, 81, 92, 103), ["Li", "F"], [[0, 0, -1e-9], [0.5, 1.25, 1 / 3]]
    )
    text = structure_json(crystal)
    back = read_structure(text)
    np.testing.assert_allclose(back.lattice.matrix, crystal.lattice.matrix, atol=6e-6)
    np.testing.assert_allclose(back.frac_coords, [[0, 0, 0], [0.5, 0.25, 0.33333]], atol=1e-9)
    assert back.composition == crystal.composition
    assert "properties" not in text
    assert structure_json(back) == text


def test_space_group_and_shortest_distance() -> None:
    salt = rocksalt(5.64, "Na", "Cl")
    assert spacegroup_number(salt) == 225
    assert shortest_ratio(salt) == pytest.approx(2.82 / (1.66 + 1.02))
    lonely = Structure(Lattice.cubic(9), ["Na"], [[0, 0, 0]])
    assert shortest_ratio(lonely) == float("inf")
