"""Selections follow the energies of the static scan and the hull."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from models.reference_energies import References
from models.selection import (
    RelaxationChoice,
    energies_above_hull,
    formation_energies,
    is_insulator_like,
    select_for_relaxation,
    select_for_tensors,
)

_REFERENCES = References({"Li": -2.0, "O": -5.0, "Mg": -1.0, "Al": -4.0}, {}, {})


def test_formation_energies_by_hand() -> None:
    table = pd.DataFrame({"formula": ["Li2O", "MgO"], "energy_per_atom": [-5.0, -6.0]})
    np.testing.assert_allclose(formation_energies(table, _REFERENCES), [-2.0, -3.0])


def test_hull_by_hand() -> None:
    # A-B line: AB at -1; A3B at -0.3 lies 0.2 above the line to AB; a polymorph of AB stands 0.4 above.
    table = pd.DataFrame(
        {
            "formula": ["MgAl", "MgAl", "Mg3Al", "LiMgAl"],
            "chemsys": ["Al-Mg", "Al-Mg", "Al-Mg", "Al-Li-Mg"],
            "formation_energy_per_atom": [-1.0, -0.6, -0.3, -0.5],
        }
    )
    np.testing.assert_allclose(energies_above_hull(table), [0.0, 0.4, 0.2, 1 / 6], atol=1e-9)


def _candidates() -> pd.DataFrame:
    formulas = ["MgO", "Al2O3", "AlMg", "Li2O", "Li2O", "Li2O"]
    return pd.DataFrame(
        {
            "candidate_id": range(6),
            "prototype": ["p", "p", "p", "p", "q", "r"],
            "formula": formulas,
            "chemsys": ["Mg-O", "Al-O", "Al-Mg", "Li-O", "Li-O", "Li-O"],
            "lithium": [False, False, False, True, True, True],
        }
    )


def _static() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "candidate_id": range(6),
            "energy_per_atom": [-6.0, np.nan, -1.0, -4.5, -5.0, -4.0],
            "volume_per_atom": 10.0,
            "pressure": [0.0, 0.0, 0.0, 5.0, 0.0, 0.0],
        }
    )


def test_lowest_third_and_lithium() -> None:
    chosen = select_for_relaxation(_candidates(), _static(), _REFERENCES)
    # Prototype p holds MgO (on the hull), Li2O (0.5 above) and AlMg (1.5 above); Al2O3 has no energy. A third of p is
    # MgO; of q and r their only rows, of which r is the third polymorph of Li2O. Lithium brings the two lowest.
    assert set(chosen["candidate_id"]) == {0, 3, 4, 5}
    assert chosen.set_index("candidate_id").loc[3, "static_above_hull"] == pytest.approx(0.5)
    fewer = select_for_relaxation(_candidates(), _static(), _REFERENCES, RelaxationChoice(polymorphs=1))
    assert set(fewer["candidate_id"]) == {0, 3, 4}


def test_limit_and_pressure() -> None:
    choice = RelaxationChoice(limit=2, largest_pressure=4.0)
    chosen = select_for_relaxation(_candidates(), _static(), _REFERENCES, choice)
    assert len(chosen) == 2
    assert 3 not in set(chosen["candidate_id"])


def test_tensor_selection_takes_benchmarks_then_lithium_insulators() -> None:
    table = pd.DataFrame(
        {
            "candidate_id": range(7),
            "formula": ["LiF", "LiF", "RbMgCl3", "MgAl", "Li2O", "LiRbS", "PuO"],
            "prototype": "p",
            "nsites": [2, 2, 5, 2, 30, 3, 2],
            "energy_above_hull": [0.0, 0.1, 0.0, 0.0, 0.0, 0.0, 0.0],
        }
    )
    chosen = select_for_tensors(table, lithium=1, insulators=1, others=1)
    assert list(chosen["formula"]) == ["LiF", "LiRbS", "RbMgCl3", "MgAl"]
    assert list(chosen["candidate_id"]) == [0, 5, 2, 3]


def test_insulator_guess() -> None:
    assert is_insulator_like("Li3PS4")
    assert not is_insulator_like("LiAl")
