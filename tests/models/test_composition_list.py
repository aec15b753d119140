"""Listed compositions against the space that holds them, against a loop over the hull, and against their own cuts."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.cascade import Band
from models.composition_list import MAX_LISTED_ATOMS, CompositionList, list_hull, listing_reasons, screen_list
from models.elemnet import ElemNet
from models.errors import InputError
from models.formula import parse_many
from models.hull import PhaseHull
from models.inference import place_free
from models.predictor import Predictor
from models.screening import Recorded, ScreenBlock, composition_fractions, merge_blocks, screen_range
from models.sieve import best_sieve
from models.space import Compositions, CompositionSpace

SPACE = CompositionSpace(("Li", "O", "Fe", "F", "P"), (2, 3, 4), 7)
PHASES = {
    "Li2O": -2.0, "FeO": -1.4, "Fe2O3": -1.7, "LiF": -3.1, "FeF2": -2.3, "LiFeO2": -1.9, "LiFePO4": -2.6,
    "Li3PO4": -2.9, "Fe3O": 0.3, "Li3F": -0.2, "P2O5": -2.2, "LiFePO4F": -2.75,
}  # fmt: skip
#: Five, nine and sixteen elements; more atoms than any space; all of these are in no space of up to four elements.
ODD = ["LiFePO4F", "Li13Fe14O15F16", "Li0.55FePO4", "NaKMgCaAlSiFeOF", "LiNaKMgCaAlSiTiVCrMnFeCoNiOF", "LiFePO4F0.5"]


@cache
def predictor(n_members: int = 1) -> Predictor:
    members = []
    for seed in range(n_members):
        torch.manual_seed(seed)
        network = ElemNet(widths=(48, 16, 1))
        members.append({name: value.numpy() for name, value in network.state_dict().items()})
    architecture = {"name": "elemnet", "parameters": {"widths": [48, 16, 1]}}
    return Predictor(architecture, {"mean": [-1.9], "std": [0.8]}, members, batch_size=32)


@cache
def hull() -> PhaseHull:
    return PhaseHull(parse_many(PHASES).fractions, np.array(list(PHASES.values())))


def listed(formulas: list[str]) -> Compositions:
    parsed = parse_many(formulas)
    assert all(reason is None for reason in listing_reasons(parsed))
    return Compositions(parsed.elements, parsed.amounts.astype(np.int16))


def mixed() -> Compositions:
    """Every seventh composition of the space, shuffled, with the odd ones among them."""
    index = np.random.default_rng(0).permutation(np.arange(0, len(SPACE), 15))
    formulas = SPACE.formulas(SPACE.unrank(index))
    return listed([*formulas[:40], *ODD, *formulas[40:]])


def screened(compositions: Compositions, **options: object) -> ScreenBlock:
    return screen_list(compositions, predictor(), hull(), 0.3, max_atoms=7, **options)  # type: ignore[arg-type]


def columns(block: ScreenBlock) -> dict[str, object]:
    values = {f.name: getattr(block, f.name) for f in dataclasses.fields(block)}
    return {k: v.tobytes() if isinstance(v, np.ndarray) else v for k, v in values.items()}


def test_the_space_and_a_shuffled_list_of_it_say_the_same_to_the_bit() -> None:
    if not all(place_free(function, 32, 86) for function in predictor()._functions):
        pytest.skip("this matrix library gives a row other bits at another place of a batch")
    order = np.random.default_rng(1).permutation(len(SPACE))
    shuffled = SPACE.unrank(order)
    found = screened(shuffled)
    expected = screen_range(0, len(SPACE), SPACE, predictor(), hull(), 0.3)
    back = np.argsort(order[found.index])
    assert 50 < len(expected) < len(SPACE)
    assert order[found.index][back].tolist() == expected.index.tolist()
    for name in ("prediction", "hull_energy", "decomposition_energy", "known", "counts"):
        assert getattr(found, name)[back].astype(np.float64).tobytes() == (
            getattr(expected, name).astype(np.float64).tobytes()
        ), name
    assert found.elements[back].tolist() == expected.elements.tolist()
    assert found.known.any()
    assert (found.n_screened, found.n_below) == (expected.n_screened, expected.n_below)


@settings(max_examples=12, deadline=None)
@given(cuts=st.lists(st.integers(0, 100), max_size=3), batch=st.sampled_from([9, 32, 50, 1000]))
def test_any_cut_of_a_list_gives_the_same_bytes(cuts: list[int], batch: int) -> None:
    whole = mixed()
    bounds = [0, *sorted(min(cut, len(whole)) for cut in cuts), len(whole)]
    blocks = [
        screened(Compositions(whole.elements[a:b], whole.counts[a:b]), first=a, batch=batch)
        for a, b in itertools.pairwise(bounds)
    ]
    assert columns(merge_blocks(blocks)) == columns(screened(whole))


def test_energies_of_any_arity_are_those_of_network_and_hull() -> None:
    compositions = mixed()
    block = screen_list(compositions, predictor(2), hull(), 100.0)
    assert len(block) == len(compositions)
    exact = composition_fractions(compositions.elements, compositions.counts)
    prediction, std = predictor(2).predict(exact)
    assert block.prediction == pytest.approx(prediction, abs=1e-6)
    assert std is not None
    assert block.prediction_std == pytest.approx(std, abs=1e-6)
    assert block.hull_energy == pytest.approx(hull().energy_many(exact), abs=1e-9)
    expected = hull().decomposition_energy(exact, block.prediction.astype(np.float64))
    assert block.decomposition_energy == pytest.approx(expected, abs=1e-9)
    assert block.n_screened[5] == 2
    assert block.n_screened[9] == block.n_screened[16] == 1
    assert sum(block.n_below.values()) == len(block)


def test_the_hull_by_hand() -> None:
    few = PhaseHull(parse_many(["LiF", "MgO", "NaCl", "LiMgOF"]).fractions, np.array([-3.0, -2.0, -1.0, -3.5]))
    # six elements that only pairs share: two atoms each of LiF, MgO and NaCl, or four of LiMgOF and two of NaCl
    compositions = listed(["LiFMgONaCl", "LiMgOF", "LiFNaCl"])
    assert list_hull(compositions, few, 10) == pytest.approx([(4 * -3.5 + 2 * -1.0) / 6, -3.5, -2.0])
    # LiMgOF is a phase: without itself it falls apart into LiF and MgO
    assert list_hull(compositions, few, 10, exclude_own=True) == pytest.approx([-16 / 6, -2.5, -2.0])
    # of a space of two atoms at most none of them is part: the same energies, each reached by itself
    assert list_hull(compositions, few, 2) == pytest.approx([-16 / 6, -3.5, -2.0])


def test_a_known_phase_of_five_elements_is_known() -> None:
    block = screen_list(listed(["LiFePO4F", "LiFePO4F2"]), predictor(), hull(), 100.0)
    assert block.known.tolist() == [True, False]


def test_the_fast_mode_gives_the_same_survivors() -> None:
    compositions = mixed()
    kind = best_sieve()
    if kind is None:
        pytest.skip("this processor has no instructions for a sieve")
    fast = screened(compositions, band=Band(kind, 0.5, 1, 0.3, 0.1))
    exact = screened(compositions)
    for name in ("index", "prediction", "hull_energy", "decomposition_energy", "known"):
        assert getattr(fast, name).tobytes() == getattr(exact, name).tobytes()
    assert len(exact) <= fast.n_decided["again"] < len(compositions)


def test_reasons_by_hand() -> None:
    many = "Li2Na2K2Rb2Cs2Be2Mg2Ca2Sr2Ba2Sc2Y2Ti2Zr2V2Nb2O"
    texts = [
        "Li2O",
        "",
        "LiX",
        "He2O",
        "Fe",
        "O2",
        "Li4O2",
        f"LiO{MAX_LISTED_ATOMS}",
        f"LiO{MAX_LISTED_ATOMS - 1}",
        many,
    ]
    reasons = listing_reasons(parse_many(texts))
    assert [reason is None for reason in reasons] == [True, *[False] * 7, True, False]
    said = [
        "no formula",
        "no element",
        "outside the 86",
        "single element",
        "single element",
        "same composition as row 0",
    ]
    for reason, words in zip(reasons[1:7], said, strict=True):
        assert words in str(reason)
    assert "5,001 atoms" in str(reasons[7])
    assert "17 elements" in str(reasons[9])


def test_a_list_answers_to_numbers() -> None:
    compositions = mixed()
    numbered = CompositionList(compositions)
    assert len(numbered) == len(compositions)
    some = numbered.unrank(np.array([3, 0]))
    assert some.elements.tolist() == compositions.elements[[3, 0]].tolist()
    assert some.counts.tolist() == compositions.counts[[3, 0]].tolist()


def test_recorded_predictions_are_all_of_them_in_order() -> None:
    pieces: list[np.ndarray] = []
    block = screen_range(5, 400, SPACE, Recorded(predictor(), pieces.append), hull(), 0.3, batch=64)
    fractions = SPACE.fractions(SPACE.unrank(np.arange(5, 400)))
    expected, _ = predictor().predict(fractions, position=5)
    assert np.concatenate(pieces).tobytes() == expected.tobytes()
    assert max(map(len, pieces)) <= 64
    assert columns(block) == columns(screen_range(5, 400, SPACE, predictor(), hull(), 0.3))
    with pytest.raises(InputError, match="precision fp32"):
        screen_range(5, 400, SPACE, Recorded(predictor(), pieces.append), hull(), 0.3, band=Band("int8", 1, 1, 1, 1))


@pytest.mark.parametrize(
    ("elements", "counts", "message"),
    [
        ([[3, 1]], [[1, 1]], "ascend"),
        ([[1, 3]], [[1, 0]], "positive count"),
        ([[-1, 3]], [[0, 1]], "padding at the end"),
        ([[1, -1]], [[1, 0]], "two elements"),
        ([[1, 3]], [[2, 4]], "coprime"),
        ([[1, 3]], [[1, 2, 3]], "one shape"),
    ],
)
def test_what_is_no_composition_is_refused(elements: list[list[int]], counts: list[list[int]], message: str) -> None:
    compositions = Compositions(np.array(elements, dtype=np.int16), np.array(counts, dtype=np.int16))
    with pytest.raises(InputError, match=message):
        screened(compositions)


def test_unusable_settings_are_refused() -> None:
    with pytest.raises(InputError, match="threshold"):
        screen_list(mixed(), predictor(), hull(), float("nan"))
    with pytest.raises(InputError, match="batch"):
        screened(mixed(), batch=0)
