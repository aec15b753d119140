from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from storage.errors import ArtifactNotFound, StoreError
from storage.parquet import parquet_bytes
from storage.scheme import EnergyScheme, table_scheme, with_scheme
from storage.tables import read_any, table_format, write_any

FORMATS = ["parquet", "csv", "csv.gz", "json", "json.gz", "jsonl", "jsonl.gz", "ndjson", "CSV"]


@pytest.fixture
def table() -> pa.Table:
    return pa.table(
        {
            "material_id": ["001", "002", "003"],
            "formula": ["NaN", "Li2O", "NO"],
            "formation_energy_per_atom": [-1.25, None, 0.1],
            "rank": [1, 2, 3],
            "known": [True, False, True],
        }
    )


@pytest.mark.parametrize("ending", FORMATS)
def test_round_trip(table: pa.Table, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"t.{ending}"
    write_any(table, path)
    again = read_any(path)
    assert again.to_pylist() == table.to_pylist()
    assert again.schema.types == table.schema.types
    before = path.read_bytes()
    write_any(again.combine_chunks(), path)
    assert path.read_bytes() == before
    assert [one.name for one in tmp_path.iterdir()] == [path.name]


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=6),
            st.floats(allow_nan=False, allow_infinity=False),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_any_text_and_number_survive(tmp_path: Path, rows: list[tuple[str, float]]) -> None:
    table = pa.table({"formula": [row[0] for row in rows], "chi": pa.array([row[1] for row in rows], pa.float64())})
    for ending in ("csv", "json", "jsonl", "parquet"):
        write_any(table, tmp_path / f"t.{ending}")
        again = read_any(tmp_path / f"t.{ending}")
        assert again.column("formula").to_pylist() == table.column("formula").to_pylist()
        assert [float(x) for x in again.column("chi").to_pylist()] == table.column("chi").to_pylist()


def test_parquet_keeps_its_metadata(table: pa.Table, tmp_path: Path) -> None:
    scheme = EnergyScheme(source="mp", release="1", functional="pbe")
    write_any(with_scheme(table, scheme), tmp_path / "t.parquet")
    assert table_scheme(read_any(tmp_path / "t.parquet")) == scheme


def test_files_of_pandas(table: pa.Table, tmp_path: Path) -> None:
    frame = pd.DataFrame({"formula": ["Li2O", "NaCl"], "chi": [0.5, np.nan], "n": [1, 2]}, index=[7, 9])
    expected = [{"formula": "Li2O", "chi": 0.5, "n": 1}, {"formula": "NaCl", "chi": None, "n": 2}]
    frame.to_parquet(tmp_path / "t.parquet", index=False)
    frame.to_csv(tmp_path / "t.csv", index=False)
    frame.to_json(tmp_path / "lines.jsonl", orient="records", lines=True)
    assert read_any(tmp_path / "t.csv").to_pylist() == expected
    assert read_any(tmp_path / "lines.jsonl").to_pylist() == expected
    for orient in ("records", "columns", "split"):
        frame.to_json(tmp_path / "t.json", orient=orient)  # type: ignore[call-overload]
        assert read_any(tmp_path / "t.json").to_pylist() == expected
    frame.to_json(tmp_path / "t.json", orient="table", index=False)
    assert read_any(tmp_path / "t.json").to_pylist() == expected


def test_json_of_lists_and_nested_values(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({"formula": ["Li2O"], "structure": [{"lattice": 1}]}))
    assert read_any(tmp_path / "a.json").to_pylist() == [{"formula": "Li2O", "structure": '{"lattice":1}'}]
    (tmp_path / "b.json").write_text(json.dumps([{"a": 1}, {"b": [1.5, 2]}, {"a": 2.5}]))
    assert read_any(tmp_path / "b.json").to_pylist() == [
        {"a": 1.0, "b": None},
        {"a": None, "b": [1.5, 2.0]},
        {"a": 2.5, "b": None},
    ]
    (tmp_path / "c.jsonl").write_text('\n{"a": {"x": 1}}\n\n{"a": "text"}\n{"a": null}\n')
    assert read_any(tmp_path / "c.jsonl").column("a").to_pylist() == ['{"x":1}', "text", None]
    (tmp_path / "d.json").write_text('﻿[{"a": 1}]', encoding="utf-8")
    assert read_any(tmp_path / "d.json").num_rows == 1


def test_lists_and_non_finite_numbers_are_written(tmp_path: Path) -> None:
    table = pa.table({"x": [1.5, float("nan"), float("inf")], "l": [[1.0, 2.0], None, [float("nan")]]})
    write_any(table, tmp_path / "t.csv")
    assert read_any(tmp_path / "t.csv").column("l").to_pylist() == ["[1.0,2.0]", None, "[null]"]
    write_any(table, tmp_path / "t.json")
    assert json.loads((tmp_path / "t.json").read_text())[1:] == [{"x": None, "l": None}, {"x": None, "l": [None]}]


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_csv_dialects(tmp_path: Path, delimiter: str) -> None:
    text = '﻿formula,note\r\n"Li2O","two\nlines"\r\nNaCl,\r\n'.replace(",", delimiter)
    (tmp_path / "t.csv").write_bytes(text.encode())
    assert read_any(tmp_path / "t.csv").to_pylist() == [
        {"formula": "Li2O", "note": "two\nlines"},
        {"formula": "NaCl", "note": None},
    ]


def test_text_columns_are_never_guessed(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("formula,source_id,x\nNaN,007,1\nNaN,1e5,\n")
    assert read_any(tmp_path / "t.csv").to_pylist() == [
        {"formula": "NaN", "source_id": "007", "x": 1},
        {"formula": "NaN", "source_id": "1e5", "x": None},
    ]


def _bad_files() -> dict[str, tuple[str, bytes, str]]:
    parquet = parquet_bytes(pa.table({"a": list(range(1000))}))
    packed = gzip.compress(b"formula,x\nLi2O,1\n" * 50)
    return {
        "truncated Parquet": ("t.parquet", parquet[:-20], "is not a complete Parquet file; download it again"),
        "half Parquet": ("t.parquet", parquet[: len(parquet) // 2], "is not a complete Parquet file"),
        "CSV named Parquet": ("t.parquet", b"formula,x\nLi2O,1\n", "is not a Parquet file"),
        "no bytes": ("t.csv", b"", "is empty"),
        "blanks": ("t.csv", b"\n \n", "is empty"),
        "header only": ("t.csv", b"formula,x\n", "has no rows"),
        "Parquet without rows": ("t.parquet", parquet_bytes(pa.table({"a": pa.array([], pa.int64())})), "has no rows"),
        "no records": ("t.json", b"[]", "has no rows"),
        "Parquet named CSV": ("t.csv", parquet, "is not a CSV file"),
        "ragged": ("t.csv", b"a,b\n1,2\n1,2,3\n", "not a proper CSV file .*correct it"),
        "doubled": ("t.csv", b"a,a\n1,2\n", "two columns of the same name"),
        "latin-1": ("t.csv", "a,b\nf\xfcr,1\n".encode("latin-1"), "column 'a'.*is not UTF-8"),
        "latin-1 formula": ("t.csv", "formula,b\nf\xfcr,1\n".encode("latin-1"), "not a proper CSV file|not UTF-8"),
        "latin-1 JSON": ("t.json", '[{"a":"f\xfcr"}]'.encode("latin-1"), "is not UTF-8 text"),
        "cut JSON": ("t.json", b'[{"a": 1}, {"a"', "is not a complete JSON file"),
        "JSON number": ("t.json", b"3", "is JSON, but no table"),
        "JSON object": ("t.json", b'{"a": 1}', "is JSON, but no table"),
        "JSON mixed": ("t.json", b'[{"a": 1}, {"a": "x"}]', "column 'a'.*mixes types"),
        "JSON lengths": ("t.json", b'{"a": [1, 2], "b": [1]}', "different lengths"),
        "JSON split": ("t.json", b'{"columns": ["a", "b"], "data": [[1]]}', "not 2 values long"),
        "cut line": ("t.jsonl", b'{"a": 1}\n{"a":', "line 2 of .* is not JSON"),
        "line of list": ("t.jsonl", b"[1]\n", "line 1 of .* is no JSON object"),
        "cut gzip": ("t.csv.gz", packed[:-12], "is not a complete gzip file"),
        "no gzip": ("t.csv.gz", b"formula,x\n", "is not a complete gzip file"),
        "bad gzip": ("t.csv.gz", packed[:12] + b"\xff\xff" + packed[14:], "is not a complete gzip file"),
    }


@pytest.mark.parametrize("case", sorted(_bad_files()))
def test_bad_files_give_one_line(tmp_path: Path, case: str) -> None:
    name, data, message = _bad_files()[case]
    path = tmp_path / name
    path.write_bytes(data)
    with pytest.raises(StoreError, match=message) as caught:
        read_any(path)
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


def test_damaged_parquet_pages(tmp_path: Path) -> None:
    data = bytearray(parquet_bytes(pa.table({"a": np.random.default_rng(1).normal(size=5_000)})))
    data[100:140] = bytes(40)
    (tmp_path / "t.parquet").write_bytes(bytes(data))
    with pytest.raises(StoreError, match="not a complete Parquet file"):
        read_any(tmp_path / "t.parquet")


def test_missing_folder_and_unknown_ending(tmp_path: Path, table: pa.Table) -> None:
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(ArtifactNotFound, match="there is no file"):
        read_any(tmp_path / "absent.csv")
    with pytest.raises(StoreError, match="is a folder; give a file in it"):
        read_any(tmp_path / "folder.csv")
    with pytest.raises(StoreError, match="is a folder; give the name of a file"):
        write_any(table, tmp_path / "folder.csv")
    for name in ("t.xlsx", "t", "t.gz", "t.parquet.gz"):
        with pytest.raises(StoreError, match=r"has no ending of a table; use one of .parquet"):
            read_any(tmp_path / name)
        with pytest.raises(StoreError, match="has no ending of a table"):
            write_any(table, tmp_path / name)
    with pytest.raises(StoreError, match="cannot open"):
        read_any("nosuchprotocol://x/t.csv")
    assert table_format("a.CSV.GZ") == (".csv", True)


def test_writing_is_atomic(table: pa.Table, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "t.csv"
    write_any(table, path)
    before = path.read_bytes()

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="no space left for"):
        write_any(table.slice(1), path)
    assert path.read_bytes() == before
    assert list(path.parent.iterdir()) == [path]
    monkeypatch.undo()
    with pytest.raises(StoreError, match=r"below a file|through a file"):
        write_any(table, path / "t.csv")
