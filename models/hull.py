"""The convex hull of formation energies, for whole tables of phases and compositions.

Elements sit at 0 eV/atom at the corners, whatever their own rows say, so a phase with an energy of 0 or more is never
needed. A phase that is not on the hull of its own chemical system is on none, so each table is reduced once to the
phases that are stable within their own system.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property, lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models import hull_quaternary, hull_walk
from models.errors import InputError
from models.facets import lower_facets
from models.phase_table import MAX_ENUMERATED_ARITY, PhaseTable, SparseCompositions, sparse, system_keys

TIE: Final = 1e-9
"""Phases at most this far above the hull of the others (eV/atom) are kept: a tie is never decided by rounding."""
_CACHED_SYSTEMS: Final = 4096
_NO_FLAGS: Final = np.zeros(0, dtype=np.bool_)


class PhaseHull:
    """Convex hull of a table of phases.

    Parameters
    ----------
    fractions : ndarray, shape (n, c), float64
        Atomic fractions of the phases; c is 86 in the product.
    energies : ndarray, shape (n,)
        Formation energies, eV/atom. Of equal compositions the lowest counts; elemental rows are ignored.

    Raises
    ------
    InputError
        When a row is no composition or an energy is not finite.

    Attributes
    ----------
    stable : PhaseTable
        Compounds on the hull of their own chemical system (ties included) with negative energy.
    candidates : PhaseTable
        All compounds with negative energy.
    """

    def __init__(self, fractions: NDArray[np.float64], energies: NDArray[np.float64]) -> None:
        energies = np.asarray(energies, dtype=np.float64)
        compositions = sparse(fractions)
        if energies.shape != (len(compositions),):
            raise InputError(f"{len(compositions)} phases need as many energies, not {energies.shape}")
        if not np.isfinite(energies).all():
            raise InputError(f"the energy of phase {int(np.argmin(np.isfinite(energies)))} is not finite; clean first")
        self.n_columns = int(np.asarray(fractions).shape[1])
        keys = compositions.keys
        order = np.lexsort((energies, keys))
        lowest = order[_firsts(keys[order])]
        needed = lowest[(compositions.arity[lowest] > 1) & (energies[lowest] < 0.0)]
        self._build(PhaseTable(compositions.select(needed), energies[needed]), keys[lowest])

    def _build(self, candidates: PhaseTable, known: NDArray[np.uint64]) -> None:
        """Set up from different compositions with negative energy and the ascending keys of all known ones."""
        self.candidates = candidates
        self._known = known
        self._is_stable = np.zeros(len(candidates), dtype=np.bool_)
        self.stable = self._reduce()
        self._facets: OrderedDict[tuple[int, ...], NDArray[np.float64]] = OrderedDict()

    def without(self, fractions: NDArray[np.float64]) -> PhaseHull:
        """Hull of the phases whose composition is not among ``fractions``, shape (m, c) float64."""
        left_out = np.sort(sparse(fractions, self.n_columns).keys)
        table = self.candidates
        keep = ~_contains(left_out, table.compositions.keys)
        other = PhaseHull.__new__(PhaseHull)
        other.n_columns = self.n_columns
        other._build(
            PhaseTable(table.compositions.select(keep), table.energies[keep]),
            self._known[~_contains(left_out, self._known)],
        )
        return other

    def _reduce(self) -> PhaseTable:
        """Mark the candidates that are stable within their own system, arity by arity."""
        stable = self._stable_table()
        for arity in np.unique(self.candidates.arity):
            hull = self._own_hull(stable, int(arity), _NO_FLAGS)
            rows = self.candidates.compositions.arity == arity
            self._is_stable[rows] = self.candidates.energies[rows] <= hull[rows] + TIE
            stable = self._stable_table()
        return stable

    def _stable_table(self) -> PhaseTable:
        return PhaseTable(
            self.candidates.compositions.select(self._is_stable), self.candidates.energies[self._is_stable]
        )

    def _own_hull(self, stable: PhaseTable, arity: int, wanted: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Hull at the candidates of one arity, from their systems' candidates and the subsystems' stable phases.

        With ``wanted`` (a flag per candidate) each flagged one gets the hull without itself.
        Shape (candidates,), NaN for other arities.
        """
        table = self.candidates
        out = np.full(len(table), np.nan)
        numbers = np.flatnonzero(table.arity == arity)
        if len(numbers) == 0:
            return out
        low, high = int(table.starts[numbers[0]]), int(table.stops[numbers[-1]])
        bounds = np.append(table.starts[numbers], high) - low
        own = np.ascontiguousarray(table.compositions.fractions[low:high, :arity])
        systems = table.systems[numbers, :arity]
        flags = wanted[low:high]
        if arity > MAX_ENUMERATED_ARITY:
            for i, system in enumerate(systems):
                part = slice(bounds[i], bounds[i + 1])
                below = stable.inside(system)
                below = below[stable.compositions.arity[below] < arity]
                out[low:high][part] = _own_hull_of_one(
                    stable.dense(below, system),
                    stable.energies[below],
                    own[part],
                    table.energies[low:high][part],
                    flags[part],
                )
            return out
        starts, stops, positions, sizes = stable.subset_ranges(systems, proper=True)
        capacity = int(((stops - starts).sum(axis=1) + np.diff(bounds)).max())
        failed = hull_walk.walk_own(
            starts, stops, positions, sizes, stable.compositions.fractions, stable.energies, capacity,
            bounds, own, table.energies[low:high], flags, out[low:high],
        )  # fmt: skip
        _check(failed, systems)
        return out

    def __len__(self) -> int:
        """Different compositions among the phases."""
        return len(self._known)

    def is_known(self, fractions: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether a composition is among the phases, stable or not; shape (n, c) float64 to (n,)."""
        return _contains(self._known, sparse(fractions, self.n_columns).keys)

    def facets(self, system: Sequence[int]) -> NDArray[np.float64]:
        """Chemical potentials of a chemical system's lower facets.

        Parameters
        ----------
        system : sequence of int
            Ascending columns of the system's k elements.

        Returns
        -------
        ndarray, shape (m, k)
            eV/atom; the hull at fractions x is the largest of ``mu . x``. Elements alone give one row of zeros.
        """
        key = tuple(int(e) for e in system)
        if key not in self._facets:
            columns = self._check_systems(np.array([key], dtype=np.int64))[0]
            rows = self.stable.inside(columns)
            self._facets[key] = lower_facets(self.stable.dense(rows, columns), self.stable.energies[rows])
            if len(self._facets) > _CACHED_SYSTEMS:
                self._facets.popitem(last=False)
        self._facets.move_to_end(key)
        return self._facets[key]

    def energy_many(self, fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Hull energies at any compositions, each in its own chemical system.

        Parameters
        ----------
        fractions : ndarray, shape (n, c), float64

        Returns
        -------
        ndarray, shape (n,)
            eV/atom, at most 0.
        """
        return self._energies(sparse(fractions, self.n_columns))

    def _energies(self, compositions: SparseCompositions) -> NDArray[np.float64]:
        out = np.zeros(len(compositions))
        systems = compositions.systems
        for arity in np.unique(compositions.arity[compositions.arity > 1]):
            rows = np.flatnonzero(compositions.arity == arity)
            rows = rows[np.argsort(systems[rows], kind="stable")]
            first = _firsts(systems[rows])
            bounds = np.append(first, len(rows))
            targets = np.ascontiguousarray(compositions.fractions[rows, :arity])
            out[rows] = self._walk_rows(compositions.elements[rows[first], :arity], bounds, targets)
        return out

    def _walk_rows(
        self, systems: NDArray[np.int64], bounds: NDArray[np.int64], targets: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        stable = self.stable
        if systems.shape[1] > MAX_ENUMERATED_ARITY:
            parts = [self._energy_of_one(s, targets[a:b]) for s, a, b in zip(systems, bounds, bounds[1:], strict=False)]
            return np.concatenate(parts)
        out = np.empty(len(targets))
        starts, stops, positions, sizes = stable.subset_ranges(systems, proper=False)
        capacity = int((stops - starts).sum(axis=1).max())
        failed = hull_walk.walk_rows(
            starts, stops, positions, sizes, stable.compositions.fractions, stable.energies, capacity,
            bounds, targets, out,
        )  # fmt: skip
        _check(failed, systems)
        return out

    def _energy_of_one(self, system: NDArray[np.int64], targets: NDArray[np.float64]) -> NDArray[np.float64]:
        rows = self.stable.inside(system)
        return hull_walk.walk_system(self.stable.dense(rows, system), self.stable.energies[rows], targets)

    def energy_system(self, system: Sequence[int], stoichiometry_fractions: NDArray[np.float64]) -> NDArray[np.float64]:
        """Hull energies of one chemical system at many compositions; see `energy_block`. Shape (s, k) to (s,)."""
        return np.asarray(self.energy_block(np.array([system], dtype=np.int64), stoichiometry_fractions)[0])

    def energy_block(
        self,
        systems: NDArray[np.integer],
        stoichiometry_fractions: NDArray[np.float64],
        *,
        exclude_own: bool = False,
    ) -> NDArray[np.float64]:
        """Hull energies of many chemical systems of one arity at the same compositions.

        Parameters
        ----------
        systems : ndarray, shape (m, k)
            Ascending columns of each system's elements.
        stoichiometry_fractions : ndarray, shape (s, k)
            Atomic fractions.
        exclude_own : bool
            Hull of all *other* compositions: where a composition is itself a stable phase, that phase is left out.

        Returns
        -------
        ndarray, shape (m, s)
            eV/atom, at most 0.

        Raises
        ------
        InputError
            When a system's elements are not ascending columns, or the shapes do not fit.
        """
        systems = self._check_systems(np.asarray(systems, dtype=np.int64))
        targets = np.ascontiguousarray(stoichiometry_fractions, dtype=np.float64)
        if targets.ndim != 2 or targets.shape[1] != systems.shape[1]:
            raise InputError(f"systems of {systems.shape[1]} elements need fractions (s, k), not {targets.shape}")
        out = np.zeros((len(systems), len(targets)))
        if systems.shape[1] == 1 or out.size == 0:
            return out
        if systems.shape[1] > MAX_ENUMERATED_ARITY:
            for i, system in enumerate(systems):
                out[i] = self._energy_of_one(system, targets)
        else:
            starts, stops, positions, sizes = self.stable.subset_ranges(systems, proper=False)
            capacity = int((stops - starts).sum(axis=1).max())
            order = _walking_order(targets.tobytes(), len(targets))
            ordered = np.empty_like(out)
            walk_block = hull_quaternary.walk_block if systems.shape[1] == 4 else hull_walk.walk_block
            failed = walk_block(
                starts, stops, positions, sizes, self.stable.compositions.fractions, self.stable.energies,
                capacity, targets[order], ordered,
            )  # fmt: skip
            _check(failed, systems)
            out[:, order] = ordered
        if exclude_own:
            self._exclude_own(systems, targets, out)
        return out

    def _exclude_own(self, systems: NDArray[np.int64], targets: NDArray[np.float64], out: NDArray[np.float64]) -> None:
        numbers = self.stable.find(system_keys(systems))
        for i in np.flatnonzero(numbers >= 0):
            rows = np.arange(self.stable.starts[numbers[i]], self.stable.stops[numbers[i]])
            own = self.stable.compositions.fractions[rows, : systems.shape[1]]
            at, phase = np.nonzero(np.abs(targets[:, None, :] - own[None]).max(axis=2) < 1e-9)
            out[i, at] = self.energy_without[rows[phase]]

    @cached_property
    def energy_without(self) -> NDArray[np.float64]:
        """Hull of all other compositions at each phase of `stable`, eV/atom, shape (stable,).

        Phases that were unstable only because of the one left out come back: they lie in its own chemical system, so
        all candidates of that system take part.
        """
        result = np.full(len(self.candidates), np.nan)
        for arity in np.unique(self.candidates.arity):
            rows = self.candidates.compositions.arity == arity
            result[rows] = self._own_hull(self.stable, int(arity), self._is_stable)[rows]
        # `stable` sorts as `candidates` does, so its rows are the flagged ones in the same order
        return result[self._is_stable]

    def decomposition_energy(
        self, fractions: NDArray[np.float64], energies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Energy minus the hull of all other compositions.

        Parameters
        ----------
        fractions : ndarray, shape (n, c), float64
            Compositions, known or not; a known one does not count as its own competitor.
        energies : ndarray, shape (n,)
            Their formation energies, eV/atom.

        Returns
        -------
        ndarray, shape (n,)
            eV/atom; negative for what would be stable.
        """
        compositions = sparse(fractions, self.n_columns)
        others = self._energies(compositions)
        own = self.stable.compositions.keys
        order = np.argsort(own)
        rows = np.flatnonzero(_contains(own[order], compositions.keys))
        if len(rows):
            phase = order[np.searchsorted(own[order], compositions.keys[rows])]
            others[rows] = self.energy_without[phase]
        return np.asarray(energies, dtype=np.float64) - others

    def _check_systems(self, systems: NDArray[np.int64]) -> NDArray[np.int64]:
        if systems.ndim != 2 or systems.shape[1] == 0 or (systems.size and (np.diff(systems, axis=1) <= 0).any()):
            raise InputError("a chemical system is a list of different elements in ascending order of their columns")
        if systems.size and (systems.min() < 0 or systems.max() >= self.n_columns):
            raise InputError(f"a chemical system names a column outside 0 to {self.n_columns - 1}")
        return systems


def _firsts(keys: NDArray[np.uint64]) -> NDArray[np.int64]:
    """Positions where a sorted array takes a new value."""
    return np.flatnonzero(np.concatenate([np.ones(min(len(keys), 1), dtype=np.bool_), keys[1:] != keys[:-1]]))


@lru_cache(maxsize=64)
def _walking_order(targets: bytes, n: int) -> NDArray[np.int64]:
    """Compositions as a chain of nearest neighbours, so that the walk crosses few ridges (a third faster)."""
    points = np.frombuffer(targets).reshape(n, -1)
    left = np.arange(n)
    order = np.empty(n, dtype=np.int64)
    at = 0
    for i in range(n):
        order[i] = left[at]
        left = np.delete(left, at)
        if len(left):
            at = int(np.abs(points[left] - points[order[i]]).sum(axis=1).argmin())
    return order


def _contains(ascending: NDArray[np.uint64], keys: NDArray[np.uint64]) -> NDArray[np.bool_]:
    if len(ascending) == 0:
        return np.zeros(len(keys), dtype=np.bool_)
    return np.asarray(ascending[np.minimum(np.searchsorted(ascending, keys), len(ascending) - 1)] == keys)


def _own_hull_of_one(
    points: NDArray[np.float64],
    energies: NDArray[np.float64],
    own: NDArray[np.float64],
    own_energies: NDArray[np.float64],
    wanted: NDArray[np.bool_],
) -> NDArray[np.float64]:
    """Do what `hull_walk.walk_own` does, for one system whose subsets are too many to enumerate."""
    if len(wanted) == 0:
        return hull_walk.walk_system(np.vstack([points, own]), np.concatenate([energies, own_energies]), own)
    out = np.full(len(own), np.nan)
    for i in np.flatnonzero(wanted):
        others = np.arange(len(own)) != i
        out[i] = hull_walk.walk_system(
            np.vstack([points, own[others]]), np.concatenate([energies, own_energies[others]]), own[i : i + 1]
        )[0]
    return out


def _check(failed: int, systems: NDArray[np.int64]) -> None:
    if failed >= 0:
        raise ArithmeticError(f"the hull of the system of columns {systems[failed].tolist()} did not converge")
