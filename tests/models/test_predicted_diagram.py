"""Predicted phase diagrams: hulls, tie lines and counts by hand, and hulls against linear programs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from models.elements import ELEMENT_INDEX
from models.errors import InputError
from models.features import element_fractions
from models.formula import parse_many
from models.predicted_diagram import PredictedDiagram, diagram_summary, parse_system, predicted_diagram
from models.space import CompositionSpace


def saying(energies: dict[str, float], other: float = 0.3) -> Callable[[NDArray[np.float32]], NDArray[np.float64]]:
    """A network that knows a few compositions and gives all others the same energy."""
    known = {element_fractions([formula])[0].tobytes(): energy for formula, energy in energies.items()}
    return lambda x: np.array([known.get(row.tobytes(), other) for row in x])


def lines(diagram: PredictedDiagram, side: str) -> set[frozenset[str]]:
    return {frozenset(diagram.formulas[i] for i in pair) for pair in getattr(diagram, side).tie_lines}


def test_binary_by_hand() -> None:
    phases = parse_many(["Li2O", "Li2O2", "Li2O", "LiO3", "NaCl", "O2"])
    energies = np.array([-2.0, -1.2, -1.9, -0.1, -5.0, 0.4])
    network = saying({"Li2O": -1.8, "LiO": -1.5, "LiO2": -0.2, "Li": 0.2, "O2": -0.5})
    diagram = predicted_diagram(("Li", "O"), network, phases, energies, max_atoms=4)
    # elements, then the compositions of up to four atoms; the one of equal amounts is written as a peroxide
    assert diagram.formulas == ["Li", "O", "Li2O2", "LiO2", "LiO3", "Li2O", "Li3O"]
    assert diagram.in_space.all()
    assert diagram.compounds.tolist() == [False] * 2 + [True] * 5
    assert diagram.shares[:, 1] == pytest.approx([0, 1, 1 / 2, 2 / 3, 3 / 4, 1 / 3, 1 / 4])
    known, said = diagram.reference, diagram.predicted
    assert known.energies == pytest.approx([np.nan, np.nan, -1.2, np.nan, -0.1, -2.0, np.nan], nan_ok=True)
    # Li2O at 1/3 with -2; LiO lies on the line to O at -1.5, and its own -1.2 above it
    assert known.hull == pytest.approx([0, 0, -1.5, -1.0, -0.75, -2.0, -1.5])
    assert known.stable.tolist() == [True, True, False, False, False, True, False]
    assert said.hull == pytest.approx([0, 0, -1.5, -1.0, -0.75, -1.8, -1.35])
    assert said.stable.tolist() == [True, True, True, False, False, True, False]
    assert said.above_hull[3] == pytest.approx(0.8)
    assert lines(diagram, "reference") == {frozenset(("Li", "Li2O")), frozenset(("Li2O", "O"))}
    assert lines(diagram, "predicted") == {frozenset(p) for p in (("Li", "Li2O"), ("Li2O", "Li2O2"), ("Li2O2", "O"))}

    numbers = diagram_summary(diagram)
    assert numbers["stable_both"] == ["Li2O"]
    assert numbers["stable_predicted_only"] == ["Li2O2"]
    assert numbers["stable_reference_only"] == []
    assert (numbers["recall"], numbers["precision"], numbers["distance"]) == (1.0, 0.5, 0.0)
    assert (numbers["n_compositions"], numbers["n_phases"]) == (5, 3)
    # predicted minus known: LiO -0.3, LiO3 0.3 + 0.1, Li2O 0.2
    assert numbers["energy_mae"] == pytest.approx(0.9 / 3)
    assert numbers["energy_bias"] == pytest.approx(0.3 / 3)
    assert numbers["hull_mae"] == numbers["hull_bias"] == pytest.approx((0.2 + 0.15) / 5)
    assert numbers["element_energies"] == pytest.approx({"Li": 0.2, "O": -0.5})


def test_distance_to_the_nearest_predicted_compound() -> None:
    phases = parse_many(["LiO", "Li2O"])
    diagram = predicted_diagram(("Li", "O"), saying({"Li3O": -1.0}), phases, np.array([-2.0, -2.0]), max_atoms=4)
    # Li3O to Li2O: 1/12 of the atoms; to LiO: 1/4
    assert diagram_summary(diagram)["distance"] == pytest.approx((1 / 12 + 1 / 4) / 2)


def test_order_of_the_elements_turns_the_diagram_and_nothing_else() -> None:
    phases, energies = parse_many(["Li2O", "LiO"]), np.array([-2.0, -1.8])
    network = saying({"Li2O": -1.8, "LiO": -1.5})
    one, other = (predicted_diagram(e, network, phases, energies, 5) for e in (("Li", "O"), ("O", "Li")))
    assert other.elements == ("O", "Li")
    assert other.shares[:2].tolist() == [[1.0, 0.0], [0.0, 1.0]]
    place = [one.formulas.index(formula) for formula in other.formulas]
    assert other.shares[:, ::-1] == pytest.approx(one.shares[place])
    assert other.predicted.hull == pytest.approx(one.predicted.hull[place])
    assert lines(one, "predicted") == lines(other, "predicted")


def test_ternary_by_hand() -> None:
    phases = parse_many(["Na2O", "MnO", "MnO2", "NaMnO2", "NaMn"])
    diagram = predicted_diagram(
        ("Na", "Mn", "O"), saying({"Na2O": -1.0}), phases, np.array([-1.4, -2.0, -1.8, -2.0, 0.4]), max_atoms=4
    )
    assert {diagram.formulas[i] for i in np.flatnonzero(diagram.reference.stable)} == {
        "Na", "Mn", "O", "Na2O", "MnO", "MnO2", "NaMnO2",
    }  # fmt: skip
    # MnO + 2 Na -> Na2O + Mn gains 0.2 eV, NaMnO2 + 1/2 Mn -> 3/2 MnO + 1/2 Na2O gains 0.1 eV
    assert lines(diagram, "reference") == {
        frozenset(pair)
        for pair in (
            ("Na", "Mn"), ("Na", "Na2O"), ("Na2O", "O"), ("Mn", "MnO"), ("MnO", "MnO2"), ("MnO2", "O"),
            ("NaMnO2", "Na2O"), ("NaMnO2", "O"), ("NaMnO2", "MnO2"), ("NaMnO2", "MnO"), ("Mn", "Na2O"),
            ("MnO", "Na2O"),
        )
    }  # fmt: skip
    assert lines(diagram, "predicted") == {
        frozenset(pair) for pair in (("Na", "Mn"), ("Na", "Na2O"), ("Na2O", "O"), ("Na2O", "Mn"), ("Mn", "O"))
    }
    numbers = diagram_summary(diagram)
    assert numbers["stable_both"] == ["Na2O"]
    assert sorted(numbers["stable_reference_only"]) == ["MnO", "MnO2", "NaMnO2"]


def test_coplanar_corners_are_not_cut_up() -> None:
    # all three binaries lie on one plane below the elements: a facet with three corners, no line inside
    phases = parse_many(["LiNa", "NaK", "LiK", "LiNaK"])
    diagram = predicted_diagram(("Li", "Na", "K"), saying({}), phases, np.array([-1.0, -1.0, -1.0, -1.0]), 3)
    assert diagram.reference.stable[diagram.formulas.index(phases.reduced[3])]
    inside = [pair for pair in lines(diagram, "reference") if phases.reduced[3] in pair]
    assert inside == []
    assert frozenset((phases.reduced[0], phases.reduced[1])) in lines(diagram, "reference")


def test_no_phases_and_nothing_stable() -> None:
    diagram = predicted_diagram(("Li", "Na", "K"), saying({}), parse_many(["LiF"]), np.array([-3.0]), 4)
    for side in ("reference", "predicted"):
        assert lines(diagram, side) == {frozenset(pair) for pair in (("Li", "Na"), ("Li", "K"), ("Na", "K"))}
        assert not getattr(diagram, side).hull.any()
    numbers = diagram_summary(diagram)
    assert numbers["n_phases"] == 0
    assert [numbers[n] for n in ("recall", "precision", "energy_mae", "energy_bias", "distance")] == [None] * 5
    assert numbers["hull_mae"] == 0.0


def test_known_phases_with_many_atoms_are_predicted_as_well() -> None:
    phases = parse_many(["Ti4O7", "TiO2"])
    network = saying({"Ti4O7": -3.5, "TiO2": -3.2})
    diagram = predicted_diagram(("Ti", "O"), network, phases, np.array([-3.3, -3.3]), max_atoms=5)
    assert diagram.formulas[-1] == "Ti4O7"
    assert diagram.in_space.tolist() == [True] * (len(diagram.formulas) - 1) + [False]
    assert diagram.predicted.stable[-1]
    # the hull's mean difference counts the enumerated compositions alone
    rows = diagram.compounds & diagram.in_space
    shift = (diagram.predicted.hull - diagram.reference.hull)[rows]
    assert diagram_summary(diagram)["hull_bias"] == pytest.approx(shift.mean())


systems = st.sampled_from([("Ti", "O"), ("Na", "Mn", "O"), ("O", "Al", "Li")])


@settings(max_examples=15)
@given(systems, st.integers(0, 10_000))
def test_predicted_hull_against_linear_programs(elements: tuple[str, ...], seed: int) -> None:
    rng = np.random.default_rng(seed)
    space = CompositionSpace(elements, tuple(range(2, len(elements) + 1)), 5)
    energies = dict(zip(space.formulas(space.unrank(np.arange(len(space)))), rng.normal(0, 1, 999), strict=False))
    diagram = predicted_diagram(elements, saying(energies), parse_many([]), np.zeros(0), 5)
    values = np.where(diagram.compounds, diagram.predicted.energies, 0.0)
    for row in rng.choice(len(values), 8, replace=False):
        best = linprog(values, A_eq=diagram.shares.T, b_eq=diagram.shares[row], bounds=(0, None))
        assert diagram.predicted.hull[row] == pytest.approx(best.fun, abs=1e-7)
        assert bool(diagram.predicted.stable[row]) == (values[row] <= best.fun + 1e-7)
    # each stable corner is the end of a line, and a triangulation of a convex region has no loose ones
    ends = {int(i) for pair in diagram.predicted.tie_lines for i in pair}
    assert ends == set(np.flatnonzero(diagram.predicted.stable).tolist())
    if len(elements) == 3:
        corners, edges = len(ends), len(diagram.predicted.tie_lines)
        on_rim = int((np.isclose(diagram.shares, 0.0).any(axis=1) & diagram.predicted.stable).sum())
        assert edges == 3 * corners - 3 - on_rim  # Euler, for triangles alone


@pytest.mark.parametrize(("text", "symbols"), [("Ti-O", ("Ti", "O")), (" Na - Mn-O", ("Na", "Mn", "O"))])
def test_systems_are_read_in_their_order(text: str, symbols: tuple[str, ...]) -> None:
    assert parse_system(text) == symbols
    assert all(symbol in ELEMENT_INDEX for symbol in symbols)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Ti-Xx", "'Xx' in the system"), ("TiO", "'TiO' in the system"), ("", "'' in the system"),
        ("O-O", "two or three different"), ("O", "two or three different"), ("Na-Fe-Mn-O", "two or three different"),
    ],
)  # fmt: skip
def test_bad_systems(text: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        parse_system(text)


def test_bad_phases_and_predictions() -> None:
    good = parse_many(["Li2O"])
    with pytest.raises(InputError, match="readable phases"):
        predicted_diagram(("Li", "O"), saying({}), parse_many(["Li2O", "Qq"]), np.zeros(2))
    with pytest.raises(InputError, match="readable phases"):
        predicted_diagram(("Li", "O"), saying({}), good, np.array([np.nan]))
    with pytest.raises(InputError, match="finite energy for each"):
        predicted_diagram(("Li", "O"), lambda x: np.full(len(x), np.nan), good, np.array([-1.0]))
    with pytest.raises(InputError, match="max_atoms"):
        predicted_diagram(("Li", "O"), saying({}), good, np.array([-1.0]), max_atoms=99)
