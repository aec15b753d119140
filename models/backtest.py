"""Did the screen find what it says it finds? Metrics of predictions for compounds that were held out.

A held-out compound is judged as a candidate is: its predicted energy minus the hull of the phases that were left is
held against its true energy minus the same hull. Precision, recall, F1 and the discovery acceleration factor
(precision over prevalence: how many times more often a selected compound is stable than one taken blindly) follow
Riebesell et al., Matbench Discovery, arXiv:2308.14920. Shares carry 95 % Wilson intervals, which take the rows for
independent; compounds of one chemical system are not quite, so the precision also carries an interval over groups.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.categories import KINDS, holds, kind
from models.errors import InputError
from models.stability import wilson

THRESHOLDS: Final = (-0.05, -0.1, -0.2)
"""Predicted decomposition energies at or below which a compound is selected, eV/atom."""
TARGETS: Final = ("stable", "as_deep", "stable_among_all")
"""What a selected compound may turn out to be.

``stable``: on or below the hull of the training phases, which is what a candidate is held against. ``as_deep``: at or
below the threshold, as the prediction said. ``stable_among_all``: also on or below the hull of all other compounds, the
held-out ones among them, so that only one of several finds that exclude each other counts.
"""
FLUORIDE: Final = "fluoride"
ANION_CLASSES: Final = (*KINDS[: KINDS.index("halide")], FLUORIDE, *KINDS[KINDS.index("halide") :])
"""Classes of `anion_class`: the kinds of compound with the fluorides apart from the other halides."""
_SMALLEST_PROBABILITY: Final = 1e-6
_DRAWS: Final = 1000


def anion_class(elements: NDArray[np.integer]) -> NDArray[np.object_]:
    """Anion class of compositions.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.

    Returns
    -------
    ndarray, shape (n,), str
        One of `ANION_CLASSES`: see `models.categories.kind`; halides with fluorine are fluorides.
    """
    names = np.asarray(KINDS, dtype=object)[kind(elements)]
    names[(names == "halide") & holds(elements, ("F",))] = FLUORIDE
    return names


@dataclass(frozen=True)
class Judged:
    """Held-out compounds with what was said of them and what is true, each of shape (n,).

    Attributes
    ----------
    predicted
        Predicted energy minus the hull of the training phases, eV/atom.
    true
        True energy minus the same hull, eV/atom.
    true_among_all
        True energy minus the hull of all other compounds, held-out ones too, eV/atom.
    probability
        Stated probability of being stable; NaN where none is stated.
    """

    predicted: NDArray[np.float64]
    true: NDArray[np.float64]
    true_among_all: NDArray[np.float64]
    probability: NDArray[np.float64]

    def __post_init__(self) -> None:
        for field in fields(self):
            values = getattr(self, field.name)
            if values.shape != self.predicted.shape or values.ndim != 1:
                raise InputError(
                    f"{field.name} has the shape {values.shape}, not that of predicted; give equal lengths"
                )
            if field.name != "probability" and not np.isfinite(values).all():
                raise InputError(f"{field.name} holds NaN or infinite values; leave those rows out")

    def __len__(self) -> int:
        return len(self.predicted)

    def keep(self, rows: NDArray[np.bool_]) -> Judged:
        """Keep the rows of a mask (n,)."""
        return Judged(self.predicted[rows], self.true[rows], self.true_among_all[rows], self.probability[rows])

    def hits(self, target: str, threshold: float) -> NDArray[np.bool_]:
        """Whether each compound is what `TARGETS` names, shape (n,); the threshold in eV/atom."""
        if target == "stable":
            return self.true <= 0.0
        return self.true <= threshold if target == "as_deep" else self.true_among_all <= 0.0


def share(hits: int, n: int) -> dict[str, Any]:
    """Return a share with its 95 % Wilson interval: ``hits``, ``n``, ``share``, ``low``, ``high`` (None for n = 0)."""
    if n == 0:
        return {"hits": int(hits), "n": 0, "share": None, "low": None, "high": None}
    low, high = wilson(hits / n, n)
    return {"hits": int(hits), "n": int(n), "share": hits / n, "low": low, "high": high}


def discovery(selected: NDArray[np.bool_], hits: NDArray[np.bool_]) -> dict[str, Any]:
    """How well a selection finds what it looks for.

    Parameters
    ----------
    selected, hits : ndarray, shape (n,), bool
        What was selected, and what it should have been.

    Returns
    -------
    dict
        ``precision``, ``recall`` and ``prevalence`` as `share` gives them; ``acceleration`` (precision over prevalence)
        and ``f1`` (harmonic mean of precision and recall), None where they have no meaning.
    """
    both, n_selected, n_hits, n = int((selected & hits).sum()), int(selected.sum()), int(hits.sum()), len(hits)
    return {
        "precision": share(both, n_selected),
        "recall": share(both, n_hits),
        "prevalence": share(n_hits, n),
        "acceleration": (both / n_selected) / (n_hits / n) if n_selected and n_hits else None,
        "f1": 2.0 * both / (n_selected + n_hits) if n_selected + n_hits else None,
    }


def interval_over_groups(
    selected: NDArray[np.bool_], hits: NDArray[np.bool_], groups: NDArray[Any], seed: int = 0
) -> dict[str, Any]:
    """95 % interval of the precision when whole groups, not single rows, are what could have come out otherwise.

    Groups are drawn with replacement a thousand times (percentile bootstrap: B. Efron, Ann. Stat. 7, 1 (1979)).

    Parameters
    ----------
    selected, hits : ndarray, shape (n,), bool
        As for `discovery`.
    groups : ndarray, shape (n,)
        Label of each row's group.
    seed : int
        Of the draws.

    Returns
    -------
    dict
        ``groups`` (how many have a selected row), ``low`` and ``high`` (None with fewer than two groups).
    """
    names, code = np.unique(groups[selected], return_inverse=True)
    if len(names) < 2:
        return {"groups": len(names), "low": None, "high": None}
    n = np.bincount(code)
    found = np.bincount(code, weights=hits[selected])
    rng = np.random.default_rng(seed)
    even = np.full(len(names), 1.0 / len(names))
    draws = (rng.multinomial(len(names), even) for _ in range(_DRAWS))
    low, high = np.quantile([(draw @ found) / (draw @ n) for draw in draws], (0.025, 0.975))
    return {"groups": len(names), "low": float(low), "high": float(high)}


def energy_errors(rows: Judged) -> dict[str, Any]:
    """Errors of the predicted energies, eV/atom; the hull is the same on both sides and drops out.

    Returns
    -------
    dict
        ``n``, ``mae``, ``bias`` (mean of prediction minus truth) and ``median``; None where there is no row.
    """
    error = rows.predicted - rows.true
    if len(error) == 0:
        return {"n": 0, "mae": None, "bias": None, "median": None}
    return {
        "n": len(error),
        "mae": float(np.abs(error).mean()),
        "bias": float(error.mean()),
        "median": float(np.median(error)),
    }


def reliability(probability: NDArray[np.float64], stable: NDArray[np.bool_], n_bins: int = 10) -> dict[str, Any]:
    """Stated probabilities against what was observed.

    Parameters
    ----------
    probability : ndarray, shape (n,)
        Stated; rows with NaN are left out and counted.
    stable : ndarray, shape (n,), bool
        Observed.
    n_bins : int
        Bins of equal width from 0 to 1.

    Returns
    -------
    dict
        ``n``; ``n_without`` a probability; ``stated`` (mean) and ``observed`` (`share`); ``calibration_error``, the
        mean distance of observed from stated share over the bins, weighted with their rows (expected calibration
        error: Naeini et al., AAAI 2015); ``brier`` (mean squared distance: Brier, Mon. Weather Rev. 78, 1 (1950));
        ``log_loss`` in nats; ``bins`` with ``low``, ``high``, ``stated`` and ``observed`` of those that have rows.
        The means are None where there is no row.
    """
    some = np.isfinite(probability)
    p, y = probability[some], stable[some]
    result: dict[str, Any] = {"n": len(p), "n_without": int((~some).sum()), "observed": share(int(y.sum()), len(y))}
    if len(p) == 0:
        return result | {"stated": None, "calibration_error": None, "brier": None, "log_loss": None, "bins": []}
    number = np.minimum((p * n_bins).astype(np.int64), n_bins - 1)
    bins: list[dict[str, Any]] = []
    for code in np.unique(number):
        inside = number == code
        bins.append(
            {
                "low": float(code / n_bins),
                "high": float((code + 1) / n_bins),
                "stated": float(p[inside].mean()),
                "observed": share(int(y[inside].sum()), int(inside.sum())),
            }
        )
    clipped = np.clip(p, _SMALLEST_PROBABILITY, 1.0 - _SMALLEST_PROBABILITY)
    return result | {
        "stated": float(p.mean()),
        "calibration_error": sum(b["observed"]["n"] * abs(b["observed"]["share"] - b["stated"]) for b in bins) / len(p),
        "brier": float(np.mean((p - y) ** 2)),
        "log_loss": float(-np.mean(np.where(y, np.log(clipped), np.log1p(-clipped)))),
        "bins": bins,
    }


def at_threshold(rows: Judged, threshold: float, n_bins: int = 10) -> dict[str, Any]:
    """Judge the compounds predicted at or below a threshold (eV/atom).

    Returns
    -------
    dict
        ``threshold``, ``selected`` (how many), one entry of `discovery` per target of `TARGETS`, and ``errors``
        (`energy_errors`) and ``reliability`` of the probability of being stable among the selected.
    """
    selected = rows.predicted <= threshold
    chosen = rows.keep(selected)
    return {
        "threshold": float(threshold),
        "selected": int(selected.sum()),
        **{target: discovery(selected, rows.hits(target, threshold)) for target in TARGETS},
        "errors": energy_errors(chosen),
        "reliability": reliability(chosen.probability, chosen.hits("stable", threshold), n_bins),
    }


def judge(
    rows: Judged,
    labels: Mapping[str, NDArray[Any]],
    groups: NDArray[Any],
    thresholds: Sequence[float] = THRESHOLDS,
    n_bins: int = 10,
) -> dict[str, Any]:
    """Judge held-out compounds as a whole and by label.

    Parameters
    ----------
    rows : Judged
        n compounds.
    labels : mapping of str to ndarray, shape (n,)
        Labels of each way of telling compounds apart, such as ``arity``.
    groups : ndarray, shape (n,)
        What was held out together: a pair of elements or a chemical system.
    thresholds : sequence of float
        eV/atom.
    n_bins : int
        Bins of the reliability tables.

    Returns
    -------
    dict
        ``n``, ``errors``, ``reliability`` of all compounds, ``thresholds`` (a list of `at_threshold`, with the
        `interval_over_groups` of the precision for stable ones as ``over_groups``), and for every kind of label
        ``by_<name>``: the same for the compounds of each, without the reliability's bins and ``over_groups``.
    """

    def part(some: Judged) -> dict[str, Any]:
        return {
            "n": len(some),
            "errors": energy_errors(some),
            "reliability": reliability(some.probability, some.hits("stable", 0.0), n_bins),
            "thresholds": [at_threshold(some, threshold, n_bins) for threshold in thresholds],
        }

    result = part(rows)
    stable = rows.hits("stable", 0.0)
    for entry in result["thresholds"]:
        entry["over_groups"] = interval_over_groups(rows.predicted <= entry["threshold"], stable, groups)
    for name, of_rows in labels.items():
        parts = {str(label): part(rows.keep(of_rows == label)) for label in sorted(set(of_rows.tolist()))}
        for one in parts.values():
            for entry in (one, *one["thresholds"]):
                del entry["reliability"]["bins"]
        result[f"by_{name}"] = parts
    return result


def in_turn(
    rows: Judged, flags: Mapping[str, NDArray[np.bool_]], thresholds: Sequence[float] = THRESHOLDS
) -> list[dict[str, Any]]:
    """Count compounds before and after those with each flag are taken out, one flag after the other.

    Parameters
    ----------
    rows : Judged
        n compounds.
    flags : mapping of str to ndarray, shape (n,), bool
        In the order in which they are taken out.
    thresholds : sequence of float
        eV/atom.

    Returns
    -------
    list of dict
        First ``taken_out`` None, then each flag: ``n`` compounds left, ``stable`` among them, and per threshold
        ``selected`` and ``stable_selected``, the hits of the precision as `share` gives them.
    """
    left = np.ones(len(rows), dtype=np.bool_)
    steps = []
    for name, flag in [(None, ~left), *flags.items()]:
        left = left & ~flag
        some = rows.keep(left)
        stable = some.hits("stable", 0.0)
        chosen = [some.predicted <= threshold for threshold in thresholds]
        steps.append(
            {
                "taken_out": name,
                "n": len(some),
                "stable": int(stable.sum()),
                "thresholds": [
                    {
                        "threshold": float(threshold),
                        "selected": int(selected.sum()),
                        "stable_selected": share(int((selected & stable).sum()), int(selected.sum())),
                    }
                    for threshold, selected in zip(thresholds, chosen, strict=True)
                ],
            }
        )
    return steps
