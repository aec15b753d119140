"""Tables in and out of files, by their ending: Parquet, CSV, JSON, JSON lines, each also with ``.gz``."""

from __future__ import annotations

import gzip
import io
import os
import uuid
import zlib
from pathlib import Path
from typing import IO

import fsspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from storage.backends import disk_errors, sync_folder
from storage.errors import ArtifactNotFound, StoreError
from storage.json_tables import json_table, lines_table, to_json, to_lines
from storage.parquet import parquet_bytes, read_parquet
from storage.schemas import TEXT_COLUMNS

ENDINGS = (".parquet", ".csv", ".json", ".jsonl", ".ndjson")
"""File endings that are understood; the text formats also with ``.gz`` behind."""


def table_format(path: str | Path) -> tuple[str, bool]:
    """Return the ending of a path without ``.gz``, and whether it is compressed; StoreError for any other."""
    name = str(path).lower()
    packed = name.endswith(".gz")
    inner = name.removesuffix(".gz")
    for ending in ENDINGS:
        if inner.endswith(ending) and not (packed and ending == ".parquet"):
            return ending, packed
    raise StoreError(
        f"{path} has no ending of a table; use one of {', '.join(ENDINGS)} (the text formats also with .gz)"
    )


def read_any(path: str | Path) -> pa.Table:
    """Read a table from a file or address, its format by its ending.

    Text columns of the schemas (`storage.schemas.TEXT_COLUMNS`) are never guessed to be numbers: the formula ``NaN`` is
    sodium nitride. Parquet keeps its metadata.

    Raises
    ------
    StoreError
        When the file is missing, a folder, empty, cut short, or not of the format that its ending says.
    """
    text = os.fspath(path)
    ending, packed = table_format(text)
    if "://" in text:
        source: IO[bytes] | Path = io.BytesIO(_download(text))
    else:
        source = Path(text).expanduser()
        if not source.exists():
            raise ArtifactNotFound(f"there is no file {text}; check the path")
        if source.is_dir():
            raise StoreError(f"{text} is a folder; give a file in it")
        if source.stat().st_size == 0:
            raise StoreError(f"{text} is empty (0 bytes); write or download it again")
    with disk_errors(text):
        table = _read_parquet(source, text) if ending == ".parquet" else _read_text(source, text, ending, packed)
    if table.num_rows == 0:
        raise StoreError(f"{text} has no rows; give a table with at least one")
    return table


def _download(address: str) -> bytes:
    try:
        with disk_errors(address), fsspec.open(address, "rb") as file:
            return bytes(file.read())
    except FileNotFoundError as error:
        raise ArtifactNotFound(f"there is nothing at {address}; check the address") from error
    except (ImportError, ValueError) as error:
        raise StoreError(f"cannot open {address} ({' '.join(str(error).split())}); check the address") from error


def _read_parquet(source: IO[bytes] | Path, where: str) -> pa.Table:
    with source.open("rb") if isinstance(source, Path) else source as file:
        head = file.read(4)
        file.seek(0)
        if head != b"PAR1":
            raise StoreError(f"{where} is not a Parquet file; give it the ending of what it is, or download it again")
        return read_parquet(file, where)


def _read_text(source: IO[bytes] | Path, where: str, ending: str, packed: bool) -> pa.Table:
    data = source.read_bytes() if isinstance(source, Path) else source.read()
    if packed:
        try:
            data = gzip.decompress(data)
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise StoreError(f"{where} is not a complete gzip file; download it again") from error
    if not data.strip():
        raise StoreError(f"{where} is empty; give a table with at least one row")
    if ending == ".csv":
        return _read_csv(data, where)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StoreError(f"{where} is not UTF-8 text; save it as UTF-8") from error
    return json_table(text, where) if ending == ".json" else lines_table(text, where)


def _read_csv(data: bytes, where: str) -> pa.Table:
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\x00" in data:
        raise StoreError(f"{where} is not a CSV file (it holds binary data); give it the ending of what it is")
    header = data.split(b"\n", 1)[0]
    delimiter = max((b",", b";", b"\t"), key=header.count).decode()
    try:
        table = pacsv.read_csv(
            io.BytesIO(data),
            # One thread: type inference must not depend on how blocks were dealt out.
            read_options=pacsv.ReadOptions(use_threads=False, block_size=max(1 << 20, min(len(data) + 1, 1 << 30))),
            parse_options=pacsv.ParseOptions(delimiter=delimiter, newlines_in_values=True),
            convert_options=pacsv.ConvertOptions(column_types={name: pa.string() for name in TEXT_COLUMNS}),
        )
    except (pa.ArrowInvalid, pa.ArrowKeyError) as error:
        raise StoreError(
            f"{where} is not a proper CSV file ({_first_line(error)}); correct it or export it again"
        ) from error
    if len(set(table.column_names)) < table.num_columns or ("" in table.column_names and table.num_columns == 1):
        raise StoreError(f"{where} has two columns of the same name; rename one of them")
    columns = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        if pa.types.is_binary(column.type):
            raise StoreError(f"column '{name}' of {where} is not UTF-8 text; save the file as UTF-8")
        if pa.types.is_string(column.type):
            column = pc.if_else(pc.equal(column, ""), pa.scalar(None, pa.string()), column)
        columns.append(column)
    return pa.table(columns, names=table.column_names)


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0].rstrip(". ")


def write_any(table: pa.Table, path: str | Path) -> None:
    """Write a table to a file or address, its format by its ending; the file appears whole or not at all.

    CSV has no lists, so they become JSON text. JSON is a list of records.

    Raises
    ------
    StoreError
        For an unknown ending, a folder, a full disk or a missing permission.
    """
    text = os.fspath(path)
    ending, packed = table_format(text)
    data = _encode(table, ending)
    if packed:
        data = gzip.compress(data, mtime=0)  # without the time, equal tables give equal files
    if "://" in text:
        with disk_errors(text), fsspec.open(text, "wb") as file:
            file.write(data)
        return
    write_whole(Path(text).expanduser(), data)


def write_whole(target: Path, data: bytes) -> None:
    """Write a file through a temporary one beside it: whole or not at all."""
    if target.is_dir():
        raise StoreError(f"{target} is a folder; give the name of a file")
    temporary = target.parent / f".{target.name}.{uuid.uuid4().hex}.tmp"
    try:
        with disk_errors(str(target)):
            target.parent.mkdir(parents=True, exist_ok=True)
            with temporary.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, target)
            sync_folder(target.parent)
    except FileExistsError as error:
        raise StoreError(f"{target} lies below a file, not a folder; choose another place") from error
    finally:
        if target.parent.is_dir():
            temporary.unlink(missing_ok=True)


def _encode(table: pa.Table, ending: str) -> bytes:
    if ending == ".parquet":
        return parquet_bytes(table)
    if ending == ".csv":
        buffer = io.BytesIO()
        pacsv.write_csv(_flat(table), buffer)
        return buffer.getvalue()
    return to_json(table) if ending == ".json" else to_lines(table)


def _flat(table: pa.Table) -> pa.Table:
    from storage.json_tables import compact

    columns = []
    for column in table.columns:
        if pa.types.is_nested(column.type):
            column = pa.array([None if value is None else compact(value) for value in column.to_pylist()], pa.string())
        columns.append(column)
    return pa.table(columns, names=table.column_names)
