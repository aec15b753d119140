"""Chemical formulas: text to exact integer compositions."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.elements import ALL_SYMBOLS, ELEMENT_INDEX, N_ELEMENTS
from models.errors import FormulaError
from models.formula_text import chemsys_array, reduced_formula_array

LARGEST_COUNT: Final = 1_000_000
"""Largest atom count of a reduced formula; beyond it amounts are rounded to rationals with `LARGEST_DENOMINATOR`."""
LARGEST_DENOMINATOR: Final = 1000
OUTSIDE: Final = "is outside the 86 elements"
"""Part of the reason for a formula that can be read but has an element outside the 86."""

_SIMPLE = re.compile(r"(?:[A-Z][a-z]?[0-9]*)+")
_SIMPLE_TOKEN = re.compile(r"([A-Z][a-z]?)([0-9]*)")
_TOKEN = re.compile(r"([A-Z][a-z]?)|([0-9]+\.?[0-9]*|\.[0-9]+)|([(])|([)])")
_BRACKETS = str.maketrans("[]{}", "()()")
_HYDRATE_DOTS = re.compile("[\u00b7\u2022\u2219\u22c5*]")
_KNOWN = frozenset(ALL_SYMBOLS)

Amounts = dict[str, int | Fraction]
F = TypeVar("F", np.float32, np.float64)


@dataclass(frozen=True)
class ParsedFormulas:
    """Compositions of n formulas; a row that could not be read has arity 0 and a reason.

    Attributes
    ----------
    elements : ndarray, shape (n, k), int16
        Indices into `models.elements.ELEMENTS`, ascending, padded with -1; k is the largest arity.
    amounts : ndarray, shape (n, k), int32
        Coprime atom counts, padded with 0.
    arity : ndarray, shape (n,), int16
        Number of elements; 0 where the formula could not be read.
    reduced, chemsys : list of str
        Reduced formula and chemical system as pymatgen writes them; empty where the formula could not be read.
    reason : list of (str or None)
        Why a formula could not be read.
    """

    elements: NDArray[np.int16]
    amounts: NDArray[np.int32]
    arity: NDArray[np.int16]
    reduced: list[str]
    chemsys: list[str]
    reason: list[str | None]

    def __len__(self) -> int:
        return len(self.arity)

    @property
    def valid(self) -> NDArray[np.bool_]:
        """Rows that could be read, shape (n,)."""
        return self.arity > 0

    @property
    def counts(self) -> NDArray[np.int32]:
        """Coprime atom counts, shape (n, 86)."""
        dense = np.zeros((len(self), N_ELEMENTS), dtype=np.int32)
        rows, columns = np.nonzero(self.elements >= 0)
        dense[rows, self.elements[rows, columns]] = self.amounts[rows, columns]
        return dense

    @property
    def fractions(self) -> NDArray[np.float64]:
        """Atomic fractions, shape (n, 86); zeros where the formula could not be read."""
        return self.fractions_as(np.float64)

    def fractions_as(self, dtype: type[F]) -> NDArray[F]:
        """Atomic fractions, shape (n, 86), computed in float64 and rounded to ``dtype``."""
        dense = np.zeros((len(self), N_ELEMENTS), dtype=dtype)
        rows, columns = np.nonzero(self.elements >= 0)
        totals = self.amounts.sum(axis=1, dtype=np.int64)
        dense[rows, self.elements[rows, columns]] = self.amounts[rows, columns] / totals[rows]
        return dense

    def select(self, rows: NDArray[Any]) -> ParsedFormulas:
        """Take the given rows (indices or a mask), in that order."""
        index = np.arange(len(self))[rows]
        return ParsedFormulas(
            self.elements[index],
            self.amounts[index],
            self.arity[index],
            [self.reduced[i] for i in index],
            [self.chemsys[i] for i in index],
            [self.reason[i] for i in index],
        )


def parse(formula: str) -> dict[str, int | float]:
    """Amounts of one formula, as written (``Fe2O2`` gives two of each).

    Parameters
    ----------
    formula : str
        Brackets ``()[]{}``, decimals and hydrates (``CuSO4(H2O)5``, or with a raised dot) are understood.

    Returns
    -------
    dict
        Symbol to amount: int where it is a whole number, else float.

    Raises
    ------
    FormulaError
        When the text is no formula, an amount is zero, or an element lies outside the 86.
    """
    amounts = _parse_exact(formula)
    return {s: int(a) if a == int(a) else float(a) for s, a in amounts.items()}


def parse_many(formulas: Iterable[Any]) -> ParsedFormulas:
    """Read a column of formulas; what cannot be read gets a reason instead of an exception.

    Parameters
    ----------
    formulas : iterable of str
        n formulas; None and NaN are allowed and get a reason.

    Returns
    -------
    ParsedFormulas
        Exact integer compositions: decimals are rationals (``Li0.5CoO2`` is ``LiCo2O4``). Amounts whose integers
        would pass `LARGEST_COUNT` are first rounded to denominators of at most `LARGEST_DENOMINATOR`.
    """
    reason: list[str | None] = []
    lengths: list[int] = []
    flat_elements: list[int] = []
    flat_amounts: list[int] = []
    for formula in formulas:
        try:
            amounts = _integers(_parse_exact(formula))
        except FormulaError as error:
            reason.append(str(error))
            lengths.append(0)
            continue
        reason.append(None)
        lengths.append(len(amounts))
        flat_elements.extend([ELEMENT_INDEX[s] for s in amounts])
        flat_amounts.extend(amounts.values())
    elements, counts = _padded(lengths, flat_elements, flat_amounts)
    return ParsedFormulas(
        elements,
        counts,
        np.array(lengths, dtype=np.int16),
        reduced_formula_array(elements, counts).to_pylist(),
        chemsys_array(elements).to_pylist(),
        reason,
    )


def _padded(
    lengths: list[int], flat_elements: list[int], flat_amounts: list[int]
) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    """Ragged lists to padded arrays, elements ascending and amounts coprime per row."""
    arity = np.array(lengths, dtype=np.int64)
    rows = np.repeat(np.arange(len(arity)), arity)
    element = np.array(flat_elements, dtype=np.int64)
    amount = np.array(flat_amounts, dtype=np.int64)
    order = np.lexsort((element, rows))
    element, amount = element[order], amount[order]
    starts = np.cumsum(arity) - arity
    if len(amount):
        divisors = np.gcd.reduceat(amount, starts[arity > 0])
        amount //= np.repeat(divisors, arity[arity > 0])
    width = int(arity.max(initial=1))
    columns = np.arange(len(rows)) - np.repeat(starts, arity)
    elements = np.full((len(arity), width), -1, dtype=np.int16)
    counts = np.zeros((len(arity), width), dtype=np.int32)
    elements[rows, columns] = element
    counts[rows, columns] = amount
    return elements, counts


def _integers(amounts: Amounts) -> dict[str, int]:
    """Integers in the same proportions, small enough for int32."""
    if all(type(a) is int and a <= LARGEST_COUNT for a in amounts.values()):
        return amounts  # type: ignore[return-value]
    reduced = _proportions(amounts)
    if max(reduced.values()) > LARGEST_COUNT:
        rounded = {s: Fraction(a).limit_denominator(LARGEST_DENOMINATOR) for s, a in amounts.items()}
        if any(a == 0 for a in rounded.values()):
            raise FormulaError(f"an amount is below 1/{LARGEST_DENOMINATOR}; write the formula in whole numbers")
        reduced = _proportions(rounded)
    if max(reduced.values()) > LARGEST_COUNT:
        raise FormulaError(f"amounts need counts above {LARGEST_COUNT:,}; write the formula with fewer decimals")
    return reduced


def _proportions(amounts: Amounts | dict[str, Fraction]) -> dict[str, int]:
    scale = math.lcm(*(Fraction(a).denominator for a in amounts.values()))
    whole = {s: int(a * scale) for s, a in amounts.items()}
    divisor = math.gcd(*whole.values())
    return {s: a // divisor for s, a in whole.items()}


def _parse_exact(formula: Any) -> Amounts:
    if not isinstance(formula, str) or not formula:
        raise FormulaError("no formula; every row needs one, such as LiFePO4")
    if _SIMPLE.fullmatch(formula) is None:
        return _parse_general(formula)
    amounts: Amounts = {}
    for symbol, digits in _SIMPLE_TOKEN.findall(formula):
        amount = int(digits) if digits else 1
        if symbol not in ELEMENT_INDEX or amount == 0:
            _refuse(symbol, formula)
        amounts[symbol] = amounts.get(symbol, 0) + amount
    return amounts


def _parse_general(formula: str) -> Amounts:
    """Brackets, decimals, spaces and hydrates: parts between raised dots may start with a multiplier."""
    text = "".join(formula.split()).translate(_BRACKETS)
    total: Amounts = {}
    for part in _HYDRATE_DOTS.split(text):
        leading = re.match(r"[0-9]+(?:\.[0-9]+)?", part) if part is not text else None
        factor = _number(leading.group(), formula) if leading else 1
        for symbol, amount in _parse_part(part[leading.end() if leading else 0 :], formula).items():
            total[symbol] = total.get(symbol, 0) + factor * amount
    return total


def _parse_part(part: str, formula: str) -> Amounts:
    stack: list[list[tuple[Amounts, int | Fraction]]] = [[]]
    position = 0
    countable = False  # whether a number may follow here
    while position < len(part):
        match = _TOKEN.match(part, position)
        if match is None or (match.group(2) and not countable):
            raise FormulaError(f"cannot read {part[position:]!r} in formula {formula!r}; write it like Li7La3(ZrO6)2")
        symbol, number, opening, closing = match.groups()
        position = match.end()
        countable = bool(symbol or closing)
        if symbol:
            if symbol not in ELEMENT_INDEX:
                _refuse(symbol, formula)
            stack[-1].append(({symbol: 1}, 1))
        elif number:
            stack[-1][-1] = (stack[-1][-1][0], _number(number, formula))
        elif opening:
            stack.append([])
        elif closing:
            if len(stack) == 1 or not stack[-1]:
                raise FormulaError(f"brackets do not match in formula {formula!r}; check them")
            stack[-2].append((_sum(stack.pop()), 1))
    if len(stack) > 1:
        raise FormulaError(f"brackets do not match in formula {formula!r}; check them")
    if not stack[0]:
        raise FormulaError(f"no elements in formula {formula!r}; write it like Li7La3(ZrO6)2")
    return _sum(stack[0])


def _sum(groups: list[tuple[Amounts, int | Fraction]]) -> Amounts:
    total: Amounts = {}
    for amounts, factor in groups:
        for symbol, amount in amounts.items():
            total[symbol] = total.get(symbol, 0) + amount * factor
    return total


def _number(text: str, formula: str) -> int | Fraction:
    value = Fraction(text)
    if value == 0:
        raise FormulaError(f"an amount is zero in formula {formula!r}; leave the element out")
    return int(value) if value.denominator == 1 else value


def _refuse(symbol: str, formula: str) -> None:
    if symbol in ELEMENT_INDEX:
        raise FormulaError(f"the amount of {symbol} is zero in formula {formula!r}; leave the element out")
    if symbol in _KNOWN:
        raise FormulaError(f"element {symbol} in formula {formula!r} {OUTSIDE}; leave such rows out")
    raise FormulaError(f"{symbol} in formula {formula!r} is no element; check the spelling")
