"""Optimisers and learning-rate schedules of the trainer, by name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from models.errors import InputError
from models.training_parameters import TrainingParameters


def make_optimiser(
    network: nn.Module, parameters: TrainingParameters, rate_factors: Mapping[str, float] | None = None
) -> torch.optim.Optimizer:
    """Make the optimiser: matrices decay, vectors (biases, norms) do not.

    Parameters
    ----------
    network
        What is trained; parameters with a factor of 0 are frozen here.
    parameters
        Settings.
    rate_factors
        Factor on the learning rate by parameter name, for transfer; 1 where a name is missing.

    Raises
    ------
    InputError
        If a factor names no parameter, or everything is frozen.
    """
    named = dict(network.named_parameters())
    factors = dict(rate_factors or {})
    if unknown := sorted(set(factors) - set(named)):
        raise InputError(f"{unknown[0]!r} is no parameter of this network: choose from {', '.join(sorted(named))}.")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in named.items():
        factor = factors.get(name, 1.0)
        if factor == 0.0:
            parameter.requires_grad_(False)
            continue
        # embeddings of elements are looked up, not multiplied: decay would wipe out those that rarely occur
        decays = parameter.ndim > 1 and not name.endswith("embedding.weight")
        groups.setdefault((factor, parameters.weight_decay if decays else 0.0), []).append(parameter)
    if not groups:
        raise InputError("Every layer is frozen: there is nothing to train; freeze fewer layers.")
    options = [
        {"params": members, "weight_decay": decay, "rate_factor": factor} for (factor, decay), members in groups.items()
    ]
    return optimiser_of(options, parameters)


def optimiser_of(groups: list[dict[str, Any]], parameters: TrainingParameters) -> torch.optim.Optimizer:
    """Make the optimiser of groups of parameters, each with its ``weight_decay`` and ``rate_factor``."""
    rate = parameters.learning_rate
    if parameters.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=rate, momentum=parameters.momentum, nesterov=parameters.momentum > 0)
    kind = torch.optim.AdamW if parameters.optimiser == "adamw" else torch.optim.Adam
    return kind(groups, lr=rate, betas=(0.9, parameters.beta2), fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the learning rate, times each group's factor."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group["rate_factor"]


def learning_rate_at(step: int, n_steps: int, parameters: TrainingParameters) -> float:
    """Learning rate of a step (0 to n_steps - 1).

    All schedules rise over the warm-up, from 1/25 of the peak on a cosine. Then ``one_cycle`` falls to zero on a cosine
    (L. N. Smith and N. Topin, arXiv:1708.07120), ``linear`` on a line, ``step`` by a factor of ten at half and at three
    quarters of the steps, and ``constant`` stays.
    """
    peak, rising = parameters.learning_rate, parameters.warmup * n_steps
    if step < rising:
        return peak * (0.04 + 0.96 * (0.5 - 0.5 * math.cos(math.pi * step / rising)))
    fallen = (step - rising) / (n_steps - rising)
    if parameters.schedule == "one_cycle":
        return peak * (0.5 + 0.5 * math.cos(math.pi * fallen))
    if parameters.schedule == "linear":
        return peak * (1.0 - fallen)
    if parameters.schedule == "step":
        return peak * (1.0 if step < 0.5 * n_steps else 0.1 if step < 0.75 * n_steps else 0.01)
    return peak
