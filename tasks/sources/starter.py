"""The starter set that ships with the package: potential-computed (CHGNet), not DFT."""

from __future__ import annotations

import hashlib
import json
from importlib import resources
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from storage.errors import ArtifactCorrupt

_FOLDER = resources.files("tasks.sources") / "starter"


def starter_manifest() -> dict[str, Any]:
    """Return the manifest that the starter set was committed with."""
    manifest: dict[str, Any] = json.loads((_FOLDER / "manifest.json").read_text())
    return manifest


def read_starter() -> pa.Table:
    """Return the starter set as a `compounds` table.

    Raises
    ------
    ArtifactCorrupt
        When the file differs from its manifest.
    """
    data = (_FOLDER / "compounds.parquet").read_bytes()
    entry = next(item for item in starter_manifest()["payload"] if item["path"] == "compounds.parquet")
    if hashlib.sha256(data).hexdigest() != entry["sha256"]:
        raise ArtifactCorrupt("the packaged starter set differs from its manifest; reinstall elemscreen")
    return pq.read_table(pa.BufferReader(data))
