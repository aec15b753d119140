"""Distance to the nearest known composition against brute force over dense vectors."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.elements import ELEMENT_INDEX, N_ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.novelty import EXACT, LARGEST_RADIUS, LEVELS, Novelty, level_of
from models.screening import composition_fractions
from models.space import CompositionSpace

POOL = np.array([ELEMENT_INDEX[e] for e in ("H", "Li", "O", "Fe", "Pm", "Sm", "Hf", "Pu")], dtype=np.int16)
"""Elements on both sides of the border between the two words of a key (Sm is the last of the first)."""


def known(*formulas: str) -> Novelty:
    parsed = parse_many(formulas)
    assert parsed.valid.all()
    return Novelty.of_compositions(parsed.elements, parsed.amounts)


def asked(formula: str) -> tuple[NDArray[np.int16], NDArray[np.int32]]:
    parsed = parse_many([formula])
    return parsed.elements, parsed.amounts


def by_force(listed: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distances of all pairs, shape (wanted, listed)."""
    return np.asarray(np.sqrt(((wanted[:, None, :] - listed[None, :, :]) ** 2).sum(axis=2)))


def padded(dense: NDArray[np.int64]) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """Counts over the pool (n, 8) as element columns and counts."""
    elements = np.full(dense.shape, -1, dtype=np.int16)
    counts = np.zeros(dense.shape, dtype=np.int64)
    for row, amounts in enumerate(dense):
        present = np.flatnonzero(amounts)
        elements[row, : len(present)] = POOL[present]
        counts[row, : len(present)] = amounts[present]
    return elements, counts


def doped(rng: np.random.Generator, n: int, scale: int) -> NDArray[np.int64]:
    """Counts over the pool: a few simple compositions, multiplied and with some atoms more: many near neighbours."""
    simple = rng.integers(0, 3, (4, len(POOL))) * (rng.random((4, len(POOL))) < 0.4)
    counts = simple[rng.integers(0, 4, n)] * rng.integers(1, scale + 1, (n, 1))
    counts += rng.integers(0, 3, counts.shape) * (rng.random(counts.shape) < 0.25)
    counts[counts.sum(axis=1) == 0, 0] = 1
    return counts


@settings(max_examples=200)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(0, 60),
    st.sampled_from((1, 4, 30)),
    st.sampled_from((0.01, 0.1, 0.2, LARGEST_RADIUS)),
    st.booleans(),
)
def test_is_brute_force(seed: int, n_known: int, scale: int, radius: float, dense: bool) -> None:
    rng = np.random.default_rng(seed)
    counts = doped(rng, n_known + 40, scale)
    listed, wanted = padded(counts[:n_known]), padded(counts[n_known:])
    fractions = composition_fractions(*listed)
    novelty = Novelty(fractions, radius=radius) if dense else Novelty.of_compositions(*listed, radius=radius)
    assert len(novelty) == n_known
    distance, index = novelty.nearest(*wanted)
    every = by_force(fractions, composition_fractions(*wanted))
    nearest = every.min(axis=1, initial=np.inf)
    border = abs(nearest - radius) < 1e-8
    within = nearest <= radius
    np.testing.assert_array_equal(np.isfinite(distance)[~border], within[~border])
    np.testing.assert_array_equal(index >= 0, np.isfinite(distance))
    found = np.flatnonzero(index >= 0)
    np.testing.assert_allclose(distance[found], nearest[found], atol=1e-12)
    np.testing.assert_allclose(every[found, index[found]], distance[found], atol=1e-12)
    same = np.flatnonzero(nearest == 0)
    assert (distance[same] == 0).all()  # the same fractions are the same bits, whatever the counts
    assert index[same].tolist() == [int(np.flatnonzero(row == 0)[0]) for row in every[same]]


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_whole_space_against_brute_force(seed: int) -> None:
    space = CompositionSpace()
    rng = np.random.default_rng(seed)
    few = CompositionSpace(("Na", "K", "Fe", "O", "Cl"), (1, 2, 3), 12)
    listed = few.unrank(rng.integers(0, len(few), 300))
    near = CompositionSpace(("Na", "K", "Fe", "O", "Cl"), (2, 3, 4), 10)
    for compositions in (near.unrank(rng.integers(0, len(near), 60)), space.unrank(rng.integers(0, len(space), 20))):
        novelty = Novelty.of_compositions(listed.elements, listed.counts)
        distance, _ = novelty.nearest(compositions.elements, compositions.counts)
        nearest = by_force(few.fractions(listed, np.float64), space.fractions(compositions, np.float64)).min(axis=1)
        inside = nearest <= 0.1 + 1e-9
        np.testing.assert_allclose(distance[inside], nearest[inside], atol=1e-12)
        assert np.isinf(distance[~inside]).all()


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_order_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    counts = doped(rng, 80, 6)
    listed, wanted = padded(counts[:40]), padded(counts[40:])
    distance, _ = Novelty.of_compositions(*listed).nearest(*wanted)
    order, shuffle = rng.permutation(40), rng.permutation(40)
    again, _ = Novelty.of_compositions(*(array[order] for array in listed)).nearest(*(a[shuffle] for a in wanted))
    np.testing.assert_array_equal(again, distance[shuffle])


@pytest.mark.parametrize(
    ("listed", "formula", "distance", "level"),
    [
        (["NaCl"], "Na2Cl2", 0.0, "exact"),
        (["NaCl"], "Na99Cl101", 0.005 * 2**0.5, "within_1_percent"),
        (["NaCl"], "Na49Cl51", 0.01 * 2**0.5, "within_10_percent"),  # 1 % of each fraction is 1.4 % of distance
        (["NaCl"], "Na4Cl5", (2 / 18**2) ** 0.5, "within_10_percent"),
        (["NaCl"], "Na3Cl4", (2 / 14**2) ** 0.5, "new"),
        (["NaCl"], "NaBr", np.inf, "new"),
        (["NaCl"], "KCl", np.inf, "new"),
        (["NaCl"], "Na19Cl19K2", (2 * 0.025**2 + 0.05**2) ** 0.5, "within_10_percent"),  # an element more
        (["Na19Cl19K2"], "NaCl", (2 * 0.025**2 + 0.05**2) ** 0.5, "within_10_percent"),  # an element fewer
        (["Na19Cl19K2"], "Na19Cl19Br2", (2 * 0.05**2) ** 0.5, "within_10_percent"),  # another element
        (["KCl", "NaCl", "NaCl"], "NaCl", 0.0, "exact"),
        ([], "NaCl", np.inf, "new"),
    ],
)
def test_by_hand(listed: list[str], formula: str, distance: float, level: str) -> None:
    novelty = known(*listed)
    found, index = novelty.nearest(*asked(formula))
    assert found[0] == (pytest.approx(distance, abs=1e-12) if distance <= 0.1 else np.inf)
    assert index[0] == (
        listed.index("NaCl") if "NaCl" in listed and distance <= 0.1 else (0 if distance <= 0.1 else -1)
    )
    assert LEVELS[novelty.levels(*asked(formula))[0]] == level


def test_two_light_elements_at_the_border() -> None:
    """Six shared elements and two more of 6 % each: squared distance 2 (0.06)^2 + (0.12)^2 / 6."""
    six, eight = "HLiOFePmHf", "H22Li22O22Fe22Pm22Hf22Sm9Pu9"
    for listed, formula in ((six, eight), (eight, six)):
        distance, index = known("NaCl", listed).nearest(*asked(formula))
        assert index[0] == 1
        assert distance[0] == pytest.approx((2 * 0.06**2 + 0.12**2 / 6) ** 0.5)


def test_a_limit_belongs_to_its_level() -> None:
    distances = np.array([0.0, EXACT, 2 * EXACT, 0.01, 0.0100001, 0.1, 0.1000001, np.inf])
    assert level_of(distances).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert LEVELS == ("exact", "within_1_percent", "within_10_percent", "new")


def test_rounded_fractions_are_still_the_same_composition() -> None:
    space = CompositionSpace(("Li", "Fe", "P", "O", "S"), (2, 3, 4), 24)
    compositions = space.unrank(np.arange(0, len(space), 37))
    novelty = Novelty(space.fractions(compositions, np.float32))
    assert (novelty.levels(compositions.elements, compositions.counts) == 0).all()
    assert (novelty.nearest(compositions.elements, compositions.counts)[1] == np.arange(len(compositions))).all()


def test_millions_are_quick() -> None:
    space = CompositionSpace()
    rng = np.random.default_rng(1)
    listed = space.unrank(np.concatenate([rng.integers(0, n, 20_000) for n in (113_305, 11_268_365)]))
    novelty = Novelty.of_compositions(listed.elements, listed.counts)
    candidates = space.unrank(np.arange(5_000_000, 5_500_000))
    novelty.nearest(candidates.elements[:1], candidates.counts[:1])  # compiles
    began = time.process_time()
    distance, _ = novelty.nearest(candidates.elements, candidates.counts)
    assert time.process_time() - began < 2.0  # 0.05 s on a busy core
    assert np.isfinite(distance).any()


@pytest.mark.parametrize("radius", [0.0, -0.1, 0.31, np.nan])
def test_refuses_a_radius_outside_the_limits(radius: float) -> None:
    with pytest.raises(InputError, match="radius"):
        Novelty(np.eye(N_ELEMENTS), radius=radius)


def test_refuses_what_is_no_composition() -> None:
    with pytest.raises(InputError, match="86 elements"):
        Novelty(np.eye(5))
    for factor in (2.0, -1.0, np.nan, 0.0):
        with pytest.raises(InputError, match="sum to 1"):
            Novelty(np.eye(N_ELEMENTS) * factor)
    novelty = known("NaCl")
    for elements, counts, message in (
        ([[0, 1]], [[1]], "one shape"),
        ([[1, 0]], [[1, 1]], "ascend"),
        ([[0, 90]], [[1, 1]], "between"),
        ([[0, 1]], [[1, 0]], "positive count"),
        ([[0, -1]], [[1, 1]], "positive count"),
        ([[-1, -1]], [[0, 0]], "each composition an element"),
    ):
        with pytest.raises(InputError, match=message):
            novelty.nearest(np.array(elements), np.array(counts))
    with pytest.raises(InputError, match="cannot tell all levels"):
        Novelty(np.eye(N_ELEMENTS), radius=0.01).levels(*asked("NaCl"))
    nothing = novelty.nearest(np.zeros((0, 3), dtype=np.int16), np.zeros((0, 3), dtype=np.int8))
    assert [len(part) for part in nothing] == [0, 0]
