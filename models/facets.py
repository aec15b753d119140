"""Lower facets of a chemical system's convex hull by Qhull."""

from __future__ import annotations

from typing import Final

import numpy as np
import scipy
from numpy.typing import NDArray

_STEEPEST: Final = 1e-7
"""Facets whose normal has a smaller energy part are walls of the composition simplex, up to rounding."""


def lower_facets(points: NDArray[np.float64], energies: NDArray[np.float64]) -> NDArray[np.float64]:
    """Chemical potentials of the lower facets; the hull is the largest of their affine functions.

    Parameters
    ----------
    points : ndarray, shape (n, k)
        Atomic fractions of the phases over the system's k elements; the elements are implied, at 0 eV/atom.
    energies : ndarray, shape (n,)
        Energies of the phases, eV/atom; those at or above 0 never matter.

    Returns
    -------
    ndarray, shape (m, k)
        Chemical potentials mu in eV/atom: hull(x) = max over facets of mu . x. One row of zeros without phases.
    """
    k = points.shape[1]
    below = energies < 0.0
    if k == 1 or not below.any():
        return np.zeros((1, k))
    fractions = np.vstack([np.eye(k), points[below]])
    heights = np.concatenate([np.zeros(k), energies[below]])
    # An apex above everything makes the point set full-dimensional however flat the phases lie; it touches no lower
    # facet. Qhull works in the k - 1 independent fractions and the energy.
    apex = np.full((1, k), 1.0 / k)
    cloud = np.column_stack([np.vstack([fractions, apex])[:, 1:], np.append(heights, 1.0)])
    equations = scipy.spatial.ConvexHull(cloud).equations
    equations = equations[equations[:, k - 1] < -_STEEPEST]
    at_first = -equations[:, k] / equations[:, k - 1]
    slopes = -equations[:, : k - 1] / equations[:, k - 1 : k]
    potentials = np.column_stack([at_first, at_first[:, None] + slopes])
    _, distinct = np.unique(potentials.round(10), axis=0, return_index=True)
    return potentials[np.sort(distinct)]
