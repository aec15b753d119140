"""Pareto fronts against the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.pareto import pareto_front


def test_by_hand() -> None:
    costs = [[1, 5], [2, 2], [5, 1], [3, 3], [2, 2], [1, 6], [np.nan, 0]]
    assert pareto_front(costs).tolist() == [True, True, True, False, True, False, False]


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 3), min_size=1, max_size=30))
def test_is_the_definition(rows: list[tuple[int, int, int]]) -> None:
    values = np.array(rows, dtype=float)
    beaten = [any((other <= row).all() and (other < row).any() for other in values) for row in values]
    assert pareto_front(values).tolist() == [not b for b in beaten]


def test_infinite_costs_and_no_rows() -> None:
    assert pareto_front([[np.inf, 0], [0, 1]]).tolist() == [True, True]
    assert pareto_front(np.empty((0, 3))).tolist() == []
    with pytest.raises(InputError, match="shape"):
        pareto_front([1.0, 2.0])
