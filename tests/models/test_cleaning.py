"""The cleaning rules, their counts and their reasons."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from models.cleaning import outlier_range, phases_table, system_draw, training_table
from models.elemental_references import audit_references
from models.errors import InputError
from models.formula import parse_many
from models.hull import PhaseHull

FILE = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILE = FILE / "oqmd_formation_energy.parquet"


def raw(rows: list[tuple[object, object]], **columns: list[object]) -> pd.DataFrame:
    return pd.DataFrame({"formula": [r[0] for r in rows], "formation_energy_per_atom": [r[1] for r in rows], **columns})


MIXED = raw(
    [
        ("NaCl", -2.0),
        ("Xx2", -1.0),
        ("HeO", -1.0),
        (None, -1.0),
        ("MgO", np.nan),
        ("CaO", np.inf),
        ("SrO", "n/a"),
        ("BaO", 6.5),
        ("LiF", -6.0),
        ("Na2Cl2", -2.1),
        ("O2", 0.0),
        ("NaCl", -2.1),
    ],
    material_id=["a", None, "c", "d", "e", "f", "g", "h", "i", "j", "k", "l"],
    release=["r1"] * 12,
)


def test_phases() -> None:
    kept, rejected, counts = phases_table(MIXED)
    assert kept["formula"].tolist() == ["LiF", "NaCl", "O2"]
    assert kept["formation_energy_per_atom"].tolist() == [-6.0, -2.1, 0.0]
    assert kept["n_rows"].tolist() == [1, 3, 1]
    assert kept["material_id"].tolist() == ["i", "j", "k"]  # the first of the rows that tie
    assert kept["release"].tolist() == ["r1"] * 3
    assert kept["reference_correction"].tolist() == [0.0] * 3
    assert counts == {
        "rows_in": 12, "rejected_formula": 2, "rejected_element": 1, "rejected_energy": 3, "rejected_range": 1,
        "merged": 2, "kept": 3,
    }  # fmt: skip
    assert rejected["row"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert rejected["material_id"].tolist() == [None, "c", "d", "e", "f", "g", "h"]
    assert rejected["formula"].tolist()[2] is None
    for reason, part in zip(
        rejected["reason"], ["no element", "outside the 86", "no formula", "finite", "finite", "finite", "physical"],
        strict=True,
    ):  # fmt: skip
        assert part in reason
    records = [json.loads(r) for r in rejected["record"]]
    assert records[0]["formula"] == "Xx2"
    assert records[0]["material_id"] is None
    assert records[3]["formation_energy_per_atom"] is None
    assert records[4]["formation_energy_per_atom"] == "inf"
    assert records[5]["formation_energy_per_atom"] == "n/a"


def test_every_row_is_accounted_for() -> None:
    _, rejected, counts = training_table(MIXED, calibration_fraction=0.0, validation_fraction=0.0)
    assert counts["rows_in"] == counts["kept"] + counts["merged"] + len(rejected)
    assert counts["dropped_single_element"] == 1


def test_corrections_come_before_the_choice_of_the_lowest() -> None:
    table = raw([("TbN", -1.0), ("TbN", -0.9), ("Tb", 0.6)], release=["new", "old", "new"])
    references = pd.DataFrame({"element": ["Tb"], "reference_correction": [0.6], "release": ["new"]})
    kept, _, _ = phases_table(table, references=references)
    nitride = kept.set_index("formula").loc["TbN"]
    assert nitride["formation_energy_per_atom"] == pytest.approx(-1.3)
    assert nitride["formation_energy_raw"] == pytest.approx(-1.0)
    assert nitride["reference_correction"] == pytest.approx(0.3)
    assert kept.set_index("formula").loc["Tb", "formation_energy_per_atom"] == pytest.approx(0.0)


def many(n: int = 400) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    metals = ["Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Zn", "Cd"]
    rows = [
        (f"{metals[i % 11]}{1 + i // 77}{'OSFNPI'[i // 11 % 6]}{1 + i % 7}", e)
        for i, e in enumerate(rng.normal(-1, 0.2, n))
    ]
    return raw(rows)  # type: ignore[arg-type]


def test_outliers_are_those_of_the_training_rows() -> None:
    table = pd.concat([many(), raw([("XeF2", 3.0), ("ThF4", -4.0), ("Xe", 0.0)])], ignore_index=True)
    table["split"] = "train"
    table.loc[table["formula"] == "ThF4", "split"] = "validation"
    kept, rejected, counts = training_table(table, calibration_fraction=0.0)
    assert not {"XeF2", "ThF4", "Xe"} & set(kept["formula"])
    outliers = rejected[rejected["reason"].str.startswith("outlier")]
    assert outliers["formula"].tolist() == ["XeF2", "ThF4"]
    assert "5 sigma of the training rows" in outliers["reason"].iloc[0]
    assert counts["dropped_outlier"] == 2
    assert counts["dropped_single_element"] == 1
    assert counts["elements_dropped"] == 2  # Xe and Th; F stays
    lowest, _, _ = phases_table(table)
    train = lowest[~lowest["formula"].isin(["ThF4", "Xe"])]["formation_energy_per_atom"].to_numpy()
    low, high = outlier_range(train)
    assert (low, high) == pytest.approx((train.mean() - 5 * train.std(), train.mean() + 5 * train.std()))
    assert f"{low:.3f} to {high:.3f}" in outliers["reason"].iloc[0]


def test_split_goes_by_whole_systems() -> None:
    kept, _, counts = training_table(many(), calibration_fraction=0.2, validation_fraction=0.3, seed=4)
    assert kept.groupby("chemsys")["split"].nunique().max() == 1
    assert set(kept["split"]) == {"train", "calibration", "validation"}
    assert counts["train"] + counts["calibration"] + counts["validation"] == counts["kept"] == len(kept)
    again, _, _ = training_table(
        many().sample(frac=1.0, random_state=1), calibration_fraction=0.2, validation_fraction=0.3, seed=4
    )
    assert dict(zip(again["formula"], again["split"], strict=True)) == dict(
        zip(kept["formula"], kept["split"], strict=True)
    )
    other, _, _ = training_table(many(), calibration_fraction=0.2, validation_fraction=0.3, seed=5)
    assert (other["split"].to_numpy() != kept["split"].to_numpy()).any()
    draws = [system_draw(f"A-{i}", 0, "x") for i in range(2000)]
    assert abs(np.mean(np.array(draws) < 0.2) - 0.2) < 0.04


def test_given_split_is_kept() -> None:
    table = many()
    table["split"] = ["validation" if i % 4 == 0 else None if i % 4 == 1 else "train" for i in range(len(table))]
    table = pd.concat([table, table[table["split"] == "validation"].assign(split="train")], ignore_index=True)
    kept, _, _ = training_table(table, calibration_fraction=0.5)
    given = table[table["split"] == "validation"]["formula"]
    expected = set(parse_many(given).reduced)
    assert set(kept[kept["split"] == "validation"]["formula"]) == expected  # never learnt, on whichever side twice
    rest = kept[kept["split"] != "validation"]
    assert rest.groupby("chemsys")["split"].nunique().max() == 1
    assert set(rest["split"]) == {"train", "calibration"}


@pytest.mark.parametrize("table", [phases_table, training_table])
def test_refuses_tables_without_content(table: object) -> None:
    with pytest.raises(InputError, match="empty"):
        table(raw([]))  # type: ignore[operator]
    with pytest.raises(InputError, match="formula is missing"):
        table(pd.DataFrame({"formation_energy_per_atom": [1.0]}))  # type: ignore[operator]
    with pytest.raises(InputError, match="formation_energy_per_atom is missing"):
        table(pd.DataFrame({"formula": ["NaCl"]}))  # type: ignore[operator]
    with pytest.raises(InputError, match="parsed"):
        table(raw([("NaCl", -1.0)]), parsed=parse_many(["NaCl", "MgO"]))  # type: ignore[operator]


def test_refuses_bad_settings() -> None:
    with pytest.raises(InputError, match="split 'test'"):
        training_table(many().assign(split="test"))
    with pytest.raises(InputError, match="no training row"):
        training_table(many().assign(split="validation"))
    with pytest.raises(InputError, match="calibration_fraction"):
        training_table(many(), calibration_fraction=1.0)
    with pytest.raises(InputError, match="sigmas"):
        training_table(many(), sigmas=0.0)


@pytest.mark.reference_data
@pytest.mark.skipif(not FILE.exists(), reason=f"needs {FILE.name}; set ELEMSCREEN_REFERENCE_DATA to its folder")
def test_the_most_stable_fluorides_and_thoria_stay_on_the_hull() -> None:
    table = pd.read_parquet(FILE)
    parsed = parse_many(table["formula"])
    phases, rejected, counts = phases_table(table, references=audit_references(table, parsed=parsed), parsed=parsed)
    training, dropped, training_counts = training_table(table, parsed=parsed)
    five = ["CaF2", "LaF3", "HoF3", "ThF4", "ThO2"]
    assert not set(five) & set(training["formula"])
    assert set(five) <= set(dropped["formula"])
    energies = phases.set_index("formula")["formation_energy_per_atom"]
    hull = PhaseHull(parse_many(phases["formula"]).fractions, phases["formation_energy_per_atom"].to_numpy())
    assert (hull.decomposition_energy(parse_many(five).fractions, energies[five].to_numpy()) < -1.0).all()
    assert counts == {
        "rows_in": 191736, "rejected_formula": 0, "rejected_element": 2, "rejected_energy": 0, "rejected_range": 36,
        "merged": 0, "kept": 191698,
    }  # fmt: skip
    assert len(rejected) == 38
    assert training_counts["dropped_single_element"] == 85
    assert training_counts["dropped_outlier"] == 43
    assert training_counts["elements_dropped"] == 0
    assert training_counts["kept"] == 191570
    assert training_counts["rows_in"] == training_counts["kept"] + training_counts["merged"] + len(dropped)
    validation = training[training["split"] == "validation"]
    assert set(validation["formula"]) <= set(table[table["split"] == "validation"]["formula"])
