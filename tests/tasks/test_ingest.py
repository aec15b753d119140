"""Ingest: files of any shape in, usable rows and rejected rows out, nothing lost on the way."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.errors import StoreError
from storage.store import ArtifactStore
from storage.tables import write_any
from tasks.compounds import Provenance, compounds, raw_frame
from tasks.ingest import ingest
from tasks.parameters import SourceParameters
from tasks.stage import reference

SALTS = pd.DataFrame({"formula": ["NaCl", "Li2O", "MgO"], "formation_energy_per_atom": [-2.1, -2.0, -3.0]})


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def take(store: ArtifactStore, path: Path, **options: Any) -> ArtifactRef:
    return reference(ingest.fn(store.root, SourceParameters(source=f"file:{path}", **options)))


def rejected(store: ArtifactStore, ref: ArtifactRef) -> dict[int, str]:
    rows = store.read_table(ref, "rejected/rejected").to_pylist()
    return {row["row"]: row["reason"] for row in rows}


def write(frame: pd.DataFrame, path: Path) -> Path:
    write_any(pa.Table.from_pandas(frame, preserve_index=False), path)
    return path


def assert_one_line(error: BaseException) -> None:
    assert isinstance(error, InputError | StoreError)
    assert "\n" not in str(error)


@pytest.mark.parametrize("name", ["t.csv", "t.parquet", "t.jsonl", "t.json", "t.csv.gz"])
def test_formats_give_the_same_rows(store: ArtifactStore, tmp_path: Path, name: str) -> None:
    table = store.read_table(take(store, write(SALTS, tmp_path / name)))
    assert table.column("formula").to_pylist() == ["NaCl", "Li2O", "MgO"]
    assert table.column("formation_energy_per_atom").to_pylist() == [-2.1, -2.0, -3.0]
    assert table.column("chemsys").to_pylist() == ["Cl-Na", "Li-O", "Mg-O"]


def test_columns_are_mapped_and_others_left_behind(store: ArtifactStore, tmp_path: Path) -> None:
    frame = pd.DataFrame({"comp": ["Na2Cl2"], "delta_e": [-2.1], "entry": [17], "colour": ["white"]})
    columns = {"comp": "formula", "delta_e": "formation_energy_per_atom", "entry": "source_id"}
    row = store.read_table(take(store, write(frame, tmp_path / "t.csv"), columns=columns)).to_pylist()[0]
    assert row["formula"] == "NaCl"  # reduced
    assert row["formation_energy_per_atom"] == -2.1
    assert row["source_id"] == row["material_id"] == "17"
    assert "colour" not in row


def test_provenance_is_filled_where_rows_do_not_state_it(store: ArtifactStore, tmp_path: Path) -> None:
    frame = SALTS.assign(functional=["r2scan", None, None], source_version=[None, "v9", None])
    options = {"database": "oqmd", "release": "1.6", "functional": "pbe"}
    ref = take(store, write(frame, tmp_path / "t.parquet"), **options)
    rows = store.read_table(ref).to_pandas()
    assert rows["source"].tolist() == ["oqmd"] * 3
    assert rows["source_version"].tolist() == ["1.6", "v9", "1.6"]
    assert rows["functional"].tolist() == ["r2scan", "pbe", "pbe"]
    assert rows["material_id"].tolist() == rows["source_id"].tolist()
    assert rows["material_id"].is_unique
    scheme = store.manifest(ref).energy_scheme
    assert scheme is not None
    assert (scheme.source, scheme.release, scheme.functional) == ("oqmd", "1.6", "pbe")


def test_measured_values_carry_their_temperature(store: ArtifactStore, tmp_path: Path) -> None:
    ref = take(store, write(SALTS, tmp_path / "t.csv"), functional="experiment", temperature=298.15)
    assert store.read_table(ref).column("temperature").to_pylist() == [298.15] * 3


def test_unusable_rows_are_rejected_with_a_reason_and_counted(store: ArtifactStore, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "formula": ["NaCl", "Na)Cl", "HeF2", "Li2O", "MgO", None],
            "formation_energy_per_atom": [-2.0, -1.0, -1.0, np.inf, -3.0, -1.0],
            "material_id": list("abcdef"),
        }
    )
    ref = take(store, write(frame, tmp_path / "t.parquet"))
    reasons = rejected(store, ref)
    assert sorted(reasons) == [1, 2, 3, 5]
    assert "He" in reasons[2]
    assert reasons[3] == "formation_energy_per_atom is not a finite number"
    counts = store.manifest(ref).counts
    assert counts == {"rows_in": 6, "rows_kept": 2, "rows_rejected": 4, "rows_merged": 0, "rejected": 4}
    assert store.read_table(ref).column("material_id").to_pylist() == ["a", "e"]
    record = store.read_table(ref, "rejected/rejected").to_pylist()[1]
    assert (record["material_id"], record["formula"]) == ("c", "HeF2")
    assert json.loads(record["record"])["formation_energy_per_atom"] == -1.0


def test_text_in_a_column_of_numbers_rejects_the_row(store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("formula,band_gap,formation_energy_per_atom\nNaCl,5.0,-2\nLi2O,wide,-2\nMgO,,-3\n")
    ref = take(store, path)
    assert rejected(store, ref) == {1: "band_gap is not a finite number"}
    kept = store.read_table(ref).to_pylist()
    assert [(row["formula"], row["band_gap"]) for row in kept] == [("NaCl", 5.0), ("MgO", None)]


def test_an_unstated_energy_is_no_reason_to_reject(store: ArtifactStore, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text("formula,formation_energy_per_atom\nNaCl,-2\nLi2O,\n")
    ref = take(store, path)
    assert store.read_table(ref).column("formation_energy_per_atom").to_pylist() == [-2.0, None]
    assert store.manifest(ref).counts["rows_rejected"] == 0


def test_structures_and_tensors_are_read_or_rejected(store: ArtifactStore, tmp_path: Path, tiny: Any) -> None:
    good = tiny.structures["structure"].iloc[0]
    tensor = (np.eye(6) * 40).tolist()
    frame = pd.DataFrame(
        {
            "formula": ["LiO", "LiO", "LiO", "LiO"],
            "cif": [good, "data_nonsense", None, good],
            "elastic_tensor": [json.dumps(tensor), None, json.dumps(tensor[:5]), None],
        }
    )
    ref = take(store, write(frame, tmp_path / "t.jsonl"))
    reasons = rejected(store, ref)
    assert sorted(reasons) == [1, 2]
    assert reasons[1].startswith("structure: ")
    assert reasons[2] == "elastic_tensor is not a 6x6 table of finite numbers"
    kept = store.read_table(ref).to_pylist()
    assert kept[0]["elastic_tensor"] == np.ravel(tensor).tolist()
    assert json.loads(kept[0]["structure"])["sites"][0]["species"][0]["element"] == "Li"
    assert kept[1]["elastic_tensor"] is None


def test_the_key_follows_the_content_and_not_the_place(store: ArtifactStore, tmp_path: Path) -> None:
    first = take(store, write(SALTS, tmp_path / "t.csv"))
    (tmp_path / "other").mkdir()
    assert take(store, write(SALTS, tmp_path / "other" / "t.csv")).key == first.key
    changed = SALTS.assign(formation_energy_per_atom=[-2.1, -2.0, -3.5])
    assert take(store, write(changed, tmp_path / "t.csv")).key != first.key


@pytest.mark.parametrize(
    ("text", "options", "said"),
    [
        ("name,energy\nNaCl,-2\n", {}, "formula"),
        ("formula,energy\nNaCl,-2\n", {"columns": {"e_form": "formation_energy_per_atom"}}, "e_form"),
        ("formula,energy\nNaCl,-2\n", {"columns": {"energy": "enthalpy"}}, "enthalpy"),
        ("formula,energy\nNaCl,-2\n", {"columns": {"energy": "formula"}}, "two columns"),
        ("", {}, "empty"),
        ("formula,energy\n", {}, "no rows"),
        ("formula,energy\nXx,-2\nYy,-3\n", {}, "no usable row"),
    ],
)
def test_a_table_of_no_use_gives_one_line(
    store: ArtifactStore, tmp_path: Path, text: str, options: dict[str, Any], said: str
) -> None:
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises((InputError, StoreError), match=said) as caught:
        take(store, path, **options)
    assert_one_line(caught.value)
    assert store.keys() == []


def test_a_damaged_or_missing_file_gives_one_line(store: ArtifactStore, tmp_path: Path) -> None:
    whole = write(SALTS, tmp_path / "t.parquet").read_bytes()
    (tmp_path / "cut.parquet").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "table.xlsx").write_bytes(whole)
    for name in ("cut.parquet", "absent.parquet", "table.xlsx", "."):
        with pytest.raises((InputError, StoreError)) as caught:
            take(store, tmp_path / name)
        assert_one_line(caught.value)
    assert store.keys() == []


def test_a_source_that_is_not_known_is_refused() -> None:
    with pytest.raises(ValueError, match="use starter, mp, oqmd, jarvis"):
        SourceParameters(source="oqdm")


def test_rows_that_say_the_same_are_merged_and_contradictions_rejected(store: ArtifactStore, tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {
            "material_id": ["a", "a", "b", "b", "c"],
            "formula": ["NaCl", "Na2Cl2", "MgO", "MgO", "NaCl"],
            "formation_energy_per_atom": [-2.0, -2.0, -3.0, -2.9, -2.0],
            "colour": ["white", "grey", "white", "white", "white"],
        }
    )
    ref = take(store, write(frame, tmp_path / "t.parquet"))
    assert store.read_table(ref).column("material_id").to_pylist() == ["a", "b", "c"]
    assert rejected(store, ref) == {3: "material_id b occurs again with other values (first in row 2)"}
    counts = store.manifest(ref).counts
    assert (counts["rows_in"], counts["rows_kept"], counts["rows_rejected"], counts["rows_merged"]) == (5, 3, 1, 1)


def test_rows_without_identifiers_are_merged_when_equal(store: ArtifactStore, tmp_path: Path) -> None:
    frame = pd.concat([SALTS, SALTS.assign(formation_energy_per_atom=[-2.1, -1.9, -3.0])], ignore_index=True)
    ref = take(store, write(frame, tmp_path / "t.parquet"))
    table = store.read_table(ref)
    assert table.column("formula").to_pylist() == ["NaCl", "Li2O", "MgO", "Li2O"]  # the polymorph stays
    assert store.manifest(ref).counts["rows_merged"] == 2


def test_duplicates_in_a_chain_or_a_circle_keep_one_row(store: ArtifactStore) -> None:
    rows = [("a", "b"), ("b", "c"), ("c", None), ("x", "y"), ("y", "x"), ("z", "x"), ("s", "s"), ("t", "gone")]
    frame = raw_frame({"material_id": name, "formula": "NaCl", "_same_as": twin} for name, twin in rows)
    made = compounds(frame, Provenance("oqmd", "1", lowest_per_id=True))
    assert made.table.column("material_id").to_pylist() == ["c", "s", "t", "x"]
    assert made.n_merged == 4


def test_formulas_by_identifier_from_another_table(store: ArtifactStore, tmp_path: Path) -> None:
    moduli = pd.DataFrame({"material_id": ["mp-1", "mp-3", "mp-2"], "bulk_modulus_vrh": [10.0, 30.0, 20.0]})
    names = pd.DataFrame({"material_id": ["mp-1", "mp-2"], "formula": ["LiF", "Li2O"]})
    ref = take(store, write(moduli, tmp_path / "moduli.csv"), identities=str(write(names, tmp_path / "names.csv")))
    assert store.read_table(ref).column("formula").to_pylist() == ["LiF", "Li2O"]
    assert rejected(store, ref) == {1: "names.csv has no formula for this material_id"}
    with pytest.raises(InputError, match="--identities FILE"):
        take(store, tmp_path / "moduli.csv")


def test_measured_values_need_a_temperature_and_keep_their_reference(store: ArtifactStore, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="give --temperature"):
        SourceParameters(source="file:x.csv", functional="experiment")
    with pytest.raises(ValueError, match="computed values have no temperature"):
        SourceParameters(source="file:x.csv", functional="pbe", temperature=298.15)
    frame = SALTS.assign(doi=["10.1/a", "10.1/b", "10.1/c"], T=[298.15, 298.15, 300.0])
    columns = {"doi": "reference", "T": "temperature"}
    ref = take(store, write(frame, tmp_path / "t.parquet"), functional="experiment", columns=columns)
    table = store.read_table(ref)
    assert table.column("reference").to_pylist() == ["10.1/a", "10.1/b", "10.1/c"]
    assert table.column("temperature").to_pylist() == [298.15, 298.15, 300.0]


#: file -> options that it needs beside its path
_FILES: dict[str, dict[str, Any]] = {
    "elastic_binaries": {},
    "elastic_compositions": {},
    "elastic_structures": {},
    "electrodeposition_anisotropic": {"identities": "lithium_structures.parquet"},
    "electrodeposition_isotropic": {"identities": "lithium_structures.parquet"},
    "electrodeposition_tensors": {},
    "experimental_formation_energy": {"functional": "experiment", "temperature": 298.15},
    "jarvis_formation_energy": {"columns": {"bulk_modulus_voigt": "bulk_modulus_vrh"}},
    "lithium_conductivity": {"columns": {"Reduced Composition": "formula", "ID": "material_id", "DOI": "reference"}},
    "lithium_structures": {},
    "mp_formation_energy": {},
    "oqmd_band_gap": {},
    "oqmd_formation_energy": {"columns": {"release": "source_version"}},
}


#: crystals, or hundreds of thousands of rows: 10 s and more each; a sample of them is no long proof
_LONG = ("elastic_binaries", "elastic_structures", "lithium_conductivity", "lithium_structures", "oqmd_band_gap")


@pytest.mark.reference_data
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.soak] if n in _LONG else []) for n in sorted(_FILES)]
)
def test_every_row_of_the_reference_files_is_accounted_for(
    store: ArtifactStore, reference_data: Path, name: str
) -> None:
    options = dict(_FILES[name])
    if "identities" in options:
        options["identities"] = str(reference_data / options["identities"])
    check_accounted(store, reference_data / f"{name}.parquet", options)


@pytest.mark.reference_data
@pytest.mark.parametrize("name", _LONG)
def test_every_row_of_a_sample_of_the_long_files_is_accounted_for(
    store: ArtifactStore, reference_data: Path, tmp_path: Path, name: str
) -> None:
    rows = pq.read_table(reference_data / f"{name}.parquet")
    chosen = np.sort(np.random.default_rng(0).choice(rows.num_rows, 60, replace=False))
    pq.write_table(rows.take(chosen), tmp_path / "sample.parquet")
    check_accounted(store, tmp_path / "sample.parquet", _FILES[name])


def check_accounted(store: ArtifactStore, path: Path, options: dict[str, Any]) -> None:
    """Take a file, and check that each of its rows was kept, merged, or rejected for a reason."""
    ref = take(store, path, **options)
    counts = store.manifest(ref).counts
    assert counts["rows_in"] == pq.read_metadata(path).num_rows
    assert counts["rows_in"] == counts["rows_kept"] + counts["rows_rejected"] + counts["rows_merged"]
    assert counts["rows_kept"] == store.read_table(ref).num_rows > 0
    if counts["rows_rejected"]:
        assert all(rejected(store, ref).values())
