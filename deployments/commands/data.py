"""`export` and `starter-set`: tables out."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.run import ClusterOption, StoreOption, console, run_flow
from storage.root import store_root
from storage.store import ArtifactStore
from storage.tables import write_any, write_whole


def starter_command(
    out: Annotated[
        Path, typer.Option("--out", help="Folder for compounds.parquet, its manifest and the rejected rows.")
    ],
    max_candidates: Annotated[int | None, typer.Option(help="Only the first so many candidates, for a trial.")] = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Rebuild the starter set with a universal potential: two to four core-hours, resumable (extra `selfbuilt`)."""
    from flows.selfbuilt import SelfbuiltFlowParameters, selfbuilt
    from tasks.selfbuilt import SelfbuiltParameters

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
    from tasks.inputs import as_table

    rows, _ = as_table(store_root(store), table)
    write_any(rows, str(out))
    console.print(f"{rows.num_rows:,} rows -> {out}", highlight=False, soft_wrap=True)
