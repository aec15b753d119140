"""Electrochemical windows: by hand, and against pymatgen's element profiles."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from models.electrochemical_window import electrochemical_window
from models.errors import InputError
from models.hull import PhaseHull

ELEMENTS = ("Li", "P", "S")


def fractions(*formulas: str) -> np.ndarray:
    return np.array([[Composition(f).get_atomic_fraction(e) for e in ELEMENTS] for f in formulas])


def hull_of(phases: dict[str, float]) -> PhaseHull:
    return PhaseHull(fractions(*phases), np.array(list(phases.values())))


def test_one_compound() -> None:
    """Li2S at -1.5 eV/atom: 4.5 eV over two lithium atoms are 2.25 V; it cannot take up any more."""
    said = electrochemical_window(hull_of({"Li2S": -1.5}), fractions("Li2S"), 0, 1.0)
    assert said.reduction_potential[0] == pytest.approx(0.0, abs=1e-9)
    assert said.oxidation_potential[0] == pytest.approx(2.25, abs=1e-8)
    assert said.reaction_energy[0] == pytest.approx(0.0, abs=1e-9)


def test_two_steps() -> None:
    """LiS at -1.1 (-2.2 per formula) is reduced to Li2S at 4.5 - 2.2 = 2.3 V, which is above 2.2 V: it decomposes.

    At -1.3 it lies on the hull: reduction at 4.5 - 2.6 = 1.9 V, oxidation at 2.6 V, and 1.9 eV over two atoms with
    lithium metal.
    """
    said = electrochemical_window(hull_of({"Li2S": -1.5, "LiS": -1.3}), fractions("LiS", "Li2S"), 0, 1.0)
    np.testing.assert_allclose(said.reduction_potential, [1.9, 0.0], atol=1e-8)
    np.testing.assert_allclose(said.oxidation_potential, [2.6, 1.9], atol=1e-8)
    np.testing.assert_allclose(said.reaction_energy, [-0.95, 0.0], atol=1e-8)
    decomposed = electrochemical_window(hull_of({"Li2S": -1.5}), fractions("LiS"), 0, 1.0, 0.025)
    assert decomposed.reduction_potential[0] == decomposed.oxidation_potential[0] == pytest.approx(2.25, abs=1e-8)
    assert decomposed.reaction_energy[0] == pytest.approx(-(4.5 - 2.2) / 2, abs=1e-8)


def test_charge_of_the_ion_counts() -> None:
    one = electrochemical_window(hull_of({"Li2S": -1.5}), fractions("Li2S"), 0, 1.0)
    two = electrochemical_window(hull_of({"Li2S": -1.5}), fractions("Li2S"), 0, 2.0)
    np.testing.assert_allclose(two.oxidation_potential, one.oxidation_potential / 2)


def test_no_window_without_the_metal_or_without_anything_else() -> None:
    said = electrochemical_window(hull_of({"Li2S": -1.5}), fractions("P2S5", "Li", "Li2S"), 0, 1.0)
    assert np.isnan(said.reduction_potential).tolist() == [True, True, False]
    assert np.isnan(said.reaction_energy).tolist() == [True, True, False]


PHASES = ("Li2S", "Li3P", "LiP", "LiP7", "Li3PS4", "Li4P2S6", "Li7PS6", "P2S5", "P4S3", "LiPS3")


@given(st.lists(st.floats(-2.0, -0.2), min_size=len(PHASES), max_size=len(PHASES)))
@settings(max_examples=40)
def test_windows_are_those_of_pymatgens_profiles(energies: list[float]) -> None:
    entries = [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in zip(PHASES, energies, strict=True)]
    diagram = PhaseDiagram([*entries, *(PDEntry(Composition(e), 0.0) for e in ELEMENTS)])
    stable = [entry.composition.reduced_formula for entry in diagram.stable_entries]
    wanted = [formula for formula in PHASES if formula in stable and "Li" in Composition(formula)]
    if not wanted:
        return
    said = electrochemical_window(hull_of(dict(zip(PHASES, energies, strict=True))), fractions(*wanted), 0, 1.0)
    for row, formula in enumerate(wanted):
        profile = diagram.get_element_profile(Element("Li"), Composition(formula))
        steps = [(-step["chempot"], step["evolution"]) for step in profile]
        own = next(i for i, (_, taken) in enumerate(steps) if abs(taken) < 1e-6)
        assert said.reduction_potential[row] == pytest.approx(steps[own][0], abs=1e-5)
        assert said.oxidation_potential[row] == pytest.approx(steps[own + 1][0], abs=1e-5)
        assert said.reaction_energy[row] <= 1e-9
        # it reacts with the metal exactly where it is reduced above its potential
        assert (said.reaction_energy[row] < -1e-7) == (said.reduction_potential[row] > 1e-6)


def test_input_of_no_use() -> None:
    with pytest.raises(InputError, match="no column 3"):
        electrochemical_window(hull_of({"Li2S": -1.5}), fractions("Li2S"), 3, 1.0)
    with pytest.raises(InputError, match="charge"):
        electrochemical_window(hull_of({"Li2S": -1.5}), fractions("Li2S"), 0, 0.0)
