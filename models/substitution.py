"""New compositions by substitution: those of a list with some of their elements exchanged for others.

Databases are made this way: a prototype's stoichiometry, decorated with one set of elements after another. So what
comes out is distributed much as such a database's compounds are, in stoichiometry and in how often an element occurs.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.best_per_system import ascending_columns
from models.elements import N_ELEMENTS
from models.errors import InputError

EXCHANGED: Final = 0.5
"""Probability that an element of a composition is exchanged; at least one is."""
_LEAST_YIELD: Final = 0.01
"""A round of draws that brings fewer new compositions than this share ends the search: there are hardly any left."""


def substituted(
    elements: NDArray[np.integer], counts: NDArray[np.integer], n: int, seed: int = 0
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Draw compositions that are not in a list, each from one of it.

    Parameters
    ----------
    elements : ndarray, shape (m, k)
        Ascending indices into `models.elements.ELEMENTS`, padded with -1 at the end.
    counts : ndarray, shape (m, k)
        Coprime atom counts, padded with 0.
    n : int
        How many are wanted.
    seed : int
        Of the draws.

    Returns
    -------
    elements, counts : ndarray, shape (n', k)
        As above, each composition once, in the order in which they were drawn; fewer than n where there are no more.
        An exchanged element becomes another one with a probability in proportion to the rows that contain that.

    Raises
    ------
    InputError
        If the arrays are no compositions, or there is nothing to draw from.
    """
    columns, amounts = ascending_columns(elements), np.asarray(counts, dtype=np.int64)
    if amounts.shape != columns.shape or len(columns) == 0 or n < 1:
        raise InputError("substitution needs at least one composition, with elements and counts of one shape (m, k)")
    rows = np.bincount(columns[columns >= 0], minlength=N_ELEMENTS)
    weights = rows / rows.sum()
    random = np.random.default_rng(seed)
    seen = set(_keys(columns, amounts))
    found: list[tuple[NDArray[np.int16], NDArray[np.int64]]] = []
    missing = n
    while missing:
        drawn = _round(columns, amounts, weights, 2 * missing + 1000, random)
        keys = _keys(*drawn)
        new: list[int] = []
        for place, key in enumerate(keys):
            if key not in seen:
                seen.add(key)
                new.append(place)
        kept = np.array(new[:missing], dtype=np.int64)
        found.append((drawn[0][kept], drawn[1][kept]))
        missing -= len(kept)
        if len(new) < _LEAST_YIELD * len(keys):
            break
    return np.concatenate([one for one, _ in found]), np.concatenate([one for _, one in found])


def _round(
    columns: NDArray[np.int16],
    amounts: NDArray[np.int64],
    weights: NDArray[np.float64],
    n: int,
    random: np.random.Generator,
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Draw n times; draws in which two elements became the same are left out."""
    chosen = random.integers(len(columns), size=n)
    drawn, counts = columns[chosen].astype(np.int64), amounts[chosen]
    present = drawn >= 0
    exchanged = present & (random.random(drawn.shape) < EXCHANGED)
    lacking = ~exchanged.any(axis=1)
    exchanged[lacking, random.integers(present[lacking].sum(axis=1))] = True
    drawn = np.where(exchanged, random.choice(N_ELEMENTS, size=drawn.shape, p=weights), drawn)
    order = np.argsort(np.where(present, drawn, N_ELEMENTS), axis=1, kind="stable")
    drawn, counts = np.take_along_axis(drawn, order, axis=1), np.take_along_axis(counts, order, axis=1)
    clash = ((drawn[:, 1:] == drawn[:, :-1]) & (drawn[:, 1:] >= 0)).any(axis=1)
    return drawn[~clash].astype(np.int16), counts[~clash]


def _keys(columns: NDArray[np.integer], amounts: NDArray[np.integer]) -> list[bytes]:
    """Return one hashable per row."""
    table = np.ascontiguousarray(np.column_stack([columns, amounts]).astype(np.int32))
    return [row.tobytes() for row in table]
