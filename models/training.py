"""The trainer: numeric rows and a target -> the averaged weights of a network.

The rows stay in memory and are drawn by an index permutation of (seed, epoch), so that nothing but the arrays of
`TrainingState` has to be kept to continue a run to exactly the weights of an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import InputError
from models.training_parameters import TrainingParameters, learning_rate_at
from models.training_state import Progress, TrainingState, capture_state, data_digest, restore_state, to_array

__all__ = ["EpochReport", "TrainedNetwork", "TrainingParameters", "TrainingState", "train_network"]

_EVALUATION_ROWS = 2048


@dataclass(frozen=True)
class EpochReport:
    """What one epoch came to.

    Attributes
    ----------
    epoch, n_epochs
        Epochs done, and in all.
    learning_rate
        Rate of the epoch's last step.
    train_mae
        Mean absolute error over the epoch's steps, of the moving weights, in the unit of the target.
    validation_mae
        Mean absolute error of the averaged weights on the held-out rows, in the unit of the target; None without rows.
    elapsed
        Seconds since this call started to train.
    """

    epoch: int
    n_epochs: int
    learning_rate: float
    train_mae: float
    validation_mae: float | None
    elapsed: float


@dataclass(frozen=True)
class TrainedNetwork:
    """The result of a training run.

    Attributes
    ----------
    state
        Averaged weights by name, ready for safetensors.
    normalisation
        ``{"mean": [m], "std": [s]}``: the network's output times s plus m is the target, in its unit.
    history
        Per epoch ``epoch``, ``learning_rate``, ``train_mae`` and ``validation_mae`` (None without held-out rows).
    """

    state: dict[str, NDArray[Any]]
    normalisation: dict[str, list[float]]
    history: list[dict[str, Any]]


OnEpoch = Callable[[EpochReport, Callable[[], TrainingState]], None]
"""Called after each epoch with its report and a function that copies the state out (only when wanted)."""


def train_network(
    x: NDArray[np.float32],
    y: NDArray[np.floating],
    x_val: NDArray[np.float32] | None,
    y_val: NDArray[np.floating] | None,
    parameters: TrainingParameters,
    *,
    build: Callable[[], nn.Module],
    resume: TrainingState | None = None,
    on_epoch: OnEpoch | None = None,
    device: str = "cpu",
) -> TrainedNetwork:
    """Train a network with AdamW, a one-cycle rate and an exponential average of the weights.

    Parameters
    ----------
    x
        Input rows (n, f), dimensionless.
    y
        Target (n,), in any unit.
    x_val, y_val
        Held-out rows of the *training* part (m, f) and (m,), measured after each epoch and never learned from; None or
        empty for none.
    parameters
        Settings, see `TrainingParameters`.
    build
        Makes the network, (n, f) -> (n, 1), initialised from torch's generator, which is seeded here.
    resume
        State to continue from.
    on_epoch
        Called after each epoch; may raise to stop the run.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    InputError
        If the rows are empty, of the wrong shape or not finite, the target is constant, `resume` does not belong to
        this run, or the loss leaves the range of numbers.
    """
    x, y = _checked_rows(x, y, "training")
    held_out = _checked_held_out(x_val, y_val, x.shape[1])
    mean, std = _scale(y)
    with _threads(parameters.threads), torch.random.fork_rng():
        run = _Run(x, y, mean, std, parameters, build, torch.device(device))
        if resume is not None:
            run.restore(resume)
        started = time.monotonic()
        for epoch in range(run.progress.epoch, parameters.epochs):
            rate, train_mae = run.train_epoch(epoch)
            validation_mae = run.mean_absolute_error(*held_out) if held_out is not None else None
            run.finish_epoch(rate, train_mae, validation_mae)
            if on_epoch is not None:
                elapsed = time.monotonic() - started
                report = EpochReport(epoch + 1, parameters.epochs, rate, train_mae, validation_mae, elapsed)
                on_epoch(report, run.capture)
        state = {name: to_array(tensor) for name, tensor in run.average.state_dict().items()}
        return TrainedNetwork(state, {"mean": [mean], "std": [std]}, run.progress.history)


class _Run:
    """Network, average and optimiser of one run, and how far it has come."""

    def __init__(
        self,
        x: NDArray[np.float32],
        y: NDArray[np.float64],
        mean: float,
        std: float,
        parameters: TrainingParameters,
        build: Callable[[], nn.Module],
        device: torch.device,
    ) -> None:
        self.parameters, self.device = parameters, device
        self.mean, self.std = mean, std
        self.digest = data_digest(x, y)
        self.x = torch.from_numpy(x).to(device)
        self.y = torch.from_numpy(((y - mean) / std).astype(np.float32)).to(device)
        self.batch = min(parameters.batch_size, len(x))
        self.steps_per_epoch = len(x) // self.batch
        torch.manual_seed(parameters.seed)
        self.network = build().to(device).train()
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = _optimiser(self.network, parameters)
        self.progress = Progress(0, 0, 0, [])
        self.mixed = _uses_bf16(parameters.precision, device)

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """One pass over the rows; the last step's rate and the mean absolute error in the target's unit."""
        sequence = np.random.SeedSequence((self.parameters.seed, epoch))
        order = torch.from_numpy(np.random.default_rng(sequence).permutation(len(self.x))).to(self.device)
        # Dropout draws from torch's generator: seeded per epoch, so that no generator state has to be stored.
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))
        n_steps = self.steps_per_epoch * self.parameters.epochs
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        rate = 0.0
        for k in range(self.steps_per_epoch):
            rate = learning_rate_at(self.progress.step, n_steps, self.parameters)
            for group in self.optimiser.param_groups:
                group["lr"] = rate
            rows = order[k * self.batch : (k + 1) * self.batch]
            total += self._step(self.x[rows], self.y[rows])
            self.progress.step += 1
            if self.progress.step % self.parameters.average_every == 0 or self.progress.step == n_steps:
                self._average(n_steps)
        return rate, float(total) / self.steps_per_epoch * self.std

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            output = self.network(x)
        error = output.float().reshape(len(x), -1).squeeze(1) - y
        absolute = error.abs().mean()
        loss = absolute if self.parameters.loss == "mae" else error.square().mean()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()
        detached: Tensor = absolute.detach().double()
        return detached

    def _average(self, n_steps: int) -> None:
        """Move the average towards the weights: a plain mean at first, exponential once it spans the horizon."""
        updates = self.parameters.average_horizon * n_steps / self.parameters.average_every
        self.progress.n_averaged += 1
        weight = max(1.0 / self.progress.n_averaged, 1.0 - math.exp(-1.0 / updates))
        target = [p.detach() for p in self.network.parameters()]
        torch._foreach_lerp_(list(self.average.parameters()), target, weight)
        for kept, current in zip(self.average.buffers(), self.network.buffers(), strict=True):
            kept.copy_(current)

    @torch.no_grad()
    def mean_absolute_error(self, x: NDArray[np.float32], y: NDArray[np.float64]) -> float:
        """Mean absolute error of the averaged weights, in fp32, in the target's unit."""
        total = 0.0
        for start in range(0, len(x), _EVALUATION_ROWS):
            rows = slice(start, start + _EVALUATION_ROWS)
            output = self.average(torch.from_numpy(x[rows]).to(self.device)).reshape(-1).double().cpu().numpy()
            total += float(np.abs(output * self.std + self.mean - y[rows]).sum())
        return total / len(x)

    def finish_epoch(self, rate: float, train_mae: float, validation_mae: float | None) -> None:
        """Count the epoch and write its line of the history; an error that is no number ends the run."""
        if not math.isfinite(train_mae):
            raise InputError(
                f"Training diverged in epoch {self.progress.epoch + 1}: lower learning_rate "
                f"({self.parameters.learning_rate:g}) and train again."
            )
        self.progress.epoch += 1
        self.progress.history.append(
            {
                "epoch": self.progress.epoch,
                "learning_rate": rate,
                "train_mae": train_mae,
                "validation_mae": validation_mae,
            }
        )

    def capture(self) -> TrainingState:
        """Copy the state out."""
        return capture_state(self.network, self.average, self.optimiser, self.progress, self.parameters, self.digest)

    def restore(self, state: TrainingState) -> None:
        """Go on from a state."""
        self.progress = restore_state(state, self.network, self.average, self.optimiser, self.parameters, self.digest)


def _optimiser(network: nn.Module, parameters: TrainingParameters) -> torch.optim.AdamW:
    """AdamW that decays matrices and leaves vectors (biases) alone."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    groups = [{"params": weights, "weight_decay": parameters.weight_decay}, {"params": rest, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=parameters.learning_rate, fused=True)


def _uses_bf16(precision: str, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Without instructions for it, bf16 on a CPU is slower than fp32.
    return bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def _threads(n: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _checked_held_out(x: Any, y: Any, n_columns: int) -> tuple[NDArray[np.float32], NDArray[np.float64]] | None:
    if x is None or y is None or len(x) == 0:
        return None
    rows = _checked_rows(x, y, "held-out")
    if rows[0].shape[1] != n_columns:
        raise InputError(f"Held-out rows have {rows[0].shape[1]} columns, training rows {n_columns}: make them alike.")
    return rows


def _scale(y: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and standard deviation of the training target."""
    mean, std = float(y.mean()), float(y.std())
    if std <= 1e-12 * max(1.0, abs(mean)):
        raise InputError(
            f"The training target is constant ({mean:g}): there is nothing to learn; choose another column."
        )
    return mean, std


def _checked_rows(x: Any, y: Any, what: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    x = np.ascontiguousarray(x, dtype=np.float32)
    y = np.ascontiguousarray(y, dtype=np.float64)
    if x.ndim != 2 or y.shape != (len(x),):
        raise InputError(f"The {what} rows need features (n, f) and a target (n,), got shapes {x.shape} and {y.shape}.")
    if len(x) == 0 or x.shape[1] == 0:
        raise InputError(f"The {what} set is empty: check the split and the cleaning counts.")
    if not np.isfinite(y).all():
        raise InputError(
            f"The {what} target holds {int((~np.isfinite(y)).sum())} NaN or infinite values: clean the table."
        )
    if not np.isfinite(x).all():
        raise InputError(f"The {what} features hold NaN or infinite values: clean the table.")
    return x, y
