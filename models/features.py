"""Numeric descriptions of a composition that a network takes as its input."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from models.errors import FormulaError
from models.formula import ParsedFormulas, parse_many


def element_fractions(formulas: Sequence[str] | ParsedFormulas) -> NDArray[np.float32]:
    """Atomic fraction of each of the 86 elements: ElemNet's input vector.

    Parameters
    ----------
    formulas : sequence of str or ParsedFormulas
        n formulas, or the result of `models.formula.parse_many`.

    Returns
    -------
    ndarray, shape (n, 86), float32
        Fractions in the order of `models.elements.ELEMENTS`; rows sum to one.

    Raises
    ------
    FormulaError
        When a formula cannot be read; the message names the first.
    """
    parsed = formulas if isinstance(formulas, ParsedFormulas) else parse_many(formulas)
    bad = [i for i, reason in enumerate(parsed.reason) if reason is not None]
    if bad:
        raise FormulaError(f"row {bad[0]}: {parsed.reason[bad[0]]}; clean the table first ({len(bad)} such rows)")
    return parsed.fractions_as(np.float32)
