"""Compiled lower hull: an exact linear programme that walks from facet to facet.

The hull energy at a composition b is the least energy of any mixture of phases with that composition,
``min c.x  with  A x = b, x >= 0``, the columns of A being the phases' atomic fractions. An optimal basis is a facet of
the lower hull and its dual solution the facet's chemical potentials. The next composition lies on the same facet, or a
dual simplex step crosses the ridge towards it: a few steps serve all compositions of a chemical system.
Unlike geometric hull codes this has no special case for flat, tied or collinear phases.

A tableau has one row per element and a last one of reduced costs; its columns are the n phases, then the k elements
(whose part of the tableau is the inverse of the basis).
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

PIVOT = 1e-9
"""Smallest pivot element. Entries are ratios of simplex volumes in composition space; real ones are far larger."""
INFEASIBLE = 1e-11
"""Amounts above minus this count as non-negative; they change an energy by less than 1e-10 eV/atom."""
COST = 1e-12
"""Reduced costs above minus this (eV/atom) count as non-negative."""
CALM = 60
"""Steps after which Bland's rule replaces the steepest choice, so that ties cannot make the walk go in circles."""
PATIENCE = 5000
"""Steps after which one programme is given up (never seen)."""
FRESH = 400
"""Steps after which the tableau is rebuilt, so that rounding errors do not add up."""


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def pivot(tableau, basis, row, column, k, width):  # type: ignore[no-untyped-def]
    """Exchange one phase of the basis: the column enters, the row leaves."""
    scale = 1.0 / tableau[row, column]
    for j in range(width):
        tableau[row, j] *= scale
    tableau[row, column] = 1.0
    for r in range(k + 1):
        if r != row:
            factor = tableau[r, column]
            if factor != 0.0:
                for j in range(width):
                    tableau[r, j] -= factor * tableau[row, j]
                tableau[r, column] = 0.0
    basis[row] = column


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _amounts(tableau, n, k, target, x):  # type: ignore[no-untyped-def]
    """Amounts of the basis phases that make up the target."""
    for r in range(k):
        total = 0.0
        for c in range(k):
            total += tableau[r, n + c] * target[c]
        x[r] = total


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _start(points, energies, n, k, target, tableau, basis, x):  # type: ignore[no-untyped-def]
    """Primal simplex from the elements to the facet at the target; False when it does not end."""
    width = n + k
    for r in range(k):
        for j in range(n):
            tableau[r, j] = points[j, r]
        for c in range(k):
            tableau[r, n + c] = 1.0 if c == r else 0.0
        basis[r] = n + r
    for j in range(n):
        tableau[k, j] = energies[j]
    for c in range(k):
        tableau[k, n + c] = 0.0
    for step in range(PATIENCE):
        entering, lowest = -1, -COST
        for j in range(width):
            if tableau[k, j] < lowest:
                entering, lowest = j, tableau[k, j]
                if step > CALM:
                    break
        if entering < 0:
            return True
        _amounts(tableau, n, k, target, x)
        leaving, ratio = -1, np.inf
        for r in range(k):
            if tableau[r, entering] > PIVOT:
                quotient = max(x[r], 0.0) / tableau[r, entering]
                better = quotient < ratio
                if quotient == ratio:
                    if step > CALM:
                        better = basis[r] < basis[leaving]
                    else:
                        better = tableau[r, entering] > tableau[leaving, entering]
                if better:
                    leaving, ratio = r, quotient
        if leaving < 0:
            return False
        pivot(tableau, basis, leaving, entering, k, width)
    return False


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _cross(tableau, basis, n, k, x, careful):  # type: ignore[no-untyped-def]
    """One dual simplex step. 0: already on the facet, 1: stepped, -1: no ridge to cross (rounding)."""
    leaving = -1
    for r in range(k):
        if x[r] < -INFEASIBLE:
            if leaving < 0:
                leaving = r
            elif careful:
                if basis[r] < basis[leaving]:
                    leaving = r
            elif x[r] < x[leaving]:
                leaving = r
    if leaving < 0:
        return 0
    entering, ratio, size = -1, np.inf, 0.0
    for j in range(n + k):
        entry = -tableau[leaving, j]
        if entry > PIVOT:
            quotient = max(tableau[k, j], 0.0) / entry
            if quotient < ratio or (quotient == ratio and not careful and entry > size):
                entering, ratio, size = j, quotient, entry
    if entering < 0:
        return -1
    pivot(tableau, basis, leaving, entering, k, n + k)
    return 1


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def walk(points, energies, n, k, targets, out, tableau, basis, x):  # type: ignore[no-untyped-def]
    """Hull energies of one chemical system at many compositions.

    Parameters
    ----------
    points : (>= n, >= k) float64
        Atomic fractions of the n phases over the system's k elements; the elements themselves are implied, at 0.
    energies : (>= n,) float64
        Energies of the phases, eV/atom.
    targets : (s, k) float64
        Compositions, eV/atom wanted there.
    out : (s,) float64
        Takes the hull energies, eV/atom.
    tableau, basis, x : scratch of shapes (>= k + 1, >= n + k), (>= k,) int64, (>= k,)

    Returns
    -------
    bool
        False when a programme did not end (the caller raises).
    """
    if n == 0:
        for t in range(targets.shape[0]):
            out[t] = 0.0
        return True
    steps = FRESH + 1
    for t in range(targets.shape[0]):
        target = targets[t]
        fresh = steps > FRESH
        tries = 0
        while True:
            if fresh:
                if not _start(points, energies, n, k, target, tableau, basis, x):
                    return False
                steps = 0
                break
            _amounts(tableau, n, k, target, x)
            state = _cross(tableau, basis, n, k, x, tries > CALM)
            if state == 0:
                break
            steps += 1
            tries += 1
            fresh = state < 0 or tries > FRESH
        energy = 0.0
        for c in range(k):
            energy -= tableau[k, n + c] * target[c]
        out[t] = energy
    return True


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _gather(starts, stops, positions, sizes, fractions, pool, k, points, energies):  # type: ignore[no-untyped-def]
    """Copy the phases of a system's subsystems into ``points``; returns how many."""
    n = 0
    for q in range(starts.shape[0]):
        for p in range(starts[q], stops[q]):
            for c in range(k):
                points[n, c] = 0.0
            for c in range(sizes[q]):
                points[n, positions[q, c]] = fractions[p, c]
            energies[n] = pool[p]
            n += 1
    return n


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _scratch(k, capacity):  # type: ignore[no-untyped-def]
    return (
        np.empty((capacity, k)),
        np.empty(capacity),
        np.empty((k + 1, capacity + k)),
        np.empty(k, np.int64),
        np.empty(k),
    )


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def walk_block(starts, stops, positions, sizes, fractions, pool, capacity, targets, out):  # type: ignore[no-untyped-def]
    """Hull energies of m systems at the same s compositions.

    Parameters
    ----------
    starts, stops : (m, q) int64
        Range of each system's q subsets of elements in the table of stable phases.
    positions : (q, k) int64
        Positions of a subset's elements in the system.
    sizes : (q,) int64
        Number of elements of a subset.
    fractions : (p, a) float64
        Atomic fractions of the stable phases over their own elements.
    pool : (p,) float64
        Energies of the stable phases, eV/atom.
    capacity : int
        Phases of the largest system.
    targets : (s, k) float64
    out : (m, s) float64
        Takes the hull energies, eV/atom.

    Returns
    -------
    int
        The first system that failed, or -1.
    """
    k = targets.shape[1]
    points, energies, tableau, basis, x = _scratch(k, capacity)
    for i in range(starts.shape[0]):
        n = _gather(starts[i], stops[i], positions, sizes, fractions, pool, k, points, energies)
        if not walk(points, energies, n, k, targets, out[i], tableau, basis, x):
            return i
    return -1


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def walk_rows(starts, stops, positions, sizes, fractions, pool, capacity, bounds, targets, out):  # type: ignore[no-untyped-def]
    """Hull energies of m systems, system i at the compositions ``bounds[i]:bounds[i + 1]``; see `walk_block`."""
    k = targets.shape[1]
    points, energies, tableau, basis, x = _scratch(k, capacity)
    for i in range(starts.shape[0]):
        n = _gather(starts[i], stops[i], positions, sizes, fractions, pool, k, points, energies)
        low, high = bounds[i], bounds[i + 1]
        if not walk(points, energies, n, k, targets[low:high], out[low:high], tableau, basis, x):
            return i
    return -1


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def walk_own(starts, stops, positions, sizes, fractions, pool, capacity, bounds, own, own_energies, wanted, out):  # type: ignore[no-untyped-def]
    """Hull energies at each system's own phases, themselves included (``wanted`` empty) or each one left out.

    System i owns the phases ``bounds[i]:bounds[i + 1]`` of ``own`` (fractions over the system's elements); its
    subsystems' stable phases come from the ranges, see `walk_block`. With ``wanted`` (a flag per own phase) a flagged
    phase gets the hull of all phases but itself, own phases that only it made unstable among them.
    """
    k = own.shape[1]
    points, energies, tableau, basis, x = _scratch(k, capacity)
    for i in range(starts.shape[0]):
        low, high = bounds[i], bounds[i + 1]
        m = _gather(starts[i], stops[i], positions, sizes, fractions, pool, k, points, energies)
        n = m + high - low
        points[m:n] = own[low:high]
        energies[m:n] = own_energies[low:high]
        if wanted.shape[0] == 0:
            if not walk(points, energies, n, k, own[low:high], out[low:high], tableau, basis, x):
                return i
            continue
        for p in range(low, high):
            if wanted[p]:
                # the last phase takes the place of the one left out, and goes back afterwards
                left_out = m + p - low
                points[left_out] = own[high - 1]
                energies[left_out] = own_energies[high - 1]
                if not walk(points, energies, n - 1, k, own[p : p + 1], out[p : p + 1], tableau, basis, x):
                    return i
                points[left_out] = own[p]
                energies[left_out] = own_energies[p]
    return -1


def walk_system(
    points: NDArray[np.float64], energies: NDArray[np.float64], targets: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Hull energies of one system given its phases.

    Parameters
    ----------
    points : ndarray, shape (n, k)
        Atomic fractions of the phases over the k elements; the elements are implied, at 0 eV/atom.
    energies : ndarray, shape (n,)
        eV/atom.
    targets : ndarray, shape (s, k)
        Compositions.

    Returns
    -------
    ndarray, shape (s,)
        eV/atom.

    Raises
    ------
    ArithmeticError
        When the programme does not end.
    """
    n, k = points.shape
    out = np.empty(len(targets))
    scratch = (np.empty((k + 1, n + k)), np.empty(k, np.int64), np.empty(k))
    if not walk(np.ascontiguousarray(points), energies, n, k, np.ascontiguousarray(targets), out, *scratch):
        raise ArithmeticError("the hull of a chemical system did not converge; please report its phases")
    return out
