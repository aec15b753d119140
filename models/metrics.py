"""How far predictions are from the truth: one dictionary for a table, one row per element for a map."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray

from models.elements import ELEMENTS
from models.errors import InputError

PERCENTILES: tuple[int, ...] = (50, 75, 90, 95, 99)
"""Percentiles of the absolute error that are reported."""


def regression_metrics(truth: ArrayLike, prediction: ArrayLike, *, zero: float = 1e-3) -> dict[str, float | int | None]:
    """Error statistics of a prediction.

    Parameters
    ----------
    truth, prediction
        Values of shape (n,), in one unit.
    zero
        Rows whose true value is smaller than this in magnitude are left out of the relative error, which they would
        dominate without meaning anything; in the unit of the values.

    Returns
    -------
    dict
        ``n``; ``mae``, ``rmse``, ``bias`` (mean of prediction minus truth) and the percentiles ``p50`` ... ``p99`` and
        ``max`` of the absolute error in the unit of the values; ``r2`` = 1 - sum of squares / total (None where the
        truth is constant); ``mape`` in percent over ``n_mape`` rows (None where there is none).

    Raises
    ------
    InputError
        If the shapes differ, nothing is given or a value is not finite.
    """
    y, p = _checked(truth, prediction)
    error = p - y
    absolute = np.abs(error)
    total = float(np.sum((y - y.mean()) ** 2))
    relative = np.abs(y) >= zero
    result: dict[str, float | int | None] = {
        "n": len(y),
        "mae": float(absolute.mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "bias": float(error.mean()),
        "r2": 1.0 - float(np.sum(error**2)) / total if total > 0 else None,
        "mape": float(100.0 * np.mean(absolute[relative] / np.abs(y[relative]))) if relative.any() else None,
        "n_mape": int(relative.sum()),
    }
    result |= {f"p{q}": float(np.percentile(absolute, q)) for q in PERCENTILES}
    return result | {"max": float(absolute.max())}


def classification_metrics(labels: ArrayLike, probability: ArrayLike) -> dict[str, float | int | None]:
    """Quality of the predicted probability of one of two classes.

    Parameters
    ----------
    labels
        0 or 1, shape (n,).
    probability
        Predicted probability of 1, shape (n,); 0.5 and above count as 1.

    Returns
    -------
    dict
        ``n``, ``n_positive``, ``accuracy``, ``balanced_accuracy``, ``precision``, ``recall``, ``f1``, ``auc`` (area
        under the receiver operating characteristic, ties by half), ``log_loss`` (natural logarithm, probabilities held
        1e-7 away from 0 and 1) and ``brier``; None for what needs a class that does not occur.

    Raises
    ------
    InputError
        If the shapes differ, nothing is given, or a value is outside 0 to 1.
    """
    y, p = _checked(labels, probability)
    if not np.isin(y, (0, 1)).all() or p.min() < 0 or p.max() > 1:
        raise InputError("Classes must be 0 or 1, and probabilities between 0 and 1: number the classes first.")
    said, is_one = p >= 0.5, y == 1
    hits, n_one, n_said = int((said & is_one).sum()), int(is_one.sum()), int(said.sum())
    n_zero = len(y) - n_one
    recall = hits / n_one if n_one else None
    specificity = (n_zero - (n_said - hits)) / n_zero if n_zero else None
    safe = np.clip(p, 1e-7, 1.0 - 1e-7)
    ranks = scipy.stats.rankdata(p)
    area = (float(ranks[is_one].sum()) - n_one * (n_one + 1) / 2) / (n_one * n_zero) if n_one and n_zero else None
    return {
        "n": len(y),
        "n_positive": n_one,
        "accuracy": float((said == is_one).mean()),
        "balanced_accuracy": (recall + specificity) / 2 if recall is not None and specificity is not None else None,
        "precision": hits / n_said if n_said else None,
        "recall": recall,
        "f1": 2 * hits / (n_one + n_said) if n_one + n_said else None,
        "auc": area,
        "log_loss": float(-np.mean(np.where(is_one, np.log(safe), np.log1p(-safe)))),
        "brier": float(np.mean((p - y) ** 2)),
    }


def per_element_errors(
    fractions: NDArray[np.floating], truth: ArrayLike, prediction: ArrayLike, elements: Sequence[str] = ELEMENTS
) -> pd.DataFrame:
    """Mean absolute error over the compounds that contain each element.

    Parameters
    ----------
    fractions
        Element fractions (n, len(elements)), dimensionless.
    truth, prediction
        Values of shape (n,), in one unit.
    elements
        Symbols of the columns.

    Returns
    -------
    pandas.DataFrame
        Columns ``element``, ``n`` (rows that contain it), ``mae`` and ``bias`` in the unit of the values; elements
        without a row are left out.
    """
    y, p = _checked(truth, prediction)
    if np.shape(fractions) != (len(y), len(elements)):
        raise InputError(f"Element fractions must have shape {(len(y), len(elements))}, got {np.shape(fractions)}.")
    present = (np.asarray(fractions) > 0).astype(np.float64)
    n = present.sum(axis=0).astype(np.int64)
    some = n > 0
    return pd.DataFrame(
        {
            "element": np.asarray(elements, dtype=object)[some],
            "n": n[some],
            "mae": (np.abs(p - y) @ present)[some] / n[some],
            "bias": ((p - y) @ present)[some] / n[some],
        }
    )


def _checked(truth: ArrayLike, prediction: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    y, p = np.asarray(truth, dtype=np.float64), np.asarray(prediction, dtype=np.float64)
    if y.ndim != 1 or y.shape != p.shape:
        raise InputError(f"Truth and prediction must be vectors of one length, got shapes {y.shape} and {p.shape}.")
    if len(y) == 0:
        raise InputError("No rows to compute an error from: check the split and the filters.")
    if not (np.isfinite(y).all() and np.isfinite(p).all()):
        raise InputError("Truth or prediction holds NaN or infinite values: drop those rows first.")
    return y, p
