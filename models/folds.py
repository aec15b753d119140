"""Which rows a network learns from and which it is measured on.

Rows that say nearly the same never lie on both sides: the rows of a reduced formula stay together, and so do, where it
is asked, the rows of a chemical system, of an element or of a set of elements. Draws are digests of the seed and the
name, so what becomes of a row does not depend on where it stands in the table.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.cleaning import system_draw
from models.elements import ELEMENT_INDEX, ELEMENTS, N_ELEMENTS
from models.errors import InputError

HoldoutMode = Literal["contains", "within"]
"""What `hold_out_system` holds out: compounds with all the elements, or compounds of no other elements."""
MINIMUM_ROWS: Final = 20
"""Rows that an element must have for an error over them to be reported (`leave_one_element_out`)."""


@dataclass(frozen=True)
class Fold:
    """One cut of a table.

    Attributes
    ----------
    name : str
        What is held out, such as ``fold-1`` or ``Ti-O``.
    train, test : ndarray, int64
        Numbers of the rows to learn from and to measure on, ascending; no row is in both.

    Raises
    ------
    InputError
        When either has no row.
    """

    name: str
    train: NDArray[np.int64]
    test: NDArray[np.int64]

    def __post_init__(self) -> None:
        for part, rows in (("training", self.train), ("test", self.test)):
            if len(rows) == 0:
                raise InputError(f"the fold {self.name} has no {part} rows; hold out something else or add rows")


def random_folds(formulas: Sequence[str], k: int, seed: int = 0) -> list[Fold]:
    """k-fold cross-validation over compositions: the rows of one formula are always together.

    Formulas are ranked by a draw and the ranking is cut into k stretches, so that a formula that joins the table or
    leaves it moves at most one other across each cut.

    Parameters
    ----------
    formulas : sequence of str, length n
        Reduced formulas.
    k : int
        Folds, at least 2 and at most as many as there are formulas.
    seed : int
        Of the draw, which depends on seed and formula only.

    Returns
    -------
    list of Fold
        ``fold-1`` ... ``fold-k``; their numbers of test formulas differ by one at most.

    Raises
    ------
    InputError
        When k is less than 2 or more than the formulas.
    """
    names, inverse = np.unique(np.asarray(formulas, dtype=str), return_inverse=True)
    _check_k(k, len(names), "formulas")
    rank = np.empty(len(names), dtype=np.int64)
    rank[_drawn_order(names, seed, "fold")] = np.arange(len(names))
    return _folds((rank * k // len(names))[inverse], k)


def system_folds(chemsys: Sequence[str], k: int, seed: int = 0) -> list[Fold]:
    """k-fold cross-validation over chemical systems: the rows of one system are always together.

    The largest systems are dealt first, each to the fold with the fewest rows; the draw decides among equals.

    Parameters
    ----------
    chemsys : sequence of str, length n
        Chemical systems, symbols in alphabetical order joined by '-'.
    k : int
        Folds, at least 2 and at most as many as there are systems.
    seed : int
        Of the draw, which depends on seed and system only.

    Returns
    -------
    list of Fold
        ``fold-1`` ... ``fold-k``; their numbers of test rows differ by those of the largest system at most.

    Raises
    ------
    InputError
        When k is less than 2 or more than the chemical systems.
    """
    names, inverse, sizes = np.unique(np.asarray(chemsys, dtype=str), return_inverse=True, return_counts=True)
    _check_k(k, len(names), "chemical systems")
    return _folds(_deal(sizes, _drawn_order(names, seed, "system-fold"), k)[inverse], k)


def grouped_folds(groups: Sequence[str], n_folds: int, seed: int = 0) -> NDArray[np.int64]:
    """Folds of nearly equal size that never split a group (a reduced formula).

    Parameters
    ----------
    groups : sequence of str, length n
        Group of each row.
    n_folds : int
        Folds, at most as many as there are groups.
    seed : int
        Of the order in which groups are dealt; the result does not depend on the order of the rows.

    Returns
    -------
    ndarray, shape (n,), int64
        Fold of each row, 0 to n_folds - 1.

    Raises
    ------
    InputError
        Fewer groups than folds, or fewer than two folds.
    """
    names, inverse, sizes = np.unique(np.asarray(groups, dtype=str), return_inverse=True, return_counts=True)
    if n_folds < 2 or len(names) < n_folds:
        raise InputError(f"{len(names)} formulas cannot make {n_folds} folds; ask for 2 to {len(names)}")
    return _deal(sizes, np.random.default_rng(seed).permutation(len(names)), n_folds)[inverse]


def leave_one_element_out(elements: NDArray[np.integer], minimum_rows: int = MINIMUM_ROWS) -> list[Fold]:
    """One fold per element: every row that contains the element is tested, all others are learnt from.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.
    minimum_rows : int
        Elements in fewer rows than this have no fold.

    Returns
    -------
    list of Fold
        Named by the symbols, in the order of `models.elements.ELEMENTS`.

    Raises
    ------
    InputError
        When no element has that many rows, or one is in every row and leaves nothing to learn from.
    """
    table = _checked_elements(elements)
    if minimum_rows < 1:
        raise InputError(f"minimum_rows must be at least 1, not {minimum_rows}")
    holding = ((symbol, (table == code).any(axis=1)) for code, symbol in enumerate(ELEMENTS))
    folds = [_fold(symbol, held) for symbol, held in holding if held.sum() >= minimum_rows]
    if not folds:
        raise InputError(f"no element has {minimum_rows} rows; take a smaller minimum_rows or a larger table")
    return folds


def hold_out_system(elements: NDArray[np.integer], symbols: Sequence[str], mode: HoldoutMode) -> Fold:
    """Hold out what some elements form together.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.
    symbols : sequence of str
        Two elements or more.
    mode : {"contains", "within"}
        "contains" tests every compound that has all the elements, whatever else it has: Ti and O hold out BaTiO3.
        "within" tests every compound of at least two of the elements and no other: of Na, Fe, Mn and O that is each
        binary and ternary of them too, while the elements alone are learnt from.

    Returns
    -------
    Fold
        Named by the symbols joined with '-', in the order given.

    Raises
    ------
    InputError
        When a symbol is unknown or repeated, fewer than two are given, or no row is left to test or to learn from.
    """
    return _fold("-".join(symbols), system_mask(elements, symbols, mode))


def system_mask(elements: NDArray[np.integer], symbols: Sequence[str], mode: HoldoutMode) -> NDArray[np.bool_]:
    """Return which rows (n,) belong to a system, as `hold_out_system` takes and refuses it."""
    table, codes = _checked_elements(elements), _codes(symbols)
    if mode not in ("contains", "within"):
        raise InputError(f"a system is held out by 'contains' or 'within', not {mode!r}")
    if mode == "contains":
        return np.asarray(np.logical_and.reduce([(table == code).any(axis=1) for code in codes]))
    there = table >= 0
    return np.asarray((np.isin(table, codes) | ~there).all(axis=1) & (np.count_nonzero(there, axis=1) > 1))


def parse_holdout(text: str) -> tuple[tuple[str, ...], HoldoutMode]:
    """Read what to hold out: two elements mean compounds with both, three or more mean compounds of those alone.

    Parameters
    ----------
    text : str
        Symbols joined by '-', as in ``Ti-O`` or ``Na-Fe-Mn-O``.

    Returns
    -------
    symbols : tuple of str
        In the order given.
    mode : {"contains", "within"}
        For `hold_out_system`.

    Raises
    ------
    InputError
        When a symbol is unknown or repeated, or fewer than two are given.
    """
    symbols = tuple(part.strip() for part in text.split("-"))
    return symbols, "contains" if len(_codes(symbols)) == 2 else "within"


def training_subsets(rows: int | Sequence[str], sizes: Sequence[int], seed: int = 0) -> list[NDArray[np.int64]]:
    """Nested parts of the training rows for a learning curve: each is contained in all larger ones.

    Rows are taken in the order of a draw over their formulas; those of one formula follow each other, so that at most
    one formula is cut.

    Parameters
    ----------
    rows : int or sequence of str
        Reduced formulas of the training rows, or how many rows there are (each row is then its own formula).
    sizes : sequence of int
        Rows of each part, 1 to all of them, in any order.
    seed : int
        Of the draw, which depends on seed and formula only.

    Returns
    -------
    list of ndarray, int64
        Ascending positions in `rows`, one array per size in the order of the sizes.

    Raises
    ------
    InputError
        When no size is given, or one is less than 1 or more than the rows.
    """
    formulas = np.arange(rows).astype(str) if isinstance(rows, int | np.integer) else np.asarray(rows, dtype=str)
    if len(sizes) == 0:
        raise InputError("a learning curve needs at least one training size")
    for size in sizes:
        if not 1 <= size <= len(formulas):
            raise InputError(f"{len(formulas)} training rows have no part of {size}; ask for 1 to {len(formulas)}")
    names, inverse = np.unique(formulas, return_inverse=True)
    rank = np.empty(len(names), dtype=np.int64)
    rank[_drawn_order(names, seed, "learning-curve")] = np.arange(len(names))
    order = np.argsort(rank[inverse], kind="stable")
    return [np.sort(order[:size]) for size in sizes]


def _drawn_order(names: NDArray[np.str_], seed: int, purpose: str) -> NDArray[np.int64]:
    """Positions of different names in the order of their draws."""
    draws = np.array([system_draw(str(name), seed, purpose) for name in names])
    return np.argsort(draws, kind="stable")


def _deal(sizes: NDArray[np.int64], order: NDArray[np.int64], n_folds: int) -> NDArray[np.int64]:
    """Fold of each group: large groups first, each to the emptiest fold; the order decides among equals."""
    fold_of, filled = np.zeros(len(sizes), dtype=np.int64), np.zeros(n_folds, dtype=np.int64)
    for group in order[np.argsort(-sizes[order], kind="stable")]:
        fold_of[group] = int(np.argmin(filled))
        filled[fold_of[group]] += sizes[group]
    return fold_of


def _folds(number: NDArray[np.int64], k: int) -> list[Fold]:
    return [_fold(f"fold-{fold + 1}", number == fold) for fold in range(k)]


def _fold(name: str, held: NDArray[np.bool_]) -> Fold:
    return Fold(name, np.flatnonzero(~held).astype(np.int64), np.flatnonzero(held).astype(np.int64))


def _codes(symbols: Sequence[str]) -> list[int]:
    """Return the indices of two different elements or more."""
    for symbol in symbols:
        if symbol not in ELEMENT_INDEX:
            raise InputError(
                f"{symbol!r} is not one of the {N_ELEMENTS} elements from H to Pu; join symbols by '-', as in Ti-O"
            )
    text = "-".join(symbols)
    if len(set(symbols)) < len(symbols):
        raise InputError(f"{text} names an element twice; name each once")
    if len(symbols) < 2:
        raise InputError(f"{text or 'nothing'} is not a system of elements; name two elements or more, as in Ti-O")
    return [ELEMENT_INDEX[symbol] for symbol in symbols]


def _checked_elements(elements: NDArray[np.integer]) -> NDArray[np.integer]:
    table = np.asarray(elements)
    if table.ndim != 2 or (table.size and (table.min() < -1 or table.max() >= N_ELEMENTS)):
        raise InputError(
            f"elements must be a table of indices 0 to {N_ELEMENTS - 1} padded with -1; take them from parsed formulas"
        )
    return table


def _check_k(k: int, n: int, groups: str) -> None:
    if n < 2:
        raise InputError(f"{n} {groups} cannot be cut into folds; take a table with more of them")
    if not 2 <= k <= n:
        raise InputError(f"{n} {groups} cannot make {k} folds; ask for 2 to {n}")
