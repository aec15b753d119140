"""Classical baselines by name: what a network has to beat on the same rows.

They are scikit-learn estimators, evaluated in the run that fits them and never saved: storing them would take pickle.
Settings are fixed beforehand, not searched for, and sized for tables of 1e5 rows with 145 columns on one core.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
import sklearn
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LinearRegression, LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVR

from models.errors import InputError

TASKS: Final = ("regression", "classification")

SVR_ROWS: Final = 10_000
"""Rows that the support-vector baseline is fitted on at most: libsvm takes more than quadratic time in them."""


@dataclass(frozen=True)
class Baseline:
    """A named baseline.

    Attributes
    ----------
    estimators
        Task -> class of the scikit-learn estimator.
    settings
        Task -> its settings where they are not scikit-learn's.
    standardised
        Whether constant columns are left out and the others brought to zero mean and unit variance first. Trees do
        not care.
    """

    estimators: Mapping[str, Callable[..., Any]]
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    standardised: bool = False


BASELINES: Final[dict[str, Baseline]] = {
    "linear": Baseline({"regression": LinearRegression}, standardised=True),
    "ridge": Baseline({"regression": Ridge}, {"regression": {"alpha": 1.0}}, standardised=True),
    "random_forest": Baseline(
        {"regression": RandomForestRegressor, "classification": RandomForestClassifier},
        {
            "regression": {"n_estimators": 100, "max_features": 0.33, "min_samples_split": 5, "min_samples_leaf": 1},
            "classification": {"n_estimators": 100, "max_features": "sqrt", "min_samples_leaf": 1},
        },
    ),
    "gradient_boosting": Baseline(
        {"regression": HistGradientBoostingRegressor, "classification": HistGradientBoostingClassifier},
        {
            task: {"max_iter": 500, "learning_rate": 0.1, "max_leaf_nodes": 31, "early_stopping": False}
            for task in TASKS
        },
    ),
    "svr": Baseline(
        {"regression": SVR},
        {"regression": {"kernel": "rbf", "gamma": "scale", "C": 10.0, "epsilon": 0.05, "max_rows": SVR_ROWS}},
        standardised=True,
    ),
    "logistic": Baseline(
        {"classification": LogisticRegression}, {"classification": {"C": 1.0, "max_iter": 1000}}, standardised=True
    ),
}
"""Name -> baseline.

* ``random_forest``, bootstrapped: the tree count, the third of the columns and the smallest split are grid points of
  the thesis's searches (§3.2.4, §4.4.1.4); a third of the columns for regression and the square root of their number
  for classification are Breiman's defaults (Hastie et al., The Elements of Statistical Learning, 2nd ed., §15.3).
* ``gradient_boosting``: leaves and rate are the defaults of scikit-learn and of LightGBM (Ke et al., NIPS 2017), which
  it follows; a fixed number of trees instead of early stopping, so that every row is learned from at any table size.
* ``svr``: target standardised too, so C and epsilon are in its standard deviations; gamma is 1 over the number of
  columns.
* ``ridge``, ``logistic``: scikit-learn's penalties, on standardised columns; at 1e5 rows they settle collinearity only.
"""


@dataclass(frozen=True)
class FittedBaseline:
    """A baseline fitted to a table.

    Attributes
    ----------
    name, task, seed, settings
        What it was made of; see `make_baseline`.
    estimator
        The fitted scikit-learn estimator.
    n_rows, n_features
        Shape of the training table.
    n_fitted
        Rows actually fitted, fewer where the baseline caps them.
    classes
        Labels in the order of the probabilities' columns; empty for regression.
    """

    name: str
    task: str
    seed: int
    settings: Mapping[str, Any]
    estimator: Any
    n_rows: int
    n_features: int
    n_fitted: int
    classes: tuple[Any, ...]

    def predict(self, x: ArrayLike) -> NDArray[np.float64]:
        """Predict rows (n, n_features).

        Returns
        -------
        ndarray, float64
            Regression: values (n,) in the unit of the target. Classification: probabilities (n, n_classes), columns
            in the order of `classes`.

        Raises
        ------
        InputError
            For another number of columns, or values that are not finite.
        """
        rows = _checked_rows(x)
        if rows.shape[1] != self.n_features:
            raise InputError(f"Baseline {self.name!r} was fitted to {self.n_features} columns, got {rows.shape[1]}.")
        is_regression = self.task == "regression"
        if len(rows) == 0:
            return np.empty(0 if is_regression else (0, len(self.classes)))
        values = self.estimator.predict(rows) if is_regression else self.estimator.predict_proba(rows)
        return np.asarray(values, dtype=np.float64)

    def description(self) -> dict[str, Any]:
        """Return what was fitted to what, JSON-able."""
        return {
            "name": self.name,
            "task": self.task,
            "library": f"scikit-learn {sklearn.__version__}",
            "settings": dict(self.settings),
            "seed": self.seed,
            "n_rows": self.n_rows,
            "n_fitted": self.n_fitted,
            "n_features": self.n_features,
            "classes": list(self.classes),
        }


class RowCap(RegressorMixin, BaseEstimator):  # type: ignore[misc]
    """A regressor that is fitted to a seeded sample of the rows.

    Parameters
    ----------
    estimator
        Regressor to fit a copy of.
    max_rows
        Rows to draw without replacement from a larger table; a smaller one is taken whole.
    random_state
        Seed of the draw, which depends on the order of the rows.
    """

    def __init__(self, estimator: Any, max_rows: int, random_state: int = 0) -> None:
        self.estimator = estimator
        self.max_rows = max_rows
        self.random_state = random_state

    def fit(self, x: NDArray[Any], y: NDArray[Any]) -> RowCap:
        """Fit a copy of the estimator, `estimator_`, to `n_rows_` rows."""
        self.n_rows_ = min(self.max_rows, len(x))
        if self.n_rows_ < len(x):
            drawn = np.sort(np.random.default_rng(self.random_state).choice(len(x), self.n_rows_, replace=False))
            x, y = x[drawn], y[drawn]
        self.estimator_ = clone(self.estimator).fit(x, y)
        return self

    def predict(self, x: NDArray[Any]) -> NDArray[np.float64]:
        """Values (n,) of the fitted estimator."""
        return np.asarray(self.estimator_.predict(x), dtype=np.float64)


def make_baseline(name: str, *, task: str = "regression", seed: int = 0, n_jobs: int = 1, **parameters: Any) -> Any:
    """Build an unfitted estimator, with ``fit`` and ``predict``.

    Parameters
    ----------
    name
        One of `BASELINES`.
    task
        One of `TASKS`; not every baseline has both.
    seed
        Of everything random: bootstrap, columns of a split, capped rows.
    n_jobs
        Threads that grow a forest, without effect on the result. Gradient boosting and linear algebra take theirs
        from ``OMP_NUM_THREADS``.
    parameters
        Settings of the scikit-learn estimator that replace those of `BASELINES`: numbers, texts, booleans or None.
        For ``svr`` also ``max_rows``.

    Raises
    ------
    InputError
        For an unknown name, task or setting.
    """
    settings = _settings(name, task, parameters)
    baseline = BASELINES[name]
    max_rows = settings.pop("max_rows", None)
    builder = baseline.estimators[task]
    own = builder().get_params()
    if name == "random_forest":
        settings["n_jobs"] = n_jobs
    if "random_state" in own:
        settings["random_state"] = seed
    estimator = builder(**settings)
    if name == "svr":
        estimator = TransformedTargetRegressor(estimator, transformer=StandardScaler())
    if baseline.standardised:
        # A column constant in training would be a distance to every support vector where a held-out row differs.
        estimator = make_pipeline(VarianceThreshold(), StandardScaler(), estimator)
    return estimator if max_rows is None else RowCap(estimator, max_rows, seed)


def fit_baseline(
    name: str,
    x: ArrayLike,
    y: ArrayLike,
    *,
    task: str = "regression",
    seed: int = 0,
    n_jobs: int = 1,
    **parameters: Any,
) -> FittedBaseline:
    """Fit a baseline to a table.

    Parameters
    ----------
    name, task, seed, n_jobs, parameters
        See `make_baseline`.
    x
        Rows (n, f), of at least one column that is not constant.
    y
        Values (n,) in any unit, or labels (n,): whole numbers, booleans or texts.

    Returns
    -------
    FittedBaseline

    Raises
    ------
    InputError
        For tables of the wrong shape, values that are not finite, a constant target, labels of one class, or settings
        that scikit-learn refuses.
    """
    estimator = make_baseline(name, task=task, seed=seed, n_jobs=n_jobs, **parameters)
    rows = _checked_rows(x)
    target = _checked_values(y, len(rows)) if task == "regression" else _checked_labels(y, len(rows))
    if len(rows) == 0 or not (rows != rows[0]).any():
        raise InputError(f"All {rows.shape[1]} columns of the {len(rows)} training rows are constant: check the split.")
    try:
        estimator.fit(rows, target)
    except ValueError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"Baseline {name!r} cannot be fitted with {parameters}: {reason}") from error
    if name == "random_forest":
        # Threads would add the trees up in the order in which they finish.
        estimator.set_params(n_jobs=1)
    return FittedBaseline(
        name=name,
        task=task,
        seed=seed,
        settings=_settings(name, task, parameters),
        estimator=estimator,
        n_rows=len(rows),
        n_features=rows.shape[1],
        n_fitted=estimator.n_rows_ if isinstance(estimator, RowCap) else len(rows),
        classes=() if task == "regression" else tuple(estimator.classes_.tolist()),
    )


def _settings(name: str, task: str, parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a baseline with the given ones in place."""
    if task not in TASKS:
        raise InputError(f"Unknown task {task!r}: choose one of {', '.join(TASKS)}.")
    possible = sorted(key for key, baseline in BASELINES.items() if task in baseline.estimators)
    if name not in possible:
        raise InputError(f"There is no baseline {name!r} for {task}: choose one of {', '.join(possible)}.")
    settings = dict(BASELINES[name].settings.get(task, {}))
    known = set(BASELINES[name].estimators[task]().get_params()) - {"n_jobs", "random_state"} | set(settings)
    for key, value in parameters.items():
        if key not in known:
            raise InputError(f"Baseline {name!r} has no setting {key!r}: choose from {', '.join(sorted(known))}.")
        if not isinstance(value, str | int | float | None) or (isinstance(value, float) and not math.isfinite(value)):
            raise InputError(f"Setting {key!r} of baseline {name!r} must be a number, text or boolean, got {value!r}.")
    max_rows = parameters.get("max_rows", SVR_ROWS)
    if not isinstance(max_rows, int) or max_rows < 2:
        raise InputError(f"Setting 'max_rows' of baseline {name!r} must be a whole number from 2 on, got {max_rows!r}.")
    return settings | dict(parameters)


def _checked_rows(x: ArrayLike) -> NDArray[np.float64]:
    rows = np.asarray(x, dtype=np.float64)
    if rows.ndim != 2 or rows.shape[1] == 0:
        raise InputError(f"A baseline takes rows (n, f) of at least one column, got shape {rows.shape}.")
    if not np.isfinite(rows).all():
        raise InputError("The features hold NaN or infinite values: clean the table.")
    return rows


def _checked_values(y: ArrayLike, n_rows: int) -> NDArray[np.float64]:
    values = np.asarray(y, dtype=np.float64)
    if values.shape != (n_rows,):
        raise InputError(f"A baseline takes one target per row ({n_rows},), got shape {values.shape}.")
    if not np.isfinite(values).all():
        raise InputError("The target holds NaN or infinite values: clean the table.")
    if n_rows and values.min() == values.max():
        raise InputError(f"The target is constant ({values[0]:g}): there is nothing to learn; choose another column.")
    return values


def _checked_labels(y: ArrayLike, n_rows: int) -> NDArray[Any]:
    labels = np.asarray(y)
    if labels.shape != (n_rows,):
        raise InputError(f"A baseline takes one label per row ({n_rows},), got shape {labels.shape}.")
    if labels.dtype.kind == "O":
        if not all(isinstance(label, str) for label in labels):
            raise InputError("Labels must be all texts, all whole numbers or all booleans: fill or drop missing ones.")
        labels = labels.astype(np.str_)
    if labels.dtype.kind == "f":
        if not (np.isfinite(labels).all() and (labels == np.round(labels)).all()):
            raise InputError("Labels hold NaN or fractions: classes are whole numbers, booleans or texts.")
        labels = labels.astype(np.int64)
    classes, counts = np.unique(labels, return_counts=True)
    if n_rows and len(classes) < 2:
        raise InputError(f"All labels are {classes[0]!s}: a classifier needs two classes; check the split.")
    if n_rows and counts.min() < 2:
        raise InputError(
            f"Class {classes[counts.argmin()]!s} has 1 training row: every class needs at least two; merge or leave "
            "out rare classes."
        )
    return labels
