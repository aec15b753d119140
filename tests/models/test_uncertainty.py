"""Calibrated uncertainty against closed forms, independent oracles and fresh draws of known distributions."""

from __future__ import annotations

import json
import math
from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy import stats

from models.errors import InputError
from models.uncertainty import (
    LEVELS,
    MIN_CALIBRATION_ROWS,
    REPORTED_INTERVALS,
    CalibratedUncertainty,
    calibration_error,
    combine,
    coverage,
    error_by_spread,
    expected_calibration_error,
    fit_temperature,
    fit_uncertainty,
    miscalibration_curve,
    tempered,
    uncertainty_report,
)

FloatArray = NDArray[np.float64]
KINDS = ("gauss", "heavy", "stepped", "skewed")


def draw(kind: str, n: int, seed: int) -> tuple[FloatArray, FloatArray]:
    """Errors (prediction minus truth) and raw standard deviations of spreads that differ tenfold."""
    rng = np.random.default_rng(seed)
    std = 0.05 * np.exp(rng.normal(0.0, 0.8, n))
    if kind == "gauss":
        return std * rng.normal(size=n), std
    if kind == "heavy":  # the spread knows part of the size; Student t of three degrees of freedom
        return 0.03 * np.sqrt(0.2 + (std / 0.05) ** 1.2) * rng.standard_t(3, n), std
    if kind == "stepped":  # no quadrature can follow a step
        return 0.03 * np.where(std > 0.1, 6.0, 1.0) * rng.standard_t(3, n), std
    return -std * (rng.exponential(size=n) - 0.7), std  # the truth lies far above more often than far below


@cache
def fitted(kind: str, n: int = 5000, seed: int = 0) -> CalibratedUncertainty:
    return CalibratedUncertainty.from_dict(fit_uncertainty(*draw(kind, n, seed)))


def report(kind: str, calibrated: CalibratedUncertainty, n: int = 20_000, seed: int = 99) -> dict:
    error, std = draw(kind, n, seed)
    truth = np.random.default_rng(seed + 1).normal(size=n)
    return uncertainty_report(truth, truth + error, std, calibrated)


def test_combine_by_hand() -> None:
    mean, std = combine([[1.0, 2.0], [3.0, 2.0]])
    assert mean.tolist() == [2.0, 2.0]
    assert std is not None
    assert std.tolist() == pytest.approx([math.sqrt(2.0), 0.0])  # ((-1)^2 + 1^2) / (2 - 1)
    mean, std = combine([[1.0, 2.0], [3.0, 2.0]], [[1.0, 3.0], [2.0, 4.0]])
    assert std is not None
    assert std.tolist() == pytest.approx([math.sqrt(2.0 + 2.5), math.sqrt(12.5)])


def test_combine_of_one_member() -> None:
    mean, std = combine([[1.0, 2.0]])
    assert mean.tolist() == [1.0, 2.0]
    assert std is None
    assert combine([[1.0, 2.0]], [[0.5, 0.0]])[1].tolist() == [0.5, 0.0]


def test_combine_is_the_variance_of_the_mixture() -> None:
    rng = np.random.default_rng(0)
    m = 400  # many members: m and m - 1 are one
    means, scales = rng.normal(size=(m, 1)), rng.uniform(0.5, 2.0, (m, 1))
    draws = means + scales * rng.normal(size=(m, 2000))
    mean, std = combine(means, scales)
    assert mean[0] == pytest.approx(draws.mean(), abs=0.01)
    assert std[0] == pytest.approx(draws.std(), rel=0.01)


@pytest.mark.parametrize(
    ("means", "scales"),
    [
        ([1.0, 2.0], None),
        (np.empty((0, 3)), None),
        ([[np.nan]], None),
        ([[1.0]], [[-1.0]]),
        ([[1.0]], [[np.nan]]),
        ([[1.0]], [[1.0, 1.0]]),
    ],
)
def test_combine_refuses(means: object, scales: object) -> None:
    with pytest.raises(InputError, match="Members'"):
        combine(means, scales)


def test_gaussian_errors_of_known_size_are_left_as_they_are() -> None:
    calibrated = fitted("gauss")
    assert calibrated.scale["method"] == "quadrature"
    assert calibrated.symmetric
    std = np.array([0.02, 0.05, 0.2])
    # a standard error of a share of 0.6827 in 5000 rows is 1.4 % of sigma; four of them
    assert calibrated.apply(std) == pytest.approx(std, rel=0.055)
    assert calibrated.deviation(std) == pytest.approx(std, rel=0.055)
    normal = stats.norm.ppf(LEVELS)
    assert np.abs(np.asarray(calibrated.quantiles) - normal)[10:-10].max() < 0.1
    low, high = calibrated.interval(np.zeros(3), std)
    assert high == pytest.approx(1.96 * std, rel=0.08)
    assert low == pytest.approx(-high, rel=1e-9)


@settings(max_examples=8, deadline=None)
@given(st.sampled_from(KINDS), st.floats(0.01, 100.0), st.floats(0.01, 100.0))
def test_units_carry_through(kind: str, size: float, spread: float) -> None:
    """A spread stated twice as large is halved, errors twice as large double the scale."""
    error, std = draw(kind, 300, 3)
    usual = CalibratedUncertainty.from_dict(fit_uncertainty(error, std))
    other = CalibratedUncertainty.from_dict(fit_uncertainty(size * error, spread * std))
    assert other.scale["method"] == usual.scale["method"]
    np.testing.assert_allclose(other.apply(spread * std), size * usual.apply(std), rtol=1e-3)
    np.testing.assert_allclose(other.interval(0.0, spread * std)[1], size * usual.interval(0.0, std)[1], rtol=2e-3)


def test_a_doubled_gaussian_spread_is_halved() -> None:
    error, std = draw("gauss", 5000, 0)
    calibrated = CalibratedUncertainty.from_dict(fit_uncertainty(error, 2.0 * std))
    assert calibrated.apply(2.0 * std) == pytest.approx(std, rel=0.055, abs=1e-3)
    assert calibrated.scale["gain"] == pytest.approx(0.5, rel=0.055)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_fresh_rows_fall_where_they_should(kind: str, seed: int) -> None:
    result = report(kind, fitted(kind, seed=seed))
    assert result["calibration_error"] < 0.03
    assert 0.93 < result["coverage"]["0.95"]["share"] < 0.97
    assert 0.88 < result["coverage"]["0.9"]["share"] < 0.92
    assert 0.98 < result["coverage"]["0.99"]["share"] < 0.996
    assert 0.65 < result["coverage"]["0.6827"]["share"] < 0.715
    json.dumps(result, allow_nan=False)


def test_the_uncalibrated_spread_would_fail() -> None:
    """What the calibration is for: a spread of a third, as of members that agree too well, taken for a Gaussian's."""
    error, std = draw("heavy", 20_000, 99)
    assert calibration_error(stats.norm.cdf(-error / (std / 3))) > 0.03
    assert np.mean(np.abs(error) <= 1.96 * std / 3) < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_few_rows_are_rough_but_usable(kind: str) -> None:
    shares = [report(kind, fitted(kind, 60, seed), 4000)["coverage"]["0.9"]["share"] for seed in range(12)]
    # the 90 % point of 60 rows has a standard error of 4 %; of the mean of twelve 1.1 %
    assert 0.86 < np.mean(shares) < 0.95
    assert min(shares) > 0.75


def test_what_the_data_say_is_chosen() -> None:
    assert fitted("stepped").scale["method"] == "isotonic"
    assert fitted("gauss").scale["method"] == "quadrature"
    assert [fitted(kind).symmetric for kind in KINDS] == [True, True, True, False]
    scores = fitted("stepped").scores
    assert scores["isotonic"] < scores["quadrature"]
    assert fitted("skewed").scores["asymmetric"] < fitted("skewed").scores["symmetric"]


def test_a_step_is_followed() -> None:
    calibrated = fitted("stepped")
    t = stats.t(3)
    sigma = t.ppf(0.5 + 0.6826894921370859 / 2)
    assert calibrated.apply([0.01, 0.05]) == pytest.approx(0.03 * sigma, rel=0.12)
    assert calibrated.apply([0.15, 0.3]) == pytest.approx(0.18 * sigma, rel=0.15)


def test_beyond_what_was_seen_the_scale_grows_on() -> None:
    calibrated = fitted("stepped")
    spread, value = calibrated.scale["spread"], calibrated.scale["value"]
    slope = (value[-1] - value[0]) / (spread[-1] - spread[0])
    assert calibrated.apply(spread[-1] + 2.0) == pytest.approx(value[-1] + 2.0 * slope)
    assert calibrated.apply(0.0) == pytest.approx(value[0])


def test_skewed_residuals_point_to_the_side_of_the_truth() -> None:
    """Truth minus prediction is std (E - 0.7) with E exponential, so the truth's quantiles have a closed form."""
    calibrated = fitted("skewed")
    for p in (0.1, 0.5, 0.9, 0.97):
        assert calibrated.quantile(1.0, 0.05, p) == pytest.approx(1.0 + 0.05 * (-math.log(1 - p) - 0.7), abs=0.006)


def test_an_uninformative_spread_gives_one_scale() -> None:
    rng = np.random.default_rng(5)
    error = rng.normal(size=2000)
    for std in (np.zeros(2000), np.ones(2000), 7.0 * np.ones(2000)):
        calibrated = CalibratedUncertainty.from_dict(fit_uncertainty(error, std))
        assert calibrated.apply(std) == pytest.approx(1.0, abs=0.09)
        assert uncertainty_report(-error, np.zeros(2000), std, calibrated)["spearman"] is None
    calibrated = CalibratedUncertainty.from_dict(fit_uncertainty(error, rng.lognormal(size=2000)))
    assert np.ptp(calibrated.apply([0.1, 1.0, 10.0])) < 0.4


@pytest.mark.parametrize("kind", KINDS)
def test_the_order_of_the_rows_is_of_no_account(kind: str) -> None:
    error, std = draw(kind, 400, 7)
    order = np.random.default_rng(1).permutation(400)
    assert fit_uncertainty(error[order], std[order]) == fit_uncertainty(error, std)


@pytest.mark.parametrize("kind", KINDS)
def test_json_and_back(kind: str) -> None:
    stored = fit_uncertainty(*draw(kind, 400, 7))
    back = CalibratedUncertainty.from_dict(json.loads(json.dumps(stored, allow_nan=False)))
    assert back.to_dict() == stored
    assert back.quantile(0.0, 0.1, 0.999) == CalibratedUncertainty.from_dict(stored).quantile(0.0, 0.1, 0.999)
    for name in ("quantiles", "scale", "upper_tail"):
        with pytest.raises(InputError, match="fit it again"):
            CalibratedUncertainty.from_dict({key: value for key, value in stored.items() if key != name})
    with pytest.raises(InputError, match="ascending"):
        CalibratedUncertainty.from_dict(stored | {"quantiles": stored["quantiles"][::-1]})


@settings(deadline=None)
@given(
    st.sampled_from(KINDS),
    st.sampled_from((60, 300, 5000)),
    st.floats(-5.0, 5.0),
    st.floats(0.0, 100.0),
    st.floats(1e-6, 1.0 - 1e-6),
)
def test_distribution_and_quantile_are_inverse(kind: str, n: int, mean: float, std: float, p: float) -> None:
    calibrated = fitted(kind, n)
    assert calibrated.cdf(calibrated.quantile(mean, std, p), mean, std) == pytest.approx(p, abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n", [60, 300, 5000])
def test_everything_is_monotone(kind: str, n: int) -> None:
    calibrated = fitted(kind, n)
    std = np.concatenate([[0.0], np.geomspace(1e-4, 1e3, 400)])
    scale = calibrated.apply(std)
    assert (np.diff(scale) >= 0).all()
    assert (scale > 0).all()
    p = np.concatenate([np.geomspace(1e-9, 0.004, 50), np.linspace(0.005, 0.995, 500), 1 - np.geomspace(0.004, 1e-9)])
    assert (np.diff(calibrated.quantile(0.0, 0.1, p)) > 0).all()
    cdf = calibrated.cdf(np.linspace(-5.0, 5.0, 2001), 0.0, 0.1)
    assert (np.diff(cdf) >= 0).all()
    assert 0.0 <= cdf[0] < 0.01 < 0.99 < cdf[-1] <= 1.0
    widths = [np.subtract(*calibrated.interval(0.0, 0.1, level)[::-1]) for level in (0.5, 0.9, 0.95, 0.999)]
    assert (np.diff(widths) > 0).all()


def test_symmetric_means_symmetric() -> None:
    for n, seed in [(5000, 0), *((60, seed) for seed in range(12))]:
        calibrated = fitted("heavy", n, seed)
        if calibrated.symmetric:
            assert np.add(calibrated.quantiles, calibrated.quantiles[::-1]) == pytest.approx(0.0, abs=1e-12)
            assert calibrated.lower_tail == calibrated.upper_tail
    calibrated = fitted("heavy")
    assert calibrated.symmetric
    assert calibrated.cdf(2.0, 2.0, 0.3) == pytest.approx(0.5)


def test_tails_are_generalised_pareto() -> None:
    calibrated = fitted("heavy")
    scale, shape = calibrated.upper_tail
    assert 0.05 < shape < 0.5  # 1/3 for three degrees of freedom; 500 exceedances of the threshold
    last = calibrated.quantiles[-1]
    outside = last + np.array([0.1, 1.0, 10.0, 100.0])
    unit = calibrated.apply(0.05)
    oracle = 1.0 - 0.005 * stats.genpareto.sf(outside - last, shape, scale=scale)
    np.testing.assert_allclose(calibrated.cdf(outside * unit, 0.0, 0.05), oracle, rtol=1e-12)
    far = calibrated.quantile(0.0, 0.05, 1.0 - 0.005 * 0.1) / unit
    assert far == pytest.approx(last + stats.genpareto.isf(0.1, shape, scale=scale), rel=1e-9)
    assert fitted("gauss").upper_tail[1] < 0.2


def test_the_far_tail_of_a_student_t_is_met() -> None:
    t, far = stats.t(3), []
    for seed in range(5):
        error = np.random.default_rng(seed).standard_t(3, 10_000)
        far.append(CalibratedUncertainty.from_dict(fit_uncertainty(error, np.ones(10_000))).quantile(0.0, 1.0, 0.9995))
    assert np.mean(far) == pytest.approx(t.ppf(0.9995), rel=0.12)  # beyond the last stored quantile, 5.8 of 12.9


def test_vectors_broadcast_and_missing_means_stay_missing() -> None:
    calibrated = fitted("heavy")
    values = calibrated.quantile(np.zeros((3, 1)), np.full(3, 0.1).reshape(3, 1), [0.1, 0.9])
    assert values.shape == (3, 2)
    low, high = calibrated.interval([0.0, np.nan], [0.1, 0.1])
    assert np.isnan(low).tolist() == np.isnan(high).tolist() == [False, True]
    assert np.isnan(calibrated.cdf([0.0, np.nan], 0.0, 0.1)).tolist() == [False, True]


def test_crps_of_a_gaussian_has_a_closed_form() -> None:
    """Gneiting and Raftery (2007), equation 5 onwards: s (z (2 Phi(z) - 1) + 2 phi(z) - 1 / sqrt(pi))."""
    quantiles = tuple(stats.norm.ppf(LEVELS).tolist())
    end, density = -quantiles[0], stats.norm.pdf(quantiles[0])
    tail = (0.005 / density, 0.0)  # an exponential that meets the density
    unit = {"method": "quadrature", "floor": 0.0, "gain": 1.0}
    exact = CalibratedUncertainty(unit | {"floor": 1e-12}, quantiles, tail, tail, True, 1.0, 1000, {})
    z = np.array([-4.0, -1.0, 0.0, 0.3, end, 5.0])
    closed = z * (2 * stats.norm.cdf(z) - 1) + 2 * stats.norm.pdf(z) - 1 / math.sqrt(math.pi)
    np.testing.assert_allclose(exact.crps(3.0 + 0.5 * z, 3.0, 0.5), 0.5 * closed, atol=1e-3)


def test_crps_is_the_integral_of_the_squared_difference() -> None:
    calibrated = fitted("skewed")
    grid = np.linspace(-3.0, 3.0, 600_001)
    cdf = calibrated.cdf(grid, 0.2, 0.1)
    for truth in (-0.1, 0.2, 0.5):
        squared = (cdf - (grid >= truth)) ** 2
        assert calibrated.crps(truth, 0.2, 0.1) == pytest.approx(squared.sum() * (grid[1] - grid[0]), rel=2e-3)


def test_calibration_error_by_hand() -> None:
    assert calibration_error(np.full(10, 0.5)) == pytest.approx((2 * sum(range(1, 50)) / 100 + 0.5) / 99)
    assert calibration_error((np.arange(1000) + 0.5) / 1000) < 1e-9
    expected, observed = miscalibration_curve([0.2, 0.5, 0.5, 0.9], 3)
    assert expected.tolist() == [0.25, 0.5, 0.75]
    assert observed.tolist() == [0.25, 0.75, 0.75]
    assert calibration_error([0.2, 0.5, 0.5, 0.9], 3) == pytest.approx(0.25 / 3)
    with pytest.raises(InputError, match="between 0 and 1"):
        calibration_error([0.5, 1.5])


@given(st.integers(0, 2**32 - 1), st.integers(1, 300))
def test_calibration_error_is_bounded(seed: int, n: int) -> None:
    pit = np.random.default_rng(seed).random(n)
    assert 0.0 <= calibration_error(pit) <= stats.kstest(pit, "uniform").statistic + 1e-12
    assert calibration_error(pit) == calibration_error(pit[::-1])


def test_coverage_by_hand() -> None:
    result = coverage([1.0, 2.0, 3.0, 4.0], [0.0, 2.0, 4.0, 0.0], [1.0, 3.0, 5.0, 3.9])
    assert (result["n"], result["share"]) == (4, 0.5)  # ends belong to the interval
    oracle = stats.binomtest(2, 4).proportion_ci(method="wilson")
    assert [result["low"], result["high"]] == pytest.approx([oracle.low, oracle.high])
    with pytest.raises(InputError, match="1 truths need as many"):
        coverage([1.0], [0.0, 1.0], [1.0, 2.0])


def test_error_by_spread_by_hand() -> None:
    table = error_by_spread([1.0, -1.0, 3.0, 5.0, 0.0], [3.0, 1.0, 4.0, 4.5, 2.0], n_bins=2)
    assert table == [
        {
            "n": 3,
            "low": 1.0,
            "high": 3.0,
            "std": pytest.approx(math.sqrt(14 / 3)),
            "rmse": pytest.approx((2 / 3) ** 0.5),
        },
        {"n": 2, "low": 4.0, "high": 4.5, "std": pytest.approx(math.sqrt(36.25 / 2)), "rmse": pytest.approx(17**0.5)},
    ]
    assert len(error_by_spread([1.0, 2.0], [1.0, 1.0])) == 2


def test_report_holds_what_its_parts_say() -> None:
    calibrated = fitted("heavy")
    error, std = draw("heavy", 3000, 11)
    truth = np.linspace(-1.0, 1.0, 3000)
    result = uncertainty_report(truth, truth + error, std, calibrated, n_bins=7)
    pit = calibrated.cdf(truth, truth + error, std)
    assert result["calibration_error"] == calibration_error(pit)
    assert len(result["expected"]) == len(result["observed"]) == 99
    assert set(result["coverage"]) == {f"{p:g}" for p in REPORTED_INTERVALS}
    assert result["rmse"] == pytest.approx(math.sqrt(np.mean(error**2)))
    assert result["sharpness"] == pytest.approx(calibrated.deviation(std).mean())
    assert [row["n"] for row in result["error_by_spread"]] == [429] * 4 + [428] * 3
    first, second = np.argsort(np.argsort(np.abs(error))), np.argsort(np.argsort(std))
    assert result["spearman"] == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert result["crps"] < result["mae"]  # a sharp forecast's CRPS is its absolute error
    for row in result["error_by_spread"]:
        assert row["rmse"] == pytest.approx(row["std"], rel=0.4)
    shuffled = np.random.default_rng(0).permutation(3000)
    again = uncertainty_report(truth[shuffled], (truth + error)[shuffled], std[shuffled], calibrated, n_bins=7)
    assert again["observed"] == result["observed"]
    assert again["crps"] == pytest.approx(result["crps"], rel=1e-12)


def test_calibration_rows_have_the_deviation_that_is_stated() -> None:
    error, std = draw("gauss", 1000, 4)
    calibrated = CalibratedUncertainty.from_dict(fit_uncertainty(error, std))
    assert np.mean((error / calibrated.deviation(std)) ** 2) == pytest.approx(1.0, rel=1e-9)
    assert np.mean(np.abs(error) <= calibrated.apply(std)) == pytest.approx(0.6827, abs=2e-3)


N = MIN_CALIBRATION_ROWS


@pytest.mark.parametrize(
    ("error", "std", "message"),
    [
        (np.ones(N - 1), np.ones(N - 1), "at least 50"),
        (np.ones(N), np.ones(N + 1), "as many"),
        (np.full(N, np.nan), np.ones(N), "finite"),
        (np.ones(N), np.full(N, np.nan), "finite"),
        (np.ones(N), np.full(N, -1.0), "not negative"),
        (np.zeros(N), np.ones(N), "errors are 0"),
        (np.ones((N, 2)), np.ones((N, 2)), "vector"),
        ([], [], "at least one row"),
    ],
)
def test_fit_refuses(error: object, std: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_uncertainty(error, std)


def test_use_refuses() -> None:
    calibrated = fitted("gauss")
    for p in (0.0, 1.0, np.nan, -0.1):
        with pytest.raises(InputError, match="between 0 and 1"):
            calibrated.quantile(0.0, 1.0, p)
    for std in (-1.0, np.nan, np.inf):
        with pytest.raises(InputError, match="not negative"):
            calibrated.interval(0.0, std)
    with pytest.raises(InputError, match="at least one row"):
        uncertainty_report([], [], [], calibrated)
    with pytest.raises(InputError, match="finite"):
        uncertainty_report([np.nan], [0.0], [1.0], calibrated)
    with pytest.raises(InputError, match="as many"):
        uncertainty_report([0.0, 1.0], [0.0, 1.0], [1.0], calibrated)


def labelled(temperature: float, n: int, classes: int) -> tuple[FloatArray, NDArray[np.int64]]:
    """Logits that are too sure by the temperature, and labels drawn from what they should say."""
    rng = np.random.default_rng(8)
    honest = rng.normal(0.0, 1.5, (n, classes))
    chance = np.exp(honest) / np.exp(honest).sum(axis=1, keepdims=True)
    labels = (rng.random((n, 1)) > np.cumsum(chance, axis=1)).sum(axis=1)
    return temperature * honest, labels


@pytest.mark.parametrize(("temperature", "classes"), [(0.5, 2), (1.0, 3), (3.0, 2), (3.0, 5)])
def test_temperature_is_found(temperature: float, classes: int) -> None:
    logits, labels = labelled(temperature, 8000, classes)
    found = fit_temperature(logits, labels)
    assert found == pytest.approx(temperature, rel=0.06)

    def loss(value: float) -> float:
        return -float(np.mean(np.log(tempered(logits, value)[np.arange(len(labels)), labels])))

    assert loss(found) <= min(loss(found * 1.001), loss(found * 0.999))  # the minimum itself
    before, after = tempered(logits, 1.0), tempered(logits, found)
    assert after.sum(axis=1) == pytest.approx(1.0)
    assert (after.argmax(axis=1) == before.argmax(axis=1)).all()
    hit = before.argmax(axis=1) == labels
    assert expected_calibration_error(after.max(axis=1), hit) < 0.02
    if temperature == 3.0:
        assert expected_calibration_error(before.max(axis=1), hit) > 0.1


def test_temperature_of_separable_labels_stays_in_its_bounds() -> None:
    logits = np.tile([[1.0, 0.0], [0.0, 1.0]], (30, 1))
    assert 0.05 <= fit_temperature(logits, np.tile([0, 1], 30)) < 0.06
    assert 19.0 < fit_temperature(logits, np.tile([1, 0], 30)) <= 20.0


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (np.zeros(60), np.zeros(60), "logits"),
        (np.zeros((60, 2)), np.zeros(59), "labels"),
        (np.zeros((10, 2)), np.zeros(10), "n >= 50"),
        (np.full((60, 2), np.nan), np.zeros(60), "finite"),
        (np.zeros((60, 2)), np.full(60, 2), "0 to 1"),
        (np.zeros((60, 2)), np.full(60, 0.5), "whole numbers"),
    ],
)
def test_temperature_refuses(logits: object, labels: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_temperature(logits, labels)
    with pytest.raises(InputError, match="above 0"):
        tempered([[0.0, 1.0]], 0.0)


def test_expected_calibration_error_by_hand() -> None:
    probability, outcome = [0.9, 0.1, 0.8, 0.3], [1, 0, 0, 1]
    # bins {0.1, 0.3} with one hit, {0.8, 0.9} with one hit: (|1 - 0.4| + |1 - 1.7|) / 4
    assert expected_calibration_error(probability, outcome, 2) == pytest.approx(0.325)
    assert expected_calibration_error(probability, outcome, 1) == pytest.approx(0.1 / 4)
    assert expected_calibration_error([1.0, 0.0], [True, False]) == 0.0
    for bad in ([1.5, 0.0, 0.0, 0.0], [np.nan] * 4, [0.5]):
        with pytest.raises(InputError):
            expected_calibration_error(bad, outcome)
    with pytest.raises(InputError, match="each 0 or 1"):
        expected_calibration_error(probability, [0.5, 0, 0, 1])
