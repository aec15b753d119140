"""The candidates of many parts in the order of their index, a few parts at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from storage.artifact import ArtifactRef
from storage.errors import ForeignPart
from storage.schemas import SCHEMAS, conform
from storage.store import ArtifactStore

PART = "candidates_part"


def ordered_pieces(store: ArtifactStore, parts: Sequence[ArtifactRef]) -> Iterator[pa.Table]:
    """Read the parts of a screen, sorted by index, then the rows without an index, sorted by formula.

    Parts of one space follow one another, so each comes alone; only parts of spaces that lie among one another in the
    full space come together. So memory is that of a part, not of the screen. Without any row, an empty table comes.

    Raises
    ------
    ForeignPart
        When a composition occurs twice.
    """
    ranges: list[tuple[int, int, ArtifactRef]] = []
    unnumbered: list[ArtifactRef] = []
    for part in parts:
        index = store.read_table(part, PART, columns=["index"]).column("index")
        if index.null_count:
            unnumbered.append(part)
        if index.null_count < len(index):
            ends = pc.min_max(index)
            ranges.append((ends["min"].as_py(), ends["max"].as_py(), part))
    for together in _overlapping(ranges):
        yield in_order(_read(store, together, has_index=True))
    if unnumbered:
        yield in_order(_read(store, unnumbered, has_index=False))
    if not ranges and not unnumbered:
        yield SCHEMAS[PART].arrow.empty_table()


def _overlapping(ranges: list[tuple[int, int, ArtifactRef]]) -> Iterator[list[ArtifactRef]]:
    """Group what overlaps, ascending."""
    together: list[ArtifactRef] = []
    highest = -1
    for low, high, part in sorted(ranges, key=lambda item: item[:2]):
        if together and low > highest:
            yield together
            together = []
        together.append(part)
        highest = max(highest, high)
    if together:
        yield together


def _read(store: ArtifactStore, parts: Sequence[ArtifactRef], *, has_index: bool) -> pa.Table:
    tables = []
    for part in parts:
        # parts of earlier versions lack nothing but the name of their schema
        rows = conform(store.read_table(part, PART), PART)
        mask = pc.is_valid(rows.column("index"))
        tables.append(rows.filter(mask if has_index else pc.invert(mask)))
    return pa.concat_tables(tables)


def in_order(table: pa.Table) -> pa.Table:
    """Sort candidates by index, or by formula where none has one.

    Raises
    ------
    ForeignPart
        When a composition occurs twice.
    """
    name = "formula" if table.column("index").null_count else "index"
    rows = table.take(pc.sort_indices(table, sort_keys=[(name, "ascending")])).combine_chunks()
    column = rows.column(name).combine_chunks()
    doubled = np.flatnonzero(pc.equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False))
    if len(doubled):
        raise ForeignPart(
            f"two of the screen's spaces share compositions, {rows.column('formula')[int(doubled[0])]} among them; "
            "make their arities or elements exclude each other, or leave it out of the list"
        )
    return rows
