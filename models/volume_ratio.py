"""Molar-volume ratio v = V_M+ / V_M of the metal's cation in a crystal and of the metal, from the crystal's structure.

The estimator of Ahmad et al., ACS Cent. Sci. 4, 996 (2018): CN is the mean over the metal's sites of the
solid-angle-weighted Voronoi coordination number, the ionic radius follows linearly from CN by a fit of Shannon's
radii, and v is the molar volume of spheres of that radius over the molar volume of the metal. It is an ionic-sphere
volume; the rigorous quantity is d mu / d p of the cation, so everything that needs v takes the estimator as an
argument (`VolumeRatioEstimator`).

The coordination number is pymatgen's ``VoronoiNN(weight="solid_angle").get_cn(structure, site, use_weights=True)``,
computed here with one tessellation per structure and a cell that is proven complete (no vertex farther than half the
search radius) instead of a fixed cutoff; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray
from pymatgen.core import Structure
from scipy.constants import Avogadro

from models.electrodeposition import LITHIUM, StabilityConstants
from models.errors import InputError

FloatArray = NDArray[np.float64]

SHANNON_RADII: dict[str, dict[int, float]] = {
    "Li": {4: 0.59, 6: 0.76, 8: 0.92},
    "Na": {4: 0.99, 5: 1.00, 6: 1.02, 7: 1.12, 8: 1.18, 9: 1.24, 12: 1.39},
    "K": {4: 1.37, 6: 1.38, 7: 1.46, 8: 1.51, 9: 1.55, 10: 1.59, 12: 1.64},
    "Mg": {4: 0.57, 5: 0.66, 6: 0.72, 8: 0.89},
    "Zn": {4: 0.60, 5: 0.68, 6: 0.74, 8: 0.90},
    "Al": {4: 0.39, 5: 0.48, 6: 0.535},
}
"""Ionic radii [A] by coordination number; Shannon, Acta Cryst. A 32, 751 (1976)."""

MAX_SEARCH_RADIUS = 80.0
"""Largest search radius [A] for a Voronoi cell; a cell that is still open is no solid."""

MAX_SITES = 400
"""Largest cell that is tessellated; bounds the time of one structure to a few seconds."""

VolumeRatioEstimator = Callable[[Structure, StabilityConstants], float]
"""Structure and electrode -> v; raises InputError where it has no answer."""


@dataclass(frozen=True)
class VolumeRatios:
    """v of many structures.

    Attributes
    ----------
    values : ndarray, shape (n,)
        v, dimensionless; NaN where there is a reason.
    reasons : list of str or None
        Why a row has no v.
    """

    values: FloatArray
    reasons: list[str | None]


def shannon_fit(metal: str) -> tuple[float, float]:
    """Linear fit r = slope * CN + intercept of the metal's Shannon radii.

    Parameters
    ----------
    metal : str
        Symbol; must be in `SHANNON_RADII`.

    Returns
    -------
    slope, intercept : float
        A; 0.0825 and 0.261667 for Li.

    Raises
    ------
    InputError
        No radii for this metal.
    """
    if metal not in SHANNON_RADII:
        known = ", ".join(SHANNON_RADII)
        raise InputError(f"no ionic radii for {metal} (known: {known}); give volume_ratio in the table")
    radii = SHANNON_RADII[metal]
    slope, intercept = np.polyfit(list(radii), list(radii.values()), 1)
    return float(slope), float(intercept)


def coordination_numbers(structure: Structure, metal: str = "Li") -> FloatArray:
    """Solid-angle-weighted Voronoi coordination number of every site of the metal.

    Each facet counts with its solid angle over the largest one.

    Parameters
    ----------
    structure : Structure
        An ordered crystal.
    metal : str
        Symbol.

    Returns
    -------
    ndarray, shape (number of sites of the metal,)
        In the order of the sites.

    Raises
    ------
    InputError
        No site of the metal, too many sites, or no closed Voronoi cell.
    """
    centres = np.array([i for i, site in enumerate(structure) if site.specie.symbol == metal], dtype=np.int64)
    if not len(centres):
        raise InputError(f"structure has no {metal}")
    if len(structure) > MAX_SITES:
        raise InputError(f"structure has {len(structure)} sites, more than {MAX_SITES}; give the primitive cell")
    # 3.5 radii of a sphere of one atom's volume hold about 43 atoms, most often enough to close every cell
    radius = 3.5 * float((3 * structure.volume / (4 * np.pi * len(structure))) ** (1 / 3))
    while radius < MAX_SEARCH_RADIUS:
        solid_angles = _closed_cells(structure, centres, radius)
        if solid_angles is not None:
            return np.array([angles.sum() / angles.max() for angles in solid_angles])
        radius *= 1.3
    raise InputError(f"Voronoi cell of {metal} is not closed within {MAX_SEARCH_RADIUS:g} A; check the structure")


def volume_ratio_from_coordination(coordination: float, constants: StabilityConstants = LITHIUM) -> float:
    """Compute v from a mean coordination number.

    Parameters
    ----------
    coordination : float
        CN, dimensionless.
    constants : StabilityConstants
        Metal and its molar volume.

    Returns
    -------
    float
        (4/3) pi r^3 N_A / V_M with r from `shannon_fit`, dimensionless.
    """
    slope, intercept = shannon_fit(constants.metal)
    radius = (slope * coordination + intercept) * 1e-10
    return float(4 / 3 * np.pi * radius**3 * Avogadro / constants.molar_volume)


def shannon_voronoi_ratio(structure: Structure, constants: StabilityConstants = LITHIUM) -> float:
    """Compute v of a crystal by the estimator of Ahmad et al.

    Parameters
    ----------
    structure : Structure
        An ordered crystal that holds the metal.
    constants : StabilityConstants
        Metal and its molar volume.

    Returns
    -------
    float
        Dimensionless.

    Raises
    ------
    InputError
        As `coordination_numbers` and `shannon_fit`.
    """
    shannon_fit(constants.metal)
    return volume_ratio_from_coordination(float(coordination_numbers(structure, constants.metal).mean()), constants)


def volume_ratios(
    structures: Sequence[Structure | None],
    constants: StabilityConstants = LITHIUM,
    *,
    estimator: VolumeRatioEstimator = shannon_voronoi_ratio,
    progress: Callable[[int], None] | None = None,
) -> VolumeRatios:
    """Compute v of many crystals; a failure is a reason and the run goes on.

    Parameters
    ----------
    structures : sequence of Structure or None
        None gives the reason "structure is missing".
    constants : StabilityConstants
        The electrode.
    estimator : callable
        Structure and electrode -> v.
    progress : callable, optional
        Called with the number of structures done, after each.

    Returns
    -------
    VolumeRatios
        Row by row as the input. Rows are independent, so chunks may be computed anywhere and joined.
    """
    values = np.full(len(structures), np.nan)
    reasons: list[str | None] = []
    for row, structure in enumerate(structures):
        reason: str | None = None
        try:
            if structure is None:
                raise InputError("structure is missing")
            values[row] = estimator(structure, constants)
        except InputError as error:
            reason = str(error)
        except (scipy.spatial.QhullError, ValueError, FloatingPointError) as error:
            reason = f"Voronoi tessellation failed ({' '.join(str(error).split())[:120]})"
        reasons.append(reason)
        if progress is not None:
            progress(row + 1)
    return VolumeRatios(values, reasons)


def _closed_cells(structure: Structure, centres: NDArray[np.int64], radius: float) -> list[FloatArray] | None:
    """Solid angles of the facets of every centre's cell; None if an atom beyond `radius` could still cut one."""
    origin = np.asarray(structure.cart_coords)[centres]
    points, index = _surroundings(structure, centres, radius)
    if len(points) < 5:
        return None
    try:
        voronoi = scipy.spatial.Voronoi(points)
    except scipy.spatial.QhullError:
        # too few points in general position (a chain, a layer): a wider search adds more
        return None
    owner = np.full(len(points), -1)
    owner[index] = np.arange(len(centres))
    angles: list[list[float]] = [[] for _ in centres]
    for pair, ridge in zip(owner[voronoi.ridge_points], voronoi.ridge_vertices, strict=True):
        for centre in pair[pair >= 0]:
            if -1 in ridge:
                return None
            vertices = voronoi.vertices[ridge] - origin[centre]
            if np.einsum("ij,ij->i", vertices, vertices).max() > (radius / 2) ** 2:
                return None
            angles[centre].append(_solid_angle(vertices))
    return [np.array(facets) for facets in angles]


def _surroundings(
    structure: Structure, centres: NDArray[np.int64], radius: float
) -> tuple[FloatArray, NDArray[np.int64]]:
    """Distinct atoms within `radius` of any centre (m, 3) in A, and the row of each centre among them."""
    sites = [structure[int(i)] for i in centres]
    _, neighbour, image, _ = structure.get_neighbor_list(radius, sites=sites, exclude_self=True)
    keys = np.column_stack([neighbour, image]).astype(np.int64)
    home = np.column_stack([centres, np.zeros((len(centres), 3), dtype=np.int64)])
    unique = np.unique(np.concatenate([home, keys]), axis=0)
    row_of = {tuple(key): row for row, key in enumerate(unique.tolist())}
    points = np.asarray(structure.cart_coords)[unique[:, 0]] + unique[:, 1:] @ np.asarray(structure.lattice.matrix)
    return points, np.array([row_of[tuple(key)] for key in home.tolist()], dtype=np.int64)


def _solid_angle(polygon: FloatArray) -> float:
    """Solid angle [sr] of a planar convex polygon (m, 3), vertices in order, seen from the origin.

    A fan of triangles by Van Oosterom & Strackee, IEEE Trans. Biomed. Eng. 30, 125 (1983).
    """
    lengths = np.linalg.norm(polygon, axis=1)
    a, b, c = polygon[0], polygon[1:-1], polygon[2:]
    la, lb, lc = lengths[0], lengths[1:-1], lengths[2:]
    volume = np.abs(np.cross(b, c) @ a)
    base = la * lb * lc + (b @ a) * lc + (c @ a) * lb + np.einsum("ij,ij->i", b, c) * la
    return float(2 * np.arctan2(volume, base).sum())
