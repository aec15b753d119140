"""Moduli: crystal graphs -> `model` of log10 K and log10 G, and its predictions for candidates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from models.crystal_graph import CRYSTAL_FEATURE_VERSION, CrystalGraphs
from models.elements import ELEMENTS
from models.errors import InputError
from models.folds import grouped_folds
from models.metrics import regression_metrics
from models.moduli import ModuliPredictor, TrainedModuli, train_ensemble, training_rows
from models.moduli_members import LEARNT
from models.moduli_training import ModuliTraining
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.model_files import ModelCard, read_model
from storage.store import ArtifactStore, ArtifactWriter
from tasks.checkpoint import Checkpoint, learning_curve
from tasks.featurize import read_graphs
from tasks.loading import input_of
from tasks.parameters import ModuliParameters
from tasks.progress import Progress
from tasks.stage import build, stage

STAGE_VERSION = 5
PREDICTION_VERSION = 2
CALIBRATION_FOLDS = 10
#: Rows a fold should hold, so that the error bars can be calibrated: small tables hold out more than a tenth.
ROWS_PER_FOLD = 25

#: Compounds with usable moduli that a network needs at least.
FEWEST = 50

_MODULI = ["bulk_modulus_vrh", "shear_modulus_vrh"]


@stage("train-moduli", retries=1)
def train_moduli(root: str, graphs: Sequence[ArtifactRef], parameters: ModuliParameters) -> ArtifactRef:
    """Train networks, trees and kernel machines on the compounds of one table or several that state moduli.

    One formula in ten is held out (more where there are few rows): it calibrates the error bars and measures the
    ensemble. Rows of a compound that several tables state are all learnt from.
    """
    store = ArtifactStore(root)
    settings = moduli_settings(parameters)
    if len({ref.digest for ref in graphs}) < len(graphs):
        raise InputError("two of the tables with moduli are the same: their rows would count twice; name each once")
    inputs: dict[str, ArtifactRef] = {}
    for number, ref in enumerate(graphs, 1):
        suffix = "" if number == 1 else f"_{number}"
        inputs |= {f"graphs{suffix}": ref, f"compounds{suffix}": _compounds_of(store, ref)}
    request = ArtifactRequest(
        "model",
        "tasks.moduli",
        STAGE_VERSION,
        {"network": "cgcnn", "members": parameters.members, "settings": settings.to_dict()},
        inputs,
    )
    return build(root, request, lambda writer: _write_model(writer, store, graphs, parameters, settings))


def moduli_settings(parameters: ModuliParameters) -> ModuliTraining:
    """Return the trainer's settings with what was changed.

    Raises
    ------
    InputError
        There is no setting of a name, or it cannot have such a value.
    """
    given = dict(parameters.settings) | {"seed": parameters.seed, "threads": parameters.threads}
    if parameters.epochs is not None:
        given["epochs"] = parameters.epochs
    return ModuliTraining.from_dict(given)


def _compounds_of(store: ArtifactStore, graphs: ArtifactRef) -> ArtifactRef:
    compounds = input_of(store, graphs, "compounds")
    if compounds is None:
        raise InputError(f"the compounds that {graphs.key} was made from are not in the store; ingest them again")
    return compounds


def _crystals(store: ArtifactStore, refs: Sequence[ArtifactRef]) -> tuple[CrystalGraphs, pd.DataFrame]:
    """Return the graphs of all tables, and what is known of each crystal; `row` counts within its own table."""
    parts, frames = [], []
    for ref in refs:
        graphs, rows = read_graphs(store, ref)
        parts.append(graphs)
        frames.append(store.read_table(_compounds_of(store, ref)).to_pandas().iloc[rows].assign(row=rows))
    frame = pd.concat(frames, ignore_index=True)
    frame["elastic_tensor"] = [None if value is None else value.reshape(6, 6) for value in frame["elastic_tensor"]]
    return CrystalGraphs.concatenate(parts), frame


def require_crystals(root: str, graphs: Sequence[ArtifactRef]) -> None:
    """Refuse tables of which no moduli can be learnt, before hours go into what comes first.

    Raises
    ------
    InputError
        Too few compounds have a structure and usable moduli.
    """
    _, frame = _crystals(ArtifactStore(root), graphs)
    _usable(training_rows(frame))


def _usable(reasons: Sequence[str | None]) -> NDArray[np.int64]:
    """Return the rows that nothing speaks against, if they are enough."""
    good = np.array([row for row, reason in enumerate(reasons) if reason is None], dtype=np.int64)
    if len(good) < FEWEST:
        raise InputError(
            f"{len(good)} compounds have a structure and usable moduli; a network needs at least {FEWEST}: name a "
            "table with structures and bulk and shear moduli (`structures` of a campaign, --structures of rank)"
        )
    return good


def _write_model(
    writer: ArtifactWriter,
    store: ArtifactStore,
    refs: Sequence[ArtifactRef],
    parameters: ModuliParameters,
    settings: ModuliTraining,
) -> None:
    graphs, frame = _crystals(store, refs)
    reasons = training_rows(frame)
    good = _usable(reasons)
    chosen = frame.iloc[good]
    logs = np.log10(chosen[_MODULI].to_numpy(float))
    folds = min(CALIBRATION_FOLDS, len(good) // ROWS_PER_FOLD)
    folder = store.scratch(writer.request.key)
    trained = train_ensemble(
        graphs.select(good),
        logs[:, 0],
        logs[:, 1],
        chosen["formula"].tolist(),
        settings,
        n_members=parameters.members,
        calibration_folds=folds,
        on_member=lambda member: _member_options(member, settings, Checkpoint(folder, f"member-{member:03d}")),
    )
    held_out = grouped_folds(chosen["formula"].tolist(), folds, settings.seed) == 0
    prediction = trained.predictor(settings.threads).predict(graphs.select(good))
    predicted = np.column_stack([prediction.log10_bulk, prediction.log10_shear])
    metrics = {
        name: regression_metrics(logs[held_out, k], predicted[held_out, k])
        for k, name in enumerate(("log10_bulk_modulus", "log10_shear_modulus"))
    }
    writer.write_model(_card(trained, refs, chosen, held_out, metrics), trained.members)
    writer.write_table("learning_curve", learning_curve(trained.histories), "learning_curve")
    writer.write_table("parity", _parity(chosen, predicted, held_out), "moduli_parity")
    refused = [
        (row, reason)
        for row, reason in enumerate(reasons)
        if reason is not None and frame[_MODULI].iloc[row].notna().any()
    ]
    if refused:
        writer.reject(
            {
                "row": int(frame["row"].iloc[row]),
                "material_id": frame["material_id"].iloc[row],
                "formula": frame["formula"].iloc[row],
                "reason": reason,
                "record": None,
            }
            for row, reason in refused
        )
    writer.count("rows_train", int((~held_out).sum()))
    writer.count("rows_calibration", int(held_out.sum()))


def _member_options(member: int, settings: ModuliTraining, checkpoint: Checkpoint) -> dict[str, Any]:
    """Return what resumes a member, and what keeps its checkpoints."""
    progress = Progress(f"train cgcnn {member + 1}", settings.epochs, "epochs")
    return {"resume": checkpoint.load(), "on_epoch": checkpoint.watch(progress, "log10(GPa)")}


def _card(
    trained: TrainedModuli,
    refs: Sequence[ArtifactRef],
    chosen: pd.DataFrame,
    held_out: np.ndarray,
    metrics: dict[str, Any],
) -> ModelCard:
    of_tables = chosen["functional"].iloc[:1] if len(refs) == 1 else chosen["functional"]
    functionals = {str(value or "unstated") for value in of_tables}
    return ModelCard(
        name="cgcnn",
        architecture=trained.architecture,
        features="crystal_graph",
        feature_version=CRYSTAL_FEATURE_VERSION,
        element_order=list(ELEMENTS),
        targets=[
            {"name": name, "unit": "GPa", "transform": "log10"} for name in ("bulk_modulus_vrh", "shear_modulus_vrh")
        ],
        normalisation=trained.normalisation,
        calibration=trained.calibration,
        training_data="+".join(ref.digest for ref in refs),
        split={"train": int((~held_out).sum()), "calibration": int(held_out.sum())},
        metrics=metrics,
        functional=functionals.pop() if len(functionals) == 1 else "mixed",
        n_members=len(trained.members),
        domain={"source": sorted(set(chosen["source"]))},
        normalised_quantity=LEARNT,
    )


def _parity(chosen: pd.DataFrame, predicted: np.ndarray, held_out: np.ndarray) -> pa.Table:
    return pa.table(
        {
            "material_id": chosen["material_id"].tolist(),
            "formula": chosen["formula"].tolist(),
            "split": np.where(held_out, "calibration", "train").tolist(),
            "bulk_modulus_vrh": chosen["bulk_modulus_vrh"].to_numpy(float),
            "shear_modulus_vrh": chosen["shear_modulus_vrh"].to_numpy(float),
            "bulk_modulus_prediction": 10 ** predicted[:, 0],
            "shear_modulus_prediction": 10 ** predicted[:, 1],
        }
    )


@stage("predict-moduli")
def predict_moduli(root: str, network: ArtifactRef, graphs: ArtifactRef) -> ArtifactRef:
    """Predict K and G with error bars for every crystal graph."""
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "moduli",
        "tasks.moduli",
        PREDICTION_VERSION,
        {},
        {"network": network, "graphs": graphs, "compounds": _compounds_of(store, graphs)},
    )
    return build(root, request, lambda writer: _write_moduli(writer, store, network, graphs))


def _write_moduli(writer: ArtifactWriter, store: ArtifactStore, network: ArtifactRef, ref: ArtifactRef) -> None:
    card, members = read_model(network)
    if card.features != "crystal_graph":
        raise InputError(f"the model {network.key} predicts from {card.features}; give a moduli model (crystal graphs)")
    predictor = ModuliPredictor(
        card.architecture.model_dump(), card.normalisation.model_dump(), members, card.calibration, threads=1
    )
    graphs, rows = read_graphs(store, ref)
    compounds = store.read_table(_compounds_of(store, ref), columns=["material_id", "formula"]).take(rows)
    frame = predictor.predict(graphs).to_frame()
    frame.insert(0, "material_id", compounds.column("material_id").to_pylist())
    frame.insert(1, "formula", compounds.column("formula").to_pylist())
    frame["moduli_source"] = "predicted"
    writer.write_table("moduli", pa.Table.from_pandas(frame, preserve_index=False), "moduli")
    writer.count("rows", len(frame))
