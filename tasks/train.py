"""Train: `features` -> `model`, a composition network with its learning curve and its metrics."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.elements import ELEMENTS
from models.errors import InputError
from models.metrics import per_element_errors, regression_metrics
from models.predictor import Predictor
from models.registry import build as build_network
from models.training import TrainedNetwork
from models.training import train_network as run_training
from models.training_parameters import TrainingParameters
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.model_files import ModelCard
from storage.store import ArtifactStore, ArtifactWriter
from tasks.checkpoint import Checkpoint, learning_curve
from tasks.featurize import FEATURE_VERSION
from tasks.parameters import TrainParameters
from tasks.progress import Progress
from tasks.stage import build, stage

STAGE_VERSION = 1

Rows = tuple[NDArray[np.float32], NDArray[np.float64]]


@stage("train-network", retries=1)
def train_network(root: str, features: ArtifactRef, parameters: TrainParameters) -> ArtifactRef:
    """Train a network (or an ensemble) on the training rows; validation rows are only measured.

    A killed run goes on from its last checkpoint and ends with the same weights.
    """
    store = ArtifactStore(root)
    settings = training_settings(parameters)
    request = ArtifactRequest(
        "model",
        "tasks.train",
        STAGE_VERSION,
        {
            "network": parameters.network,
            "target": parameters.target,
            "members": parameters.members,
            "settings": settings.to_dict(),
        },
        {"features": features},
        energy_scheme=store.manifest(features).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, features, parameters, settings))


def training_settings(parameters: TrainParameters) -> TrainingParameters:
    """Return the trainer's settings: the preset with what was changed."""
    changes: dict[str, Any] = {"seed": parameters.seed, "threads": parameters.threads}
    changes |= {name: value for name in ("epochs", "batch_size") if (value := getattr(parameters, name)) is not None}
    return TrainingParameters.preset(parameters.preset, **changes)


def _write(
    writer: ArtifactWriter,
    store: ArtifactStore,
    features: ArtifactRef,
    parameters: TrainParameters,
    settings: TrainingParameters,
) -> None:
    table = store.read_table(features)
    split = table.column("split").to_numpy(zero_copy_only=False)
    x = _fractions(table)
    y = table.column(parameters.target).to_numpy()
    rows: dict[str, Rows] = {
        name: (x[split == name], y[split == name]) for name in ("train", "calibration", "validation")
    }
    if len(rows["train"][0]) == 0:
        raise InputError("no row has the split 'train'; clean a table with formation energies first")
    architecture = {"name": parameters.network, "parameters": {"n_features": x.shape[1]}}
    folder = store.scratch(writer.request.key)
    trained = []
    for member in range(parameters.members):
        member_settings = TrainingParameters.from_dict(asdict(settings) | {"seed": settings.seed + member})
        trained.append(
            _train_member(member, rows, member_settings, architecture, Checkpoint(folder, f"member-{member:03d}"))
        )
    members = [network.state for network in trained]
    predictor = Predictor(architecture, trained[0].normalisation, members)
    card = ModelCard(
        name=parameters.network,
        architecture=architecture,
        features="element_fraction",
        feature_version=FEATURE_VERSION,
        element_order=list(ELEMENTS),
        targets=[{"name": parameters.target, "unit": "eV/atom", "transform": "none"}],
        normalisation=trained[0].normalisation,
        training_data=features.digest,
        split={name: len(part[0]) for name, part in rows.items()},
        metrics=_metrics(predictor, rows),
        functional=writer.request.energy_scheme.functional if writer.request.energy_scheme else "unstated",
        energy_scheme=writer.request.energy_scheme,
        n_members=len(members),
        domain={"training_rows": training_rows(rows["train"][0])},
    )
    writer.write_model(card, members)
    writer.write_table("learning_curve", learning_curve([network.history for network in trained]), "learning_curve")
    x, y = rows["validation"] if len(rows["validation"][0]) else rows["calibration"]
    if len(x):
        writer.write_json(
            "errors_by_element.json", per_element_errors(x, y, predictor.predict(x)[0]).to_dict("records")
        )
    for name, part in rows.items():
        writer.count(f"rows_{name}", len(part[0]))


def _train_member(
    member: int,
    rows: dict[str, Rows],
    settings: TrainingParameters,
    architecture: dict[str, Any],
    checkpoint: Checkpoint,
) -> TrainedNetwork:
    progress = Progress(
        f"train {architecture['name']}" + (f" {member + 1}" if member else ""), settings.epochs, "epochs"
    )
    x, y = rows["train"]
    x_held, y_held = rows["calibration"]
    return run_training(
        x,
        y,
        x_held,
        y_held,
        settings,
        build=lambda: build_network(architecture),
        resume=checkpoint.load(),
        on_epoch=checkpoint.watch(progress, "eV/atom"),
    )


def training_rows(x: NDArray[np.float32]) -> dict[str, int]:
    """Return in how many training rows each of the 86 elements occurs."""
    return {element: int(n) for element, n in zip(ELEMENTS, np.count_nonzero(x, axis=0), strict=True)}


def _metrics(predictor: Predictor, rows: dict[str, Rows]) -> dict[str, Any]:
    metrics: dict[str, Any] = {}
    for name, (x, y) in rows.items():
        if len(x):
            prediction, _ = predictor.predict(x)
            metrics[name] = regression_metrics(y, prediction)
    return metrics


def _fractions(table: pa.Table) -> NDArray[np.float32]:
    column = table.column("element_fraction").combine_chunks()
    flat: NDArray[np.float32] = column.flatten().to_numpy().astype(np.float32)
    return flat.reshape(-1, len(ELEMENTS))
