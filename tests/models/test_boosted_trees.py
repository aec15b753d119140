"""Boosted trees as arrays: scikit-learn's predictions, and arrays that cannot be trees."""

from __future__ import annotations

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
        max_iter=n_trees, learning_rate=0.03, max_leaf_nodes=max_leaves, min_samples_leaf=2, l2_regularization=1.0,
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
    with pytest.raises(InputError, match="lack the arrays columns"):
        BoostedTrees.from_arrays(stored)
    with pytest.raises(InputError, match="look at"):
        back.predict(x[:, :1])
    with pytest.raises(InputError, match="finite"):
        grow_trees(np.array([[np.nan]]), np.zeros(1))


@pytest.mark.parametrize(
    ("name", "value"),
    [("left", 0), ("right", 10**6), ("roots", -1), ("roots", 10**6)],
)
def test_walks_that_would_not_end(name: str, value: int) -> None:
    arrays = grow_trees(*rows(60), n_trees=4).to_arrays()
    changed = arrays[name].copy()
    changed[0] = value
    with pytest.raises(InputError, match="do not fit each other"):
        BoostedTrees.from_arrays(arrays | {name: changed})
    with pytest.raises(InputError, match="do not fit each other"):
        BoostedTrees.from_arrays(arrays | {"values": arrays["values"][1:]})
