"""The nearest of many compositions: by hand, against brute force, and to the last digits where it is close."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.elements import N_ELEMENTS
from models.nearest_composition import NearestComposition

Compositions = tuple[NDArray[np.int16], NDArray[np.int64]]


def compositions(*rows: dict[int, int]) -> Compositions:
    """Atom counts by column of the element."""
    width = max(map(len, rows))
    elements, counts = np.full((len(rows), width), -1, dtype=np.int16), np.zeros((len(rows), width), dtype=np.int64)
    for place, row in enumerate(rows):
        columns = sorted(row)
        elements[place, : len(row)], counts[place, : len(row)] = columns, [row[column] for column in columns]
    return elements, counts


def brute_force(known: list[dict[int, int]], asked: dict[int, int]) -> float:
    def squared(other: dict[int, int]) -> Fraction:
        shares = [(Fraction(a.get(e, 0), sum(a.values()))) for e in range(N_ELEMENTS) for a in (asked, other)]
        return sum(((x - y) ** 2 for x, y in zip(shares[::2], shares[1::2], strict=True)), Fraction(0))

    return math.sqrt(min(map(squared, known)))


def test_one_that_shares_nothing_can_be_the_nearest() -> None:
    known = compositions({0: 9, 1: 1}, {2: 1, 3: 1, 4: 1, 5: 1})
    # of the first: sqrt(0.81 + 0.81); of the second, which has no element of it: sqrt(1 + 1/4)
    assert NearestComposition(*known).distance(*compositions({1: 1})).tolist() == [pytest.approx(math.sqrt(1.25))]
    alone = NearestComposition(*compositions({0: 9, 1: 1}))
    assert alone.distance(*compositions({1: 1})).tolist() == [pytest.approx(math.sqrt(1.62))]


def test_close_ones_keep_their_digits() -> None:
    known = [{0: 100_000, 1: 1}, {0: 1, 1: 1}]
    nearest = NearestComposition(*compositions(*known))
    for asked in ({0: 100_001, 1: 1}, {0: 200_001, 1: 2}, {0: 100_000, 1: 1}, {0: 200_000, 1: 2}):
        (found,) = nearest.distance(*compositions(asked))
        assert found == pytest.approx(brute_force(known, asked), rel=1e-6, abs=0.0)


row = st.dictionaries(st.integers(0, 11), st.integers(1, 9), min_size=1, max_size=4)


@settings(max_examples=60)
@given(st.lists(row, min_size=1, max_size=20), st.lists(row, min_size=1, max_size=6))
def test_is_brute_force(known: list[dict[int, int]], asked: list[dict[int, int]]) -> None:
    found = NearestComposition(*compositions(*known)).distance(*compositions(*asked))
    expected = [brute_force(known, one) for one in asked]
    assert found == pytest.approx(expected, abs=1e-15)
    assert ((found == 0.0) == (np.array(expected) == 0.0)).all()
