"""Gradient-boosted trees as arrays: grown by scikit-learn, kept and evaluated without it.

A tree is a run of nodes; an inner node sends a row to its left child where the row's column is at most the threshold.
The prediction is a constant plus the values of the leaves that a row ends in. Arrays can be stored as safetensors; an
estimator takes a pickle.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numba
import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.stored_arrays import StoredArrays

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class BoostedTrees(StoredArrays):
    """Trees of one target.

    Attributes
    ----------
    columns : ndarray, shape (m,), int32
        Column that a node looks at; -1 in a leaf.
    thresholds : ndarray, shape (m,), float64
        Largest value that goes to the left.
    left, right : ndarray, shape (m,), int32
        Children, as nodes of all trees; 0 in a leaf.
    values : ndarray, shape (m,), float64
        What a leaf adds.
    roots : ndarray, shape (t,), int64
        First node of each tree.
    constant : ndarray, shape (1,), float64
        What is added to the trees.
    """

    KINDS: ClassVar = {
        "columns": np.int32, "thresholds": np.float64, "left": np.int32, "right": np.int32, "values": np.float64,
        "roots": np.int64, "constant": np.float64,
    }  # fmt: skip
    WHAT: ClassVar = "run of trees"

    columns: NDArray[np.int32]
    thresholds: FloatArray
    left: NDArray[np.int32]
    right: NDArray[np.int32]
    values: FloatArray
    roots: NDArray[np.int64]
    constant: FloatArray

    def predict(self, x: FloatArray) -> FloatArray:
        """Predict rows.

        Parameters
        ----------
        x : ndarray, shape (n, columns)
            Finite, in the columns that the trees were grown on.

        Returns
        -------
        ndarray, shape (n,), float64

        Raises
        ------
        InputError
            Fewer columns than the trees look at.
        """
        rows = np.ascontiguousarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] <= self.columns.max(initial=-1):
            raise InputError(f"trees look at {self.columns.max() + 1} columns, got an array {rows.shape}")
        result = np.full(len(rows), self.constant[0])
        _add_leaves(rows, self.columns, self.thresholds, self.left, self.right, self.values, self.roots, result)
        return result

    def fits(self) -> bool:
        """Whether shapes fit, all numbers are finite, and every walk stays in its tree and ends."""
        n = len(self.columns) if self.columns.ndim == 1 else -1
        nodes = (self.thresholds, self.left, self.right, self.values)
        if self.constant.shape != (1,) or self.roots.ndim != 1 or any(array.shape != (n,) for array in nodes):
            return False
        if not all(np.isfinite(array).all() for array in (self.thresholds, self.values, self.constant)):
            return False
        if len(self.roots) == 0 or self.roots[0] != 0 or (np.diff(self.roots) < 1).any() or self.roots[-1] >= n:
            return False
        inner = np.flatnonzero(self.columns >= 0)
        ends = np.append(self.roots[1:], n)[np.searchsorted(self.roots, inner, side="right") - 1]
        # children come after their node, so that every walk ends
        return all(bool(((side[inner] > inner) & (side[inner] < ends)).all()) for side in (self.left, self.right))


def grow_trees(
    x: FloatArray,
    y: FloatArray,
    *,
    n_trees: int = 600,
    learning_rate: float = 0.02,
    max_leaves: int = 12,
    min_rows: int = 8,
    ridge: float = 1.0,
    column_share: float = 0.3,
    seed: int = 0,
) -> BoostedTrees:
    """Grow boosted trees on squared errors: Ke et al., NIPS 2017, by scikit-learn's histograms.

    On as many threads as OpenMP has (``OMP_NUM_THREADS``), whose number changes no bit of the trees.

    Parameters
    ----------
    x : ndarray, shape (n, k)
        Finite.
    y : ndarray, shape (n,)
        Target, any unit.
    n_trees, learning_rate, max_leaves, min_rows, ridge, column_share
        Trees, the share of each one's correction that is taken, leaves of a tree, rows of a leaf, penalty on the
        leaves' squared values, and the share of the columns that each split may choose from.
    seed : int
        Of the columns' draws.

    Returns
    -------
    BoostedTrees
        Its predictions are scikit-learn's.

    Raises
    ------
    InputError
        A value is not finite, or there is no row.
    """
    from sklearn.ensemble import HistGradientBoostingRegressor  # half a second to import

    rows, target = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if len(rows) == 0 or not (np.isfinite(rows).all() and np.isfinite(target).all()):
        raise InputError("trees are grown on finite numbers of at least one row; clean the table")
    model = HistGradientBoostingRegressor(
        max_iter=n_trees, learning_rate=learning_rate, max_leaf_nodes=max_leaves, min_samples_leaf=min_rows,
        l2_regularization=ridge, max_features=column_share, early_stopping=False, random_state=seed,
    )  # fmt: skip
    model.fit(rows, target)  # the number of threads changes no bit: each sums up columns of its own
    return _as_arrays(model)


def _as_arrays(model: Any) -> BoostedTrees:
    """Take the trees out of a fitted estimator; its lists of nodes are not of scikit-learn's public interface."""
    trees = [predictor.nodes for (predictor,) in model._predictors]
    sizes = np.array([len(nodes) for nodes in trees], dtype=np.int64)
    roots, nodes = np.cumsum(sizes) - sizes, np.concatenate(trees)
    is_leaf, first = nodes["is_leaf"].astype(bool), np.repeat(roots, sizes)
    return BoostedTrees(
        columns=np.where(is_leaf, -1, nodes["feature_idx"]).astype(np.int32),
        thresholds=np.where(is_leaf, 0.0, nodes["num_threshold"]).astype(np.float64),
        left=np.where(is_leaf, 0, nodes["left"] + first).astype(np.int32),
        right=np.where(is_leaf, 0, nodes["right"] + first).astype(np.int32),
        values=np.where(is_leaf, nodes["value"], 0.0).astype(np.float64),
        roots=roots,
        constant=np.asarray(model._baseline_prediction, dtype=np.float64).reshape(1),
    )


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _add_leaves(x, columns, thresholds, left, right, values, roots, result):  # type: ignore[no-untyped-def]
    """Walk every tree for every row; trees in their order, so that the sum is scikit-learn's."""
    for i in range(len(x)):
        total = result[i]
        for t in range(len(roots)):
            node = roots[t]
            while columns[node] >= 0:
                node = left[node] if x[i, columns[node]] <= thresholds[node] else right[node]
            total += values[node]
        result[i] = total
