"""Processes that die without a chance to tidy up, and campaigns in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil

from deployments.server import server_home
from prefect_home import prepared
from storage.store import ArtifactStore


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and everything it started, the process first, or its nannies would start new workers."""
    me = psutil.Process(process.pid)
    me.suspend()
    family = [me, *me.children(recursive=True)]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=20)
    process.communicate()
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the Dask worker processes below a process: what its nannies spawned, or its fork server forked."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if _is_worker(child):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found


def _is_worker(process: psutil.Process) -> bool:
    command = " ".join(process.cmdline())
    if "multiprocessing.spawn" in command:
        return True
    # forked, a worker has the command line of the fork server, which is its parent
    parent = process.parent()
    served = "multiprocessing.forkserver"
    return served in command and parent is not None and served in " ".join(parent.cmdline())


def start(tiny: Any, root: Path) -> subprocess.Popen[bytes]:
    """Start a campaign with a server and a cluster of its own."""
    if not server_home(root).exists():
        prepared(root)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = [
        sys.executable,
        "-m",
        "deployments.cli",
        "campaign",
        "run",
        str(tiny.campaign_file),
        "--store",
        str(root),
    ]
    return subprocess.Popen(command, env=environment, cwd=root.parent, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def finish(tiny: Any, root: Path) -> dict[str, str]:
    """Run a campaign to its end; the digest of every artifact, verified, by key."""
    process = start(tiny, root)
    output, _ = process.communicate(timeout=280)
    assert process.returncode == 0, output.decode()
    store = ArtifactStore(root)
    return {ref.key: store.verify(ref).digest for ref in store.list()}


def committed(root: Path) -> int:
    """Return how many artifacts there are."""
    return len(list(root.glob("*/manifest.json")))


def kill_when(tiny: Any, root: Path, is_time: Callable[[], bool]) -> None:
    """Start a campaign and kill it with everything it started, at once, when it is time."""
    process = start(tiny, root)
    deadline = time.monotonic() + 200
    while not is_time():
        assert process.poll() is None, process.stdout.read().decode() if process.stdout else ""
        assert time.monotonic() < deadline, "the moment to kill never came"
        time.sleep(0.005)
    kill_family(process)


def after_commits(root: Path, n: int, seed: int) -> Callable[[], bool]:
    """Say when `n` artifacts are there and a moment, drawn from the seed, has passed."""
    pause = float(np.random.default_rng(seed).uniform(0.0, 0.3))
    seen: list[float] = []

    def is_time() -> bool:
        if not seen and committed(root) >= n and (n or any(root.glob(".leases/*"))):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= pause

    return is_time


def check_killed(
    tiny: Any,
    root: Path,
    n: int,
    seed: int,
    undisturbed: dict[str, str],
    run_again: Callable[[Any, Path], dict[str, str]] = finish,
) -> None:
    """Kill a campaign after `n` artifacts, and run it again: it ends as if nothing had happened."""
    kill_when(tiny, root, after_commits(root, n, seed))
    left = committed(root)
    assert n <= left < len(undisturbed), "the run was over before it was killed"
    assert run_again(tiny, root) == undisturbed
