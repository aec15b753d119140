"""Probability that a compound is stable, calibrated on the predicted decomposition energies of held-out systems.

A predicted energy below the hull is no proof of stability: among hundreds of millions of compositions the lowest
predictions are also the most wrong ones. The calibration therefore uses rows of chemical systems that the network
has not seen, held against a hull without them, and maps the predicted decomposition energy to the observed share of
stable compounds with Platt's logistic: J. Platt, Advances in Large Margin Classifiers, 61 (1999), with the targets
and the Newton iteration of Lin, Lin and Weng, Machine Learning 68, 267 (2007).

Rows that are predicted on or below the hull, which are those that a screen selects, get a logistic of their own. One
logistic for all rows is ruled by the many unstable ones far above the hull and states too much below it, where the
winner's curse is at work.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import InputError

MIN_PER_CLASS = 10
"""Fewest stable, and fewest unstable, rows from which a probability is fitted."""

RESIDUAL_QUANTILES: tuple[float, ...] = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)


def fit_probability(predicted: ArrayLike, true: ArrayLike, *, n_bins: int = 10) -> dict[str, Any]:
    """Fit the probability of being stable against the predicted decomposition energy.

    Parameters
    ----------
    predicted
        Predicted decomposition energies (n,), eV/atom: predicted energy minus the hull of all other compositions.
    true
        True decomposition energies (n,), eV/atom, against the same hull; stable means at or below 0.
    n_bins
        Bins of the reliability table, of equal counts.

    Returns
    -------
    dict
        JSON-able. ``method`` is ``"platt"`` with ``slope`` (per eV/atom, never positive) and ``intercept``,
        p = 1 / (1 + exp(-(slope d + intercept))); or ``"none"`` with a ``reason`` where there are too few rows of
        either class, in which case no probability is stated. Further: ``n``, ``n_stable``, ``range`` (of the
        predicted values that were seen, eV/atom: beyond it the probability stays at its end), ``selected`` (the same
        fitted on the rows predicted at or below 0, for such rows; absent where they are too few), ``brier``,
        ``calibration_error`` (mean distance of observed from stated share over the bins) and ``reliability`` (per bin:
        ``low``, ``high`` in eV/atom, ``n``, ``stated``, ``observed``, and the 95 % Wilson interval ``observed_low``,
        ``observed_high``), measured on the fitted rows.

    Raises
    ------
    InputError
        If the shapes differ, nothing is given or a value is not finite.
    """
    d_pred, d_true = _vector(predicted, "predicted"), _vector(true, "true")
    if d_pred.shape != d_true.shape:
        raise InputError(f"Calibration needs as many predicted as true energies, got {len(d_pred)} and {len(d_true)}.")
    stable = d_true <= 0.0
    n, n_stable = len(stable), int(stable.sum())
    result: dict[str, Any] = {"method": "none", "n": n, "n_stable": n_stable}
    if n_stable < MIN_PER_CLASS or n - n_stable < MIN_PER_CLASS:
        return result | {
            "reason": f"{n_stable} stable and {n - n_stable} unstable calibration rows; {MIN_PER_CLASS} of each needed"
        }
    result |= {"method": "platt"} | _line(d_pred, stable)
    chosen = d_pred <= 0.0
    n_chosen, n_found = int(chosen.sum()), int(stable[chosen].sum())
    if n_found >= MIN_PER_CLASS and n_chosen - n_found >= MIN_PER_CLASS:
        result["selected"] = {"n": n_chosen, "n_stable": n_found} | _line(d_pred[chosen], stable[chosen])
    probability = probability_stable(d_pred, result)
    table = _reliability(d_pred, probability, stable, n_bins)
    return result | {
        "brier": float(np.mean((probability - stable) ** 2)),
        "calibration_error": float(sum(b["n"] * abs(b["observed"] - b["stated"]) for b in table) / n),
        "reliability": table,
    }


def probability_stable(predicted: ArrayLike, calibration: Mapping[str, Any]) -> NDArray[np.float64]:
    """Probability of being stable at predicted decomposition energies (n,), eV/atom; never rises with the energy.

    NaN where the calibration states no probability (``method`` is ``"none"``) or the energy is NaN.
    """
    d = np.asarray(predicted, dtype=np.float64)
    method = calibration.get("method")
    if method == "none":
        return np.full(d.shape, np.nan)
    if method != "platt":
        raise InputError(f"Unknown calibration method {method!r}: fit the calibration again.")
    probability = _on_line(d, calibration)
    if "selected" in calibration:
        chosen = calibration["selected"]
        # above the hull never more than on it, though the two lines need not meet there
        probability = np.where(d > 0.0, np.minimum(probability, _on_line(0.0, chosen)), _on_line(d, chosen))
    return np.where(np.isnan(d), np.nan, probability)


def residual_summary(prediction: ArrayLike, truth: ArrayLike) -> dict[str, Any]:
    """Errors on rows of held-out chemical systems: what to expect where the network has not been.

    Parameters
    ----------
    prediction, truth
        Energies (n,), eV/atom.

    Returns
    -------
    dict
        ``n``, ``mae``, ``rmse``, ``bias`` (mean of prediction minus truth) and ``quantiles`` of prediction minus truth
        (keys as text), all in eV/atom.
    """
    p, y = _vector(prediction, "predicted"), _vector(truth, "true")
    if p.shape != y.shape:
        raise InputError(f"Residuals need as many predicted as true energies, got {len(p)} and {len(y)}.")
    error = p - y
    return {
        "n": len(error),
        "mae": float(np.abs(error).mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "bias": float(error.mean()),
        "quantiles": {f"{q:g}": float(np.quantile(error, q)) for q in RESIDUAL_QUANTILES},
    }


def _line(d: NDArray[np.float64], stable: NDArray[np.bool_]) -> dict[str, Any]:
    slope, intercept = _platt(d, stable)
    return {"slope": slope, "intercept": intercept, "range": [float(d.min()), float(d.max())]}


def _on_line(d: ArrayLike, line: Mapping[str, Any]) -> NDArray[np.float64]:
    # Outside of what was seen the logistic would state certainties that no row supports.
    low, high = line["range"]
    return np.asarray(_sigmoid(line["slope"] * np.clip(d, low, high) + line["intercept"]))


def _platt(d: NDArray[np.float64], stable: NDArray[np.bool_]) -> tuple[float, float]:
    """Maximum likelihood of Platt's smoothed targets by a damped Newton iteration; slope and intercept."""
    n_stable, n = int(stable.sum()), len(stable)
    target = np.where(stable, (n_stable + 1.0) / (n_stable + 2.0), 1.0 / (n - n_stable + 2.0))
    centre, spread = float(d.mean()), float(d.std())
    prior = math.log((n_stable + 1.0) / (n - n_stable + 1.0))
    if spread <= 1e-12:
        return 0.0, prior
    x = np.stack([(d - centre) / spread, np.ones(n)])
    theta = np.array([0.0, prior])
    loss = _loss(theta, x, target)
    for _ in range(100):
        p = _sigmoid(theta @ x)
        gradient = x @ (p - target)
        if np.abs(gradient).max() < 1e-9 * n:
            break
        step = np.linalg.solve((x * (p * (1.0 - p))) @ x.T + 1e-12 * np.eye(2), gradient)
        scale = 1.0
        while (trial := _loss(theta - scale * step, x, target)) > loss and scale > 1e-10:
            scale /= 2.0
        theta, loss = theta - scale * step, min(trial, loss)
    if theta[0] >= 0.0:
        # A prediction that says nothing, or the contrary: the honest monotone answer is the base rate.
        return 0.0, prior
    return float(theta[0] / spread), float(theta[1] - theta[0] * centre / spread)


def _loss(theta: NDArray[np.float64], x: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    z = theta @ x
    return float(np.sum(np.logaddexp(0.0, z) - target * z))


def _sigmoid(z: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore"):  # NaN in, NaN out
        return np.exp(-np.logaddexp(0.0, -z))


def _reliability(
    d: NDArray[np.float64], probability: NDArray[np.float64], stable: NDArray[np.bool_], n_bins: int
) -> list[dict[str, float | int]]:
    """Stated against observed share of stable rows in bins of (nearly) equal counts along the predicted energy."""
    order = np.argsort(d, kind="stable")
    table: list[dict[str, float | int]] = []
    for rows in np.array_split(order, min(n_bins, len(d))):
        n, observed = len(rows), float(stable[rows].mean())
        low, high = wilson(observed, n)
        table.append(
            {
                "low": float(d[rows[0]]),
                "high": float(d[rows[-1]]),
                "n": n,
                "stated": float(probability[rows].mean()),
                "observed": observed,
                "observed_low": low,
                "observed_high": high,
            }
        )
    return table


def wilson(share: float, n: int, z: float = 1.959963984540054) -> tuple[float, float]:
    """95 % score interval of a share seen in n trials: E. B. Wilson, J. Am. Stat. Assoc. 22, 209 (1927).

    Parameters
    ----------
    share
        Observed share, 0 to 1.
    n
        Trials, at least 1.
    z
        Half width in standard deviations of the normal distribution; 1.96 for 95 %.

    Returns
    -------
    tuple of float
        Lower and upper end, within 0 to 1.
    """
    denominator = 1.0 + z * z / n
    centre = (share + z * z / (2 * n)) / denominator
    half = z / denominator * math.sqrt(share * (1.0 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def _vector(values: ArrayLike, what: str) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0:
        raise InputError(f"The {what} energies must be a vector with at least one row, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InputError(f"The {what} energies hold NaN or infinite values: drop those rows first.")
    return array
