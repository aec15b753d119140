"""Several models measured on the same folds: their errors with intervals, and whether the differences mean anything."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.significance import corrected_t_test, holm, mean_interval, paired_rows, rank_correlation


@dataclass(frozen=True)
class Measured:
    """One model on one fold.

    Attributes
    ----------
    entry, seed, fold, size
        What was trained, its seed, the fold, and how many of the fold's rows were asked for (None: all).
    n_train
        Rows that were learnt from.
    row, error
        Rows that were measured (m,), and prediction minus truth (m,); for classes the squared difference of probability
        and outcome, and "mean absolute error" here is the Brier score.
    groups
        Chemical system of each row.
    by_element
        Mean absolute error by element; empty for classes.
    """

    entry: str
    seed: int
    fold: str
    size: int | None
    n_train: int
    row: NDArray[np.int64]
    error: NDArray[np.float64]
    groups: NDArray[np.str_]
    by_element: Mapping[str, float]

    @property
    def mae(self) -> float:
        """Mean absolute error."""
        return float(np.abs(self.error).mean())


def summarise(measured: Sequence[Measured]) -> list[dict[str, Any]]:
    """Mean absolute error of every model (and size), over its folds and seeds.

    Returns
    -------
    list of dict
        ``entry``, ``size``, ``n_train`` (mean), ``n_folds``, ``n_seeds``; ``mae`` (mean over folds and seeds) with the
        95 % interval ``low`` and ``high`` of Student's t over the seeds' means, where there are several and they
        differ, else over the folds (None for a single fold); ``runs`` that went into it.
    """
    table = []
    for entry, size in dict.fromkeys((one.entry, one.size) for one in measured):
        mine = [one for one in measured if (one.entry, one.size) == (entry, size)]
        seeds = sorted({one.seed for one in mine})
        by_seed = [float(np.mean([one.mae for one in mine if one.seed == seed])) for seed in seeds]
        folds = dict.fromkeys(one.fold for one in mine)
        by_fold = [float(np.mean([one.mae for one in mine if one.fold == fold])) for fold in folds]
        samples = by_seed if len(set(by_seed)) > 1 else by_fold  # what is fitted without chance is no surer for it
        mean = float(np.mean([one.mae for one in mine]))
        low, high = mean_interval(samples)[1:] if len(samples) > 1 else (None, None)
        table.append(
            {
                "entry": entry, "size": size, "n_train": round(float(np.mean([one.n_train for one in mine]))),
                "n_folds": len(folds), "n_seeds": len(seeds),
                "mae": mean, "low": low, "high": high,
                "runs": [{"seed": one.seed, "fold": one.fold, "mae": one.mae} for one in mine],
            }
        )  # fmt: skip
    return table


def compare(measured: Sequence[Measured], seed: int = 0) -> list[dict[str, Any]]:
    """Difference in mean absolute error of every pair of models that learnt from the same rows.

    Returns
    -------
    list of dict
        ``first``, ``second``, ``size``; ``difference`` (first minus second; negative: first is better) with its 95 %
        interval from resampled chemical systems and ``p_value`` (None and 1 where there is a single system), and
        ``p_adjusted`` over all pairs (Holm); with three folds or more ``p_folds`` of the corrected resampled t test;
        ``better_folds`` of ``n_folds``; ``spearman`` of the errors by element and its p value. A model of several seeds
        counts with its mean absolute error over them.

    Raises
    ------
    InputError
        If two models were measured on different rows.
    """
    pairs: list[dict[str, Any]] = []
    for size in dict.fromkeys(one.size for one in measured):
        entries = list(dict.fromkeys(one.entry for one in measured if one.size == size))
        for first, second in combinations(entries, 2):
            sides = [[m for m in measured if m.size == size and m.entry == name] for name in (first, second)]
            pairs.append({"first": first, "second": second, "size": size} | _pair(sides[0], sides[1], seed))
    for pair, adjusted in zip(pairs, holm([pair["p_value"] for pair in pairs]) if pairs else (), strict=True):
        pair["p_adjusted"] = float(adjusted)
    return pairs


def _pair(first: Sequence[Measured], second: Sequence[Measured], seed: int) -> dict[str, Any]:
    folds = list(dict.fromkeys(one.fold for one in first))
    rows = [{one.fold: one.row for one in side} for side in (first, second)]
    alike = rows[0].keys() == rows[1].keys()
    if not (alike and all(np.array_equal(one.row, rows[0][one.fold]) for one in (*first, *second))):
        raise InputError(f"{first[0].entry} and {second[0].entry} were measured on different rows; use the same folds")
    groups = np.concatenate([next(one.groups for one in first if one.fold == fold) for fold in folds])
    errors = [_by_fold(side, folds) for side in (first, second)]
    one, other = (np.concatenate([side[fold] for fold in folds]) for side in errors)
    differences = [float(errors[0][fold].mean() - errors[1][fold].mean()) for fold in folds]
    found: dict[str, Any] = {"difference": float(np.mean(one - other)), "low": None, "high": None, "p_value": 1.0}
    if len(np.unique(groups)) > 1:
        paired = paired_rows(one, other, groups, seed=seed)
        found = {name: getattr(paired, name) for name in found}
    found |= {"n_folds": len(folds), "better_folds": sum(difference < 0 for difference in differences)}
    if len(folds) > 2 and len(set(differences)) > 1:
        n_test = float(np.mean([len(errors[0][fold]) for fold in folds]))
        n_train = float(np.mean([one.n_train for one in first]))
        found["p_folds"] = corrected_t_test(differences, n_train, n_test).p_value
    shared = [_elements(side) for side in (first, second)]
    names = sorted(set(shared[0]) & set(shared[1]))
    by_element = [[side[name] for name in names] for side in shared]
    if len(names) > 2 and all(len(set(values)) > 1 for values in by_element):
        rho, p = rank_correlation(*by_element)
        found |= {"spearman": rho, "spearman_p": p}
    return found


def _by_fold(side: Sequence[Measured], folds: Sequence[str]) -> dict[str, NDArray[np.float64]]:
    """Absolute errors on each fold's rows, the mean over seeds."""
    return {fold: np.mean([np.abs(one.error) for one in side if one.fold == fold], axis=0) for fold in folds}


def _elements(side: Sequence[Measured]) -> dict[str, float]:
    names = set.intersection(*(set(one.by_element) for one in side))
    return {name: float(np.mean([one.by_element[name] for one in side])) for name in names}
