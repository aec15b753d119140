"""Trainings that save every epoch, and die after one."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from models.training import EpochReport, OnEpoch
from models.training_state import TrainingState
from tasks.checkpoint import Checkpoint
from tasks.progress import Progress


class Killed(Exception):
    """Stands for a process that ends in the middle of training."""


def watch_training(patch: pytest.MonkeyPatch, die_at: tuple[str, int] | None = None) -> list[tuple[str, int]]:
    """Have every epoch saved, and `Killed` raised after one; return checkpoints' names and epochs as they come."""
    epochs: list[tuple[str, int]] = []

    def watch(self: Checkpoint, progress: Progress, unit: str) -> OnEpoch:
        def on_epoch(report: EpochReport, capture: Callable[[], TrainingState]) -> None:
            epochs.append((self.path.stem, report.epoch))
            self.save(capture())
            if epochs[-1] == die_at:
                raise Killed

        return on_epoch

    patch.setattr(Checkpoint, "watch", watch)
    return epochs
