"""Trained networks of any kind at work: rows -> means, uncertainties or class probabilities.

`models.predictor.Predictor` screens with composition networks at the speed of the machine; this class serves the rest:
several properties, classes, networks that predict their own uncertainty, and dropout that stays on at prediction.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import InputError
from models.losses import split_outputs
from models.registry import build
from models.training_state import load_arrays
from models.uncertainty import combine

BATCH_ROWS = 1024
_LEAST_PROBABILITY = 1e-12


@dataclass(frozen=True)
class Prediction:
    """What an ensemble says of n rows.

    Attributes
    ----------
    mean
        (n, k) in the targets' units; for classes their probabilities (n, c), the mean over the members.
    std
        (n, k) in the targets' units, from the members' spread and the predicted scales; None for a single network that
        predicts none, and for classes.
    """

    mean: NDArray[np.float64]
    std: NDArray[np.float64] | None

    @property
    def log_probabilities(self) -> NDArray[np.float64]:
        """Logarithms (n, c) of class probabilities, which a temperature divides (`models.uncertainty.tempered`)."""
        return np.log(np.maximum(self.mean, _LEAST_PROBABILITY))


class NetworkEnsemble:
    """One network or several of one architecture, in fp32 through torch's own layers, in batches of one size.

    Parameters
    ----------
    architecture
        ``{"name": ..., "parameters": {...}}``, see `models.registry.build`.
    normalisation
        ``{"mean": [...], "std": [...]}``, one number per target; empty for classes.
    members
        Weights by name, one dictionary per member.
    passes
        Predictions per member with dropout switched on, averaged (Y. Gal and Z. Ghahramani, arXiv:1506.02142); 0
        switches it off.
    seed
        Of the dropout. What is dropped for a row depends on it, the member, the pass and the row's place, not on how
        many rows follow.

    Raises
    ------
    InputError
        If there is no member, the weights do not fit, or there is no dropout to switch on.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        normalisation: Mapping[str, Sequence[float]],
        members: Sequence[Mapping[str, NDArray[Any]]],
        *,
        passes: int = 0,
        seed: int = 0,
    ) -> None:
        if not members:
            raise InputError("The model has no members: train it again.")
        self.mean, self.std = (np.asarray(normalisation[name], dtype=np.float64) for name in ("mean", "std"))
        self.is_classes = len(self.mean) == 0
        self.passes, self.seed = passes, seed
        self.networks = [_load(architecture, member) for member in members]
        self.n_features = _n_features(architecture, self.networks[0])
        if passes and not any(_dropouts(self.networks[0])):
            raise InputError("The network has no dropout to average over: leave the number of passes at 0.")

    def outputs(self, x: NDArray[np.floating]) -> NDArray[np.float32]:
        """Return the outputs (m, n, outputs) of every member and pass, before the normalisation."""
        x = np.ascontiguousarray(x, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise InputError(f"The model takes rows (n, {self.n_features}), got shape {x.shape}.")
        if not np.isfinite(x).all():
            raise InputError("The rows hold NaN or infinite values: clean the table.")
        with torch.random.fork_rng(devices=[]):
            return np.stack([run for number in range(len(self.networks)) for run in self._runs(number, x)])

    def predict(self, x: NDArray[np.floating]) -> Prediction:
        """Mean and standard deviation, or class probabilities, of rows (n, f).

        Raises
        ------
        InputError
            If the rows have another number of columns, or a value is not finite.
        """
        outputs = torch.from_numpy(self.outputs(x))
        if self.is_classes:
            return Prediction(outputs.double().softmax(dim=2).mean(dim=0).numpy(), None)
        k = len(self.mean)
        means, log_scales = zip(*(split_outputs(member, k) for member in outputs), strict=True)
        centres = np.stack([mean.double().numpy() for mean in means]) * self.std + self.mean
        scales = None
        if log_scales[0] is not None:
            scales = np.stack([np.exp(scale.double().numpy()) for scale in log_scales]) * self.std
        mean, spread = zip(
            *(combine(centres[:, :, j], None if scales is None else scales[:, :, j]) for j in range(k)), strict=True
        )
        known = [std for std in spread if std is not None]
        return Prediction(np.stack(mean, axis=1), np.stack(known, axis=1) if known else None)

    @torch.inference_mode()
    def _runs(self, number: int, x: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        network = self.networks[number]
        for dropout in _dropouts(network):
            dropout.train(self.passes > 0)
        return [_run(network, x, (self.seed, number, turn)) for turn in range(max(1, self.passes))]


def _run(network: nn.Module, x: NDArray[np.float32], stream: tuple[int, ...]) -> NDArray[np.float32]:
    """Every batch has the same number of rows: the bits of a row must not depend on how many came together."""
    parts = []
    for start in range(0, max(len(x), 1), BATCH_ROWS):
        sequence = np.random.SeedSequence((*stream, start // BATCH_ROWS))
        torch.manual_seed(int(sequence.generate_state(1, np.uint64)[0]))  # of dropout, batch by batch
        rows = x[start : start + BATCH_ROWS]
        batch = np.zeros((BATCH_ROWS, x.shape[1]), dtype=np.float32)
        batch[: len(rows)] = rows
        output: Tensor = network(torch.from_numpy(batch))
        parts.append(output.reshape(BATCH_ROWS, -1)[: len(rows)].numpy())
    return np.concatenate(parts)


def _dropouts(network: nn.Module) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, nn.Dropout) and module.p > 0]


def _n_features(architecture: Mapping[str, Any], network: nn.Module) -> int:
    """Columns that a network reads: what its architecture states, or the network's default."""
    stated = architecture.get("parameters", {}).get("n_features")
    return int(inspect.signature(type(network)).parameters["n_features"].default if stated is None else stated)


def _load(architecture: Mapping[str, Any], member: Mapping[str, NDArray[Any]]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # building draws initial weights that are thrown away
        network = build(architecture).eval().requires_grad_(False)
    load_arrays(network, member, "model")
    return network
