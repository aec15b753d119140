"""What `train` and the folds of a cross-validation have in common: rows and parameters -> trained members."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from models.architectures import architecture
from models.errors import InputError
from models.losses import outputs_per_target
from models.network_ensemble import NetworkEnsemble
from models.registry import BASELINE_NAMES, NETWORKS, build
from models.representation import FROM_STRUCTURE
from models.training import OnEpoch, TrainedNetwork, train_network
from models.training_parameters import TrainingParameters
from models.training_rows import Normalisation
from models.training_together import can_train_together, train_together
from models.transfer import initial_weights, rate_factors
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks.checkpoint import Checkpoint, Interval
from tasks.device import worker_device
from tasks.examples import Examples
from tasks.loading import scale_of
from tasks.progress import Progress
from tasks.source_model import Source
from tasks.train_parameters import TrainParameters

Rows = NDArray[np.int64]
_RESTART_SEEDS = 1_000_000
"""What a restart adds to the seed of its member."""

Taught = tuple[NDArray[np.float32], NDArray[np.float64]]
"""Inputs (n, f) and labels (n,) of compositions that a teacher labelled."""


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

    @property
    def networks(self) -> list[TrainedNetwork]:
        """The members as the trainer returned them."""
        pairs = zip(self.members, self.histories, strict=True)
        return [TrainedNetwork(state, self.normalisation, history) for state, history in pairs]

    def ensemble(self, parameters: TrainParameters) -> NetworkEnsemble:
        """Return the members ready to predict."""
        return NetworkEnsemble(
            self.architecture, self.normalisation, self.members, passes=parameters.passes, seed=parameters.seed
        )


def training_settings(parameters: TrainParameters) -> TrainingParameters:
    """Return the trainer's settings: the preset, which must be `resolved`, with what was changed."""
    changes: dict[str, Any] = {"seed": parameters.seed, "threads": parameters.threads}
    changes |= {name: value for name in ("epochs", "batch_size") if (value := getattr(parameters, name)) is not None}
    return TrainingParameters.preset(parameters.preset, **(changes | parameters.settings))


def described_settings(parameters: TrainParameters) -> dict[str, Any]:
    """Return what decides the weights, beside the rows: part of a key."""
    settings: dict[str, Any] = {"seed": parameters.seed, "threads": parameters.threads}
    if parameters.network not in BASELINE_NAMES:  # which no trainer trains
        settings = training_settings(parameters).to_dict()
    described: dict[str, Any] = {
        "network": parameters.network,
        "target": parameters.target,
        "members": parameters.members,
        "settings": settings,
    }
    later = {"architecture", "passes", "transfer", "restarts", "restart_epochs"}
    optional = parameters.model_dump(mode="json", include=later)
    if parameters.passes:
        optional["predicted_with_dropout"] = True  # before, only what was measured was averaged over passes
    if parameters.transfer is not None and parameters.transfer.frozen:
        optional["frozen_statistics"] = True  # before, frozen normalisations kept their weights alone
    if parameters.representation != "element_fraction":
        optional["representation"] = parameters.representation
    return described | {name: value for name, value in optional.items() if value}


def learning_inputs(
    rows: dict[str, ArtifactRef],
    representation: str,
    init: ArtifactRef | None = None,
    attributes: ArtifactRef | None = None,
    taught: ArtifactRef | None = None,
) -> dict[str, ArtifactRef]:
    """Return the artifacts that a training reads, by role; structural attributes only where they are read."""
    inputs = dict(rows)
    if init is not None:
        inputs["init"] = init
    if attributes is not None and representation in FROM_STRUCTURE:
        inputs["attributes"] = attributes
    if taught is not None:
        inputs["taught"] = taught
    return inputs


def learn(
    examples: Examples,
    train: Rows,
    held: Rows,
    parameters: TrainParameters,
    folder: Path,
    source: Source | None = None,
    label: str = "",
    taught: Taught | None = None,
    begun: Sequence[TrainedNetwork] = (),
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
    taught
        Inputs (n, f) and labels (n,) of a teacher, learnt from beside the rows.
    begun
        The only member, and what became of it at its first restarts, where that was trained before.

    Raises
    ------
    InputError
        If the parameters do not fit the rows, the source or the teacher.
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
    if taught is not None and (examples.is_classes or examples.y.shape[1] != 1 or source is not None):
        raise InputError("a teacher is for networks of one number that start from scratch; leave it out")
    work = _Work(examples, train, held, settings, described, parameters, folder, source, label, taught)
    alone = source is not None or taught is not None or parameters.restarts > 0
    if not alone and trains_together(described, settings, parameters.members):
        trained = _train_together(work)
    else:
        trained = [one for number in range(parameters.members) for one in _train_member(work, number, begun)]
    return Learned(
        described, trained[0].normalisation, [one.state for one in trained], [one.history for one in trained]
    )


def put_together(models: Sequence[ArtifactRef]) -> Learned:
    """Return members that were trained as models of their own, in their order."""
    card, _ = read_model(models[0])
    weights: list[dict[str, NDArray[Any]]] = []
    histories: list[list[dict[str, Any]]] = []
    for ref in models:
        members = read_model(ref)[1]
        weights.extend(members)
        curves: list[list[dict[str, Any]]] = [[] for _ in members]
        for line in ArtifactStore.from_ref(ref).read_table(ref, "learning_curve").to_pylist():
            curves[line.pop("member")].append({name: value for name, value in line.items() if value is not None})
        histories.extend(curves)
    return Learned(card.architecture.model_dump(), scale_of(card), weights, histories)


@dataclass(frozen=True)
class _Work:
    """What is trained, on which rows, and where its checkpoints are."""

    examples: Examples
    train: Rows
    held: Rows
    settings: TrainingParameters
    described: Mapping[str, Any]
    parameters: TrainParameters
    folder: Path
    source: Source | None
    label: str
    taught: Taught | None

    @property
    def rows(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], NDArray[Any]]:
        """Inputs and labels of the rows that are learnt from, and of those that are kept back."""
        given = self.examples
        x, labels = given.x[self.train], given.labels(self.train)
        if self.taught is not None:
            x, labels = np.concatenate([x, self.taught[0]]), np.concatenate([labels, self.taught[1]])
        return x, labels, given.x[self.held], given.labels(self.held)

    @property
    def unit(self) -> str:
        """Unit of the errors that are shown; empty for classes."""
        if self.examples.is_classes:
            return ""
        return self.examples.units[0] if self.examples.y.shape[1] == 1 else "(normalised)"

    def build(self) -> nn.Module:
        """Build the network, from torch's generator."""
        return build(self.described)

    def member(self, number: int, restart: int = 0) -> TrainingParameters:
        """Return the settings of a member, or of one of its restarts: there rows come in another order."""
        first = replace(self.settings, seed=self.settings.seed + number)
        if not restart:
            return first
        epochs = self.parameters.restart_epochs or max(1, first.epochs_for(self.n_rows) // 2)
        return replace(first, seed=first.seed + restart * _RESTART_SEEDS, epochs=epochs, min_steps=0)

    def checkpoint(self, number: int, restart: int = 0, interval: Interval | None = None) -> Checkpoint:
        """Return the checkpoint of a member, or of one of its restarts."""
        name = f"member-{number:03d}" + (f"-restart-{restart:02d}" if restart else "")
        return Checkpoint(self.folder, name, interval or self.interval())

    @property
    def n_rows(self) -> int:
        """Number of the rows that are learnt from."""
        return len(self.train) + (0 if self.taught is None else len(self.taught[1]))

    def interval(self) -> Interval:
        """Return when checkpoints are saved."""
        minutes = self.parameters.checkpoint_minutes
        return Interval(None if minutes is None else 60.0 * minutes)

    def watch(self, number: int, checkpoint: Checkpoint, restart: int = 0) -> OnEpoch:
        """Show a member's epochs, and save it now and then."""
        shown = f"train {self.label or self.parameters.network}" + (f" {number + 1}" if number else "")
        if self.parameters.members == 1 and self.settings.seed:
            shown += f", seed {self.settings.seed}"  # members of an ensemble that are trained side by side
        if restart:
            shown += f", restart {restart}"
        # many folds would fill a log
        n_epochs = self.member(number, restart).epochs_for(self.n_rows)
        progress = Progress(shown, n_epochs, "epochs", is_whole=not self.label)
        return checkpoint.watch(progress, self.unit)


def _train_member(work: _Work, number: int, begun: Sequence[TrainedNetwork]) -> list[TrainedNetwork]:
    """Train a network, and go on with it as often as is wanted: Huang et al., "Snapshot ensembles", ICLR 2017."""
    ends = list(begun)
    start = _start(work, number)
    for restart in range(len(ends), 1 + work.parameters.restarts):
        if restart:
            start["initial"] = ends[-1].state
            scale = ends[-1].normalisation
            if scale["mean"]:  # classes have none
                start["normalisation"] = Normalisation(tuple(scale["mean"]), tuple(scale["std"]))
        checkpoint = work.checkpoint(number, restart)
        ends.append(
            train_network(
                *work.rows,
                work.member(number, restart),
                build=work.build,
                resume=checkpoint.load(),
                on_epoch=work.watch(number, checkpoint, restart),
                device=worker_device(),
                **start,
            )
        )
    return ends


def trains_together(described: Mapping[str, Any], settings: TrainingParameters, members: int) -> bool:
    """Return whether an ensemble is trained in one batched pass: on a GPU, which one network at a time leaves idle."""
    return members > 1 and worker_device() == "cuda" and can_train_together(described, settings)


def _train_together(work: _Work) -> list[TrainedNetwork]:
    numbers, interval = range(work.parameters.members), work.interval()
    checkpoints = [work.checkpoint(number, interval=interval) for number in numbers]
    return train_together(
        *work.rows,
        [work.member(number) for number in numbers],
        build=work.build,
        resume=[checkpoint.load() for checkpoint in checkpoints],
        on_epoch=[work.watch(number, checkpoint) for number, checkpoint in enumerate(checkpoints)],
        device=worker_device(),
    )


def _start(work: _Work, number: int) -> dict[str, Any]:
    """Return what a training that starts from another model hands to the trainer."""
    source, examples = work.source, work.examples
    if work.taught is not None:  # the scale is that of the rows, whatever the teacher labelled
        labels = examples.y[work.train]
        return {"normalisation": Normalisation((float(labels.mean()),), (float(labels.std()),))}
    if source is None:
        return {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(work.parameters.seed + number)
        network = work.build()
    weights, _ = initial_weights(network, source.members[number % len(source.members)], source.name)
    rates = work.parameters.transfer
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
