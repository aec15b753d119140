"""Magpie attributes: matminer's values, hand-computed ones, and what must hold for any composition."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.elements import ELEMENT_INDEX, ELEMENTS
from models.errors import FormulaError, InputError
from models.magpie import MAGPIE_NAMES, magpie_attributes, magpie_from_formulas
from models.magpie_data import PROPERTIES, element_data
from models.space import CompositionSpace

Reference = Callable[[NDArray[Any], NDArray[Any]], NDArray[np.float64]]


@pytest.fixture(scope="module")
def matminer() -> tuple[list[str], Reference]:
    """What matminer's own featurizers say: names, and values of padded compositions."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from matminer.featurizers.composition import ElementProperty, IonProperty, Stoichiometry, ValenceOrbital
    from pymatgen.core import Composition

    featurizers = [
        Stoichiometry(),
        ElementProperty.from_preset("magpie"),
        ValenceOrbital(props=["avg"]),
        IonProperty(fast=True),
    ]

    def values(elements: NDArray[Any], amounts: NDArray[Any]) -> NDArray[np.float64]:
        rows = []
        for row, counts in zip(elements, amounts, strict=True):
            atoms = {ELEMENTS[e]: float(n) for e, n in zip(row, counts, strict=True) if e >= 0}
            rows.append([float(value) for f in featurizers for value in f.featurize(Composition(atoms))])
        return np.array(rows)

    return [name for featurizer in featurizers for name in featurizer.feature_labels()], values


def draw(n: int, seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw n compositions of one to six elements in any order, up to 24 atoms."""
    rng = np.random.default_rng(seed)
    elements, amounts = np.full((n, 6), -1), np.zeros((n, 6), dtype=np.int64)
    for row in range(n):
        arity = 1 + row % 6
        elements[row, :arity] = rng.choice(len(ELEMENTS), arity, replace=False)
        counts = rng.integers(1, 12, arity)
        while counts.sum() > 24:
            counts = rng.integers(1, 12, arity)
        amounts[row, :arity] = counts
    return elements, amounts


def assert_same(ours: NDArray[np.float64], theirs: NDArray[np.float64]) -> None:
    """Equal to 1e-6 relative, and NaN only where the other is."""
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-12, equal_nan=True)


def value(attributes: NDArray[np.float64], name: str) -> float:
    return float(attributes[MAGPIE_NAMES.index(name)])


def test_names_and_order_are_matminers(matminer: tuple[list[str], Reference]) -> None:
    assert list(MAGPIE_NAMES) == matminer[0]
    assert len(MAGPIE_NAMES) == len(set(MAGPIE_NAMES)) == 145


def test_values_are_matminers(matminer: tuple[list[str], Reference]) -> None:
    elements, amounts = draw(300, seed=0)
    assert_same(magpie_attributes(elements, amounts), matminer[1](elements, amounts))


def test_every_element_is_matminers(matminer: tuple[list[str], Reference]) -> None:
    elements = np.arange(len(ELEMENTS))[:, None]
    assert_same(magpie_attributes(elements, np.ones_like(elements)), matminer[1](elements, np.ones_like(elements)))


def test_fractional_and_nearly_equal_amounts_are_matminers(matminer: tuple[list[str], Reference]) -> None:
    """Fractions keep the sum of charges from being zero, and amounts within 1e-5 are tied: numpy.isclose."""
    iron, oxygen = ELEMENT_INDEX["Fe"], ELEMENT_INDEX["O"]
    elements = np.full((5, 2), [iron, oxygen])
    amounts = np.array([[0.4, 0.6], [0.333, 0.5], [1, 1.000_009], [1, 1.000_02], [999_995, 1_000_000]])
    ours = magpie_attributes(elements, amounts)
    assert_same(ours, matminer[1](elements, amounts))
    assert ours[:, MAGPIE_NAMES.index("compound possible")].tolist() == [1, 0, 0, 0, 0]
    assert ours[:, MAGPIE_NAMES.index("MagpieData mode Number")].tolist() == [8, 8, 8, 8, 8]
    assert value(magpie_attributes(elements[:1], np.array([[1.000_009, 1]]))[0], "MagpieData mode Number") == 8
    assert value(magpie_attributes(elements[:1], np.array([[1.000_02, 1]]))[0], "MagpieData mode Number") == 26


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_twenty_thousand_compositions_are_matminers(matminer: tuple[list[str], Reference]) -> None:
    elements, amounts = draw(20_000, seed=1)
    ours, theirs = magpie_attributes(elements, amounts), matminer[1](elements, amounts)
    scale = np.where(theirs == 0, 1.0, np.abs(theirs))
    print(f"largest relative difference {np.nanmax(np.abs(ours - theirs) / scale):.1e}, NaN {np.isnan(theirs).sum()}")
    assert_same(ours, theirs)


def test_hematite_by_hand() -> None:
    """Fe2O3: Z 26 and 8; 4s2 3d6 and 2s2 2p4; Pauling's electronegativities 1.83 and 3.44."""
    fe2o3 = magpie_from_formulas(["Fe2O3"])[0]
    assert value(fe2o3, "0-norm") == 2
    assert value(fe2o3, "2-norm") == pytest.approx(math.sqrt(0.4**2 + 0.6**2), rel=1e-15)
    assert value(fe2o3, "10-norm") == pytest.approx((0.4**10 + 0.6**10) ** 0.1, rel=1e-15)
    statistics = ("minimum", "maximum", "range", "mean", "avg_dev", "mode")
    number = [value(fe2o3, f"MagpieData {statistic} Number") for statistic in statistics]
    assert number == pytest.approx([8, 26, 18, 15.2, 8.64, 8], rel=1e-15)
    assert value(fe2o3, "avg s valence electrons") == 2
    assert value(fe2o3, "avg p valence electrons") == pytest.approx(0.6 * 4, rel=1e-15)
    assert value(fe2o3, "avg d valence electrons") == pytest.approx(0.4 * 6, rel=1e-15)
    ionic = 1 - math.exp(-0.25 * (3.44 - 1.83) ** 2)
    assert value(fe2o3, "compound possible") == 1
    assert value(fe2o3, "max ionic char") == pytest.approx(ionic, rel=1e-12)
    assert value(fe2o3, "avg ionic char") == pytest.approx(0.4 * 0.6 * ionic, rel=1e-12)


def test_ties_and_single_elements_by_hand() -> None:
    salt, sodium = magpie_from_formulas(["NaCl", "Na"])
    assert value(salt, "MagpieData mode Number") == 11  # of equally frequent elements the smaller value
    assert value(salt, "MagpieData mode Electronegativity") == 0.93
    volumes = element_data().properties[[ELEMENT_INDEX["Na"], ELEMENT_INDEX["Cl"]], PROPERTIES.index("GSvolume_pa")]
    assert value(salt, "MagpieData mode GSvolume_pa") == min(volumes)
    assert sodium[:6].tolist() == [1] * 6
    assert value(sodium, "MagpieData avg_dev AtomicWeight") == value(sodium, "MagpieData range AtomicWeight") == 0
    assert sodium[-3:].tolist() == [1, 0, 0]


@pytest.mark.parametrize(
    ("formula", "possible"),
    [
        ("Fe3O4", 0),  # of two valences: an element has but one here
        ("FeO", 1),
        ("Mn2O7", 1),
        ("NaCl2", 0),
        ("LiFePO4", 1),
        ("SF6", 1),
        ("Li7La3Zr2O12", 1),
        ("Li10GeP2S12", 1),
        ("NaK", 0),
    ],
)
def test_whether_a_neutral_compound_is_possible(formula: str, possible: int) -> None:
    assert value(magpie_from_formulas([formula])[0], "compound possible") == possible


@st.composite
def compositions(draw: st.DrawFn) -> list[tuple[int, int]]:
    chosen = draw(st.lists(st.integers(0, len(ELEMENTS) - 1), min_size=1, max_size=8, unique=True))
    return [(element, draw(st.integers(1, 24))) for element in chosen]


def row(atoms: list[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    table = np.array(atoms)
    return table[None, :, 0], table[None, :, 1]


@given(compositions(), st.randoms(use_true_random=False), st.integers(1, 50))
@settings(max_examples=200)
def test_neither_order_nor_multiples_matter(atoms: list[tuple[int, int]], random: Any, factor: int) -> None:
    expected = magpie_attributes(*row(atoms))
    shuffled = [*atoms]
    random.shuffle(shuffled)
    elements, amounts = row(shuffled)
    np.testing.assert_allclose(magpie_attributes(elements, amounts), expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(magpie_attributes(elements, factor * amounts), expected, rtol=1e-12, atol=1e-12)


@given(compositions())
@settings(max_examples=200)
def test_ranges(atoms: list[tuple[int, int]]) -> None:
    attributes = magpie_attributes(*row(atoms))[0]
    assert np.isfinite(attributes).all()
    low, high, spread, mean, deviation, mode = attributes[6:138].reshape(len(PROPERTIES), 6).T
    slack = 1e-12 * np.maximum(np.abs(high), 1)
    assert (low <= mean + slack).all()
    assert (mean <= high + slack).all()
    assert (low <= mode).all()
    assert (mode <= high).all()
    np.testing.assert_array_equal(spread, high - low)
    assert ((deviation >= 0) & (deviation <= spread / 2 + slack)).all()  # at most half the range, whatever the weights
    norms = attributes[:6]
    assert norms[0] == len(atoms)
    assert (np.diff(norms[1:]) <= 1e-15).all()
    assert 1 / len(atoms) ** 0.5 - 1e-12 <= norms[1] <= 1 + 1e-12
    possible, largest, average = attributes[-3:]
    assert possible in (0, 1)
    assert 0 <= average <= largest / 2 + 1e-15
    assert largest < 1


def test_padding_anywhere_and_unreadable_rows() -> None:
    iron, oxygen = ELEMENT_INDEX["Fe"], ELEMENT_INDEX["O"]
    elements = np.array([[-1, iron, -1, oxygen], [-1, -1, -1, -1]], dtype=np.int16)
    amounts = np.array([[7, 2, 0, 3], [0, 0, 0, 0]], dtype=np.int8)
    attributes = magpie_attributes(elements, amounts)
    np.testing.assert_array_equal(attributes[0], magpie_from_formulas(["Fe2O3"])[0])
    assert np.isnan(attributes[1]).all()
    assert magpie_attributes(np.empty((0, 4), dtype=int), np.empty((0, 4))).shape == (0, 145)


def test_a_composition_space_goes_straight_in() -> None:
    space = CompositionSpace()
    some = space.unrank(np.arange(0, len(space), len(space) // 50))
    attributes = magpie_attributes(some.elements, some.counts)
    np.testing.assert_array_equal(attributes, magpie_from_formulas(space.formulas(some)))


@pytest.mark.parametrize(
    ("elements", "amounts", "said"),
    [
        ([[0, 1]], [[1]], "same shape"),
        ([0, 1], [1, 1], "same shape"),
        ([[0, 86]], [[1, 1]], "outside"),
        ([[0, -2]], [[1, 1]], "outside"),
        ([[0, 1]], [[1, 0]], "positive"),
        ([[0, 1]], [[1, np.nan]], "positive"),
        ([[3, -1, 3]], [[1, 0, 1]], "twice"),
    ],
)
def test_what_is_no_composition_is_refused(elements: Any, amounts: Any, said: str) -> None:
    with pytest.raises(InputError, match=said):
        magpie_attributes(np.array(elements), np.array(amounts))


def test_a_formula_that_cannot_be_read_is_named() -> None:
    with pytest.raises(FormulaError, match=r"row 1: .*He"):
        magpie_from_formulas(["NaCl", "HeF2"])
