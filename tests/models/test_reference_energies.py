"""Element references: a fit small enough to do by hand, and the lowest of several prototypes."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pandas as pd
import pytest
from pymatgen.core import Composition

from models.prototypes import load_prototypes
from models.reference_energies import (
    EV_PER_KJ_MOL,
    EXPERIMENT,
    FITTED,
    binary_structures,
    elemental_energies,
    fit_references,
)

_spec = importlib.util.spec_from_file_location("toy_potential", Path(__file__).with_name("toy_potential.py"))
assert _spec is not None
assert _spec.loader is not None
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


def _elements() -> pd.DataFrame:
    rows = [("Li", "A2", -1.9), ("Li", "A1", -1.8), ("Mg", "A3", -1.5), ("O", "x", -4.0)]
    return pd.DataFrame(rows, columns=["element", "prototype", "energy_per_atom"])


def test_fit_by_hand() -> None:
    # MgO: -6.0 per atom, measured -3.0: O = 2*(-6+3) + 1.5 = -4.5.  Li2O: -5.0, measured -2.0: O = 3*(-3) + 3.8 = -5.2.
    # A third oxide with a poor potential asks for -9.5; the median is -5.2.
    rows = [("MgO", -6.0, -3.0, True), ("Li2O", -5.0, -2.0, True), ("MgO2", -7.5, -0.666666666667, True)]
    binaries = pd.DataFrame(rows, columns=["formula", "energy_per_atom", "enthalpy_per_atom", "converged"])
    references = fit_references(_elements(), binaries, fitted=("O",))
    assert references.energies["Li"] == -1.9
    assert references.origins == {"Li": "A2", "Mg": "A3", "O": "experiment"}
    assert references.energies["O"] == pytest.approx(-5.2)
    assert references.residuals["Li2O"] == pytest.approx(0.0)
    assert references.residuals["MgO"] == pytest.approx(0.35)
    assert references.formation_energy("Li2O", -5.0) == pytest.approx(-2.0)


def test_unconverged_binaries_do_not_count() -> None:
    rows = [("MgO", -6.0, -3.0, True), ("Li2O", -50.0, -2.0, False)]
    binaries = pd.DataFrame(rows, columns=["formula", "energy_per_atom", "enthalpy_per_atom", "converged"])
    assert fit_references(_elements(), binaries, fitted=("O",)).energies["O"] == pytest.approx(-4.5)


def test_experimental_table_is_sound() -> None:
    library = load_prototypes()
    formulas = [entry[0] for entry in EXPERIMENT]
    assert len(formulas) == len(set(formulas))
    for formula, key, slots, enthalpy in EXPERIMENT:
        prototype = library[key]
        made = prototype.decorate(tuple(slots.split())).composition.reduced_composition
        assert made == Composition(formula).reduced_composition, formula
        assert -7.0 < enthalpy * EV_PER_KJ_MOL / Composition(formula).num_atoms < -0.2
    for element in FITTED:
        assert sum(element in Composition(formula) for formula in formulas) >= 5


def test_binaries_start_near_touching_ions() -> None:
    for structure in binary_structures():
        assert 5 < structure.volume / len(structure) < 80


def test_toy_element_prefers_close_packing() -> None:
    table = elemental_energies(["Cu"], toy.evaluate, n_relaxed=3)
    assert list(table["energy_per_atom"]) == sorted(table["energy_per_atom"])
    assert table["volume_per_atom"].iloc[0] == pytest.approx(9.55, abs=0.3)
