"""What `train` and the folds of a cross-validation have in common: rows and parameters -> trained members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from models.architectures import architecture
from models.errors import InputError
from models.losses import outputs_per_target
from models.network_ensemble import NetworkEnsemble
from models.registry import NETWORKS, build
from models.training import TrainedNetwork, train_network
from models.training_parameters import TrainingParameters
from models.training_rows import Normalisation
from models.training_together import can_train_together, train_together
from models.transfer import initial_weights, rate_factors
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from tasks.checkpoint import Checkpoint, Interval
from tasks.device import screening_device
from tasks.examples import Examples
from tasks.parameters import TrainParameters
from tasks.progress import Progress

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Learned:
    """Members of one architecture, trained on the same rows.

    Attributes
    ----------
    architecture, normalisation
        As a model card holds them.
    members
        Weights by name of each.
    histories
        Learning curve of each.
    """

    architecture: dict[str, Any]
    normalisation: dict[str, list[float]]
    members: list[dict[str, NDArray[Any]]]
    histories: list[list[dict[str, Any]]]

    def ensemble(self, parameters: TrainParameters) -> NetworkEnsemble:
        """Return the members ready to predict."""
        return NetworkEnsemble(
            self.architecture, self.normalisation, self.members, passes=parameters.passes, seed=parameters.seed
        )


@dataclass(frozen=True)
class Source:
    """The trained model that a training starts from.

    Attributes
    ----------
    name
        Its key, for messages.
    architecture, normalisation
        As its card holds them.
    targets
        Columns that it predicts as they are; none for classes.
    members
        Its weights.
    training_rows
        Rows that it was trained on, by element.
    """

    name: str
    architecture: dict[str, Any]
    normalisation: dict[str, list[float]]
    targets: tuple[str, ...]
    members: list[dict[str, NDArray[Any]]]
    training_rows: dict[str, int]


def training_settings(parameters: TrainParameters) -> TrainingParameters:
    """Return the trainer's settings: the preset with what was changed."""
    changes: dict[str, Any] = {"seed": parameters.seed, "threads": parameters.threads}
    changes |= {name: value for name in ("epochs", "batch_size") if (value := getattr(parameters, name)) is not None}
    return TrainingParameters.preset(parameters.preset, **(changes | parameters.settings))


def described_settings(parameters: TrainParameters) -> dict[str, Any]:
    """Return what decides the weights, beside the rows: part of a key."""
    described: dict[str, Any] = {
        "network": parameters.network,
        "target": parameters.target,
        "members": parameters.members,
        "settings": training_settings(parameters).to_dict(),
    }
    optional = parameters.model_dump(mode="json", include={"architecture", "passes", "transfer"})
    if parameters.representation != "element_fraction":
        optional["representation"] = parameters.representation
    return described | {name: value for name, value in optional.items() if value}


def load_source(model: ArtifactRef, parameters: TrainParameters) -> Source:
    """Return the model to start from.

    Raises
    ------
    InputError
        If it reads something else than the training's network, or has fewer members than are to be trained.
    """
    card, members = read_model(model)
    if card.features != parameters.representation:
        raise InputError(
            f"the model {model.key} reads {card.features}, this training {parameters.representation}; use one of them"
        )
    if card.architecture.name != parameters.network:
        raise InputError(f"the model {model.key} is an {card.architecture.name}; train with --model {card.name}")
    if 1 < len(members) < parameters.members:
        raise InputError(f"the model {model.key} has {len(members)} members; train at most as many")
    rows = card.domain.get("training_rows", {})
    targets = tuple(target.name for target in card.targets if target.transform == "none")
    return Source(model.key, card.architecture.model_dump(), card.normalisation.model_dump(), targets, members, rows)


def learn(
    examples: Examples,
    train: Rows,
    held: Rows,
    parameters: TrainParameters,
    folder: Path,
    source: Source | None = None,
    label: str = "",
) -> Learned:
    """Train all members on some rows.

    Parameters
    ----------
    examples
        The table.
    train, held
        Rows that are learnt from, and rows of the training part that are only measured after each epoch.
    parameters
        Network and trainer.
    folder
        Where checkpoints are kept.
    source
        A model to start from.
    label
        What is trained, for progress.

    Raises
    ------
    InputError
        If the parameters do not fit the rows or the source.
    """
    if parameters.network not in NETWORKS:
        raise InputError(
            f"'{parameters.network}' is a baseline, which is evaluated in cross-validations and not saved; train "
            f"{' or '.join(NETWORKS)}"
        )
    settings = training_settings(parameters)
    if examples.is_classes != (settings.loss == "cross_entropy"):
        kind = "classes: train with the loss cross_entropy" if examples.is_classes else "numbers: choose another loss"
        raise InputError(f"the labels are {kind}")
    n_outputs = 2 if examples.is_classes else examples.y.shape[1] * outputs_per_target(settings.loss)
    described = architecture(parameters.network, examples.x.shape[1], n_outputs, parameters.architecture)
    if source is None and trains_together(described, settings, parameters.members):
        trained = _train_together(examples, train, held, settings, described, parameters, folder, label)
    else:
        trained = [
            _train_member(number, examples, train, held, settings, described, parameters, folder, source, label)
            for number in range(parameters.members)
        ]
    return Learned(
        described, trained[0].normalisation, [one.state for one in trained], [one.history for one in trained]
    )


def _train_member(
    number: int,
    examples: Examples,
    train: Rows,
    held: Rows,
    settings: TrainingParameters,
    described: Mapping[str, Any],
    parameters: TrainParameters,
    folder: Path,
    source: Source | None,
    label: str,
) -> TrainedNetwork:
    checkpoint = Checkpoint(folder, _checkpoint_name(number))
    start = _start(number, described, parameters, source, examples)
    return train_network(
        examples.x[train],
        examples.labels(train),
        examples.x[held],
        examples.labels(held),
        _member_settings(settings, number),
        build=lambda: build(described),
        resume=checkpoint.load(),
        on_epoch=checkpoint.watch(_progress(number, settings, parameters, label), _unit(examples)),
        device=screening_device(),
        **start,
    )


def trains_together(described: Mapping[str, Any], settings: TrainingParameters, members: int) -> bool:
    """Return whether an ensemble is trained in one batched pass: on a GPU, which one network at a time leaves idle."""
    return members > 1 and screening_device() == "cuda" and can_train_together(described, settings)


def _train_together(
    examples: Examples,
    train: Rows,
    held: Rows,
    settings: TrainingParameters,
    described: Mapping[str, Any],
    parameters: TrainParameters,
    folder: Path,
    label: str,
) -> list[TrainedNetwork]:
    numbers, interval = range(parameters.members), Interval()
    checkpoints = [Checkpoint(folder, _checkpoint_name(number), interval) for number in numbers]
    return train_together(
        examples.x[train],
        examples.labels(train),
        examples.x[held],
        examples.labels(held),
        [_member_settings(settings, number) for number in numbers],
        build=lambda: build(described),
        resume=[checkpoint.load() for checkpoint in checkpoints],
        on_epoch=[
            checkpoint.watch(_progress(number, settings, parameters, label), _unit(examples))
            for number, checkpoint in enumerate(checkpoints)
        ],
        device=screening_device(),
    )


def _member_settings(settings: TrainingParameters, number: int) -> TrainingParameters:
    return replace(settings, seed=settings.seed + number)


def _checkpoint_name(number: int) -> str:
    return f"member-{number:03d}"


def _progress(number: int, settings: TrainingParameters, parameters: TrainParameters, label: str) -> Progress:
    shown = f"train {label or parameters.network}" + (f" {number + 1}" if number else "")
    return Progress(shown, settings.epochs, "epochs", is_whole=not label)  # many folds would fill a log


def _unit(examples: Examples) -> str:
    """Return the unit of the errors that are shown; empty for classes."""
    if examples.is_classes:
        return ""
    return examples.units[0] if examples.y.shape[1] == 1 else "(normalised)"


def _start(
    number: int,
    described: Mapping[str, Any],
    parameters: TrainParameters,
    source: Source | None,
    examples: Examples,
) -> dict[str, Any]:
    """Return what a training that starts from another model hands to the trainer."""
    if source is None:
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(parameters.seed + number)
        network = build(described)
    weights, _ = initial_weights(network, source.members[number % len(source.members)], source.name)
    rates = parameters.transfer
    start: dict[str, Any] = {"initial": weights}
    if rates is not None:
        start["rate_factors"] = rate_factors(network, rates.frozen, rates.rate_decay)
    if source.targets == examples.targets and not examples.is_classes:
        # the source's scale: its outputs mean the same energies at the first step as before
        scale = source.normalisation
        start["normalisation"] = Normalisation(tuple(scale["mean"]), tuple(scale["std"]))
    return start


def by_split(examples: Examples, names: Sequence[str]) -> dict[str, Rows]:
    """Return the rows of each split."""
    return {name: np.flatnonzero(examples.split == name) for name in names}
