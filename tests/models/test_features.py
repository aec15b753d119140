"""Element fractions."""

from __future__ import annotations

import numpy as np
import pytest

from models.elements import ELEMENT_INDEX
from models.errors import FormulaError
from models.features import element_fractions
from models.formula import parse_many
from models.space import CompositionSpace


def test_by_hand() -> None:
    fractions = element_fractions(["Li2O", "NaCl"])
    assert fractions.shape == (2, 86)
    assert fractions.dtype == np.float32
    assert fractions[0, ELEMENT_INDEX["Li"]] == np.float32(2 / 3)
    assert fractions[0, ELEMENT_INDEX["O"]] == np.float32(1 / 3)
    assert np.count_nonzero(fractions) == 4


def test_same_bits_as_the_composition_space() -> None:
    space = CompositionSpace()
    compositions = space.unrank(np.arange(0, len(space), len(space) // 500))
    np.testing.assert_array_equal(element_fractions(space.formulas(compositions)), space.fractions(compositions))


def test_takes_parsed_formulas() -> None:
    np.testing.assert_array_equal(element_fractions(parse_many(["MgO"])), element_fractions(["MgO"]))


def test_refuses_a_formula_that_cannot_be_read() -> None:
    with pytest.raises(FormulaError, match=r"row 1: Xx .* clean the table first"):
        element_fractions(["MgO", "Xx2"])
