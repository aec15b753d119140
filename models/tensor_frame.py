"""The axes that an elastic tensor is stated in, told by the crystal's symmetry.

A stiffness matrix means nothing without its axes, and tables seldom name them. A tensor that is stated in the right
ones stays as it is under the rotations of the crystal's point group (Neumann's principle). Three frames are tried: the
axes of the structure as it is written, those of the IEEE standard on piezoelectricity (ANSI/IEEE 176-1987) as pymatgen
finds them and the Materials Project states its tensors in them, and those of pymatgen's conventional standard cell.
Where more than one fits and they are not the same, symmetry cannot tell; then all are returned, and a claim has to hold
in each.

A tetragonal crystal with c < a has its c along x1 in pymatgen's axes, not along x3 as the standard says, and so have
the tensors of such crystals in that database (Li2WS4 is one): whoever reads them by the letter of the standard turns
the crystal over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pymatgen.core import Lattice, Structure
from pymatgen.core.tensors import Tensor
from pymatgen.symmetry.analyzer import SpacegroupAnalyzer

from models.elasticity import ROUNDING
from models.errors import InputError

FloatArray = NDArray[np.float64]

SYMPREC = 0.05
"""Tolerance [A] of the search for symmetry; structures in databases are relaxed, but not perfectly."""
MAX_MISFIT = 0.05
"""Largest change under a rotation of the point group, as a part of the largest element, that is put down to noise."""
_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))


@dataclass(frozen=True)
class OrientedTensor:
    """A tensor in a frame that the crystal's symmetry allows.

    Attributes
    ----------
    frame : str
        ``cell``: axes of the structure as it is written; ``ieee``; ``standard``: of the conventional standard cell.
    lattice : ndarray, shape (3, 3)
        Rows a, b, c of the conventional cell in that frame, A; Miller indices refer to it.
    misfit : float
        Largest change of an element under a rotation of the point group, as a part of the largest element.
    """

    frame: str
    lattice: FloatArray
    misfit: float


def rotate_tensor(tensor: ArrayLike, rotation: ArrayLike) -> FloatArray:
    """Turn a crystal, and return its stiffness in the same axes.

    Parameters
    ----------
    tensor : array_like, shape (6, 6)
        Stiffness in Voigt order (xx, yy, zz, yz, xz, xy), GPa.
    rotation : array_like, shape (3, 3)
        Proper or improper.

    Returns
    -------
    ndarray, shape (6, 6)
        K C K^T with Bond's matrix of stresses K: W. L. Bond, Bell Syst. Tech. J. 22, 1 (1943).
    """
    r = np.asarray(rotation, dtype=np.float64)
    bond = np.empty((6, 6))
    for row, (i, j) in enumerate(_PAIRS):
        for column, (k, m) in enumerate(_PAIRS):
            bond[row, column] = r[i, k] * r[j, m] + (r[i, m] * r[j, k] if k != m else 0.0)
    return np.asarray(bond @ np.asarray(tensor, dtype=np.float64) @ bond.T)


def symmetry_misfit(tensor: ArrayLike, rotations: Sequence[ArrayLike]) -> float:
    """Say how far a tensor is from having a symmetry.

    Parameters
    ----------
    tensor : array_like, shape (6, 6)
        Stiffness, GPa.
    rotations : sequence of array_like, shape (3, 3)
        Operations of a point group in the tensor's frame.

    Returns
    -------
    float
        Largest change of an element as a part of the largest element, less what rounding to whole GPa makes.
    """
    c = np.asarray(tensor, dtype=np.float64)
    change = max(float(np.abs(rotate_tensor(c, rotation) - c).max()) for rotation in rotations)
    rounded = ROUNDING if (c == np.round(c)).all() else 0.0
    return max(0.0, change - rounded) / float(np.abs(c).max())


def oriented_tensors(tensor: ArrayLike, structure: Structure) -> list[OrientedTensor]:
    """Find the frames that a tensor can be stated in.

    Parameters
    ----------
    tensor : array_like, shape (6, 6)
        Stiffness in Voigt order, GPa, not zero.
    structure : Structure
        Ordered crystal.

    Returns
    -------
    list of OrientedTensor
        At least one; those that put the same crystal into the same axes are one, under the first of their names.

    Raises
    ------
    InputError
        No frame fits: the tensor belongs to another crystal or is stated in other axes.
    """
    c = np.asarray(tensor, dtype=np.float64)
    analyzer = SpacegroupAnalyzer(structure, symprec=SYMPREC)
    operations = [np.array(o.rotation_matrix) for o in analyzer.get_point_group_operations(cartesian=True)]
    dataset = analyzer.get_symmetry_dataset()
    lattice = np.linalg.inv(np.asarray(dataset.transformation_matrix)).T @ structure.lattice.matrix
    turns = {"cell": np.eye(3), "ieee": _ieee_rotation(structure), "standard": _standard_rotation(analyzer, lattice)}
    found: list[OrientedTensor] = []
    in_cell: list[FloatArray] = []
    misfits = []
    for frame, turn in turns.items():
        misfit = symmetry_misfit(c, [turn @ operation @ turn.T for operation in operations])
        misfits.append(misfit)
        back = rotate_tensor(c, turn.T)
        is_new = all(np.abs(back - other).max() > MAX_MISFIT * np.abs(c).max() for other in in_cell)
        if misfit <= MAX_MISFIT and is_new:
            found.append(OrientedTensor(frame, lattice @ turn.T, misfit))
            in_cell.append(back)
    if not found:
        raise InputError(
            f"elastic tensor does not have the symmetry of its crystal ({dataset.international}) in the axes of the "
            f"cell, the IEEE standard or the conventional cell (off by {min(misfits):.0%} at best); check its axes"
        )
    return found


def _ieee_rotation(structure: Structure) -> FloatArray:
    """Rotation from the axes of the structure to those of the IEEE standard."""
    return np.asarray(Tensor.get_ieee_rotation(structure), dtype=np.float64)


def _standard_rotation(analyzer: SpacegroupAnalyzer, lattice: FloatArray) -> FloatArray:
    """Rotation from the axes of the structure to those of pymatgen's conventional standard cell.

    That cell may name its axes differently; the rotation is the one that lays the lattices onto each other.
    """
    target: Lattice = analyzer.get_conventional_standard_structure().lattice
    mapping = Lattice(lattice).find_mapping(target, ltol=0.05, atol=3)
    if mapping is None:
        return np.eye(3)  # no third frame to try
    return np.asarray(mapping[1]).T  # which turns the standard cell onto the cell as it is written
