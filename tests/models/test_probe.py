"""Linear probes: curves by hand and against scikit-learn, fits at their optimum, splits by chemical system."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from models.errors import InputError
from models.formula import parse_many
from models.probe import (
    PROPERTIES,
    auc_error,
    fit_probe,
    held_out_systems,
    obstacle,
    probe,
    property_labels,
    roc_curve,
)


def test_curve_by_hand() -> None:
    # descending: 0.9 (+), 0.8 (-), 0.4 (+ and -, a tie), 0.1 (-)
    curve = roc_curve([True, False, True, False, False], [0.9, 0.8, 0.4, 0.4, 0.1])
    assert curve.false_positive_rate == pytest.approx([0, 0, 1 / 3, 2 / 3, 1])
    assert curve.true_positive_rate == pytest.approx([0, 0.5, 0.5, 1, 1])
    assert curve.thresholds.tolist() == [math.inf, 0.9, 0.8, 0.4, 0.1]
    # of six pairs the positive is above in 3 + 1, and equal in one
    assert curve.auc == pytest.approx(4.5 / 6)


scored = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@given(scored)
def test_curve_against_scikit_learn_and_against_all_pairs(rows: list[tuple[bool, int]]) -> None:
    truth, scores = map(list, zip(*rows, strict=True))
    curve = roc_curve(truth, scores)
    x, y, thresholds = metrics.roc_curve(truth, scores, drop_intermediate=False)
    assert curve.false_positive_rate == pytest.approx(x)
    assert curve.true_positive_rate == pytest.approx(y)
    assert curve.thresholds.tolist() == thresholds.tolist()
    assert curve.auc == pytest.approx(metrics.roc_auc_score(truth, scores))
    pairs = [
        1.0 if positive > negative else 0.5 if positive == negative else 0.0
        for (one, positive), (two, negative) in itertools.product(rows, rows)
        if one and not two
    ]
    assert curve.auc == pytest.approx(np.mean(pairs))
    assert roc_curve(truth, [-score for score in scores]).auc == pytest.approx(1.0 - curve.auc)


@pytest.mark.parametrize(
    ("truth", "scores"), [([True, True], [0, 1]), ([False], [1]), ([True, False], [1]), ([True, False], [1, np.nan])]
)
def test_curves_without_both_kinds_or_finite_scores_are_refused(truth: list[bool], scores: list[float]) -> None:
    with pytest.raises(InputError, match="ROC curve needs"):
        roc_curve(truth, scores)


def test_error_of_the_area() -> None:
    # at one half the exponential model has the variance of the rank-sum statistic without ties
    for n_positive, n_negative in ((5, 9), (40, 40), (3, 200)):
        expected = math.sqrt((n_positive + n_negative + 1) / (12 * n_positive * n_negative))
        assert auc_error(0.5, n_positive, n_negative) == pytest.approx(expected)
    assert auc_error(1.0, 5, 9) == 0.0
    # A = 0.8: Q1 = 2/3, Q2 = 1.28/1.8
    expected = math.sqrt((0.16 + 9 * (2 / 3 - 0.64) + 19 * (1.28 / 1.8 - 0.64)) / 200)
    assert auc_error(0.8, 10, 20) == pytest.approx(expected)


def problem(n: int = 120, width: int = 6, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, width)) * np.geomspace(1.0, 50.0, width) + 3.0
    odds = (x[:, 0] - 3.0) - 0.02 * (x[:, -1] - 3.0)
    return x, rng.random(n) < 1.0 / (1.0 + np.exp(-2.0 * odds))


@pytest.mark.parametrize("penalty", [1e-3, 0.1])
def test_fit_is_at_the_optimum_of_the_stated_loss(penalty: float) -> None:
    x, labels = problem()
    fitted = fit_probe(x, labels, penalty)
    z = (x - x.mean(axis=0)) / x.std(axis=0)
    error = fitted.probabilities(x) - labels
    assert fitted.scores(x) == pytest.approx(z @ fitted.weights + fitted.intercept)
    assert z.T @ error / len(x) + penalty * fitted.weights == pytest.approx(0.0, abs=1e-5)
    assert error.mean() == pytest.approx(0.0, abs=1e-5)


def test_fit_against_another_solver() -> None:
    x, labels = problem(seed=2)
    z = StandardScaler().fit_transform(x)
    oracle = LogisticRegression(C=1.0 / (0.05 * len(x)), solver="newton-cholesky", tol=1e-10).fit(z, labels)
    fitted = fit_probe(x, labels, 0.05)
    assert fitted.weights == pytest.approx(oracle.coef_[0], abs=1e-4)
    assert fitted.intercept == pytest.approx(oracle.intercept_[0], abs=1e-4)


def test_units_and_dead_columns_change_nothing() -> None:
    x, labels = problem(seed=3)
    plain = fit_probe(x, labels).scores(x)
    assert fit_probe(1000.0 * x - 7.0, labels).scores(1000.0 * x - 7.0) == pytest.approx(plain, abs=1e-6)
    dead = np.column_stack([x, np.full(len(x), 0.1 + 0.2), np.zeros(len(x))])
    fitted = fit_probe(dead, labels)
    assert fitted.weights[-2:].tolist() == [0.0, 0.0]
    assert fitted.scores(dead) == pytest.approx(plain, abs=1e-6)


def test_bad_fits_are_refused() -> None:
    x, labels = problem()
    with pytest.raises(InputError, match="penalty must be positive"):
        fit_probe(x, labels, 0.0)
    with pytest.raises(InputError, match="with and without"):
        fit_probe(x, np.ones(len(x), dtype=bool))
    with pytest.raises(InputError, match="NaN or infinite"):
        fit_probe(np.where(x > 3, np.nan, x), labels)


def test_systems_are_held_out_as_a_whole_and_by_name() -> None:
    systems = [f"A-B{i % 200}" for i in range(1000)]
    held = held_out_systems(systems, 0.3, seed=1)
    for system in set(systems):
        assert len({bool(flag) for name, flag in zip(systems, held, strict=True) if name == system}) == 1
    assert 0.2 < held.mean() < 0.4
    assert held_out_systems(systems[::-1], 0.3, seed=1).tolist() == held[::-1].tolist()
    assert held_out_systems(systems, 0.3, seed=2).tolist() != held.tolist()
    with pytest.raises(InputError, match="between 0 and 1"):
        held_out_systems(systems, 1.0)


def test_a_probe_judges_by_the_held_out_rows_alone() -> None:
    x, labels = problem(400, seed=5)
    tested = np.arange(400) % 4 == 0
    found = probe(x, labels, tested, 0.01)
    scores = fit_probe(x[~tested], labels[~tested], 0.01).scores(x[tested])
    assert found.auc == pytest.approx(metrics.roc_auc_score(labels[tested], scores))
    assert found.auc == found.roc.auc
    assert (found.n_train, found.n_test) == (300, 100)
    assert found.train_positives + found.test_positives == labels.sum()
    assert found.auc_error == auc_error(found.auc, found.test_positives, 100 - found.test_positives)
    assert found.auc > 0.7
    # labels of the tested rows are not learnt from
    turned = probe(x, np.where(tested, ~labels, labels), tested, 0.01)
    assert turned.auc == pytest.approx(1.0 - found.auc)
    order = np.random.default_rng(0).permutation(400)
    assert probe(x[order], labels[order], tested[order], 0.01).auc == pytest.approx(found.auc, abs=1e-3)


def test_what_cannot_be_probed_says_why() -> None:
    labels = np.array([True, True, False, False, False, False])
    tested = np.array([False, False, False, False, True, True])
    assert obstacle(labels, tested) == "of 2 rows tested on, 0 have it; two of each kind are needed"
    assert obstacle(labels, ~tested) == "of 2 rows learnt from, 0 have it; two of each kind are needed"
    even = np.array([True, False] * 4)
    assert obstacle(even, np.arange(8) < 4) is None
    with pytest.raises(InputError, match="cannot be probed: of 2 rows tested on, 0 have it"):
        probe(np.zeros((6, 2)), labels, tested)
    with pytest.raises(InputError, match="n labels and n flags"):
        probe(np.zeros((6, 2)), labels[:5], tested)


def test_properties_of_compositions() -> None:
    parsed = parse_many(["NaCl", "NaCl2", "Fe3O4", "NiAl", "LiF", "ZnS", "O2"])
    expected = {
        "halogen": [1, 1, 0, 0, 1, 0, 0],
        "oxygen": [0, 0, 1, 0, 0, 0, 1],
        "alkali": [1, 1, 0, 0, 1, 0, 0],
        "transition_3d": [0, 0, 1, 1, 0, 1, 0],
        "magnetic_3d": [0, 0, 1, 1, 0, 0, 0],
    }
    for name, flags in expected.items():
        labels, applies = property_labels(name, parsed)
        assert labels.tolist() == [bool(flag) for flag in flags], name
        assert applies.all()
    labels, applies = property_labels("charge_balanced", parsed)
    # NiAl holds no typical non-metal: the rule says nothing of it
    assert applies.tolist() == [True, True, True, False, True, True, True]
    assert labels[applies].tolist() == [True, False, True, True, True, True]
    assert set(PROPERTIES) == {*expected, "charge_balanced"}
    with pytest.raises(InputError, match=r"unknown property 'colour'; take one of charge_balanced"):
        property_labels("colour", parsed)
