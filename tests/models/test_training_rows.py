"""Rows as the trainer takes them: scales, missing labels, classes and their weights, and what is refused."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from models.errors import InputError
from models.training_rows import Normalisation, Rows, class_weights, training_rows

X = np.arange(8.0).reshape(4, 2)


def only(y: Any, loss: str = "mae", x: Any = X, **options: Any) -> Rows:
    return training_rows(x, np.asarray(y), None, None, loss, **options)[0]


def test_targets_have_mean_0_and_spread_1() -> None:
    rows = only([1.0, 3.0, 1.0, 3.0])
    assert rows.normalisation == Normalisation((2.0,), (1.0,))
    assert rows.normalisation.to_dict() == {"mean": [2.0], "std": [1.0]}
    assert rows.y.tolist() == [[-1.0], [1.0], [-1.0], [1.0]]
    assert (len(rows), rows.is_classes, rows.normalisation.unit) == (4, False, 1.0)
    assert rows.x.dtype == rows.y.dtype == torch.float32
    assert only([[1.0], [3.0], [1.0], [5.0]]).normalisation.unit == pytest.approx(np.std([1, 3, 1, 5]))


def test_what_is_missing_has_no_say_in_the_scale() -> None:
    nan = np.nan
    rows = only([[0.0, nan], [nan, 10.0], [4.0, 30.0], [2.0, nan]])
    assert rows.normalisation.mean == (2.0, 20.0)
    assert rows.normalisation.std == pytest.approx((np.sqrt(8 / 3), 10.0))
    assert torch.isnan(rows.y).tolist() == [[False, True], [True, False], [False, False], [False, True]]
    assert rows.normalisation.unit == 1.0  # errors of several targets stay normalised


def test_held_out_rows_are_on_the_scale_of_the_training_rows() -> None:
    rows, held = training_rows(X, np.array([1.0, 3.0, 1.0, 3.0]), X[:1], np.array([7.0]), "mae")
    assert held is not None
    assert held.y.tolist() == [[5.0]]
    assert held.normalisation == rows.normalisation
    given_scale = Normalisation((-1.0,), (4.0,))
    assert only([3.0, 3.0, 3.0, 7.0], normalisation=given_scale).y.tolist() == [[1.0], [1.0], [1.0], [2.0]]
    for nothing in ((None, None), (X[:0], np.zeros(0)), (X[:1], None)):
        assert training_rows(X, np.arange(4.0), *nothing, "mae")[1] is None


def test_the_digest_is_of_inputs_and_labels() -> None:
    y = np.array([1.0, 3.0, 1.0, 4.0])
    digest = only(y).digest
    assert only(y[:, None], x=X.astype(np.float32)).digest == digest
    assert (
        len({digest, only(y + 1e-9).digest, only(y, x=X + 1).digest, only([0, 1, 0, 1], "cross_entropy").digest}) == 4
    )


def test_arrays_that_cannot_be_written_to_are_copied() -> None:
    x, y = X.astype(np.float32), np.array([0, 1, 0, 1])
    for array in (x, y):
        array.flags.writeable = False
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        rows = only(y, "cross_entropy", x)
    rows.x.add_(1.0)
    rows.y.add_(1)
    assert (x[0, 0], y[0]) == (0.0, 0)


@given(st.lists(st.integers(0, 3), min_size=2, max_size=40))
def test_class_weights_are_those_of_scikit_learn(numbers: list[int]) -> None:
    labels = np.unique(numbers, return_inverse=True)[1]
    labels = np.concatenate([labels, labels, [labels.max() + 1] * 2])  # two of each at least
    rows = only(labels, "cross_entropy", np.zeros((len(labels), 1)))
    assert rows.is_classes
    assert rows.normalisation == Normalisation((), ())
    assert class_weights(rows, False) is None
    weights = class_weights(rows, True)
    assert weights is not None
    np.testing.assert_allclose(
        weights, compute_class_weight("balanced", classes=np.unique(labels), y=labels), rtol=1e-6
    )
    assert weights[rows.y].mean().item() == pytest.approx(1.0, rel=1e-5)


def test_numbers_have_no_class_weights() -> None:
    assert class_weights(only([1.0, 2.0, 3.0, 4.0]), True) is None


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1.0, 2.0, np.inf, 4.0], "1 NaN or infinite"),
        ([np.nan, 2.0, np.nan, 4.0], "2 NaN or infinite"),
        ([[1.0, 2.0], [np.nan, np.nan], [3.0, 1.0], [4.0, 1.0]], "1 NaN or infinite"),
        ([2.0, 2.0, 2.0, 2.0], r"constant \(2\)"),
        ([[1.0, 5.0], [2.0, 5.0], [3.0, np.nan], [4.0, 5.0]], r"constant \(5\)"),
        ([[1.0, np.nan], [2.0, np.nan], [3.0, np.nan], [4.0, np.nan]], "A target has no label"),
        ([1.0, 2.0], "4 rows and 2 labels"),
        (np.zeros((4, 1, 1)), r"targets \(n,\) or \(n, k\), got shape \(4, 1, 1\)"),
        (np.zeros((4, 0)), "got shape"),
    ],
)
def test_unusable_targets_are_refused(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        only(y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.0, 1.0, 0.0, 1.0], "whole numbers"),
        ([0, -1, 0, -1], "from 0 on"),
        ([[0], [1], [0], [1]], "whole numbers"),
        ([0, 0, 0, 0], "of one class"),
        ([0, 0, 2, 2], "Class 1 has 0 training rows"),
        ([0, 0, 0, 1], "Class 1 has 1 training row: every class needs at least two"),
        ([0, 1, 0], "4 rows and 3 labels"),
    ],
)
def test_unusable_classes_are_refused(y: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        only(y, "cross_entropy")


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (X[:0], "training set is empty"),
        (X[:, :0], "training set is empty"),
        (X[0], r"features \(n, f\), got shape \(2,\)"),
        (np.where(X > 6.0, np.inf, X), "NaN or infinite"),
    ],
)
def test_unusable_inputs_are_refused(x: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        only([1.0, 2.0, 3.0, 4.0], x=x)


def test_held_out_rows_must_fit() -> None:
    y, classes = np.arange(4.0), np.array([0, 1, 0, 1])
    for loss, labels, x_val, y_val, message in (
        ("mae", y, X[:, :1], y, "Held-out rows have 1 columns, training rows 2"),
        ("mae", y, X, y[:3], "held-out rows need one label each"),
        ("mae", y, X, y * np.nan, "held-out target holds 4 NaN"),
        ("mae", y, X * np.nan, y, "held-out features hold NaN"),
        ("cross_entropy", classes, X, classes + 1, "Class 2 occurs in the held-out rows alone"),
    ):
        with pytest.raises(InputError, match=message):
            training_rows(X, labels, x_val, y_val, loss)


def test_a_constant_target_is_refused_on_whatever_scale() -> None:
    with pytest.raises(InputError, match=r"constant \(2\)"):
        training_rows(X, [2.0] * 4, None, None, "mae", Normalisation((0.0,), (1.0,)))


def test_a_scale_is_of_as_many_targets() -> None:
    with pytest.raises(InputError, match="rows have 1 targets, the model 2"):
        only([1.0, 2.0, 3.0, 4.0], normalisation=Normalisation((0.0, 0.0), (1.0, 1.0)))
