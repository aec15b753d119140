"""Decoration: charges balance, seeds decide, formulas come once."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Composition

from models.decoration import Filling, assignments, build, candidates, charge_patterns, draw_fillings, guess_volume
from models.families import FAMILIES, Family
from models.oxidation_states import ANIONS, CATIONS, ionic_radius
from models.prototypes import load_prototypes

_BY_NAME = {family.name: family for family in FAMILIES}
_SOME = tuple(_BY_NAME[name] for name in ("AX2", "A2BCX4", "alloy AB5", "A3BX"))


@pytest.fixture(scope="module")
def some() -> pd.DataFrame:
    return candidates(7, _SOME)


def test_patterns_by_hand() -> None:
    assert set(charge_patterns((1, 2), 1)) == {(2, -1), (4, -2), (6, -3)}
    assert (1, 5, -2) in set(charge_patterns((1, 1, 3), 1))


def test_every_salt_balances_and_uses_listed_states(some: pd.DataFrame) -> None:
    library = load_prototypes()
    for row in some.itertuples():
        elements = row.elements.split()
        charges = [int(q) for q in row.charges.split()]
        if not any(charges):
            assert row.family == "alloy AB5"
            continue
        counts = library[row.prototype].counts
        assert sum(q * n for q, n in zip(charges, counts, strict=True)) == 0
        for element, charge in zip(elements, charges, strict=True):
            assert element in (CATIONS if charge > 0 else ANIONS)[charge]


def test_formula_is_what_the_cell_holds(some: pd.DataFrame) -> None:
    for _, row in some.sample(40, random_state=1).iterrows():
        structure = build(row)
        assert structure.composition.reduced_formula == row["formula"]
        assert len(structure) == row["nsites"]
        assert 2 < structure.volume / len(structure) < 200


def test_seed_decides(some: pd.DataFrame) -> None:
    pd.testing.assert_frame_equal(some, candidates(7, _SOME))
    assert set(candidates(8, _SOME)["formula"]) != set(some["formula"])


def test_formulas_are_drawn_once_and_capped() -> None:
    family = Family("small", (1, 1, 2), 1, ("ABC2_hR4_166_a_b_c:F5_1",), cap=25, lithium_cap=5)
    fillings = draw_fillings(family, 1)
    formulas = [str(Composition(dict(zip(f.elements, (1, 1, 2), strict=True))).reduced_formula) for f in fillings]
    assert len(fillings) == len(set(formulas)) == 30
    assert sum("Li" in f.elements for f in fillings) == 5


def test_exchangeable_slots_give_one_crystal_others_two() -> None:
    library = load_prototypes()
    salt = Family("t", (1, 1), 0, (), 1)
    filling = Filling(("Ni", "Al"), (0, 0))
    assert len(assignments(library["AB_cP2_221_b_a:B2"], salt, filling)) == 1
    assert len(assignments(library["AB_hP4_194_c_a:B8_1"], salt, filling)) == 2


def test_larger_cation_takes_the_perovskite_a_site() -> None:
    prototype = load_prototypes()["AB3C_cP5_221_a_c_b:E2_1"]
    for elements, charges in ((("Ti", "Sr", "O"), (4, 2, -2)), (("Sr", "Ti", "O"), (2, 4, -2))):
        assert assignments(prototype, _BY_NAME["ABX3"], Filling(elements, charges)) == [("Sr", "Ti", "O")]


def test_volume_guess_touches_ions() -> None:
    structure = load_prototypes()["AB_cF8_225_a_b:B1"].decorate(("O", "Mg"))
    structure.scale_lattice(guess_volume(structure, {"Mg": 2, "O": -2}))
    distances = structure.distance_matrix
    assert distances[0, 1] == pytest.approx(ionic_radius("Mg", 2) + ionic_radius("O", -2), rel=1e-6)
    alloy = load_prototypes()["AB_cP2_221_b_a:B2"].decorate(("Al", "Ni"))
    assert guess_volume(alloy, {"Al": 0, "Ni": 0}) == pytest.approx(10.0 / 0.602214076 + 6.59 / 0.602214076, rel=0.01)


def test_radii_exist_for_every_state() -> None:
    radii = [ionic_radius(symbol, charge) for charge, pool in CATIONS.items() for symbol in pool]
    radii += [ionic_radius(symbol, charge) for charge, pool in ANIONS.items() for symbol in pool]
    assert np.all(np.array(radii) > 0.1)
