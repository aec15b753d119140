"""Drift between two snapshots: what counts, by how much, and terbium in the real file."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from models.drift import DriftLimits, drift

SNAPSHOT = pd.DataFrame(
    {
        "formula": ["NaCl", "Li2O", "MgO", "KF"],
        "formation_energy_per_atom": [-2.0, -2.1, -3.0, -2.9],
        "band_gap": [5.0, 5.2, None, 7.0],
    }
)


def one(table: pd.DataFrame, measure: str, subject: str) -> pd.Series:
    rows = table[(table["measure"] == measure) & (table["subject"] == subject)]
    assert len(rows) == 1
    return rows.iloc[0]


def test_an_unchanged_snapshot_has_no_findings() -> None:
    table = drift(SNAPSHOT, SNAPSHOT)
    assert not table["exceeded"].any()
    assert one(table, "rows", "all")[["previous", "current", "change"]].tolist() == [4.0, 4.0, 0.0]
    assert one(table, "shared_energy", "formation_energy_per_atom")["change"] == 0.0


def test_lost_rows_and_vanished_elements() -> None:
    table = drift(SNAPSHOT.iloc[:3], SNAPSHOT)
    rows = one(table, "rows", "all")
    assert rows["change"] == -0.25
    assert rows["exceeded"]
    gone = table[table["measure"] == "vanished"]
    assert sorted(gone["subject"]) == ["F", "K"]
    assert gone["exceeded"].all()


def test_a_new_element_is_told_and_not_held_against_the_source() -> None:
    more = pd.concat([SNAPSHOT, pd.DataFrame({"formula": ["ZnO"], "formation_energy_per_atom": [-1.8]})])
    table = drift(more, SNAPSHOT, DriftLimits(rows=0.5, filled=0.5))
    assert not one(table, "appeared", "Zn")["exceeded"]
    assert not table["exceeded"].any()


def test_extremes_gaps_and_shared_energies() -> None:
    now = SNAPSHOT.assign(formation_energy_per_atom=[-2.05, -2.15, -3.05, -5.0], band_gap=[5.0, None, None, None])
    table = drift(now, SNAPSHOT)
    lowest = one(table, "minimum", "formation_energy_per_atom")
    assert (lowest["previous"], lowest["current"], lowest["change"]) == (-3.0, -5.0, -2.0)
    assert lowest["exceeded"]
    assert not one(table, "maximum", "formation_energy_per_atom")["exceeded"]
    filled = one(table, "filled", "band_gap")
    assert filled["change"] == -0.5
    assert filled["exceeded"]
    shared = one(table, "shared_energy", "formation_energy_per_atom")
    assert shared["change"] == pytest.approx(0.05)
    assert shared["exceeded"]


def test_a_column_that_is_gone_is_a_finding() -> None:
    filled = one(drift(SNAPSHOT.drop(columns="band_gap"), SNAPSHOT), "filled", "band_gap")
    assert (filled["previous"], filled["current"]) == (0.75, 0.0)
    assert filled["exceeded"]


def lanthanide_salts(shift: float) -> pd.DataFrame:
    """Compounds of Gd, Tb and Dy that differ in the lanthanide only; those of Tb moved by a constant per atom of it."""
    rows = []
    for anion, n in [(a, n) for a in ("O", "S", "Se", "Te", "F", "Cl", "Br", "I", "N", "P", "As", "C") for n in (1, 2)]:
        for lanthanide, own in (("Gd", 0.0), ("Tb", 0.01), ("Dy", 0.02)):
            energy = -1.0 - 0.1 * n + (own + (shift if lanthanide == "Tb" else 0.0)) / (1 + n)
            rows.append((f"{lanthanide}{anion}{n}", energy))
    return pd.DataFrame(rows, columns=["formula", "formation_energy_per_atom"])


def test_a_reference_that_moved_shows_against_the_neighbours() -> None:
    table = drift(lanthanide_salts(0.66), lanthanide_salts(0.0), DriftLimits(shared_energy=1.0))
    found = table[table["exceeded"]]
    # the neighbours are compared with terbium too, each with one of two neighbours moved
    assert one(found, "reference", "Tb")["change"] == pytest.approx(0.66, abs=1e-6)
    assert one(table, "reference", "Gd")["change"] == pytest.approx(-0.66, abs=1e-6)
    assert set(found["measure"]) == {"reference"}


def test_without_an_earlier_snapshot_a_wrong_reference_is_found() -> None:
    table = drift(lanthanide_salts(0.66), None)
    assert one(table, "reference", "Tb")["change"] == pytest.approx(0.66, abs=0.02)
    assert set(table["measure"]) == {"reference"}
    assert drift(lanthanide_salts(0.0), None).empty


@pytest.mark.reference_data
def test_terbium_in_the_real_file(reference_data: Path) -> None:
    table = drift(pd.read_parquet(reference_data / "oqmd_formation_energy.parquet"), None)
    assert table["subject"].tolist() == ["Tb"]
    assert table["exceeded"].tolist() == [True]
    assert table["change"].tolist() == [pytest.approx(0.658, abs=0.002)]
