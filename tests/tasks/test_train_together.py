"""An ensemble trained in one batched pass, as on a GPU: the artifact that its members trained one by one make."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.training import EpochReport
from models.training_parameters import TrainingParameters
from models.training_state import TrainingState
from models.training_together import train_together
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks import checkpoint, learning
from tasks.checkpoint import Checkpoint, Interval
from tasks.device import DEVICE
from tasks.learning import trains_together
from tasks.progress import Progress
from tasks.train import train_network
from tasks.train_parameters import TrainParameters
from training_watch import Killed, watch_training

SMALL = TrainParameters(
    preset="small",
    epochs=3,
    batch_size=32,
    threads=1,
    architecture={"widths": [32, 16, 1]},
    settings={"precision": "fp32"},
)
ENSEMBLE = SMALL.model_copy(update={"members": 3})
ELEMNET = {"name": "elemnet", "parameters": {"n_features": 86}}


@pytest.fixture
def in_one_pass(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Train as if there were a GPU, on the processor; returns what the trainer was called with."""
    calls: list[dict[str, Any]] = []

    def watched(*arguments: Any, **options: Any) -> Any:
        calls.append({"seeds": [one.seed for one in arguments[4]], **options})
        return train_together(*arguments, **options)

    monkeypatch.setattr(learning, "trains_together", lambda *arguments: True)
    monkeypatch.setattr(learning, "train_together", watched)
    return calls


def test_ensembles_are_trained_together_on_gpus_only(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = TrainingParameters()
    monkeypatch.delenv(DEVICE, raising=False)
    assert not trains_together(ELEMNET, settings, 3)
    monkeypatch.setenv(DEVICE, "cuda")
    assert trains_together(ELEMNET, settings, 3)
    assert not trains_together(ELEMNET, settings, 1)
    assert not trains_together(ELEMNET, TrainingParameters(patience=2), 3)
    assert not trains_together({"name": "attention"}, settings, 3)


def test_members_are_those_that_are_trained_one_by_one(
    stages: Any, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    alone = stages.run(train_network, stages.features, ENSEMBLE)
    calls = request.getfixturevalue("in_one_pass")
    joint = train_network.fn(str(tmp_path / "store"), stages.features, ENSEMBLE)
    assert [(call["seeds"], call["device"]) for call in calls] == [([0, 1, 2], "cpu")]
    assert joint.key == alone.key
    (card, members), (expected, singles) = read_model(joint), read_model(alone)
    assert card.n_members == len(members) == 3
    assert card.normalisation == expected.normalisation
    for member, single in zip(members, singles, strict=True):
        assert member.keys() == single.keys()
        for name, array in single.items():
            np.testing.assert_allclose(member[name], array, rtol=1e-5, atol=1e-5 * np.abs(array).max(), err_msg=name)
    for split, measured in expected.metrics.items():
        assert card.metrics[split]["mae"] == pytest.approx(measured["mae"], rel=1e-5)
    stores = (ArtifactStore(tmp_path / "store"), joint), (stages.store, alone)
    curves = [store.read_table(ref, "learning_curve").to_pandas() for store, ref in stores]
    assert curves[0]["member"].tolist() == curves[1]["member"].tolist() == [0] * 3 + [1] * 3 + [2] * 3
    np.testing.assert_allclose(curves[0]["validation_mae"], curves[1]["validation_mae"], rtol=1e-5)


def test_a_training_from_another_model_goes_member_by_member(
    stages: Any, tmp_path: Path, in_one_pass: list[dict[str, Any]]
) -> None:
    root = str(tmp_path / "store")
    first = train_network.fn(root, stages.features, SMALL)
    in_one_pass.clear()
    train_network.fn(root, stages.features, ENSEMBLE.model_copy(update={"epochs": 1}), first)
    assert in_one_pass == []


@pytest.mark.parametrize("die_at", [("member-002", 1), ("member-000", 2)])
def test_a_killed_training_goes_on(
    stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_one_pass: list[Any], die_at: tuple[str, int]
) -> None:
    """Killed after all members were saved, it ends with the same bytes; else those that lack an epoch catch up."""
    whole = train_network.fn(str(tmp_path / "whole"), stages.features, ENSEMBLE)
    done = watch_training(monkeypatch, die_at)
    root = str(tmp_path / "killed")
    with pytest.raises(Killed):
        train_network.fn(root, stages.features, ENSEMBLE)
    epochs = watch_training(monkeypatch)
    resumed = train_network.fn(root, stages.features, ENSEMBLE)
    every = [(f"member-{member:03d}", epoch) for epoch in (1, 2, 3) for member in range(3)]
    assert done + epochs == every if die_at[1] == 1 else sorted(done + epochs) == sorted(every)
    if die_at[1] == 1:
        assert resumed.digest == whole.digest
    for member, expected in zip(read_model(resumed)[1], read_model(whole)[1], strict=True):
        for name, array in expected.items():
            np.testing.assert_allclose(member[name], array, rtol=1e-5, atol=1e-5 * np.abs(array).max(), err_msg=name)


def test_members_are_saved_after_the_same_epochs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even where the time to save comes while the first member is being saved."""
    clock = [0.0]
    monkeypatch.setattr(checkpoint.time, "monotonic", lambda: clock[0])
    interval = Interval()
    checkpoints = [Checkpoint(tmp_path, f"member-{number:03d}", interval) for number in range(2)]
    saved: list[tuple[int, int]] = []

    def epoch(number: int, is_last: bool = False) -> None:
        for one in checkpoints:
            report = EpochReport(number, 9, 1e-3, 0.1, None, clock[0], is_last)
            watch = one.watch(Progress("train", 9), "eV/atom")
            watch(report, lambda: TrainingState({}, {}))
            clock[0] += 1.0  # what a save takes

    monkeypatch.setattr(Checkpoint, "save", lambda self, state: saved.append((int(self.path.stem[-3:]), int(clock[0]))))
    clock[0] = checkpoint.INTERVAL_S - 0.5
    epoch(1)
    assert saved == []  # due for the second member by its time, but not for the first
    epoch(2)
    assert [member for member, _ in saved] == [0, 1]
    epoch(3)
    assert len(saved) == 2
    epoch(4, is_last=True)
    assert [member for member, _ in saved] == [0, 1, 0, 1]
