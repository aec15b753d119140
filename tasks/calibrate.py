"""Calibrate: how far a prediction below the hull can be trusted, from chemical systems the network has not seen."""

from __future__ import annotations

from typing import Any

import numpy as np

from models.formula import parse_many
from models.hull import PhaseHull
from models.stability import fit_probability, residual_summary
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.examples import load_examples
from tasks.loading import input_of, load_hull, load_predictor, reference_correction
from tasks.stage import build, stage

STAGE_VERSION = 2


@stage("calibrate")
def calibrate(root: str, network: ArtifactRef, phases: ArtifactRef) -> ArtifactRef:
    """Fit the probability of being stable on the network's calibration rows.

    Those rows are whole chemical systems kept out of training. Their predicted and true energies are held against the
    hull of all phases outside of these systems, as if nothing were known in them: most candidates are in such systems.
    """
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "calibration",
        "tasks.calibrate",
        STAGE_VERSION,
        {},
        {"network": network, "phases": phases},
        energy_scheme=store.manifest(phases).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, network, phases))


def _write(writer: ArtifactWriter, store: ArtifactStore, network: ArtifactRef, phases: ArtifactRef) -> None:
    features = input_of(store, network, "features")
    result: dict[str, Any]
    if features is None:
        result = {"probability": {"method": "none", "reason": "the network's training data is not in this store"}}
    else:
        examples = load_examples(features, "element_fraction")
        held = np.flatnonzero(examples.split == "calibration")
        writer.count("rows", len(held))
    if features is not None and len(held) == 0:
        result = {"probability": {"method": "none", "reason": "no calibration rows; raise calibration_fraction"}}
    elif features is not None:
        fractions = parse_many([examples.formula[row] for row in held]).fractions
        truth = examples.y[held, 0] - fractions @ reference_correction(store, phases)
        prediction = load_predictor(network, phases).predict(fractions.astype(np.float32))[0].astype(np.float64)
        hull = _without_systems(store, phases, set(examples.chemsys[held].tolist()))
        result = {
            "probability": fit_probability(
                hull.decomposition_energy(fractions, prediction), hull.decomposition_energy(fractions, truth)
            ),
            "residuals": residual_summary(prediction, truth),
        }
    writer.write_json("calibration.json", result)


def _without_systems(store: ArtifactStore, phases: ArtifactRef, systems: set[str]) -> PhaseHull:
    """Return the hull of the phases that are not of these chemical systems."""
    formulas = store.read_table(phases, columns=["formula"]).column("formula")
    parsed = parse_many(formulas.to_pylist())
    inside = np.isin(np.array(parsed.chemsys, dtype=str), list(systems))
    return load_hull(phases).without(parsed.fractions[inside])
