"""Put the flows onto a Prefect server: schedules, the on-demand campaign, and the work pool that runs them."""

from __future__ import annotations

import importlib
import importlib.resources
import os
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import yaml

from deployments.server import CHILD_ENVIRONMENT, Server, ServerError

WORK_POOL = "elemscreen"


@dataclass(frozen=True)
class Deployed:
    """A deployment as the server knows it.

    Attributes
    ----------
    name
        `flow/deployment`.
    identifier
        Its id on the server.
    entrypoint
        Module path of the flow.
    schedule
        Its schedule as cron text, or None when it runs on demand.
    url
        Its page in the Prefect UI.
    """

    name: str
    identifier: str
    entrypoint: str
    schedule: str | None
    url: str


def prefect_file() -> Path:
    """Return the path of the `prefect.yaml` that comes with elemscreen."""
    return Path(str(importlib.resources.files("deployments") / "prefect.yaml"))


def worker_command(server: Server) -> str:
    """Return the shell command that starts a worker for our pool, from any folder."""
    prefect = Path(sys.executable).parent / "prefect"
    return (
        f"PREFECT_API_URL={server.api_url} PYTHONSAFEPATH=1 {shlex.quote(str(prefect))} worker start --pool {WORK_POOL}"
    )


def deploy(
    server: Server, store: str, cluster: str = "local", say: Callable[[str], object] = print, file: Path | None = None
) -> list[Deployed]:
    """Create or update the work pool and every deployment of `prefect.yaml`.

    Parameters
    ----------
    server
        Where to; Prefect's settings name it already (inside `embedded_server`).
    store
        Absolute folder or URL of the artifact store that the runs use.
    cluster
        Dask profile or scheduler address of the runs.
    say
        Shows a line to the person who deploys.
    file
        Another deployments file.

    Returns
    -------
    list of Deployed
        What the server has now, in the file's order.

    Raises
    ------
    ServerError
        Prefect refused; the message has its reason.
    """
    file = file or prefect_file()
    if ensure_work_pool():
        say(f"work pool    {WORK_POOL} (process) created")
    else:
        say(f"work pool    {WORK_POOL} (process) is there")
    _prefect_deploy(file, server, store, cluster)
    deployed = _read_back(file, server)
    for item in deployed:
        when = f"cron {item.schedule}" if item.schedule else "on demand"
        say(f"deployment   {item.name:<24}{when:<20}{item.url}")
    say(f"start a worker with\n  {worker_command(server)}")
    return deployed


def ensure_work_pool() -> bool:
    """Create the work pool of type process unless it exists; returns whether it was created."""
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
    from prefect.workers.process import ProcessWorker

    with get_client(sync_client=True) as client:
        try:
            client.read_work_pool(WORK_POOL)
        except ObjectNotFound:
            pool = WorkPoolCreate(
                name=WORK_POOL,
                type=ProcessWorker.type,
                description="elemscreen flows, each run a process on the worker's machine",
                base_job_template=ProcessWorker.get_default_base_job_template(),
            )
            try:
                client.create_work_pool(pool)
            except ObjectAlreadyExists:  # somebody else was faster
                return False
            return True
    return False


def _prefect_deploy(file: Path, server: Server, store: str, cluster: str) -> None:
    environment = (
        os.environ
        | CHILD_ENVIRONMENT
        | {
            "PREFECT_API_URL": server.api_url,
            "ELEMSCREEN_STORE": store,
            "ELEMSCREEN_CLUSTER": cluster,
            "NO_COLOR": "1",
        }
    )
    command = [sys.executable, "-m", "prefect", "--no-prompt", "deploy", "--prefect-file", str(file), "--all"]
    # an empty folder: Prefect looks for settings, git and ignore files in the current one
    with tempfile.TemporaryDirectory(prefix="elemscreen-deploy-") as folder:
        done = subprocess.run(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        lines = [line.strip(" │|") for line in (done.stdout + done.stderr).splitlines() if line.strip(" │|─╭╮╰╯")]
        raise ServerError(f"prefect could not deploy {file}: {lines[-1] if lines else 'it gave no reason'}")


def _read_back(file: Path, server: Server) -> list[Deployed]:
    from prefect.client.orchestration import get_client

    deployed = []
    with get_client(sync_client=True) as client:
        for wanted in yaml.safe_load(file.read_text())["deployments"]:
            module, _, name = wanted["entrypoint"].rpartition(".")
            flow_name = getattr(importlib.import_module(module), name).name
            found = client.read_deployment_by_name(f"{flow_name}/{wanted['name']}")
            crons = [getattr(item.schedule, "cron", None) or "interval" for item in found.schedules if item.active]
            deployed.append(
                Deployed(
                    name=f"{flow_name}/{found.name}",
                    identifier=str(found.id),
                    entrypoint=str(found.entrypoint),
                    schedule="; ".join(crons) or None,
                    url=f"{server.ui_url}/deployments/deployment/{found.id}",
                )
            )
    return deployed
