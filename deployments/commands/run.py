"""How commands run flows and end: one line for a user's error, a table of results for a success."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table
from rich.text import Text

from storage.artifact import ArtifactRef
from storage.backends import storage_failure
from storage.errors import StoreError
from storage.reserve import give_back, is_full, keep_reserve
from storage.root import store_root
from storage.store import ArtifactStore
from storage.tables import write_any

if TYPE_CHECKING:  # commands that run no flow start at once: what others need is imported where it is used
    from tasks.tables import AddedColumns

console = Console(stderr=False)
errors = Console(stderr=True)

P = TypeVar("P")

StoreOption = Annotated[
    str | None,
    typer.Option("--store", help="Artifact store: folder or URL. Default: $ELEMSCREEN_STORE or ./elemscreen-store."),
]
ClusterOption = Annotated[
    str, typer.Option("--dask", help="Dask profile (name or YAML file), or tcp://HOST:PORT of a scheduler.")
]
ColumnsOption = Annotated[list[str] | None, typer.Option("--map", help="COLUMN=NAME: the column of the file and ours.")]
OutOption = Annotated[
    Path | None, typer.Option("--out", help="Parquet, CSV or JSON file to write; default: only the artifact.")
]
MixedOption = Annotated[
    bool, typer.Option("--allow-mixed-scheme", help="Go on although the energies are of different schemes.")
]


def print_table(table: Table, columns: int) -> None:
    """Print a table; where no terminal shows it, at least so many columns wide, so that names and keys are whole."""
    if console.is_terminal:
        console.print(table)
    else:  # rich cuts everything to the width of its console
        Console(width=max(console.width, columns), file=console.file).print(table)


def say_error(text: str) -> None:
    """Print one line about what went wrong to the error stream; nothing in it is markup."""
    errors.print(Text.assemble(("elemscreen: ", "red"), " ".join(text.split())), soft_wrap=True, highlight=False)


def explain_validation(error: ValidationError) -> str:
    """Return a pydantic error as one line that names each field and what is wrong with it."""
    parts = []
    for item in error.errors():
        where = ".".join(str(part) for part in item["loc"]) or error.title
        parts.append(f"{where}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(parts)


def run_flow(flow: Callable[[Any], P], parameters: Any) -> P:
    """Run a flow on this machine's Prefect server, showing its progress."""
    from deployments.display import flow_display
    from deployments.server import embedded_server

    root = store_root(parameters.store)
    with embedded_server(root), flow_display(console), room_for_errors(root):
        return flow(parameters.model_copy(update={"store": root}))


@contextmanager
def room_for_errors(root: str) -> Iterator[None]:
    """Keep a little room on the store's disk, and let a full disk be the error that is told, whatever broke first."""
    if "://" in root:
        yield
        return
    folder = Path(root)
    folder.mkdir(parents=True, exist_ok=True)
    keep_reserve(folder)
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        if is_full(folder):
            raise StoreError(storage_failure(OSError(errno.ENOSPC, "full"), root)) from error
        raise
    finally:
        give_back(folder)


def payload_path(ref: ArtifactRef, name: str) -> str:
    """Return where a payload file of an artifact lies."""
    return f"{ref.uri}/{ArtifactStore.from_ref(ref).manifest(ref).attempt}/{name}"


def write_rows(root: str, rows: AddedColumns, out: Path | None) -> None:
    """Write the rows of a command to a file, or as an artifact when no file was named; print where."""
    from tasks.tables import store_rows

    if "reason" in rows.table.column_names:
        reasons = rows.table.column("reason").drop_null()
        text = (
            f"{len(reasons):,} of {rows.table.num_rows:,} rows cannot be used, see their column 'reason'; the first: "
        )
        console.print("[yellow]note:[/]", text + str(reasons[0]), highlight=False, markup=True, soft_wrap=True)
    if out is not None:
        write_any(rows.table, out)
    path = str(out) if out is not None else payload_path(store_rows(root, rows), "table.parquet")
    console.print(path, highlight=False, soft_wrap=True)
