"""Baselines against closed forms, their own definitions and each other."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.svm import SVR

from models.baselines import BASELINES, SVR_ROWS, RowCap, fit_baseline, make_baseline
from models.errors import InputError

REGRESSORS = sorted(name for name, baseline in BASELINES.items() if "regression" in baseline.estimators)
CLASSIFIERS = sorted(name for name, baseline in BASELINES.items() if "classification" in baseline.estimators)
#: Settings that make a test fast and change nothing that it asks about.
FAST: dict[str, dict[str, Any]] = {
    "random_forest": {"n_estimators": 10},
    "gradient_boosting": {"max_iter": 20, "min_samples_leaf": 5},
}


def table(n: int = 120, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Rows of raw scale with a constant column, and a target that is not linear in them."""
    x = np.random.default_rng(seed).normal(size=(n, 4)) * [1.0, 100.0, 1e-3, 0.0] + [0.0, 5e3, 0.0, 7.0]
    return x, np.sin(2 * x[:, 0]) + (x[:, 1] - 5e3) / 100


def test_what_there_is() -> None:
    assert REGRESSORS == ["gradient_boosting", "linear", "random_forest", "ridge", "svr"]
    assert CLASSIFIERS == ["gradient_boosting", "logistic", "random_forest"]


def test_linear_recovers_an_exact_law() -> None:
    x, _ = table()
    y = 2.0 - 3.0 * x[:, 0] + 0.01 * x[:, 1]
    fitted = fit_baseline("linear", x, y)
    np.testing.assert_allclose(fitted.predict(np.array([[1.0, 6e3, 0.0, 7.0]])), [2.0 - 3.0 + 60.0], rtol=1e-10)


def test_linear_survives_columns_that_depend_on_each_other() -> None:
    """As a range does on a minimum and a maximum: the least-squares solution of smallest norm."""
    x, y = table()
    redundant = np.column_stack([x, x[:, 0] - x[:, 1], x[:, 1]])
    plain, other = fit_baseline("linear", x, y), fit_baseline("linear", redundant, y)
    new, _ = table(seed=1)
    np.testing.assert_allclose(
        other.predict(np.column_stack([new, new[:, 0] - new[:, 1], new[:, 1]])), plain.predict(new), rtol=1e-8
    )


def test_ridge_is_the_closed_form_on_standardised_columns() -> None:
    x, y = table()
    z = (x[:, :3] - x[:, :3].mean(axis=0)) / x[:, :3].std(axis=0)
    weights = np.linalg.solve(z.T @ z + 25.0 * np.eye(3), z.T @ (y - y.mean()))
    np.testing.assert_allclose(fit_baseline("ridge", x, y, alpha=25.0).predict(x), z @ weights + y.mean(), rtol=1e-9)


def test_svr_standardises_inputs_and_target_and_leaves_constant_columns_out() -> None:
    x, y = table()
    z = (x[:, :3] - x[:, :3].mean(axis=0)) / x[:, :3].std(axis=0)
    # gamma "scale" is 1 over the number of columns where their variance is 1
    oracle = SVR(kernel="rbf", gamma=1 / 3, C=10.0, epsilon=0.05, tol=1e-9).fit(z, (y - y.mean()) / y.std())
    fitted = fit_baseline("svr", x, y, tol=1e-9)
    np.testing.assert_allclose(fitted.predict(x), oracle.predict(z) * y.std() + y.mean(), rtol=1e-5, atol=1e-6)
    moved = x.copy()
    moved[:, 3] = 1e6
    np.testing.assert_array_equal(fitted.predict(moved), fitted.predict(x))


def test_svr_takes_a_seeded_sample_of_a_large_table() -> None:
    x, y = table(200)
    drawn = [fit_baseline("svr", x, y, seed=seed, max_rows=50) for seed in (0, 0, 1)]
    assert [fitted.n_fitted for fitted in drawn] == [50] * 3
    assert drawn[0].description()["n_fitted"] == 50
    assert drawn[0].description()["n_rows"] == 200
    first, again, other = (fitted.predict(x) for fitted in drawn)
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)
    assert fit_baseline("svr", x, y).n_fitted == 200 < SVR_ROWS == BASELINES["svr"].settings["regression"]["max_rows"]


@settings(max_examples=25, deadline=None)
@given(st.integers(1, 30), st.integers(2, 40), st.integers(0, 5))
def test_a_row_cap_keeps_rows_and_targets_together(n: int, max_rows: int, seed: int) -> None:
    class Recorder:
        def get_params(self, deep: bool = True) -> dict[str, Any]:
            return {}

        def fit(self, x: NDArray[Any], y: NDArray[Any]) -> Recorder:
            self.x, self.y = x[:, 0], y
            return self

    cap = RowCap(Recorder(), max_rows, seed).fit(np.arange(n)[:, None], 10 * np.arange(n))
    seen = cap.estimator_
    assert len(seen.x) == cap.n_rows_ == min(n, max_rows)
    assert len(set(seen.x)) == len(seen.x)
    np.testing.assert_array_equal(seen.y, 10 * seen.x)


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting", "svr"])
def test_nonlinear_baselines_beat_the_linear_one(name: str) -> None:
    x, y = table(400)
    new, truth = table(200, seed=1)
    error = np.abs(fit_baseline(name, x, y, **FAST.get(name, {})).predict(new) - truth).mean()
    assert error < 0.8 * np.abs(fit_baseline("linear", x, y).predict(new) - truth).mean()


@pytest.mark.parametrize("name", ["random_forest", "gradient_boosting"])
def test_trees_do_not_see_the_units_of_the_inputs(name: str) -> None:
    x, y = table()
    factor = np.array([2.0, 0.5, 1024.0, 1.0])  # powers of two: exact
    one = fit_baseline(name, x, y, **FAST[name]).predict(x)
    other = fit_baseline(name, x * factor, y, **FAST[name]).predict(x * factor)
    np.testing.assert_allclose(other, one, rtol=1e-12)


def test_a_forest_stays_within_the_targets_and_uses_the_settings_of_the_module() -> None:
    x, y = table()
    fitted = fit_baseline("random_forest", x, y)
    predicted = fitted.predict(np.array([[50.0, 1e6, 3.0, 7.0], [-50.0, 0.0, -3.0, 7.0]]))
    assert np.all((predicted >= y.min()) & (predicted <= y.max()))
    trees = fitted.estimator.estimators_
    assert len(trees) == 100
    assert {tree.max_features_ for tree in trees} == {1}  # int(0.33 x 4)
    assert all(tree.tree_.n_node_samples[tree.tree_.children_left >= 0].min() >= 5 for tree in trees)
    assert fitted.estimator.bootstrap


@pytest.mark.parametrize("name", REGRESSORS)
def test_the_seed_decides_and_the_number_of_threads_does_not(name: str) -> None:
    x, y = table()
    options: dict[str, Any] = FAST.get(name, {})
    first = fit_baseline(name, x, y, seed=3, **options)
    assert first.predict(x).dtype == np.float64
    assert first.predict(x).shape == (len(x),)
    np.testing.assert_array_equal(fit_baseline(name, x, y, seed=3, n_jobs=2, **options).predict(x), first.predict(x))
    if name == "random_forest":
        assert not np.array_equal(fit_baseline(name, x, y, seed=4, **options).predict(x), first.predict(x))


@pytest.mark.parametrize("name", ["linear", "ridge", "svr"])
def test_a_shift_and_a_scale_of_the_target_pass_through(name: str) -> None:
    x, y = table()
    options = {"svr": {"tol": 1e-9}}.get(name, {})
    predicted = fit_baseline(name, x, y, **options).predict(x)
    shifted = fit_baseline(name, x, 1e3 * y - 5, **options).predict(x)
    np.testing.assert_allclose(shifted, 1e3 * predicted - 5, rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_probabilities(name: str) -> None:
    x, y = table(200)
    labels = np.where(y < -0.5, "metal", np.where(y < 0.5, "insulator", "other"))
    fitted = fit_baseline(name, x, labels, task="classification", **FAST.get(name, {}))
    assert fitted.classes == ("insulator", "metal", "other")
    p = fitted.predict(x)
    assert p.shape == (200, 3)
    assert p.dtype == np.float64
    assert p.min() >= 0
    np.testing.assert_allclose(p.sum(axis=1), 1.0)
    assert np.mean(np.array(fitted.classes)[p.argmax(axis=1)] == labels) > 0.6


def test_logistic_has_the_right_mean() -> None:
    """The intercept is not penalised: at the optimum the mean probability is the share of the class."""
    x, y = table(300)
    labels = (y + np.random.default_rng(2).normal(size=300)) > 0.7
    fitted = fit_baseline("logistic", x, labels, task="classification", tol=1e-8)
    assert fitted.classes == (False, True)
    assert fitted.predict(x)[:, 1].mean() == pytest.approx(labels.mean(), abs=1e-6)


@pytest.mark.parametrize(
    ("labels", "classes"),
    [
        ([0, 3, 0, 3], (0, 3)),
        ([0.0, 1.0, 1.0, 0.0], (0, 1)),
        (np.array(["b", "a", "b", "a"], dtype=object), ("a", "b")),
    ],
)
def test_labels_of_any_kind(labels: Any, classes: tuple[Any, ...]) -> None:
    fitted = fit_baseline("logistic", np.arange(8.0).reshape(4, 2) ** 2, labels, task="classification")
    assert fitted.classes == classes
    assert json.loads(json.dumps(fitted.description()))["classes"] == list(classes)


def test_a_class_with_one_member_is_refused_as_of_networks() -> None:
    with pytest.raises(InputError, match="Class 3 has 1 training row: every class needs at least two"):
        fit_baseline("logistic", np.arange(8.0).reshape(4, 2), [0, 0, 3, 0], task="classification")


@pytest.mark.parametrize("name", REGRESSORS)
def test_description_is_json_and_says_what_was_fitted(name: str) -> None:
    x, y = table()
    options: dict[str, Any] = FAST.get(name, {})
    description = fit_baseline(name, x, y, seed=9, **options).description()
    assert json.loads(json.dumps(description, allow_nan=False)) == description
    assert {key: description[key] for key in ("name", "task", "seed", "n_rows", "n_features", "n_fitted")} == {
        "name": name,
        "task": "regression",
        "seed": 9,
        "n_rows": 120,
        "n_features": 4,
        "n_fitted": 120,
    }
    assert description["settings"] == {**BASELINES[name].settings.get("regression", {}), **options}


def test_inputs_may_be_float32_and_stay_as_they_are() -> None:
    x, y = (values.astype(np.float32) for values in table())
    before = x.copy(), y.copy()
    fitted = fit_baseline("ridge", x, y)
    assert fitted.predict(x[:3]).dtype == np.float64
    assert fitted.predict(x[:0]).shape == (0,)
    np.testing.assert_array_equal(x, before[0])
    np.testing.assert_array_equal(y, before[1])


def test_an_estimator_comes_unfitted_with_its_settings() -> None:
    estimator = make_baseline("random_forest", seed=5, n_jobs=2, max_depth=3)
    assert not hasattr(estimator, "estimators_")
    settings = estimator.get_params()
    assert [settings[key] for key in ("random_state", "n_jobs", "max_depth", "max_features")] == [5, 2, 3, 0.33]


GOOD = np.array([[0.0, 1.0], [1.0, 3.0], [2.0, 2.0], [3.0, 5.0]])


@pytest.mark.parametrize(
    ("name", "x", "y", "options", "message"),
    [
        ("forest", GOOD, [0, 1, 2, 3], {}, "no baseline 'forest' for regression: choose one of gradient_boosting"),
        ("svr", GOOD, [0, 1, 0, 1], {"task": "classification"}, "'svr' for classification"),
        ("linear", GOOD, [0, 1, 2, 3], {"task": "ranking"}, "Unknown task 'ranking'"),
        ("linear", GOOD, [0, 1, 2, 3], {"alpha": 1.0}, "no setting 'alpha': choose from copy_X"),
        ("linear", GOOD, [0, 1, 2, 3], {"max_rows": 10}, "no setting 'max_rows'"),
        ("random_forest", GOOD, [0, 1, 2, 3], {"random_state": 1}, "no setting 'random_state'"),
        ("ridge", GOOD, [0, 1, 2, 3], {"alpha": float("nan")}, "'alpha' of baseline 'ridge' must be a number"),
        ("svr", GOOD, [0, 1, 2, 3], {"kernel": np.dot}, "must be a number, text"),
        ("svr", GOOD, [0, 1, 2, 3], {"max_rows": 1}, "whole number from 2"),
        ("svr", GOOD, [0, 1, 2, 3], {"C": -1.0}, "cannot be fitted with {'C': -1.0}: The 'C' parameter"),
        ("linear", GOOD, [0, 1, 2], {}, r"one target per row \(4,\), got shape \(3,\)"),
        ("linear", GOOD[:, 0], [0, 1, 2, 3], {}, r"got shape \(4,\)"),
        ("linear", GOOD[:, :0], [0, 1, 2, 3], {}, r"got shape \(4, 0\)"),
        ("linear", GOOD[:0], [], {}, "0 training rows"),
        ("linear", np.ones((4, 2)), [0, 1, 2, 3], {}, "2 columns of the 4 training rows are constant"),
        ("linear", np.where(GOOD == 5, np.nan, GOOD), [0, 1, 2, 3], {}, "features hold NaN"),
        ("linear", np.where(GOOD == 5, np.inf, GOOD), [0, 1, 2, 3], {}, "infinite"),
        ("linear", GOOD, [0, 1, np.nan, 3], {}, "target holds NaN"),
        ("linear", GOOD, [0, 1, -np.inf, 3], {}, "target holds NaN or infinite"),
        ("linear", GOOD, [2.5] * 4, {}, r"constant \(2.5\)"),
        ("logistic", GOOD, [1, 1, 1, 1], {"task": "classification"}, "All labels are 1"),
        ("logistic", GOOD, [1, 0, 1], {"task": "classification"}, "one label per row"),
        ("logistic", GOOD, [1, 0, np.nan, 1], {"task": "classification"}, "NaN or fractions"),
        ("logistic", GOOD, [1, 0, 0.5, 1], {"task": "classification"}, "NaN or fractions"),
        ("logistic", GOOD, ["a", "b", None, "a"], {"task": "classification"}, "fill or drop missing"),
    ],
)
def test_bad_input_is_refused(name: str, x: Any, y: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_baseline(name, x, y, **options)


@pytest.mark.parametrize(
    ("x", "message"), [(GOOD[:, :1], "fitted to 2 columns, got 1"), (GOOD * np.nan, "NaN"), (GOOD[0], r"shape \(2,\)")]
)
def test_rows_to_predict_are_checked(x: Any, message: str) -> None:
    fitted = fit_baseline("linear", GOOD, [0, 1, 2, 3])
    with pytest.raises(InputError, match=message):
        fitted.predict(x)
