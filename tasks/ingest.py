"""Ingest: a source -> `compounds`, with every row that cannot be used kept under `rejected/`."""

from __future__ import annotations

import json
import logging
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from models.errors import InputError
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.pages import PageFolder
from storage.scheme import EnergyScheme
from storage.store import ArtifactStore, ArtifactWriter
from storage.tables import write_whole
from tasks.compounds import Compounds, Provenance, compounds, raw_frame
from tasks.gate import service_gate
from tasks.parameters import SourceParameters
from tasks.progress import Progress
from tasks.secrets import api_key
from tasks.sources.catalog import open_service
from tasks.sources.file import fingerprint, read
from tasks.sources.ledger import Ledger
from tasks.sources.mp import MaterialsProject
from tasks.sources.mp_collection import read_collection
from tasks.sources.service import Service, documents, read_all
from tasks.sources.starter import read_starter, starter_manifest
from tasks.sources.transport import Patience, Transport
from tasks.stage import build, stage

logger = logging.getLogger(__name__)

#: 2: rows that repeat others are merged; licence and reference are kept.
STAGE_VERSION = 2

#: an ingest that was cut off is gone on with for so long; after that its pages are of another database
_RESUMED_DAYS = 7
_NOTE = "ingest.json"


@stage("ingest")
def ingest(root: str, parameters: SourceParameters, day: str | None = None) -> ArtifactRef:
    """Read one source into the store.

    Parameters
    ----------
    root
        The store's folder or URL.
    parameters
        The source.
    day
        The day that a database without versions is read as of, where the parameters name none; by default that of an
        ingest that was cut off, else today.

    Notes
    -----
    The key holds the state of the source (a file's SHA-256, a database's version or the day), not its place: the same
    bytes under another path are the same artifact. A database is read page by page; a run that was cut off goes on
    after the last page that it has.
    """
    if parameters.is_service:
        return _ingest_service(ArtifactStore(root), parameters, day)
    request = file_request(parameters)
    return build(root, request, lambda writer: _write_file(writer, parameters))


# Files and the starter set


def file_request(parameters: SourceParameters) -> ArtifactRequest:
    """Return what the `compounds` artifact of a file or of the starter set is made from."""
    if parameters.source == "starter":
        manifest = starter_manifest()
        scheme = EnergyScheme(**manifest["energy_scheme"])
        description: dict[str, Any] = {"source": "starter", "snapshot": manifest["digest"]}
    else:
        path = parameters.source.removeprefix("file:")
        scheme = EnergyScheme(
            source=parameters.database,
            release=parameters.release,
            functional=parameters.functional or "unstated",
            corrections=parameters.corrections,
        )
        description = parameters.model_dump(exclude={"source", "query", "service", "identities"}) | {
            "source": "file",
            "file": Path(path).name,
            "snapshot": fingerprint(path),
        }
        if parameters.identities:
            description["identities"] = fingerprint(parameters.identities)
    return ArtifactRequest("compounds", "tasks.ingest", STAGE_VERSION, description, {}, energy_scheme=scheme)


def _write_file(writer: ArtifactWriter, parameters: SourceParameters) -> None:
    if parameters.source == "starter":
        table = read_starter()
        _write(writer, parameters.source, table.num_rows, Compounds(table, [], 0))
        return
    frame = read(parameters.source.removeprefix("file:"), parameters.columns, parameters.identities)
    check_further(frame, parameters)
    provenance = Provenance(parameters.database, parameters.release, parameters.functional, parameters.temperature)
    _write(writer, parameters.source, len(frame), compounds(frame, provenance, parameters.further))


def check_further(frame: pd.DataFrame, parameters: SourceParameters) -> None:
    """Refuse columns to keep that a file does not have."""
    for name in parameters.further:
        if name not in frame.columns:
            raise InputError(f"{parameters.source} has no column '{name}'; it has {', '.join(map(str, frame.columns))}")


def _write(writer: ArtifactWriter, source: str, n_rows: int, made: Compounds) -> None:
    """Write the rows, those that cannot be used, and the counts that account for every row."""
    writer.count("rows_in", n_rows)
    writer.count("rows_kept", made.table.num_rows)
    writer.count("rows_rejected", len(made.rejected))
    writer.count("rows_merged", made.n_merged)
    if made.table.num_rows == 0:
        reasons = "; ".join(sorted({row["reason"] for row in made.rejected})[:3])
        raise InputError(f"no usable row in {source}: {reasons or 'the table is empty'}")
    writer.write_table("compounds", made.table, "compounds")
    if made.further is not None:
        writer.write_table("further_columns", made.further, "further_columns")
    if made.rejected:
        writer.reject(made.rejected)


# Databases


def _ingest_service(store: ArtifactStore, parameters: SourceParameters, day: str | None) -> ArtifactRef:
    if parameters.query.as_of is None:
        query = parameters.query.model_copy(
            update={"as_of": day or unfinished_day(store, parameters) or parameters.query.day}
        )
        parameters = parameters.model_copy(update={"query": query})
    service = open_service(parameters, api_key(parameters))
    patience = _patience(parameters)
    idle = Transport(service, PageFolder(store.scratch_root / "heartbeats"), Ledger(), patience)
    snapshot = service.snapshot(idle)
    request = service_request(parameters, service, snapshot)
    scheme = service.scheme(snapshot)

    def write(writer: ArtifactWriter) -> None:
        cache = parameters.service.cache
        if isinstance(service, MaterialsProject) and cache is not None and parameters.query.whole:
            frame = raw_frame(read_collection(service, idle, cache, snapshot))
        else:
            frame = _paged_rows(writer, service, store.scratch(request.key), parameters, patience)
        provenance = Provenance(scheme.source, snapshot, scheme.functional, lowest_per_id=True)
        _write(writer, service.name, len(frame), compounds(frame, provenance))

    return build(store.root, request, write)


def service_request(parameters: SourceParameters, service: Service, snapshot: str) -> ArtifactRequest:
    """Return what the `compounds` artifact of a database's snapshot is made from."""
    description = _description(parameters) | {"snapshot": snapshot}
    return ArtifactRequest(
        "compounds", "tasks.ingest", STAGE_VERSION, description, {}, energy_scheme=service.scheme(snapshot)
    )


def _description(parameters: SourceParameters) -> dict[str, Any]:
    """Return what is asked of a database, whatever its state."""
    return {
        "source": parameters.source,
        "columns": parameters.columns,
        "query": parameters.query.model_dump(mode="json", exclude={"page_size", "as_of"}),
        "endpoint": parameters.service.endpoint,
    }


def unfinished_day(store: ArtifactStore, parameters: SourceParameters) -> str | None:
    """Return the day of an ingest of the same source that was cut off less than a week ago, if there is one."""
    wanted, oldest = _description(parameters), date.today() - timedelta(days=_RESUMED_DAYS)
    days = []
    for note in store.scratch_root.glob(f"*/{_NOTE}"):
        told = json.loads(note.read_bytes())
        if told["description"] == wanted and told["day"] is not None and date.fromisoformat(told["day"]) >= oldest:
            days.append(told["day"])
    if not days:
        return None
    logger.warning("going on with the ingest of %s as of %s; --as-of starts another", parameters.source, max(days))
    return str(max(days))


def _patience(parameters: SourceParameters) -> Patience:
    settings = parameters.service
    return Patience(
        attempts=settings.attempts,
        first_pause_s=settings.first_pause_s,
        longest_pause_s=settings.longest_pause_s,
        connect_timeout_s=min(10.0, settings.read_timeout_s),
        read_timeout_s=settings.read_timeout_s,
    )


def _paged_rows(
    writer: ArtifactWriter, service: Service, scratch: Path, parameters: SourceParameters, patience: Patience
) -> pd.DataFrame:
    """Read all pages, those of an earlier run from its checkpoint."""
    pages = PageFolder(scratch / "pages")
    note = {"description": _description(parameters), "day": parameters.query.as_of}
    write_whole(scratch / _NOTE, json.dumps(note).encode())
    progress = Progress(f"reading {service.name}", 1)

    def on_page(done: int, total: int) -> None:
        progress.total = max(total, 1)
        progress.update(done)

    gate = service_gate(
        service.name,
        parameters.service.requests_per_second or service.requests_per_second,
        parameters.service.concurrency or service.concurrency,
    )
    addresses, counts = read_all(service, pages, patience, gate, on_page)
    writer.note("requests", counts)
    return raw_frame(service.rows(documents(pages, addresses)))
