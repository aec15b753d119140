"""`artifacts`: what the store holds, where it came from, and keeping house."""

from __future__ import annotations

import datetime as dt
import json
from typing import Annotated

import typer
from rich.table import Table

from deployments.commands.run import StoreOption, console, print_table
from models.errors import InputError
from storage import catalog
from storage.garbage import gc
from storage.root import store_root
from storage.store import ArtifactStore

artifacts_app = typer.Typer(no_args_is_help=True, help="The artifact store: list, show, verify, explain, clean up.")

_LOG_WIDTH = 120
"""Columns of a listing that no terminal shows."""

KeyArgument = Annotated[str, typer.Argument(help="Key, its beginning, or an artifact folder.")]


def _size(n: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if n < 1000:
            return f"{n:.0f} {unit}" if unit == "B" else f"{n:.1f} {unit}"
        n /= 1000
    return f"{n:.1f} TB"


@artifacts_app.command("ls")
def ls(
    kind: Annotated[str | None, typer.Option(help="Only this kind: phases, model, candidates, ...")] = None,
    store: StoreOption = None,
) -> None:
    """List the artifacts, newest first."""
    rows = catalog.catalog(ArtifactStore(store_root(store)), kind)
    table = Table(box=None)
    table.add_column("key", no_wrap=True)  # half a key is of no use
    for name in ("stage", "created (UTC)"):
        table.add_column(name)
    table.add_column("rows", justify="right")
    table.add_column("size", justify="right")
    for row in rows:
        created = row.created.strftime("%Y-%m-%d %H:%M:%S") if row.created else ""
        count = "" if row.rows is None else f"{row.rows:,}"
        table.add_row(row.key, row.stage, created, count, _size(row.bytes))
    if not rows:
        console.print("the store is empty; `elemscreen demo` fills it")
    else:
        print_table(table, _LOG_WIDTH)


@artifacts_app.command("show")
def show(key: KeyArgument, store: StoreOption = None) -> None:
    """Print an artifact's manifest, its last run and its files, as JSON."""
    console.print_json(json.dumps(catalog.show(ArtifactStore(store_root(store)), key), default=str))


@artifacts_app.command("lineage")
def lineage(key: KeyArgument, store: StoreOption = None) -> None:
    """Print what an artifact was made from, back to its sources."""
    held = ArtifactStore(store_root(store))
    for entry in catalog.lineage(held, held.resolve(key)):
        role = f"{entry.role}: " if entry.role else ""
        gone = "" if entry.present else "  (not in the store)"
        console.print(f"{'  ' * entry.depth}{role}{entry.key}{gone}", highlight=False, soft_wrap=True)


@artifacts_app.command("verify")
def verify(
    keys: Annotated[list[str] | None, typer.Argument(help="Keys; default: everything.")] = None,
    store: StoreOption = None,
) -> None:
    """Read every payload file and compare it with its manifest; exit code 1 when one is damaged."""
    results = catalog.verify(ArtifactStore(store_root(store)), keys)
    damaged = [result for result in results if result.problem is not None]
    for result in damaged:
        console.print(f"[red]damaged[/] {result.key}: {result.problem}", highlight=False, soft_wrap=True)
    console.print(f"{len(results) - len(damaged)} whole, {len(damaged)} damaged", highlight=False)
    if damaged:
        raise typer.Exit(1)


@artifacts_app.command("why")
def why(
    key: KeyArgument,
    other: Annotated[
        str | None, typer.Argument(help="Artifact to compare with; default: the nearest of its kind.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Explain why an artifact was computed anew: what differs from the nearest one of its kind."""
    for line in catalog.why(ArtifactStore(store_root(store)), key, other):
        console.print(line, highlight=False, soft_wrap=True)


@artifacts_app.command("gc")
def collect(
    older_than: Annotated[float | None, typer.Option(help="Also remove artifacts older than this many days.")] = None,
    keep: Annotated[list[str] | None, typer.Option(help="Keys, beginnings of keys, or kinds that stay.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell what would go.")] = False,
    store: StoreOption = None,
) -> None:
    """Remove what interrupted runs left behind and, when asked for, old artifacts."""
    if older_than is not None and older_than < 0:
        raise InputError("--older-than takes a number of days of at least 0")
    age = None if older_than is None else dt.timedelta(days=older_than)
    removed = gc(ArtifactStore(store_root(store)), older_than=age, keep=keep or (), dry_run=dry_run)
    for item in removed:
        console.print(f"{item.path}: {item.reason}", highlight=False, soft_wrap=True)
    verb = "would be removed" if dry_run else "removed"
    console.print(f"{len(removed)} {verb}, {_size(sum(item.bytes for item in removed))}", highlight=False)
