from __future__ import annotations

import io
import itertools
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage import parquet
from storage.errors import StoreError
from storage.parquet import ROW_GROUP_ROWS, TableStream, parquet_bytes, read_parquet, write_parquet


def big(n: int) -> pa.Table:
    rng = np.random.default_rng(7)
    return pa.table(
        {
            "x": rng.normal(size=n),
            "formula": [f"Li{i % 977}O" for i in range(n)],
            "tensor": pa.array(rng.normal(size=(n, 2)).tolist(), pa.list_(pa.field("element", pa.float64()))),
            "null": pa.array([None if i % 3 else i for i in range(n)]),
        }
    )


def structures(n: int) -> pa.Table:
    """Long texts and lists, as structures and tensors are: several pages per column."""
    rng = np.random.default_rng(7)
    return pa.table(
        {
            "structure": [f"Li{i}O" + "x" * 1_000 for i in range(n)],
            "tensor": pa.array(rng.normal(size=(n, 36)).tolist()),
        }
    )


def cut(table: pa.Table, places: list[int]) -> pa.Table:
    edges = [0, *sorted(places), table.num_rows]
    return pa.concat_tables([table.slice(a, b - a) for a, b in itertools.pairwise(edges)])


WIDE = structures(3_000)
WIDE_BYTES = parquet_bytes(WIDE)


@settings(max_examples=10, deadline=None)
@given(st.lists(st.integers(1, 2_999), min_size=1, max_size=6, unique=True))
def test_bytes_do_not_depend_on_chunks(places: list[int]) -> None:
    pieces = cut(WIDE, places)
    assert pieces.column("structure").num_chunks == len(places) + 1
    assert parquet_bytes(pieces) == WIDE_BYTES


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(0, 2_500), max_size=6, unique=True), st.sampled_from([1, 7, 400, 2_500, 10_000]))
def test_a_stream_of_pieces_writes_the_bytes_of_the_whole(places: list[int], group: int) -> None:
    whole = big(2_500)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parquet, "ROW_GROUP_ROWS", max(group, 50))
        file = io.BytesIO()
        with TableStream(file, whole.schema) as stream:
            for a, b in itertools.pairwise([0, *sorted(places), whole.num_rows]):
                stream.append(whole.slice(a, b - a))
        assert stream.rows == whole.num_rows
        assert file.getvalue() == parquet_bytes(whole)


def test_a_stream_of_nothing_is_an_empty_table() -> None:
    file = io.BytesIO()
    with TableStream(file, WIDE.schema):
        pass
    assert file.getvalue() == parquet_bytes(WIDE.slice(0, 0))


def test_bytes_do_not_depend_on_chunks_across_row_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet, "ROW_GROUP_ROWS", 1_000)
    table = big(2_500)
    pieces = cut(table, [999, 1_001])
    data = parquet_bytes(table)
    assert parquet_bytes(pieces) == data
    file = pq.ParquetFile(pa.BufferReader(data))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [1_000, 1_000, 500]
    assert file.read().equals(table)


def test_the_plain_writer_does_depend_on_chunks() -> None:
    """The reason for this module; should it fail one day, the copying into one chunk can go."""
    files = []
    for one in (WIDE, cut(WIDE, [7, 1_507])):
        buffer = io.BytesIO()
        pq.write_table(one, buffer, compression="zstd")
        files.append(buffer.getvalue())
    assert files[0] != files[1]


def test_metadata_order_does_not_matter_and_values_do() -> None:
    table = big(5)
    one = table.replace_schema_metadata({"a": "1", "b": "2"})
    other = table.replace_schema_metadata({"b": "2", "a": "1"})
    assert parquet_bytes(one) == parquet_bytes(other)
    assert parquet_bytes(one) != parquet_bytes(table.replace_schema_metadata({"a": "1", "b": "3"}))
    assert pq.read_schema(pa.BufferReader(parquet_bytes(one))).metadata == {b"a": b"1", b"b": b"2"}


def test_format() -> None:
    assert ROW_GROUP_ROWS == 131_072
    file = pq.ParquetFile(pa.BufferReader(parquet_bytes(big(10))))
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    assert parquet_bytes(big(0)) == parquet_bytes(big(0))
    assert pq.read_table(pa.BufferReader(parquet_bytes(big(0)))).num_rows == 0


def test_read_and_columns(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    write_parquet(big(10), path)
    assert read_parquet(path, "t", ["formula"]).column_names == ["formula"]
    with pytest.raises(StoreError, match="t has no column 'y'; it has x, formula"):
        read_parquet(path, "t", ["y"])
    with pytest.raises(FileNotFoundError):
        read_parquet(tmp_path / "absent.parquet", "t")


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    data = parquet_bytes(big(20))
    path = tmp_path / "t.parquet"
    for length in [0, 3, 4, 12, *range(100, len(data), 500), len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(StoreError, match="not a complete Parquet file; download it again"):
            read_parquet(path, "t")
