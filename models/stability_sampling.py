"""Error bars of chi: moduli with an error, sampled through the Monroe-Newman formula."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from models.electrodeposition import LITHIUM, StabilityConstants, stability_parameter
from models.errors import InputError

FloatArray = NDArray[np.float64]

_CELLS_PER_BLOCK = 2_000_000
"""Rows times draws that are evaluated at once: about 16 MB per temporary array."""


@dataclass(frozen=True)
class SamplingParameters:
    """How errors of the moduli are carried into chi.

    Attributes
    ----------
    n_samples : int
        Draws per row, a power of two (Sobol points lose their balance otherwise).
    seed : int
        Of the scrambled Sobol sequence.
    correlation : float
        Between the errors of log10 K and log10 G, in [-1, 1].
    """

    n_samples: int = 1024
    seed: int = 0
    correlation: float = 0.0

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        if self.n_samples < 2 or self.n_samples & (self.n_samples - 1):
            raise InputError(f"n_samples is {self.n_samples}; give a power of two, for instance 1024")
        if not -1 <= self.correlation <= 1:
            raise InputError(f"correlation is {self.correlation}; give a number in [-1, 1]")


@dataclass(frozen=True)
class ChiDistribution:
    """What the sampled errors make of chi, arrays of shape (n,), NaN where the row has no chi.

    Attributes
    ----------
    probability_stable : ndarray
        P(chi < 0), in [0, 1].
    q05, q50, q95 : ndarray
        Quantiles of chi, kJ/mol/nm.
    """

    probability_stable: FloatArray
    q05: FloatArray
    q50: FloatArray
    q95: FloatArray


def standard_draws(parameters: SamplingParameters) -> FloatArray:
    """Draw the correlated standard normals that every row shares.

    Common random numbers make a row's result independent of the other rows and of their order, and remove sampling
    noise from comparisons between rows.

    Parameters
    ----------
    parameters : SamplingParameters
        Number, seed and correlation.

    Returns
    -------
    ndarray, shape (3, n_samples)
        For log10 K, log10 G and log10 v; unit variance.
    """
    sobol = scipy.stats.qmc.Sobol(d=3, scramble=True, rng=np.random.default_rng(parameters.seed))
    uniform = sobol.random(parameters.n_samples)
    tiny = np.finfo(np.float64).eps
    normals = scipy.stats.norm.ppf(np.clip(uniform, tiny, 1 - tiny)).T
    rho = parameters.correlation
    return np.stack([normals[0], rho * normals[0] + np.sqrt(1 - rho**2) * normals[1], normals[2]])


def chi_distribution(
    bulk: ArrayLike,
    shear: ArrayLike,
    volume_ratio: ArrayLike,
    log10_bulk_std: ArrayLike,
    log10_shear_std: ArrayLike,
    *,
    log10_volume_ratio_std: ArrayLike = 0.0,
    constants: StabilityConstants = LITHIUM,
    parameters: SamplingParameters | None = None,
) -> ChiDistribution:
    """Sample Gaussian errors of log10 K and log10 G and report P(chi < 0) and quantiles.

    Parameters
    ----------
    bulk, shear : array_like, shape (n,)
        K and G, GPa: the medians of the sampled distributions.
    volume_ratio : array_like, shape (n,)
        v, dimensionless.
    log10_bulk_std, log10_shear_std : array_like, shape (n,) or scalar
        Standard deviations of log10(K/GPa) and log10(G/GPa); zero means exact (P is then 0 or 1).
    log10_volume_ratio_std : array_like
        The same for v.
    constants : StabilityConstants
        The electrode.
    parameters : SamplingParameters, optional
        Number of draws, seed, correlation.

    Returns
    -------
    ChiDistribution
        Arrays of shape (n,). NaN where the row has no chi or a standard deviation is NaN or negative.
    """
    draws = standard_draws(parameters or SamplingParameters())
    names = (bulk, shear, volume_ratio, log10_bulk_std, log10_shear_std, log10_volume_ratio_std)
    columns = np.broadcast_arrays(*[np.atleast_1d(np.asarray(a, dtype=np.float64)) for a in names])
    n = len(columns[0])
    out = np.full((4, n), np.nan)
    nominal = stability_parameter(columns[0], columns[1], columns[2], constants).chi
    good = np.flatnonzero(np.isfinite(nominal) & np.all([c >= 0 for c in columns[3:]], axis=0))
    step = max(1, _CELLS_PER_BLOCK // draws.shape[1])
    for start in range(0, len(good), step):
        rows = good[start : start + step]
        k, g, v = (
            centre[rows, None] * 10 ** (std[rows, None] * draw)
            for centre, std, draw in zip(columns[:3], columns[3:], draws, strict=True)
        )
        chi = stability_parameter(k, g, v, constants).chi
        out[0, rows] = np.mean(chi < 0, axis=1)
        out[1:, rows] = np.quantile(chi, [0.05, 0.5, 0.95], axis=1)
    return ChiDistribution(*out)
