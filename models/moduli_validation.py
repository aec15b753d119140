"""Cross-validation of moduli models over folds that keep a formula's crystals together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.crystal_graph import CrystalGraphs
from models.metrics import regression_metrics
from models.moduli import ModuliPredictor
from models.moduli_calibration import TARGETS, ensemble_spread
from models.moduli_members import train_members
from models.moduli_training import ModuliTraining

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class FoldResult:
    """Predictions of one fold by an ensemble that was trained on the others.

    Attributes
    ----------
    rows : ndarray, shape (m,)
        Rows of the fold.
    mean, spread : ndarray, shape (m, 2)
        Mean and spread of all predictions (zeros for a single one), log10(GPa).
    """

    rows: NDArray[np.int64]
    mean: FloatArray
    spread: FloatArray


def run_fold(
    graphs: CrystalGraphs,
    targets: FloatArray,
    folds: NDArray[np.int64],
    fold: int,
    parameters: ModuliTraining | None = None,
    *,
    n_members: int = 3,
    trainable: NDArray[np.bool_] | None = None,
) -> FoldResult:
    """Train on all folds but one and predict that one: a unit of work for a cluster.

    Parameters
    ----------
    graphs : CrystalGraphs
        n crystals.
    targets : ndarray, shape (n, 2)
        log10(GPa).
    folds : ndarray, shape (n,)
        From `grouped_folds`.
    fold : int
        The one to predict.
    parameters : ModuliTraining, optional
        Settings; member m takes seed + m.
    n_members : int
        Members.
    trainable : ndarray of bool, shape (n,), optional
        Rows that may be learned from; all are predicted.

    Returns
    -------
    FoldResult
        Predictions of the fold's rows.
    """
    settings = parameters or ModuliTraining()
    learned = np.flatnonzero((folds != fold) & (True if trainable is None else trainable))
    rows = np.flatnonzero(folds == fold)
    members = train_members(graphs.select(learned), targets[learned], settings, n_members)
    predictor = ModuliPredictor(
        settings.network().architecture(), members.normalisation, members.states, threads=settings.threads
    )
    predicted = predictor.predict_members(graphs.select(rows))
    spread = ensemble_spread(predicted)
    return FoldResult(rows, predictor.mean(predicted), np.zeros((len(rows), 2)) if spread is None else spread)


def fold_metrics(results: Sequence[FoldResult], targets: FloatArray) -> dict[str, Any]:
    """Errors of a cross-validation: per fold, their mean, and the residuals' standard deviation over all rows.

    Parameters
    ----------
    results : sequence of FoldResult
        All folds.
    targets : ndarray, shape (n, 2)
        log10(GPa).

    Returns
    -------
    dict
        Per target name ``folds`` (list of `regression_metrics`), ``rmse`` and ``mae`` (means over folds) and
        ``out_of_fold_residual_std``, all in log10(GPa).
    """
    report: dict[str, Any] = {}
    for k, name in enumerate(TARGETS):
        folds = [regression_metrics(targets[result.rows, k], result.mean[:, k]) for result in results]
        residual = np.concatenate([targets[result.rows, k] - result.mean[:, k] for result in results])
        means = {key: float(np.mean([float(fold[key] or 0.0) for fold in folds])) for key in ("rmse", "mae")}
        std = float(np.sqrt(np.mean(residual**2)))
        report[name] = {"folds": folds, **means, "out_of_fold_residual_std": std}
    return report
