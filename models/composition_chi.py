"""chi of compositions without a structure: moduli with their errors, and v as known compounds of an anion have it.

v decides the sign of chi for soft electrolytes: at G = 2 and K = 4 GPa chi runs from -0.69 at v = 0.03 to +0.37 at
v = 0.38. Without a structure it is not one number; it is drawn from the ratios of known compounds of the metal whose
most electronegative element is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray
from pymatgen.core import Element

from models.candidate_filters import ANION_FORMERS
from models.electrodeposition import LITHIUM, StabilityConstants, stability_parameter
from models.errors import InputError
from models.formula import parse
from models.stability_sampling import ChiDistribution, SamplingParameters, standard_draws

FloatArray = NDArray[np.float64]

MIN_KNOWN = 20
"""Fewest known compounds of an anion whose ratios stand for it; with fewer, those of all anions do."""
_ROWS = 1000
_NEGATIVITY = {symbol: float(Element(symbol).X) for symbol in ANION_FORMERS}


@dataclass(frozen=True)
class KnownRatios:
    """Volume ratios of known compounds of a metal.

    Attributes
    ----------
    by_anion : mapping of str to ndarray
        Ascending ratios of the compounds of each anion that has at least `MIN_KNOWN`.
    every : ndarray
        Those of all compounds, ascending.
    """

    by_anion: Mapping[str, FloatArray]
    every: FloatArray

    def of(self, anion: str | None) -> FloatArray:
        """Return the ratios that stand for an anion."""
        return self.every if anion is None else self.by_anion.get(anion, self.every)


def anion_of(formula: str) -> str | None:
    """Return the most electronegative of the elements that form anions; None where there is none.

    Parameters
    ----------
    formula : str
        Composition.
    """
    found = [symbol for symbol in parse(formula) if symbol in _NEGATIVITY]
    return max(found, key=_NEGATIVITY.__getitem__, default=None)


def known_ratios(formulas: Sequence[str], ratios: ArrayLike) -> KnownRatios:
    """Sort known volume ratios by anion.

    Parameters
    ----------
    formulas : sequence of str, length n
        Compounds of the metal.
    ratios : array_like, shape (n,)
        v, dimensionless; NaN rows are passed over.

    Raises
    ------
    InputError
        Fewer than `MIN_KNOWN` known ratios.
    """
    v = np.asarray(ratios, dtype=np.float64)
    good = np.flatnonzero(np.isfinite(v) & (v > 0))
    if len(good) < MIN_KNOWN:
        raise InputError(
            f"{len(good)} volume ratios of known compounds are too few to draw from, {MIN_KNOWN} are needed: give "
            "more structures with the metal"
        )
    anions = np.array([anion_of(formulas[int(row)]) or "" for row in good])
    groups = {str(anion): np.sort(v[good][anions == anion]) for anion in np.unique(anions) if anion}
    return KnownRatios({anion: group for anion, group in groups.items() if len(group) >= MIN_KNOWN}, np.sort(v[good]))


def composition_chi(
    formulas: Sequence[str],
    moduli: tuple[ArrayLike, ArrayLike],
    log10_std: tuple[ArrayLike, ArrayLike],
    known: KnownRatios,
    *,
    constants: StabilityConstants = LITHIUM,
    parameters: SamplingParameters | None = None,
) -> tuple[FloatArray, ChiDistribution]:
    """Sample chi of compositions.

    Parameters
    ----------
    formulas : sequence of str, length n
        Compositions.
    moduli : tuple of array_like, each (n,)
        Medians of K and G, GPa.
    log10_std : tuple of array_like, each (n,)
        Standard deviations of log10 K and log10 G.
    known : KnownRatios
        Where v is drawn from.
    constants : StabilityConstants
        The electrode.
    parameters : SamplingParameters, optional
        Draws.

    Returns
    -------
    tuple of ndarray and ChiDistribution
        Median of v (n,), and P(chi < 0) and quantiles of chi; NaN where moduli or their errors are missing.
    """
    draws = standard_draws(parameters or SamplingParameters())
    part = scipy.stats.norm.cdf(draws[2])
    k, g, std_k, std_g = (np.asarray(column, dtype=np.float64) for column in (*moduli, *log10_std))
    anions = np.array([anion_of(formula) or "" for formula in formulas])
    median, out = np.full(len(k), np.nan), np.full((4, len(k)), np.nan)
    usable = (k > 0) & (g > 0) & (std_k >= 0) & (std_g >= 0)
    for anion in np.unique(anions):
        ratios = known.of(str(anion) or None)
        v = np.quantile(ratios, part, method="inverted_cdf")
        rows = np.flatnonzero((anions == anion) & usable)
        median[anions == anion] = np.median(ratios)
        for start in range(0, len(rows), _ROWS):
            block = rows[start : start + _ROWS]
            bulk = k[block, None] * 10 ** (std_k[block, None] * draws[0])
            shear = g[block, None] * 10 ** (std_g[block, None] * draws[1])
            chi = stability_parameter(bulk, shear, v, constants).chi
            out[0, block] = np.mean(chi < 0, axis=1)
            out[1:, block] = np.quantile(chi, [0.05, 0.5, 0.95], axis=1)
    return median, ChiDistribution(*out)
