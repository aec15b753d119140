"""Train: `features` or `examples` -> `model`, a network with its learning curve, its metrics and its uncertainty."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.elements import ELEMENTS
from models.errors import InputError
from models.metrics import classification_metrics, per_element_errors, regression_metrics
from models.network_ensemble import Prediction
from models.representation import FROM_STRUCTURE
from models.training import TrainedNetwork
from models.transfer import compare_elements
from models.uncertainty import (
    MIN_CALIBRATION_ROWS,
    CalibratedUncertainty,
    expected_calibration_error,
    fit_temperature,
    fit_uncertainty,
    tempered,
    uncertainty_report,
)
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.model_files import ModelCard, MonteCarlo
from storage.store import ArtifactStore, ArtifactWriter
from tasks.applicability import described_rows, expectation_report, fit_expected_error
from tasks.checkpoint import learning_curve
from tasks.examples import Examples, load_examples
from tasks.featurize import FEATURE_VERSION
from tasks.learning import (
    Learned,
    by_split,
    described_settings,
    learn,
    learning_inputs,
    put_together,
    training_settings,
)  # fmt: skip
from tasks.preset import n_training_rows, resolved
from tasks.source_model import Source, load_source
from tasks.stage import build, stage
from tasks.teach import load_taught
from tasks.train_parameters import TrainParameters

__all__ = ["model_request", "train_network", "training_rows", "training_settings"]

STAGE_VERSION = 2
SPLITS = ("train", "calibration", "validation")

Supported = dict[str, tuple[NDArray[np.int64], pd.DataFrame]]
"""By split, rows and how well the training rows support them, as `tasks.applicability.described_rows` has it."""


@stage("train-network", retries=1)
def train_network(
    root: str,
    rows: ArtifactRef,
    parameters: TrainParameters,
    init: ArtifactRef | None = None,
    attributes: ArtifactRef | None = None,
    taught: ArtifactRef | None = None,
    members: Sequence[ArtifactRef] = (),
) -> ArtifactRef:
    """Train a network (or an ensemble) on the training rows; validation rows are only measured.

    A killed run goes on from its last checkpoint and ends with the same weights.

    Parameters
    ----------
    root
        The store's folder or URL.
    rows
        A `features` or `examples` artifact.
    parameters
        Network and trainer.
    init
        A `model` of the same architecture to start from.
    attributes
        Structural attributes, for representations that need them.
    taught
        Compositions with a teacher's labels, which are learnt from as well.
    members
        Members that are trained already, as models of one member with consecutive seeds (see `tasks.members`): they are
        put together instead of trained, and no part of the key.
    """
    store, parameters = ArtifactStore(root), settled(parameters, rows, attributes, taught)
    request = model_request(store, rows, parameters, init, attributes, taught)
    return build(root, request, lambda writer: _write(writer, store, request.inputs, parameters, members))


def settled(
    parameters: TrainParameters,
    rows: ArtifactRef,
    attributes: ArtifactRef | None = None,
    taught: ArtifactRef | None = None,
) -> TrainParameters:
    """Return the parameters with the preset that suits what is learnt, where it was left open."""
    read = attributes if parameters.representation in FROM_STRUCTURE else None
    return resolved(parameters, lambda: n_training_rows(rows, read, taught))


def model_request(
    store: ArtifactStore,
    rows: ArtifactRef,
    parameters: TrainParameters,
    init: ArtifactRef | None = None,
    attributes: ArtifactRef | None = None,
    taught: ArtifactRef | None = None,
) -> ArtifactRequest:
    """Return what a `model` is made from."""
    parameters = settled(parameters, rows, attributes, taught)
    return ArtifactRequest(
        "model",
        "tasks.train",
        STAGE_VERSION,
        described_settings(parameters),
        learning_inputs({"features": rows}, parameters.representation, init, attributes, taught),
        energy_scheme=store.manifest(rows).energy_scheme,
    )


def _write(
    writer: ArtifactWriter,
    store: ArtifactStore,
    inputs: Mapping[str, ArtifactRef],
    parameters: TrainParameters,
    members: Sequence[ArtifactRef],
) -> None:
    examples = load_examples(inputs["features"], parameters.representation, inputs.get("attributes"))
    if examples.targets != parameters.targets:
        raise InputError(
            f"the table has labels of {', '.join(examples.targets)}, not of {', '.join(parameters.targets)}; name them"
        )
    rows = by_split(examples, SPLITS)
    if len(rows["train"]) == 0:
        raise InputError("no row has the split 'train'; clean a table with formation energies first")
    source = load_source(inputs["init"], parameters) if "init" in inputs else None
    if members:
        learned = put_together(members)
    else:
        folder = store.scratch(writer.request.key)
        more = load_taught(inputs["taught"], parameters.representation) if "taught" in inputs else None
        begun = _begun(store, inputs, parameters)
        learned = learn(
            examples, rows["train"], rows["calibration"], parameters, folder, source, taught=more, begun=begun
        )
    ensemble = learned.ensemble(parameters)
    predictions = {name: ensemble.predict(examples.x[part]) for name, part in rows.items() if len(part)}
    supported = _supported(examples, rows)
    card = _card(writer, inputs, examples, rows, parameters, learned, predictions, supported)
    writer.write_model(card, learned.members)
    writer.write_table("learning_curve", learning_curve(learned.histories), "learning_curve")
    _write_reports(writer, examples, rows, card, predictions, supported, source)
    if len(learned.members) > 1:
        writer.write_json("members.json", _each_member(examples, rows, parameters, learned))
    for name, part in rows.items():
        writer.count(f"rows_{name}", len(part))


def _begun(
    store: ArtifactStore, inputs: Mapping[str, ArtifactRef], parameters: TrainParameters
) -> list[TrainedNetwork]:
    """Return the longest beginning of a network's restarts that the store has: it is not trained again."""
    if parameters.members > 1:
        return []  # its members are looked for one by one
    others = [inputs.get(name) for name in ("init", "attributes", "taught")]
    for restarts in reversed(range(parameters.restarts)):
        fewer = parameters.model_copy(
            update={"restarts": restarts, "restart_epochs": parameters.restart_epochs if restarts else None}
        )
        stored = store.find(model_request(store, inputs["features"], fewer, *others).key)
        if stored is not None:
            return put_together([stored]).networks
    return []


def _each_member(
    examples: Examples, rows: dict[str, NDArray[np.int64]], parameters: TrainParameters, learned: Learned
) -> list[dict[str, Any]]:
    """Return the metrics of every member alone, on the rows that no weight was learned from."""
    alone = [replace(learned, members=[member]).ensemble(parameters) for member in learned.members]
    held = {name: rows[name] for name in ("calibration", "validation") if len(rows[name])}
    return [
        {name: measure(examples, part, one.predict(examples.x[part])) for name, part in held.items()} for one in alone
    ]


def _card(
    writer: ArtifactWriter,
    inputs: Mapping[str, ArtifactRef],
    examples: Examples,
    rows: dict[str, NDArray[np.int64]],
    parameters: TrainParameters,
    learned: Learned,
    predictions: dict[str, Prediction],
    supported: Supported,
) -> ModelCard:
    scheme = writer.request.energy_scheme
    calibration = None
    if "calibration" in predictions:
        calibration = _calibration(examples, rows["calibration"], predictions["calibration"], supported)
    return ModelCard(
        name=parameters.network,
        architecture=learned.architecture,
        features=parameters.representation,
        feature_version=FEATURE_VERSION,
        element_order=list(ELEMENTS),
        targets=[
            {"name": name, "unit": unit, "transform": examples.transform}
            for name, unit in zip(examples.targets, examples.units, strict=True)
        ],
        normalisation=learned.normalisation if not examples.is_classes else {"mean": [0.0], "std": [1.0]},
        calibration=calibration,
        training_data=inputs["features"].digest,
        split={name: len(part) for name, part in rows.items()},
        metrics={name: measure(examples, rows[name], said) for name, said in predictions.items()},
        functional=scheme.functional if scheme else "unstated",
        energy_scheme=scheme,
        n_members=len(learned.members),
        domain={"training_rows": training_rows(examples.fractions[rows["train"]])},
        monte_carlo=MonteCarlo(passes=parameters.passes, seed=parameters.seed) if parameters.passes else None,
    )


def measure(examples: Examples, rows: NDArray[np.int64], said: Prediction) -> dict[str, Any]:
    """Return the metrics of a prediction; of several targets those of each by its name."""
    if examples.is_classes:
        return classification_metrics(examples.y[rows, 0], said.mean[:, 1])
    each = {}
    for k, name in enumerate(examples.targets):
        truth = examples.y[rows, k]
        present = ~np.isnan(truth)
        if present.any():
            each[name] = regression_metrics(truth[present], said.mean[present, k])
    return next(iter(each.values())) if len(examples.targets) == 1 else each


def _supported(examples: Examples, rows: dict[str, NDArray[np.int64]]) -> Supported:
    """Return how well the training rows support those to calibrate and to measure on; of one number alone."""
    if examples.is_classes or len(examples.targets) != 1 or len(rows["calibration"]) < MIN_CALIBRATION_ROWS:
        return {}
    return described_rows(
        examples, rows["train"], {name: rows[name] for name in ("calibration", "validation") if len(rows[name])}
    )


def _calibration(
    examples: Examples, rows: NDArray[np.int64], said: Prediction, supported: Supported
) -> dict[str, Any] | None:
    """Fit the predictive distribution on the calibration rows, from which no weight was learned.

    Of numbers a whole distribution and the error to expect from what the training rows support, of classes a
    temperature.
    """
    if len(examples.targets) != 1 or len(rows) < MIN_CALIBRATION_ROWS:
        return None
    if examples.is_classes:
        return {"temperature": fit_temperature(said.log_probabilities, examples.labels(rows))}
    error = said.mean[:, 0] - examples.y[rows, 0]
    described, scores = supported["calibration"]
    expected = fit_expected_error(scores, error[np.searchsorted(rows, described)])
    fitted = {"uncertainty": fit_uncertainty(error, raw_std(said))}
    return fitted if expected is None else fitted | {"expected_error": expected}


def raw_std(said: Prediction) -> NDArray[np.float64]:
    """Return the standard deviations (n,) that a calibration starts from: all 1 where the network states none."""
    return np.ones(len(said.mean)) if said.std is None else said.std[:, 0]


def _write_reports(
    writer: ArtifactWriter,
    examples: Examples,
    rows: dict[str, NDArray[np.int64]],
    card: ModelCard,
    predictions: dict[str, Prediction],
    supported: Supported,
    source: Source | None,
) -> None:
    if source is not None:
        report = compare_elements(source.training_rows, examples.fractions[rows["train"]], ELEMENTS)
        writer.write_json("transfer.json", {"init": source.name} | report.to_dict())
    measured = "validation" if len(rows["validation"]) else "calibration"
    if measured not in predictions or len(examples.targets) != 1:
        return
    part, said = rows[measured], predictions[measured]
    if examples.is_classes:
        if card.calibration is not None and measured == "validation":
            writer.write_json("probabilities.json", _probabilities(examples.labels(part), card.calibration, said))
        return
    truth, mean = examples.y[part, 0], said.mean[:, 0]
    errors = per_element_errors(examples.fractions[part], truth, mean)
    writer.write_json("errors_by_element.json", errors.to_dict("records"))
    if card.calibration is not None and measured == "validation":
        calibrated = CalibratedUncertainty.from_dict(card.calibration["uncertainty"])
        from tasks.reporting import figures_uncertainty, style  # every worker imports this module, few draw

        quality = uncertainty_report(truth, mean, raw_std(said), calibrated)
        writer.write_json("uncertainty.json", quality)
        writer.write_bytes(
            "uncertainty.svg", style.standalone(figures_uncertainty.calibration(quality, examples.units[0]))
        )
        if "expected_error" in card.calibration:
            described, scores = supported["validation"]
            error = (mean - truth)[np.searchsorted(part, described)]
            writer.write_json(
                "applicability.json", expectation_report(card.calibration["expected_error"], scores, error)
            )


def _probabilities(labels: NDArray[Any], calibration: dict[str, Any], said: Prediction) -> dict[str, Any]:
    """Return how far stated probabilities of class 1 are from what came true, before and after the calibration."""
    after = tempered(said.log_probabilities, calibration["temperature"])
    stated = {"raw": said.mean, "calibrated": after}
    errors = {name: expected_calibration_error(probability[:, 1], labels) for name, probability in stated.items()}
    return {"n": len(labels), "expected_calibration_error": errors} | calibration


def training_rows(x: NDArray[np.float32]) -> dict[str, int]:
    """Return in how many training rows each of the 86 elements occurs."""
    return {element: int(n) for element, n in zip(ELEMENTS, np.count_nonzero(x, axis=0), strict=True)}
