"""The probability of being stable: against scikit-learn, by hand, and honest where there is little to go by."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from models.errors import InputError
from models.stability import fit_probability, probability_stable, residual_summary


def sample(n: int = 4000, noise: float = 0.1, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Predicted and true decomposition energies, the truth having noise of this size around the prediction."""
    rng = np.random.default_rng(seed)
    predicted = rng.normal(0.05, 0.3, n)
    return predicted, predicted + rng.logistic(0.0, noise, n)


def test_recovers_the_logistic_that_made_the_rows() -> None:
    # true <= 0 with probability 1 / (1 + exp(d / noise)): slope -1 / noise, intercept 0
    calibration = fit_probability(*sample(40_000))
    assert calibration["method"] == "platt"
    assert calibration["slope"] == pytest.approx(-10.0, rel=0.03)
    assert calibration["intercept"] == pytest.approx(0.0, abs=0.06)
    assert calibration["calibration_error"] < 0.01
    assert probability_stable([0.0], calibration)[0] == pytest.approx(0.5, abs=0.02)


def test_agrees_with_an_unregularised_logistic_regression() -> None:
    predicted, true = sample(20_000)
    calibration = fit_probability(predicted, true)
    chosen = predicted <= 0
    of_chosen = _logistic(predicted[chosen], true[chosen])
    # Platt's smoothed targets differ from 0 and 1 by one part in the rows of a class.
    assert probability_stable(predicted[chosen], calibration) == pytest.approx(of_chosen, abs=2e-3)
    del calibration["selected"]
    assert probability_stable(predicted, calibration) == pytest.approx(_logistic(predicted, true), abs=2e-3)


def _logistic(predicted: np.ndarray, true: np.ndarray) -> np.ndarray:
    reference = LogisticRegression(C=1e10, tol=1e-10).fit(predicted[:, None], true <= 0)
    return np.asarray(reference.predict_proba(predicted[:, None])[:, 1])


def test_calibration_survives_json_and_describes_itself() -> None:
    predicted, true = sample(1000)
    calibration = json.loads(json.dumps(fit_probability(predicted, true, n_bins=5)))
    assert calibration["n"] == 1000
    assert calibration["n_stable"] == int((true <= 0).sum())
    table = calibration["reliability"]
    assert [row["n"] for row in table] == [200] * 5
    assert table[0]["low"] == predicted.min()
    assert table[-1]["high"] == predicted.max()
    for row in table:
        assert 0 <= row["observed_low"] <= row["observed"] <= row["observed_high"] <= 1
    stable = true <= 0
    probability = probability_stable(predicted, calibration)
    assert calibration["brier"] == pytest.approx(np.mean((probability - stable) ** 2))
    rows = np.argsort(predicted, kind="stable")[:200]
    assert table[0]["observed"] == pytest.approx(stable[rows].mean())
    assert table[0]["stated"] == pytest.approx(probability[rows].mean())


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.floats(0.01, 1.0), st.integers(40, 200))
def test_probability_never_rises_with_the_energy(seed: int, noise: float, n: int) -> None:
    predicted, true = sample(n, noise, seed)
    calibration = fit_probability(predicted, true)
    p = probability_stable(np.linspace(-2, 2, 101), calibration)
    if calibration["method"] == "none":
        assert np.isnan(p).all()
    else:
        assert np.all(np.diff(p) <= 0)
        assert np.all((p > 0) & (p < 1))


def test_the_selected_rows_have_a_logistic_of_their_own() -> None:
    """Below 0 the prediction says nothing (half are stable), above it a lot: one line has to be wrong somewhere."""
    rng = np.random.default_rng(3)
    predicted = np.concatenate([rng.uniform(-0.4, 0.0, 600), rng.uniform(0.0, 2.0, 4000)])
    true = np.where(rng.random(4600) < np.where(predicted <= 0, 0.5, np.exp(-20 * predicted) / 2), -0.1, 0.1)
    calibration = fit_probability(predicted, true)
    chosen, stable = predicted <= 0, true <= 0
    assert calibration["selected"]["n"] == chosen.sum() == 600
    assert calibration["selected"]["n_stable"] == stable[chosen].sum()
    # the likelihood is largest where the mean stated is the observed share, but for Platt's smoothed targets
    assert probability_stable(predicted[chosen], calibration).mean() == pytest.approx(stable[chosen].mean(), abs=2e-3)
    deep = predicted < -0.3
    assert probability_stable(predicted[deep], calibration) == pytest.approx(stable[deep].mean(), abs=0.12)
    del calibration["selected"]
    assert probability_stable(predicted[deep], calibration).mean() > stable[deep].mean() + 0.15


def test_few_selected_rows_share_the_logistic_of_all() -> None:
    predicted, true = sample()
    chosen = np.flatnonzero(predicted <= 0)[9:]  # nine rows are too few of either class
    calibration = fit_probability(np.delete(predicted, chosen), np.delete(true, chosen))
    assert calibration["method"] == "platt"
    assert "selected" not in calibration


def test_states_no_more_certainty_than_it_has_seen() -> None:
    predicted, true = sample()
    calibration = fit_probability(predicted, true)
    ends = probability_stable([predicted.min(), predicted.max()], calibration)
    assert probability_stable([-50.0, 50.0], calibration).tolist() == ends.tolist()


def test_a_clean_separation_stays_finite() -> None:
    predicted = np.linspace(-1, 1, 200)
    calibration = fit_probability(predicted, predicted)
    assert math.isfinite(calibration["slope"])
    assert probability_stable([-0.5, 0.5], calibration) == pytest.approx([1.0, 0.0], abs=0.02)


def test_a_prediction_that_says_the_contrary_gives_the_base_rate() -> None:
    predicted, true = sample()
    calibration = fit_probability(-predicted, true)
    assert calibration["slope"] == 0.0
    n, k = calibration["selected"]["n"], calibration["selected"]["n_stable"]
    # of the selected; the others are more often stable, but a higher energy never states more
    assert probability_stable([-1.0, 1.0], calibration) == pytest.approx([(k + 1) / (n + 2)] * 2)
    del calibration["selected"]
    n, k = calibration["n"], calibration["n_stable"]
    assert probability_stable([-1.0, 1.0], calibration) == pytest.approx([(k + 1) / (n + 2)] * 2)


def test_a_constant_prediction_gives_the_base_rate() -> None:
    calibration = fit_probability(np.full(60, 0.1), np.repeat([-0.1, 0.1], [20, 40]))
    assert calibration["slope"] == 0.0
    assert probability_stable([0.1], calibration) == pytest.approx([21 / 62])


@pytest.mark.parametrize(("n_stable", "n_unstable"), [(9, 500), (500, 9), (0, 30)])
def test_too_few_rows_of_a_class_give_no_probability(n_stable: int, n_unstable: int) -> None:
    true = np.repeat([-0.1, 0.1], [n_stable, n_unstable])
    calibration = fit_probability(true, true)
    assert calibration["method"] == "none"
    assert f"{n_stable} stable and {n_unstable} unstable" in calibration["reason"]
    assert np.isnan(probability_stable([0.0, 1.0], calibration)).all()


def test_nan_stays_nan_and_foreign_calibrations_are_refused() -> None:
    calibration = fit_probability(*sample())
    assert math.isnan(probability_stable([math.nan], calibration)[0])
    with pytest.raises(InputError, match="isotonic"):
        probability_stable([0.0], {"method": "isotonic"})


def test_zero_counts_as_stable() -> None:
    assert fit_probability([0.0] * 20, [0.0] * 20)["n_stable"] == 20


def test_residuals_by_hand() -> None:
    summary = residual_summary([0.1, 0.3, -0.2], [0.0, 0.0, 0.0])
    assert summary["n"] == 3
    assert summary["mae"] == pytest.approx(0.2)
    assert summary["rmse"] == pytest.approx(math.sqrt(0.14 / 3))
    assert summary["bias"] == pytest.approx(0.2 / 3)
    assert summary["quantiles"]["0.5"] == pytest.approx(0.1)
    assert summary["quantiles"]["0.05"] == pytest.approx(-0.17)
    json.dumps(summary)


@pytest.mark.parametrize("function", [fit_probability, residual_summary])
def test_unusable_input_is_refused(function: object) -> None:
    assert callable(function)
    for predicted, true, message in [
        ([], [], "at least one row"),
        ([1.0, 2.0], [1.0], "2 and 1"),
        ([np.inf], [1.0], "predicted energies hold NaN"),
        ([1.0], [np.nan], "true energies hold NaN"),
        ([[1.0]], [[1.0]], "vector"),
    ]:
        with pytest.raises(InputError, match=message):
            function(predicted, true)
