"""The trainer: numeric rows and a target -> the weights of a network, whatever the network.

The rows stay in memory and are drawn by an index permutation of (seed, epoch), so that nothing but the arrays of
`TrainingState` has to be kept to continue a run to exactly the weights of an uninterrupted one.
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import InputError
from models.freed_memory import freed_memory_kept
from models.losses import evaluate
from models.optimisation import learning_rate_at, make_optimiser, set_rate
from models.training_parameters import TrainingParameters
from models.training_rows import Normalisation, Rows, class_weights, training_rows
from models.training_state import Progress, TrainingState, capture_state, load_arrays, restore_state, to_array

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
    train_error
        Mean over the epoch's steps, of the moving weights: the absolute error in the unit of the target (of the
        normalisation, where there are several), or the share of wrong classes.
    validation_error
        The same of the averaged weights on the held-out rows; None without rows.
    elapsed
        Seconds since this call started to train.
    is_last
        Whether the training ends here.
    """

    epoch: int
    n_epochs: int
    learning_rate: float
    train_error: float
    validation_error: float | None
    elapsed: float
    is_last: bool


@dataclass(frozen=True)
class TrainedNetwork:
    """The result of a training run.

    Attributes
    ----------
    state
        Averaged weights by name, ready for safetensors; with `patience` those of the best epoch.
    normalisation
        ``{"mean": [m, ...], "std": [s, ...]}``: the network's output times s plus m is the target, in its unit. Empty
        lists for classes.
    history
        Per epoch ``epoch``, ``learning_rate``, ``train_loss`` and ``validation_loss`` (of normalised targets),
        ``train_mae`` and ``validation_mae`` (for classes ``train_error_rate`` and ``validation_error_rate``); what
        belongs to the held-out rows is None without them.
    """

    state: dict[str, NDArray[Any]]
    normalisation: dict[str, list[float]]
    history: list[dict[str, Any]]


OnEpoch = Callable[[EpochReport, Callable[[], TrainingState]], None]
"""Called after each epoch with its report and a function that copies the state out (only when wanted)."""


def train_network(
    x: NDArray[np.float32],
    y: NDArray[Any],
    x_val: NDArray[np.float32] | None,
    y_val: NDArray[Any] | None,
    parameters: TrainingParameters,
    *,
    build: Callable[[], nn.Module],
    initial: Mapping[str, NDArray[Any]] | None = None,
    normalisation: Normalisation | None = None,
    rate_factors: Mapping[str, float] | None = None,
    resume: TrainingState | None = None,
    on_epoch: OnEpoch | None = None,
    device: str = "cpu",
) -> TrainedNetwork:
    """Train a network.

    Parameters
    ----------
    x
        Input rows (n, f).
    y
        Targets (n,) or (n, k) in any units, NaN for labels that are missing where there are several; for
        ``cross_entropy`` class numbers (n,), integers from 0 on.
    x_val, y_val
        Held-out rows of the *training* part, measured after each epoch and never learned from; None or empty for none.
    parameters
        Settings, see `TrainingParameters`.
    build
        Makes the network, (n, f) -> (n, outputs), from torch's generator, which is seeded here. Where it has a method
        ``fit_inputs``, that is shown the training inputs first.
    initial
        Weights to start from instead, by name, see `models.transfer`.
    normalisation
        Scale of the targets; by default mean and standard deviation of the training rows.
    rate_factors
        Factor on the learning rate by parameter name; 0 freezes.
    resume
        State to continue from.
    on_epoch
        Called after each epoch; may raise to stop the run.
    device
        ``cpu`` or ``cuda``.

    Raises
    ------
    InputError
        If rows cannot be learnt from (see `training_rows`), `resume` does not belong to this run, or the loss diverges.
    """
    rows, held_out = training_rows(x, y, x_val, y_val, parameters.loss, normalisation)
    started = time.monotonic()
    with torch_settings(parameters.threads):
        run = TrainingRun(rows, held_out, parameters, build, torch.device(device), initial, rate_factors)
        if resume:
            run.restore(resume)
        while not run.is_over:
            line = run.epoch()
            if on_epoch:
                on_epoch(run.report(line, time.monotonic() - started), run.capture)
        return run.result()


class TrainingRun:
    """Network, average and optimiser of one run, and how far it has come.

    Parameters
    ----------
    rows, held_out
        As `training_rows` makes them.
    parameters, build, device, initial, rate_factors
        As `train_network` takes them.

    Attributes
    ----------
    complete
        Whether every training row has all its labels.
    batch, steps_per_epoch, n_epochs
        Rows of a step, and steps of an epoch; rows that make no whole batch are left out, others in every epoch. And
        epochs at most.
    weights
        Of the classes (c,); None where rows count alike.
    mixed
        Whether large layers are computed in bf16.

    Raises
    ------
    InputError
        If early stopping has no rows to go by, or `initial` or `rate_factors` do not fit the network.
    """

    def __init__(
        self,
        rows: Rows,
        held_out: Rows | None,
        parameters: TrainingParameters,
        build: Callable[[], nn.Module],
        device: torch.device,
        initial: Mapping[str, NDArray[Any]] | None = None,
        rate_factors: Mapping[str, float] | None = None,
    ) -> None:
        if parameters.patience is not None and held_out is None:
            raise InputError(
                "Early stopping needs held-out rows: clean with a calibration part, or leave patience out."
            )
        self.parameters, self.device = parameters, device
        self.rows, self.held_out = rows.to(device), None if held_out is None else held_out.to(device)
        self.complete = rows.is_classes or bool(torch.isfinite(rows.y).all())
        self.batch = min(parameters.batch_size, len(rows))
        self.steps_per_epoch, self.n_epochs = len(rows) // self.batch, parameters.epochs_for(len(rows))
        self.weights = class_weights(self.rows, parameters.balanced_classes)
        torch.manual_seed(parameters.seed)
        self.network = build().to(device).train()
        if initial is not None:
            load_arrays(self.network, initial, "model to start from")
        elif callable(fit_inputs := getattr(self.network, "fit_inputs", None)):
            fit_inputs(self.rows.x)
        self.optimiser = make_optimiser(self.network, parameters, rate_factors)
        _keep_statistics(self.network)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.best: dict[str, Tensor] = {}
        self.progress = Progress(0, 0, 0, [])
        self.mixed = _uses_bf16(parameters.precision, device)

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done, or the patience has run out."""
        done, patience = self.progress.epoch, self.parameters.patience
        return done >= self.n_epochs or (patience is not None and done - self._best_epoch >= patience > 0)

    @property
    def _best_epoch(self) -> int:
        """Epoch (from 1 on) with the lowest loss on the held-out rows; 0 before the first."""
        history = self.progress.history
        return min(history, key=lambda line: line["validation_loss"])["epoch"] if history else 0

    def epoch(self) -> dict[str, Any]:
        """One pass over the rows; its line of the history."""
        order, seed = self.draw()
        torch.manual_seed(seed)
        totals = torch.zeros(2, dtype=torch.float64, device=self.device)
        rate = 0.0
        for rate, places, weight in self.steps():
            set_rate(self.optimiser, rate)
            rows = order[places]
            totals += self._step(self.rows.x[rows], self.rows.y[rows])
            if weight is not None:
                move_average(self.average, self.network, weight)
        return self.finish_epoch(rate, totals)

    def draw(self) -> tuple[Tensor, int]:
        """Order of the rows (n,) in the next epoch, and a seed.

        Dropout draws from torch's generator: seeded per epoch, so that no generator state has to be stored.
        """
        sequence = np.random.SeedSequence((self.parameters.seed, self.progress.epoch))
        order = torch.from_numpy(np.random.default_rng(sequence).permutation(len(self.rows))).to(self.device)
        return order, int(sequence.generate_state(1, np.uint64)[0])

    def steps(self) -> Iterator[tuple[float, slice, float | None]]:
        """Learning rate, places in the order of the rows and next weight of the average (None: not yet) of each step.

        Counts the steps that were taken; the weight makes the average a plain mean at first, and exponential once it
        spans the horizon.
        """
        n_steps = self.steps_per_epoch * self.n_epochs
        updates = self.parameters.average_horizon * n_steps / self.parameters.average_every
        for k in range(self.steps_per_epoch):
            rate = learning_rate_at(self.progress.step, n_steps, self.parameters)
            self.progress.step += 1
            weight = None
            if self.progress.step % self.parameters.average_every == 0 or k == self.steps_per_epoch - 1:
                self.progress.n_averaged += 1
                weight = max(1.0 / self.progress.n_averaged, 1.0 - math.exp(-1.0 / updates)) if updates else 1.0
            yield rate, slice(k * self.batch, (k + 1) * self.batch), weight

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            output = self.network(x)
        value = evaluate(self.parameters.loss, output.reshape(len(x), -1), y, self.weights, complete=self.complete)
        value.loss.backward()  # type: ignore[no-untyped-call]
        if self.parameters.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.parameters.clip_norm)
        self.optimiser.step()
        return torch.stack([value.loss.detach().double(), value.error])

    @torch.no_grad()
    def _held_out_errors(self) -> tuple[float | None, float | None]:
        """Loss and error of the averaged weights, in fp32, on the held-out rows."""
        if self.held_out is None:
            return None, None
        totals, n = np.zeros(2), 0
        for start in range(0, len(self.held_out), _EVALUATION_ROWS):
            x, y = self.held_out.x[start : start + _EVALUATION_ROWS], self.held_out.y[start : start + _EVALUATION_ROWS]
            value = evaluate(self.parameters.loss, self.average(x).reshape(len(x), -1), y, self.weights)
            totals += np.array([float(value.loss), float(value.error)]) * int(value.n_labels)
            n += int(value.n_labels)
        return float(totals[0] / n), float(totals[1] / n)

    def finish_epoch(self, rate: float, totals: Tensor) -> dict[str, Any]:
        """Count the epoch and write its line of the history.

        Parameters
        ----------
        rate
            Learning rate of the last step.
        totals
            Sums over the steps of loss and error (2,).

        Raises
        ------
        InputError
            If the loss is no number any more.
        """
        loss, error = (float(total) / self.steps_per_epoch for total in totals)
        if not math.isfinite(loss):
            raise InputError(
                f"Training diverged in epoch {self.progress.epoch + 1}: lower learning_rate "
                f"({self.parameters.learning_rate:g}) and train again."
            )
        self.progress.epoch += 1
        held_loss, held_error = self._held_out_errors()
        kind, unit = ("error_rate", 1.0) if self.rows.is_classes else ("mae", self.rows.normalisation.unit)
        line = {
            "epoch": self.progress.epoch,
            "learning_rate": rate,
            "train_loss": loss,
            "validation_loss": held_loss,
            f"train_{kind}": error * unit,
            f"validation_{kind}": None if held_error is None else held_error * unit,
        }
        self.progress.history.append(line)
        if self.parameters.patience is not None and self._best_epoch == self.progress.epoch:
            self.best = {name: tensor.clone() for name, tensor in self.average.state_dict().items()}
        return line

    def report(self, line: Mapping[str, Any], elapsed: float) -> EpochReport:
        """Return the report of an epoch from its line of the history."""
        kind = "error_rate" if self.rows.is_classes else "mae"
        return EpochReport(
            line["epoch"], self.n_epochs, line["learning_rate"], line[f"train_{kind}"],
            line[f"validation_{kind}"], elapsed, self.is_over,
        )  # fmt: skip

    def result(self) -> TrainedNetwork:
        """Return what the run ends with."""
        state = self.best if self.parameters.patience is not None else self.average.state_dict()
        arrays = {name: to_array(tensor) for name, tensor in state.items()}
        return TrainedNetwork(arrays, self.rows.normalisation.to_dict(), self.progress.history)

    def capture(self) -> TrainingState:
        """Copy the state out."""
        return capture_state(
            self.network, self.average, self.optimiser, self.progress, self.parameters, self.rows.digest, self.best
        )

    def restore(self, state: TrainingState) -> None:
        """Go on from a state."""
        self.progress, self.best = restore_state(
            state, self.network, self.average, self.optimiser, self.parameters, self.rows.digest
        )


def _keep_statistics(network: nn.Module) -> None:
    """Let normalisations whose weights are frozen keep their running statistics too: the layer stays as it is."""
    for module in network.modules():
        own = list(module.parameters(recurse=False))
        frozen = bool(own) and not any(parameter.requires_grad for parameter in own)
        if frozen and getattr(module, "running_mean", None) is not None:
            module.eval()


def move_average(average: nn.Module, network: nn.Module, weight: float) -> None:
    """Move an average towards the weights of a network; buffers are taken as they are."""
    target = [p.detach() for p in network.parameters()]
    torch._foreach_lerp_(list(average.parameters()), target, weight)
    for kept, current in zip(average.buffers(), network.buffers(), strict=True):
        kept.copy_(current)


def _uses_bf16(precision: str, device: torch.device) -> bool:
    if precision != "auto":
        return precision == "bf16"
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    # Without instructions for it, bf16 on a CPU is slower than fp32.
    return bool(torch.cpu._is_avx512_bf16_supported())


@contextmanager
def torch_settings(threads: int | None) -> Iterator[None]:
    """Enter what trainings run in: a number of threads, random numbers of their own, freed memory that is kept.

    Afterwards torch's setting and its random numbers are as they were. None leaves the threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        with torch.random.fork_rng(), freed_memory_kept():
            yield
    finally:
        torch.set_num_threads(before)
