"""Training of the crystal-graph network: graphs and the logarithms of K and G -> the averaged weights of one member.

The order of the crystals is a permutation of (seed, epoch), so that the arrays of `TrainingState` are all that is
needed to continue a run to exactly the weights of an uninterrupted one.
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
from numpy.typing import ArrayLike, NDArray
from torch import Tensor, nn

from models.cgcnn import CGCNN, GraphBatch, make_batch, pack_by_atoms
from models.crystal_attributes import CRYSTAL_ATTRIBUTES, crystal_attributes
from models.crystal_graph import CrystalGraphs
from models.errors import InputError
from models.optimisation import learning_rate_at, optimiser_of, set_rate
from models.training import EpochReport, OnEpoch, TrainedNetwork, torch_settings
from models.training_parameters import TrainingParameters
from models.training_state import Progress, TrainingState, capture_state, data_digest, restore_state, to_array

FloatArray = NDArray[np.float64]

EVALUATION_ATOMS = 4096
"""Atoms that are predicted at once."""


@dataclass(frozen=True)
class ModuliTraining(TrainingParameters):
    """Settings of one member, beside those of `TrainingParameters`.

    Attributes
    ----------
    batch_size
        Atoms per step, not crystals: cells differ in size by a factor of a hundred.
    loss
        ``mae`` or ``mse``, on normalised targets.
    precision, patience, balanced_classes, min_steps
        Left as they are: these networks are trained in fp32, on all crystals that are given, to the end.
    n_convolutions, atom_width, hidden_width, n_hidden
        Sizes of `models.cgcnn.CGCNN`.
    attribute_width
        Width of the layer by which the network reads the crystal's attributes; 0 for a network that reads its graph
        alone.
    n_trees
        Boosted trees beside the network, per target; 0 for none.
    kernel_rows
        Rows at most that the kernel machine beside the network learns; 0 for none.
    """

    epochs: int = 60
    batch_size: int = 512
    learning_rate: float = 5e-3
    warmup: float = 0.2
    weight_decay: float = 0.1
    average_horizon: float = 0.05
    average_every: int = 1
    precision: str = "fp32"
    clip_norm: float | None = 5.0
    n_convolutions: int = 3
    atom_width: int = 64
    hidden_width: int = 128
    n_hidden: int = 1
    attribute_width: int = 64
    n_trees: int = 600
    kernel_rows: int = 10_000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.loss not in _LOSSES:
            raise InputError(f"The moduli network knows the losses {', '.join(_LOSSES)}, not {self.loss!r}.")
        for name in _FIXED:
            if getattr(self, name) != getattr(type(self), name):
                raise InputError(f"The moduli network is trained in fp32 and to the end: leave {name} as it is.")
        for name in ("n_convolutions", "atom_width", "hidden_width", "n_hidden", *_MAY_BE_NONE):
            value, least = getattr(self, name), int(name not in _MAY_BE_NONE)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise InputError(
                    f"The moduli network needs a whole number of at least {least} as {name}, got {value!r}."
                )
        if self.kernel_rows == 1:
            raise InputError("A kernel machine learns nothing from one row: give kernel_rows of at least 2, or 0.")

    def network(self) -> CGCNN:
        """Build the network of these sizes, initialised from torch's generator.

        Returns
        -------
        CGCNN
            Two outputs: log10 K and log10 G.
        """
        return CGCNN(
            n_convolutions=self.n_convolutions,
            atom_width=self.atom_width,
            hidden_width=self.hidden_width,
            n_hidden=self.n_hidden,
            n_attributes=len(CRYSTAL_ATTRIBUTES) if self.attribute_width else 0,
            attribute_width=self.attribute_width or 1,
        )


def train_moduli(
    graphs: CrystalGraphs,
    log10_bulk: ArrayLike,
    log10_shear: ArrayLike,
    parameters: ModuliTraining | None = None,
    *,
    resume: TrainingState | None = None,
    on_epoch: OnEpoch | None = None,
) -> TrainedNetwork:
    """Train one network on log10 K and log10 G.

    Parameters
    ----------
    graphs : CrystalGraphs
        n crystals, n >= 2.
    log10_bulk, log10_shear : array_like, shape (n,)
        log10(K/GPa), log10(G/GPa), or these plus whatever a prediction takes off again.
    parameters : ModuliTraining, optional
        Settings.
    resume : TrainingState, optional
        State to continue from.
    on_epoch : callable, optional
        Called after each epoch with its report and a function that copies the state out; may raise to stop the run. The
        report's ``train_mae`` is the mean over both targets, in log10(GPa).

    Returns
    -------
    TrainedNetwork
        Averaged weights, ``{"mean": [K, G], "std": [K, G]}`` and the history.

    Raises
    ------
    InputError
        Fewer than two crystals, targets that do not fit, are not finite or constant, `resume` of another run, or a loss
        that leaves the range of numbers.
    """
    settings = parameters or ModuliTraining()
    targets = checked_targets(graphs, log10_bulk, log10_shear)
    mean, std = targets.mean(axis=0), targets.std(axis=0)
    if len(targets) < 2 or (std <= 1e-9).any():
        raise InputError(f"{len(targets)} crystals with constant moduli cannot train a network; give more rows")
    with torch_settings(settings.threads):
        run = _Run(graphs, (targets - mean) / std, std, settings)
        if resume is not None:
            run.restore(resume)
        started = time.monotonic()
        for epoch in range(run.progress.epoch, settings.epochs):
            rate, train_mae = run.train_epoch(epoch)
            run.finish_epoch(rate, train_mae)
            if on_epoch is not None:
                elapsed = time.monotonic() - started
                is_last = epoch + 1 == settings.epochs
                on_epoch(EpochReport(epoch + 1, settings.epochs, rate, train_mae, None, elapsed, is_last), run.capture)
        state = {name: to_array(tensor) for name, tensor in run.average.state_dict().items()}
    normalisation = {"mean": [float(x) for x in mean], "std": [float(x) for x in std]}
    return TrainedNetwork(state, normalisation, run.progress.history)


def evaluate(network: CGCNN, graphs: CrystalGraphs) -> FloatArray:
    """Run a network in evaluation mode.

    Parameters
    ----------
    network : CGCNN
        In evaluation mode.
    graphs : CrystalGraphs
        n crystals.

    Returns
    -------
    ndarray, shape (n, n_outputs)
        In the normalised unit of training.
    """
    parts = [np.zeros((0, network.output.out_features))]
    attributes = _attributes(network, graphs)
    with torch.no_grad():
        for rows in pack_by_atoms(graphs.n_atoms, np.arange(len(graphs)), EVALUATION_ATOMS):
            parts.append(network(_batch(graphs, attributes, rows)).double().numpy())
    return np.concatenate(parts)


def _attributes(network: CGCNN, graphs: CrystalGraphs) -> FloatArray | None:
    """Return the attributes of crystals, if the network reads any."""
    return crystal_attributes(graphs) if network.parameters_given["n_attributes"] else None


def _batch(graphs: CrystalGraphs, attributes: FloatArray | None, rows: NDArray[np.int64]) -> GraphBatch:
    """Return some crystals as a batch."""
    return make_batch(graphs.select(rows), None if attributes is None else attributes[rows])


def checked_targets(graphs: CrystalGraphs, log10_bulk: ArrayLike, log10_shear: ArrayLike) -> FloatArray:
    """Both targets as one array.

    Parameters
    ----------
    graphs : CrystalGraphs
        n crystals.
    log10_bulk, log10_shear : array_like, shape (n,)
        log10(GPa).

    Returns
    -------
    ndarray, shape (n, 2)
        float64.

    Raises
    ------
    InputError
        Another length, or a value that is not finite.
    """
    columns = [np.asarray(column, dtype=np.float64) for column in (log10_bulk, log10_shear)]
    if any(column.shape != (len(graphs),) for column in columns):
        raise InputError(f"{len(graphs)} graphs need as many moduli, got {[column.shape for column in columns]}")
    targets = np.stack(columns, axis=1)
    if not np.isfinite(targets).all():
        raise InputError("moduli hold values without a logarithm; drop rows whose K or G is not positive")
    return targets


@contextmanager
def torch_threads(n: int | None) -> Iterator[None]:
    """Run with a number of torch's threads; None leaves the setting.

    Parameters
    ----------
    n : int or None
        Threads.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Run:
    """Network, average and optimiser of one run, and how far it has come."""

    def __init__(self, graphs: CrystalGraphs, targets: FloatArray, std: FloatArray, parameters: ModuliTraining) -> None:
        self.graphs, self.parameters, self.std = graphs, parameters, std
        self.targets = torch.from_numpy(targets.astype(np.float32))
        self.digest = data_digest(*graphs.to_arrays().values(), targets)
        torch.manual_seed(parameters.seed)
        self.network = parameters.network().train()
        self.attributes = _attributes(self.network, graphs)
        if self.attributes is not None:
            self.network.fit_attributes(self.attributes)
        self.average = copy.deepcopy(self.network).eval().requires_grad_(False)
        self.optimiser = _optimiser(self.network, parameters)
        self.progress = Progress(0, 0, 0, [])
        # the number of batches varies a little with the order, the schedule must not
        self.steps_per_epoch = max(1, round(int(graphs.offsets[-1]) / parameters.batch_size))

    def train_epoch(self, epoch: int) -> tuple[float, float]:
        """One pass over the crystals; the last step's rate and the mean absolute error in log10(GPa)."""
        rng = np.random.default_rng(np.random.SeedSequence((self.parameters.seed, epoch)))
        order = rng.permutation(len(self.graphs))
        torch.manual_seed(int(rng.integers(2**62)))  # of the dropout; the same in a run that is resumed
        batches = list(pack_by_atoms(self.graphs.n_atoms, order, self.parameters.batch_size))
        if len(batches) > 1 and len(batches[-1]) < 4:
            # batch norm and the step itself are noise on a remainder of a few crystals
            batches[-2:] = [np.concatenate(batches[-2:])]
        n_steps = self.steps_per_epoch * self.parameters.epochs
        total, rate = np.zeros(2), 0.0
        for k, rows in enumerate(batches):
            at = self.steps_per_epoch * (epoch + k / len(batches))
            rate = learning_rate_at(int(at), n_steps, self.parameters)
            set_rate(self.optimiser, rate)
            total += self._step(_batch(self.graphs, self.attributes, rows), self.targets[torch.from_numpy(rows)])
            self.progress.step += 1
            if self.progress.step % self.parameters.average_every == 0:
                self._average(n_steps)
        return rate, float(np.mean(total / len(self.graphs) * self.std))

    def _step(self, batch: GraphBatch, targets: Tensor) -> FloatArray:
        """One step of the optimiser; the sum of absolute errors per target, normalised."""
        self.optimiser.zero_grad(set_to_none=True)
        output = self.network(batch)
        loss = _LOSSES[self.parameters.loss](output, targets)
        loss.backward()
        if self.parameters.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.network.parameters(), self.parameters.clip_norm)
        self.optimiser.step()
        return np.asarray((output.detach() - targets).abs().double().sum(dim=0).numpy())

    @torch.no_grad()
    def _average(self, n_steps: int) -> None:
        """Move weights and the statistics of batch norm: a plain mean at first, exponential once past the horizon."""
        self.progress.n_averaged += 1
        updates = self.parameters.average_horizon * n_steps / self.parameters.average_every
        weight = max(1.0 / self.progress.n_averaged, 1.0 - math.exp(-1.0 / updates))
        current = self.network.state_dict()
        for name, kept in self.average.state_dict().items():
            if kept.is_floating_point():
                kept.lerp_(current[name], weight)
            else:
                kept.copy_(current[name])

    def finish_epoch(self, rate: float, train_mae: float) -> None:
        """Count the epoch and write its line of the history; an error that is no number ends the run."""
        if not math.isfinite(train_mae):
            raise InputError(
                f"Training diverged in epoch {self.progress.epoch + 1}: lower learning_rate "
                f"({self.parameters.learning_rate:g}) and train again."
            )
        self.progress.epoch += 1
        row: dict[str, Any] = {"epoch": self.progress.epoch, "learning_rate": rate, "train_mae": train_mae}
        self.progress.history.append({**row, "validation_mae": None})

    def capture(self) -> TrainingState:
        """Copy the state out."""
        return capture_state(self.network, self.average, self.optimiser, self.progress, self.parameters, self.digest)

    def restore(self, state: TrainingState) -> None:
        """Go on from a state."""
        self.progress, _ = restore_state(
            state, self.network, self.average, self.optimiser, self.parameters, self.digest
        )


_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "mae": nn.functional.l1_loss,
    "mse": nn.functional.mse_loss,
}


_MAY_BE_NONE = ("attribute_width", "n_trees", "kernel_rows")
"""Sizes that may be 0."""

_FIXED = ("precision", "patience", "balanced_classes", "min_steps")
"""Settings of `TrainingParameters` that this trainer has no use for."""


def _optimiser(network: nn.Module, parameters: ModuliTraining) -> torch.optim.Optimizer:
    """Decay matrices, that which embeds the features of atoms too, and leave vectors (biases, batch norm) alone."""
    weights = [p for p in network.parameters() if p.ndim > 1]
    rest = [p for p in network.parameters() if p.ndim <= 1]
    groups: list[dict[str, Any]] = [
        {"params": weights, "weight_decay": parameters.weight_decay, "rate_factor": 1.0},
        {"params": rest, "weight_decay": 0.0, "rate_factor": 1.0},
    ]
    return optimiser_of(groups, parameters)
