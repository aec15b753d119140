"""Text of compositions: reduced formulas and chemical systems, vectorised over whole tables."""

from __future__ import annotations

from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.elements import ALKALI_METALS, ELECTRONEGATIVITY, ELEMENT_INDEX, ELEMENTS, N_ELEMENTS

_ALPHABETICAL: Final = np.argsort(np.argsort(np.array([*ELEMENTS, "~"])))  # "~" sorts padding last
_ELECTRONEGATIVITY: Final = np.array([*ELECTRONEGATIVITY, 99.0])
_FORMULA_ORDER: Final = np.argsort(np.lexsort((_ALPHABETICAL, _ELECTRONEGATIVITY)))
_SYMBOLS: Final = np.array([*ELEMENTS, ""], dtype=object)
# pymatgen writes these with two formula units: O2, Li2O2, H2O2, ...
_DOUBLED_ALONE: Final = np.array([ELEMENT_INDEX[s] for s in ("H", "N", "O", "F", "Cl")])
_DOUBLED_WITH_OXYGEN: Final = np.array([ELEMENT_INDEX[s] for s in (*ALKALI_METALS, "H")])
# Above this difference in electronegativity the last two elements of a formula are no polyanion (pymatgen's rule).
_POLYANION_LIMIT: Final = 1.65


def reduced_formula_array(elements: NDArray[np.integer], counts: NDArray[np.integer]) -> pa.StringArray:
    """Reduced formulas as pymatgen writes them (electronegativity order, polyanions in brackets).

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, each at most once per row, padded with -1.
    counts : ndarray, shape (n, k)
        Coprime atom counts, padded with 0.

    Returns
    -------
    pyarrow.StringArray, length n
        For example ``LiFePO4``, ``Li2O2``, ``Ac(AsO2)2``; an empty string for a row without elements.
    """
    if len(elements) == 0:
        return pa.array([], pa.string())
    padded = np.where(elements < 0, N_ELEMENTS, elements).astype(np.int64)
    order = np.argsort(_FORMULA_ORDER[padded], axis=1, kind="stable")
    columns = np.take_along_axis(padded, order, axis=1)
    amounts = np.take_along_axis(np.asarray(counts, dtype=np.int64), order, axis=1)
    arity = np.count_nonzero(columns < N_ELEMENTS, axis=1)
    amounts = np.where(_is_doubled(columns, amounts, arity)[:, None], 2 * amounts, amounts)
    bracket = _polyanion_factor(columns, amounts, arity)
    rows = np.flatnonzero(bracket > 1)
    for back in (2, 1):
        amounts[rows, arity[rows] - back] //= bracket[rows]
    tokens = []
    for position in range(columns.shape[1]):
        opens = (bracket > 1) & (position == arity - 2)
        closes = np.where((bracket > 1) & (position == arity - 1), bracket, 0)
        tokens.append(_tokens(columns[:, position], amounts[:, position], opens, closes))
    return pc.binary_join_element_wise(*tokens, "")


def chemsys_array(elements: NDArray[np.integer]) -> pa.StringArray:
    """Chemical systems (symbols in alphabetical order joined by hyphens), for example ``Fe-Li-O-P``.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.
    """
    if len(elements) == 0:
        return pa.array([], pa.string())
    padded = np.where(elements < 0, N_ELEMENTS, elements)
    padded = np.take_along_axis(padded, np.argsort(_ALPHABETICAL[padded], axis=1, kind="stable"), axis=1)
    # The hyphen belongs to the token: Arrow 26 loses its place in skip mode on a row without elements.
    first = pa.array([*ELEMENTS, ""], pa.string())
    later = pa.array([*(f"-{symbol}" for symbol in ELEMENTS), ""], pa.string())
    columns = [(later if i else first).take(pa.array(column)) for i, column in enumerate(padded.T)]
    return pc.binary_join_element_wise(*columns, "")


def _is_doubled(columns: NDArray[np.int64], amounts: NDArray[np.int64], arity: NDArray[np.int64]) -> NDArray[np.bool_]:
    alone = (arity == 1) & np.isin(columns[:, 0], _DOUBLED_ALONE)
    if columns.shape[1] < 2:
        return np.asarray(alone)
    equal = (arity == 2) & (amounts[:, 0] == amounts[:, 1]) & (columns[:, 1] == ELEMENT_INDEX["O"])
    return np.asarray(alone | (equal & np.isin(columns[:, 0], _DOUBLED_WITH_OXYGEN)))


def _polyanion_factor(
    columns: NDArray[np.int64], amounts: NDArray[np.int64], arity: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Multiplicity of the bracket around the last two elements; 1 where there is none."""
    factor = np.ones(len(columns), dtype=np.int64)
    rows = np.flatnonzero(arity >= 3)
    last, before = columns[rows, arity[rows] - 1], columns[rows, arity[rows] - 2]
    rows = rows[_ELECTRONEGATIVITY[last] - _ELECTRONEGATIVITY[before] < _POLYANION_LIMIT]
    factor[rows] = np.gcd(amounts[rows, arity[rows] - 1], amounts[rows, arity[rows] - 2])
    return factor


def _tokens(
    element: NDArray[np.int64], amount: NDArray[np.int64], opens: NDArray[np.bool_], closes: NDArray[np.int64]
) -> pa.StringArray:
    """One position of each formula, built once per distinct (element, amount, bracket)."""
    code = ((closes * (amount.max() + 1) + amount) * 2 + opens) * (N_ELEMENTS + 1) + element
    inverse, distinct = pd.factorize(code)
    first = np.empty(len(distinct), dtype=np.int64)
    first[inverse[::-1]] = np.arange(len(code))[::-1]
    texts = [
        ("(" if opens[i] else "")
        + _SYMBOLS[element[i]]
        + (str(amount[i]) if amount[i] > 1 else "")
        + (f"){closes[i]}" if closes[i] else "")
        for i in first
    ]
    return pa.array(texts, pa.string()).take(pa.array(inverse))
