"""The composition space: counts, and the bijection between indices and compositions."""

from __future__ import annotations

import itertools
import json
import math
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.core import Composition

from models.elements import ELEMENT_INDEX, ELEMENTS
from models.errors import InputError
from models.space import Compositions, CompositionSpace


@st.composite
def spaces(draw: st.DrawFn) -> CompositionSpace:
    elements = draw(st.lists(st.sampled_from(ELEMENTS), min_size=1, max_size=86, unique=True))
    arities = draw(st.lists(st.integers(1, 5), min_size=1, max_size=4, unique=True))
    required = draw(st.lists(st.sampled_from(elements), max_size=min(arities), unique=True))
    return CompositionSpace(tuple(elements), tuple(arities), draw(st.integers(max(arities), 24)), tuple(required))


def test_counts_of_the_whole_space() -> None:
    space = CompositionSpace()
    assert [space.count(k) for k in (2, 3, 4)] == [113_305, 11_155_060, 435_328_775]
    assert len(space) == 446_597_140
    assert [len(space.stoichiometries(k)) for k in (2, 3, 4)] == [31, 109, 205]
    assert space.n_systems == 2_229_550
    assert space.offsets == (0, 113_305, 11_268_365, 446_597_140)
    assert space.count(5) == 0


def test_layout_is_lexicographic() -> None:
    space = CompositionSpace(("O", "Li", "Fe"), (1, 2, 3), 4)
    got = [
        tuple((ELEMENTS[e], int(n)) for e, n in zip(row, counts, strict=True) if e >= 0)
        for row, counts in zip(*(lambda c: (c.elements, c.counts))(space.unrank(np.arange(len(space)))), strict=True)
    ]
    expected = [
        tuple(zip(system, stoichiometry, strict=True))
        for k in (1, 2, 3)
        for system in itertools.combinations(("Li", "O", "Fe"), k)
        for stoichiometry in itertools.product(range(1, 5), repeat=k)
        if sum(stoichiometry) <= 4 and math.gcd(*stoichiometry) == 1
    ]
    assert got == expected


@settings(max_examples=150, deadline=None)
@given(spaces(), st.data())
def test_rank_inverts_unrank(space: CompositionSpace, data: st.DataObject) -> None:
    if len(space) == 0:  # fewer elements than the smallest arity
        assert len(space.unrank([])) == 0
        return
    ends = [0, len(space) - 1, *(i for o in space.offsets for i in (o - 1, o) if 0 <= i < len(space))]
    some = data.draw(st.lists(st.integers(0, len(space) - 1), max_size=30))
    indices = np.array([*ends, *some], dtype=np.int64)
    compositions = space.unrank(indices)
    np.testing.assert_array_equal(space.rank(compositions.elements, compositions.counts), indices)
    totals = compositions.counts.sum(axis=1, dtype=int)
    assert (totals <= space.max_atoms).all()
    assert (np.gcd.reduce(compositions.counts, axis=1) == 1).all()
    assert {ELEMENTS[e] for e in compositions.elements.ravel() if e >= 0} <= set(space.elements)
    for element in space.required:
        assert (compositions.elements == ELEMENT_INDEX[element]).any(axis=1).all()


@settings(max_examples=60, deadline=None)
@given(spaces(), st.data())
def test_blocks_of_systems_cover_a_range(space: CompositionSpace, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(space)))
    stop = min(data.draw(st.integers(start, len(space))), start + 20_000)
    block_size = data.draw(st.integers(1, 5000))
    at = start
    for block in space.iterate_systems(start, stop, block_size=block_size):
        assert block.first == at
        s = len(block.stoichiometries)
        assert 0 <= block.skip < s
        assert len(block.systems) * s - block.skip >= block.size
        elements = np.repeat(block.systems, s, axis=0)[block.skip : block.skip + block.size]
        counts = np.tile(block.stoichiometries, (len(block.systems), 1))[block.skip : block.skip + block.size]
        np.testing.assert_array_equal(space.rank(elements, counts), np.arange(at, at + block.size))
        np.testing.assert_allclose(block.fractions.sum(axis=1), 1.0)
        at += block.size
    assert at == stop


def test_strings_are_those_of_pymatgen() -> None:
    space = CompositionSpace(arities=(1, 2, 3, 4, 5), max_atoms=12)
    compositions = space.unrank(np.random.default_rng(2).integers(0, len(space), 400))
    compositions = Compositions(
        np.vstack([compositions.elements, space.unrank(np.arange(0, space.offsets[2], 50)).elements]),
        np.vstack([compositions.counts, space.unrank(np.arange(0, space.offsets[2], 50)).counts]),
    )
    for formula, chemsys, elements, counts in zip(
        space.formulas(compositions),
        space.chemsys(compositions),
        compositions.elements,
        compositions.counts,
        strict=True,
    ):
        expected = Composition({ELEMENTS[e]: int(n) for e, n in zip(elements, counts, strict=True) if e >= 0})
        assert formula == expected.reduced_formula
        assert chemsys == expected.chemical_system


def test_what_lies_outside_has_no_rank() -> None:
    space = CompositionSpace(("Li", "O", "Fe"), (2, 3), 6)
    li, o, fe, na = (ELEMENT_INDEX[e] for e in ("Li", "O", "Fe", "Na"))
    rows = [
        ([li, o, -1], [2, 1, 0], True),
        ([li, o, fe], [1, 4, 1], True),
        ([li, o, fe], [1, 5, 1], False),  # too many atoms
        ([li, o, -1], [2, 2, 0], False),  # not reduced
        ([li, na, -1], [1, 1, 0], False),  # another element
        ([o, li, -1], [1, 1, 0], False),  # not ascending
        ([o, o, -1], [1, 1, 0], False),  # twice
        ([li, -1, -1], [1, 0, 0], False),  # another arity
        ([li, o, -1], [0, 1, 0], False),
        ([li, o, -1], [-1, 2, 0], False),
        ([li, o, -1], [100, 1, 0], False),
        ([-1, li, o], [0, 1, 1], False),  # padding in front
    ]
    ranks = space.rank(np.array([r[0] for r in rows]), np.array([r[1] for r in rows]))
    assert (ranks >= 0).tolist() == [r[2] for r in rows]
    assert space.rank(np.array([[li, o]]), np.array([[2, 1]])) == ranks[0]


def test_is_a_value() -> None:
    space = CompositionSpace(("O", "Li"), (2,), 8)
    assert space == CompositionSpace(("Li", "O"), (2,), 8)
    assert hash(space) == hash(CompositionSpace(("Li", "O"), (2,), 8))
    assert CompositionSpace.from_dict(json.loads(json.dumps(space.to_dict()))) == space
    assert space.stoichiometries(2).flags.writeable is False


def test_a_million_indices_are_quick() -> None:
    space = CompositionSpace()
    indices = np.random.default_rng(0).integers(0, len(space), 1_000_000)
    began = time.process_time()
    compositions = space.unrank(indices)
    assert time.process_time() - began < 2.0  # 0.16 s on one quiet core
    np.testing.assert_array_equal(space.rank(compositions.elements, compositions.counts), indices)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"elements": ("Li", "He")}, "He is outside"),
        ({"elements": ("Li", "Li")}, "given once"),
        ({"elements": ()}, "at least one"),
        ({"arities": ()}, "arities"),
        ({"arities": (2, 2)}, "arities"),
        ({"arities": (0,)}, "arities"),
        ({"arities": (9,), "max_atoms": 20}, "arities"),
        ({"max_atoms": 3}, "max_atoms"),
        ({"max_atoms": 25}, "max_atoms"),
    ],
)
def test_refuses_impossible_spaces(arguments: dict[str, tuple[str, ...]], message: str) -> None:
    with pytest.raises(InputError, match=message):
        CompositionSpace(**arguments)  # type: ignore[arg-type]


def test_refuses_indices_outside() -> None:
    space = CompositionSpace(("Li", "O"), (2,), 4)
    for bad in (-1, len(space)):
        with pytest.raises(InputError, match="outside"):
            space.unrank([bad])
    with pytest.raises(InputError, match="outside"):
        list(space.iterate_systems(0, len(space) + 1))
