"""Comparisons of models against values by hand, scipy's tests and enumeration."""

from __future__ import annotations

import math
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

import models.significance
from models.errors import InputError
from models.significance import (
    PairedResult,
    corrected_t_test,
    crossing_points,
    holm,
    mean_interval,
    paired_rows,
    rank_correlation,
)

numbers = st.floats(-5, 5).map(lambda x: round(x, 3))


# --- over seeds


def test_interval_by_hand() -> None:
    # mean 2, s = 1, n = 3; t(0.975, 2) = 4.302653
    mean, low, high = mean_interval([1.0, 2.0, 3.0])
    assert (mean, low, high) == pytest.approx((2.0, 2.0 - 4.302653 / math.sqrt(3), 2.0 + 4.302653 / math.sqrt(3)))
    assert mean_interval([0.5, 0.5]) == (0.5, 0.5, 0.5)


@given(st.lists(numbers, min_size=2, max_size=12), st.sampled_from([0.5, 0.9, 0.95, 0.99]))
def test_interval_is_that_of_the_t_test(values: list[float], level: float) -> None:
    mean, low, high = mean_interval(values, level)
    if np.std(values) > 1e-6:
        expected = stats.ttest_1samp(values, 0.0).confidence_interval(level)
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-9)
    assert low <= mean <= high


def test_what_has_no_interval() -> None:
    with pytest.raises(InputError, match="give at least 2"):
        mean_interval([1.0])
    with pytest.raises(InputError, match="between 0 and 1, not 95"):
        mean_interval([1.0, 2.0], 95)
    with pytest.raises(InputError, match="NaN or infinite"):
        mean_interval([1.0, math.nan])


# --- over rows


def test_paired_rows_by_hand() -> None:
    result = paired_rows([0.1, -0.2, 0.3], [-0.4, 0.5, 0.6])  # each magnitude 0.3 smaller
    assert (result.difference, result.low, result.high) == pytest.approx((-0.3, -0.3, -0.3))
    assert result.n == 3
    assert result.p_value == 0.25  # all three signs one way or the other: 2 of 8


@given(
    st.lists(st.tuples(numbers, numbers), min_size=2, max_size=9),
)
@settings(max_examples=40)
def test_few_rows_are_enumerated(pairs: list[tuple[float, float]]) -> None:
    a, b = np.abs(np.array(pairs)).T
    expected = stats.permutation_test(
        (a, b), lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf, vectorized=False
    )
    result = paired_rows(a, b, n_resamples=512)
    assert result.difference == pytest.approx(expected.statistic, abs=1e-12)
    assert result.p_value == pytest.approx(expected.pvalue, abs=1e-12)


@given(st.lists(st.tuples(numbers, numbers, st.sampled_from("pqrstu")), min_size=3, max_size=40))
def test_few_groups_are_enumerated(rows: list[tuple[float, float, str]]) -> None:
    difference = np.array([abs(a) - abs(b) for a, b, _ in rows])
    groups = np.array([row[2] for row in rows])
    sums = [difference[groups == name].sum() for name in np.unique(groups)]
    if len(sums) < 2:
        return
    totals = [abs(np.dot(signs, sums)) for signs in product((-1, 1), repeat=len(sums))]
    result = paired_rows([row[0] for row in rows], [row[1] for row in rows], groups, n_resamples=64)
    assert result.n == len(sums)
    assert result.p_value == np.mean(np.array(totals) >= abs(sum(sums)) - 1e-9)
    assert result.difference == pytest.approx(difference.mean(), abs=1e-12)


def test_drawn_p_value_approaches_the_exact_one() -> None:
    rng = np.random.default_rng(4)
    a, b = rng.normal(0.0, 1.0, (2, 12))
    exact = paired_rows(a, b, n_resamples=2**12).p_value
    drawn = paired_rows(a, b, n_resamples=2**12 - 1, seed=1).p_value
    assert exact * 2**12 == int(exact * 2**12)
    assert drawn * 2**12 == pytest.approx(round(drawn * 2**12), abs=1e-6)  # (b + 1) / (4095 + 1)
    assert drawn != exact
    assert 0.1 < exact < 0.9
    assert drawn == pytest.approx(exact, abs=4 * math.sqrt(exact * (1 - exact) / 2**12))


def test_bootstrap_approaches_the_normal_interval() -> None:
    rng = np.random.default_rng(0)
    a, b = np.abs(rng.normal(0.0, [[1.0], [1.1]], (2, 3000)))
    result = paired_rows(a, b, seed=2)
    half = 1.959964 * np.std(a - b) / math.sqrt(3000)
    assert (result.low, result.high) == pytest.approx(
        (result.difference - half, result.difference + half), abs=0.1 * half
    )
    assert result.p_value == pytest.approx(stats.ttest_1samp(a - b, 0.0).pvalue, abs=0.01)


def test_two_groups_have_three_bootstrap_means() -> None:
    # groups of 1 and 3 rows with sums -4 and 6: both draws of one give -4 or 2, one of each 2 / 4
    a, b = [0.0, 2.0, 2.0, 2.0], [4.0, 0.0, 0.0, 0.0]
    result = paired_rows(a, b, ["x", "y", "y", "y"])
    assert (result.difference, result.low, result.high) == pytest.approx((0.5, -4.0, 2.0))
    assert result.p_value == 1.0  # |6 - 4| = 2 is the smallest of the totals
    assert result.n == 2


def test_rows_of_one_group_count_once() -> None:
    rng = np.random.default_rng(1)
    common = rng.normal(0.0, 1.0, 30)
    a, b = np.repeat(3.0 + common, 20), np.full(600, 3.0)
    groups = np.repeat([f"system {i}" for i in range(30)], 20)
    whole, apart = paired_rows(a, b, groups), paired_rows(a, b)
    assert whole.difference == pytest.approx(apart.difference)
    # 20 copies of a row carry no more than one: intervals of single rows are too narrow by the root of 20
    assert (whole.high - whole.low) / (apart.high - apart.low) == pytest.approx(math.sqrt(20), rel=0.15)
    assert whole.p_value > apart.p_value


@pytest.mark.parametrize("grouped", [True, False])
def test_the_order_of_the_rows_changes_nothing(grouped: bool) -> None:
    rng = np.random.default_rng(5)
    a, b = rng.normal(0.0, 0.3, (2, 200))
    groups = np.array([f"g{i}" for i in rng.integers(0, 40, 200)])
    order = rng.permutation(200)
    result = paired_rows(a, b, groups if grouped else None, 300)
    assert paired_rows(a[order], b[order], groups[order] if grouped else None, 300) == result
    assert paired_rows(a, b, groups if grouped else None, 300, seed=1) != result


def test_exchanged_models_change_the_sign() -> None:
    rng = np.random.default_rng(6)
    a, b = rng.normal(0.0, 0.3, (2, 200))
    groups = rng.integers(0, 40, 200)
    one, two = paired_rows(a, b, groups), paired_rows(b, a, groups)
    assert (two.difference, two.low, two.high) == pytest.approx((-one.difference, -one.high, -one.low))
    assert two.p_value == one.p_value


def test_blocks_of_resamples_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(7)
    a, b = rng.normal(0.0, 0.3, (2, 77))
    whole, exact = paired_rows(a, b, n_resamples=501), paired_rows(a[:8], b[:8], n_resamples=501)
    for block in (1, 300, 1000):  # 1, 3 and 12 resamples of 77 rows at once
        monkeypatch.setattr(models.significance, "_BLOCK", block)
        assert paired_rows(a, b, n_resamples=501) == whole
        assert paired_rows(a[:8], b[:8], n_resamples=501) == exact


def test_p_values_of_equal_models_are_uniform() -> None:
    rng = np.random.default_rng(8)
    p = [paired_rows(*rng.normal(0.0, 1.0, (2, 40)), n_resamples=199, seed=i).p_value for i in range(300)]
    assert stats.kstest(p, "uniform").pvalue > 0.01
    assert min(p) >= 1 / 200


def test_equal_models_do_not_differ() -> None:
    errors = np.linspace(-1.0, 1.0, 50)
    assert paired_rows(errors, -errors) == PairedResult(0.0, 0.0, 0.0, 1.0, 50)


def test_rows_that_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="2 and 3 values"):
        paired_rows([0.1, 0.2], [0.1, 0.2, 0.3])
    with pytest.raises(InputError, match="NaN or infinite"):
        paired_rows([0.1, math.inf], [0.1, 0.2])
    with pytest.raises(InputError, match="give one group per row"):
        paired_rows([0.1, 0.2], [0.1, 0.2], ["Ti-O"])
    with pytest.raises(InputError, match="a row has no group"):
        paired_rows([0.1, 0.2], [0.1, 0.2], ["Ti-O", None])
    with pytest.raises(InputError, match="all of one group"):
        paired_rows([0.1, 0.2], [0.1, 0.2], ["Ti-O", "Ti-O"])
    with pytest.raises(InputError, match="all of one group"):
        paired_rows([0.1], [0.2])
    with pytest.raises(InputError, match="n_resamples must be at least 1"):
        paired_rows([0.1, 0.2], [0.1, 0.2], n_resamples=0)
    with pytest.raises(InputError, match="give at least 1"):
        paired_rows([], [])


# --- over folds


def test_corrected_test_by_hand() -> None:
    # mean 0.2, s = 0.1, k = 3; with 2 rows learnt from per row tested the variance is (1/3 + 1/2) 0.01
    result = corrected_t_test([0.1, 0.2, 0.3], 200, 100)
    error = 0.1 * math.sqrt(5.0 / 6.0)
    t = 0.2 / error
    assert result.difference == pytest.approx(0.2)
    assert (result.low, result.high) == pytest.approx((0.2 - 4.302653 * error, 0.2 + 4.302653 * error))
    assert result.p_value == pytest.approx(1.0 - t / math.sqrt(2.0 + t * t))  # Student's t with two degrees of freedom
    assert result.n == 3


@given(st.lists(numbers, min_size=2, max_size=10))
def test_folds_that_share_nothing_give_the_t_test(differences: list[float]) -> None:
    if np.std(differences) < 1e-3:
        return
    expected = stats.ttest_1samp(differences, 0.0)
    interval = expected.confidence_interval(0.95)
    result = corrected_t_test(differences, 10**15, 1)
    assert result.p_value == pytest.approx(expected.pvalue, abs=1e-9)
    assert (result.low, result.high) == pytest.approx((interval.low, interval.high), abs=1e-8)
    shared = corrected_t_test(differences, 90, 10)
    assert shared.p_value >= result.p_value - 1e-12
    assert shared.high - shared.low > result.high - result.low


def test_folds_that_do_not_vary() -> None:
    assert corrected_t_test([0.0, 0.0, 0.0], 90, 10) == PairedResult(0.0, 0.0, 0.0, 1.0, 3)
    assert corrected_t_test([-0.5, -0.5], 90, 10) == PairedResult(-0.5, -0.5, -0.5, 0.0, 2)


def test_folds_that_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="give at least 2"):
        corrected_t_test([0.1], 90, 10)
    for train, test in ((0, 10), (90, 0), (90, math.nan), (math.inf, 10)):
        with pytest.raises(InputError, match="both must be positive"):
            corrected_t_test([0.1, 0.2], train, test)


# --- several comparisons


def test_holm_by_hand() -> None:
    # ascending 0.01, 0.02, 0.03, 0.04 times 4, 3, 2, 1: 0.04, 0.06, then no smaller than that
    assert holm([0.03, 0.01, 0.04, 0.02]).tolist() == pytest.approx([0.06, 0.04, 0.06, 0.06])
    assert holm([0.5, 0.6]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=6))
def test_holm_is_bonferroni_over_all_hypotheses_closed(p: list[float]) -> None:
    places = range(len(p))
    subsets = [s for size in range(1, len(p) + 1) for s in combinations(places, size)]
    for i, adjusted in enumerate(holm(p)):
        closed = max(min(1.0, len(s) * min(p[j] for j in s)) for s in subsets if i in s)
        assert adjusted == pytest.approx(closed, abs=1e-15)


def test_what_is_no_p_value() -> None:
    for values in ([0.1, 1.1], [-0.1]):
        with pytest.raises(InputError, match="outside 0 to 1"):
            holm(values)
    with pytest.raises(InputError, match="NaN or infinite"):
        holm([math.nan])
    with pytest.raises(InputError, match="give at least 1"):
        holm([])


# --- learning curves


def test_power_laws_cross_where_they_are_equal() -> None:
    sizes = np.array([100.0, 1000.0, 10000.0, 100000.0])
    a, b = 2.0 * sizes**-0.2, 20.0 * sizes**-0.5  # equal at 10 = n^0.3
    assert crossing_points(sizes, a, b) == pytest.approx([10.0 ** (1 / 0.3)])
    assert crossing_points(sizes, b, a) == crossing_points(sizes, a, b)
    assert crossing_points(sizes[::-1], a[::-1], b[::-1]) == crossing_points(sizes, a, b)
    assert crossing_points(sizes, a, 2.0 * a) == []


def test_curves_may_cross_more_than_once() -> None:
    # log10 gaps -1, 1, -1 at 1, 100, 10000: halfway in the logarithm
    assert crossing_points([1, 100, 10000], [0.1, 10, 0.1], [1, 1, 1]) == pytest.approx([10.0, 1000.0])


def test_curves_that_meet_at_a_size() -> None:
    ones = [1.0, 1.0, 1.0, 1.0]
    assert crossing_points([1, 10, 100, 1000], [2.0, 1.0, 1.0, 0.5], ones) == pytest.approx([10.0])
    assert crossing_points([1, 10, 100, 1000], [2.0, 1.0, 2.0, 2.0], ones) == []  # they touch
    assert crossing_points([1, 10, 100, 1000], [1.0, 2.0, 2.0, 1.0], ones) == []  # they begin and end together
    assert crossing_points([1, 10, 100, 1000], ones, ones) == []


@given(st.lists(st.tuples(st.floats(0.01, 1), st.floats(0.01, 1)), min_size=2, max_size=8))
def test_at_a_crossing_the_interpolated_curves_agree(errors: list[tuple[float, float]]) -> None:
    a, b = np.array(errors).T
    sizes = 10.0 * 3.0 ** np.arange(len(a))
    found = crossing_points(sizes, a, b)
    for n in found:
        at = [np.interp(math.log(n), np.log(sizes), np.log(curve)) for curve in (a, b)]
        assert at[0] == pytest.approx(at[1], abs=1e-9)
    signs = np.sign(a - b)[a != b]
    assert len(found) == np.count_nonzero(signs[1:] != signs[:-1])
    assert found == sorted(found)


def test_curves_that_cannot_be_compared() -> None:
    with pytest.raises(InputError, match="must be positive"):
        crossing_points([10, 100], [0.1, 0.0], [0.1, 0.2])
    with pytest.raises(InputError, match="must be positive"):
        crossing_points([0, 100], [0.1, 0.1], [0.1, 0.2])
    with pytest.raises(InputError, match="a training size is repeated"):
        crossing_points([10, 10], [0.1, 0.1], [0.1, 0.2])
    with pytest.raises(InputError, match="3 and 2 values"):
        crossing_points([10, 100, 1000], [0.1, 0.1], [0.1, 0.2])
    with pytest.raises(InputError, match="give at least 2"):
        crossing_points([10], [0.1], [0.2])


# --- ranks


def test_rank_correlation_by_hand() -> None:
    # ranks 1 2 3 4 5 against 2 1 4 3 5: squares sum to 4, rho = 1 - 6 * 4 / (5 * 24)
    rho, p = rank_correlation([0.1, 0.2, 0.3, 0.4, 0.5], [2.0, 1.0, 40.0, 30.0, 50.0])
    assert rho == pytest.approx(0.8)
    assert p == pytest.approx(2.0 * stats.t.sf(0.8 * math.sqrt(3.0 / 0.36), 3))


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=20))
def test_rank_correlation_is_pearsons_of_mean_ranks(pairs: list[tuple[int, int]]) -> None:
    a, b = np.array(pairs, dtype=float).T
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        with pytest.raises(InputError, match="constant values"):
            rank_correlation(a, b)
        return
    ranks = [[(np.sum(x < value) + np.sum(x <= value) + 1) / 2 for value in x] for x in (a, b)]
    rho, p = rank_correlation(a, b)
    assert rho == pytest.approx(np.corrcoef(*ranks)[0, 1], abs=1e-12)
    assert 0.0 <= p <= 1.0
    assert rank_correlation(np.exp(a), b)[0] == pytest.approx(rho, abs=1e-12)


def test_what_has_no_rank_correlation() -> None:
    with pytest.raises(InputError, match="give at least 3"):
        rank_correlation([1.0, 2.0], [1.0, 2.0])
    with pytest.raises(InputError, match="3 and 4 values"):
        rank_correlation([1.0, 2.0, 3.0], [1.0, 2.0, 3.0, 4.0])
