"""Settings of the trainer, with presets for large and for small training sets."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Self

from models.errors import InputError
from models.losses import LOSSES

SMALL_SET_ROWS = 30_000
"""Training sets below this size take the preset `small` unless told otherwise."""

PRECISIONS: tuple[str, ...] = ("auto", "bf16", "fp32")
OPTIMISERS: tuple[str, ...] = ("adamw", "adam", "sgd")
SCHEDULES: tuple[str, ...] = ("one_cycle", "linear", "step", "constant")


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
        Peak of the schedule.
    warmup
        Share of the steps over which the rate rises to its peak.
    weight_decay
        Decoupled decay (AdamW) of matrices; biases are left alone. The usual 1e-4 overfits; of 0.1 and 0.3 the latter
        had the lower error on held-out chemical systems of the OQMD (0.0554 against 0.0590 eV/atom).
    average_horizon
        Time constant of the exponential average of the weights, as a share of all steps; 0 takes the weights as they
        are.
    average_every
        Steps between two updates of the average.
    loss
        On normalised targets, see `models.losses.evaluate`.
    precision
        ``bf16`` computes the large layers in bf16 with fp32 weights, ``fp32`` does not; ``auto`` takes bf16 where the
        processor has instructions for it.
    seed
        Seed of the initial weights, of the order of the rows and of dropout.
    threads
        Threads of torch while training; None leaves torch's setting.
    optimiser
        ``adamw``, ``adam`` or ``sgd``.
    momentum
        Of ``sgd``, Nesterov's; 0 for none.
    beta2
        Decay of the second moment of ``adam`` and ``adamw``.
    schedule
        See `models.optimisation.learning_rate_at`.
    clip_norm
        Largest norm of a step's gradient; None for no limit.
    patience
        Stop when the averaged weights have not got better on the held-out rows for this many epochs, and take the best;
        None trains to the end and takes the last.
    balanced_classes
        Classes count alike in ``cross_entropy``, however many rows they have.
    min_steps
        Steps at least: small training sets are passed over more often than `epochs` says; 0 keeps to `epochs`.
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
    optimiser: str = "adamw"
    momentum: float = 0.9
    beta2: float = 0.999
    schedule: str = "one_cycle"
    clip_norm: float | None = None
    patience: int | None = None
    balanced_classes: bool = False
    min_steps: int = 0

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "average_every"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise InputError(f"Training parameter {name} must be a whole number of at least 1, got {value!r}.")
        self._check_numbers()
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise InputError(f"Training parameter learning_rate must be a positive number, got {self.learning_rate!r}.")
        for name in ("weight_decay", "average_horizon"):
            if not (math.isfinite(getattr(self, name)) and getattr(self, name) >= 0):
                raise InputError(f"Training parameter {name} must be at least 0, got {getattr(self, name)!r}.")
        if not 0.0 <= self.warmup < 1.0:
            raise InputError(f"Training parameter warmup is a share of the steps, 0 to below 1, got {self.warmup!r}.")
        if self.seed < 0 or (self.threads is not None and self.threads < 1):
            raise InputError(f"Training needs a seed of at least 0 and a thread, got {self.seed} and {self.threads}.")
        self._check_names()
        self._check_limits()

    def _check_numbers(self) -> None:
        """Refuse what is no number where one is wanted: YAML reads 1e-3 as a text."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not isinstance(field.default, int | float) or isinstance(field.default, bool):
                continue
            is_number = isinstance(value, int | float) and not isinstance(value, bool)
            if not is_number and not (value is None and "None" in str(field.type)):
                raise InputError(f"Training parameter {field.name} is a number, got {value!r}.")

    def _check_names(self) -> None:
        known = {"loss": LOSSES, "precision": PRECISIONS, "optimiser": OPTIMISERS, "schedule": SCHEDULES}
        for name, choices in known.items():
            if getattr(self, name) not in choices:
                raise InputError(
                    f"Training parameter {name} is one of {', '.join(choices)}, got {getattr(self, name)!r}."
                )

    def _check_limits(self) -> None:
        if not (0.0 <= self.momentum < 1.0 and 0.0 < self.beta2 < 1.0):
            raise InputError(
                f"Training needs a momentum from 0 to below 1 and a beta2 between 0 and 1, got {self.momentum!r} and "
                f"{self.beta2!r}."
            )
        if self.clip_norm is not None and not (math.isfinite(self.clip_norm) and self.clip_norm > 0):
            raise InputError(f"Training parameter clip_norm must be a positive number, got {self.clip_norm!r}.")
        if self.patience is not None and self.patience < 1:
            raise InputError(f"Training parameter patience is a number of epochs, at least 1, got {self.patience!r}.")
        if isinstance(self.min_steps, bool) or not isinstance(self.min_steps, int) or self.min_steps < 0:
            raise InputError(f"Training parameter min_steps is a number of steps, at least 0, got {self.min_steps!r}.")

    def epochs_for(self, n_rows: int) -> int:
        """Return the passes over so many training rows: `epochs`, or as many as `min_steps` takes."""
        steps = n_rows // min(self.batch_size, n_rows)
        return max(self.epochs, math.ceil(self.min_steps / steps))

    @classmethod
    def preset(cls, name: str, **changes: Any) -> TrainingParameters:
        """Make the preset `standard` (from 30,000 rows on) or `small`, with changes by keyword."""
        if name not in PRESETS:
            raise InputError(f"Unknown training preset {name!r}: choose one of {', '.join(sorted(PRESETS))}.")
        return cls.from_dict({**PRESETS[name], **changes})

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """Read parameters from their dictionary; missing ones take the defaults, unknown ones are an `InputError`."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - known):
            raise InputError(f"Unknown training parameter {unknown[0]!r}: choose from {', '.join(sorted(known))}.")
        return cls(**values)

    def to_dict(self) -> dict[str, Any]:
        """Return the parameters as a JSON-able dictionary; later additions only where they differ from the default."""
        defaults = {field.name: field.default for field in fields(self) if field.name in _LATER}
        return {k: v for k, v in asdict(self).items() if k not in defaults or v != defaults[k]}


def preset_for(n_rows: int) -> str:
    """Return the name of the preset that suits so many training rows."""
    return "small" if n_rows < SMALL_SET_ROWS else "standard"


_LATER = frozenset(
    {"optimiser", "momentum", "beta2", "schedule", "clip_norm", "patience", "balanced_classes", "min_steps"}
)
"""Settings that came after the first models: runs that do not use them keep their keys."""


PRESETS: dict[str, dict[str, Any]] = {
    # On held-out chemical systems of the OQMD, ElemNet after 40 epochs: 0.0542 eV/atom; with a decay of 0.3 0.0546.
    "standard": {"learning_rate": 2e-3, "weight_decay": 0.15},
    # A small set needs its steps from repetition, and the noise of a small batch against overfitting.
    "small": {"batch_size": 128, "weight_decay": 0.1},
}
"""Presets: what differs from the defaults."""
