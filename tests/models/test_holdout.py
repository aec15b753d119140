"""Holding out: nothing of a held-out pair or of a later release is ever learnt from."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.elements import ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.holdout import (
    HELD_OUT,
    LEFT_OUT,
    PARTS,
    TRAINING,
    earliest_versions,
    first_pair,
    hold_out_pairs,
    hold_out_releases,
    ordered,
)

systems = st.lists(
    st.sets(st.integers(0, 9), min_size=1, max_size=4).map(sorted), min_size=12, max_size=60
)  # ten elements, so that pairs recur


def padded(rows: list[list[int]]) -> np.ndarray:
    table = np.full((len(rows), 4), -1, dtype=np.int16)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def pairs_in(row: list[int]) -> set[tuple[str, str]]:
    return {(min(a, b), max(a, b)) for a, b in combinations([ELEMENTS[element] for element in row], 2)}


def none_if_refused(cut: Any, *arguments: Any) -> Any:
    """A cut, or None where it would leave nothing to learn from or to judge."""
    try:
        return cut(*arguments)
    except InputError:
        return None


@given(systems, st.floats(0.05, 0.6), st.integers(0, 20))
def test_no_held_out_pair_is_left_in_training(rows: list[list[int]], share: float, seed: int) -> None:
    assume(len({tuple(row) for row in rows if len(row) > 1}) > 3)
    cut = none_if_refused(hold_out_pairs, padded(rows), share, seed)
    assume(cut is not None)
    held_pairs = set(cut.pairs)
    assert held_pairs
    for row, part in zip(rows, cut.part, strict=True):
        assert part in (TRAINING, HELD_OUT)
        assert (part == HELD_OUT) == bool(pairs_in(row) & held_pairs)
    assert sum(cut.counts().values()) == len(rows)
    assert 0 < cut.counts()["held_out"] < sum(len(row) > 1 for row in rows)


@given(systems, st.integers(0, 5), st.randoms(use_true_random=False))
def test_the_draw_does_not_depend_on_the_order_of_the_rows(rows: list[list[int]], seed: int, shuffle: Any) -> None:
    order = list(range(len(rows)))
    shuffle.shuffle(order)
    cut = none_if_refused(hold_out_pairs, padded(rows), 0.2, seed)
    other = none_if_refused(hold_out_pairs, padded([rows[i] for i in order]), 0.2, seed)
    assert (cut is None) == (other is None)
    assume(cut is not None)
    assert other.pairs == cut.pairs
    assert other.part.tolist() == [cut.part[i] for i in order]


def test_the_share_is_met_where_pairs_are_small() -> None:
    rng = np.random.default_rng(3)
    rows = [sorted(rng.choice(60, size=3, replace=False).tolist()) for _ in range(4000)]
    for share in (0.05, 0.1, 0.3):
        held = hold_out_pairs(padded(rows), share, seed=1).counts()["held_out"] / len(rows)
        assert held == pytest.approx(share, abs=0.003)
    assert hold_out_pairs(padded(rows), 0.1, 1).pairs != hold_out_pairs(padded(rows), 0.1, 2).pairs


def test_a_draw_that_leaves_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="1 of 1 compounds would be held out"):
        hold_out_pairs(padded([[0, 1], [3]]), 0.1)
    with pytest.raises(InputError, match="0 of 0 compounds"):
        hold_out_pairs(padded([[0], [3]]), 0.1)
    with pytest.raises(InputError, match="between 0 and 1"):
        hold_out_pairs(padded([[0, 1], [3, 4]]), 1.0)


releases = st.lists(
    st.tuples(st.sampled_from(["LiO", "Li2O", "NaCl", "MgO", "Li", "LiFeO2", "Fe3O4"]), st.sampled_from("123")),
    min_size=3,
    max_size=40,
)


@given(releases, st.sampled_from([["1"], ["1", "2"], ["2"]]))
def test_what_is_held_out_appears_first_in_later_releases(rows: list[tuple[str, str]], early: list[str]) -> None:
    formulas, versions = [row[0] for row in rows], [row[1] for row in rows]
    arity = parse_many(formulas).arity
    cut = none_if_refused(hold_out_releases, formulas, arity, versions, early)
    assume(cut is not None)
    learnt = {formula for formula, part in zip(formulas, cut.part, strict=True) if part == TRAINING}
    for formula, version, n, part in zip(formulas, versions, arity, cut.part, strict=True):
        assert (part == TRAINING) == (version in early)
        if version not in early:
            assert (part == HELD_OUT) == (formula not in learnt and n > 1)
    assert set(cut.part.tolist()) <= set(range(len(PARTS)))
    assert sum(cut.counts().values()) == len(rows)


def test_releases_by_hand() -> None:
    formulas = ["Li2O", "MgO", "MgO", "LiFeO2", "Fe"]
    arity = parse_many(formulas).arity
    cut = hold_out_releases(formulas, arity, ["a1", "a1", "a2", "a2", "a2"], ["a1"])
    assert cut.part.tolist() == [TRAINING, TRAINING, LEFT_OUT, HELD_OUT, LEFT_OUT]
    assert cut.counts() == {"training": 2, "held_out": 1, "left_out": 2}
    assert cut.versions == ("a1",)
    with pytest.raises(InputError, match="no row is of the release a3; the table has a1, a2"):
        hold_out_releases(formulas, arity, ["a1", "a1", "a2", "a2", "a2"], ["a3"])
    with pytest.raises(InputError, match="0 of 4 compounds"):
        hold_out_releases(formulas, arity, ["a1", "a1", "a2", "a2", "a2"], ["a1", "a2"])


def test_releases_are_ordered_by_their_numbers() -> None:
    assert ordered(["v10", "v2", "v2", "v1"]) == ("v1", "v2", "v10")
    assert earliest_versions(["oqmd-2018", "oqmd-2015", "oqmd-2017"]) == ("oqmd-2015", "oqmd-2017")
    assert earliest_versions(["oqmd-2018", "oqmd-2015", "oqmd-2017"], 1) == ("oqmd-2015",)
    for names, k in ((["one"], None), (["a", "b"], 2), (["a", "b"], 0)):
        with pytest.raises(InputError, match="--map COLUMN=source_version"):
            earliest_versions(names, k)


def test_first_pair_by_hand() -> None:
    pairs = [("Li", "O"), ("Fe", "Li")]
    assert first_pair(["Li-O", "Fe-Li-O", "Fe-O", "Li", "Li-Na-O"], pairs) == ["Li-O", "Fe-Li", None, None, "Li-O"]
