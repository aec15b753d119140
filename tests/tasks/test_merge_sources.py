"""Several sources side by side: nothing averaged, nothing lost, schemes kept apart."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from storage.tables import write_any
from tasks.clean import clean_phases
from tasks.ingest import ingest
from tasks.merge_sources import merge_sources
from tasks.parameters import CleanParameters, SourceParameters
from tasks.references import audit_references
from tasks.stage import reference


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


def take(store: ArtifactStore, folder: Path, name: str, energies: dict[str, float], **options: Any) -> ArtifactRef:
    rows = pd.DataFrame({"formula": list(energies), "formation_energy_per_atom": list(energies.values())})
    path = folder / f"{name}.csv"
    write_any(pa.Table.from_pandas(rows, preserve_index=False), path)
    return reference(ingest.fn(store.root, SourceParameters(source=f"file:{path}", database=name, **options)))


def phases(store: ArtifactStore, table: ArtifactRef, **options: Any) -> ArtifactRef:
    cleaning = CleanParameters(**options)
    references = reference(audit_references.fn(store.root, table, cleaning))
    return reference(clean_phases.fn(store.root, table, references, cleaning))


@pytest.fixture
def merged(store: ArtifactStore, tmp_path: Path) -> ArtifactRef:
    tables = [
        take(store, tmp_path, "oqmd", {"NaCl": -2.1, "MgO": -3.0}, functional="pbe+u"),
        take(store, tmp_path, "mp", {"NaCl": -2.2, "Li2O": -2.0}, functional="mixed"),
        take(store, tmp_path, "nist", {"NaCl": -2.13}, functional="experiment", temperature=298.15),
    ]
    return reference(merge_sources.fn(store.root, tables))


def test_rows_stand_side_by_side_and_measured_ones_apart(store: ArtifactStore, merged: ArtifactRef) -> None:
    rows = store.read_table(merged).to_pandas()
    assert sorted(zip(rows["source"], rows["formula"], rows["formation_energy_per_atom"], strict=True)) == [
        ("mp", "Li2O", -2.0),
        ("mp", "NaCl", -2.2),
        ("oqmd", "MgO", -3.0),
        ("oqmd", "NaCl", -2.1),
    ]
    measured = store.read_table(merged, "experiments").to_pandas()
    assert measured[["source", "formula", "temperature"]].to_numpy().tolist() == [["nist", "NaCl", 298.15]]
    counts = store.manifest(merged).counts
    assert counts["rows_in"] == counts["rows_kept"] + counts["rows_measured"] == 5
    assert (counts["rows_of_mp"], counts["rows_of_oqmd"]) == (2, 2)
    assert set(json.loads(store.read_bytes(merged, "schemes.json"))) == {"mp", "oqmd"}
    assert store.manifest(merged).energy_scheme is None


def test_the_order_of_the_sources_is_no_part_of_the_result(store: ArtifactStore, tmp_path: Path) -> None:
    one = take(store, tmp_path, "a", {"NaCl": -2.1})
    other = take(store, tmp_path, "b", {"MgO": -3.0})
    assert reference(merge_sources.fn(store.root, [one, other])) == reference(
        merge_sources.fn(store.root, [other, one])
    )


def test_cleaning_takes_one_scheme_or_a_mixture_on_request(store: ArtifactStore, merged: ArtifactRef) -> None:
    with pytest.raises(InputError, match="several schemes") as caught:
        phases(store, merged)
    assert "\n" not in str(caught.value)
    chosen = phases(store, merged, source="mp")
    assert sorted(store.read_table(chosen).column("formula").to_pylist()) == ["Li2O", "NaCl"]
    scheme = store.manifest(chosen).energy_scheme
    assert scheme is not None
    assert (scheme.source, scheme.functional) == ("mp", "mixed")
    mixture = phases(store, merged, allow_mixed_scheme=True)
    assert store.manifest(mixture).energy_scheme is None  # train, hull and screen ask again
    assert store.read_table(mixture).num_rows == 3
    with pytest.raises(InputError, match="no rows of the source jarvis; it has mp, oqmd"):
        phases(store, merged, source="jarvis")


def test_a_source_with_itself_is_refused(store: ArtifactStore, tmp_path: Path) -> None:
    one = take(store, tmp_path, "a", {"NaCl": -2.1})
    with pytest.raises(InputError, match="merge each source once"):
        merge_sources.fn(store.root, [one, one])
    other = take(store, tmp_path, "a", {"MgO": -2.1}, functional="pbe")
    with pytest.raises(InputError, match="different schemes"):
        merge_sources.fn(store.root, [one, other])


def test_measured_rows_alone_are_no_merge(store: ArtifactStore, tmp_path: Path) -> None:
    tables = [
        take(store, tmp_path, name, {"NaCl": -2.1}, functional="experiment", temperature=298.15) for name in ("a", "b")
    ]
    with pytest.raises(InputError, match="measured ones are used as they are"):
        merge_sources.fn(store.root, tables)
