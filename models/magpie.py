"""The 145 composition attributes of Ward et al., npj Comput. Mater. 2, 16028 (2016), for whole tables at once.

Names, order and values are those of four featurizers of matminer run one after the other:
``Stoichiometry()`` (6), ``ElementProperty.from_preset("magpie")`` (132), ``ValenceOrbital(props=["avg"])`` (4) and
``IonProperty(fast=True)`` (3).

What depends on amounts and not on fractions alone: whether a neutral compound is possible, since charges are added up
over the atoms of the formula, and which element counts as the most frequent. Fractions are rounded, amounts are not,
therefore the functions take amounts. Multiplying a formula by a whole number changes nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numba
import numpy as np
from numpy.typing import NDArray

from models.elements import N_ELEMENTS
from models.errors import FormulaError, InputError
from models.formula import ParsedFormulas, parse_many
from models.magpie_data import PROPERTIES, VALENCE, element_data

NORMS: Final = (2, 3, 5, 7, 10)
"""Orders p of the norms of the atomic fractions; the norm of order 0 is the number of elements."""
STATISTICS: Final = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")
MAGPIE_NAMES: Final[tuple[str, ...]] = (
    "0-norm",
    *(f"{p}-norm" for p in NORMS),
    *(f"MagpieData {statistic} {name}" for name in PROPERTIES for statistic in STATISTICS),
    *(f"avg {orbital} valence electrons" for orbital in "spdf"),
    "compound possible",
    "max ionic char",
    "avg ionic char",
)
"""Names of the attributes, in order; avg_dev is the mean absolute deviation from the mean, weighted by the amounts."""

_NEUTRAL = 1e-8
"""Largest charge of a formula that counts as none: numpy.isclose against zero."""
_TIE = 1e-5
"""Relative difference up to which two amounts count as equally frequent: that of numpy.isclose."""

_STATISTICS_AT = 1 + len(NORMS)
_VALENCE_AT = _STATISTICS_AT + len(PROPERTIES) * len(STATISTICS)
_ION_AT = _VALENCE_AT + len(VALENCE)
_NORM_ORDERS = np.array(NORMS, dtype=np.float64)
_VALENCE = np.array(VALENCE, dtype=np.int64)


def magpie_attributes(elements: NDArray[np.integer], amounts: NDArray[np.number]) -> NDArray[np.float64]:
    """Magpie attributes of compositions.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, each element once per row, in any order, padded with -1 anywhere:
        what `models.formula.parse_many` and `models.space.CompositionSpace.unrank` give.
    amounts : ndarray, shape (n, k)
        Atoms of each element in the formula, positive; entries of the padding are ignored.

    Returns
    -------
    ndarray, shape (n, 145), float64
        Columns in the order of `MAGPIE_NAMES`; flags as 0 and 1. A row without elements (a formula that could not be
        read) is NaN throughout; every other row is finite, because gaps in the element data are filled with means.
        A single element counts as a possible compound, with no ionic character.

    Raises
    ------
    InputError
        For arrays of different shapes, an index outside the 86 elements, an element twice in a row, or an amount that
        is not positive and finite.
    """
    columns = np.ascontiguousarray(elements, dtype=np.int64)
    weights = np.ascontiguousarray(amounts, dtype=np.float64)
    _check(columns, weights)
    data = element_data()
    result = np.empty((len(columns), len(MAGPIE_NAMES)))
    _fill(
        columns,
        weights,
        data.properties,
        data.electronegativity,
        data.oxidation_states,
        data.n_oxidation_states,
        _NORM_ORDERS,
        _VALENCE,
        result,
    )
    return result


def magpie_from_formulas(formulas: Sequence[str] | ParsedFormulas) -> NDArray[np.float64]:
    """Magpie attributes of formulas, by their coprime atom counts.

    Parameters
    ----------
    formulas : sequence of str or ParsedFormulas
        n formulas, or the result of `models.formula.parse_many`.

    Returns
    -------
    ndarray, shape (n, 145), float64
        See `magpie_attributes`.

    Raises
    ------
    FormulaError
        When a formula cannot be read; the message names the first.
    """
    parsed = formulas if isinstance(formulas, ParsedFormulas) else parse_many(formulas)
    for row, reason in enumerate(parsed.reason):
        if reason is not None:
            raise FormulaError(f"row {row}: {reason}; clean the table first")
    return magpie_attributes(parsed.elements, parsed.amounts)


def _check(elements: NDArray[np.int64], amounts: NDArray[np.float64]) -> None:
    if elements.ndim != 2 or elements.shape != amounts.shape:
        raise InputError(
            f"elements {elements.shape} and amounts {amounts.shape} must be tables of the same shape; see parse_many"
        )
    if elements.size == 0:
        return
    if elements.min() < -1 or elements.max() >= N_ELEMENTS:
        raise InputError(f"an element index lies outside of -1 to {N_ELEMENTS - 1}; use models.elements.ELEMENT_INDEX")
    there = elements >= 0
    if not (np.isfinite(amounts) & (amounts > 0))[there].all():
        raise InputError("an amount is not a positive number; leave the element out or correct it")
    ordered = np.sort(elements, axis=1)
    if ((ordered[:, 1:] == ordered[:, :-1]) & (ordered[:, 1:] >= 0)).any():
        raise InputError("an element stands twice in a row; add its amounts up")


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _statistics(values, weights, n, row):  # type: ignore[no-untyped-def]
    """Minimum, maximum, range, mean, mean absolute deviation and mode of n values, into ``row``."""
    low = high = values[0]
    total = weighted = heaviest = 0.0
    for i in range(n):
        low, high = min(low, values[i]), max(high, values[i])
        heaviest = max(heaviest, weights[i])
        total += weights[i]
        weighted += weights[i] * values[i]
    mean = weighted / total
    deviation, mode = 0.0, np.inf
    for i in range(n):
        deviation += weights[i] * abs(values[i] - mean)
        # the smallest value among the elements that are tied for the largest amount
        if heaviest - weights[i] <= _NEUTRAL + _TIE * heaviest:
            mode = min(mode, values[i])
    row[0], row[1], row[2], row[3], row[4], row[5] = low, high, high - low, mean, deviation / total, mode


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _is_neutral(which, amounts, n, states, n_states, least, most, choice, charge):  # type: ignore[no-untyped-def]
    """Whether one oxidation state per element can make the charges add up to zero: depth first, with bounds.

    ``least`` and ``most`` become the smallest and largest charge of the elements from a depth on: a branch that
    cannot come back to zero is left at once.
    """
    least[n] = most[n] = 0.0
    for d in range(n - 1, -1, -1):
        if n_states[which[d]] == 0:
            return False
        low = high = states[which[d], 0]
        for s in range(1, n_states[which[d]]):
            low, high = min(low, states[which[d], s]), max(high, states[which[d], s])
        least[d], most[d] = least[d + 1] + amounts[d] * low, most[d + 1] + amounts[d] * high
    depth = 0
    choice[0], charge[0] = -1, 0.0
    while depth >= 0:
        choice[depth] += 1
        if choice[depth] == n_states[which[depth]]:
            depth -= 1
            continue
        total = charge[depth] + amounts[depth] * states[which[depth], choice[depth]]
        if total + least[depth + 1] > _NEUTRAL or total + most[depth + 1] < -_NEUTRAL:
            continue
        if depth == n - 1:
            return True
        depth += 1
        choice[depth], charge[depth] = -1, total
    return False


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _ionic_character(which, fractions, n, electronegativity):  # type: ignore[no-untyped-def]
    """Largest ionic character of a bond between two of the elements, and the mean over pairs of atoms (Pauling)."""
    largest = mean = 0.0
    for i in range(n):
        for j in range(i + 1, n):
            difference = electronegativity[which[i]] - electronegativity[which[j]]
            character = 1.0 - np.exp(-0.25 * difference * difference)
            largest = max(largest, character)
            mean += fractions[i] * fractions[j] * character
    return largest, mean


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _fill(elements, amounts, properties, electronegativity, states, n_states, orders, valence, result):  # type: ignore[no-untyped-def]
    """Attributes of every row; the scratch arrays are made once."""
    width = elements.shape[1]
    which = np.empty(width, dtype=np.int64)
    choice = np.empty(width + 1, dtype=np.int64)
    weights, fractions, values = np.empty(width), np.empty(width), np.empty(width)
    least, most, charge = np.empty(width + 1), np.empty(width + 1), np.empty(width + 1)
    for r in range(elements.shape[0]):
        n, total, row = 0, 0.0, result[r]
        for c in range(width):
            if elements[r, c] >= 0:
                which[n], weights[n] = elements[r, c], amounts[r, c]
                total += amounts[r, c]
                n += 1
        if n == 0:
            row[:] = np.nan
            continue
        for i in range(n):
            fractions[i] = weights[i] / total
        row[0] = n
        for p in range(len(orders)):
            power = 0.0
            for i in range(n):
                power += fractions[i] ** orders[p]
            row[1 + p] = power ** (1.0 / orders[p])
        for q in range(properties.shape[1]):
            for i in range(n):
                values[i] = properties[which[i], q]
            _statistics(values, weights, n, row[_STATISTICS_AT + 6 * q : _STATISTICS_AT + 6 * q + 6])
        for v in range(len(valence)):
            row[_VALENCE_AT + v] = row[_STATISTICS_AT + 6 * valence[v] + 3]
        row[_ION_AT] = n == 1 or _is_neutral(which, weights, n, states, n_states, least, most, choice, charge)
        row[_ION_AT + 1], row[_ION_AT + 2] = _ionic_character(which, fractions, n, electronegativity)
