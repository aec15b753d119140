"""The model format: ``card.json`` and one safetensors file per ensemble member. No pickle."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from safetensors import SafetensorError
from safetensors.numpy import load, save

from storage.artifact import MANIFEST, ArtifactRef
from storage.canonical import pretty_bytes
from storage.errors import ArtifactCorrupt, ArtifactNotFound, StoreError
from storage.scheme import EnergyScheme

if TYPE_CHECKING:
    from storage.store import ArtifactStore

MODEL_FORMAT_VERSION = 1
CARD = "card.json"


class Architecture(BaseModel):
    """Name in the model registry and the parameters that rebuild the network."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)


class Target(BaseModel):
    """What a model predicts: column, unit, and the transform that training applied (``none`` or ``log10``)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    unit: str
    transform: str = "none"


class Normalisation(BaseModel):
    """Mean and standard deviation of each (transformed) target, in its unit; output = network * std + mean.

    Where `ModelCard.normalised_quantity` names another quantity, they are of that.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mean: list[float]
    std: list[float]


class MonteCarlo(BaseModel):
    """Predictions are means over passes with dropout on, drawn from a seed; metrics and calibration are of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    passes: int = Field(ge=1)
    seed: int = Field(ge=0)


class ModelCard(BaseModel):
    """Everything but the weights.

    Attributes
    ----------
    features, feature_version
        Name of the featuriser and version of the stage that makes the features.
    element_order
        Element symbols in the order of the input columns.
    calibration
        What turns a prediction into a probability; None when there is none.
    training_data
        Content digest of the artifact it was trained on; of several, joined by ``+``.
    n_members
        Number of members; one network alone is an ensemble of one, without a standard deviation.
    domain
        What the training data covers, e.g. training rows per element.
    monte_carlo
        How dropout is averaged over; None where it is off.
    normalised_quantity
        What the network learns, and `normalisation` is of, where that is not the transformed target itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = MODEL_FORMAT_VERSION
    name: str
    architecture: Architecture
    features: str
    feature_version: int
    element_order: list[str]
    targets: list[Target] = Field(min_length=1)
    normalisation: Normalisation
    calibration: dict[str, Any] | None = None
    training_data: str
    split: dict[str, Any] = Field(default_factory=dict)
    metrics: dict[str, Any] = Field(default_factory=dict)
    functional: str
    energy_scheme: EnergyScheme | None = None
    n_members: int = Field(default=1, ge=1)
    domain: dict[str, Any] = Field(default_factory=dict)
    monte_carlo: MonteCarlo | None = None
    normalised_quantity: str | None = None

    @model_serializer(mode="wrap")
    def _only_what_there_is(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what few models have: the cards of others are what they were before there were the fields."""
        data: dict[str, Any] = handler(self)
        for name in ("monte_carlo", "normalised_quantity"):
            if getattr(self, name) is None:
                data.pop(name, None)
        return data

    @model_validator(mode="after")
    def _one_normalisation_per_target(self) -> ModelCard:
        if not len(self.normalisation.mean) == len(self.normalisation.std) == len(self.targets):
            raise ValueError("normalisation needs one mean and one std per target")
        return self


def member_path(number: int) -> str:
    """Return the file name of an ensemble member."""
    return f"member-{number:03d}.safetensors"


def model_files(card: ModelCard, members: Sequence[Mapping[str, np.ndarray]]) -> dict[str, bytes]:
    """Return the files of a model by name; equal members give equal bytes.

    Raises
    ------
    StoreError
        When the card announces another number of members, a member is empty, or an array cannot be stored.
    """
    if card.n_members != len(members):
        raise StoreError(
            f"the card of model '{card.name}' says {card.n_members} members, not {len(members)}; correct n_members"
        )
    files = {CARD: pretty_bytes(card)}
    for number, member in enumerate(members):
        if not member:
            raise StoreError(f"member {number} of model '{card.name}' has no tensors; train it first")
        # safetensors writes the raw buffer, so an array that is not C-contiguous would be stored scrambled.
        tensors = {name: np.array(array, order="C", copy=True) for name, array in sorted(member.items())}
        try:
            files[member_path(number)] = save(tensors)
        except (SafetensorError, KeyError, TypeError, ValueError) as error:
            kinds = sorted({str(array.dtype) for array in tensors.values()})
            raise StoreError(
                f"member {number} of model '{card.name}' cannot be stored ({', '.join(kinds)}); use float32"
            ) from error
    return files


def read_model(
    source: ArtifactRef | str | Path, store: ArtifactStore | None = None
) -> tuple[ModelCard, list[dict[str, np.ndarray]]]:
    """Read a model from an artifact (verified) or from a plain folder.

    Parameters
    ----------
    source
        Reference, key, artifact folder or address, or a folder with ``card.json`` and the members in it.
    store
        Store in which a key is looked up; the default store when None.

    Returns
    -------
    card, members
        Tensors by name for each member.

    Raises
    ------
    ArtifactNotFound
        When there is no model.
    ArtifactCorrupt
        When a file differs from its manifest or cannot be read, or the members are not those the card announces.
    """
    files, where = _read_files(source, store)
    card = _read_card(files, where)
    found = sorted(name for name in files if name.endswith(".safetensors"))
    expected = [member_path(number) for number in range(card.n_members)]
    if found != expected:
        raise ArtifactCorrupt(
            f"the model {where} announces {card.n_members} members and has {', '.join(found) or 'none'}; copy it again"
        )
    members = []
    for name in expected:
        try:
            members.append(load(files[name]))
        except (SafetensorError, ValueError, KeyError) as error:
            raise ArtifactCorrupt(f"{name} of the model {where} is damaged; copy or train it again") from error
    return card, members


def _read_files(source: ArtifactRef | str | Path, store: ArtifactStore | None) -> tuple[dict[str, bytes], str]:
    if not isinstance(source, ArtifactRef):
        folder = Path(source)
        in_artifact = any((place / MANIFEST).is_file() for place in (folder, folder.absolute().parent))
        if (folder / CARD).is_file() and not in_artifact:
            names = [path.name for path in sorted(folder.iterdir()) if path.is_file()]
            return {name: (folder / name).read_bytes() for name in names if _is_model_file(name)}, str(folder)
    from storage.store import ArtifactStore  # the store's writer imports this module

    if isinstance(source, ArtifactRef):
        ref, store = source, store or ArtifactStore.from_ref(source)
    else:
        store = store or ArtifactStore()
        ref = store.resolve(source)
    paths = [entry.path for entry in store.manifest(ref).payload]
    return {path: store.read_bytes(ref, path) for path in paths if _is_model_file(path)}, ref.uri


def _is_model_file(name: str) -> bool:
    return name == CARD or name.endswith(".safetensors")


def _read_card(files: Mapping[str, bytes], where: str) -> ModelCard:
    if CARD not in files:
        raise ArtifactNotFound(f"{where} holds no model ({CARD} is missing); give a model artifact")
    try:
        fields = json.loads(files[CARD])
        if int(fields.get("format_version", 0)) > MODEL_FORMAT_VERSION:
            raise StoreError(f"the model {where} was written by a newer elemscreen; upgrade elemscreen")
        return ModelCard.model_validate(fields)
    except (ValueError, TypeError, AttributeError, ValidationError) as error:
        raise ArtifactCorrupt(
            f"{CARD} of the model {where} is not a valid model card; copy or train it again"
        ) from error
