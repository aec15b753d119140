"""Error bars of predicted moduli.

The standard deviation of a prediction is sqrt(floor^2 + (scale * spread)^2) per target: the spread of what networks,
trees and kernel machines of all members say, which knows when a crystal is unlike the training set, scaled and joined
with the error that all share. Both numbers are fitted on rows that no member was trained on, whole formulas at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.errors import InputError

FloatArray = NDArray[np.float64]

TARGETS = ("log10_bulk_modulus", "log10_shear_modulus")
"""Outputs of a moduli model, log10(GPa)."""

MIN_CALIBRATION_ROWS = 20


def ensemble_spread(members: FloatArray) -> FloatArray | None:
    """Compute the standard deviation over members, None for a single one.

    Parameters
    ----------
    members : ndarray, shape (members, n, 2)
        Predictions.

    Returns
    -------
    ndarray, shape (n, 2), or None
        Unbiased (n - 1).
    """
    return np.asarray(members.std(axis=0, ddof=1)) if len(members) > 1 else None


def fit_calibration(mean: FloatArray, spread: FloatArray | None, targets: FloatArray) -> dict[str, Any]:
    """Fit floor and scale of the standard deviation on rows that no member has seen, by maximum likelihood.

    Parameters
    ----------
    mean, spread : ndarray, shape (n, 2)
        Ensemble mean and spread, log10(GPa); spread None for a single prediction (then std is the floor).
    targets : ndarray, shape (n, 2)
        Truth, log10(GPa).

    Returns
    -------
    dict
        JSON-able: ``targets``, ``floor`` and ``scale`` per target, ``residual_std`` (root mean square of the
        residuals), ``correlation`` of the residuals of K and G, ``coverage_90`` (part of the rows within 1.645 std)
        and ``n``.

    Raises
    ------
    InputError
        Fewer than `MIN_CALIBRATION_ROWS` rows.
    """
    if len(targets) < MIN_CALIBRATION_ROWS:
        raise InputError(
            f"{len(targets)} rows cannot calibrate error bars, at least {MIN_CALIBRATION_ROWS} are needed; "
            "raise calibration_fraction or give more rows"
        )
    residual = targets - mean
    rms = np.sqrt(np.mean(residual**2, axis=0))
    floor, scale = rms.copy(), np.zeros(2)
    if spread is not None:
        for k in range(2):
            floor[k], scale[k] = _fit_std(residual[:, k], spread[:, k])
    calibration: dict[str, Any] = {
        "targets": list(TARGETS),
        "floor": [float(x) for x in floor],
        "scale": [float(x) for x in scale],
        "residual_std": [float(x) for x in rms],
        "correlation": float(np.mean(residual[:, 0] * residual[:, 1]) / max(rms[0] * rms[1], 1e-30)),
        "n": len(targets),
    }
    std = calibrated_std(spread, calibration, targets.shape)
    calibration["coverage_90"] = [float(x) for x in np.mean(np.abs(residual) <= 1.645 * std, axis=0)]
    return calibration


def calibrated_std(spread: FloatArray | None, calibration: Mapping[str, Any], shape: tuple[int, ...]) -> FloatArray:
    """Apply a calibration.

    Parameters
    ----------
    spread : ndarray, shape (n, 2), or None
        Of the members.
    calibration : mapping
        From `fit_calibration`.
    shape : tuple
        (n, 2).

    Returns
    -------
    ndarray, shape (n, 2)
        log10(GPa).
    """
    used = np.zeros(shape) if spread is None else spread
    floor, scale = (np.asarray(calibration[key], dtype=np.float64) for key in ("floor", "scale"))
    return np.asarray(np.sqrt(floor**2 + (scale * used) ** 2))


def _fit_std(residual: FloatArray, spread: FloatArray) -> tuple[float, float]:
    """Floor and scale that make Gaussian residuals most likely."""

    def loss(logs: FloatArray) -> float:
        variance = np.exp(2 * logs[0]) + np.exp(2 * logs[1]) * spread**2
        return float(np.mean(np.log(variance) + residual**2 / variance))

    rms = float(np.sqrt(np.mean(residual**2))) + 1e-6
    # the floor stays at or above a third of the residuals: members that agree by chance are no proof
    bounds = [(np.log(rms / 3), np.log(rms * 1.5)), (np.log(1e-3), np.log(10.0))]
    best = minimize(loss, x0=np.log([0.8 * rms, 1.0]), bounds=bounds, method="L-BFGS-B")
    return float(np.exp(best.x[0])), float(np.exp(best.x[1]))
