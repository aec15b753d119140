"""Whether one network is better than another, or the difference is what chance gives.

Errors of compounds of one chemical system go together, and cross-validation folds share training rows, so neither rows
nor folds are independent samples. The tests here take that into account: whole groups are resampled, and the variance
over folds is widened. Differences are always first minus second, so a negative one means that the first errs less.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike, NDArray

from models.errors import InputError

LEVEL: Final = 0.95
"""Confidence level of the intervals of a `PairedResult`."""

_BLOCK: Final = 2**21
"""Numbers that a block of resamples may hold: 16 MB per array of them."""


@dataclass(frozen=True)
class PairedResult:
    """Comparison of two models on the same data.

    Attributes
    ----------
    difference : float
        Mean error of the first minus that of the second, in the unit of the errors; negative where the first is better.
    low, high : float
        Its 95 % confidence interval.
    p_value : float
        Two-sided: probability of a difference at least as large if the models were equally good.
    n : int
        What was compared: groups if they were given, else rows; or folds.
    """

    difference: float
    low: float
    high: float
    p_value: float
    n: int


def mean_interval(values: ArrayLike, level: float = LEVEL) -> tuple[float, float, float]:
    """Mean over seeds or folds with its confidence interval by Student's t distribution.

    The interval is ``mean +- t s / sqrt(n)`` with the sample standard deviation s and n - 1 degrees of freedom
    (Student, Biometrika 6, 1 (1908)). It takes the values as independent, which seeds are and folds are not quite.

    Parameters
    ----------
    values : array_like, shape (n,)
        Two values or more.
    level : float
        Probability that the interval covers, between 0 and 1.

    Returns
    -------
    mean, low, high : float
        In the unit of the values.

    Raises
    ------
    InputError
        When there are fewer than two values, one is not finite, or the level is not between 0 and 1.
    """
    x = _vector(values, "values", 2)
    if not 0.0 < level < 1.0:
        raise InputError(f"the confidence level must be between 0 and 1, not {level}")
    mean = float(x.mean())
    half = float(scipy.stats.t.ppf(0.5 + level / 2.0, len(x) - 1)) * float(x.std(ddof=1)) / math.sqrt(len(x))
    return mean, mean - half, mean + half


def paired_rows(
    errors_a: ArrayLike,
    errors_b: ArrayLike,
    groups: Sequence[Any] | NDArray[Any] | None = None,
    n_resamples: int = 2000,
    seed: int = 0,
) -> PairedResult:
    """Difference of the mean absolute errors of two models on the same rows.

    The interval is a percentile bootstrap over groups (B. Efron, Ann. Stat. 7, 1 (1979)), or over rows without them.
    The p-value is that of the sign-flip test (E. J. G. Pitman, J. R. Stat. Soc. Suppl. 4, 119 (1937)): were the models
    equally good, each group could as well have the models exchanged. All 2^n exchanges are tried where they are no more
    than `n_resamples`, which makes the p-value exact; otherwise p = (b + 1) / (n_resamples + 1) with b drawn exchanges
    as extreme as what was observed (B. Phipson and G. K. Smyth, Stat. Appl. Genet. Mol. Biol. 9, 39 (2010)).

    Parameters
    ----------
    errors_a, errors_b : array_like, shape (n,)
        Prediction minus truth, or its magnitude, of each row by either model, in one unit.
    groups : sequence of length n, optional
        What goes together: the chemical system of each row. Without it every row is taken as independent.
    n_resamples : int
        Of the bootstrap and of the sign-flip test.
    seed : int
        Of the draws. The result does not depend on the order of the rows.

    Returns
    -------
    PairedResult
        With ``n`` groups, or rows without them.

    Raises
    ------
    InputError
        When lengths differ, a value is not finite, a group is missing, there are fewer than two groups (or rows), or
        n_resamples is less than 1.
    """
    a, b = _pair(errors_a, errors_b, "errors", 1)
    if n_resamples < 1:
        raise InputError(f"n_resamples must be at least 1, not {n_resamples}")
    difference = np.abs(a) - np.abs(b)
    sums, counts = _sums_of(difference, groups)
    if len(sums) < 2:
        raise InputError("the errors are all of one group, which has no spread; compare over two groups or more")
    rng = np.random.default_rng(seed)
    means = np.concatenate(list(_bootstrap_means(sums, counts, n_resamples, rng)))
    low, high = np.quantile(means, (0.5 - LEVEL / 2.0, 0.5 + LEVEL / 2.0))
    p_value = _sign_flip(sums, n_resamples, rng)
    return PairedResult(float(sums.sum() / len(a)), float(low), float(high), p_value, len(sums))


def corrected_t_test(differences: ArrayLike, n_train: float, n_test: float) -> PairedResult:
    """Compare two models by the differences of their errors over cross-validation folds.

    The corrected resampled t-test of C. Nadeau and Y. Bengio, Mach. Learn. 52, 239 (2003): folds share training rows,
    so the variance of the mean of k differences is ``(1 / k + n_test / n_train) s^2`` and not ``s^2 / k``; the
    statistic has k - 1 degrees of freedom.

    Parameters
    ----------
    differences : array_like, shape (k,)
        Error of the first model minus that of the second in each fold.
    n_train, n_test : float
        Rows learnt from and measured on in a fold; their means where the folds differ.

    Returns
    -------
    PairedResult
        With ``n`` = k. Differences that do not vary at all give p = 1 if they are zero, else 0.

    Raises
    ------
    InputError
        When there are fewer than two folds, a value is not finite, or a number of rows is not positive.
    """
    d = _vector(differences, "differences of folds", 2)
    if not (0.0 < n_train < math.inf and 0.0 < n_test < math.inf):
        raise InputError(f"folds of {n_train} training and {n_test} test rows cannot be; both must be positive")
    mean, freedom = float(d.mean()), len(d) - 1
    error = float(d.std(ddof=1)) * math.sqrt(1.0 / len(d) + n_test / n_train)
    half = float(scipy.stats.t.ppf(0.5 + LEVEL / 2.0, freedom)) * error
    largest = 0.0 if mean == 0.0 else math.inf  # of differences that do not vary
    statistic = abs(mean) / error if error > 0.0 else largest
    return PairedResult(mean, mean - half, mean + half, 2.0 * float(scipy.stats.t.sf(statistic, freedom)), len(d))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Adjust p-values for the number of comparisons, step down (S. Holm, Scand. J. Stat. 6, 65 (1979)).

    The i-th smallest of m is multiplied with m - i + 1, made no smaller than the ones before it and no larger than 1.
    Comparing the result with a level bounds the probability of any false discovery by that level.

    Parameters
    ----------
    p_values : array_like, shape (m,)
        Of m comparisons.

    Returns
    -------
    ndarray, shape (m,), float64
        In the order given.

    Raises
    ------
    InputError
        When there is none, or one is not between 0 and 1.
    """
    p = _vector(p_values, "p-values", 1)
    if (p < 0.0).any() or (p > 1.0).any():
        raise InputError("a p-value lies outside 0 to 1; give probabilities, not statistics")
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)), 1.0)
    return adjusted


def crossing_points(sizes: ArrayLike, mae_a: ArrayLike, mae_b: ArrayLike) -> list[float]:
    """Training-set sizes at which two learning curves cross.

    Between two sizes both curves are taken as straight lines in log(size) and log(MAE): power laws.

    Parameters
    ----------
    sizes : array_like, shape (n,)
        Different numbers of training rows, in any order.
    mae_a, mae_b : array_like, shape (n,)
        Mean absolute errors of the two models at each size, positive and in one unit.

    Returns
    -------
    list of float
        Ascending; empty where one curve is below the other throughout. Curves that touch without changing places do
        not cross; where they change places after being equal at some sizes, it is the first of those.

    Raises
    ------
    InputError
        When there are fewer than two sizes, one is repeated, lengths differ, or a value is not positive and finite.
    """
    a, b = _pair(mae_a, mae_b, "mean absolute errors", 2)
    n, _ = _pair(sizes, a, "training sizes and errors", 2)
    if min(n.min(), a.min(), b.min()) <= 0.0:
        raise InputError("sizes and mean absolute errors must be positive to lie on logarithmic axes")
    if len(np.unique(n)) < len(n):
        raise InputError("a training size is repeated; average its errors first")
    order = np.argsort(n)
    x, gap = np.log(n[order]), np.log(a[order]) - np.log(b[order])
    apart = np.flatnonzero(gap)
    found = []
    for i, j in pairwise(apart):
        if (gap[i] > 0.0) != (gap[j] > 0.0):
            # the line from i meets zero before i + 1, or there if the curves are equal at i + 1
            found.append(math.exp(x[i] + (x[i + 1] - x[i]) * gap[i] / (gap[i] - gap[i + 1])))
    return found


def rank_correlation(a: ArrayLike, b: ArrayLike) -> tuple[float, float]:
    """Spearman's rank correlation, for the errors of two models element by element.

    Parameters
    ----------
    a, b : array_like, shape (n,)
        Three values or more each, in corresponding order.

    Returns
    -------
    rho : float
        -1 to 1; equal values share their mean rank (C. Spearman, Am. J. Psychol. 15, 72 (1904)).
    p_value : float
        Two-sided, of no association, from Student's t with n - 2 degrees of freedom; rough below about ten values.

    Raises
    ------
    InputError
        When there are fewer than three values, lengths differ, one is not finite, or all of one side are equal.
    """
    x, y = _pair(a, b, "values to correlate", 3)
    if np.ptp(x) == 0.0 or np.ptp(y) == 0.0:
        raise InputError("constant values have no rank correlation; give values that differ")
    result = scipy.stats.spearmanr(x, y)
    return float(result.statistic), float(result.pvalue)


def _sums_of(
    difference: NDArray[np.float64], groups: Sequence[Any] | NDArray[Any] | None
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Sum and number of rows of each group, in an order that does not depend on that of the rows."""
    if groups is None:
        return np.sort(difference), np.ones(len(difference))
    labels = np.asarray(groups, dtype=object)
    if labels.shape != difference.shape:
        raise InputError(f"{len(difference)} errors came with groups of shape {labels.shape}; give one group per row")
    if pd.isna(labels).any():
        raise InputError("a row has no group; name the chemical system of every row or leave the groups out")
    _, code = np.unique(labels.astype(str), return_inverse=True)
    order = np.lexsort((difference, code))  # sums of floats depend on the order of their terms
    sums = np.bincount(code[order], weights=difference[order]).astype(np.float64)
    return sums, np.bincount(code).astype(np.float64)


def _bootstrap_means(
    sums: NDArray[np.float64], counts: NDArray[np.float64], n_resamples: int, rng: np.random.Generator
) -> Iterator[NDArray[np.float64]]:
    """Means over the rows of as many groups as there are, drawn with replacement."""
    n = len(sums)
    for size in _blocks(n_resamples, n):
        drawn = rng.integers(0, n, size=(size, n))
        yield sums[drawn].sum(axis=1) / counts[drawn].sum(axis=1)


def _sign_flip(sums: NDArray[np.float64], n_resamples: int, rng: np.random.Generator) -> float:
    """Two-sided p-value of the total under exchanges of the two models in whole groups."""
    n, total = len(sums), float(sums.sum())
    # exchanges that give the observed total but for rounding are as extreme as it
    bound = abs(total) - 1e-12 * float(np.abs(sums).sum())
    exact = n <= math.log2(n_resamples)
    blocks = _all_exchanges(n) if exact else _drawn_exchanges(n, n_resamples, rng)
    as_extreme = sum(int((np.abs(total - 2.0 * (block @ sums)) >= bound).sum()) for block in blocks)
    return math.ldexp(as_extreme, -n) if exact else (as_extreme + 1) / (n_resamples + 1)


def _all_exchanges(n: int) -> Iterator[NDArray[np.bool_]]:
    """Every choice among n groups, one per row."""
    start = 0
    for size in _blocks(2**n, n):
        number = np.arange(start, start + size)
        yield (number[:, None] >> np.arange(n)) & 1 == 1
        start += size


def _drawn_exchanges(n: int, n_resamples: int, rng: np.random.Generator) -> Iterator[NDArray[np.bool_]]:
    """Drawn choices among n groups, one per row: fair coins, 32 to a random number."""
    for size in _blocks(n_resamples, n):
        words = rng.integers(0, 2**32, size=(size, -(-n // 32)), dtype=np.uint32)
        yield np.unpackbits(words.view(np.uint8), axis=1, count=n).astype(np.bool_)


def _blocks(n_resamples: int, n: int) -> Iterator[int]:
    """Sizes of blocks of resamples of n numbers each that fit into memory together."""
    size = max(1, _BLOCK // n)
    for start in range(0, n_resamples, size):
        yield min(size, n_resamples - start)


def _vector(values: ArrayLike, what: str, at_least: int) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) < at_least:
        raise InputError(f"{what} of shape {x.shape} are too few or no vector; give at least {at_least}")
    if not np.isfinite(x).all():
        raise InputError(f"{what} hold NaN or infinite numbers; leave those rows out first")
    return x


def _pair(a: ArrayLike, b: ArrayLike, what: str, at_least: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    x, y = _vector(a, what, at_least), _vector(b, what, at_least)
    if len(x) != len(y):
        raise InputError(f"{what} have {len(x)} and {len(y)} values; give one of each per row, in one order")
    return x, y
