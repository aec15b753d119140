"""`ui`, `deploy` and `doctor`: the Prefect server, the deployments, and what this machine has."""

from __future__ import annotations

import time

import typer

from deployments.commands.run import ClusterOption, StoreOption, console
from deployments.deploy import deploy
from deployments.server import embedded_server
from storage.root import store_root

_MARKS = {"ok": "[green]✓[/]", "note": "[yellow]·[/]", "problem": "[red]✗[/]"}


def ui_command(store: StoreOption = None) -> None:
    """Run the embedded Prefect server until Ctrl-C and print the address of its UI."""
    with embedded_server(store_root(store)) as server:
        console.print(f"Prefect UI at {server.ui_url} (Ctrl-C stops it)", highlight=False, soft_wrap=True)
        while True:
            time.sleep(3600)


def deploy_command(store: StoreOption = None, dask: ClusterOption = "local") -> None:
    """Create or update the deployments: nightly ingest, weekly training, campaigns on demand."""
    root = store_root(store)
    with embedded_server(root, keep=True) as server:
        deploy(server, root, dask, lambda line: console.print(line, highlight=False, markup=False, soft_wrap=True))


def doctor_command(store: StoreOption = None) -> None:
    """Say what this machine has and lacks; exit code 1 when something will not work."""
    from deployments.doctor import examine

    findings = examine(store_root(store))
    for finding in findings:
        console.print(f"{_MARKS[finding.status]} {finding.subject:<12}", end="")
        console.print(finding.text, highlight=False, markup=False, soft_wrap=True)
    if any(finding.status == "problem" for finding in findings):
        raise typer.Exit(1)
