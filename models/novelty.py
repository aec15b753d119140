"""Novelty of compositions: how far is the nearest composition of a given list.

The distance of two compositions is the Euclidean (L2) distance of their vectors of atomic fractions over the 86
elements, dimensionless, between 0 and sqrt(2). "Within 1 %" is a distance of at most 0.01, as in the dissertation
behind ElemNet (section 3.3.9), so NaCl and Na49Cl51 are 0.014 apart.

Exact search. Let S be the elements that a composition a and a listed one b share. What b has outside of S counts in
full, so the squared distance is at least that part's squared norm; and because both vectors sum to 1, the fractions
that a has outside of the elements of b are missing inside them, which adds their squared sum over the number of b's
elements. Few subsets S of either composition keep both parts below the radius: for 10 atoms or fewer and a radius of
0.1 only the whole system. The list is indexed by all of its subsets, and a composition is held against the entries
that share one of its own: each pair meets at its S, none within the radius is missed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from models.best_per_system import ascending_columns
from models.elements import N_ELEMENTS
from models.errors import InputError

EXACT: Final = 1e-6
"""Distance up to which two compositions are the same: fractions stored as float32 deviate by less, and compositions of
up to 24 atoms that differ are at least 0.0025 apart."""
LIMITS: Final[dict[str, float]] = {"exact": EXACT, "within_1_percent": 0.01, "within_10_percent": 0.1}
LEVELS: Final = (*LIMITS, "new")
"""Names of the codes of `levels`."""
_SLACK: Final = 1e-9
"""Rounding that a comparison with a radius forgives."""
LARGEST_RADIUS: Final = 0.3
"""Radius beyond which the index by subsets would grow without bound."""
_WORD: Final = 63
"""Elements per word of a key; the sign stays free."""


@dataclass(frozen=True)
class _Index:
    """Entries of the list by the elements they may share with a composition.

    Attributes
    ----------
    keys : ndarray, shape (q, 2), int64
        Sets of elements as bits, ascending.
    starts : ndarray, shape (q + 1,), int64
        Range of each key's entries.
    row : ndarray, shape (p,), int64
        Row of the entry in the list, ascending inside a key.
    rest : ndarray, shape (p,), float64
        Squared norm of the entry's fractions outside of the key.
    offset : ndarray, shape (q + 1,), int64
        Place of the first fraction of each key.
    fractions : ndarray, float64
        Fractions over the key's elements, ascending, entry by entry.
    """

    keys: NDArray[np.int64]
    starts: NDArray[np.int64]
    row: NDArray[np.int64]
    rest: NDArray[np.float64]
    offset: NDArray[np.int64]
    fractions: NDArray[np.float64]


class Novelty:
    """A list of known compositions that can be asked for its nearest.

    Parameters
    ----------
    fractions : ndarray, shape (m, 86)
        Atomic fractions of the list. Rows must sum to 1; a composition may be listed more than once.
    radius : float
        Distance up to which neighbours are searched, at most `LARGEST_RADIUS`.

    Raises
    ------
    InputError
        For fractions of another shape, below 0 or with another sum, or a radius outside the limits.
    """

    def __init__(self, fractions: NDArray[np.floating], *, radius: float = LIMITS["within_10_percent"]) -> None:
        dense = np.asarray(fractions)
        if dense.ndim != 2 or dense.shape[1] != N_ELEMENTS:
            raise InputError(f"the known compositions need fractions of {N_ELEMENTS} elements, not {dense.shape}")
        rows, columns = np.nonzero(dense)
        arity = np.bincount(rows, minlength=len(dense))
        place = np.arange(len(rows)) - np.repeat(np.cumsum(arity) - arity, arity)
        width = int(arity.max(initial=1))
        elements = np.full((len(dense), width), -1, dtype=np.int16)
        shares = np.zeros((len(dense), width))
        elements[rows, place] = columns
        shares[rows, place] = dense[rows, columns]
        self._build(elements, shares, radius)

    @classmethod
    def of_compositions(
        cls,
        elements: NDArray[np.integer],
        counts: NDArray[np.integer],
        *,
        radius: float = LIMITS["within_10_percent"],
    ) -> Novelty:
        """Take the list as element columns and atom counts, as `models.formula.parse_many` gives them.

        Parameters
        ----------
        elements, counts : ndarray, shape (m, k)
            As in `nearest`.
        radius : float
            Distance up to which neighbours are searched.
        """
        novelty = cls.__new__(cls)
        columns = _columns(elements, counts)
        novelty._build(columns, atomic_shares(counts), radius)
        return novelty

    def _build(self, elements: NDArray[np.int16], shares: NDArray[np.float64], radius: float) -> None:
        if not 0 < radius <= LARGEST_RADIUS:
            raise InputError(f"the radius must lie between 0 and {LARGEST_RADIUS}, not {radius}")
        if not np.isfinite(shares).all() or (shares < 0).any() or (abs(shares.sum(axis=1) - 1) > 1e-5).any():
            raise InputError(
                "fractions of a known composition must not be negative and must sum to 1; leave others out"
            )
        self.radius = float(radius)
        self.n_known = len(elements)
        self._widest = int(np.count_nonzero(elements >= 0, axis=1).max(initial=1))
        self._index = _build_index(elements, shares, self.radius + _SLACK)

    def __len__(self) -> int:
        return self.n_known

    def nearest(
        self, elements: NDArray[np.integer], counts: NDArray[np.integer]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Nearest listed composition within the radius.

        Parameters
        ----------
        elements : ndarray, shape (n, k)
            Ascending indices into `models.elements.ELEMENTS`, padded with -1 at the end.
        counts : ndarray, shape (n, k)
            Atom counts, padded with 0. Neighbouring rows of one system, as a screen gives them, are fastest.

        Returns
        -------
        distance : ndarray, shape (n,), float64
            Euclidean distance of the atomic fractions; infinite where nothing lies within the radius.
        index : ndarray, shape (n,), int64
            Row of the nearest in the list, the first of those equal in float64; -1 where none lies within the radius.

        Raises
        ------
        InputError
            For arrays that are no compositions.
        """
        columns = _columns(elements, counts)
        shares = atomic_shares(counts)
        distance = np.full(len(columns), np.inf)
        index = np.full(len(columns), -1, dtype=np.int64)
        table = self._index
        _search(
            columns,
            shares,
            self.radius + _SLACK,
            self._widest,
            table.keys,
            table.starts,
            table.row,
            table.rest,
            table.offset,
            table.fractions,
            distance,
            index,
        )
        return distance, index

    def levels(self, elements: NDArray[np.integer], counts: NDArray[np.integer]) -> NDArray[np.int8]:
        """Novelty of compositions.

        Parameters
        ----------
        elements, counts : ndarray, shape (n, k)
            As in `nearest`.

        Returns
        -------
        ndarray, shape (n,), int8
            Index into `LEVELS`; see `level_of`.

        Raises
        ------
        InputError
            For arrays that are no compositions, or a list that is searched less far than 0.1.
        """
        if self.radius < max(LIMITS.values()):
            raise InputError(f"a list searched up to {self.radius:g} cannot tell all levels; give a radius of 0.1")
        return level_of(self.nearest(elements, counts)[0])


def level_of(distance: NDArray[np.floating]) -> NDArray[np.int8]:
    """Level of distances (n,) to the nearest known composition: index into `LEVELS`, the closest that holds.

    The limits belong to their level: a distance of 0.1 is ``within_10_percent``.
    """
    limits = np.array(list(LIMITS.values())) + _SLACK
    return np.searchsorted(limits, np.asarray(distance), side="left").astype(np.int8)


def _columns(elements: NDArray[np.integer], counts: NDArray[np.integer]) -> NDArray[np.int16]:
    """Check compositions; their element columns."""
    elements, counts = np.asarray(elements), np.asarray(counts)
    if elements.ndim != 2 or elements.shape != counts.shape:
        raise InputError("compositions need elements and counts of one shape (n, k)")
    columns = ascending_columns(elements)
    if ((counts > 0) != (columns >= 0)).any() or (columns[:, :1] < 0).any():
        raise InputError("each element of a composition needs a positive count, and each composition an element")
    return columns


def atomic_shares(counts: NDArray[np.integer]) -> NDArray[np.float64]:
    """Atom counts (n, k) -> atomic fractions (n, k); equal compositions have equal bits, whatever their multiple."""
    amounts = np.asarray(counts, dtype=np.int64)
    return np.asarray(amounts / amounts.sum(axis=1, keepdims=True))


def _build_index(elements: NDArray[np.int16], shares: NDArray[np.float64], radius: float) -> _Index:
    """Index each listed composition by the subsets of its elements that leave less than the radius outside."""
    row, dropped, rest = _subsets(shares, radius)
    kept = (elements[row] >= 0) & (dropped[:, None] >> np.arange(elements.shape[1]) & 1 == 0)
    entry, place = np.nonzero(kept)
    element = elements[row[entry], place].astype(np.int64)
    bits = np.zeros((len(row), 2), dtype=np.int64)
    np.bitwise_or.at(bits, (entry, element // _WORD), np.left_shift(1, element % _WORD))
    order = np.lexsort((row, bits[:, 1], bits[:, 0]))
    ordered = bits[order]
    first = np.ones(len(order), dtype=np.bool_)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.append(np.flatnonzero(first), len(order)).astype(np.int64)
    size = kept.sum(axis=1)[order]
    ends = np.concatenate([[0], np.cumsum(size)])
    entry, place = np.nonzero(kept[order])
    return _Index(
        ordered[starts[:-1]],
        starts,
        row[order],
        rest[order],
        ends[starts].astype(np.int64),
        np.ascontiguousarray(shares[row[order][entry], place]),
    )


def _subsets(
    shares: NDArray[np.float64], radius: float
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64]]:
    """List the sets of columns of each row whose squared norm lies below the squared radius.

    Returns
    -------
    row, dropped, rest : ndarray, shape (p,)
        Row, the columns of the set as bits, and their squared norm; the empty set of each row comes first.
    """
    row = np.arange(len(shares))
    dropped = np.zeros(len(shares), dtype=np.int64)
    rest = np.zeros(len(shares))
    for column in range(shares.shape[1]):
        share = shares[row, column]
        more = np.flatnonzero((share > 0) & (rest + share**2 <= radius**2))
        row = np.concatenate([row, row[more]])
        dropped = np.concatenate([dropped, dropped[more] | 1 << column])
        rest = np.concatenate([rest, rest[more] + share[more] ** 2])
    return row, dropped, rest


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _find(keys, first, second):  # type: ignore[no-untyped-def]
    """Place of a key, or -1."""
    low, high = 0, len(keys)
    while low < high:
        middle = (low + high) // 2
        if keys[middle, 0] < first or (keys[middle, 0] == first and keys[middle, 1] < second):
            low = middle + 1
        else:
            high = middle
    return low if low < len(keys) and keys[low, 0] == first and keys[low, 1] == second else -1


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _search(elements, shares, radius, widest, keys, starts, rows, rest, offset, fractions, distance, index):  # type: ignore[no-untyped-def]
    """Fill ``distance`` and ``index`` (n,): see `Novelty.nearest`."""
    k = elements.shape[1]
    light = np.empty(k, dtype=np.int64)
    own = np.empty(k, dtype=np.float64)
    last_first, last_second, last_place = np.int64(-1), np.int64(-1), np.int64(-1)
    for i in range(len(elements)):
        n_light = 0
        for c in range(k):
            if elements[i, c] >= 0 and shares[i, c] ** 2 * (1.0 + 1.0 / widest) <= radius**2:
                light[n_light] = c
                n_light += 1
        best, found = radius**2, np.int64(-1)
        for dropped in range(1 << n_light):
            # Element by element: the key, the fractions inside of it, and the squared norm and sum of those outside.
            first, second, n, norm, weight = np.int64(0), np.int64(0), 0, 0.0, 0.0
            at = 0
            for c in range(k):
                e = elements[i, c]
                if e < 0:
                    break
                if at < n_light and light[at] == c:
                    at += 1
                    if dropped >> (at - 1) & 1:
                        norm += shares[i, c] ** 2
                        weight += shares[i, c]
                        continue
                own[n] = shares[i, c]
                n += 1
                if e < _WORD:
                    first |= np.int64(1) << np.int64(e)
                else:
                    second |= np.int64(1) << np.int64(e - _WORD)
            if norm + weight**2 / widest > radius**2:
                continue
            if first != last_first or second != last_second:
                last_first, last_second = first, second
                last_place = _find(keys, first, second)
            if last_place < 0:
                continue
            place = offset[last_place]
            for entry in range(starts[last_place], starts[last_place + 1]):
                squared = norm + rest[entry]
                for c in range(n):
                    difference = own[c] - fractions[place + c]
                    squared += difference * difference
                place += n
                if squared < best or (squared == best and (found < 0 or rows[entry] < found)):
                    best, found = squared, rows[entry]
        if found >= 0:
            distance[i], index[i] = np.sqrt(best), found
