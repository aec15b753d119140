"""Would a calibration that knows the held-out compounds state better probabilities? A comparison out of sample.

The product's calibration is fitted on rows of the training side. A back-test knows the truth of compounds that were
held out, so a second calibration can be fitted on those. Half of the held-out groups fit it, the other half measures
it, and the other way round, so that every row is measured once by a calibration that has not seen its group.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.backtest import Judged, reliability
from models.errors import InputError
from models.stability import fit_probability, probability_stable

CALIBRATIONS: Final = ("stated", "held_out_rows")
"""Calibrations that are compared: the one that was stated, and one refitted on held-out rows."""


def compare_calibrations(
    rows: Judged, half: NDArray[np.bool_], thresholds: Sequence[float], n_bins: int = 10
) -> dict[str, Any]:
    """Compare calibrations among the compounds selected at each threshold.

    Parameters
    ----------
    rows : Judged
        n held-out compounds.
    half : ndarray, shape (n,), bool
        Which half a row is in; whole groups (pairs of elements or chemical systems) share a half.
    thresholds : sequence of float
        Predicted decomposition energies at or below which compounds are selected, eV/atom; 0 is added.
    n_bins : int
        Bins of the calibration error.

    Returns
    -------
    dict
        ``halves`` (rows of each); ``fits``: the two refitted calibrations, without their tables (``method`` is
        ``none`` with a reason where a half has too few rows of a class); ``thresholds``: per threshold, for each of
        `CALIBRATIONS`, what `models.backtest.reliability` says of it, without the bins.

    Raises
    ------
    InputError
        If the halves are not of the rows' length.
    """
    if half.shape != rows.predicted.shape:
        raise InputError(f"{len(rows)} rows need as many halves, not {half.shape}")
    stable = rows.hits("stable", 0.0)
    refitted = np.full(len(rows), np.nan)
    fits = []
    for measured in (half, ~half):
        fit = _fit(rows.predicted[~measured], rows.true[~measured])
        refitted[measured] = probability_stable(rows.predicted[measured], fit)
        fits.append({key: value for key, value in fit.items() if key != "reliability"})
    stated = {"stated": rows.probability, "held_out_rows": refitted}
    compared = []
    for threshold in (0.0, *thresholds):
        selected = rows.predicted <= threshold
        entry: dict[str, Any] = {"threshold": float(threshold), "selected": int(selected.sum())}
        for name in CALIBRATIONS:
            entry[name] = reliability(stated[name][selected], stable[selected], n_bins)
            del entry[name]["bins"]
        compared.append(entry)
    return {"halves": [int((~half).sum()), int(half.sum())], "fits": fits, "thresholds": compared}


def _fit(predicted: NDArray[np.float64], true: NDArray[np.float64]) -> dict[str, Any]:
    if len(predicted) == 0:
        return {"method": "none", "n": 0, "n_stable": 0, "reason": "no rows"}
    return fit_probability(predicted, true)
