"""Potentials between which an electrolyte neither takes up nor gives up the metal, from the hull of known phases.

With the other elements kept, the hull's energy g(n) is a convex, piecewise linear function of the amount n of the
metal; its slope is the metal's chemical potential. At the electrolyte's own n the slope on the side of more metal is
where it begins to be reduced, the one on the other side where it begins to be oxidised: V = -slope/z against the metal,
whose own formation energy is zero. This is the element profile of S. P. Ong et al., Chem. Mater. 20, 1798 (2008), and
the window of Y. Zhu, X. He, Y. Mo, ACS Appl. Mater. Interfaces 7, 23685 (2015), without building a phase diagram per
system. Kinetics are left out: interphases widen the window of many electrolytes, and nothing narrows it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from models.candidate_filters import FilterOutcome, numbers, split
from models.errors import InputError
from models.hull import PhaseHull

FloatArray = NDArray[np.float64]

STEP = 1e-5
"""Atoms of metal per atom over which a slope is taken; no two compositions of phases lie so close."""
EXCESS = 1e3
"""Atoms of metal per atom that stand for a whole electrode; no compound holds more."""


@dataclass(frozen=True)
class ElectrochemicalWindow:
    """Windows of n electrolytes; NaN where the metal, or any other element, is not in them.

    Attributes
    ----------
    reduction_potential, oxidation_potential : ndarray, shape (n,)
        V against the metal; of a compound above the hull those of the phases that it decomposes into.
    reaction_energy : ndarray, shape (n,)
        eV per atom of the electrolyte that is released with an excess of the metal; 0 where they do not react, and
        negative where they do.
    """

    reduction_potential: FloatArray
    oxidation_potential: FloatArray
    reaction_energy: FloatArray


def electrochemical_window(
    hull: PhaseHull, fractions: ArrayLike, metal: int, charge: float, energy_above_hull: ArrayLike = 0.0
) -> ElectrochemicalWindow:
    """Compute the windows of many electrolytes.

    Parameters
    ----------
    hull : PhaseHull
        Of the known phases, those of the metal and every other element among them.
    fractions : array_like, shape (n, c)
        Atomic fractions of the electrolytes, in the hull's columns.
    metal : int
        Column of the metal.
    charge : float
        z of its ion.
    energy_above_hull : array_like, shape (n,) or scalar
        Of the electrolytes, eV/atom; counts towards the reaction energy.

    Returns
    -------
    ElectrochemicalWindow
        Reduction at most at the oxidation potential.

    Raises
    ------
    InputError
        A column or a charge without a meaning.
    """
    x = np.atleast_2d(np.asarray(fractions, dtype=np.float64))
    if not 0 <= metal < x.shape[1]:
        raise InputError(f"there is no column {metal} of a metal among {x.shape[1]} elements")
    if not charge > 0:
        raise InputError(f"charge of the metal's ion is {charge}; give a positive number")
    above = np.broadcast_to(np.asarray(energy_above_hull, dtype=np.float64), (len(x),))
    share = x[:, metal]
    good = np.flatnonzero((share > 0) & (share < 1 - 1e-9))
    values = np.full((3, len(x)), np.nan)
    if len(good):
        x, share = x[good], share[good]
        step = np.minimum(STEP, share / 2)
        own = hull.energy_many(x)
        less, more, much = (_with_metal(hull, x, metal, change) for change in (-step, step, np.full(len(x), EXCESS)))
        values[0, good] = (own - more) / step / charge
        values[1, good] = (less - own) / step / charge
        values[2, good] = much - (own + above[good])
    return ElectrochemicalWindow(*values)


def within_window(
    frame: pd.DataFrame,
    max_reduction_potential: float | None = None,
    min_oxidation_potential: float | None = None,
    *,
    keep_missing: bool = False,
) -> FilterOutcome:
    """Keep electrolytes whose window suits a cell.

    Parameters
    ----------
    frame : DataFrame
        reduction_potential, oxidation_potential [V].
    max_reduction_potential, min_oxidation_potential : float, optional
        V against the metal; None switches a filter off.
    keep_missing : bool
        Keep rows without a window.

    Returns
    -------
    FilterOutcome
        Stage ``window``.
    """
    reduction, oxidation = (numbers(frame, f"{name}_potential") for name in ("reduction", "oxidation"))
    reasons: list[str | None] = []
    for low, high in zip(reduction, oxidation, strict=True):
        reason = None
        if max_reduction_potential is None and min_oxidation_potential is None:
            pass
        elif np.isnan(low):
            reason = None if keep_missing else "no electrochemical window: give the phases of its elements"
        elif max_reduction_potential is not None and low > max_reduction_potential:
            reason = f"reduced at {low:.2f} V, above {max_reduction_potential:g} V"
        elif min_oxidation_potential is not None and high < min_oxidation_potential:
            reason = f"oxidised at {high:.2f} V, below {min_oxidation_potential:g} V"
        reasons.append(reason)
    return split(frame, "window", reasons)


def _with_metal(hull: PhaseHull, fractions: FloatArray, metal: int, change: FloatArray) -> FloatArray:
    """Energy [eV per atom of the unchanged composition] after atoms of the metal were added or taken away."""
    amounts = fractions.copy()
    amounts[:, metal] += change
    total = amounts.sum(axis=1)
    return np.asarray(total * hull.energy_many(amounts / total[:, None]))
