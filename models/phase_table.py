"""Phases sorted by chemical system, with the look-ups that a hull needs."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError

MAX_ENUMERATED_ARITY: Final = 8
"""Above this many elements the subsets of a system are no longer enumerated."""

# Compositions are told apart by their fractions in units of 1e-8: different ones with up to 1,000 atoms differ by 1e-6,
# equal ones by 1e-16. The golden shift keeps every such rational away from a rounding boundary.
_UNITS: Final = 1e8
_SHIFT: Final = (np.sqrt(5.0) - 1.0) / 2.0
# Sums of random odd integers modulo 2**64 identify sets of elements and compositions.
_WEIGHTS: Final = np.random.default_rng(20181217).integers(1, 2**63, size=1024, dtype=np.uint64) * np.uint64(
    2
) + np.uint64(1)


@dataclass(frozen=True)
class SparseCompositions:
    """n compositions as padded lists of elements.

    Attributes
    ----------
    elements : ndarray, shape (n, a), int64
        Columns of the fraction table, ascending, padded with -1.
    fractions : ndarray, shape (n, a), float64
        Atomic fractions, padded with 0.
    arity : ndarray, shape (n,), int64
    """

    elements: NDArray[np.int64]
    fractions: NDArray[np.float64]
    arity: NDArray[np.int64]

    @property
    def systems(self) -> NDArray[np.uint64]:
        """Identity of each row's set of elements, shape (n,)."""
        return system_keys(self.elements)

    @property
    def keys(self) -> NDArray[np.uint64]:
        """Identity of each row's composition, shape (n,)."""
        units = np.floor(self.fractions * _UNITS + _SHIFT).astype(np.uint64)
        weights = np.where(self.elements < 0, 0, _WEIGHTS[self.elements])
        return np.asarray((units * weights).sum(axis=1, dtype=np.uint64))

    def __len__(self) -> int:
        return len(self.arity)

    def select(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> SparseCompositions:
        """Take the given rows."""
        return SparseCompositions(self.elements[rows], self.fractions[rows], self.arity[rows])


def sparse(fractions: NDArray[np.float64], n_columns: int | None = None) -> SparseCompositions:
    """Dense fractions to padded lists.

    Parameters
    ----------
    fractions : ndarray, shape (n, columns), float64
        Non-negative and summing to one.
    n_columns : int, optional
        Number of columns that is required.

    Raises
    ------
    InputError
        When a row is no composition, or the table has another shape or type.
    """
    fractions = np.asarray(fractions)
    if fractions.ndim != 2 or (n_columns is not None and fractions.shape[1] != n_columns):
        raise InputError(f"fractions need shape (n, {n_columns or 'elements'}), not {fractions.shape}")
    if fractions.dtype != np.float64:
        raise InputError(f"fractions must be float64 to be told apart exactly, not {fractions.dtype}; compute them so")
    sound = (fractions >= 0.0).all(axis=1) & (np.abs(fractions.sum(axis=1) - 1.0) < 1e-6)
    if not sound.all():
        raise InputError(f"row {int(np.argmin(sound))} is no composition: its fractions must be >= 0 and sum to 1")
    rows, columns = np.nonzero(fractions)
    arity = np.bincount(rows, minlength=len(fractions))
    width = int(arity.max(initial=1))
    position = np.arange(len(rows)) - np.repeat(np.cumsum(arity) - arity, arity)
    elements = np.full((len(fractions), width), -1, dtype=np.int64)
    shares = np.zeros((len(fractions), width))
    elements[rows, position] = columns
    shares[rows, position] = fractions[rows, columns]
    return SparseCompositions(elements, shares, arity)


def system_keys(elements: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Identity of sets of elements, shape (..., a) padded with -1 to shape (...); order does not matter."""
    return np.asarray(np.where(elements < 0, np.uint64(0), _WEIGHTS[elements]).sum(axis=-1, dtype=np.uint64))


@lru_cache(maxsize=32)
def subset_positions(arity: int, proper: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Subsets of two and more of ``arity`` elements.

    Returns
    -------
    positions : ndarray, shape (q, arity)
        Positions of each subset's elements in the system, padded with 0.
    sizes : ndarray, shape (q,)
    """
    subsets = [
        subset
        for size in range(2, arity + (0 if proper else 1))
        for subset in itertools.combinations(range(arity), size)
    ]
    positions = np.zeros((len(subsets), arity), dtype=np.int64)
    for i, subset in enumerate(subsets):
        positions[i, : len(subset)] = subset
    return positions, np.array([len(s) for s in subsets], dtype=np.int64)


class PhaseTable:
    """Phases sorted by chemical system.

    Parameters
    ----------
    compositions : SparseCompositions
        n phases.
    energies : ndarray, shape (n,)
        eV/atom.
    """

    def __init__(self, compositions: SparseCompositions, energies: NDArray[np.float64]) -> None:
        order = np.lexsort((energies, compositions.systems, compositions.arity))
        self.compositions = compositions.select(order)
        self.energies = energies[order]
        self.order = order
        systems = self.compositions.systems
        new = np.ones(len(systems), dtype=np.bool_)
        new[1:] = systems[1:] != systems[:-1]
        first = np.flatnonzero(new)
        self.starts = first
        self.stops = np.append(first[1:], len(systems)).astype(np.int64)[: len(first)]
        self.arity = self.compositions.arity[first]
        self._by_key = np.argsort(systems[first])
        self._keys = systems[first][self._by_key]

    def __len__(self) -> int:
        return len(self.energies)

    @property
    def systems(self) -> NDArray[np.int64]:
        """Elements of each chemical system that has phases, shape (systems, a), padded with -1."""
        return self.compositions.elements[self.starts]

    def find(self, keys: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Look up the system with each key, -1 where it has no phases; any shape."""
        if len(self._keys) == 0:
            return np.full(keys.shape, -1, dtype=np.int64)
        at = np.minimum(np.searchsorted(self._keys, keys), len(self._keys) - 1)
        return np.where(self._keys[at] == keys, self._by_key[at], -1)

    def ranges(self, keys: NDArray[np.uint64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """First and last-but-one row of the systems with these keys; empty ranges where there are none."""
        system = self.find(keys)
        if len(self.starts) == 0:
            return np.zeros(keys.shape, dtype=np.int64), np.zeros(keys.shape, dtype=np.int64)
        return np.where(system >= 0, self.starts[system], 0), np.where(system >= 0, self.stops[system], 0)

    def subset_ranges(
        self, systems: NDArray[np.integer], proper: bool
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
        """Where the phases of all subsets of systems lie.

        Parameters
        ----------
        systems : ndarray, shape (m, k)
            Elements of each system.
        proper : bool
            Leave out the system itself.

        Returns
        -------
        starts, stops : ndarray, shape (m, q)
        positions : ndarray, shape (q, k)
        sizes : ndarray, shape (q,)
            See `subset_positions`.
        """
        positions, sizes = subset_positions(systems.shape[1], proper)
        starts = np.empty((len(systems), len(sizes)), dtype=np.int64)
        stops = np.empty_like(starts)
        weights = _WEIGHTS[systems]
        for q, size in enumerate(sizes):
            keys = weights[:, positions[q, :size]].sum(axis=1, dtype=np.uint64)
            starts[:, q], stops[:, q] = self.ranges(keys)
        return starts, stops, positions, sizes

    def inside(self, system: NDArray[np.integer]) -> NDArray[np.int64]:
        """Rows of the phases that contain no element outside ``system``, any arity."""
        if len(system) > MAX_ENUMERATED_ARITY:
            allowed = np.isin(self.compositions.elements, system) | (self.compositions.elements < 0)
            return np.flatnonzero(allowed.all(axis=1))
        starts, stops, _, _ = self.subset_ranges(np.asarray(system)[None], proper=False)
        filled = np.flatnonzero(stops[0] > starts[0])
        return np.concatenate([np.arange(starts[0, q], stops[0, q]) for q in filled] or [np.zeros(0, dtype=np.int64)])

    def dense(self, rows: NDArray[np.int64], system: NDArray[np.integer]) -> NDArray[np.float64]:
        """Fractions of the given rows over the elements of ``system`` (ascending), shape (rows, k)."""
        elements, fractions = self.compositions.elements[rows], self.compositions.fractions[rows]
        result = np.zeros((len(rows), len(system)))
        r, c = np.nonzero(elements >= 0)
        result[r, np.searchsorted(system, elements[r, c])] = fractions[r, c]
        return result
