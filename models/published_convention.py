"""The convention of the published screen of interfaces, by name: to compare with its values, not to judge by.

Z. Ahmad, T. Xie, C. Maheshwari, J. C. Grossman, V. Viswanathan, ACS Cent. Sci. 4, 996 (2018). Four facets of lithium on
seven lattice directions of the crystal, one wave each: what `in_published_frame` says of these frames holds.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from models.anisotropic_stability import CRYSTAL_CONSTANTS, in_published_frame, interface_stability
from models.electrodeposition import StabilityConstants
from models.stroh import surface_response

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
