"""A training run under way: its checkpoints, its progress, its learning curve.

Checkpoints are arrays and a small dictionary, in the store's scratch folder of the key being built.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from models.training import EpochReport, OnEpoch
from models.training_state import TrainingState
from tasks.progress import Progress

logger = logging.getLogger(__name__)

#: Seconds between two checkpoints, where nobody said otherwise. They are saved at the ends of epochs, so what a kill
#: costs at most is that and one epoch.
INTERVAL_S = 20.0

#: Of a learning curve; mean absolute errors of energies and the like, shares of wrong ones of classes.
_ERRORS = ("train_mae", "validation_mae", "train_error_rate", "validation_error_rate")


class Interval:
    """When to save, decided once per epoch.

    Members that are trained together share one, so that their checkpoints are of the same epoch.

    Parameters
    ----------
    seconds
        Time between two checkpoints; None for `INTERVAL_S`.
    """

    def __init__(self, seconds: float | None = None) -> None:
        self.seconds = INTERVAL_S if seconds is None else seconds
        self._last = time.monotonic()
        self._epoch, self._is_due = 0, False

    def is_due(self, epoch: int) -> bool:
        """Return whether to save after an epoch; the first to ask decides for all."""
        if epoch != self._epoch:
            now = time.monotonic()
            self._epoch, self._is_due = epoch, now - self._last >= self.seconds
            if self._is_due:
                self._last = now
        return self._is_due


class Checkpoint:
    """One file that holds the latest state of one training run.

    Parameters
    ----------
    folder
        The key's scratch folder.
    name
        Name of the run, such as ``member-000``.
    interval
        When to save; its own by default.
    """

    def __init__(self, folder: Path, name: str, interval: Interval | None = None) -> None:
        self.path = folder / f"{name}.safetensors"
        self._interval = interval or Interval()

    def load(self) -> TrainingState | None:
        """Return the state of the latest checkpoint; None where there is none that can be read."""
        if not self.path.is_file():
            return None
        try:
            with safe_open(str(self.path), framework="numpy") as file:
                meta = json.loads(file.metadata()["meta"])
                return TrainingState({name: file.get_tensor(name) for name in file.keys()}, meta)  # noqa: SIM118
        except (SafetensorError, ValueError, KeyError, TypeError) as error:
            logger.warning("the checkpoint %s cannot be read (%s); training starts from scratch", self.path, error)
            return None

    def save(self, state: TrainingState) -> None:
        """Replace the checkpoint, whole or not at all."""
        # not ascontiguousarray: it makes a vector of a number, and batch norm counts its batches in one
        arrays = {name: np.array(array, order="C") for name, array in state.tensors.items()}
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        with temporary.open("wb") as file:
            file.write(save(arrays, metadata={"meta": json.dumps(state.meta)}))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)

    def watch(self, progress: Progress, unit: str) -> OnEpoch:
        """Return the trainer's callback: it shows the errors, and saves the state now and then and at the end.

        The end is saved too, so that a kill while the next member trains does not cost this one.
        """

        def on_epoch(report: EpochReport, capture: Callable[[], TrainingState]) -> None:
            held_out = "" if report.validation_error is None else f", held out {report.validation_error:.4f}"
            what = f"MAE {report.train_error:.4f}" if unit else f"wrong {report.train_error:.4f}"
            progress.update(report.epoch, f"{what}{held_out} {unit}".rstrip())
            if report.is_last or self._interval.is_due(report.epoch):
                self.save(capture())

        return on_epoch


def learning_curve(histories: Sequence[Sequence[Mapping[str, Any]]]) -> pa.Table:
    """Return the histories of an ensemble's members as a `learning_curve` table."""
    records = [{"member": member} | dict(row) for member, history in enumerate(histories) for row in history]
    names = ("member", "epoch", "learning_rate", "train_loss", "validation_loss", *_ERRORS)
    types = (pa.int32(), pa.int32(), *(pa.float64() for _ in names[2:]))
    return pa.table({n: pa.array([record.get(n) for record in records], t) for n, t in zip(names, types, strict=True)})
