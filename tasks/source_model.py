"""The trained model that a training starts from, and how a model was trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks.train_parameters import TrainParameters


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


def training_of(model: ArtifactRef) -> TrainParameters:
    """Return how a `model` was trained, as its manifest says.

    Raises
    ------
    InputError
        If it learnt from more than rows: that another one could not be trained alike without.
    """
    manifest = ArtifactStore.from_ref(model).manifest(model)
    if others := sorted({"taught", "init"} & set(manifest.inputs)):
        what = {"taught": "a teacher", "init": "another model"}[others[0]]
        raise InputError(
            f"the model {model.key} learnt from {what} too, so that no other source can be trained alike on rows "
            "alone; take a source that learnt from rows"
        )
    described = manifest.parameters
    settings = dict(described["settings"])
    own = {name: settings.pop(name) for name in ("epochs", "batch_size", "seed", "threads")}
    return TrainParameters.model_validate(
        {name: value for name, value in described.items() if name != "settings"}
        | own
        | {"preset": "standard", "settings": settings}
    )
