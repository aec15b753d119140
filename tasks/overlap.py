"""Overlap: rows to learn from without the compositions of another table, on which something is to be measured."""

from __future__ import annotations

import pyarrow.compute as pc

from models.errors import InputError
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.stage import build, stage

STAGE_VERSION = 1
_TABLES = {"features": "features", "examples": "examples"}


@stage("remove-overlap")
def remove_overlap(root: str, rows: ArtifactRef, other: ArtifactRef) -> ArtifactRef:
    """Write a `features` or `examples` artifact without the formulas that another such table has.

    Raises
    ------
    InputError
        For tables of other kinds, or if nothing would be left.
    """
    for ref in (rows, other):
        if ref.kind not in _TABLES:
            raise InputError(f"{ref.key} is a '{ref.kind}' artifact; give one of kind {' or '.join(_TABLES)}")
    store = ArtifactStore(root)
    manifest = store.manifest(rows)
    request = ArtifactRequest(
        rows.kind,
        "tasks.overlap",
        STAGE_VERSION,
        manifest.parameters,
        {"rows": rows, "other": other},
        energy_scheme=manifest.energy_scheme,
    )

    def write(writer: ArtifactWriter) -> None:
        table = store.read_table(rows)
        theirs = store.read_table(other, columns=["formula"]).column("formula").combine_chunks()
        kept = table.filter(pc.invert(pc.is_in(table.column("formula"), value_set=theirs)))
        if kept.num_rows == 0:
            raise InputError(f"all formulas of {rows.key} are in {other.key} too; nothing is left to learn from")
        writer.write_table(_TABLES[rows.kind], kept, _TABLES[rows.kind])
        writer.count("rows", kept.num_rows)
        writer.count("removed", table.num_rows - kept.num_rows)

    return build(root, request, write)
