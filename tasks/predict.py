"""Predict: a network's values for the rows that it learned from and was measured on (the parity plot)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.elements import ELEMENTS
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.loading import load_predictor
from tasks.stage import build, stage

STAGE_VERSION = 1


@stage("predict-rows")
def predict_rows(root: str, network: ArtifactRef, features: ArtifactRef) -> ArtifactRef:
    """Predict every row of a `features` artifact, on the scale of its labels."""
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "predictions",
        "tasks.predict",
        STAGE_VERSION,
        {},
        {"network": network, "features": features},
        energy_scheme=store.manifest(features).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, network, features))


def _write(writer: ArtifactWriter, store: ArtifactStore, network: ArtifactRef, features: ArtifactRef) -> None:
    table = store.read_table(features)
    column = table.column("element_fraction").combine_chunks()
    prediction, std = load_predictor(network).predict(column.flatten().to_numpy().reshape(-1, len(ELEMENTS)))
    table = table.select(["material_id", "formula", "split", "formation_energy_per_atom"])
    table = table.append_column("prediction", pa.array(prediction.astype(np.float64)))
    spread = pa.nulls(table.num_rows, pa.float64()) if std is None else pa.array(std.astype(np.float64))
    table = table.append_column("prediction_std", spread)
    table = table.append_column("mixed_scheme", pa.array(np.zeros(table.num_rows, dtype=bool)))
    writer.write_table("predictions", table, "predictions")
    writer.count("rows", table.num_rows)
