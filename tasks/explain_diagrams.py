"""Phase diagrams of chosen chemical systems, as a network predicts them and as the known phases have them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.errors import InputError
from models.formula import parse_many
from models.predicted_diagram import PredictedDiagram, diagram_summary, parse_system, predicted_diagram
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.explain_parameters import ExplainParameters
from tasks.loading import input_of, load_card, load_predictor

_ENERGY = "formation_energy_per_atom"


def diagram_results(
    store: ArtifactStore, network: ArtifactRef, phases: ArtifactRef, parameters: ExplainParameters, mixed: bool
) -> tuple[pd.DataFrame, list[dict[str, Any]]]:
    """Return the table `predicted_diagram` of all systems, and the numbers of each.

    Returns
    -------
    DataFrame
    list of dict
        What `models.predicted_diagram.diagram_summary` says, with ``system``, ``tie_lines`` of both hulls as pairs of
        formulas, and ``training_rows`` of the system: how many of its compounds the network was trained on, None where
        its features are no longer in the store.
    """
    if not parameters.systems:
        return pd.DataFrame(), []
    target = load_card(network).targets[0].name
    if target != _ENERGY:
        raise InputError(f"the model {network.key} predicts {target}; a phase diagram needs formation energies")
    table = store.read_table(phases, columns=["formula", _ENERGY])
    parsed = parse_many(table.column("formula").to_pylist())
    energies = table.column(_ENERGY).to_numpy()
    predictor = load_predictor(network, phases)

    def predict(fractions: NDArray[np.float32]) -> NDArray[np.float32]:
        return predictor.predict(fractions)[0]

    frames, numbers = [], []
    for text in parameters.systems:
        diagram = predicted_diagram(parse_system(text), predict, parsed, energies, parameters.max_atoms)
        frames.append(_table(diagram, text, mixed))
        lines = {"predicted": _tie_lines(diagram, "predicted"), "reference": _tie_lines(diagram, "reference")}
        numbers.append(
            {"system": text, "tie_lines": lines, "training_rows": _training_rows(store, network, text)}
            | diagram_summary(diagram)
        )
    return pd.concat(frames, ignore_index=True), numbers


def _table(diagram: PredictedDiagram, text: str, mixed: bool) -> pd.DataFrame:
    predicted, reference = diagram.predicted, diagram.reference
    return pd.DataFrame(
        {
            "system": text,
            "formula": diagram.formulas,
            "shares": list(diagram.shares),
            "prediction": predicted.energies,
            "predicted_hull": predicted.hull,
            "predicted_stable": predicted.stable,
            _ENERGY: reference.energies,
            "hull_energy_per_atom": reference.hull,
            "stable": reference.stable,
            "in_space": diagram.in_space,
            "mixed_scheme": mixed,
        }
    )


def _tie_lines(diagram: PredictedDiagram, side: str) -> list[list[str]]:
    return [[diagram.formulas[a], diagram.formulas[b]] for a, b in getattr(diagram, side).tie_lines]


def _training_rows(store: ArtifactStore, network: ArtifactRef, text: str) -> int | None:
    """Count the compounds of a system and its subsystems among the rows that the network was trained on."""
    features = input_of(store, network, "features")
    if features is None:
        return None
    table = store.read_table(features, columns=["chemsys", "split"]).to_pandas()
    wanted = set(text.split("-"))
    inside = table["chemsys"].map(lambda system: "-" in system and set(system.split("-")) <= wanted)
    return int((inside & (table["split"] == "train")).sum())
