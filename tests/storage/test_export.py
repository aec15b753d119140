from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet
import pytest

from storage import export
from storage.errors import ForeignPart, StoreError
from storage.export import export_table
from storage.parts import PartFolder


@pytest.fixture
def table() -> pa.Table:
    return pa.table(
        {
            "formula": ["A", "B", "C", "D", "E"],
            "arity": pa.array([3, 2, 3, None, 2], pa.int8()),
            "source": ["oqmd", "optimade:mp/x=1", "oqmd", "oqmd", "oqmd"],
            "known": [True, False, True, True, False],
            "chi": [0.1, 0.2, 0.3, 0.4, 0.5],
        }
    )


def test_partitioned_dataset(table: pa.Table, tmp_path: Path) -> None:
    files = export_table(table, tmp_path / "out", partition_by=["arity"])
    assert [os.path.relpath(file, tmp_path / "out") for file in files] == [
        "arity=2/part-0.parquet",
        "arity=3/part-0.parquet",
        "arity=__HIVE_DEFAULT_PARTITION__/part-0.parquet",
    ]
    three = pd.read_parquet(files[1])
    assert three["formula"].tolist() == ["A", "C"]  # order kept
    assert "arity" not in pa.parquet.read_schema(files[1]).names
    whole = ds.dataset(tmp_path / "out", partitioning="hive").to_table().sort_by("formula")
    assert whole.column("formula").to_pylist() == list("ABCDE")
    assert whole.column("arity").to_pylist() == [3, 2, 3, None, 2]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


def test_two_columns_and_awkward_names(table: pa.Table, tmp_path: Path) -> None:
    files = export_table(table, tmp_path / "out", partition_by=["source", "known"])
    names = [os.path.relpath(file, tmp_path / "out") for file in files]
    assert names == [
        "source=optimade%3Amp%2Fx%3D1/known=false/part-0.parquet",
        "source=oqmd/known=false/part-0.parquet",
        "source=oqmd/known=true/part-0.parquet",
    ]
    whole = ds.dataset(tmp_path / "out", partitioning="hive").to_table().sort_by("formula")
    assert whole.column("source").to_pylist() == table.column("source").to_pylist()


def test_same_table_same_files(table: pa.Table, tmp_path: Path) -> None:
    one = export_table(table, tmp_path / "one", partition_by=["arity"])
    two = export_table(table, tmp_path / "two", partition_by=["arity"])
    assert [Path(file).read_bytes() for file in one] == [Path(file).read_bytes() for file in two]


def test_overwriting_is_asked_for(table: pa.Table, tmp_path: Path) -> None:
    export_table(table, tmp_path / "out", partition_by=["arity"])
    with pytest.raises(StoreError, match="is there already"):
        export_table(table, tmp_path / "out", partition_by=["known"])
    export_table(table, tmp_path / "out", partition_by=["known"], overwrite=True)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["known=false", "known=true"]
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]
    export_table(table, tmp_path / "t.csv")
    with pytest.raises(StoreError, match="is there already"):
        export_table(table, tmp_path / "t.csv")
    assert export_table(table.slice(1), tmp_path / "t.csv", overwrite=True) == [str(tmp_path / "t.csv")]
    assert pd.read_csv(tmp_path / "t.csv")["formula"].tolist() == list("BCDE")
    with pytest.raises(StoreError, match="is there already"):
        export_table(table, tmp_path / "t.csv", partition_by=["known"], overwrite=True)


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        (["x"], "no column 'x' to partition by; use one of formula"),
        (["chi"], "is double, which cannot name folders"),
        (["formula"], "would make 5 folders"),
        (["formula", "arity", "source", "known"], "no data is left"),
    ],
)
def test_columns_that_cannot_partition(
    table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: list[str], message: str
) -> None:
    monkeypatch.setattr(export, "MAX_PARTITIONS", 4)
    if len(columns) == 4:
        table = table.drop_columns(["chi"])
    with pytest.raises(StoreError, match=message):
        export_table(table, tmp_path / "out", partition_by=columns)
    assert list(tmp_path.iterdir()) == []


def test_datasets_are_local(table: pa.Table) -> None:
    with pytest.raises(StoreError, match="goes into a local folder"):
        export_table(table, "s3://bucket/out", partition_by=["arity"])


def test_full_disk_keeps_the_old_export(table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = export_table(table, tmp_path / "out", partition_by=["arity"])

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="no space left"):
        export_table(table, tmp_path / "out", partition_by=["known"], overwrite=True)
    assert all(Path(file).exists() for file in files)
    assert list(tmp_path.iterdir()) == [tmp_path / "out"]


HEADER = {"model": "d" * 64, "threshold": -0.2}


def test_parts_are_found_again_and_merged_in_order(tmp_path: Path, formulas: pa.Table) -> None:
    parts = PartFolder(tmp_path / "parts", HEADER)
    parts.write("b", formulas.slice(1), "formulas")
    parts.write("a", formulas.slice(0, 1), "formulas")
    again = PartFolder(tmp_path / "parts", dict(reversed(HEADER.items())))
    assert again.names() == ["a", "b"]
    assert again.has("a")
    assert not again.has("c")
    assert again.merge(["a", "b"]).column("formula").to_pylist() == ["NaCl", "Li2O"]
    assert again.merge(["b", "a"]).column("formula").to_pylist() == ["Li2O", "NaCl"]


def test_merge_is_strict(tmp_path: Path, formulas: pa.Table) -> None:
    parts = PartFolder(tmp_path / "parts", HEADER)
    parts.write("a", formulas, "formulas")
    with pytest.raises(ForeignPart, match=r"2 missing \(first: b\)"):
        parts.merge(["a", "b", "c"])
    with pytest.raises(ForeignPart, match=r"1 not of this run \(first: a\)"):
        parts.merge([])
    with pytest.raises(ForeignPart, match="doubled names"):
        parts.merge(["a", "a"])
    with pytest.raises(ForeignPart, match="part 'b' is missing"):
        parts.read("b")


DAMAGE: dict[str, Callable[[Path], Any]] = {
    "truncated": lambda f: (f / "a.parquet").write_bytes((f / "a.parquet").read_bytes()[:-1]),
    "unsealed": lambda f: (f / "a.sha256").unlink(),
    "part gone": lambda f: (f / "a.parquet").unlink(),
    "of other run": lambda f: (f / "a.sha256").write_text("0" * 64),
}


@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_damaged_parts_are_made_again(tmp_path: Path, formulas: pa.Table, damage: str) -> None:
    parts = PartFolder(tmp_path, HEADER)
    parts.write("a", formulas, "formulas")
    DAMAGE[damage](tmp_path)
    assert not parts.has("a")
    assert parts.names() == []
    parts.write("a", formulas, "formulas")
    assert parts.merge(["a"]).num_rows == 2


def test_parts_of_another_run_are_refused(tmp_path: Path, formulas: pa.Table) -> None:
    PartFolder(tmp_path, HEADER).write("a", formulas, "formulas")
    with pytest.raises(ForeignPart, match="parts of another run; delete the folder"):
        PartFolder(tmp_path, {**HEADER, "threshold": -0.1})
    (tmp_path / "header.json").write_text("{")
    with pytest.raises(ForeignPart, match="parts of another run"):
        PartFolder(tmp_path, HEADER)
    (tmp_path / "header.json").unlink()
    with pytest.raises(ForeignPart, match=r"without header\.json"):
        PartFolder(tmp_path, HEADER)
