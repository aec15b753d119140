"""Linear probes: whether a layer knows a property that nobody asked the network for.

A logistic regression reads the property off the activations of one layer. Chemical systems are either learnt from or
tested on as a whole, and the area under the receiver operating characteristic on the tested ones says how much the
layer knows. The dissertation probes magnetic against non-magnetic compounds this way (section 5.3.8, Figure 5.9).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import expit
from sklearn.linear_model import LogisticRegression

from models.categories import holds
from models.charge_balance import applies, is_neutral
from models.cleaning import system_draw
from models.elements import ALKALI_METALS, HALOGENS, TRANSITION_METALS_3D
from models.errors import InputError
from models.formula import ParsedFormulas

MAGNETIC_3D: Final[tuple[str, ...]] = ("Cr", "Mn", "Fe", "Co", "Ni")
"""3d metals whose compounds commonly order magnetically."""

PROPERTIES: Final[dict[str, str]] = {
    "charge_balanced": "integer oxidation states can balance (only compounds with a typical non-metal)",
    "halogen": "contains F, Cl, Br or I",
    "oxygen": "contains O",
    "alkali": "contains Li, Na, K, Rb or Cs",
    "transition_3d": "contains one of Sc to Zn",
    "magnetic_3d": "contains Cr, Mn, Fe, Co or Ni",
}
"""Properties that follow from a composition, and what they say."""

_HOLDS: Final[dict[str, tuple[str, ...]]] = {
    "halogen": HALOGENS,
    "oxygen": ("O",),
    "alkali": ALKALI_METALS,
    "transition_3d": TRANSITION_METALS_3D,
    "magnetic_3d": MAGNETIC_3D,
}
_MAX_ITERATIONS: Final = 10_000


@dataclass(frozen=True)
class RocCurve:
    """Receiver operating characteristic.

    Attributes
    ----------
    false_positive_rate, true_positive_rate : ndarray, shape (m,)
        Shares of the negatives and of the positives with a score at or above each threshold, from 0 to 1.
    thresholds : ndarray, shape (m,)
        Different scores, descending, after infinity for the point (0, 0).
    """

    false_positive_rate: NDArray[np.float64]
    true_positive_rate: NDArray[np.float64]
    thresholds: NDArray[np.float64]

    @property
    def auc(self) -> float:
        """Area under the curve: the chance that a positive scores above a negative, ties counted as a half."""
        x, y = self.false_positive_rate, self.true_positive_rate
        return float((np.diff(x) * (y[1:] + y[:-1])).sum() / 2.0)


@dataclass(frozen=True)
class LogisticProbe:
    """A fitted logistic regression on standardised activations.

    Attributes
    ----------
    mean, scale : ndarray, shape (w,)
        Of the rows it was fitted to; a unit that never varies has the scale 1.
    weights : ndarray, shape (w,)
        Per standard deviation of a unit.
    intercept : float
    """

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]
    weights: NDArray[np.float64]
    intercept: float

    def scores(self, activations: NDArray[np.floating]) -> NDArray[np.float64]:
        """Log odds of the property, (n, w) to (n,)."""
        table = np.asarray(activations, dtype=np.float64)
        return np.asarray((table - self.mean) / self.scale @ self.weights + self.intercept)

    def probabilities(self, activations: NDArray[np.floating]) -> NDArray[np.float64]:
        """Probability of the property, (n, w) to (n,)."""
        return np.asarray(expit(self.scores(activations)))


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found on the tested chemical systems.

    Attributes
    ----------
    roc : RocCurve
    auc, auc_error : float
        Area under it, and its standard error (`auc_error`).
    n_train, n_test, train_positives, test_positives : int
        Rows, and how many have the property.
    """

    roc: RocCurve
    auc: float
    auc_error: float
    n_train: int
    n_test: int
    train_positives: int
    test_positives: int


def property_labels(name: str, parsed: ParsedFormulas) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether compositions have a property.

    Parameters
    ----------
    name : str
        One of `PROPERTIES`.
    parsed : ParsedFormulas
        n compositions.

    Returns
    -------
    labels : ndarray of bool, shape (n,)
        Which have it.
    applies : ndarray of bool, shape (n,)
        To which it applies: charge balance says nothing of intermetallics, whose metals have positive states alone.

    Raises
    ------
    InputError
        For an unknown property.
    """
    if name not in PROPERTIES:
        raise InputError(f"unknown property {name!r}; take one of {', '.join(PROPERTIES)}")
    if name == "charge_balanced":
        return is_neutral(parsed.elements, parsed.amounts), applies(parsed.elements)
    return holds(parsed.elements, _HOLDS[name]), np.ones(len(parsed), dtype=np.bool_)


def held_out_systems(systems: Sequence[str], share: float = 0.3, seed: int = 0) -> NDArray[np.bool_]:
    """Whether each row's chemical system is tested on, shape (n,): about a share of all systems, drawn by name.

    Raises
    ------
    InputError
        When the share is not between 0 and 1.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"the share of tested systems must be between 0 and 1, not {share}")
    drawn = {system: system_draw(system, seed, "probe") < share for system in set(systems)}
    return np.array([drawn[system] for system in systems], dtype=np.bool_)


def obstacle(labels: NDArray[np.bool_], tested: NDArray[np.bool_]) -> str | None:
    """Return why a property cannot be probed on these rows; None where it can."""
    for part, name in ((labels[~tested], "learnt from"), (labels[tested], "tested on")):
        if part.sum() < 2 or (~part).sum() < 2:
            return f"of {len(part)} rows {name}, {int(part.sum())} have it; two of each kind are needed"
    return None


def probe(
    activations: NDArray[np.floating], labels: NDArray[np.bool_], tested: NDArray[np.bool_], penalty: float = 1e-3
) -> ProbeResult:
    """Fit a probe on the untested rows and judge it on the others.

    Parameters
    ----------
    activations : ndarray, shape (n, w)
        Of one layer.
    labels : ndarray of bool, shape (n,)
        Which rows have the property.
    tested : ndarray of bool, shape (n,)
        Rows of tested chemical systems, see `held_out_systems`.
    penalty : float
        See `fit_probe`.

    Raises
    ------
    InputError
        When the shapes do not fit, or one of the parts has fewer than two rows of a kind.
    """
    labels, tested = np.asarray(labels, dtype=np.bool_), np.asarray(tested, dtype=np.bool_)
    if np.ndim(activations) != 2 or labels.shape != (len(activations),) or tested.shape != labels.shape:
        raise InputError(
            f"a probe needs activations (n, w) with n labels and n flags, got {np.shape(activations)}, "
            f"{labels.shape} and {tested.shape}"
        )
    reason = obstacle(labels, tested)
    if reason is not None:
        raise InputError(f"the property cannot be probed: {reason}; give more rows or another seed")
    fitted = fit_probe(activations[~tested], labels[~tested], penalty)
    roc = roc_curve(labels[tested], fitted.scores(activations[tested]))
    positives = int(labels[tested].sum())
    return ProbeResult(
        roc,
        roc.auc,
        auc_error(roc.auc, positives, int(tested.sum()) - positives),
        int((~tested).sum()),
        int(tested.sum()),
        int(labels[~tested].sum()),
        positives,
    )


def fit_probe(activations: NDArray[np.floating], labels: NDArray[np.bool_], penalty: float = 1e-3) -> LogisticProbe:
    """Logistic regression on standardised activations.

    Parameters
    ----------
    activations : ndarray, shape (n, w)
    labels : ndarray of bool, shape (n,)
        Both kinds must occur.
    penalty : float
        The weights minimise the mean logistic loss plus ``penalty / 2 * weights @ weights``; the intercept is free.

    Raises
    ------
    InputError
        For a penalty that is not positive, activations that are not finite, one kind of label only, or a fit that does
        not converge.
    """
    table, labels = np.array(activations, dtype=np.float64), np.asarray(labels, dtype=np.bool_)
    if not penalty > 0.0:
        raise InputError(f"a probe's penalty must be positive, not {penalty}")
    if not np.isfinite(table).all():
        raise InputError("the activations hold NaN or infinite values; train the network again")
    if labels.all() or not labels.any():
        raise InputError("a probe needs rows with and without the property; give other rows")
    mean, scale = table.mean(axis=0), table.std(axis=0)
    dead = scale <= 1e-7 * np.abs(table).max(axis=0)
    # the mean of equal numbers need not be that number
    mean[dead], scale[dead] = table[0, dead], 1.0
    table -= mean
    table /= scale
    regression = LogisticRegression(C=1.0 / (penalty * len(table)), tol=1e-6, max_iter=_MAX_ITERATIONS)
    regression.fit(table, labels)
    if regression.n_iter_[0] >= _MAX_ITERATIONS:
        raise InputError(f"the probe did not converge in {_MAX_ITERATIONS:,} steps; take a larger penalty")
    return LogisticProbe(mean, scale, np.asarray(regression.coef_[0]), float(regression.intercept_[0]))


def roc_curve(truth: ArrayLike, scores: ArrayLike) -> RocCurve:
    """Receiver operating characteristic of scores, one point per different score.

    Parameters
    ----------
    truth : array_like of bool, shape (n,)
        Which rows are positive.
    scores : array_like, shape (n,)
        Higher for what is taken for positive.

    Raises
    ------
    InputError
        When lengths differ, a score is not finite, or there are no positives or no negatives.
    """
    positive, values = np.asarray(truth, dtype=np.bool_), np.asarray(scores, dtype=np.float64)
    if positive.ndim != 1 or positive.shape != values.shape or not np.isfinite(values).all():
        raise InputError(f"a ROC curve needs as many finite scores as labels, got {values.shape} and {positive.shape}")
    if positive.all() or not positive.any():
        raise InputError("a ROC curve needs positives and negatives; give other rows")
    order = np.argsort(-values, kind="stable")
    ranked = values[order]
    last = np.append(np.flatnonzero(np.diff(ranked) != 0.0), len(ranked) - 1)  # of each run of equal scores
    hits = np.cumsum(positive[order])[last]
    return RocCurve(
        np.concatenate([[0.0], (last + 1 - hits) / (~positive).sum()]),
        np.concatenate([[0.0], hits / positive.sum()]),
        np.concatenate([[np.inf], ranked[last]]),
    )


def auc_error(auc: float, n_positive: int, n_negative: int) -> float:
    """Return the standard error of an area under a ROC curve for independent rows.

    Hanley & McNeil, Radiology 143, 29 (1982), equation 1, with their exponential model for Q1 and Q2. Compounds of one
    chemical system are not independent: read it as a lower bound.
    """
    q1, q2 = auc / (2.0 - auc), 2.0 * auc**2 / (1.0 + auc)
    variance = auc * (1.0 - auc) + (n_positive - 1) * (q1 - auc**2) + (n_negative - 1) * (q2 - auc**2)
    return float(np.sqrt(max(variance, 0.0) / (n_positive * n_negative)))
