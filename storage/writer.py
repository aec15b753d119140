"""What a stage writes its artifact with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa

from storage.artifact import MANIFEST, RUN_RECORD, ArtifactRequest, PayloadFile, payload_file
from storage.canonical import plain, pretty_bytes
from storage.errors import SchemeMismatch, StoreError
from storage.model_files import ModelCard, model_files
from storage.parquet import TableStream, write_parquet
from storage.schemas import SCHEMAS, conform, rows_table
from storage.scheme import table_scheme, with_scheme
from storage.streams import ColumnStream

REJECTED = "rejected/rejected.parquet"


class ArtifactWriter:
    """Collects the payload of one artifact in a temporary folder; the store commits it when the stage is done.

    Attributes
    ----------
    folder
        The temporary folder. Files that a stage puts there itself become payload as well.
    request
        What is being built.
    """

    def __init__(self, folder: Path, request: ArtifactRequest) -> None:
        self.folder = folder
        self.request = request
        self.counts: dict[str, int] = {}
        self.notes: dict[str, Any] = {}
        self._tables: dict[str, dict[str, Any]] = {}
        self._rejected: list[pa.Table] = []

    def write_table(self, name: str, table: pa.Table, schema: str) -> Path:
        """Write a table as ``<name>.parquet``, in the shape of a schema.

        A table with energies gets the request's energy scheme in its metadata; one that states another is refused.
        A name ``<table>/<part>`` writes one part of a table that `ArtifactStore.read_table` reads as a whole.

        Raises
        ------
        SchemaError
            When the table does not fit the schema.
        SchemeMismatch
            When it states another energy scheme than the request.
        """
        table = self._conformed(name, table, schema)
        path = name if name.endswith(".parquet") else f"{name}.parquet"
        target = self._target(path)
        write_parquet(table, target)
        self._tables[path] = {"rows": table.num_rows, "schema_name": schema, "schema_version": SCHEMAS[schema].version}
        return target

    @contextmanager
    def stream_table(self, name: str, schema: str) -> Iterator[Callable[[pa.Table], None]]:
        """Write a table given in pieces, with the bytes that `write_table` gives the whole; yields what takes a piece.

        The pieces have the request's energy scheme, or state none.
        """
        path = f"{name}.parquet"
        empty = self._conformed(name, SCHEMAS[schema].arrow.empty_table(), schema)

        def append(table: pa.Table) -> None:
            piece = self._conformed(name, table, schema)
            if table_scheme(piece) != table_scheme(empty):
                raise SchemeMismatch(f"table '{name}' states a scheme and its artifact none; set the request's scheme")
            stream.append(piece)

        with TableStream(self._target(path), empty.schema) as stream:
            yield append
        self._tables[path] = {"rows": stream.rows, "schema_name": schema, "schema_version": SCHEMAS[schema].version}

    def _conformed(self, name: str, table: pa.Table, schema: str) -> pa.Table:
        table = conform(table, schema)
        scheme = self.request.energy_scheme
        stated = table_scheme(table)
        if scheme is not None and stated is not None and stated != scheme:
            raise SchemeMismatch(
                f"table '{name}' states the scheme {stated.label}, its artifact {scheme.label}; set the table's scheme"
            )
        if scheme is not None and stated is None and _has_energies(schema):
            table = with_scheme(table, scheme)
        return table

    @contextmanager
    def stream_column(self, name: str, schema: str, **header: object) -> Iterator[ColumnStream]:
        """Write a table of one numeric column piece by piece, whatever its length; `header` goes into its metadata."""
        arrow, version = SCHEMAS[schema].arrow, SCHEMAS[schema].version
        metadata = {b"schema": schema.encode(), b"schema_version": str(version).encode()}
        metadata |= {key.encode(): str(value).encode() for key, value in header.items()}
        if self.request.energy_scheme is not None and _has_energies(schema):
            metadata |= with_scheme(arrow.empty_table(), self.request.energy_scheme).schema.metadata
        with ColumnStream(
            self._target(f"{name}.parquet"), arrow.with_metadata(dict(sorted(metadata.items())))
        ) as stream:
            yield stream
        self._tables[f"{name}.parquet"] = {"rows": stream.rows, "schema_name": schema, "schema_version": version}

    def reject(self, rows: pa.Table | Iterable[Mapping[str, Any]]) -> None:
        """Keep rows that failed validation, each with its `reason` and its index `row`; may be called many times."""
        if isinstance(rows, pa.Table):
            table = conform(rows, "rejected")
        else:
            table = rows_table([dict(row) for row in rows], "rejected")
        self._rejected.append(table)

    def write_bytes(self, path: str, data: bytes) -> Path:
        """Write a payload file."""
        target = self._target(path)
        target.write_bytes(data)
        return target

    def write_json(self, path: str, value: Any) -> Path:
        """Write a value as deterministic JSON; NaN is refused."""
        return self.write_bytes(path, pretty_bytes(value))

    def write_model(self, card: ModelCard, members: Sequence[Mapping[str, np.ndarray]]) -> None:
        """Write ``card.json`` and ``member-000.safetensors``, ..."""
        for path, data in model_files(card, members).items():
            self.write_bytes(path, data)

    def count(self, name: str, n: int) -> None:
        """Set a count of the manifest, e.g. how many rows a rule removed."""
        self.counts[name] = int(n)

    def note(self, name: str, value: Any) -> None:
        """Note something about this run (times, device) in ``run.json``, outside every digest."""
        self.notes[name] = plain(value, name)

    def _target(self, path: str) -> Path:
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or "\\" in path or any(part in ("..", ".") for part in parts):
            raise StoreError(f"'{path}' is no path inside an artifact; use a relative path without '..'")
        if path in (MANIFEST, RUN_RECORD):
            raise StoreError(f"'{path}' is written by the store; choose another name")
        target = self.folder.joinpath(*parts)
        if target.exists():
            raise StoreError(f"'{path}' was written before; give each file its own name")
        target.parent.mkdir(parents=True, exist_ok=True)
        return target

    def finish(self) -> list[PayloadFile]:
        """Write the rejected rows and return the entries of all payload files; called by the store."""
        if self._rejected:
            rejected = pa.concat_tables(self._rejected)
            self.counts["rejected"] = rejected.num_rows
            if rejected.num_rows:
                write_parquet(rejected, self._target(REJECTED))
                version = SCHEMAS["rejected"].version
                self._tables[REJECTED] = {
                    "rows": rejected.num_rows,
                    "schema_name": "rejected",
                    "schema_version": version,
                }
        entries = []
        for file in sorted(self.folder.rglob("*")):
            path = file.relative_to(self.folder).as_posix()
            if file.is_symlink():
                raise StoreError(f"'{path}' in artifact {self.request.key} is a link; write the file itself")
            if file.is_file():
                with file.open("rb") as data:
                    entries.append(payload_file(path, data, file.stat().st_size, **self._tables.get(path, {})))
        if not entries:
            raise StoreError(
                f"{self.request.stage} wrote nothing into {self.request.key}; a stage must write at least one file"
            )
        if any(entry.path in (MANIFEST, RUN_RECORD) for entry in entries):
            raise StoreError(f"{MANIFEST} and {RUN_RECORD} are written by the store; choose other names")
        return entries


def _has_energies(schema: str) -> bool:
    return any(
        "energy" in name or name in ("prediction", "reference_correction") for name in SCHEMAS[schema].arrow.names
    )
