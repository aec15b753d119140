"""Folds: what goes together is never on both sides, and the order of the rows decides nothing."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.cleaning import system_draw
from models.elements import ELEMENTS
from models.errors import InputError
from models.folds import (
    Fold,
    grouped_folds,
    hold_out_system,
    leave_one_element_out,
    parse_holdout,
    random_folds,
    system_folds,
    training_subsets,
)
from models.formula import parse_many

names = st.lists(st.sampled_from([f"X{i}" for i in range(25)]), min_size=20, max_size=80).filter(
    lambda rows: len(set(rows)) >= 5
)
folds_by_group = pytest.mark.parametrize("cut", [random_folds, system_folds])

COMPOUNDS = ["TiO2", "BaTiO3", "Ti", "O2", "BaO", "NaFeO2", "Na2MnO3", "NaFe2Mn3O8", "NaFeMnOF", "FeMn", "Na2O", "Ti2N"]
ELEMENTS_OF = parse_many(COMPOUNDS).elements


def formulas_of(rows: np.ndarray) -> set[str]:
    return {COMPOUNDS[row] for row in rows}


# --- k folds


@folds_by_group
@given(rows=names, k=st.integers(2, 5), seed=st.integers(0, 9))
def test_every_row_is_tested_once_with_its_whole_group(cut: Any, rows: list[str], k: int, seed: int) -> None:
    folds = cut(rows, k, seed)
    assert [fold.name for fold in folds] == [f"fold-{i}" for i in range(1, k + 1)]
    assert sorted(np.concatenate([fold.test for fold in folds]).tolist()) == list(range(len(rows)))
    for fold in folds:
        assert fold.train.dtype == fold.test.dtype == np.int64
        assert (np.diff(fold.train) > 0).all()
        assert (np.diff(fold.test) > 0).all()
        assert sorted([*fold.train, *fold.test]) == list(range(len(rows)))
        assert not {rows[i] for i in fold.train} & {rows[i] for i in fold.test}


@folds_by_group
@given(rows=names, seed=st.integers(0, 9), shuffle=st.randoms(use_true_random=False))
def test_folds_do_not_depend_on_the_order_of_the_rows(cut: Any, rows: list[str], seed: int, shuffle: Any) -> None:
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    moved = cut([rows[i] for i in order], 4, seed)
    for fold, other in zip(cut(rows, 4, seed), moved, strict=True):
        assert sorted(order[i] for i in other.test) == fold.test.tolist()


@given(names, st.integers(2, 5), st.integers(0, 9))
def test_folds_are_balanced(rows: list[str], k: int, seed: int) -> None:
    formulas = [len({rows[i] for i in fold.test}) for fold in random_folds(rows, k, seed)]
    assert max(formulas) - min(formulas) <= 1
    systems = [len(fold.test) for fold in system_folds(rows, k, seed)]
    assert max(systems) - min(systems) <= max(Counter(rows).values())


@given(names, st.integers(2, 5))
def test_a_new_formula_moves_one_other_across_each_cut(rows: list[str], k: int) -> None:
    before = {rows[i]: fold.name for fold in random_folds(rows, k) for i in fold.test}
    more = [*rows, "Y"]
    after = {more[i]: fold.name for fold in random_folds(more, k) for i in fold.test}
    assert sum(before[name] != after[name] for name in before) <= k - 1


def test_formulas_are_ranked_by_their_draws() -> None:
    rows = ["Li2O", "MgO", "NaCl", "KCl", "MgO"]
    ranking = sorted(set(rows), key=lambda name: system_draw(name, 7, "fold"))
    one, two = random_folds(rows, 2, seed=7)
    assert {rows[i] for i in one.test} == set(ranking[:2])
    assert {rows[i] for i in two.test} == set(ranking[2:])


def test_systems_by_hand() -> None:
    # rows: 5, 3, 2, 1. The 5 opens one fold, 3 and 2 fill the other, and of 5 and 5 the first takes the last
    rows = ["Li-O"] * 5 + ["Mg-O"] * 3 + ["K-O"] * 2 + ["Na-O"]
    one, two = system_folds(rows, 2)
    assert one.test.tolist() == [0, 1, 2, 3, 4, 10]
    assert two.test.tolist() == [5, 6, 7, 8, 9]


@folds_by_group
def test_another_seed_makes_other_folds(cut: Any) -> None:
    rows = [f"X{i}" for i in range(100)]
    assert cut(rows, 5, 1)[0].test.tolist() != cut(rows, 5, 2)[0].test.tolist()
    assert len(cut(rows, 5, 1)[0].test) == 20


@folds_by_group
def test_impossible_numbers_of_folds_are_refused(cut: Any) -> None:
    with pytest.raises(InputError, match=r"2 .* cannot make 3 folds; ask for 2 to 2"):
        cut(["a", "b", "a"], 3)
    with pytest.raises(InputError, match=r"3 .* cannot make 1 folds; ask for 2 to 3"):
        cut(["a", "b", "c"], 1)
    with pytest.raises(InputError, match=r"1 .* cannot be cut into folds; take a table with more"):
        cut(["a", "a"], 2)
    with pytest.raises(InputError, match=r"0 .* cannot be cut"):
        cut([], 2)


def test_the_numbers_of_grouped_folds_stay() -> None:
    groups = ["A", "B", "B", "C", "D", "D", "D", "E"]
    # moduli models that were trained before are calibrated on these
    assert grouped_folds(groups, 3, seed=0).tolist() == [1, 1, 1, 2, 0, 0, 0, 2]


# --- elements and systems


def test_an_element_is_tested_wherever_it_is() -> None:
    folds = leave_one_element_out(ELEMENTS_OF, minimum_rows=3)
    # O 8 rows, Na 5, Ti 4, Fe 4, Mn 4; Ba has two, F and N one
    assert [fold.name for fold in folds] == ["O", "Na", "Ti", "Mn", "Fe"]
    assert sorted(ELEMENTS.index(fold.name) for fold in folds) == [ELEMENTS.index(fold.name) for fold in folds]
    titanium = folds[2]
    assert formulas_of(titanium.test) == {"TiO2", "BaTiO3", "Ti", "Ti2N"}
    assert formulas_of(titanium.train) == set(COMPOUNDS) - formulas_of(titanium.test)
    assert [fold.name for fold in leave_one_element_out(ELEMENTS_OF, 2)] == ["O", "Na", "Ti", "Mn", "Fe", "Ba"]


@given(
    st.lists(st.sets(st.integers(0, 12), min_size=1, max_size=4), min_size=3, max_size=40),
    st.integers(1, 6),
)
def test_left_out_elements_are_never_learnt_from(rows: list[set[int]], minimum: int) -> None:
    table = np.full((len(rows) + 1, 4), -1, dtype=np.int16)
    for number, row in enumerate(rows):
        table[number, : len(row)] = sorted(row)
    table[-1, 0] = 50  # one row that is never held out
    counts = Counter(element for row in rows for element in row)
    expected = {ELEMENTS[element] for element, n in counts.items() if n >= minimum}
    if minimum == 1:
        expected.add(ELEMENTS[50])
    if not expected:
        with pytest.raises(InputError, match="no element has"):
            leave_one_element_out(table, minimum)
        return
    folds = leave_one_element_out(table, minimum)
    assert {fold.name for fold in folds} == expected
    for fold in folds:
        code = ELEMENTS.index(fold.name)
        assert (table[fold.test] == code).any(axis=1).all()
        assert not (table[fold.train] == code).any()
        assert len(fold.test) + len(fold.train) == len(table)


def test_leaving_elements_out_can_be_impossible() -> None:
    with pytest.raises(InputError, match="the fold O has no training rows"):
        leave_one_element_out(parse_many(["TiO2", "BaO"]).elements, 2)
    with pytest.raises(InputError, match="no element has 20 rows; take a smaller minimum_rows"):
        leave_one_element_out(ELEMENTS_OF)
    with pytest.raises(InputError, match="minimum_rows must be at least 1, not 0"):
        leave_one_element_out(ELEMENTS_OF, 0)
    for table in (np.array([[0, 86]]), np.array([[0, -2]]), np.array([0, 1])):
        with pytest.raises(InputError, match="a table of indices 0 to 85 padded with -1"):
            leave_one_element_out(table, 1)


def test_a_system_that_compounds_contain() -> None:
    fold = hold_out_system(ELEMENTS_OF, ("Ti", "O"), "contains")
    assert fold.name == "Ti-O"
    assert formulas_of(fold.test) == {"TiO2", "BaTiO3"}
    assert sorted([*fold.test, *fold.train]) == list(range(len(COMPOUNDS)))
    three = hold_out_system(ELEMENTS_OF, ("Na", "Fe", "O"), "contains")
    assert formulas_of(three.test) == {"NaFeO2", "NaFe2Mn3O8", "NaFeMnOF"}


def test_a_system_that_compounds_lie_within() -> None:
    fold = hold_out_system(ELEMENTS_OF, ("Na", "Fe", "Mn", "O"), "within")
    assert formulas_of(fold.test) == {"NaFeO2", "Na2MnO3", "NaFe2Mn3O8", "FeMn", "Na2O"}
    assert formulas_of(fold.train) == {"TiO2", "BaTiO3", "Ti", "O2", "BaO", "NaFeMnOF", "Ti2N"}
    assert formulas_of(hold_out_system(ELEMENTS_OF, ("Ti", "O"), "within").test) == {"TiO2"}


def test_a_row_without_elements_is_never_held_out() -> None:
    table = np.vstack([ELEMENTS_OF, np.full((1, ELEMENTS_OF.shape[1]), -1)])
    for mode in ("contains", "within"):
        assert len(COMPOUNDS) in hold_out_system(table, ("Ti", "O"), mode).train


def test_systems_that_cannot_be_held_out() -> None:
    with pytest.raises(InputError, match="the fold Al-Ga has no test rows"):
        hold_out_system(ELEMENTS_OF, ("Al", "Ga"), "contains")
    with pytest.raises(InputError, match="the fold Ti-O has no training rows"):
        hold_out_system(ELEMENTS_OF[:2], ("Ti", "O"), "contains")
    with pytest.raises(InputError, match="not 'without'"):
        hold_out_system(ELEMENTS_OF, ("Ti", "O"), "without")  # type: ignore[arg-type]


def test_what_to_hold_out_is_read_from_a_name() -> None:
    assert parse_holdout("Ti-O") == (("Ti", "O"), "contains")
    assert parse_holdout("Na-Fe-Mn-O") == (("Na", "Fe", "Mn", "O"), "within")
    assert parse_holdout(" Li - P-S ") == (("Li", "P", "S"), "within")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("Ti-Xx", "'Xx' is not one of the 86 elements"),
        ("He-O", "'He' is not one of the 86 elements"),
        ("ti-o", "'ti' is not one"),
        ("Ti-", "'' is not one"),
        ("", "'' is not one"),
        ("TiO2", "'TiO2' is not one"),
        ("Ti-O-Ti", "Ti-O-Ti names an element twice"),
        ("Ti", "Ti is not a system of elements; name two elements or more"),
    ],
)
def test_names_that_cannot_be_read(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_holdout(text)
    with pytest.raises(InputError, match=message):
        hold_out_system(ELEMENTS_OF, text.split("-"), "contains")


def test_a_fold_has_rows_on_both_sides() -> None:
    some, none = np.arange(3), np.zeros(0, dtype=np.int64)
    assert Fold("whole", some[:2], some[2:]).name == "whole"
    with pytest.raises(InputError, match="the fold half has no training rows"):
        Fold("half", none, some)
    with pytest.raises(InputError, match="the fold half has no test rows"):
        Fold("half", some, none)


# --- learning curves


@given(names, st.data(), st.integers(0, 9))
def test_smaller_parts_lie_in_larger_ones(rows: list[str], data: st.DataObject, seed: int) -> None:
    sizes = data.draw(st.lists(st.integers(1, len(rows)), min_size=1, max_size=6))
    parts = training_subsets(rows, sizes, seed)
    assert [len(part) for part in parts] == sizes
    for part in parts:
        assert part.dtype == np.int64
        assert (np.diff(part) > 0).all()
    by_size = sorted(parts, key=len)
    for small, large in pairwise(by_size):
        assert set(small) <= set(large)


@given(names, st.data(), st.randoms(use_true_random=False))
def test_parts_hold_the_same_formulas_in_any_order(rows: list[str], data: st.DataObject, shuffle: Any) -> None:
    size = data.draw(st.integers(1, len(rows)))
    moved = list(rows)
    shuffle.shuffle(moved)
    (part,), (other,) = training_subsets(rows, [size], 3), training_subsets(moved, [size], 3)
    held = Counter(rows[i] for i in part)
    assert held == Counter(moved[i] for i in other)
    whole = Counter(rows)
    assert sum(n < whole[name] for name, n in held.items()) <= 1  # formulas that are cut


def test_what_is_left_keeps_its_place_in_the_order() -> None:
    rows = [f"X{i}" for i in range(200)]
    first = {rows[i] for i in training_subsets(rows, [50])[0]}
    fewer = [name for name in rows if name in first or int(name[1:]) % 2]
    assert {fewer[i] for i in training_subsets(fewer, [50])[0]} == first
    assert {rows[i] for i in training_subsets(rows, [50], seed=1)[0]} != first


def test_rows_may_be_counted_only() -> None:
    small, all_rows = training_subsets(10, [4, 10])
    assert all_rows.tolist() == list(range(10))
    assert small.tolist() == training_subsets([str(i) for i in range(10)], [4])[0].tolist()
    assert small.tolist() == training_subsets(np.int64(10), [4])[0].tolist()


def test_impossible_parts_are_refused() -> None:
    with pytest.raises(InputError, match="3 training rows have no part of 4; ask for 1 to 3"):
        training_subsets(["a", "b", "c"], [2, 4])
    with pytest.raises(InputError, match="no part of 0"):
        training_subsets(3, [0])
    with pytest.raises(InputError, match="at least one training size"):
        training_subsets(3, [])
