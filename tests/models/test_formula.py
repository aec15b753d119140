"""Formulas against pymatgen, and what cannot be read."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition, Element

from models.elements import ALL_SYMBOLS, ATOMIC_NUMBER, ELECTRONEGATIVITY, ELEMENT_INDEX, ELEMENTS
from models.errors import FormulaError
from models.formula import LARGEST_COUNT, parse, parse_many


def test_elements_are_the_published_ones() -> None:
    assert len(ELEMENTS) == len(set(ELEMENTS)) == 86
    assert ELEMENTS[:6] == ("H", "Li", "Be", "B", "C", "N")
    assert ELEMENTS[-3:] == ("U", "Np", "Pu")
    assert list(ELEMENTS) == sorted(ELEMENTS, key=ATOMIC_NUMBER.__getitem__)
    assert not {"He", "Ne", "Ar", "Po", "At", "Rn", "Fr", "Ra"} & set(ELEMENTS)
    assert {"Kr", "Xe"} <= set(ELEMENTS)
    assert all(z == Element(s).Z for s, z in ATOMIC_NUMBER.items())
    assert len(ALL_SYMBOLS) == 118
    assert [Element(s).X for s in ELEMENTS] == list(ELECTRONEGATIVITY)


amounts = st.dictionaries(st.sampled_from(ELEMENTS), st.integers(1, 40), min_size=1, max_size=7)


@settings(max_examples=300, deadline=None)
@given(amounts)
def test_agrees_with_pymatgen(counts: dict[str, int]) -> None:
    text = "".join(f"{s}{n}" for s, n in counts.items())
    expected = Composition(counts)
    parsed = parse_many([text])
    assert parse(text) == counts
    assert parsed.reduced == [expected.reduced_formula]
    assert parsed.chemsys == [expected.chemical_system]
    np.testing.assert_allclose(
        parsed.fractions[0], [expected.get_atomic_fraction(Element(s)) for s in ELEMENTS], atol=1e-15
    )
    assert np.gcd.reduce(parsed.counts[0]) == 1
    # a reduced formula reads back as the same composition
    np.testing.assert_array_equal(parse_many(parsed.reduced).counts, parsed.counts)


@pytest.mark.parametrize(
    ("formula", "reduced"),
    [
        ("LiFePO4", "LiFePO4"),
        ("Ca(OH)2", "Ca(HO)2"),
        ("CuSO4(H2O)5", "CuH10SO9"),
        ("CuSO4\u00b75H2O", "CuH10SO9"),
        ("CaSO4\u00b70.5H2O", "Ca2H2S2O9"),
        ("K4[Fe(CN)6]", "K4Fe(CN)6"),
        ("{Li2}O", "Li2O"),
        ("((Li)2O)3", "Li2O"),
        ("Li2 O1", "Li2O"),
        ("Na2O2", "Na2O2"),
        ("HO", "H2O2"),
        ("RbO", "Rb2O2"),
        ("O", "O2"),
        ("N4", "N2"),
        ("Br2", "Br"),
        ("LiOH", "LiHO"),
        ("Li0.5CoO2", "Li(CoO2)2"),
        ("Li0.333333CoO2", "Li(CoO2)3"),
        ("Fe.5Ni.5", "FeNi"),
        ("LiCoCo", "LiCo2"),
        ("Li1000000Na", "NaLi1000000"),
    ],
)
def test_reduced_formula(formula: str, reduced: str) -> None:
    assert parse_many([formula]).reason == [None]
    assert parse_many([formula]).reduced == [reduced]


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("", "no formula"),
        (None, "no formula"),
        (float("nan"), "no formula"),
        (3, "no formula"),
        ("Xx2O", "no element"),
        ("HeO", "outside the 86"),
        ("AmO2", "outside the 86"),
        ("Li0O", "zero"),
        ("Li(O2)0", "zero"),
        ("Li-1O", "cannot read"),
        ("licoo2", "cannot read"),
        ("Li2(O", "brackets"),
        ("Li2)O", "brackets"),
        ("()2", "brackets"),
        ("2", "cannot read"),
        ("2Li", "cannot read"),
        ("   ", "no elements"),
        ("Li1.2.3", "cannot read"),
        ("Fe3+", "cannot read"),
        ("Li1e5", "cannot read"),
        ("Li0.0000001Na", "below 1/"),
        ("Li99999999999999999999Na", "counts above"),
    ],
)
def test_what_cannot_be_read_gets_a_reason(formula: object, message: str) -> None:
    parsed = parse_many([formula, "NaCl"])
    assert parsed.reason[0] is not None
    assert message in parsed.reason[0]
    assert "\n" not in parsed.reason[0]
    assert parsed.reason[1] is None
    assert parsed.valid.tolist() == [False, True]
    assert parsed.reduced == ["", "NaCl"]
    assert parsed.chemsys == ["", "Cl-Na"]
    assert parsed.fractions.sum(axis=1).tolist() == [0.0, 1.0]
    if message != "counts above" and message != "below 1/":
        with pytest.raises(FormulaError, match=message):
            parse(formula)  # type: ignore[arg-type]


def test_amounts_as_written() -> None:
    assert parse("Fe2O2") == {"Fe": 2, "O": 2}
    assert parse("Li0.5CoO2") == {"Li": 0.5, "Co": 1, "O": 2}
    assert parse("Al(OH)1.5") == {"Al": 1, "O": 1.5, "H": 1.5}
    assert all(isinstance(v, int) for v in parse("Fe2.0O3").values())


def test_rows_stand_in_order() -> None:
    parsed = parse_many(["O2Ti", "Xx", "NaCl", "LiFePO4"])
    assert parsed.elements.dtype == np.int16
    assert parsed.elements[0].tolist() == [ELEMENT_INDEX["O"], ELEMENT_INDEX["Ti"], -1, -1]
    assert parsed.amounts[3].tolist() == [1, 4, 1, 1]  # Li O P Fe by atomic number
    assert parsed.arity.tolist() == [2, 0, 2, 4]
    some = parsed.select(np.array([3, 0]))
    assert some.reduced == ["LiFePO4", "TiO2"]
    assert len(some) == 2


def test_empty_table() -> None:
    parsed = parse_many([])
    assert len(parsed) == 0
    assert parsed.fractions.shape == (0, 86)
    assert parsed.reduced == []


def test_limits_fit_the_arrays() -> None:
    assert np.iinfo(np.int32).max // 86 >= LARGEST_COUNT
