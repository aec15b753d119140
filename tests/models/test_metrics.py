"""Error statistics against values computed by hand."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn import metrics

from models.errors import InputError
from models.metrics import classification_metrics, per_element_errors, regression_metrics


def test_by_hand() -> None:
    truth, prediction = [1.0, 2.0, 0.0, -1.0], [1.5, 2.0, 0.5, -2.0]
    result = regression_metrics(truth, prediction)
    assert result["n"] == 4
    assert result["mae"] == pytest.approx(0.5)  # errors 0.5, 0, 0.5, -1
    assert result["rmse"] == pytest.approx(math.sqrt(1.5 / 4))
    assert result["bias"] == pytest.approx(0.0)
    assert result["r2"] == pytest.approx(1 - 1.5 / 5.0)  # squares about the mean 0.5: 0.25 + 2.25 + 0.25 + 2.25
    assert result["mape"] == pytest.approx(100 * (0.5 + 0.0 + 1.0) / 3)
    assert result["n_mape"] == 3
    assert result["p50"] == pytest.approx(0.5)
    assert result["p75"] == pytest.approx(0.625)  # between 0.5 and 1
    assert result["max"] == pytest.approx(1.0)
    json.dumps(result)


def test_what_is_undefined_is_none() -> None:
    result = regression_metrics([0.0, 0.0], [0.1, -0.1])
    assert result["r2"] is None
    assert result["mape"] is None
    assert result["n_mape"] == 0


@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(-10, 10)), st.floats(-5, 5))
def test_a_constant_error_is_every_statistic(truth: np.ndarray, shift: float) -> None:
    result = regression_metrics(truth, truth + shift)
    for name in ("mae", "rmse", "p50", "p99", "max"):
        assert result[name] == pytest.approx(abs(shift), abs=1e-12)
    assert result["bias"] == pytest.approx(shift, abs=1e-12)


def test_per_element() -> None:
    fractions = np.array([[0.5, 0.5, 0.0], [0.0, 0.25, 0.75], [0.0, 1.0, 0.0]])
    table = per_element_errors(fractions, [0.0, 0.0, 0.0], [0.2, -0.4, 0.3], elements=("Li", "O", "F"))
    assert table["element"].tolist() == ["Li", "O", "F"]
    assert table["n"].tolist() == [1, 3, 1]
    assert table["mae"].tolist() == pytest.approx([0.2, 0.3, 0.4])
    assert table["bias"].tolist() == pytest.approx([0.2, 0.1 / 3, -0.4])


def test_per_element_leaves_out_absent_elements() -> None:
    fractions = np.zeros((1, 86))
    fractions[0, [0, 5]] = 0.5
    assert per_element_errors(fractions, [1.0], [2.0])["element"].tolist() == ["H", "N"]
    with pytest.raises(InputError, match=r"\(1, 86\)"):
        per_element_errors(fractions[:, :5], [1.0], [2.0])


@pytest.mark.parametrize(
    ("truth", "prediction", "message"),
    [([], [], "No rows"), ([1.0], [1.0, 2.0], "one length"), ([[1.0]], [[1.0]], "vectors"), ([np.nan], [1.0], "NaN")],
)
def test_unusable_input_is_refused(truth: list[float], prediction: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        regression_metrics(truth, prediction)


@given(arrays(np.float64, st.integers(2, 30), elements=st.floats(-10, 10)), st.integers(0, 99))
def test_regression_as_scikit_learn_has_it(truth: np.ndarray, seed: int) -> None:
    prediction = truth + np.random.default_rng(seed).normal(size=len(truth))
    result = regression_metrics(truth, prediction)
    assert result["mae"] == pytest.approx(metrics.mean_absolute_error(truth, prediction))
    assert result["rmse"] == pytest.approx(metrics.root_mean_squared_error(truth, prediction))
    if np.ptp(truth) > 1e-3:
        assert result["r2"] == pytest.approx(metrics.r2_score(truth, prediction))


def test_classes_by_hand() -> None:
    """Said 1 are the first, second and fourth: two of them right; of six pairs the ones win four and a half."""
    result = classification_metrics([1, 0, 0, 1, 1], [0.9, 0.5, 0.1, 0.6, 0.1])
    assert (result["n"], result["n_positive"]) == (5, 3)
    assert result["accuracy"] == pytest.approx(3 / 5)
    assert result["precision"] == result["recall"] == result["f1"] == pytest.approx(2 / 3)
    assert result["balanced_accuracy"] == pytest.approx((2 / 3 + 1 / 2) / 2)
    assert result["auc"] == pytest.approx(4.5 / 6)  # 0.9 and 0.6 beat both, 0.1 draws with one
    assert result["log_loss"] == pytest.approx(-np.log([0.9, 0.5, 0.9, 0.6, 0.1]).mean())
    assert result["brier"] == pytest.approx((0.01 + 0.25 + 0.01 + 0.16 + 0.81) / 5)
    json.dumps(result)


@given(st.lists(st.tuples(st.integers(0, 1), st.sampled_from([0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0])), min_size=1))
def test_classes_as_scikit_learn_has_them(rows: list[tuple[int, float]]) -> None:
    labels, probability = np.array([label for label, _ in rows]), np.array([p for _, p in rows])
    said = (probability >= 0.5).astype(int)
    result = classification_metrics(labels, probability)
    assert result["accuracy"] == pytest.approx(metrics.accuracy_score(labels, said))
    assert result["brier"] == pytest.approx(metrics.brier_score_loss(labels, probability, pos_label=1))
    safe = np.clip(probability, 1e-7, 1 - 1e-7)
    assert result["log_loss"] == pytest.approx(metrics.log_loss(labels, safe, labels=[0, 1]))
    for name in ("precision", "recall", "f1"):
        score = getattr(metrics, f"{name}_score")(labels, said, zero_division=np.nan)
        assert result[name] == (None if np.isnan(score) else pytest.approx(score)), name
    if len(set(labels)) == 2:
        assert result["auc"] == pytest.approx(metrics.roc_auc_score(labels, probability))
        assert result["balanced_accuracy"] == pytest.approx(metrics.balanced_accuracy_score(labels, said))
    else:
        assert result["auc"] is None
        assert result["balanced_accuracy"] is None


@pytest.mark.parametrize(
    ("labels", "probability", "message"),
    [
        ([0, 2], [0.1, 0.2], "0 or 1"),
        ([0, 1], [0.1, 1.2], "between 0 and 1"),
        ([0, 1], [-0.1, 0.2], "between 0 and 1"),
        ([0, 1], [0.1], "one length"),
        ([], [], "No rows"),
        ([0, 1], [0.1, np.nan], "NaN"),
    ],
)
def test_unusable_classes_are_refused(labels: list[float], probability: list[float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        classification_metrics(labels, probability)
