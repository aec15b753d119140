"""Parts of a table under construction: each written whole, found again by the next run, merged without gaps."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from storage.canonical import pretty_bytes, sha256_json
from storage.errors import ForeignPart
from storage.parquet import parquet_bytes, read_parquet
from storage.schemas import conform
from storage.tables import write_whole

logger = logging.getLogger(__name__)

_HEADER = "header.json"


class PartFolder:
    """A folder of parts (pages of an ingest, shards of a screen), usually in `ArtifactStore.scratch`.

    Parameters
    ----------
    folder
        The folder; made when it is absent.
    header
        What decides the parts. A folder of another header is refused, so parts of two runs never mix.

    Raises
    ------
    ForeignPart
        When the folder belongs to another header.
    """

    def __init__(self, folder: Path, header: Mapping[str, Any]) -> None:
        self.folder = folder
        self._digest = sha256_json(header)
        path = folder / _HEADER
        if not path.exists():
            if any(folder.glob("*.parquet")):
                raise ForeignPart(f"{folder} holds parts without {_HEADER}; delete the folder and run again")
            write_whole(path, pretty_bytes(header))
            return
        try:
            same = sha256_json(json.loads(path.read_bytes())) == self._digest
        except ValueError:
            same = False
        if not same:
            raise ForeignPart(f"{folder} holds parts of another run; delete the folder and run again")

    def write(self, name: str, table: pa.Table, schema: str) -> None:
        """Write a part; it counts as there once its digest is beside it."""
        data = parquet_bytes(conform(table, schema))
        write_whole(self.folder / f"{name}.parquet", data)
        write_whole(self.folder / f"{name}.sha256", self._seal(data).encode())

    def has(self, name: str) -> bool:
        """Whether a part is there and whole; a damaged one counts as absent, with a warning."""
        part, seal = self.folder / f"{name}.parquet", self.folder / f"{name}.sha256"
        if not part.is_file() or not seal.is_file():
            return False
        if seal.read_text() == self._seal(part.read_bytes()):
            return True
        logger.warning("part %s is damaged and will be made again", part)
        return False

    def names(self) -> list[str]:
        """Return the sorted names of the parts that are there and whole."""
        return sorted(path.stem for path in self.folder.glob("*.parquet") if self.has(path.stem))

    def read(self, name: str) -> pa.Table:
        """Return a part; ForeignPart when it is not there or damaged."""
        if not self.has(name):
            raise ForeignPart(f"part '{name}' is missing in {self.folder}; run again to make it")
        return read_parquet(self.folder / f"{name}.parquet", f"part '{name}'")

    def merge(self, names: Sequence[str]) -> pa.Table:
        """Return the parts as one table, in the order of `names`, which must be exactly those that are there."""
        there = set(self.names())
        missing = [name for name in names if name not in there]
        foreign = sorted(there - set(names))
        if missing or foreign or len(set(names)) < len(names):
            found = [f"{len(missing)} missing (first: {missing[0]})"] if missing else []
            found += [f"{len(foreign)} not of this run (first: {foreign[0]})"] if foreign else []
            raise ForeignPart(
                f"the parts in {self.folder} do not fit: {', '.join(found) or 'doubled names'}; run again"
            )
        return pa.concat_tables([self.read(name) for name in names])

    def _seal(self, data: bytes) -> str:
        return hashlib.sha256(self._digest.encode() + data).hexdigest()
