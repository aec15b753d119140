"""Rows as the trainer takes them: checked, the targets normalised, classes counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.errors import InputError
from models.training_state import data_digest


@dataclass(frozen=True)
class Normalisation:
    """Mean and standard deviation of each target, in its unit; empty for classes."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def unit(self) -> float:
        """What an error in normalised units is worth in the target's unit; 1 where there are several targets."""
        return self.std[0] if len(self.std) == 1 else 1.0

    def to_dict(self) -> dict[str, list[float]]:
        """Return it as a model card holds it."""
        return {"mean": list(self.mean), "std": list(self.std)}


@dataclass(frozen=True)
class Rows:
    """Rows to learn from or to measure on.

    Attributes
    ----------
    x
        Inputs (n, f), float32.
    y
        Normalised targets (n, k), float32, NaN where a label is missing; or class numbers (n,), int64.
    normalisation
        What takes outputs back to the targets' units.
    digest
        Of inputs and labels.
    """

    x: Tensor
    y: Tensor
    normalisation: Normalisation
    digest: str

    def __len__(self) -> int:
        return len(self.x)

    @property
    def is_classes(self) -> bool:
        """Whether the labels are class numbers."""
        return self.y.dtype == torch.int64

    def to(self, device: torch.device) -> Rows:
        """Return the rows on a device."""
        return Rows(self.x.to(device), self.y.to(device), self.normalisation, self.digest)


def training_rows(
    x: Any, y: Any, x_val: Any, y_val: Any, loss: str, normalisation: Normalisation | None = None
) -> tuple[Rows, Rows | None]:
    """Check training and held-out rows and bring the targets to mean 0 and standard deviation 1.

    Raises
    ------
    InputError
        If rows are empty, of the wrong shape or not finite, a target is constant, or a class has one member.
    """
    classes = loss == "cross_entropy"
    check: Callable[[Any, str], NDArray[Any]] = _classes if classes else _targets
    inputs, labels = _inputs(x, "training"), check(y, "training")
    _same_length(inputs, labels, "training")
    if classes:
        _check_members(labels)
        scale = Normalisation((), ())
    else:
        own = _scale(labels)  # refuses targets that leave nothing to learn, whatever scale they are taken on
        scale = normalisation or own
        if len(scale.std) != labels.shape[1]:
            raise InputError(f"The rows have {labels.shape[1]} targets, the model {len(scale.std)}: give the same.")
    rows = _rows(inputs, labels, scale)
    if x_val is None or y_val is None or len(x_val) == 0:
        return rows, None
    held_inputs, held_labels = _inputs(x_val, "held-out"), check(y_val, "held-out")
    _same_length(held_inputs, held_labels, "held-out")
    if held_inputs.shape[1] != inputs.shape[1]:
        raise InputError(
            f"Held-out rows have {held_inputs.shape[1]} columns, training rows {inputs.shape[1]}: make them alike."
        )
    if classes and held_labels.max() > labels.max():
        raise InputError(f"Class {int(held_labels.max())} occurs in the held-out rows alone: learn from it too.")
    return rows, _rows(held_inputs, held_labels, scale)


def class_weights(rows: Rows, balanced: bool) -> Tensor | None:
    """Weight of each class (c,), so that all count alike and the mean over the rows is 1; None for equal rows."""
    if not (balanced and rows.is_classes):
        return None
    counts = torch.bincount(rows.y).float()
    return len(rows) / (len(counts) * counts)


def _rows(x: NDArray[np.float32], y: NDArray[Any], scale: Normalisation) -> Rows:
    digest = data_digest(x, y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y)
    if y.dtype == np.int64:
        return Rows(torch.from_numpy(x), torch.from_numpy(y), scale, digest)
    normalised = ((y - np.array(scale.mean)) / np.array(scale.std)).astype(np.float32)
    return Rows(torch.from_numpy(x), torch.from_numpy(normalised), scale, digest)


def _inputs(x: Any, what: str) -> NDArray[np.float32]:
    x = np.ascontiguousarray(x, dtype=np.float32)
    if x.ndim != 2:
        raise InputError(f"The {what} rows need features (n, f), got shape {x.shape}.")
    if len(x) == 0 or x.shape[1] == 0:
        raise InputError(f"The {what} set is empty: check the split and the cleaning counts.")
    if not np.isfinite(x).all():
        raise InputError(f"The {what} features hold NaN or infinite values: clean the table.")
    if not x.flags.writeable:  # torch warns of arrays that it could write to by mistake
        x = x.copy()
    return cast("NDArray[np.float32]", x)


def _targets(y: Any, what: str) -> NDArray[np.float64]:
    y = np.ascontiguousarray(y, dtype=np.float64)
    if y.ndim == 1:
        y = y[:, None]
    if y.ndim != 2 or y.shape[1] == 0:
        raise InputError(f"The {what} rows need targets (n,) or (n, k), got shape {y.shape}.")
    missing = np.isnan(y)
    bad = int(np.isinf(y).sum() + (missing.sum() if y.shape[1] == 1 else missing.all(axis=1).sum()))
    if bad:
        raise InputError(f"The {what} target holds {bad} NaN or infinite values: clean the table.")
    return cast("NDArray[np.float64]", y)


def _classes(y: Any, what: str) -> NDArray[np.int64]:
    y = np.asarray(y)
    if y.ndim != 1 or y.dtype.kind not in "iub" or (len(y) and y.min() < 0):
        raise InputError(f"The {what} classes must be whole numbers (n,) from 0 on: number them first.")
    return np.array(y, dtype=np.int64)  # a copy: torch warns of arrays that it could write to by mistake


def _same_length(x: NDArray[Any], y: NDArray[Any], what: str) -> None:
    if len(x) != len(y):
        raise InputError(f"The {what} rows need one label each, got {len(x)} rows and {len(y)} labels.")


def _check_members(y: NDArray[np.int64]) -> None:
    counts = np.bincount(y)
    if len(counts) < 2:
        raise InputError("All training rows are of one class: there is nothing to learn; choose another column.")
    few = np.flatnonzero(counts < 2)
    if len(few):
        raise InputError(
            f"Class {few[0]} has {counts[few[0]]} training row{'s' if counts[few[0]] != 1 else ''}: every class needs "
            "at least two; merge or leave out rare classes."
        )


def _scale(y: NDArray[np.float64]) -> Normalisation:
    """Mean and standard deviation of every training target."""
    means, stds = [], []
    for column in y.T:
        present = column[~np.isnan(column)]
        if len(present) == 0:
            raise InputError("A target has no label in the training rows: choose another column.")
        mean, std = float(present.mean()), float(present.std())
        if std <= 1e-12 * max(1.0, abs(mean)):
            raise InputError(
                f"The training target is constant ({mean:g}): there is nothing to learn; choose another column."
            )
        means.append(mean)
        stds.append(std)
    return Normalisation(tuple(means), tuple(stds))
