"""Folds on two workers, also when one is killed in the middle of a fold, end with the same artifacts, byte for byte."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from distributed import Client, Worker, WorkerPlugin

from flows.cross_validate import CrossValidateParameters, cross_validate
from reliability import record
from storage.store import ArtifactStore
from tasks.cross_validation import FoldRun, summarise_folds
from tasks.fold import plan_folds, run_fold
from tasks.inputs import as_rows
from tasks.stage import reference

EPOCHS = 30
#: Of every epoch, so that there is time to kill [s].
PAUSE_S = 0.05
ELEMNET = {"network": "elemnet", "architecture": {"widths": [64, 32, 1]}, "epochs": EPOCHS}
ATTENTION = {"network": "attention", "architecture": {"width": 16, "n_layers": 1, "n_heads": 2}, "epochs": 5}
FOREST = {"network": "random_forest", "architecture": {"n_estimators": 20}}


class Validation:
    """A cross-validation of the tiny chemistry, and what its stages come to one after the other without Prefect."""

    def __init__(self, tiny: Any, folder: Path, *trainings: dict[str, Any], **validation: Any) -> None:
        self.folder = folder
        common = {"preset": "small", "batch_size": 32, "threads": 1}
        self.parameters = CrossValidateParameters.model_validate(
            {
                "data": str(tiny.energies_file),
                "energies": {"source": f"file:{tiny.energies_file}", "database": "tiny", "functional": "pbe"},
                "cleaning": {"calibration_fraction": 0.2},
                "entries": [{"name": one["network"], "training": common | one} for one in trainings],
                "validation": validation,
            }
        )

    def alone(self) -> dict[str, str]:
        """Return the digest of every artifact, by key, of the stages in this process."""
        root, p = str(self.folder / "alone"), self.parameters
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        try:
            rows = as_rows(root, p.data, p.cleaning, p.energies, p.examples)
            runs = [
                FoldRun(
                    entry.name, entry.training.seed, plan.name, plan.size,
                    reference(run_fold.fn(root, rows, plan, p.validation, entry.training)),
                )
                for entry in p.entries
                for plan in plan_folds.fn(root, rows, p.validation)
            ]  # fmt: skip
            summarise_folds.fn(root, rows, runs, p.validation)
        finally:
            torch.set_num_threads(threads)
        return digests(ArtifactStore(root))

    def on(self, scheduler: str) -> ArtifactStore:
        """Run the flow on a cluster; the store that it filled."""
        root = str(self.folder / "flow")
        cross_validate(self.parameters.model_copy(update={"store": root, "cluster": scheduler}))
        return ArtifactStore(root)


def digests(store: ArtifactStore) -> dict[str, str]:
    return {ref.key: store.verify(ref).digest for ref in store.list()}


class Trained(NamedTuple):
    """An epoch whose state is safe on the disk."""

    key: str
    pid: int
    epoch: int


class Diary:
    """What the workers of a cluster have trained: they keep a checkpoint of every epoch, and note it."""

    def __init__(self, path: Path, scheduler: str) -> None:
        self.path = path
        path.touch()
        with Client(scheduler, set_as_default=False) as client:
            client.register_plugin(keeping(path))

    def epochs(self) -> list[Trained]:
        lines = self.path.read_text().splitlines()
        return [Trained(key, int(pid), int(epoch)) for key, pid, epoch in map(str.split, lines)]

    def kill_after(self, n_epochs: int, pause_s: float) -> Trained:
        """Kill the worker that trains the n-th epoch, or the next one in the first half of a fold; that epoch."""
        deadline = time.monotonic() + 200
        while not (early := [one for one in self.epochs()[n_epochs - 1 :] if one.epoch <= EPOCHS // 2]):
            assert time.monotonic() < deadline, "the moment to kill never came"
            time.sleep(0.002)
        time.sleep(pause_s)
        os.kill(early[0].pid, signal.SIGKILL)
        return early[0]


def keeping(diary: Path) -> WorkerPlugin:
    """Return what makes workers keep a diary, those too that start later. A local class travels by value."""

    class Keeping(WorkerPlugin):
        name = "keeping"

        def setup(self, worker: Worker) -> None:
            from tasks import checkpoint

            save = checkpoint.Checkpoint.save

            def save_and_note(self: checkpoint.Checkpoint, state: Any) -> None:
                save(self, state)
                with diary.open("a") as file:
                    file.write(f"{self.path.parent.name} {os.getpid()} {state.meta['epoch']}\n")
                time.sleep(PAUSE_S)

            checkpoint.INTERVAL_S = 0.0
            checkpoint.Checkpoint.save = save_and_note  # type: ignore[method-assign]

    return Keeping()


@pytest.fixture
def own_scheduler(prefect_server: object, tiny: Any) -> Iterator[str]:
    """Address of a cluster with two workers of a test's own, which it may kill."""
    from tasks.cluster import open_cluster

    with open_cluster(str(tiny.cluster_file)) as runner:
        yield runner.address


def killed_in_the_middle(validation: Validation, scheduler: str, n_epochs: int, pause_s: float) -> tuple[int, int]:
    """Kill a worker after so many epochs of all folds; the epochs its fold had done, and those done afterwards."""
    undisturbed = validation.alone()
    diary = Diary(validation.folder / "diary", scheduler)
    with ThreadPoolExecutor(1) as pool:
        killing = pool.submit(diary.kill_after, n_epochs, pause_s)
        store = validation.on(scheduler)
        killed = killing.result()
    assert digests(store) == undisturbed
    assert not any(store.scratch_root.glob("*/*")), "checkpoints go when their fold is there"
    epochs: dict[str, list[Trained]] = {}
    for trained in diary.epochs():
        epochs.setdefault(trained.key, []).append(trained)
    assert set(epochs) == {ref.key for ref in store.list("fold")}
    before = [one.epoch for one in epochs[killed.key] if one.pid == killed.pid]
    after = [one.epoch for one in epochs.pop(killed.key) if one.pid != killed.pid]
    assert 0 < len(before) < EPOCHS, "the fold was over before its worker was killed"
    # an epoch may be on the disk that was not noted any more
    assert after[0] - before[-1] in (1, 2)
    assert before == list(range(1, len(before) + 1))
    assert after == list(range(after[0], EPOCHS + 1))
    for others in epochs.values():
        assert [one.epoch for one in others] == list(range(1, EPOCHS + 1))
    return len(before), len(after)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_four_folds_on_two_workers(scheduler: str, tiny: Any, tmp_path: Path) -> None:
    validation = Validation(tiny, tmp_path, ELEMNET, ATTENTION, FOREST, folds=4)
    store = validation.on(scheduler)
    assert digests(store) == validation.alone()
    folds = store.list("fold")
    assert len(folds) == 12
    workers = {store.run_record(ref)["pid"] for ref in folds}
    assert len(workers) == 2
    assert os.getpid() not in workers


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(6))
def test_killed_in_the_middle_of_any_of_four_folds(own_scheduler: str, tiny: Any, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    validation = Validation(tiny, tmp_path, ELEMNET, folds=4)
    n_epochs, pause_s = chance.randrange(1, 3 * EPOCHS), chance.uniform(0.0, 2 * PAUSE_S)
    before, after = killed_in_the_middle(validation, own_scheduler, n_epochs, pause_s)
    record("fold killed", seed=seed, epochs=EPOCHS, before=before, after=after)


@pytest.mark.timeout(600)
def test_killed_in_the_middle_of_a_fold(own_scheduler: str, tiny: Any, tmp_path: Path) -> None:
    """Of the only one: the validation rows, once."""
    killed_in_the_middle(Validation(tiny, tmp_path, ELEMNET, scheme="split"), own_scheduler, EPOCHS // 3, 0.0)
