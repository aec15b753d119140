"""Domain of applicability: how well the training rows support a composition, and the error to expect from it.

Three descriptors say where a composition lies: the fewest training rows of any of its elements, the fewest of any pair
of its elements, and the Euclidean distance of its atomic fractions to the nearest training composition (that of
`models.novelty`, 0 to sqrt(2)). `Applicability.score` orders compositions by them without knowing any error.
`fit_error` states what the descriptors are worth: errors fall as a power of the number of rows, the form of learning
curves in Hestness et al., arXiv:1712.00409, with exponents that are fitted on rows that did not train the network.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Final

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray

from models.best_per_system import ascending_columns
from models.elements import N_ELEMENTS
from models.errors import InputError
from models.nearest_composition import NearestComposition
from models.novelty import LIMITS

FloatArray = NDArray[np.float64]

DESCRIPTORS: Final = ("element_rows", "pair_rows", "distance")
HALF_ROWS: Final = 10
"""Training rows at which an element, or a pair, supports a composition half as much as it could; a convention."""
MIN_ROWS: Final = 50
"""Fewest rows from which an expected error is fitted."""
_LEVELS: Final = np.arange(1, 100) / 100


@dataclass(frozen=True, eq=False)
class Applicability:
    """Training compositions, as far as the domain of applicability asks for them.

    Attributes
    ----------
    n : int
        Training rows.
    pair_rows : ndarray, shape (86, 86), int64
        Training rows that contain both elements; on the diagonal those that contain the element.
    elements : ndarray, shape (m, k), int16
        Element columns of the m different training compositions, padded with -1.
    counts : ndarray, shape (m, k), int64
        Their coprime atom counts, padded with 0.
    """

    n: int
    pair_rows: NDArray[np.int64]
    elements: NDArray[np.int16]
    counts: NDArray[np.int64]

    @classmethod
    def fit(cls, elements: NDArray[np.integer], amounts: NDArray[np.integer]) -> Applicability:
        """Count the training rows; their order is of no account.

        Parameters
        ----------
        elements : ndarray, shape (n, k)
            Ascending indices into `models.elements.ELEMENTS`, padded with -1 at the end.
        amounts : ndarray, shape (n, k)
            Atom counts, whole numbers, padded with 0, as `models.formula.parse_many` gives them.

        Returns
        -------
        Applicability
            A composition that is listed several times counts as several rows.

        Raises
        ------
        InputError
            For no row, or arrays that are no compositions.
        """
        columns, counts = _checked(elements, amounts)
        if len(columns) == 0:
            raise InputError("no training rows to judge compositions by: give the table that trained the network")
        rows, places = np.nonzero(columns >= 0)
        ones = np.ones(len(rows), dtype=np.int64)
        present = scipy.sparse.csr_array((ones, (rows, columns[rows, places])), shape=(len(columns), N_ELEMENTS))
        coprime = counts // np.gcd.reduce(counts, axis=1, keepdims=True)
        different = np.unique(np.column_stack([columns.astype(np.int64), coprime]), axis=0)
        width = columns.shape[1]
        return cls(
            len(columns), (present.T @ present).toarray(), different[:, :width].astype(np.int16), different[:, width:]
        )

    def score(self, elements: NDArray[np.integer], amounts: NDArray[np.integer]) -> pd.DataFrame:
        """Descriptors and score of compositions.

        Parameters
        ----------
        elements, amounts : ndarray, shape (n, k)
            As in `fit`.

        Returns
        -------
        pandas.DataFrame
            n rows: ``element_rows`` and ``pair_rows`` (of a pure element: those of the element), ``distance`` and
            ``score`` = e / (e + h) * (p + 1) / (p + 1 + h) * (1 - distance / sqrt(2)) with e and p the two numbers of
            rows and h `HALF_ROWS`. It lies between 0 (an element that was never seen) and 1, orders compositions, is
            no probability, and never falls when training rows are added.

        Raises
        ------
        InputError
            For arrays that are no compositions.
        """
        columns, counts = _checked(elements, amounts)
        own = np.full(len(columns), np.iinfo(np.int64).max)
        pair = own.copy()
        for i, left in enumerate(columns.T):
            own = np.where(left >= 0, np.minimum(own, self.pair_rows[left, left]), own)
            for right in columns.T[i:]:
                pair = np.where(right >= 0, np.minimum(pair, self.pair_rows[left, right]), pair)
        distance = self.distance(columns, counts)
        known = own / (own + HALF_ROWS) * ((pair + 1) / (pair + 1 + HALF_ROWS))
        score = known * np.clip(1.0 - distance / math.sqrt(2.0), 0.0, 1.0)
        return pd.DataFrame({"element_rows": own, "pair_rows": pair, "distance": distance, "score": score})

    def distance(self, elements: NDArray[np.integer], amounts: NDArray[np.integer]) -> FloatArray:
        """Distance (n,) of compositions (as in `fit`) to the nearest training composition, exact, 0 to sqrt(2)."""
        return self._nearest.distance(*_checked(elements, amounts))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form; it lists every training composition."""
        arrays = {name: getattr(self, name).tolist() for name in ("pair_rows", "elements", "counts")}
        return {"n": self.n} | arrays

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Applicability:
        """Take back what `to_dict` gave; InputError where it is something else."""
        try:
            pairs = np.asarray(stored["pair_rows"], dtype=np.int64)
            columns, counts = _checked(np.asarray(stored["elements"]), np.asarray(stored["counts"]))
            n = int(stored["n"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the stored applicability cannot be read ({error}): fit it again") from error
        if pairs.shape != (N_ELEMENTS, N_ELEMENTS):
            raise InputError(f"the stored applicability counts pairs of {pairs.shape} elements: fit it again")
        return cls(n, pairs, columns, counts)

    @cached_property
    def _nearest(self) -> NearestComposition:
        return NearestComposition(self.elements, self.counts)


@dataclass(frozen=True)
class ExpectedError:
    """Absolute error expected from the descriptors: exp(intercept + weights . x), never falling with any of x.

    x = (-log(1 + element_rows), -log(1 + pair_rows), log(1 + distance / 0.01)).

    Attributes
    ----------
    intercept : float
        Logarithm of the error, in the unit of the errors.
    weights : tuple of float
        Exponents, not negative.
    quantiles : tuple of float
        Quantiles of |error| / expected error at 0.01, 0.02, ..., 0.99.
    mean : float
        Mean absolute error of the rows that were fitted, in the unit of the errors.
    n : int
        Rows.
    """

    intercept: float
    weights: tuple[float, float, float]
    quantiles: tuple[float, ...]
    mean: float
    n: int

    def expected(self, descriptors: pd.DataFrame | Mapping[str, ArrayLike]) -> FloatArray:
        """Absolute error (n,) to expect from the columns `DESCRIPTORS`, in the unit of the errors."""
        return np.asarray(np.exp(self.intercept + _features(descriptors) @ np.asarray(self.weights)))

    def relative(self, descriptors: pd.DataFrame | Mapping[str, ArrayLike]) -> FloatArray:
        """Absolute error (n,) to expect over the mean one of the fitted rows: 2 is twice as wrong as usual."""
        return self.expected(descriptors) / self.mean

    def quantile(self, descriptors: pd.DataFrame | Mapping[str, ArrayLike], probability: float) -> FloatArray:
        """Absolute error (n,) that is not exceeded with a probability from 0.01 to 0.99."""
        if not _LEVELS[0] <= probability <= _LEVELS[-1]:
            raise InputError(f"an error quantile needs a probability from 0.01 to 0.99, not {probability}")
        return self.expected(descriptors) * float(np.interp(probability, _LEVELS, self.quantiles))

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self) | {"weights": list(self.weights), "quantiles": list(self.quantiles)}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> ExpectedError:
        """Take back what `to_dict` gave; InputError where it is something else."""
        try:
            known = {name: stored[name] for name in cls.__dataclass_fields__}
            known |= {name: tuple(map(float, known[name])) for name in ("weights", "quantiles")}
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"the stored expected error cannot be read ({error}): fit it again") from error
        if len(known["weights"]) != len(DESCRIPTORS) or len(known["quantiles"]) != len(_LEVELS):
            raise InputError("the stored expected error has weights or quantiles of another form: fit it again")
        return cls(**known)


def fit_error(descriptors: pd.DataFrame | Mapping[str, ArrayLike], abs_error: ArrayLike) -> ExpectedError:
    """Fit the expected absolute error on rows that did not train the network.

    The loss, log(expected) + |error| / expected, is consistent for the mean (Gneiting, J. Am. Stat. Assoc. 106, 746
    (2011)) and convex in the parameters; weights below 0 would call more training rows a harm and are not allowed.

    Parameters
    ----------
    descriptors
        Columns `DESCRIPTORS`, n rows, from `Applicability.score`.
    abs_error
        Absolute errors (n,), not negative.

    Raises
    ------
    InputError
        For fewer than `MIN_ROWS` rows, unequal lengths, NaN, negative errors or errors that are all 0.
    """
    x, error = _features(descriptors), np.asarray(abs_error, dtype=np.float64)
    if error.shape != x.shape[:1] or len(error) < MIN_ROWS:
        raise InputError(f"{error.size} errors for {len(x)} rows; give one for each, and at least {MIN_ROWS} rows")
    if not (np.isfinite(error) & (error >= 0)).all() or error.max() == 0:
        raise InputError("absolute errors must be finite, not negative and not all 0: drop rows without a truth")
    order = np.lexsort((error, *x.T))
    x, error = x[order], error[order]
    mean = float(error.mean())
    centre, spread = x.mean(axis=0), x.std(axis=0)
    varied = spread > 1e-9
    z = np.where(varied, (x - centre) / np.where(varied, spread, 1.0), 0.0)

    def loss(theta: FloatArray) -> tuple[float, FloatArray]:
        log = theta[0] + z @ theta[1:]
        ratio = error / mean * np.exp(-log)
        slope = 1.0 - ratio
        return float(np.mean(log + ratio)), np.concatenate([[slope.mean()], slope @ z / len(z)])

    bounds = [(-5.0, 5.0), *[(0.0, 5.0)] * len(DESCRIPTORS)]
    theta = scipy.optimize.minimize(
        loss, x0=np.zeros(len(bounds)), jac=True, bounds=bounds, method="L-BFGS-B", tol=1e-12
    ).x
    weights = np.where(varied, theta[1:] / np.where(varied, spread, 1.0), 0.0)
    intercept = float(theta[0] + math.log(mean) - weights @ centre)
    ratio = error / np.exp(intercept + x @ weights)
    quantiles = np.quantile(ratio, _LEVELS, method="weibull")
    first, second, third = weights.tolist()
    return ExpectedError(intercept, (first, second, third), tuple(quantiles.tolist()), mean, len(error))


def worth_of_expectation(
    expected: ArrayLike, score: ArrayLike, abs_error: ArrayLike, *, n_bins: int = 10
) -> dict[str, Any]:
    """Measure what expected errors and scores (n,) say of absolute errors (n,) on rows that were not fitted.

    Returns
    -------
    dict
        JSON-able: ``n``; ``spearman_expected`` and ``spearman_score``, rank correlations with the absolute error (None
        where a side is constant); ``bins`` of (nearly) equal counts along the expected error, each with ``n``,
        ``expected`` and ``mae``, which should equal it. InputError for unequal lengths, no rows or NaN.
    """
    columns = [np.asarray(values, dtype=np.float64) for values in (expected, score, abs_error)]
    wanted, scores, size = columns
    if wanted.ndim != 1 or len(wanted) == 0 or not all(one.shape == wanted.shape for one in columns):
        raise InputError("expected errors, scores and errors must be columns of one length, with a row at least")
    if not all(np.isfinite(one).all() for one in columns):
        raise InputError("expected errors, scores and errors must be finite: drop rows without a truth")

    def rank(values: FloatArray) -> float | None:
        ordered = np.ptp(values) > 0 and np.ptp(size) > 0
        return float(scipy.stats.spearmanr(values, size).statistic) if ordered else None

    parts = np.array_split(np.lexsort((size, wanted)), min(n_bins, len(size)))
    bins = [{"n": len(rows), "expected": float(wanted[rows].mean()), "mae": float(size[rows].mean())} for rows in parts]
    return {"n": len(size), "spearman_expected": rank(wanted), "spearman_score": rank(scores), "bins": bins}


def _features(descriptors: pd.DataFrame | Mapping[str, ArrayLike]) -> FloatArray:
    lacking = [name for name in DESCRIPTORS if name not in descriptors]
    if lacking:
        raise InputError(f"the descriptors lack the column {lacking[0]}; take them from Applicability.score")
    own, pair, distance = (np.asarray(descriptors[name], dtype=np.float64) for name in DESCRIPTORS)
    if own.ndim != 1 or not own.shape == pair.shape == distance.shape:
        raise InputError("the descriptors must be columns of one length")
    values = np.column_stack([own, pair, distance])
    if not (np.isfinite(values) & (values >= 0)).all():
        raise InputError("the descriptors must be finite and not negative; take them from Applicability.score")
    nearness = LIMITS["within_1_percent"]
    return np.column_stack([-np.log1p(own), -np.log1p(pair), np.log1p(distance / nearness)])


def _checked(
    elements: NDArray[np.integer], amounts: NDArray[np.integer]
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    columns, counts = ascending_columns(elements), np.asarray(amounts)
    if counts.shape != columns.shape or columns.shape[1] == 0:
        raise InputError(f"compositions need elements and amounts of one shape (n, k), not {counts.shape}")
    if not np.issubdtype(counts.dtype, np.integer):
        raise InputError("amounts must be whole numbers of atoms, not fractions; parse the formulas to counts")
    if ((counts > 0) != (columns >= 0)).any() or (columns[:, 0] < 0).any():
        raise InputError("each element of a composition needs a positive count, and each composition an element")
    return columns, counts.astype(np.int64)
