"""The state of a training run between two epochs: named arrays and a small dictionary that it goes on from exactly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.errors import InputError
from models.training_parameters import TrainingParameters

STATE_VERSION = 1

WEIGHTS, AVERAGE, BEST = "weights/", "average/", "best/"
MOMENTS = {"exp_avg": "moment1/", "exp_avg_sq": "moment2/", "momentum_buffer": "momentum/"}
"""What optimisers remember of every parameter, by its name in torch -> where it is stored."""


@dataclass(frozen=True)
class TrainingState:
    """What a training run needs to continue, to be stored between epochs.

    Attributes
    ----------
    tensors
        Flat dictionary of arrays: ``weights/NAME``, ``average/NAME``, with early stopping ``best/NAME``, and the
        optimiser's ``moment1/NAME`` and ``moment2/NAME`` or ``momentum/NAME``. Stores without pickle, as safetensors
        for example.
    meta
        JSON-able: ``version``, ``epoch`` (epochs done), ``step``, ``n_averaged``, ``history`` (one dictionary per
        epoch), ``parameters`` and ``data`` (digest of the training rows), the last two to refuse a foreign state.
    """

    tensors: dict[str, NDArray[Any]]
    meta: dict[str, Any]


@dataclass
class Progress:
    """Where a training run stands.

    Attributes
    ----------
    epoch
        Epochs done.
    step
        Optimiser steps done.
    n_averaged
        Updates of the weight average so far.
    history
        One JSON-able dictionary per epoch done.
    """

    epoch: int
    step: int
    n_averaged: int
    history: list[dict[str, Any]]


def data_digest(*arrays: NDArray[Any]) -> str:
    """SHA-256 over shapes, types and contents of arrays."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def capture_state(
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    progress: Progress,
    parameters: TrainingParameters,
    digest: str,
    best: Mapping[str, Tensor] | None = None,
) -> TrainingState:
    """Copy the state of a run out of torch."""
    tensors = {WEIGHTS + k: to_array(v) for k, v in network.state_dict().items()}
    tensors |= {AVERAGE + k: to_array(v) for k, v in average.state_dict().items()}
    tensors |= {BEST + k: to_array(v) for k, v in (best or {}).items()}
    for name, parameter in network.named_parameters():
        for key, prefix in MOMENTS.items():
            moment = optimiser.state.get(parameter, {}).get(key)
            if moment is not None:
                tensors[prefix + name] = to_array(moment)
    meta = {
        "version": STATE_VERSION,
        "epoch": progress.epoch,
        "step": progress.step,
        "n_averaged": progress.n_averaged,
        "history": [dict(row) for row in progress.history],
        "parameters": parameters.to_dict(),
        "data": digest,
    }
    return TrainingState(tensors, meta)


def restore_state(
    state: TrainingState,
    network: nn.Module,
    average: nn.Module,
    optimiser: torch.optim.Optimizer,
    parameters: TrainingParameters,
    digest: str,
) -> tuple[Progress, dict[str, Tensor]]:
    """Put a captured state back into freshly built objects; the run's progress and its best weights (empty: none yet).

    Raises
    ------
    InputError
        If the state is of another version, architecture, set of parameters or training data.
    """
    meta = state.meta
    if meta.get("version") != STATE_VERSION:
        raise InputError(f"The checkpoint has format {meta.get('version')!r}, not {STATE_VERSION}: train from scratch.")
    if meta["parameters"] != parameters.to_dict():
        changed = sorted(k for k, v in parameters.to_dict().items() if meta["parameters"].get(k) != v)
        raise InputError(f"The checkpoint was made with other {', '.join(changed)}: keep them or train from scratch.")
    if meta["data"] != digest:
        raise InputError("The checkpoint was made from other training rows: keep them or train from scratch.")
    load_arrays(network, _part(state.tensors, WEIGHTS), "checkpoint")
    load_arrays(average, _part(state.tensors, AVERAGE), "checkpoint")
    for name, parameter in network.named_parameters():
        if parameter.requires_grad and meta["step"]:
            optimiser.state[parameter] = _restored_moments(state, optimiser, name, parameter)
    best = {name: torch.tensor(array) for name, array in _part(state.tensors, BEST).items()}
    return Progress(meta["epoch"], meta["step"], meta["n_averaged"], [dict(row) for row in meta["history"]]), best


def _restored_moments(
    state: TrainingState, optimiser: torch.optim.Optimizer, name: str, parameter: nn.Parameter
) -> dict[str, Tensor]:
    is_sgd = isinstance(optimiser, torch.optim.SGD)
    if is_sgd and optimiser.defaults["momentum"] == 0:
        return {}
    slot: dict[str, Tensor] = {}
    for key in ("momentum_buffer",) if is_sgd else ("exp_avg", "exp_avg_sq"):
        moment = state.tensors.get(MOMENTS[key] + name)
        if moment is None or moment.shape != tuple(parameter.shape):
            raise InputError(f"The checkpoint lacks the optimiser's {MOMENTS[key] + name}: train from scratch.")
        slot[key] = torch.tensor(moment, dtype=parameter.dtype, device=parameter.device)
    if not is_sgd:
        slot["step"] = torch.tensor(float(state.meta["step"]), dtype=torch.float32, device=parameter.device)
    return slot


def to_array(tensor: Tensor) -> NDArray[Any]:
    """Copy a tensor into an array of its own memory."""
    return np.array(tensor.detach().cpu().numpy(), copy=True)


def load_arrays(network: nn.Module, arrays: Mapping[str, NDArray[Any]], what: str) -> None:
    """Load named arrays into a network.

    Raises
    ------
    InputError
        If names or shapes differ from the network's: it is of another architecture.
    """
    expected = network.state_dict()
    wrong = sorted(set(expected) ^ set(arrays)) or sorted(
        name for name, tensor in expected.items() if tuple(tensor.shape) != np.shape(arrays[name])
    )
    if wrong:
        raise InputError(
            f"The {what} is of another architecture ({wrong[0]} does not fit): use the one it was made with."
        )
    network.load_state_dict({name: torch.tensor(np.asarray(array)) for name, array in arrays.items()})


def _part(tensors: Mapping[str, NDArray[Any]], prefix: str) -> dict[str, NDArray[Any]]:
    return {name.removeprefix(prefix): array for name, array in tensors.items() if name.startswith(prefix)}
