"""Boosted trees as arrays: scikit-learn's predictions, and arrays that cannot be trees."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load, save
from sklearn.ensemble import HistGradientBoostingRegressor

from models.boosted_trees import BoostedTrees, grow_trees
from models.errors import InputError


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(n, 5)).round(1)
    return x, x[:, 0] * x[:, 1] + np.sin(3 * x[:, 2])


@given(st.integers(1, 200), st.integers(0, 5), st.integers(1, 12), st.integers(2, 20))
@settings(max_examples=25)
def test_predictions_are_scikit_learns(n: int, seed: int, n_trees: int, max_leaves: int) -> None:
    """Of rows that were learnt from, and of others; one row has one leaf, the mean."""
    x, y = rows(n, seed)
    grown = grow_trees(x, y, n_trees=n_trees, max_leaves=max_leaves, min_rows=2, seed=seed)
    oracle = HistGradientBoostingRegressor(
        max_iter=n_trees, learning_rate=0.02, max_leaf_nodes=max_leaves, min_samples_leaf=2, l2_regularization=1.0,
        max_features=0.3, early_stopping=False, random_state=seed,
    ).fit(x, y)  # fmt: skip
    others = np.concatenate([x, rows(50, 77)[0]])
    assert grown.predict(others) == pytest.approx(oracle.predict(others), abs=1e-12)


def test_a_stump_by_hand() -> None:
    """Four rows, two values: the first tree takes half of each leaf's mean residual, less what the penalty keeps."""
    x, y = np.array([[0.0], [0.0], [1.0], [1.0]]), np.array([0.0, 0.0, 4.0, 4.0])
    grown = grow_trees(x, y, n_trees=1, learning_rate=0.5, max_leaves=2, min_rows=1, ridge=2.0, column_share=1.0)
    # residuals -2, -2, 2, 2; a leaf is -sum / (n + ridge) = 4 / 4
    assert grown.constant.tolist() == [2.0]
    assert grown.predict(np.array([[-9.0], [0.4], [0.6]])).tolist() == [1.5, 1.5, 2.5]


def test_arrays_there_and_back() -> None:
    x, y = rows(60)
    grown = grow_trees(x, y, n_trees=4)
    stored = load(save(grown.to_arrays("k.")))
    back = BoostedTrees.from_arrays(stored, "k.")
    assert back.predict(x).tolist() == grown.predict(x).tolist()
    assert back.predict(x[:0]).shape == (0,)
    with pytest.raises(InputError, match="run of trees lacks the arrays columns"):
        BoostedTrees.from_arrays(stored)
    with pytest.raises(InputError, match="look at"):
        back.predict(x[:, :1])
    with pytest.raises(InputError, match="finite"):
        grow_trees(np.array([[np.nan]]), np.zeros(1))


def damaged(name: str, change: Callable[[np.ndarray], np.ndarray]) -> dict[str, np.ndarray]:
    arrays = grow_trees(*rows(60), n_trees=4).to_arrays()
    return arrays | {name: change(arrays[name].copy())}


def with_first(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array[0] = value
        return array

    return change


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("left", with_first(0)),  # back to where it was
        ("right", with_first(10**6)),
        ("roots", with_first(-1)),
        ("roots", with_first(10**6)),
        ("roots", lambda array: np.zeros(10_000, dtype=np.int64)),  # one tree ten thousand times
        ("roots", lambda array: array[:0]),
        ("roots", lambda array: array[:, None]),
        ("columns", lambda array: array[:, None]),
        ("values", lambda array: array[1:]),
        ("values", with_first(np.nan)),
        ("thresholds", with_first(np.inf)),
        ("constant", lambda array: np.zeros(2)),
    ],
)
def test_walks_that_would_not_end_and_numbers_that_are_none(
    name: str, change: Callable[[np.ndarray], np.ndarray]
) -> None:
    with pytest.raises(InputError, match="do not fit each other"):
        BoostedTrees.from_arrays(damaged(name, change))


def test_a_walk_stays_in_its_tree() -> None:
    grown = grow_trees(*rows(60), n_trees=4)
    into_the_next = grown.right.copy()
    into_the_next[0] = grown.roots[1]
    with pytest.raises(InputError, match="do not fit each other"):
        BoostedTrees.from_arrays(grown.to_arrays() | {"right": into_the_next})
