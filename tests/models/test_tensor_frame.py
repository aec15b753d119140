"""Axes of elastic tensors: rotations, and frames told by the crystal's symmetry."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure
from pymatgen.core.tensors import Tensor

from models.errors import InputError
from models.structures import parse_structure
from models.tensor_frame import oriented_tensors, rotate_tensor, symmetry_misfit
from stiffness import random_rotation, random_stiffness, rotated

#: Of a tetragonal crystal (class 4/mmm) along its axes, c last.
TETRAGONAL = np.array([
    [100.0, 40, 20, 0, 0, 0], [40, 100, 20, 0, 0, 0], [20, 20, 60.5, 0, 0, 0],
    [0, 0, 0, 15, 0, 0], [0, 0, 0, 0, 15, 0], [0, 0, 0, 0, 0, 35],
])  # fmt: skip
#: And of an orthorhombic one (class mmm): a, b, c.
ORTHORHOMBIC = np.diag([90.0, 70.0, 50.5, 12.0, 14.0, 18.0])
ORTHORHOMBIC[:3, :3] += 20


def turned(structure: Structure, turn: np.ndarray) -> Structure:
    return Structure(Lattice(structure.lattice.matrix @ turn.T), structure.species, structure.frac_coords)


def tetragonal(a: float = 4.0, c: float = 5.0) -> Structure:
    return Structure.from_spacegroup("P4_2/mnm", Lattice.tetragonal(a, c), ["Ti", "O"], [[0] * 3, [0.305, 0.305, 0]])


def in_order_of_lengths() -> Structure:
    """A < b < c, which the IEEE standard does not take as x, y and z: there c < a < b."""
    return Structure.from_spacegroup(
        "Pnma", Lattice.orthorhombic(4.0, 5.5, 7.0), ["Li", "O"], [[0] * 3, [0.1, 0.25, 0.3]]
    )


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_bonds_matrices_turn_a_tensor_index_by_index(seed: int) -> None:
    tensor, turn = random_stiffness(seed), random_rotation(seed)
    np.testing.assert_allclose(rotate_tensor(tensor, turn), rotated(tensor, turn), atol=1e-9)
    np.testing.assert_allclose(rotate_tensor(tensor, -turn), rotated(tensor, turn), atol=1e-9)


def test_misfit_of_a_quarter_turn() -> None:
    quarter = np.array([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])
    assert symmetry_misfit(TETRAGONAL, [np.eye(3), quarter]) == 0
    stretched = TETRAGONAL + np.diag([10.0, 0, 0, 0, 0, 0])
    assert symmetry_misfit(stretched, [quarter]) == pytest.approx(10 / 110)
    assert symmetry_misfit(np.diag([110.0, 100, 100, 40, 40, 40]), [quarter]) == pytest.approx(9 / 110)  # whole GPa


def test_a_tensor_along_the_axes_of_its_cell() -> None:
    found = oriented_tensors(TETRAGONAL, tetragonal())
    assert [one.frame for one in found] == ["cell"]  # which is the other frames too
    np.testing.assert_allclose(np.abs(found[0].lattice), np.diag([4.0, 4.0, 5.0]), atol=1e-6)
    assert found[0].misfit == pytest.approx(0, abs=1e-12)


def test_a_cell_that_is_turned_and_a_tensor_that_is_not() -> None:
    """The tensor of the IEEE standard does not turn with the axes that a structure is written in."""
    turn = random_rotation(7)
    (found,) = oriented_tensors(TETRAGONAL, turned(tetragonal(), turn))
    assert found.frame == "ieee"
    lengths = np.linalg.norm(found.lattice, axis=1)
    np.testing.assert_allclose(lengths, [4.0, 4.0, 5.0], rtol=1e-6)
    np.testing.assert_allclose(np.abs(found.lattice[2]), [0, 0, 5.0], atol=1e-6)
    (found,) = oriented_tensors(rotate_tensor(TETRAGONAL, turn), turned(tetragonal(), turn))
    assert found.frame == "cell"


def test_a_short_c_lies_along_x_in_the_database() -> None:
    """Against the letter of the standard; a tensor by that letter is one along the axes of the cell."""
    turned_over = rotate_tensor(TETRAGONAL, [[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    (found,) = oriented_tensors(turned_over, tetragonal(4.6, 2.96))
    assert found.frame == "ieee"
    np.testing.assert_allclose(np.abs(found.lattice[2]), [2.96, 0, 0], atol=1e-6)
    (found,) = oriented_tensors(TETRAGONAL, tetragonal(4.6, 2.96))
    assert found.frame == "cell"


def test_frames_that_symmetry_cannot_tell_apart_are_all_returned() -> None:
    structure = in_order_of_lengths()
    found = {one.frame: one for one in oriented_tensors(ORTHORHOMBIC, structure)}
    assert {"cell", "ieee"} <= set(found)
    np.testing.assert_allclose(np.linalg.norm(found["cell"].lattice, axis=1), [4.0, 5.5, 7.0], rtol=1e-6)
    longest = int(np.argmax(np.abs(found["ieee"].lattice[2])))  # c = 7 A lies along y there: c < a < b
    assert longest == 1
    in_ieee = rotate_tensor(ORTHORHOMBIC, np.asarray(Tensor.get_ieee_rotation(structure)))
    assert symmetry_misfit(in_ieee, [np.diag([1.0, -1, -1])]) < 1e-12


def test_a_tensor_of_another_crystal() -> None:
    with pytest.raises(InputError, match=r"symmetry of its crystal \(P4_2/mnm\) .*check its axes"):
        oriented_tensors(random_stiffness(5), tetragonal())
    with pytest.raises(InputError, match="check its axes"):
        oriented_tensors(rotate_tensor(TETRAGONAL, random_rotation(3)), tetragonal())


@pytest.mark.reference_data
@pytest.mark.parametrize("n_rows", [60, pytest.param(None, marks=pytest.mark.soak)])
def test_tensors_of_a_database_are_in_the_ieee_frame(reference_data: Path, n_rows: int | None) -> None:
    """All but a few, whose symmetry in the structure is another than in the tensor."""
    rows = pd.read_parquet(reference_data / "elastic_structures.parquet")
    rows = rows if n_rows is None else rows.sample(n_rows, random_state=0)
    fits = []
    for row in rows.itertuples():
        tensor, structure = (
            np.array(json.loads(row.elastic_tensor), dtype=float),
            parse_structure(row.cif),
        )
        turn = np.asarray(Tensor.get_ieee_rotation(structure))
        try:
            found = oriented_tensors(tensor, structure)
        except InputError:
            fits.append(False)
            continue
        in_cell = rotate_tensor(tensor, turn.T)
        ways = {"cell": np.eye(3), "ieee": turn}
        fits.append(any(
            np.abs(rotate_tensor(tensor, ways[one.frame].T) - in_cell).max() <= 0.05 * np.abs(tensor).max()
            for one in found if one.frame in ways
        ))  # fmt: skip
    assert np.mean(fits) > 0.975
