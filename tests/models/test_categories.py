"""Kinds and categories of compounds, and their table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.categories import (
    ALL,
    CATEGORIES,
    F_ELEMENTS,
    KINDS,
    TABLE_3_3,
    categories,
    category_table,
    consists_of,
    counts_by_kind,
    holds,
    kind,
)
from models.elements import ELEMENTS, METALS, TRANSITION_METALS_3D
from models.errors import InputError
from models.formula import parse_many
from models.space import CompositionSpace

HALOGEN, CHALCOGEN = {"F", "Cl", "Br", "I"}, {"O", "S", "Se", "Te"}


def columns(*formulas: str) -> NDArray[np.int16]:
    parsed = parse_many(formulas)
    assert parsed.valid.all()
    return parsed.elements


def symbols(row: NDArray[np.integer]) -> set[str]:
    return {ELEMENTS[e] for e in row if e >= 0}


@pytest.mark.parametrize(
    ("formula", "name"),
    [
        ("BiOCl", "oxyhalide"),
        ("OF9", "oxyhalide"),
        ("CaTiO3", "oxide"),
        ("Y2O2S", "oxide"),
        ("CaSO4", "oxide"),
        ("LiOH", "oxide"),
        ("SeF9", "chalcohalide"),
        ("Li6PS5Cl", "chalcohalide"),
        ("FeS2", "chalcogenide"),
        ("Bi2Te3", "chalcogenide"),
        ("NaCl", "halide"),
        ("NH4Cl", "halide"),
        ("TiN", "pnictide"),
        ("InSb", "pnictide"),
        ("LiNH2", "pnictide"),
        ("LaNi5H6", "hydride"),
        ("LiBH4", "hydride"),
        ("Al2Cu", "intermetallic"),
        ("NaMn2AlAu6", "intermetallic"),
        ("WC", "other"),
        ("MgB2", "other"),
        ("LiSi", "other"),
        ("Xe", "other"),
    ],
)
def test_kinds(formula: str, name: str) -> None:
    assert KINDS[kind(columns(formula))[0]] == name


@pytest.mark.parametrize(
    ("formula", "names"),
    [  # the examples of the published table, then what lies beside them
        ("KF6", {"li_na_k"}),
        ("NaY2F7", {"li_na_k"}),
        ("CsNa2CdF4", {"li_na_k"}),
        ("OF9", {"chalco_oxyhalide"}),
        ("SeF9", {"chalco_oxyhalide"}),
        ("Y2OF7", {"chalco_oxyhalide"}),
        ("Zr6RhIO", {"chalco_oxyhalide"}),
        ("Cu2O", {"metal_oxide", "oxide_3d"}),
        ("Zn2(CuO)3", {"metal_oxide", "oxide_3d"}),
        ("TiZnCrO5", {"metal_oxide", "oxide_3d"}),
        ("KTi4O5", {"metal_oxide", "li_na_k"}),
        ("Y4FeBi2O6", {"metal_oxide"}),
        ("Nb5Sn3", {"intermetallic"}),
        ("ZrAl5Os", {"intermetallic"}),
        ("NaMn2AlAu6", {"intermetallic", "li_na_k"}),
        ("Li6PS5Cl", {"li_na_k", "chalco_oxyhalide"}),
        ("CaCO3", set()),
        ("Fe2O2S", set()),
        ("ScB2", set()),
        ("O2", set()),
        ("LaNi5", set()),  # f elements are left out
        ("NaUO3", set()),
        ("Li", {"li_na_k", "intermetallic"}),
    ],
)
def test_categories(formula: str, names: set[str]) -> None:
    found = categories(columns(formula))
    assert tuple(found) == CATEGORIES == tuple(TABLE_3_3)
    assert {name for name, mask in found.items() if mask[0]} == names


def test_f_elements_count_on_demand() -> None:
    assert categories(columns("LaNi5"), exclude=())["intermetallic"][0]
    assert len(F_ELEMENTS) == 15 + 6
    with pytest.raises(InputError, match="Zz is outside"):
        categories(columns("LaNi5"), exclude=("Zz",))


spaces = CompositionSpace(arities=(1, 2, 3, 4, 5), max_atoms=8)
indices = st.lists(st.integers(0, len(spaces) - 1), min_size=1, max_size=40)


@settings(max_examples=60)
@given(indices)
def test_masks_are_sets_of_elements(chosen: list[int]) -> None:
    elements = spaces.unrank(chosen).elements
    rows = [symbols(row) for row in elements]
    assert holds(elements, ("O", "F")).tolist() == [bool(row & {"O", "F"}) for row in rows]
    assert consists_of(elements, METALS).tolist() == [row <= set(METALS) for row in rows]
    found = categories(elements, exclude=())
    assert found["chalco_oxyhalide"].tolist() == [bool(row & HALOGEN) and bool(row & CHALCOGEN) for row in rows]
    assert found["metal_oxide"].tolist() == ["O" in row and len(row) > 1 and row - {"O"} <= set(METALS) for row in rows]
    assert (found["metal_oxide"] | ~found["oxide_3d"]).all()
    three_d = {"O", *TRANSITION_METALS_3D}
    assert found["oxide_3d"].tolist() == ["O" in row and len(row) > 1 and row <= three_d for row in rows]
    assert not (found["intermetallic"] & found["metal_oxide"]).any()
    assert ((kind(elements) == KINDS.index("intermetallic")) == found["intermetallic"]).all()
    chosen_half = np.arange(len(elements)) % 2 == 0
    first, second = counts_by_kind(elements, chosen_half), counts_by_kind(elements, ~chosen_half)
    total = counts_by_kind(elements, np.ones(len(elements), dtype=bool))
    assert tuple(total) == KINDS
    assert total == {name: first[name] + second[name] for name in KINDS}
    assert sum(total.values()) == len(elements)


def test_table_by_hand() -> None:
    elements = columns("Cu2O", "CuO", "NaCl", "Na2Cl", "LaNi5", "LiFeO2", "LiFe2O3", "Al2Cu")
    known = np.array([1, 1, 1, 0, 0, 1, 0, 0], dtype=bool)
    outside = np.array([0, 0, 0, 0, 0, 0, 0, 1], dtype=bool)
    table = category_table(elements, {"known": known, "out_of_domain": outside})
    assert list(table.columns) == [
        *("category", "arity", "systems", "compositions", "compositions_known", "compositions_out_of_domain"),
        *("systems_after", "compositions_after"),
    ]
    assert table["category"].tolist() == [name for name in (ALL, *CATEGORIES) for _ in range(2)]
    rows = {(row[0], row[1]): row[2:] for row in table.itertuples(index=False, name=None)}
    assert rows[ALL, 2] == (4, 6, 3, 1, 2, 2)
    assert rows[ALL, 3] == (1, 2, 1, 0, 1, 1)
    assert rows["li_na_k", 2] == (1, 2, 1, 0, 1, 1)
    assert rows["metal_oxide", 2] == (1, 2, 2, 0, 0, 0)
    assert rows["metal_oxide", 3] == (1, 2, 1, 0, 1, 1)
    assert rows["oxide_3d", 2] == (1, 2, 2, 0, 0, 0)
    assert rows["intermetallic", 2] == (1, 1, 0, 1, 0, 0)  # LaNi5 is left out
    assert rows["chalco_oxyhalide", 3] == (0, 0, 0, 0, 0, 0)


@settings(max_examples=40)
@given(indices, st.data())
def test_table_by_sets(chosen: list[int], data: st.DataObject) -> None:
    elements = spaces.unrank(chosen).elements
    mask = st.lists(st.booleans(), min_size=len(chosen), max_size=len(chosen))
    flags = {name: np.array(data.draw(mask)) for name in ("known", "incomplete")}
    masks = {ALL: np.ones(len(chosen), dtype=bool), **categories(elements)}
    flagged = flags["known"] | flags["incomplete"]
    for row in category_table(elements, flags).to_dict("records"):
        member = masks[row["category"]] & (np.count_nonzero(elements >= 0, axis=1) == row["arity"])
        for rows, suffix in ((member, ""), (member & ~flagged, "_after")):
            assert row[f"compositions{suffix}"] == rows.sum()
            assert row[f"systems{suffix}"] == len({tuple(r) for r in elements[rows].tolist()})
        for name, flag in flags.items():
            assert row[f"compositions_{name}"] == (member & flag).sum()


def test_table_without_flags_or_rows() -> None:
    table = category_table(columns("NaCl"))
    assert table["compositions"].equals(table["compositions_after"])
    assert len(category_table(np.zeros((0, 4), dtype=np.int16))) == 0
    with pytest.raises(InputError, match="flag known"):
        category_table(columns("NaCl"), {"known": np.array([True, False])})
    with pytest.raises(InputError, match="ascend"):
        category_table(columns("NaCl")[:, ::-1])
