"""The drift check: which snapshot counts as the one before, and what a refusal leaves behind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from storage.tables import write_any
from tasks.drift import DriftParameters, check_drift, findings, previous_snapshot
from tasks.ingest import ingest
from tasks.parameters import SourceParameters
from tasks.stage import reference

FORMULAS = ["NaCl", "Li2O", "MgO", "KF", "CaO", "LiF", "NaF", "BaO", "SrO", "KCl"]


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


class Nights:
    """A file that is read every night; every snapshot's manifest is an hour younger than the one before."""

    def __init__(self, store: ArtifactStore, folder: Path) -> None:
        self.store = store
        self.file = folder / "nightly.csv"
        self.clock = 1_700_000_000

    def read(self, n_rows: int, **options: Any) -> ArtifactRef:
        rows = pd.DataFrame({"formula": FORMULAS[:n_rows], "formation_energy_per_atom": -2.0})
        write_any(pa.Table.from_pandas(rows, preserve_index=False), self.file)
        ref = reference(ingest.fn(self.store.root, SourceParameters(source=f"file:{self.file}", **options)))
        self.clock += 3600
        os.utime(Path(ref.uri) / "manifest.json", (self.clock, self.clock))
        return ref

    def check(self, ref: ArtifactRef, **options: Any) -> ArtifactRef:
        return reference(check_drift.fn(self.store.root, ref, DriftParameters(**options)))


@pytest.fixture
def nights(store: ArtifactStore, tmp_path: Path) -> Nights:
    return Nights(store, tmp_path)


def test_the_first_snapshot_is_compared_with_nothing(nights: Nights, store: ArtifactStore) -> None:
    ref = nights.check(nights.read(10))
    assert list(store.manifest(ref).inputs) == ["compounds"]
    assert findings(store, ref) == []


def test_the_newest_older_snapshot_of_the_same_source_counts(nights: Nights, store: ArtifactStore) -> None:
    nights.read(10)
    second = nights.read(9)
    nights.read(8, database="another")
    third = nights.read(7)
    assert previous_snapshot(store, third) == second
    ref = nights.check(third)
    assert store.manifest(ref).inputs["previous"].key == second.key
    assert findings(store, ref) == ["Sr has vanished", "Ba has vanished", "rows of all changed by -0.222 (limit 0.1)"]


def test_a_refused_snapshot_stays_and_is_not_what_the_next_is_compared_with(
    nights: Nights, store: ArtifactStore
) -> None:
    good = nights.read(10)
    nights.check(good, on_drift="refuse")
    bad = nights.read(5)
    with pytest.raises(InputError, match=r"drifted: .* accept it with a higher limit or --on-drift warn") as caught:
        nights.check(bad, on_drift="refuse")
    assert "\n" not in str(caught.value)
    assert store.manifest(bad).counts["rows_kept"] == 5
    fine = nights.read(9)
    assert previous_snapshot(store, fine) == good
    nights.check(bad, on_drift="warn")  # somebody looked at it and accepts it
    assert previous_snapshot(store, fine) == bad


def test_limits_are_parameters(nights: Nights, store: ArtifactStore) -> None:
    nights.read(10)
    ref = nights.check(nights.read(8), on_drift="warn", rows=0.5)
    assert findings(store, ref) == ["Sr has vanished"]
