"""Best candidate per chemical system against a dictionary."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.best_per_system import ascending_columns, best_per_system, group_by_system
from models.elements import N_ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.space import CompositionSpace

SPACE = CompositionSpace(("Li", "Na", "Fe", "O", "S"), (1, 2, 3, 4), 6)


def by_dictionary(elements: NDArray[np.integer], energies: list[float]) -> dict[tuple[int, ...], tuple[int, int]]:
    """Per system: candidates, and the row of the best."""
    found: dict[tuple[int, ...], tuple[int, int]] = {}
    for row, (system, energy) in enumerate(zip(map(tuple, elements.tolist()), energies, strict=True)):
        n, best = found.get(system, (0, row))
        found[system] = (n + 1, row if energy < energies[best] else best)
    return found


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, len(SPACE) - 1), st.integers(-3, 3)), max_size=60))
def test_is_a_dictionary(candidates: list[tuple[int, int]]) -> None:
    elements = SPACE.unrank([index for index, _ in candidates]).elements
    energies = [energy / 8 for _, energy in candidates]  # with ties
    best = best_per_system(elements, np.array(energies, dtype=np.float32))
    expected = by_dictionary(elements, energies)
    assert len(best) == len(expected)
    assert {
        tuple(system): (n, row)
        for system, n, row in zip(best.systems.tolist(), best.n_candidates, best.row, strict=True)
    } == expected
    assert best.decomposition_energy.tolist() == [energies[row] for row in best.row]
    order = [(sum(e >= 0 for e in system), system) for system in best.systems.tolist()]
    assert order == sorted(order)
    assert best.lowest_first().decomposition_energy.tolist() == sorted(best.decomposition_energy.tolist())


@settings(max_examples=60)
@given(st.lists(st.integers(0, len(SPACE) - 1), max_size=60), st.data())
def test_groups(indices: list[int], data: st.DataObject) -> None:
    elements = SPACE.unrank(indices).elements
    groups = group_by_system(elements)
    np.testing.assert_array_equal(groups.systems[groups.label], elements)
    np.testing.assert_array_equal(np.sort(groups.order), np.arange(len(elements)))
    np.testing.assert_array_equal(np.bincount(groups.label, minlength=len(groups)), groups.sizes)
    np.testing.assert_array_equal(groups.arity, (groups.systems >= 0).sum(axis=1))
    for start, size, label in zip(groups.starts, groups.sizes, range(len(groups)), strict=True):
        rows = groups.order[start : start + size]
        assert (groups.label[rows] == label).all()
        assert (np.diff(rows) > 0).all()
    mask = np.array(data.draw(st.lists(st.booleans(), min_size=len(indices), max_size=len(indices))), dtype=bool)
    np.testing.assert_array_equal(groups.count(mask), [(groups.label[mask] == g).sum() for g in range(len(groups))])


def test_table() -> None:
    parsed = parse_many(["NaCl", "LiFeO2", "NaCl3", "Fe2O3", "Li2Fe2O3", "NaCl2"])
    energies = np.array([-0.3, -0.5, -0.4, -0.4, -0.5, -0.4])
    table = best_per_system(parsed.elements, energies).lowest_first().table()
    assert table.to_dict("list") == {
        "chemsys": ["Fe-Li-O", "Fe-O", "Cl-Na"],
        "arity": [3, 2, 2],
        "n_candidates": [2, 1, 3],
        "row": [1, 3, 2],  # of equals the first
        "decomposition_energy": [-0.5, -0.4, -0.4],
    }


def test_millions_are_quick() -> None:
    space = CompositionSpace()
    rng = np.random.default_rng(0)
    elements = space.unrank(rng.integers(0, len(space), 500_000)).elements
    energies = rng.normal(size=len(elements))
    began = time.process_time()
    best = best_per_system(elements, energies)
    assert time.process_time() - began < 2.0  # 0.2 s on a busy core
    assert best.n_candidates.sum() == len(elements)


@pytest.mark.parametrize("rows", [[[1, 0]], [[1, 1]], [[-1, 1]], [[0, N_ELEMENTS]], [[-2, 1]], [0, 1]])
def test_refuses_rows_that_are_no_systems(rows: list) -> None:
    with pytest.raises(InputError, match=r"ascend|array \(n, k\)"):
        ascending_columns(np.array(rows))


def test_refuses_energies_that_do_not_fit() -> None:
    elements = np.array([[0, 1]])
    with pytest.raises(InputError, match="as many energies"):
        best_per_system(elements, np.zeros(2))
    with pytest.raises(InputError, match="not a number"):
        best_per_system(elements, np.array([np.nan]))
    assert len(best_per_system(np.zeros((0, 3), dtype=np.int16), np.zeros(0)).table()) == 0
