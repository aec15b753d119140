"""Decomposition energies as labels, without a look at what is tested.

The decomposition energy of a compound depends on all others, so one computed once for a whole table carries the
energies of the test rows into the training labels. Here the labels to learn from are those of the training rows among
themselves, and only the truth of the test rows knows every row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.stability_judgement import all_predicted_decomposition


def decomposition_labels(
    fractions: NDArray[np.float64],
    energies: NDArray[np.float64],
    learnt: NDArray[np.int64],
    tested: NDArray[np.int64],
    dealt: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Labels of one fold: formation energy minus the hull of other compositions.

    Parameters
    ----------
    fractions : ndarray, shape (n, c), float64
        Atomic fractions of the table's rows.
    energies : ndarray, shape (n,)
        Their formation energies, eV/atom.
    learnt : ndarray, int64
        Rows that are learnt from or kept back for early stopping: held against each other alone.
    tested : ndarray, int64
        Rows that are measured: held against all that are dealt out.
    dealt : ndarray, int64
        All rows of the cross-validation, the two others among them.

    Returns
    -------
    ndarray, shape (n,)
        eV/atom; NaN for rows that are neither learnt nor tested.

    Raises
    ------
    InputError
        When a row is both learnt and tested, one is not dealt out, or an energy that counts is not finite.
    """
    if len(np.intersect1d(learnt, tested)):
        raise InputError("a row is both learnt from and tested; make folds that share none")
    dealt = np.unique(dealt)
    if not np.isin(np.concatenate([learnt, tested]), dealt).all():
        raise InputError("a fold has rows that are not dealt out; take the folds of this table")
    labels = np.full(len(energies), np.nan)
    truth = all_predicted_decomposition(fractions[dealt], energies[dealt])
    labels[tested] = truth[np.searchsorted(dealt, tested)]
    labels[learnt] = all_predicted_decomposition(fractions[learnt], energies[learnt])
    return labels
