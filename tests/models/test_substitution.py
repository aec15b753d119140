"""New compositions by substitution: by hand where few are possible, and what holds of any draw."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.elements import ELEMENT_INDEX
from models.errors import InputError
from models.formula import parse_many
from models.substitution import substituted

Drawn = tuple[NDArray[np.int16], NDArray[np.int64]]


def of(*formulas: str) -> Drawn:
    parsed = parse_many(formulas)
    return parsed.elements, parsed.amounts.astype(np.int64)


def amounts(drawn: Drawn) -> list[dict[int, int]]:
    return [
        {int(e): int(n) for e, n in zip(columns, counts, strict=True) if n}
        for columns, counts in zip(*drawn, strict=True)
    ]


def named(*formulas: str) -> list[dict[int, int]]:
    return amounts(of(*formulas))


def test_everything_that_is_possible_is_found() -> None:
    assert amounts(substituted(*of("Li2O"), 10)) == named("LiO2")
    # the stoichiometries 2:1 and 1:1 over three elements, without what is listed
    found = amounts(substituted(*of("Li2O", "NaO"), 100))
    expected = named("LiO2", "Na2O", "NaO2", "Li2Na", "LiNa2", "LiO", "LiNa")
    assert sorted(map(str, found)) == sorted(map(str, expected))
    assert amounts(substituted(*of("Li", "O"), 5)) == []


row = st.dictionaries(st.sampled_from(["H", "Li", "O", "Fe", "Pu"]), st.integers(1, 3), min_size=1, max_size=4)


@settings(max_examples=60)
@given(st.lists(row, min_size=1, max_size=12), st.integers(1, 40), st.integers(0, 9))
def test_what_holds_of_any_draw(listed: list[dict[str, int]], n: int, seed: int) -> None:
    given_ = of(*("".join(f"{e}{k}" for e, k in one.items()) for one in listed))
    known = amounts(given_)
    columns, counts = substituted(*given_, n, seed)
    found = amounts((columns, counts))
    assert len(found) <= n
    assert len({str(one) for one in found} | {str(one) for one in known}) == len(found) + len(set(map(str, known)))
    shapes = {tuple(sorted(one.values())) for one in known}
    assert {tuple(sorted(one.values())) for one in found} <= shapes
    assert {e for one in found for e in one} <= {e for one in known for e in one}
    assert (np.diff(np.where(columns < 0, 99, columns), axis=1) >= 0).all()
    again = substituted(*given_, n, seed)
    assert (again[0] == columns).all()
    assert (again[1] == counts).all()


def test_common_elements_come_often() -> None:
    metals = ("Li", "Na", "Mg", "Al", "Fe", "Cr", "Ga", "In", "Sc")
    # each metal with a stoichiometry of its own, so that most oxides are new
    found = amounts(substituted(*of(*(f"{metal}O{k}" for k, metal in enumerate(metals, start=2))), 60))
    assert len(found) == 60
    holds = {symbol: sum(ELEMENT_INDEX[symbol] in one for one in found) for symbol in ("O", *metals)}
    assert holds["O"] > 1.5 * max(holds[metal] for metal in metals)


def test_what_is_no_list_is_refused() -> None:
    elements, counts = of("Li2O", "NaCl")
    for arguments in ((elements[:0], counts[:0], 3), (elements, counts[:1], 3), (elements, counts, 0)):
        with pytest.raises(InputError, match="substitution needs at least one composition"):
            substituted(*arguments)
