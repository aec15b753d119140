"""Folds of a table for cross-validation that keep related rows together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError


def grouped_folds(groups: Sequence[str], n_folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Folds of nearly equal size that never split a group (a reduced formula).

    Parameters
    ----------
    groups : sequence of str, length n
        Group of each row.
    n_folds : int
        Folds, at most as many as there are groups.
    seed : int
        Of the order in which groups are dealt; the result does not depend on the order of the rows.

    Returns
    -------
    ndarray, shape (n,), int64
        Fold of each row, 0 to n_folds - 1.

    Raises
    ------
    InputError
        Fewer groups than folds, or fewer than two folds.
    """
    names, inverse, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    if n_folds < 2 or len(names) < n_folds:
        raise InputError(f"{len(names)} formulas cannot make {n_folds} folds; ask for 2 to {len(names)}")
    order = np.random.default_rng(seed).permutation(len(names))
    fold_of, filled = np.zeros(len(names), dtype=np.int64), np.zeros(n_folds, dtype=np.int64)
    # large groups first, each to the emptiest fold; the shuffle decides among equals
    for name in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[name] = int(np.argmin(filled))
        filled[fold_of[name]] += sizes[name]
    return fold_of[inverse]
