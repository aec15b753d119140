"""Distance to the nearest of many compositions, exact however far it is.

Compositions have few elements, so most of a long list shares none with the one that is asked for. A list of the entries
of each element gives the inner products with all that do; the others lie at |a|^2 + |b|^2, of which the entry with the
smallest norm is the nearest. The squared distance |a|^2 + |b|^2 - 2 a.b loses digits where two compositions are close:
it chooses, and what it chooses is measured by the difference of the fractions.

`models.novelty` is faster for neighbours within a small radius, and says which entry is the nearest.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from models.elements import N_ELEMENTS
from models.novelty import atomic_shares

_ROUNDING = 1e-12
"""Rounding of a squared distance by inner products; entries that close to the least are measured."""


class NearestComposition:
    """Compositions that can be asked for the distance to the nearest of them.

    Parameters
    ----------
    elements : ndarray, shape (m, k)
        Indices into `models.elements.ELEMENTS`, ascending, padded with -1 at the end; at least one row.
    counts : ndarray, shape (m, k)
        Atom counts, padded with 0.
    """

    def __init__(self, elements: NDArray[np.integer], counts: NDArray[np.integer]) -> None:
        self._elements = np.ascontiguousarray(elements, dtype=np.int64)
        self._shares = atomic_shares(counts)
        self._norms = (self._shares**2).sum(axis=1)
        self._by_norm = np.argsort(self._norms, kind="stable")
        rows, places = np.nonzero(self._elements >= 0)
        columns = self._elements[rows, places]
        order = np.argsort(columns, kind="stable")
        self._starts = np.searchsorted(columns[order], np.arange(N_ELEMENTS + 1)).astype(np.int64)
        self._rows = rows[order].astype(np.int64)
        self._parts = self._shares[rows, places][order]

    def distance(self, elements: NDArray[np.integer], counts: NDArray[np.integer]) -> NDArray[np.float64]:
        """Return the Euclidean distance of atomic fractions (n,), 0 to sqrt(2), of compositions (n, k) to the nearest.

        The arrays are of the form that the list has.
        """
        squared = np.empty(len(elements))
        _search(
            np.ascontiguousarray(elements, dtype=np.int64), atomic_shares(counts), self._elements, self._shares,
            self._norms, self._by_norm, self._starts, self._rows, self._parts, squared,
        )  # fmt: skip
        return np.sqrt(squared)


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _search(asked, asked_shares, elements, shares, norms, by_norm, starts, rows, parts, squared):  # type: ignore[no-untyped-def]
    """Fill ``squared`` (n,) with the squared distance of each composition that is asked for."""
    product = np.zeros(len(elements))
    met = np.zeros(len(elements), dtype=np.bool_)
    touched = np.empty(len(elements), dtype=np.int64)
    for i in range(len(asked)):
        n, norm = 0, 0.0
        for c in range(asked.shape[1]):
            e, share = asked[i, c], asked_shares[i, c]
            if e < 0:
                break
            norm += share * share
            for place in range(starts[e], starts[e + 1]):
                row = rows[place]
                product[row] += share * parts[place]
                if not met[row]:
                    met[row] = True
                    touched[n] = row
                    n += 1
        least = np.inf
        for place in range(len(by_norm)):  # of those without a common element, the one with the smallest norm
            if not met[by_norm[place]]:
                least = norm + norms[by_norm[place]]
                break
        best = least
        for t in range(n):
            best = min(best, norm + norms[touched[t]] - 2.0 * product[touched[t]])
        found = least
        for t in range(n):
            row = touched[t]
            if norm + norms[row] - 2.0 * product[row] <= best + _ROUNDING:
                found = min(found, _measure(asked[i], asked_shares[i], elements[row], shares[row]))
            product[row] = 0.0
            met[row] = False
        squared[i] = found


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _measure(first, first_shares, second, second_shares):  # type: ignore[no-untyped-def]
    """Squared distance of two compositions by the differences of their fractions."""
    a, b, total = 0, 0, 0.0
    while (a < len(first) and first[a] >= 0) or (b < len(second) and second[b] >= 0):
        left = first[a] if a < len(first) and first[a] >= 0 else N_ELEMENTS
        right = second[b] if b < len(second) and second[b] >= 0 else N_ELEMENTS
        difference = 0.0
        if left <= right:
            difference += first_shares[a]
            a += 1
        if right <= left:
            difference -= second_shares[b]
            b += 1
        total += difference * difference
    return total
