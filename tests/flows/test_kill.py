"""A campaign that is killed with SIGKILL, server and workers too, and run again ends with the same artifacts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from killing import kill_family
from storage.store import ArtifactStore

#: Commits after which the run is killed: one kill in every stretch of the campaign, from the first ingest on.
ALL_STAGES = (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 18, 19, 20, 21)


def start(tiny: Any, root: Path) -> subprocess.Popen[bytes]:
    """Start a campaign with a server and a cluster of its own."""
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


@pytest.fixture(scope="module")
def undisturbed(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a campaign ends with when nobody disturbs it."""
    return finish(tiny, tmp_path_factory.mktemp("undisturbed") / "store")


def after_commits(root: Path, n: int, seed: int) -> Callable[[], bool]:
    """Say when `n` artifacts are there and a moment, drawn from the seed, has passed."""
    pause = float(np.random.default_rng(seed).uniform(0.0, 0.3))
    seen: list[float] = []

    def is_time() -> bool:
        if not seen and committed(root) >= n and (n or any(root.glob(".leases/*"))):
            seen.append(time.monotonic())
        return bool(seen) and time.monotonic() - seen[0] >= pause

    return is_time


def check(tiny: Any, root: Path, n: int, seed: int, undisturbed: dict[str, str]) -> None:
    kill_when(tiny, root, after_commits(root, n, seed))
    left = committed(root)
    assert n <= left < len(undisturbed), "the run was over before it was killed"
    assert finish(tiny, root) == undisturbed


@pytest.mark.timeout(600)
def test_killed_in_the_middle(tiny: Any, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """While the network trains or the space is screened."""
    check(tiny, tmp_path / "store", 8, 1, undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_killed_while_it_recovers(tiny: Any, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """Killed early, and once more near the end of the run that goes on."""
    root = tmp_path / "store"
    kill_when(tiny, root, after_commits(root, 5, seed=1))
    assert 5 <= committed(root) < len(undisturbed)
    check(tiny, root, len(undisturbed) - 3, 2, undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("n", ALL_STAGES)
def test_killed_at_every_stage(tiny: Any, tmp_path: Path, undisturbed: dict[str, str], n: int) -> None:
    check(tiny, tmp_path / "store", n, n, undisturbed)
