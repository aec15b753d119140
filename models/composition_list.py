"""Lists of explicit compositions, and the screening kernel for them: the sibling of `models.screening.screen_range`.

A list may hold what no composition space does: many elements, many atoms. What a composition gets does not depend on
where the list is cut. Where a space holds it too, it gets the same energies and flags as there, bit for bit: the
network's rows do not depend on their neighbours, and the hull is walked over the same compositions of its system.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.cascade import Arithmetic, Band, Clearing, decide
from models.errors import InputError
from models.formula import ParsedFormulas
from models.screening import CHUNK_ROWS, Hull, ScreenBlock, composition_fractions, merge_blocks
from models.space import MAX_ARITY, Compositions, CompositionSpace

MAX_LISTED_ARITY: Final = 16
"""Elements of a listed composition at most: the search for known neighbours goes through subsets of them."""
MAX_LISTED_ATOMS: Final = 5_000
"""Atoms of a listed reduced formula at most: the hull tells compositions apart that differ by 1e-8 in a fraction."""


@dataclass(frozen=True)
class CompositionList:
    """Compositions in a given order, asked as a `CompositionSpace` is: by number.

    Attributes
    ----------
    compositions
        Ascending element columns (n, k) int16, padded with -1, and coprime counts (n, k) int16, padded with 0.
    """

    compositions: Compositions

    def __len__(self) -> int:
        return len(self.compositions)

    def unrank(self, indices: NDArray[np.integer] | Sequence[int]) -> Compositions:
        """Compositions at the given places (n,)."""
        return Compositions(self.compositions.elements[indices], self.compositions.counts[indices])


def listing_reasons(parsed: ParsedFormulas) -> list[str | None]:
    """Why formulas cannot be screened; None for one that can, the first of several formulas of one composition.

    Parameters
    ----------
    parsed
        n formulas; rows keep their numbers, so that a reason can name the row that says the same.
    """
    atoms = parsed.amounts.sum(axis=1, dtype=np.int64)
    reasons = list(parsed.reason)
    for row in np.flatnonzero(parsed.arity == 1):
        reasons[row] = f"{parsed.reduced[row]} is a single element, whose formation energy is 0; leave it out"
    for row in np.flatnonzero(parsed.arity > MAX_LISTED_ARITY):
        reasons[row] = f"{parsed.arity[row]} elements; a listed composition has at most {MAX_LISTED_ARITY}"
    for row in np.flatnonzero(atoms > MAX_LISTED_ATOMS):
        reasons[row] = reasons[row] or (
            f"{atoms[row]:,} atoms in the reduced formula, at most {MAX_LISTED_ATOMS:,} can be told apart; "
            "write it with fewer decimals"
        )
    _, first, group = np.unique(
        np.column_stack([parsed.elements, parsed.amounts]), axis=0, return_index=True, return_inverse=True
    )
    for row in np.flatnonzero(first[group] != np.arange(len(parsed))):
        reasons[row] = reasons[row] or f"the same composition as row {first[group[row]]}"
    return reasons


def screen_list(
    compositions: Compositions,
    predictor: Arithmetic,
    hull: Hull,
    threshold: float,
    *,
    first: int = 0,
    max_atoms: int = 10,
    band: Band | None = None,
    student: Clearing | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    batch: int = CHUNK_ROWS,
) -> ScreenBlock:
    """Screen explicit compositions, a whole list or a range of one.

    Parameters
    ----------
    compositions
        Ascending element columns and coprime counts (n, k), of two elements or more each.
    predictor, hull, threshold, band, student, on_progress, batch
        As for `models.screening.screen_range`.
    first
        Place in the list of the first composition.
    max_atoms
        Atoms per formula of the composition space whose energies are to be met to the last bit, up to 24.

    Returns
    -------
    ScreenBlock
        ``index`` is the place in the list; counts by the arities that occur.

    Raises
    ------
    InputError
        If the compositions, the threshold or the batch are not usable.
    """
    if not np.isfinite(threshold):
        raise InputError(f"The threshold must be a finite energy in eV/atom, got {threshold}.")
    if batch < 1:
        raise InputError(f"The screen's batch must be at least 1, got {batch}.")
    _check(compositions)
    total = len(compositions)
    settings = (predictor, hull, threshold, max_atoms, band, student)
    kept = [_screen_chunk(_part(compositions, slice(0, 0)), first, *settings)]  # the columns of an empty result
    for low in range(0, total, batch):
        high = min(total, low + batch)
        kept.append(_screen_chunk(_part(compositions, slice(low, high)), first + low, *settings))
        if on_progress is not None:
            on_progress(high, total)
    return merge_blocks(kept)


def list_hull(
    compositions: Compositions, hull: Hull, max_atoms: int, *, exclude_own: bool = False
) -> NDArray[np.float64]:
    """Hull energies (n,), eV/atom, at compositions, of all phases or of those of other compositions.

    The last bits of a hull energy depend on the compositions that were walked before it. A composition that a space of
    ``max_atoms`` holds is therefore reached over its whole system, as in the space; any other is reached by itself.
    """
    elements, counts = compositions.elements, compositions.counts
    arity = np.count_nonzero(elements >= 0, axis=1)
    energies = np.zeros(len(compositions))
    for k in np.unique(arity).tolist():
        rows = np.flatnonzero(arity == k)
        systems, amounts = elements[rows, :k], counts[rows, :k]
        found = np.full(len(rows), np.nan)
        if k <= min(MAX_ARITY, max_atoms):
            _walk_systems(
                CompositionSpace(arities=(k,), max_atoms=max_atoms), systems, amounts, hull, exclude_own, found
            )
        _walk_alone(systems, amounts, hull, exclude_own, found)
        energies[rows] = found
    return energies


def _walk_systems(
    space: CompositionSpace,
    systems: NDArray[np.int16],
    amounts: NDArray[np.integer],
    hull: Hull,
    exclude_own: bool,
    out: NDArray[np.float64],
) -> None:
    """Fill in the energies of the compositions that the space holds, by whole systems."""
    table = space.stoichiometries(space.width)
    shares = table / table.sum(axis=1, keepdims=True, dtype=np.int64)
    index = space.rank(systems, amounts)
    inside = np.flatnonzero(index >= 0)
    system, stoichiometry = np.divmod(index[inside], len(table))
    wanted, place = np.unique(system, return_inverse=True)
    step = max(1, CHUNK_ROWS // len(table))
    for low in range(0, len(wanted), step):
        elements = space.unrank(wanted[low : low + step] * len(table)).elements
        energies = hull.energy_block(elements, shares, exclude_own=exclude_own)
        here = np.flatnonzero((place >= low) & (place < low + step))
        out[inside[here]] = energies[place[here] - low, stoichiometry[here]]


def _walk_alone(
    systems: NDArray[np.int16], amounts: NDArray[np.integer], hull: Hull, exclude_own: bool, out: NDArray[np.float64]
) -> None:
    """Fill in the energies that are still missing, each by itself; those of one stoichiometry in one call."""
    missing = np.flatnonzero(np.isnan(out))
    if len(missing) == 0:
        return
    stoichiometries, group = np.unique(amounts[missing], axis=0, return_inverse=True)
    order = np.argsort(group, kind="stable")
    bounds = np.searchsorted(group[order], np.arange(len(stoichiometries) + 1))
    shares = stoichiometries / stoichiometries.sum(axis=1, keepdims=True, dtype=np.int64)
    for number in range(len(stoichiometries)):
        rows = missing[order[bounds[number] : bounds[number + 1]]]
        out[rows] = hull.energy_block(systems[rows], shares[number : number + 1], exclude_own=exclude_own)[:, 0]


def _screen_chunk(
    compositions: Compositions,
    first: int,
    predictor: Arithmetic,
    hull: Hull,
    threshold: float,
    max_atoms: int,
    band: Band | None,
    student: Clearing | None,
) -> ScreenBlock:
    """Screen compositions that fit in memory."""
    exact = composition_fractions(compositions.elements, compositions.counts)
    others = list_hull(compositions, hull, max_atoms, exclude_own=True)
    decision = decide(predictor, exact.astype(np.float32), others, threshold, band, first, student)
    rows = decision.rows
    survivors = _part(compositions, rows)
    return ScreenBlock(
        index=rows + first,
        elements=survivors.elements,
        counts=survivors.counts,
        prediction=decision.prediction,
        prediction_std=decision.prediction_std,
        hull_energy=list_hull(survivors, hull, max_atoms),
        decomposition_energy=decision.prediction.astype(np.float64) - others[rows],
        known=hull.is_known(exact[rows]) if len(rows) else np.zeros(0, dtype=bool),
        n_screened=_by_arity(compositions),
        n_below=_by_arity(survivors),
        n_decided=decision.counts(),
    )


def _part(compositions: Compositions, rows: slice | NDArray[np.int64]) -> Compositions:
    return Compositions(compositions.elements[rows], compositions.counts[rows])


def _by_arity(compositions: Compositions) -> dict[int, int]:
    arities, n = np.unique(np.count_nonzero(compositions.elements >= 0, axis=1), return_counts=True)
    return dict(zip(arities.tolist(), n.tolist(), strict=True))


def _check(compositions: Compositions) -> None:
    """Refuse what a rank or a hull would take for another composition."""
    elements, counts = compositions.elements, compositions.counts
    if elements.ndim != 2 or elements.shape != counts.shape:
        raise InputError("compositions need elements and counts of one shape (n, k)")
    if len(elements) == 0:
        return
    used = elements >= 0
    sorted_ = (np.diff(elements, axis=1) > 0) | ~used[:, 1:]
    if not ((counts > 0) == used).all() or not sorted_.all() or (used[:, 1:] & ~used[:, :-1]).any():
        raise InputError("the elements of a composition must ascend, each with a positive count, padding at the end")
    if (used.sum(axis=1) < 2).any() or (np.gcd.reduce(counts, axis=1) != 1).any():
        raise InputError("a listed composition has two elements or more and coprime counts; reduce its formula")
