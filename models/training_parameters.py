"""Settings of the trainer, with presets for large and for small training sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from models.errors import InputError

SMALL_SET_ROWS = 30_000
"""Training sets below this size take the preset `small` unless told otherwise."""

PRECISIONS: tuple[str, ...] = ("auto", "bf16", "fp32")
LOSSES: tuple[str, ...] = ("mae", "mse")


@dataclass(frozen=True)
class TrainingParameters:
    """Settings of one training run; they and the data decide the weights, on one type of machine and thread count.

    Attributes
    ----------
    epochs
        Passes over the training rows; the learning-rate schedule spans all of them.
    batch_size
        Rows per step; a smaller training set is one batch.
    learning_rate
        Peak of the one-cycle schedule.
    warmup
        Share of the steps over which the rate rises to its peak (cosine), before it falls to zero (cosine).
    weight_decay
        Decoupled decay (AdamW) of matrices; biases are left alone. The usual 1e-4 overfits; of 0.1 and 0.3 the latter
        had the lower error on held-out chemical systems of the OQMD (0.0554 against 0.0590 eV/atom).
    average_horizon
        Time constant of the exponential average of the weights, as a share of all steps.
    average_every
        Steps between two updates of the average.
    loss
        ``mae`` or ``mse``, on normalised targets.
    precision
        ``bf16`` computes the large layers in bf16 with fp32 weights, ``fp32`` does not; ``auto`` takes bf16 where the
        processor has instructions for it.
    seed
        Seed of the initial weights, of the order of the rows and of dropout.
    threads
        Threads of torch while training; None leaves torch's setting.
    """

    epochs: int = 40
    batch_size: int = 512
    learning_rate: float = 1e-3
    warmup: float = 0.1
    weight_decay: float = 0.3
    average_horizon: float = 0.1
    average_every: int = 10
    loss: str = "mae"
    precision: str = "auto"
    seed: int = 0
    threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "average_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"Training parameter {name} must be a whole number of at least 1, got {value!r}.")
        for name in ("learning_rate", "average_horizon"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) > 0):
                raise InputError(f"Training parameter {name} must be a positive number, got {getattr(self, name)!r}.")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise InputError(f"Training parameter weight_decay must be at least 0, got {self.weight_decay!r}.")
        if not 0.0 <= self.warmup < 1.0:
            raise InputError(f"Training parameter warmup is a share of the steps, 0 to below 1, got {self.warmup!r}.")
        if self.loss not in LOSSES or self.precision not in PRECISIONS:
            raise InputError(
                f"Training knows the losses {', '.join(LOSSES)} and the precisions {', '.join(PRECISIONS)}, "
                f"got {self.loss!r} and {self.precision!r}."
            )
        if self.seed < 0 or (self.threads is not None and self.threads < 1):
            raise InputError(f"Training needs a seed of at least 0 and a thread, got {self.seed} and {self.threads}.")

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainingParameters:
        """Make the preset `standard` (from 30,000 rows on) or `small`, with changes by keyword."""
        if name not in PRESETS:
            raise InputError(f"Unknown training preset {name!r}: choose one of {', '.join(sorted(PRESETS))}.")
        return cls.from_dict({**PRESETS[name], **changes})

    @classmethod
    def for_rows(cls, n_rows: int, **changes: Any) -> TrainingParameters:
        """Make the preset for a training set of this many rows, with changes by keyword."""
        return cls.preset("small" if n_rows < SMALL_SET_ROWS else "standard", **changes)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> TrainingParameters:
        """Read parameters from their dictionary; missing ones take the defaults, unknown ones are an `InputError`."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"Unknown training parameter {unknown[0]!r}: choose from {', '.join(sorted(known))}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a JSON-able dictionary."""
        return asdict(self)


PRESETS: dict[str, dict[str, Any]] = {
    "standard": {},
    # A small set needs its steps from repetition, and the noise of a small batch against overfitting.
    "small": {"batch_size": 128, "weight_decay": 0.1},
}
"""Presets: what differs from the defaults."""


def learning_rate_at(step: int, n_steps: int, parameters: TrainingParameters) -> float:
    """Learning rate of a step (0 to n_steps - 1): one cycle, from 1/25 of the peak up to it and down towards zero.

    L. N. Smith and N. Topin, arXiv:1708.07120, with cosine flanks.
    """
    peak, rising = parameters.learning_rate, parameters.warmup * n_steps
    if step < rising:
        return peak * (0.04 + 0.96 * (0.5 - 0.5 * math.cos(math.pi * step / rising)))
    return peak * (0.5 + 0.5 * math.cos(math.pi * (step - rising) / (n_steps - rising)))
