"""A screen whose workers, or all of it, are killed at random moments ends with the same candidates, byte for byte.

One killed campaign is among the short tests, in `tests/flows/test_campaign.py`.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from killing import kill_family, workers
from reliability import record
from storage.store import ArtifactStore
from tasks.calibrate import calibrate
from tasks.merge import merge_candidates
from tasks.parameters import ScreenParameters
from tasks.precision import measure_precision
from tasks.screen import screen_block
from tasks.spaces import plan_blocks
from tasks.stage import reference

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

    def __init__(self, stages: Any, folder: Path) -> None:
        self.folder, self.start = folder, folder / "start"
        screening = {
            "threshold": 0.1,
            "precision": "fast",
            "precision_sample": 2000,
            "spaces": [{"elements": ["Li", "Na", "Mg", "Ca", "Al", "O", "F", "S", "Cl"], "arities": [2, 3, 4]}],
        }
        self.parameters = {
            "model": stages.network.key,
            "phases": stages.phases.key,
            "cluster": str(stages.tiny.cluster_file),
            "block_size": 900,
            "tasks_in_flight": 8,
            "screening": screening,
        }
        for kind in ("model", "phases", "features", "references"):
            for key in Path(stages.root).glob(f"{kind}-*"):
                shutil.copytree(key, self.start / key.name)
        self.undisturbed = self.direct(stages, ScreenParameters.model_validate(screening))

    def direct(self, stages: Any, screening: ScreenParameters) -> dict[str, str]:
        """Return what the stages give without Prefect and Dask: the digest of every artifact, by key."""
        root = str(self.new_store("undisturbed"))
        network, phases = (ArtifactStore(root).find(ref.key) for ref in (stages.network, stages.phases))
        precision = reference(measure_precision.fn(root, network, screening))
        parts = [
            reference(screen_block.fn(root, network, phases, precision, screening, block))
            for block in plan_blocks(screening, 900)
        ]
        calibration = reference(calibrate.fn(root, network, phases))
        merge_candidates.fn(root, parts, network, phases, precision, calibration, None, screening)
        return digests(Path(root))

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
        return digests(root)


def digests(root: Path) -> dict[str, str]:
    store = ArtifactStore(root)
    return {ref.key: store.verify(ref).digest for ref in store.list()}


def parts(root: Path) -> int:
    return len(list(root.glob("candidates_part-*/manifest.json")))


@pytest.fixture(scope="module")
def screens(stages: Any, tmp_path_factory: pytest.TempPathFactory) -> Screens:
    return Screens(stages, tmp_path_factory.mktemp("screens"))


def disturb(screens: Screens, seed: int) -> None:
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


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", range(MANY))
def test_killed_at_any_moment(screens: Screens, seed: int) -> None:
    disturb(screens, seed)
