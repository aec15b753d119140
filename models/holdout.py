"""Which rows of a table of compounds a back-test keeps back: whole pairs of elements, or what came later.

A random tenth of the rows would be no test of discovery: most of their chemical systems stay in the training data. So
either pairs of elements are drawn and everything that contains both elements of a pair is held out (that chemical
system and every superset of it), or the table is cut in time and what first appears in later releases is held out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.elements import ELEMENTS, N_ELEMENTS
from models.errors import InputError

PARTS: Final = ("training", "held_out", "left_out")
"""Names of the parts; a row is in exactly one. `left_out` is neither learnt from nor judged."""
TRAINING: Final = 0
HELD_OUT: Final = 1
LEFT_OUT: Final = 2

Pair = tuple[str, str]


@dataclass(frozen=True)
class Holdout:
    """A table cut for a back-test.

    Attributes
    ----------
    part : ndarray, shape (n,), int8
        Index into `PARTS` of each row.
    pairs : tuple of (str, str)
        Held-out pairs of elements, in alphabetical order; empty for a cut in time.
    versions : tuple of str
        Releases that are learnt from, the earliest first; empty where pairs were drawn.
    """

    part: NDArray[np.int8]
    pairs: tuple[Pair, ...] = ()
    versions: tuple[str, ...] = ()

    def counts(self) -> dict[str, int]:
        """Rows of each part."""
        return {name: int((self.part == code).sum()) for code, name in enumerate(PARTS)}


def hold_out_pairs(elements: NDArray[np.integer], share: float = 0.1, seed: int = 0) -> Holdout:
    """Draw pairs of elements until about a share of the compounds contains one of them.

    Pairs that occur in the table are drawn one after the other without regard to how common they are; the last one is
    taken if that brings the share nearer to the one asked for.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1. Rows with fewer than two elements are training rows.
    share : float
        Of the rows with two elements or more, between 0 and 1.
    seed : int
        Of the draw, which does not depend on the order of the rows.

    Returns
    -------
    Holdout

    Raises
    ------
    InputError
        When the share is not between 0 and 1, or the draw would leave nothing to hold out or to learn from.
    """
    if not 0.0 < share < 1.0:
        raise InputError(f"the held-out share must be between 0 and 1, not {share}")
    elements = np.asarray(elements)
    rows, codes = _pairs_of(elements)
    order = np.argsort(codes, kind="stable")
    present, starts = np.unique(codes[order], return_index=True)
    groups = np.split(rows[order], starts[1:])
    target = share * int((np.count_nonzero(elements >= 0, axis=1) > 1).sum())
    held = np.zeros(len(elements), dtype=np.bool_)
    chosen: list[int] = []
    n_held = 0
    for number in np.random.default_rng(seed).permutation(len(present)):
        gain = int((~held[groups[number]]).sum())
        if chosen and abs(n_held + gain - target) >= abs(n_held - target):
            break
        held[groups[number]] = True
        chosen.append(int(present[number]))
        n_held += gain
        if n_held >= target:
            break
    _check(held, np.count_nonzero(elements >= 0, axis=1) > 1, "another seed or a smaller share")
    names = [sorted((ELEMENTS[code // N_ELEMENTS], ELEMENTS[code % N_ELEMENTS])) for code in chosen]
    return Holdout(held.astype(np.int8), pairs=tuple(sorted((one, two) for one, two in names)))


def hold_out_releases(
    formulas: Sequence[str], arity: NDArray[np.integer], versions: Sequence[str], training: Sequence[str]
) -> Holdout:
    """Learn from some releases, and hold out the compositions that appear in none of them.

    Parameters
    ----------
    formulas : sequence of str, length n
        Reduced formulas.
    arity : ndarray, shape (n,)
        Numbers of elements. Elements alone are no discovery: those of later releases are left out.
    versions : sequence of str, length n
        Release of each row.
    training : sequence of str
        Releases that are learnt from, see `earliest_versions`.

    Returns
    -------
    Holdout
        Later rows of compositions that the training releases have already are left out: they are known by then.

    Raises
    ------
    InputError
        When the table has no such release, or nothing is left to hold out or to learn from.
    """
    missing = sorted(set(training) - set(versions))
    if missing:
        raise InputError(f"no row is of the release {missing[0]}; the table has {', '.join(ordered(versions))}")
    early = np.isin(np.asarray(versions, dtype=str), list(training))
    names = np.asarray(formulas, dtype=str)
    seen = np.isin(names, names[early])
    part = np.full(len(names), LEFT_OUT, dtype=np.int8)
    part[~seen & (np.asarray(arity) > 1)] = HELD_OUT
    part[early] = TRAINING
    _check(part == HELD_OUT, (np.asarray(arity) > 1) & (part != LEFT_OUT), "other releases to learn from")
    return Holdout(part, versions=tuple(ordered(training)))


def earliest_versions(versions: Iterable[str], k: int | None = None) -> tuple[str, ...]:
    """Return the k earliest releases of a table, by default all but the latest.

    Raises
    ------
    InputError
        When the table has one release only, or not more than k.
    """
    names = ordered(versions)
    wanted = len(names) - 1 if k is None else k
    if not 1 <= wanted < len(names):
        raise InputError(
            f"the table has the releases {', '.join(names) or 'none'}: {wanted} of them cannot be the early ones; "
            "map its column of releases with --map COLUMN=source_version"
        )
    return names[:wanted]


def ordered(versions: Iterable[str]) -> tuple[str, ...]:
    """Return the different releases in the order of the numbers in their names: v2 comes before v10."""

    def place(name: str) -> tuple[list[tuple[int, int | str]], str]:
        parts: list[tuple[int, int | str]] = [
            (0, int(part)) if part.isdigit() else (1, part) for part in re.findall(r"[0-9]+|[^0-9]+", name)
        ]
        return parts, name

    return tuple(sorted(set(map(str, versions)), key=place))


def first_pair(systems: Iterable[str], pairs: Iterable[Pair]) -> list[str | None]:
    """Return the first held-out pair that each chemical system contains, as ``Li-O``; None where it has none.

    Parameters
    ----------
    systems
        Chemical systems, symbols in alphabetical order joined by '-'.
    pairs
        Pairs of symbols, each in alphabetical order.
    """
    wanted = {f"{one}-{two}" for one, two in pairs}
    found: dict[str, str | None] = {}
    names = list(systems)
    for system in set(names):
        own = ("-".join(pair) for pair in combinations(system.split("-"), 2))
        found[system] = next((pair for pair in own if pair in wanted), None)
    return [found[system] for system in names]


def _pairs_of(elements: NDArray[np.integer]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows and the codes (first times 86 plus second) of every pair in every row."""
    rows, codes = [np.zeros(0, dtype=np.int64)], [np.zeros(0, dtype=np.int64)]
    for one, two in combinations(range(elements.shape[1]), 2):
        some = np.flatnonzero((elements[:, one] >= 0) & (elements[:, two] >= 0))
        both = np.sort(elements[some][:, [one, two]].astype(np.int64), axis=1)
        rows.append(some)
        codes.append(both[:, 0] * N_ELEMENTS + both[:, 1])
    return np.concatenate(rows), np.concatenate(codes)


def _check(held: NDArray[np.bool_], compounds: NDArray[np.bool_], remedy: str) -> None:
    n_held, n = int((held & compounds).sum()), int(compounds.sum())
    if n_held == 0 or n_held == n:
        raise InputError(f"{n_held} of {n} compounds would be held out; take {remedy}")
