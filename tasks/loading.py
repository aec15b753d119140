"""Loading what many tasks need, once per worker process."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.elemental_references import element_corrections
from models.elements import ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.hull import PhaseHull
from models.network_ensemble import NetworkEnsemble
from models.predictor import Predictor
from storage.artifact import ArtifactRef
from storage.errors import ArtifactNotFound
from storage.model_files import ModelCard, read_model
from storage.store import ArtifactStore


@lru_cache(maxsize=4)
def load_card(model: ArtifactRef) -> ModelCard:
    """Return a model's card."""
    return read_model(model)[0]


@lru_cache(maxsize=2)
def load_predictor(model: ArtifactRef, phases: ArtifactRef | None = None) -> Predictor:
    """Return a composition network ready to predict.

    Parameters
    ----------
    model
        The network.
    phases
        Where the predictions are to be held against a hull: its elemental reference corrections go to the
        predictions too, since the network learned the source's raw values. None for the source's own scale.
    """
    card, members = read_model(model)
    if card.features != "element_fraction":
        raise InputError(
            f"the model {model.key} predicts from {card.features}, not from a formula; give a composition network"
        )
    if len(card.targets) != 1 or card.targets[0].transform != "none":
        raise InputError(f"the model {model.key} predicts no single number; train one on formation energies")
    if card.monte_carlo is not None:
        raise InputError(
            f"the model {model.key} predicts by averaging over dropout, which only `elemscreen predict` does; train "
            "one with passes 0"
        )
    if phases is not None and card.targets[0].name != "formation_energy_per_atom":
        raise InputError(
            f"the model {model.key} predicts {card.targets[0].name}, which no hull can be held against; give one that "
            "predicts formation_energy_per_atom"
        )
    if card.element_order != list(ELEMENTS):
        raise InputError(f"the model {model.key} has another order of elements; train it again with this version")
    correction = None if phases is None else reference_correction(ArtifactStore.from_ref(phases), phases)
    return Predictor(
        card.architecture.model_dump(), card.normalisation.model_dump(), members, reference_correction=correction
    )


@lru_cache(maxsize=2)
def load_ensemble(model: ArtifactRef) -> NetworkEnsemble:
    """Return a model of any kind ready to predict: several targets, classes, predicted uncertainties."""
    card, members = read_model(model)
    dropout = {} if card.monte_carlo is None else card.monte_carlo.model_dump()
    return NetworkEnsemble(card.architecture.model_dump(), scale_of(card), members, **dropout)


def scale_of(card: ModelCard) -> dict[str, list[float]]:
    """Return mean and standard deviation of each target, as `NetworkEnsemble` takes them: of classes none."""
    if any(target.transform == "class" for target in card.targets):
        return {"mean": [], "std": []}
    return dict(card.normalisation.model_dump())


@lru_cache(maxsize=2)
def load_hull(phases: ArtifactRef) -> PhaseHull:
    """Return the convex hull of a `phases` artifact."""
    table = ArtifactStore.from_ref(phases).read_table(phases, columns=["formula", "formation_energy_per_atom"])
    return hull_of(table)


def hull_of(table: pa.Table) -> PhaseHull:
    """Return the convex hull of a table with `formula` and `formation_energy_per_atom`."""
    parsed = parse_many(table.column("formula").to_pylist())
    return PhaseHull(parsed.fractions, table.column("formation_energy_per_atom").to_numpy())


def reference_correction(store: ArtifactStore, phases: ArtifactRef) -> NDArray[np.float64]:
    """Return what the phases' audit takes off per atom of each element, shape (86,), eV."""
    record = store.manifest(phases).inputs.get("references")
    if record is None:
        return np.zeros(len(ELEMENTS))
    references = store.find(record.key)
    if references is None:
        raise ArtifactNotFound(
            f"the elemental references {record.key} of {phases.key} are not in the store; run the stage clean again"
        )
    return element_corrections(store.read_table(references).to_pandas())


def input_of(store: ArtifactStore, ref: ArtifactRef, role: str) -> ArtifactRef | None:
    """Return the artifact that `ref` was made from in this role, when the store still has it."""
    record: Any = store.manifest(ref).inputs.get(role)
    return None if record is None else store.find(record.key)
