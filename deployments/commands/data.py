"""`ingest` and `export`: tables in, tables out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.run import ClusterOption, OutOption, StoreOption, console, payload_path, run_flow
from flows.ingest import ingest
from flows.parameters import IngestParameters
from flows.run import store_root
from flows.selfbuilt import SelfbuiltFlowParameters, selfbuilt
from models.errors import InputError
from storage.store import ArtifactStore
from storage.tables import write_any, write_whole
from tasks.inputs import as_table
from tasks.parameters import SourceParameters
from tasks.selfbuilt import SelfbuiltParameters


def parse_map(pairs: list[str] | None) -> dict[str, str]:
    """Return `column=name` pairs as a mapping from the file's column to ours."""
    columns: dict[str, str] = {}
    for pair in pairs or []:
        theirs, sign, ours = pair.rpartition("=")
        if not sign or not theirs or not ours:
            raise InputError(f"--map takes COLUMN=NAME, the file's column and ours; got '{pair}'")
        columns[theirs] = ours
    return columns


def ingest_command(
    source: Annotated[str, typer.Option(help="starter, or file:PATH (CSV, JSON, JSON lines, Parquet; .gz too).")],
    columns: Annotated[list[str] | None, typer.Option("--map", help="COLUMN=NAME: the file's column and ours.")] = None,
    database: Annotated[str, typer.Option(help="Database that the rows came from.")] = "file",
    release: Annotated[str, typer.Option(help="Its release; part of the energy scheme.")] = "unstated",
    functional: Annotated[str | None, typer.Option(help="pbe, pbe+u, r2scan, mixed, chgnet, experiment.")] = None,
    corrections: Annotated[str, typer.Option(help="U values and corrections of the energies.")] = "none",
    temperature: Annotated[float | None, typer.Option(help="Temperature of measured values [K].")] = None,
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Read one source into the store; rows that cannot be used are kept under rejected/ with their reason."""
    parameters = SourceParameters(
        source=source,
        columns=parse_map(columns),
        database=database,
        release=release,
        functional=functional,
        corrections=corrections,
        temperature=temperature,
    )
    ref = run_flow(ingest, IngestParameters(source=parameters, store=store, cluster=dask))
    held = ArtifactStore.from_ref(ref)
    counts = held.manifest(ref).counts
    console.print(
        f"rows in {counts['rows_in']:,}, kept {counts['rows_kept']:,}, rejected {counts['rows_rejected']:,}",
        highlight=False,
    )
    if out:
        write_any(held.read_table(ref), str(out))
    console.print(str(out) if out else payload_path(ref, "compounds.parquet"), highlight=False, soft_wrap=True)


def starter_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for compounds.parquet, its manifest and the rejected rows.")
    ],
    max_candidates: Annotated[int | None, typer.Option(help="Only the first so many candidates, for a trial.")] = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Rebuild the starter set with a universal potential: two to four core-hours, resumable (extra `selfbuilt`)."""
    starter = SelfbuiltParameters(max_candidates=max_candidates)
    ref = run_flow(selfbuilt, SelfbuiltFlowParameters(starter=starter, store=store, cluster=dask))
    held = ArtifactStore.from_ref(ref)
    manifest = held.manifest(ref)
    for entry in manifest.payload:
        (out / entry.path).parent.mkdir(parents=True, exist_ok=True)
        write_whole(out / entry.path, held.read_bytes(ref, entry.path))
    write_whole(out / "manifest.json", manifest.to_bytes())
    counts = manifest.counts
    console.print(
        f"{counts['compounds']:,} compounds, {counts['compounds_with_tensor']:,} with an elastic tensor -> {out}"
    )


def export_command(
    table: Annotated[str, typer.Option("--in", help="File, artifact folder or key (prefix).")],
    out: Annotated[Path, typer.Option("--out", help="File to write: .parquet, .csv, .json or .jsonl.")],
    store: StoreOption = None,
) -> None:
    """Write an artifact's table as a file."""
    rows, _ = as_table(store_root(store), table)
    write_any(rows, str(out))
    console.print(f"{rows.num_rows:,} rows -> {out}", highlight=False, soft_wrap=True)
