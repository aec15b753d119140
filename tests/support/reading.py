"""How tests read a database: as the stage `ingest` does, but without a store, and without waiting."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from loopback.mp_server import API_KEY
from loopback.records import Compound
from storage.pages import PageFolder
from storage.parquet import parquet_bytes
from tasks.compounds import Compounds, Provenance, compounds, raw_frame
from tasks.parameters import QueryParameters, ServiceParameters, SourceParameters
from tasks.sources.catalog import open_service
from tasks.sources.ledger import Ledger
from tasks.sources.service import documents, read_all
from tasks.sources.transport import Patience, Transport

OUTSIDE = {"He", "Ar", "Po"}
"""Elements of made-up compounds that we do not know."""
DAY = "2026-01-01"
SWIFT = Patience(
    attempts=12, doubts=6, first_pause_s=0.0, longest_pause_s=0.0, connect_timeout_s=1.0, read_timeout_s=1.0
)
"""More tries than a seeded schedule has faults in a row, and no pauses between them."""


def source_parameters(source: str, url: str, **changes: Any) -> SourceParameters:
    """Return the parameters of `mp`, `oqmd`, `jarvis` or `optimade` (as OQMD serves it) at an address.

    Names of the query's fields go into the query, all others into the source's own parameters.
    """
    query = {"as_of": DAY, "page_size": 100}
    query |= {name: changes.pop(name) for name in tuple(changes) if name in QueryParameters.model_fields}
    if source == "optimade":
        changes = {"database": "oqmd"} | changes
        source = f"optimade:{url}"
    return SourceParameters(
        source=source, query=QueryParameters(**query), service=ServiceParameters(endpoint=url), **changes
    )


def raw_rows(
    parameters: SourceParameters, folder: Path | None = None, patience: Patience = SWIFT
) -> tuple[list[dict[str, Any]], Provenance, dict[str, int]]:
    """Return the rows of a database in the order of their names, their provenance, and how it was asked."""
    if folder is None:
        with tempfile.TemporaryDirectory() as name:
            return raw_rows(parameters, Path(name), patience)
    pages = PageFolder(folder)
    service = open_service(parameters, API_KEY)
    snapshot = service.snapshot(Transport(service, pages, Ledger(), patience))
    scheme = service.scheme(snapshot)
    addresses, counts = read_all(service, pages, patience)
    rows = list(service.rows(documents(pages, addresses)))
    return rows, Provenance(scheme.source, snapshot, scheme.functional, lowest_per_id=True), counts


def taken(rows: list[dict[str, Any]], provenance: Provenance) -> Compounds:
    """Return raw rows as `compounds`."""
    return compounds(raw_frame(rows), provenance)


def read(parameters: SourceParameters, folder: Path | None = None, patience: Patience = SWIFT) -> Compounds:
    """Read a database into `compounds`."""
    rows, provenance, _ = raw_rows(parameters, folder, patience)
    return taken(rows, provenance)


def table_bytes(made: Compounds) -> bytes:
    """Return the `compounds` table as the store would write it."""
    return parquet_bytes(made.table)


def columns_of(made: Compounds, *names: str) -> dict[str, tuple[Any, ...]]:
    """Return some columns of every row, by its source_id."""
    values = zip(*(made.table.column(name).to_pylist() for name in names), strict=True)
    return dict(zip(made.table.column("source_id").to_pylist(), values, strict=True))


def usable(made: Iterable[Compound]) -> list[Compound]:
    """Return the made-up compounds of elements that we know."""
    return [one for one in made if not set(one.elements) & OUTSIDE]


def reasons(made: Compounds) -> dict[str, str]:
    """Return why rows were rejected, by their material_id."""
    return {str(row["material_id"]): str(row["reason"]) for row in made.rejected}
