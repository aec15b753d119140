"""Charge balance: whether the atoms of a composition can take oxidation states that sum to zero.

Two rules. *Mixed valence*: every atom takes any state of its element by itself, so n atoms reach a set of charges and
Fe3O4 is neutral (2 Fe3+ and 1 Fe2+). *One state*: all atoms of an element share a state, the rule of SMACT (Davies et
al., Chem 1, 617, 2016), which Fe3O4 fails.

A set of charges is a bit field: the charges of n atoms lie ``0, 1, 2, ...`` above n times the element's lowest state,
and adding two sets is a union of shifted fields. The composition is neutral where the joint field holds the bit
``reach = -sum(n * lowest state)``; bits above it are never needed, so two words of 64 bits hold every case of up to
`models.space.MAX_ATOMS` atoms.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element

from models.categories import holds
from models.elements import ELEMENT_INDEX, ELEMENTS, N_ELEMENTS
from models.errors import InputError
from models.space import MAX_ATOMS

NONMETALS: Final[tuple[str, ...]] = ("N", "O", "F", "S", "Cl", "Se", "Br", "Te", "I")
"""Non-metals whose presence makes charge balance a fair demand.

Measured on the 16,834 compounds of the Materials Project's hull (set of Bartel et al., npj Comput. Mater. 6, 97, 2020),
each counted with the first element present of F O Cl Br I S Se Te N P As H Sb C Si Ge B: the mixed-valence rule passes
F 96, O 97, Cl 93, Br 85, I 77, S 94, Se 92, Te 78, N 81 %, but P 68, H 61, Sb 66, C 66, Si 53, B 45 and Ge 1 %, because
metal-rich phosphides, interstitial hydrides and carbides and Zintl phases need no integer states. As (80 %) goes with P
and Sb. Where one of this list is present 94 % of the hull's compounds pass, 87 % with one state per element.
"""

LARGEST: Final = 20_000
"""Most atoms of a formula that are balanced (0.1 s); a formula in longer numbers is a rounded mixture."""
_WORD: Final = 64
_N_BITS: Final = 128


@dataclass(frozen=True)
class ChargeRule:
    """Which oxidation states the atoms of a composition may take.

    Parameters
    ----------
    mixed_valence : bool
        Whether each atom of an element chooses its own state; False: one state per element, as SMACT has it.
    extra_states : tuple of (str, tuple of int)
        States beyond `oxidation_states`, per element; ``(("O", (-1,)),)`` lets peroxides through, which lists of
        common states otherwise fail.

    Raises
    ------
    InputError
        For an unknown element, or a state outside -5 to 9.
    """

    mixed_valence: bool = True
    extra_states: tuple[tuple[str, tuple[int, ...]], ...] = ()

    def __post_init__(self) -> None:
        for symbol, states in self.extra_states:
            if symbol not in ELEMENT_INDEX:
                raise InputError(f"element {symbol} is outside the 86 elements of the space; leave it out")
            if any(not -5 <= state <= 9 for state in states):
                raise InputError(f"oxidation states lie between -5 and 9; correct those of {symbol}: {states}")

    def states(self) -> tuple[tuple[int, ...], ...]:
        """Ascending states of each of the 86 elements, none of them 0."""
        extra = dict(self.extra_states)
        return tuple(
            tuple(sorted({*states, *extra.get(symbol, ())} - {0}))
            for symbol, states in zip(ELEMENTS, oxidation_states(), strict=True)
        )


MIXED: Final = ChargeRule()
"""Every atom takes any state of its element."""
ONE_STATE: Final = ChargeRule(mixed_valence=False)
"""All atoms of an element share a state."""


@dataclass(frozen=True)
class _Table:
    """Charges that n atoms of an element reach, as the compiled kernels read them.

    Attributes
    ----------
    lowest, highest : ndarray, shape (86,), int64
        Extreme states.
    words : ndarray, shape (86, 25, 2), uint64
        Bit b of the two words: charge b + n * lowest is reached by n atoms.
    starts : ndarray, shape (86, 26), int64
        Range of the set bits in ``bits``; the element's last range ends at ``starts[element, 25]``.
    bits : ndarray, uint8
        Numbers of the set bits, ascending, of all elements and amounts in turn.
    """

    lowest: NDArray[np.int64]
    highest: NDArray[np.int64]
    words: NDArray[np.uint64]
    starts: NDArray[np.int64]
    bits: NDArray[np.uint8]


@lru_cache(maxsize=1)
def oxidation_states() -> tuple[tuple[int, ...], ...]:
    """Oxidation states of each of the 86 elements.

    Returns
    -------
    tuple of tuple of int
        States with at least ten instances in the ICSD and 1 % of the element's entries, as pymatgen lists them
        (`Element.icsd_oxidation_states`).
        Eleven elements (Kr, Tc, Xe, Pm, Os, Pt, Au, Ac, Pa, Np, Pu) have no entry there. They take pymatgen's list of
        all known states, and where that is empty (Kr, Xe) of the common ones: taking them for uncharged would remove
        all of their salts, and letting them pass would switch the filter off in 43 % of the quaternary systems.
    """
    return tuple(_states(Element(symbol)) for symbol in ELEMENTS)


def is_neutral(
    elements: NDArray[np.integer], counts: NDArray[np.integer], rule: ChargeRule = MIXED
) -> NDArray[np.bool_]:
    """Whether compositions can be charge-neutral.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1 at the end.
    counts : ndarray, shape (n, k)
        Atom counts, padded with 0.
    rule : ChargeRule
        States, and whether an element may mix them.

    Returns
    -------
    ndarray, shape (n,), bool
        A single element is neutral by definition.

    Raises
    ------
    InputError
        For arrays that are no compositions, or a formula of more than `LARGEST` atoms.
    """
    elements, counts = _checked(elements, counts)
    neutral = np.zeros(len(elements), dtype=np.bool_)
    table = _table(rule)
    atoms = counts.sum(axis=1, dtype=np.int64)
    large = np.flatnonzero(atoms > MAX_ATOMS)
    _rows(elements, counts, atoms, table.lowest, table.highest, table.words, table.starts, table.bits, neutral)
    if len(large) == 0:
        return neutral
    if atoms[large].max() > LARGEST:
        raise InputError(
            f"a formula of {atoms[large].max():,} atoms cannot be balanced; round it to at most {LARGEST:,} atoms"
        )
    states = rule.states()
    for row in large:
        neutral[row] = _large_is_neutral(elements[row], counts[row], states, rule.mixed_valence)
    return neutral


def neutral_block(
    systems: NDArray[np.integer], stoichiometries: NDArray[np.integer], rule: ChargeRule = MIXED
) -> NDArray[np.bool_]:
    """Whether the compositions of whole chemical systems can be charge-neutral.

    Parameters
    ----------
    systems : ndarray, shape (m, k)
        Indices into `models.elements.ELEMENTS`, as in `models.space.SystemBlock`.
    stoichiometries : ndarray, shape (s, k)
        Atom counts, the same for every system, of at most `models.space.MAX_ATOMS` atoms.
    rule : ChargeRule
        States, and whether an element may mix them.

    Returns
    -------
    ndarray, shape (m, s), bool

    Raises
    ------
    InputError
        For arrays of different widths, an unknown element, or a stoichiometry with too many atoms.
    """
    systems, stoichiometries = np.asarray(systems), np.asarray(stoichiometries)
    if systems.ndim != 2 or stoichiometries.ndim != 2 or systems.shape[1] != stoichiometries.shape[1]:
        raise InputError("charge balance needs systems (m, k) and stoichiometries (s, k) of one width k")
    if systems.size and not 0 <= systems.min() <= systems.max() < N_ELEMENTS:
        raise InputError(f"element columns must lie between 0 and {N_ELEMENTS - 1}")
    atoms = stoichiometries.sum(axis=1, dtype=np.int64)
    if stoichiometries.size and (stoichiometries.min() < 0 or atoms.max() > MAX_ATOMS):
        raise InputError(f"stoichiometries of a block have at most {MAX_ATOMS} atoms; use is_neutral for larger ones")
    neutral = np.zeros((len(systems), len(stoichiometries)), dtype=np.bool_)
    table = _table(rule)
    _block(
        systems.astype(np.int64),
        stoichiometries.astype(np.int64),
        table.lowest,
        table.highest,
        table.words,
        table.starts,
        table.bits,
        neutral,
    )
    return neutral


def applies(elements: NDArray[np.integer], nonmetals: Iterable[str] = NONMETALS) -> NDArray[np.bool_]:
    """Whether charge balance may be demanded of compositions, so that intermetallics survive the filter.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.
    nonmetals : iterable of str
        Non-metals of which at least one must be present.

    Returns
    -------
    ndarray, shape (n,), bool

    Raises
    ------
    InputError
        For an unknown element.
    """
    return holds(elements, nonmetals)


def _checked(
    elements: NDArray[np.integer], counts: NDArray[np.integer]
) -> tuple[NDArray[np.integer], NDArray[np.integer]]:
    """Compositions that the compiled kernel can read without leaving its tables."""
    elements, counts = np.ascontiguousarray(elements), np.ascontiguousarray(counts)
    if elements.ndim != 2 or elements.shape != counts.shape:
        raise InputError("charge balance needs elements and counts of one shape (n, k)")
    if elements.size and not (-1 <= elements.min() <= elements.max() < N_ELEMENTS and counts.min() >= 0):
        raise InputError(f"elements must lie between -1 and {N_ELEMENTS - 1}, and counts must not be negative")
    # Two kinds of arrays only, those of a space and wide ones, so that the kernel is compiled no more often.
    return elements.astype(np.int16, copy=False), counts if counts.dtype == np.int8 else counts.astype(np.int64)


def _states(element: Element) -> tuple[int, ...]:
    for listed in (element.icsd_oxidation_states, element.oxidation_states, element.common_oxidation_states):
        if listed:
            return tuple(sorted({int(state) for state in listed} - {0}))
    return ()


@lru_cache(maxsize=8)
def _table(rule: ChargeRule) -> _Table:
    """Charges reached by 0 to `MAX_ATOMS` atoms of each element."""
    states = rule.states()
    words = np.zeros((N_ELEMENTS, MAX_ATOMS + 1, 2), dtype=np.uint64)
    starts = np.zeros((N_ELEMENTS, MAX_ATOMS + 2), dtype=np.int64)
    bits: list[int] = []
    for element, allowed in enumerate(states):
        for n in range(MAX_ATOMS + 1):
            field = _charges(n, [state - allowed[0] for state in allowed], rule.mixed_valence) & ((1 << _N_BITS) - 1)
            words[element, n] = field & ((1 << _WORD) - 1), field >> _WORD
            starts[element, n] = len(bits)
            bits += [bit for bit in range(_N_BITS) if field >> bit & 1]
        starts[element, MAX_ATOMS + 1] = len(bits)
    lowest = np.array([allowed[0] for allowed in states], dtype=np.int64)
    highest = np.array([allowed[-1] for allowed in states], dtype=np.int64)
    return _Table(lowest, highest, words, starts, np.array(bits, dtype=np.uint8))


def _charges(n: int, steps: list[int], mixed_valence: bool) -> int:
    """Bit field of the charges of n atoms above n times the lowest state."""
    if not mixed_valence:
        return sum(1 << n * step for step in set(steps)) if n else 1
    field = 1
    for _ in range(n):
        field = _united(field, steps)
    return field


def _united(field: int, shifts: Iterable[int]) -> int:
    union = 0
    for shift in shifts:
        union |= field << shift
    return union


def _large_is_neutral(
    elements: NDArray[np.integer], counts: NDArray[np.integer], states: tuple[tuple[int, ...], ...], mixed: bool
) -> bool:
    """`is_neutral` of one formula of any size, on integers of any length."""
    present = [(states[e], int(n)) for e, n in zip(elements.tolist(), counts.tolist(), strict=True) if e >= 0 and n]
    if len(present) < 2:
        return True
    reach = -sum(n * allowed[0] for allowed, n in present)
    if reach < 0:
        return False
    field = 1
    for allowed, n in present:
        steps = [state - allowed[0] for state in allowed]
        for _ in range(n if mixed else 1):
            field = _united(field, steps if mixed else [n * step for step in steps]) & ((2 << reach) - 1)
    return bool(field >> reach & 1)


@numba.njit(cache=True, nogil=True, inline="always")  # pragma: no cover - compiled, so never traced
def _shifted(low, high, n):  # type: ignore[no-untyped-def]
    """Two words shifted by n < 128 bits; a word's own shift must stay below 64."""
    if n == 0:
        return low, high
    if n < 64:
        return low << np.uint64(n), (high << np.uint64(n)) | (low >> np.uint64(64 - n))
    return np.uint64(0), low << np.uint64(n - 64)


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _neutral(elements, counts, lowest, highest, words, starts, bits):  # type: ignore[no-untyped-def]
    """`is_neutral` of one composition of at most `MAX_ATOMS` atoms."""
    present, reach, most, last = 0, 0, 0, -1
    for c in range(len(elements)):
        e = elements[c]
        if e >= 0 and counts[c] > 0:
            present += 1
            reach -= counts[c] * lowest[e]
            most += counts[c] * highest[e]
            if lowest[e] != highest[e]:
                last = c
    if present < 2:
        return True
    if reach < 0 or most < 0:
        return False
    if last < 0:
        return reach == 0
    low, high = np.uint64(1), np.uint64(0)
    for c in range(last):
        e = elements[c]
        if e < 0 or counts[c] == 0 or lowest[e] == highest[e]:
            continue
        if low == 1 and high == 0:
            low, high = words[e, counts[c], 0], words[e, counts[c], 1]
            continue
        joint_low, joint_high = np.uint64(0), np.uint64(0)
        for i in range(starts[e, counts[c]], starts[e, counts[c] + 1]):
            if bits[i] > reach:
                break
            moved_low, moved_high = _shifted(low, high, np.int64(bits[i]))
            joint_low |= moved_low
            joint_high |= moved_high
        low, high = joint_low, joint_high
    # Of the last element only the charges that bring the others to the wanted bit matter.
    e, n = elements[last], counts[last]
    for i in range(starts[e, n], starts[e, n + 1]):
        wanted = reach - np.int64(bits[i])
        if wanted < 0:
            return False
        word = low if wanted < 64 else high
        if word >> np.uint64(wanted % 64) & np.uint64(1):
            return True
    return False


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _rows(elements, counts, atoms, lowest, highest, words, starts, bits, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (n,) for the rows of at most `MAX_ATOMS` atoms."""
    for row in range(len(elements)):
        if atoms[row] <= MAX_ATOMS:
            out[row] = _neutral(elements[row], counts[row], lowest, highest, words, starts, bits)


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _block(systems, stoichiometries, lowest, highest, words, starts, bits, out):  # type: ignore[no-untyped-def]
    """Fill ``out`` (m, s)."""
    for i in range(len(systems)):
        for j in range(len(stoichiometries)):
            out[i, j] = _neutral(systems[i], stoichiometries[j], lowest, highest, words, starts, bits)
