"""The convention of the published screen of interfaces, by name: to compare with its values, not to judge by.

Z. Ahmad, T. Xie, C. Maheshwari, J. C. Grossman, V. Viswanathan, ACS Cent. Sci. 4, 996 (2018). Four facets of lithium on
seven lattice directions of the crystal, one wave each: what `in_published_frame` says of these frames holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from models.anisotropic_stability import CRYSTAL_CONSTANTS, interface_stability
from models.electrodeposition import StabilityConstants
from models.errors import InputError
from models.stroh import FloatArray, surface_response

DIRECTIONS = tuple(hkl for hkl in itertools.product((0, 1), repeat=3) if any(hkl))
"""Lattice directions of the conventional cell of the electrolyte."""


def published_interfaces(
    electrode: ArrayLike,
    facets: Mapping[tuple[int, int, int], float],
    tensor: ArrayLike,
    lattice: ArrayLike,
    volume_ratio: float,
    constants: StabilityConstants = CRYSTAL_CONSTANTS,
) -> pd.DataFrame:
    """Return chi of the interfaces of a crystal as the published screen has them.

    Parameters
    ----------
    electrode : array_like, shape (6, 6)
        Stiffness of the metal along its cubic axes, GPa.
    facets : mapping
        Surface energy [J/m^2] by Miller indices.
    tensor : array_like, shape (6, 6)
        Stiffness of the electrolyte, GPa.
    lattice : array_like, shape (3, 3)
        Rows a, b, c of its conventional cell, A, in the tensor's frame.
    volume_ratio : float
        v = V_M+ / V_M, dimensionless.
    constants : StabilityConstants
        Molar volume, charge and wavenumber of the metal.

    Returns
    -------
    DataFrame
        ``facet`` and ``direction`` (three integers each), ``chi`` [kJ/mol/nm] and the waves, ``electrode_wave`` and
        ``electrolyte_wave``, unit vectors in the frames of the tensors.
    """
    pairs = list(itertools.product(facets, DIRECTIONS))
    frames = [in_published_frame(lattice, *pair) for pair in pairs]
    below, above = (np.array([frame[side] for frame in frames]).transpose(1, 0, 2) for side in (0, 1))
    energies: NDArray[np.float64] = np.array([facets[facet] for facet, _ in pairs])
    metal = surface_response(electrode, below[0], below[1], "below")
    crystal = surface_response(tensor, above[0], above[1], "above")
    chi = interface_stability(metal, crystal, volume_ratio, energies, constants).chi
    return pd.DataFrame(
        {
            "facet": [facet for facet, _ in pairs],
            "direction": [direction for _, direction in pairs],
            "chi": chi,
            "electrode_wave": below[0].tolist(),
            "electrolyte_wave": above[0].tolist(),
        }
    )


def in_published_frame(
    lattice: ArrayLike, facet: Sequence[int], direction: Sequence[int]
) -> tuple[tuple[FloatArray, FloatArray], tuple[FloatArray, FloatArray]]:
    """Return wave and normal in the electrode and in the electrolyte by the convention of the published screen.

    It names lattice directions of the electrolyte, not planes, and turns the direction onto the lattice vector b, by
    the smallest rotation, as it turns the electrode's facet normal onto y; the interface is then y and the wave runs
    along x. Only where b lies along y is that the interface meant. It is kept to compare with the published values.

    Parameters
    ----------
    lattice : array_like, shape (3, 3)
        Rows a, b, c of the conventional cell in A, in the frame of the tensor.
    facet : sequence of int
        Of the cubic electrode.
    direction : sequence of int
        h a + k b + l c.

    Returns
    -------
    tuple of tuple of ndarray
        (wave, normal) of the electrode and of the electrolyte, each (3,), in the frames of their tensors.
    """
    cell, x, y = np.asarray(lattice, dtype=np.float64), *np.eye(3)[:2]
    electrode = smallest_rotation(np.asarray(facet, dtype=np.float64), y)
    electrolyte = smallest_rotation(np.asarray(direction, dtype=np.float64) @ cell, cell[1])
    # a turned tensor seen along x and y is the tensor as it was, seen along x and y turned back
    return (electrode.T @ x, electrode.T @ y), (electrolyte.T @ x, electrolyte.T @ y)


def smallest_rotation(start: ArrayLike, end: ArrayLike) -> FloatArray:
    """Return the rotation about their common normal that takes one direction to another: Rodrigues' formula.

    Parameters
    ----------
    start, end : array_like, shape (3,)
        Directions of any length, not opposite to each other.

    Returns
    -------
    ndarray, shape (3, 3)
        R with R start along end.
    """
    a, b = (np.asarray(v, dtype=np.float64) / np.linalg.norm(v) for v in (start, end))
    axis, cosine = np.cross(a, b), float(a @ b)
    if cosine < -1 + 1e-12:
        raise InputError("directions are opposite to each other: no rotation between them is the smallest")
    x, y, z = axis
    cross = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]])
    return np.asarray(np.eye(3) + cross + cross @ cross / (1 + cosine))
