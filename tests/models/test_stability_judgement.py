"""Judging stability: a binary worked out by hand, pymatgen for the energies and scikit-learn for the scores."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition
from sklearn.metrics import accuracy_score, f1_score, precision_score, recall_score

from models.elements import ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.stability_judgement import all_predicted_decomposition, decomposition_against, judge_stability

#: Na-Cl at x(Cl) = 1/4, 1/2, 3/4. NaCl alone is what makes NaCl3 unstable.
FORMULAS = ["Na3Cl", "NaCl", "NaCl3"]
ENERGIES = np.array([-0.6, -1.0, -0.3])
PREDICTED = np.array([-0.2, -0.5, -0.3])
#: Na3Cl: line Na - NaCl, -0.5. NaCl: line Na3Cl - NaCl3, -0.45. NaCl3: line NaCl - Cl, -0.5.
TRUTH = np.array([-0.1, -0.55, 0.2])
#: With the predictions these are -0.25, -0.25 (NaCl's competitors: -0.2 and -0.3) and -0.25.
JUDGED = np.array([0.05, -0.25, -0.05])


def dense(formulas: list[str]) -> NDArray[np.float64]:
    return parse_many(formulas).fractions


def test_decomposition_energies_by_hand() -> None:
    fractions = dense(FORMULAS)
    np.testing.assert_allclose(all_predicted_decomposition(fractions, ENERGIES), TRUTH, atol=1e-12)
    np.testing.assert_allclose(all_predicted_decomposition(fractions, PREDICTED), JUDGED, atol=1e-12)


def test_elements_are_at_zero_whatever_is_predicted_for_them() -> None:
    fractions = dense([*FORMULAS, "Na", "Cl"])
    found = all_predicted_decomposition(fractions, np.array([*PREDICTED, -5.0, 3.0]))
    np.testing.assert_allclose(found[:3], JUDGED, atol=1e-12)


def test_given_competitors_by_hand() -> None:
    """Na3Cl at -0.6 alone puts NaCl's competitors at -0.4; one of its own composition, at -9, does not count."""
    competitors, energies = dense(["Na3Cl", "NaCl"]), np.array([-0.6, -9.0])
    found = decomposition_against(dense(["NaCl"]), np.array([-0.7]), competitors, energies)
    assert found[0] == pytest.approx(-0.3)
    others = decomposition_against(dense(["NaCl3", "K2O"]), np.array([-0.7, 0.4]), competitors, energies)
    assert others.tolist() == pytest.approx([-0.7 + 4.5, 0.4])  # the line NaCl - Cl; nothing but elements
    nothing = decomposition_against(dense(["NaCl"]), np.array([-0.7]), np.zeros((0, 86)), np.zeros(0))
    assert nothing.tolist() == [-0.7]


def made_up(seed: int, elements: tuple[str, ...] = ("Li", "Mg", "O", "Cl"), n: int = 24) -> tuple[Any, Any]:
    """Different compounds of a few elements with energies that leave many off the hull."""
    rng = np.random.default_rng(seed)
    counts: dict[str, None] = {}
    while len(counts) < n:
        amounts = rng.integers(0, 4, len(elements))
        if np.count_nonzero(amounts) > 1:
            amounts //= math.gcd(*amounts.tolist())
            counts["".join(f"{e}{a}" for e, a in zip(elements, amounts, strict=True) if a)] = None
    return list(counts), rng.uniform(-1.5, 0.3, n)


def entries(formulas: list[str], energies: NDArray[np.float64]) -> list[PDEntry]:
    compositions = [Composition(formula) for formula in formulas]
    return [PDEntry(c, float(e) * c.num_atoms) for c, e in zip(compositions, energies, strict=True)]


def elements_of(*formulas: str) -> list[PDEntry]:
    symbols = {e.symbol for formula in formulas for e in Composition(formula)}
    return [PDEntry(Composition(symbol), 0.0) for symbol in ELEMENTS if symbol in symbols]


@pytest.mark.parametrize("seed", range(3))
def test_all_predicted_agrees_with_pymatgen(seed: int) -> None:
    """pymatgen's hull with each compound taken out of its diagram."""
    formulas, energies = made_up(seed)
    found = all_predicted_decomposition(dense(formulas), energies)
    for row, formula in enumerate(formulas):
        others = [k for k in range(len(formulas)) if k != row]
        diagram = PhaseDiagram(
            elements_of(*formulas) + entries([formulas[k] for k in others], energies[others])
        )  # fmt: skip
        hull = diagram.get_hull_energy_per_atom(Composition(formula))
        assert found[row] == pytest.approx(energies[row] - hull, abs=1e-8)
    assert 0 < (found < 0).sum() < len(found)


def test_given_competitors_agree_with_pymatgen() -> None:
    formulas, energies = made_up(7, n=40)
    test, train = slice(0, 15), slice(15, 40)
    found = decomposition_against(
        dense(formulas[test]), energies[test], dense(formulas[train]), energies[train]
    )  # fmt: skip
    diagram = PhaseDiagram(elements_of(*formulas) + entries(formulas[train], energies[train]))
    expected = [
        energy - diagram.get_hull_energy_per_atom(Composition(formula))
        for formula, energy in zip(formulas[test], energies[test], strict=True)
    ]
    np.testing.assert_allclose(found, expected, atol=1e-8)


def test_a_judgement_by_hand() -> None:
    """Called stable: NaCl, NaCl3. Stable: Na3Cl, NaCl."""
    found = judge_stability(JUDGED, TRUTH)
    counts = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    assert [found[name] for name in counts] == [1, 1, 1, 0]
    assert found["n"] == 3
    assert found["mae"] == pytest.approx((0.15 + 0.3 + 0.25) / 3)
    assert found["f1"] == 0.5
    assert found["precision"]["share"] == found["recall"]["share"] == 0.5
    assert found["accuracy"]["share"] == pytest.approx(1 / 3)
    assert found["false_positive_rate"]["share"] == 1.0
    assert found["prevalence"]["share"] == pytest.approx(2 / 3)
    assert found["acceleration"] == pytest.approx(0.75)
    assert found["always_stable"]["f1"] == pytest.approx(0.8)
    assert found["always_stable"]["precision"] == pytest.approx(2 / 3)


def test_zero_is_not_stable() -> None:
    found = judge_stability([0.0, -1e-9], [-1e-9, 0.0])
    assert (found["true_positives"], found["false_positives"], found["false_negatives"]) == (0, 1, 1)


def test_without_a_stable_compound_there_is_no_score() -> None:
    found = judge_stability([0.1, 0.2], [0.3, 0.4])
    assert found["f1"] is None
    assert found["acceleration"] is None
    assert found["precision"]["share"] is None
    assert found["accuracy"]["share"] == 1.0
    assert found["over_groups"]["f1"] is None


@given(st.lists(st.tuples(st.sampled_from([-0.3, -0.1, 0.1, 0.2]), st.sampled_from([-0.2, 0.05])), min_size=1))
def test_scores_agree_with_scikit_learn(pairs: list[tuple[float, float]]) -> None:
    predicted, true = np.array(pairs).T
    found = judge_stability(predicted, true)
    said, stable = predicted < 0, true < 0
    counts = ("true_positives", "false_positives", "false_negatives", "true_negatives")
    assert sum(found[name] for name in counts) == len(true)
    assert found["accuracy"]["share"] == pytest.approx(accuracy_score(stable, said))
    for value, score in (
        (found["f1"], f1_score),
        (found["precision"]["share"], precision_score),
        (found["recall"]["share"], recall_score),
    ):
        assert (0.0 if value is None else value) == pytest.approx(score(stable, said, zero_division=0))
    prevalence = found["prevalence"]["share"]
    if prevalence:
        assert found["always_stable"]["f1"] == pytest.approx(2 * prevalence / (1 + prevalence))
    else:
        assert found["always_stable"]["f1"] == 0.0


def some_rows(n_groups: int = 30, each: int = 20) -> tuple[Any, Any, Any]:
    rng = np.random.default_rng(3)
    true = rng.normal(0.0, 0.1, n_groups * each)
    shift = np.repeat(rng.normal(0.0, 0.2, n_groups), each)  # a whole group errs together
    return true + shift, true, np.repeat(np.arange(n_groups), each)


def test_intervals_hold_the_value_and_groups_widen_them() -> None:
    predicted, true, groups = some_rows()
    alone, together = judge_stability(predicted, true), judge_stability(predicted, true, groups)
    assert (alone["over_groups"]["groups"], together["over_groups"]["groups"]) == (600, 30)
    for found in (alone, together):
        low, high = found["over_groups"]["f1"]
        assert low < found["f1"] < high
        low, high = found["over_groups"]["precision"]
        assert low < found["precision"]["share"] < high
        low, high = found["over_groups"]["recall"]
        assert low < found["recall"]["share"] < high
        low, high = found["over_groups"]["mae"]
        assert low < found["mae"] < high
    assert np.ptp(together["over_groups"]["mae"]) > 2.0 * np.ptp(alone["over_groups"]["mae"])
    low, high = alone["over_groups"]["precision"]  # rows alone: about Wilson's
    wilson = alone["precision"]
    assert high - low == pytest.approx(wilson["high"] - wilson["low"], rel=0.15)


def test_groups_that_are_alike_leave_nothing_to_chance() -> None:
    found = judge_stability(np.tile(JUDGED, 4), np.tile(TRUTH, 4), np.repeat(np.array(list("abcd")), 3))["over_groups"]
    assert found["groups"] == 4
    assert found["f1"] == [0.5, 0.5]
    assert found["mae"] == pytest.approx([0.7 / 3, 0.7 / 3])
    one = judge_stability(JUDGED, TRUTH, ["Cl-Na"] * 3)["over_groups"]
    assert one == {"groups": 1, "f1": None, "precision": None, "recall": None, "mae": None}


@pytest.mark.parametrize("grouped", [True, False])
def test_the_order_of_the_rows_does_not_matter(grouped: bool) -> None:
    predicted, true, groups = some_rows()
    order = np.random.default_rng(5).permutation(len(true))
    first = judge_stability(predicted, true, groups if grouped else None, seed=2)
    second = judge_stability(predicted[order], true[order], groups[order] if grouped else None, seed=2)
    assert first.pop("mae") == pytest.approx(second.pop("mae"), rel=1e-12)
    assert first == second


def test_bad_input_is_one_clear_error() -> None:
    with pytest.raises(InputError, match=r"3 predicted .* 2 true"):
        judge_stability([0.1, 0.2, 0.3], [0.1, 0.2])
    with pytest.raises(InputError, match="at least one"):
        judge_stability([], [])
    with pytest.raises(InputError, match=r"true .* NaN"):
        judge_stability([0.1], [np.nan])
    with pytest.raises(InputError, match="one group per compound"):
        judge_stability([0.1, 0.2], [0.1, 0.2], ["a"])
    with pytest.raises(InputError, match="not finite"):
        all_predicted_decomposition(dense(FORMULAS), np.array([0.1, np.nan, 0.1]))
    with pytest.raises(InputError, match="NaN or infinite"):
        decomposition_against(dense(["NaCl"]), np.array([np.inf]), dense(FORMULAS), ENERGIES)
    with pytest.raises(InputError, match="as many energies"):
        decomposition_against(dense(FORMULAS), np.zeros(2), dense(FORMULAS), ENERGIES)
