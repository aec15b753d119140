"""Clean and audit: two tables from the raw rows, with counts that add up."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.clean import clean_phases, clean_training
from tasks.ingest import ingest
from tasks.parameters import CleanParameters, SourceParameters
from tasks.references import audit_references
from tasks.stage import reference


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def take(store: ArtifactStore, frame: pd.DataFrame, path: Path, **options: Any) -> ArtifactRef:
    frame.to_parquet(path)
    return reference(ingest.fn(store.root, SourceParameters(source=f"file:{path}", **options)))


def test_rules_and_counts(store: ArtifactStore, tmp_path: Path, tiny: Any) -> None:
    extra = pd.DataFrame(
        {
            "material_id": ["polymorph", "lower", "far", "element", "silent"],
            "formula": ["LiF", "Li2F2", "CaS4", "Al", "AlF4"],
            "formation_energy_per_atom": [5.0, -5.5, -7.0, 0.0, None],
        }
    )
    compounds = take(store, pd.concat([tiny.energies, extra]), tmp_path / "t.parquet")
    parameters = CleanParameters()
    references = reference(audit_references.fn(store.root, compounds, parameters))
    phases = reference(clean_phases.fn(store.root, compounds, references, parameters))
    training = reference(clean_training.fn(store.root, compounds, references, parameters))

    counts = store.manifest(phases).counts
    assert counts["rows_in"] == 265
    assert counts["merged"] == 2
    assert (counts["rejected_range"], counts["rejected_energy"]) == (1, 1)
    assert counts["kept"] == 261 == store.read_table(phases).num_rows
    assert counts["rows_in"] == counts["kept"] + counts["merged"] + sum(
        n for name, n in counts.items() if name.startswith("rejected_")
    )
    table = store.read_table(phases).to_pandas().set_index("formula")
    assert table.loc["LiF", "formation_energy_per_atom"] == -5.5
    assert table.loc["LiF", "material_id"] == "lower"
    assert table.loc["LiF", "n_rows"] == 3
    assert "Al" in table.index
    rejected = store.read_table(phases, "rejected/rejected").to_pandas().set_index("material_id")
    assert "outside the physical range" in rejected.loc["far", "reason"]
    assert rejected.loc["silent", "reason"] == "no finite formation energy"

    counts = store.manifest(training).counts
    assert counts["dropped_single_element"] == 1
    assert counts["kept"] == counts["train"] + counts["calibration"] + counts["validation"]
    assert counts["rows_in"] == counts["kept"] + counts["merged"] + sum(
        n for name, n in counts.items() if name.startswith(("rejected_", "dropped_"))
    )
    assert "Al" not in set(store.read_table(training).column("formula").to_pylist())


def test_the_split_keeps_chemical_systems_whole(stages: Any) -> None:
    rows = stages.store.read_table(stages.training).to_pandas()
    assert set(rows["split"]) == {"train", "calibration", "validation"}
    assert (rows.groupby("chemsys")["split"].nunique() == 1).all()


def test_an_outlier_leaves_the_training_rows_and_stays_on_the_hull(stages: Any) -> None:
    narrow = CleanParameters(n_sigma=1.0)
    training = stages.run(clean_training, stages.energies, stages.references, narrow)
    dropped = stages.counts(training)["dropped_outlier"]
    assert dropped > 0
    gone = set(stages.store.read_table(training, "rejected/rejected").column("formula").to_pylist())
    assert len(gone) == dropped
    assert gone <= set(stages.store.read_table(stages.phases).column("formula").to_pylist())


def test_parameters_are_part_of_the_key(stages: Any) -> None:
    assert stages.run(clean_training, stages.energies, stages.references, CleanParameters(seed=1)).key != (
        stages.training.key
    )
    assert stages.run(clean_phases, stages.energies, stages.references, CleanParameters(seed=1)).key == (
        stages.phases.key
    )


def test_a_shifted_reference_is_found_and_taken_off_the_phases_only(
    store: ArtifactStore, tmp_path: Path, tiny: Any
) -> None:
    """Sodium and lithium compounds that are alike, all of sodium's too high by 0.8 eV per sodium atom."""
    rows = []
    for x, anion in enumerate(["O", "S", "Se", "F", "Cl", "Br", "I", "N", "P", "As", "Sb", "Te"]):
        for n in (1, 2, 3, 4):
            energy = -1.5 - 0.05 * x + 0.02 * n
            rows += [(f"Li{n}{anion}", energy), (f"Na{n}{anion}", energy + 0.8 * n / (n + 1)), (f"K{n}{anion}", energy)]
    compounds = take(
        store, pd.DataFrame(rows, columns=["formula", "formation_energy_per_atom"]), tmp_path / "t.parquet"
    )
    on, off = CleanParameters(), CleanParameters(audit_references=False)
    references = reference(audit_references.fn(store.root, compounds, on))
    found = store.read_table(references).to_pandas().set_index("element")["reference_correction"]
    assert found["Na"] == pytest.approx(0.8, abs=0.05)
    assert found.drop("Na").abs().max() < 0.05
    assert store.manifest(references).counts["corrected"] == 1

    silent = reference(audit_references.fn(store.root, compounds, off))
    assert silent.key != references.key
    assert store.manifest(silent).counts == {"measured": 0, "corrected": 0}

    table = store.read_table(reference(clean_phases.fn(store.root, compounds, references, on))).to_pandas()
    row = table.set_index("formula").loc["NaF"]
    assert row["formation_energy_raw"] - row["formation_energy_per_atom"] == pytest.approx(0.4, abs=0.03)
    untouched = store.read_table(reference(clean_phases.fn(store.root, compounds, silent, off))).to_pandas()
    np.testing.assert_array_equal(untouched["formation_energy_per_atom"], untouched["formation_energy_raw"])


def test_experiments_are_no_hull_phases(store: ArtifactStore, tmp_path: Path, tiny: Any) -> None:
    compounds = take(store, tiny.energies, tmp_path / "t.parquet", functional="experiment", temperature=298.15)
    with pytest.raises(InputError, match="experimental formation energies are never hull phases"):
        audit_references.fn(store.root, compounds, CleanParameters())


def test_a_table_without_energies_names_the_remedy(store: ArtifactStore, tmp_path: Path, tiny: Any) -> None:
    compounds = take(store, tiny.energies[["formula"]], tmp_path / "t.parquet")
    with pytest.raises(InputError, match="--map COLUMN=formation_energy_per_atom"):
        audit_references.fn(store.root, compounds, CleanParameters())
