"""Candidates grouped by chemical system, with the best of each.

A screen's survivors come in crowds: neighbouring stoichiometries of a system rise and fall together, so what counts as
a find is the system, represented by its lowest decomposition energy.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.elements import N_ELEMENTS
from models.errors import InputError
from models.formula_text import chemsys_array


@dataclass(frozen=True)
class Systems:
    """n compositions grouped into g chemical systems.

    Attributes
    ----------
    systems : ndarray, shape (g, k), int16
        Ascending element columns, padded with -1; by arity, then by elements: the order of a composition space.
    sizes : ndarray, shape (g,), int64
        Compositions of each system.
    order : ndarray, shape (n,), int64
        Rows of the input, system by system, ascending inside a system.
    label : ndarray, shape (n,), int64
        System of each row of the input.
    """

    systems: NDArray[np.int16]
    sizes: NDArray[np.int64]
    order: NDArray[np.int64]
    label: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.systems)

    @property
    def arity(self) -> NDArray[np.int64]:
        """Number of elements of each system, shape (g,)."""
        return np.asarray(np.count_nonzero(self.systems >= 0, axis=1), dtype=np.int64)

    @property
    def starts(self) -> NDArray[np.int64]:
        """First place of each system in ``order``, shape (g,)."""
        return np.asarray(np.cumsum(self.sizes) - self.sizes)

    def count(self, chosen: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Chosen compositions of each system, shape (g,), from a mask (n,)."""
        return np.bincount(self.label[chosen], minlength=len(self)).astype(np.int64)


@dataclass(frozen=True)
class BestPerSystem:
    """The best candidate of each of g chemical systems, in the order of a composition space.

    Attributes
    ----------
    systems : ndarray, shape (g, k), int16
        Ascending element columns, padded with -1.
    n_candidates : ndarray, shape (g,), int64
        Candidates of the system.
    row : ndarray, shape (g,), int64
        Row of the best candidate in the input; the first of equals.
    decomposition_energy : ndarray, shape (g,), float64
        Its decomposition energy, eV/atom: the lowest of the system.
    """

    systems: NDArray[np.int16]
    n_candidates: NDArray[np.int64]
    row: NDArray[np.int64]
    decomposition_energy: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.systems)

    def lowest_first(self) -> BestPerSystem:
        """Sort the systems by their lowest decomposition energy; equals keep their order."""
        order = np.argsort(self.decomposition_energy, kind="stable")
        return BestPerSystem(
            self.systems[order], self.n_candidates[order], self.row[order], self.decomposition_energy[order]
        )

    def table(self) -> pd.DataFrame:
        """Columns chemsys, arity, n_candidates, row, decomposition_energy (eV/atom)."""
        return pd.DataFrame(
            {
                "chemsys": chemsys_array(self.systems).to_pylist(),
                "arity": np.count_nonzero(self.systems >= 0, axis=1),
                "n_candidates": self.n_candidates,
                "row": self.row,
                "decomposition_energy": self.decomposition_energy,
            }
        )


def ascending_columns(elements: NDArray[np.integer]) -> NDArray[np.int16]:
    """Check that element columns (n, k) ascend and are padded with -1 at the end only.

    Raises
    ------
    InputError
        For rows that are not of this form.
    """
    columns = np.asarray(elements)
    if columns.ndim != 2 or (columns.size and not -1 <= columns.min() <= columns.max() < N_ELEMENTS):
        raise InputError(f"elements must be an array (n, k) of columns between -1 and {N_ELEMENTS - 1}")
    columns = columns.astype(np.int16, copy=False)
    for left, right in zip(columns.T, columns.T[1:], strict=False):
        if ((right >= 0) & ((right <= left) | (left < 0))).any():
            raise InputError("the elements of a composition must ascend, with -1 only at the end; sort them")
    return columns


def group_by_system(elements: NDArray[np.integer]) -> Systems:
    """Group compositions by chemical system.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Ascending indices into `models.elements.ELEMENTS`, padded with -1 at the end.

    Raises
    ------
    InputError
        For rows that are not of this form: the same system could then hide under two names.
    """
    columns = ascending_columns(elements)
    arity = np.count_nonzero(columns >= 0, axis=1).astype(np.int16)
    # Sixteen-bit keys are sorted by radix, in time linear in the number of rows.
    order = np.lexsort((*columns.T[::-1], arity)).astype(np.int64)
    ordered = columns[order]
    first = np.ones(len(ordered), dtype=np.bool_)
    first[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    starts = np.flatnonzero(first)
    label = np.empty(len(ordered), dtype=np.int64)
    label[order] = np.cumsum(first) - 1
    return Systems(ordered[starts], np.diff(np.append(starts, len(ordered))).astype(np.int64), order, label)


def best_per_system(elements: NDArray[np.integer], decomposition_energy: NDArray[np.floating]) -> BestPerSystem:
    """Find the lowest decomposition energy of each chemical system.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Ascending indices into `models.elements.ELEMENTS`, padded with -1 at the end.
    decomposition_energy : ndarray, shape (n,)
        Prediction minus the hull of all other compositions, eV/atom.

    Raises
    ------
    InputError
        For arrays of different lengths, an energy that is not a number, or rows that are not ascending.
    """
    energy = np.asarray(decomposition_energy, dtype=np.float64)
    if energy.shape != (len(elements),):
        raise InputError(f"{len(elements):,} compositions need as many energies, not an array of shape {energy.shape}")
    if np.isnan(energy).any():
        raise InputError("a decomposition energy is not a number; leave such candidates out")
    groups = group_by_system(elements)
    if len(groups) == 0:
        return BestPerSystem(groups.systems, groups.sizes, groups.order, energy)
    ordered = energy[groups.order]
    lowest = np.minimum.reduceat(ordered, groups.starts)
    at_lowest = np.flatnonzero(ordered == np.repeat(lowest, groups.sizes))
    system = np.repeat(np.arange(len(groups)), groups.sizes)[at_lowest]
    first = np.searchsorted(system, np.arange(len(groups)))
    return BestPerSystem(groups.systems, groups.sizes, groups.order[at_lowest[first]], lowest)
