"""`report`: the page that a campaign ended with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from deployments.commands.run import StoreOption, console, payload_path
from models.errors import InputError
from storage.catalog import catalog
from storage.root import store_root
from storage.store import ArtifactStore
from storage.tables import write_whole


def report_command(
    key: Annotated[str, typer.Argument(help="Report artifact: key (prefix) or folder; default: the newest.")] = "",
    out: Annotated[Path | None, typer.Option("--out", help="HTML file to write.")] = None,
    store: StoreOption = None,
) -> None:
    """Find a campaign's report: print its path, or write it to a file."""
    held = ArtifactStore(store_root(store))
    if key:
        ref = held.resolve(key)
    else:
        rows = catalog(held, "report")
        if not rows:
            raise InputError("there is no report in the store; run `elemscreen demo` or a campaign first")
        ref = held.resolve(rows[0].key)
    if ref.kind != "report":
        raise InputError(f"{ref.key} is a '{ref.kind}' artifact; give one of kind report")
    if out is None:
        console.print(payload_path(ref, "report.html"), highlight=False, soft_wrap=True)
        return
    write_whole(out, held.read_bytes(ref, "report.html"))
    console.print(str(out), highlight=False, soft_wrap=True)
