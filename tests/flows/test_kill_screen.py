"""A screen whose workers, or all of it, are killed at random moments ends with the same candidates, byte for byte."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from killing import kill_family, workers
from reliability import record
from storage.store import ArtifactStore

SCREEN = """
import sys
from deployments.commands.run import run_flow
from flows.parameters import ScreenFlowParameters
from flows.screen import screen

parameters = ScreenFlowParameters.model_validate_json(sys.argv[1])
print(run_flow(screen, parameters).key)
"""
#: Kills of the long proof; every other one takes the whole run, the others one worker.
MANY = 25


class Screens:
    """Screens of one small space, 40 blocks, from a store that holds nothing but what they start from."""

    def __init__(self, tiny: Any, folder: Path, start: Path, model: str) -> None:
        self.folder, self.start = folder, start
        self.parameters = {
            "model": model,
            "phases": str(tiny.energies_file),
            "cluster": str(tiny.cluster_file),
            "block_size": 900,
            "tasks_in_flight": 8,
            "screening": {
                "threshold": 0.1,
                "precision": "fast",
                "precision_sample": 2000,
                "spaces": [{"elements": ["Li", "Na", "Mg", "Ca", "Al", "O", "F", "S", "Cl"], "arities": [2, 3, 4]}],
            },
        }
        began = time.monotonic()
        self.undisturbed = self.finish(self.begin(self.new_store("undisturbed")))
        self.seconds = time.monotonic() - began

    def new_store(self, name: str) -> Path:
        root = self.folder / name
        shutil.copytree(self.start, root)
        return root

    def begin(self, root: Path) -> tuple[subprocess.Popen[bytes], Path]:
        environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
        text = json.dumps(self.parameters | {"store": str(root)})
        process = subprocess.Popen(
            [sys.executable, "-c", SCREEN, text], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        return process, root

    def finish(self, running: tuple[subprocess.Popen[bytes], Path]) -> dict[str, str]:
        """Wait for the end; the digest of every artifact, verified, by key."""
        process, root = running
        output, _ = process.communicate(timeout=280)
        assert process.returncode == 0, output.decode()
        store = ArtifactStore(root)
        return {ref.key: store.verify(ref).digest for ref in store.list()}


def parts(root: Path) -> int:
    return len(list(root.glob("candidates_part-*/manifest.json")))


@pytest.fixture(scope="module")
def screens(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screens]:
    folder = tmp_path_factory.mktemp("screens")
    start = folder / "start"
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    train = ["train", "--data", str(tiny.energies_file), "--preset", "small", "--epochs", "5", "--store", str(start)]
    command = [sys.executable, "-m", "deployments.cli", *train, "--dask", str(tiny.cluster_file)]
    subprocess.run(command, env=environment, check=True, capture_output=True, timeout=280)
    store = ArtifactStore(start)
    (model,) = [ref.key for ref in store.list() if store.manifest(ref).stage == "tasks.train"]
    for other in start.iterdir():
        if other.name != model:
            shutil.rmtree(other) if other.is_dir() else other.unlink()
    yield Screens(tiny, folder, start, model)


def disturb(screens: Screens, tmp_path: Path, seed: int) -> None:
    """Kill a worker, or everything, after a random number of parts and a random pause; then see it end."""
    chance = random.Random(seed)
    n_parts = len([key for key in screens.undisturbed if key.startswith("candidates_part")])
    root = screens.new_store(f"seed-{seed}")
    running = screens.begin(root)
    process = running[0]
    wanted, pause = chance.randrange(n_parts - 4), chance.uniform(0.0, 0.3)
    while parts(root) < wanted or not workers(process):
        assert process.poll() is None, process.stdout.read().decode() if process.stdout else ""
        time.sleep(0.005)
    time.sleep(pause)
    done = parts(root)
    whole = seed % 2 == 0
    if whole:
        kill_family(process)
        running = screens.begin(root)
    else:
        for victim in chance.sample(workers(process), 1):
            victim.kill()
            psutil.wait_procs([victim], timeout=20)
    assert screens.finish(running) == screens.undisturbed
    record("screen killed", what="whole run" if whole else "worker", seed=seed, parts_done=done, parts=n_parts)
    shutil.rmtree(root)


@pytest.mark.timeout(600)
def test_a_killed_worker_is_made_up_for(screens: Screens, tmp_path: Path) -> None:
    disturb(screens, tmp_path, 1)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(MANY))
def test_killed_at_any_moment(screens: Screens, tmp_path: Path, seed: int) -> None:
    disturb(screens, tmp_path, seed)
