"""A long column piece by piece: the same bytes whatever the pieces, bounded memory, nothing but finite numbers."""

from __future__ import annotations

import itertools
import tracemalloc
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storage.artifact import ArtifactRequest
from storage.errors import SchemaError, StoreError
from storage.schemas import SCHEMAS
from storage.scheme import EnergyScheme, table_scheme
from storage.store import ArtifactStore
from storage.streams import STREAM_ROWS, ColumnStream, read_rows
from storage.writer import ArtifactWriter

SCHEMA = SCHEMAS["all_predictions"].arrow
VALUES = np.random.default_rng(0).normal(-1.0, 0.5, 3 * STREAM_ROWS // 2).astype(np.float32)
SCHEME = EnergyScheme(source="tiny", release="1", functional="pbe", corrections="none")


def written(path: Path, bounds: list[int]) -> bytes:
    with ColumnStream(path, SCHEMA) as stream:
        for low, high in itertools.pairwise(bounds):
            stream.append(VALUES[low:high])
    assert stream.rows == bounds[-1] - bounds[0]
    return path.read_bytes()


def test_pieces_are_no_part_of_the_bytes(tmp_path: Path) -> None:
    n = len(VALUES)
    whole = written(tmp_path / "whole", [0, n])
    assert written(tmp_path / "pieces", [0, 1, 65_537, 65_537, STREAM_ROWS, n - 3, n]) == whole
    assert pq.read_table(tmp_path / "whole").column(0).to_numpy().tobytes() == VALUES.tobytes()


def test_how_it_is_stored(tmp_path: Path) -> None:
    written(tmp_path / "whole", [0, len(VALUES)])
    metadata = pq.read_metadata(tmp_path / "whole")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [STREAM_ROWS, STREAM_ROWS // 2]
    column = metadata.row_group(0).column(0)
    assert column.compression == "ZSTD"
    assert "BYTE_STREAM_SPLIT" in column.encodings
    assert column.dictionary_page_offset is None
    assert metadata.row_group(0).total_byte_size / STREAM_ROWS < 4.01


def test_memory_does_not_grow_with_the_column(tmp_path: Path) -> None:
    """Eight row groups take no more than one: neither in numpy's memory nor in Arrow's."""
    piece = VALUES[:65_536]

    def peak(n_groups: int) -> tuple[int, int]:
        before, arrow = pa.total_allocated_bytes(), 0
        tracemalloc.start()
        try:
            with ColumnStream(tmp_path / f"{n_groups}", SCHEMA) as stream:
                for _ in range(n_groups * STREAM_ROWS // len(piece)):
                    stream.append(piece)
                    arrow = max(arrow, pa.total_allocated_bytes() - before)
            return tracemalloc.get_traced_memory()[1], arrow
        finally:
            tracemalloc.stop()

    one, eight = peak(1), peak(8)
    assert eight[0] < one[0] + 1_000_000
    assert eight[1] < one[1] + 1_000_000
    assert eight[0] < 3 * 4 * STREAM_ROWS


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_no_energy_is_refused(tmp_path: Path, bad: float) -> None:
    with pytest.raises(SchemaError, match="NaN or infinite"), ColumnStream(tmp_path / "x", SCHEMA) as stream:
        stream.append(np.array([0.0, bad], dtype=np.float32))


def test_nothing_is_rounded_silently(tmp_path: Path) -> None:
    with pytest.raises(SchemaError, match="takes float32"), ColumnStream(tmp_path / "x", SCHEMA) as stream:
        stream.append(np.array([0.1]))


def build(root: Path, n: int) -> tuple[ArtifactStore, ArtifactRequest]:
    return ArtifactStore(root), ArtifactRequest("things", "test", 1, {"n": n}, energy_scheme=SCHEME)


def test_a_stream_is_payload_like_any_other(tmp_path: Path) -> None:
    store, request = build(tmp_path, 7)

    def write(writer: ArtifactWriter) -> None:
        with writer.stream_column("all_predictions", "all_predictions", start=3, stop=10) as stream:
            stream.append(VALUES[:7])

    ref = store.get_or_build(request, write).ref
    entry = store.verify(ref).file("all_predictions.parquet")
    assert (entry.rows, entry.schema_name, entry.schema_version) == (7, "all_predictions", 1)
    table = store.read_table(ref)
    assert table.column("formation_energy_per_atom").to_numpy().tobytes() == VALUES[:7].tobytes()
    assert table_scheme(table) == SCHEME
    assert (table.schema.metadata[b"start"], table.schema.metadata[b"stop"]) == (b"3", b"10")
    assert table.schema.field(0).metadata[b"unit"] == b"eV/atom"


def test_an_error_leaves_no_artifact(tmp_path: Path) -> None:
    store, request = build(tmp_path, 8)

    def write(writer: ArtifactWriter) -> None:
        with writer.stream_column("all_predictions", "all_predictions") as stream:
            stream.append(VALUES[:8])
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        store.get_or_build(request, write)
    assert store.find(request.key) is None


@pytest.fixture(scope="module")
def long(tmp_path_factory: pytest.TempPathFactory) -> tuple[ArtifactStore, object]:
    store, request = build(tmp_path_factory.mktemp("long"), len(VALUES))

    def write(writer: ArtifactWriter) -> None:
        with writer.stream_column("all_predictions", "all_predictions") as stream:
            stream.append(VALUES)

    return store, store.get_or_build(request, write).ref


@settings(max_examples=25, deadline=None)
@given(ends=st.tuples(st.integers(0, len(VALUES)), st.integers(0, len(VALUES))))
def test_any_range_of_rows(long: tuple[ArtifactStore, object], ends: tuple[int, int]) -> None:
    store, ref = long
    start, stop = sorted(ends)
    tables = list(read_rows(store, ref, start, stop))  # type: ignore[arg-type]
    assert all(0 < table.num_rows <= STREAM_ROWS for table in tables)
    read = np.concatenate([np.zeros(0, np.float32), *(table.column(0).to_numpy() for table in tables)])
    assert read.tobytes() == VALUES[start:stop].tobytes()


def test_rows_that_are_not_there(long: tuple[ArtifactStore, object]) -> None:
    store, ref = long
    with pytest.raises(StoreError, match="rows, not"):
        list(read_rows(store, ref, 0, len(VALUES) + 1))  # type: ignore[arg-type]
