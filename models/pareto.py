"""Rows that no other row beats in everything that is asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import InputError


def pareto_front(costs: ArrayLike) -> NDArray[np.bool_]:
    """Find the rows that are on the Pareto front.

    Parameters
    ----------
    costs : array_like, shape (n, m)
        What is to be small in each of m respects.

    Returns
    -------
    ndarray of bool, shape (n,)
        True where no other row is at least as good in all respects and better in one. Equal rows are on it together;
        a row with a NaN is not on it and beats nobody.
    """
    values = np.asarray(costs, dtype=np.float64)
    if values.ndim != 2:
        raise InputError(f"costs have shape {values.shape}; give a row per candidate and a column per respect")
    known = np.flatnonzero(~np.isnan(values).any(axis=1))
    # by the sum, so that whoever beats a row comes before it, and only rows of the front are compared with
    order = known[np.lexsort([*values[known].T[::-1], values[known].sum(axis=1)])]
    front: list[int] = []
    for row in order:
        ahead = values[front]
        beaten = bool(front) and bool(((ahead <= values[row]).all(axis=1) & (ahead < values[row]).any(axis=1)).any())
        if not beaten:
            front.append(int(row))
    found = np.zeros(len(values), dtype=np.bool_)
    found[front] = True
    return found
