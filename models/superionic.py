"""Likelihood that a lithium compound conducts ions fast, from five numbers of its structure.

The logistic model of Sendek et al., Energy Environ. Sci. 10, 306 (2017), was fitted to 40 measured conductivities; fast
means 1e-4 S/cm at room temperature. It is a proxy that costs nothing, no conductivity: what it is worth on more
measurements is in docs/physics.md.

A bond is a pair of atoms within 4 A, as in that paper. Its anion is the most electronegative element; its sublattice
are all atoms but lithium.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from models.errors import InputError

FloatArray = NDArray[np.float64]

COEFFICIENTS = np.array([0.18, -4.01, -0.47, 8.70, -2.17])
"""Of the five numbers in the order of `ConductorFeatures`; Sendek et al., table 2."""
INTERCEPT = -6.56
BOND_LENGTH = 4.0
"""Longest distance of a pair that counts as a bond, A."""
SHELL = 1.0
"""Width of the shell of anions around an anion, A."""
_SELF = 1e-6
MAX_RADIUS = 24.0
"""Largest search radius [A]; atoms of a kind that lie farther apart are no sublattice."""


@dataclass(frozen=True)
class ConductorFeatures:
    """The five numbers of a structure.

    Attributes
    ----------
    lithium_bonds : float
        Li-Li bonds per Li.
    sublattice_ionicity : float
        Mean difference of Pauling's electronegativities over the bonds of the sublattice; 0 where it has none.
    anion_coordination : float
        Anions per anion within the shell from the nearest one to `SHELL` farther.
    lithium_anion_distance : float
        Mean shortest distance from Li to an anion, A.
    lithium_lithium_distance : float
        Mean shortest distance from Li to Li, A.
    """

    lithium_bonds: float
    sublattice_ionicity: float
    anion_coordination: float
    lithium_anion_distance: float
    lithium_lithium_distance: float

    def likelihood(self) -> float:
        """Return the likelihood of fast conduction, in (0, 1)."""
        values = np.array([getattr(self, name) for name in self.__dataclass_fields__])
        return float(1.0 / (1.0 + np.exp(-(values @ COEFFICIENTS + INTERCEPT))))


def conductor_features(structure: Structure) -> ConductorFeatures:
    """Compute the five numbers.

    Parameters
    ----------
    structure : Structure
        Ordered crystal with lithium and another element that has an electronegativity.

    Raises
    ------
    InputError
        No lithium, nothing else, or atoms of a kind that lie too far apart.
    """
    symbols = np.array([site.specie.symbol for site in structure])
    is_lithium = symbols == "Li"
    if not is_lithium.any() or is_lithium.all():
        raise InputError("a likelihood of conduction needs lithium and other elements")
    negativity = np.array([float(site.specie.X) for site in structure])
    if np.isnan(negativity).any():
        raise InputError(f"{symbols[np.isnan(negativity)][0]} has no electronegativity")
    anion = symbols[int(np.argmax(np.where(is_lithium, -np.inf, negativity)))]
    is_anion = symbols == anion
    centre, other, distance = _pairs(structure, BOND_LENGTH)
    lithium_bonds = float((is_lithium[centre] & is_lithium[other]).sum()) / int(is_lithium.sum())
    bonds = ~is_lithium[centre] & ~is_lithium[other]
    ionicity = np.abs(negativity[centre[bonds]] - negativity[other[bonds]])
    nearest = _nearest(structure, is_anion, is_anion)
    centre, other, distance = _pairs(structure, float(nearest.max()) + SHELL, is_anion)
    among = is_anion[other] & (distance <= nearest[np.cumsum(is_anion)[centre] - 1] + SHELL)
    return ConductorFeatures(
        lithium_bonds,
        float(ionicity.mean()) if bonds.any() else 0.0,
        float(among.sum()) / int(is_anion.sum()),
        float(_nearest(structure, is_lithium, is_anion).mean()),
        float(_nearest(structure, is_lithium, is_lithium).mean()),
    )


def superionic_likelihoods(structures: Sequence[Structure | None]) -> tuple[FloatArray, list[str | None]]:
    """Compute the likelihood of many structures; a failure is a reason and the run goes on.

    Parameters
    ----------
    structures : sequence of Structure or None
        None has the reason that it is missing.

    Returns
    -------
    tuple of ndarray and list
        Likelihoods (n,), NaN where there is a reason, and the reasons.
    """
    values = np.full(len(structures), np.nan)
    reasons: list[str | None] = []
    for row, structure in enumerate(structures):
        reason: str | None = None
        try:
            if structure is None:
                raise InputError("structure is missing")
            values[row] = conductor_features(structure).likelihood()
        except InputError as error:
            reason = str(error)
        reasons.append(reason)
    return values, reasons


def _pairs(
    structure: Structure, radius: float, of: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.int64], NDArray[np.int64], FloatArray]:
    """Centres, others and distances of all ordered pairs within a radius, images included."""
    sites = None if of is None else [structure[int(i)] for i in np.flatnonzero(of)]
    centre, other, _, distance = (np.asarray(column) for column in structure.get_neighbor_list(radius, sites))
    others = distance > _SELF  # pymatgen leaves an atom out of its own neighbours only where all are asked for
    centre, other, distance = centre[others].astype(np.int64), other[others].astype(np.int64), distance[others]
    return centre if of is None else np.flatnonzero(of)[centre], other, distance


def _nearest(structure: Structure, of: NDArray[np.bool_], among: NDArray[np.bool_]) -> FloatArray:
    """Shortest distance [A] of every atom of a kind to one of another, or the same, kind."""
    radius = 1.5 * BOND_LENGTH
    place = np.cumsum(of) - 1
    while radius <= MAX_RADIUS:
        centre, other, distance = _pairs(structure, radius, of)
        wanted = among[other]
        shortest = np.full(int(of.sum()), np.inf)
        np.minimum.at(shortest, place[centre[wanted]], distance[wanted])
        if np.isfinite(shortest).all():
            return shortest
        radius *= 2
    raise InputError(f"atoms of a kind lie more than {MAX_RADIUS:g} A apart")
