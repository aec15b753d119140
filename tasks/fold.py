"""One fold of a cross-validation: train on its training rows, predict its test rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.cleaning import system_draw
from models.elements import ELEMENTS
from models.errors import InputError
from models.folds import (
    Fold,
    hold_out_system,
    leave_one_element_out,
    parse_holdout,
    random_folds,
    system_folds,
    training_subsets,
)
from models.formula import parse_many
from models.metrics import per_element_errors
from models.network_ensemble import NetworkEnsemble, Prediction
from models.registry import BASELINE_NAMES
from models.relabel import decomposition_labels
from models.transfer import compare_elements
from models.uncertainty import MIN_CALIBRATION_ROWS, CalibratedUncertainty, fit_uncertainty, uncertainty_report
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.model_files import read_model
from storage.store import ArtifactStore, ArtifactWriter
from tasks.checkpoint import learning_curve
from tasks.examples import Examples, load_examples
from tasks.learning import described_settings, learn, learning_inputs
from tasks.loading import load_card, load_ensemble
from tasks.preset import resolved, with_structures
from tasks.source_model import load_source
from tasks.stage import build, stage
from tasks.train import measure, raw_std
from tasks.train_parameters import ENERGY, TrainParameters
from tasks.validation_parameters import ValidationParameters

STAGE_VERSION = 1
RESULT = "fold.json"


class FoldPlan(NamedTuple):
    """A fold, and how many of its training rows are learnt from; None: all."""

    name: str
    size: int | None


@stage("plan-folds")
def plan_folds(root: str, rows: ArtifactRef, validation: ValidationParameters) -> list[FoldPlan]:
    """Return the folds of a table, each with every size of the training set that is asked for."""
    folds = folds_of(rows, validation)
    sizes: tuple[int | None, ...] = validation.sizes or (None,)
    for fold in folds:
        if validation.sizes:
            training_subsets(len(fold.train), validation.sizes)  # refuses sizes that no fold has
    return [FoldPlan(fold.name, size) for fold in folds for size in sizes]


@lru_cache(maxsize=4)
def folds_of(rows: ArtifactRef, validation: ValidationParameters) -> list[Fold]:
    """Return the folds of a `features` or `examples` artifact, in rows of its table.

    Raises
    ------
    InputError
        If a fold would have nothing to learn from or to measure.
    """
    table = ArtifactStore.from_ref(rows).read_table(rows, columns=["formula", "chemsys", "split"])
    split = np.array(table.column("split").to_pylist(), dtype=str)
    if validation.scheme == "split":
        parts = [np.flatnonzero(np.isin(split, names)) for names in (("train",), ("validation",))]
        return [Fold("validation", parts[0], parts[1])]
    used = np.flatnonzero((split != "validation") | validation.include_validation)
    table = table.take(pa.array(used))
    found = _of_scheme(table.column("formula").to_pylist(), table.column("chemsys").to_pylist(), validation)
    return [Fold(fold.name, used[fold.train], used[fold.test]) for fold in found]


def _of_scheme(formulas: list[str], chemsys: list[str], validation: ValidationParameters) -> list[Fold]:
    if validation.scheme == "random":
        return random_folds(formulas, validation.folds, validation.seed)
    if validation.scheme == "grouped":
        return system_folds(chemsys, validation.folds, validation.seed)
    elements = parse_many(formulas).elements
    if validation.scheme == "elements":
        return leave_one_element_out(elements, validation.minimum_rows)
    return [hold_out_system(elements, *parse_holdout(text)) for text in validation.holdouts]


@stage("run-fold", retries=1)
def run_fold(
    root: str,
    rows: ArtifactRef,
    plan: FoldPlan,
    validation: ValidationParameters,
    training: TrainParameters,
    init: ArtifactRef | None = None,
    as_it_is: bool = False,
    attributes: ArtifactRef | None = None,
) -> ArtifactRef:
    """Train on a fold's training rows and predict its test rows.

    A killed run goes on from its last checkpoint.

    Parameters
    ----------
    root
        The store's folder or URL.
    rows
        A `features` or `examples` artifact.
    plan, validation
        The fold.
    training
        Network or baseline.
    init
        A `model` to start from, or with `as_it_is` to predict with.
    as_it_is
        Do not train.
    attributes
        Structural attributes, for representations that need them; rows without are left out of every entry's fold.

    Returns
    -------
    ArtifactRef
        A `fold`: a table of predictions, ``fold.json`` with the metrics, for networks their learning curves.
    """
    training = resolved(training, lambda: n_learnt(rows, [plan], validation, attributes))
    inputs = learning_inputs({"rows": rows}, training.representation, init, attributes)
    if attributes is not None:
        inputs["attributes"] = attributes  # all are measured on the rows that have structures, whatever they read
    described = {"representation": training.representation} if as_it_is else described_settings(training)
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "fold",
        "tasks.fold",
        STAGE_VERSION,
        {"validation": validation.description(), "fold": plan.name, "size": plan.size, "training": described},
        inputs,
        energy_scheme=store.manifest(rows).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, inputs, plan, validation, training, as_it_is))


def n_learnt(
    rows: ArtifactRef,
    plans: Sequence[FoldPlan],
    validation: ValidationParameters,
    attributes: ArtifactRef | None = None,
) -> int:
    """Return the fewest rows that a fold is learnt from, as far as it decides a preset: before some are kept back."""
    has = np.ones(0, dtype=np.bool_)
    if attributes is not None:
        table = ArtifactStore.from_ref(rows).read_table(rows, columns=["material_id"])
        has = pc.is_in(table.column("material_id"), value_set=with_structures(attributes)).to_numpy()
    dealt = {fold.name: fold.train for fold in folds_of(rows, validation)}
    counts = []
    for plan in plans:
        n = len(dealt[plan.name]) if attributes is None else int(has[dealt[plan.name]].sum())
        counts.append(n if plan.size is None else min(plan.size, n))
    return min(counts)


def _write(
    writer: ArtifactWriter,
    store: ArtifactStore,
    inputs: dict[str, ArtifactRef],
    plan: FoldPlan,
    validation: ValidationParameters,
    training: TrainParameters,
    as_it_is: bool,
) -> None:
    rows = inputs["rows"]
    examples = load_examples(rows, training.representation, inputs.get("attributes"))
    if len(examples.targets) != 1:
        raise InputError(f"folds measure one target, not {', '.join(examples.targets)}; choose examples of one")
    dealt = next(fold for fold in folds_of(rows, validation) if fold.name == plan.name)
    fold = Fold(dealt.name, examples.located(dealt.train), examples.located(dealt.test))
    train, held = _training_parts(examples, fold, plan, validation)
    if validation.relabel is not None:
        if len(fold.train) + len(fold.test) < len(dealt.train) + len(dealt.test):
            raise InputError(f"hulls need all rows and {training.representation} lacks some; represent compositions")
        examples = _relabelled(examples, fold, train, held)
    result: dict[str, Any] = {"fold": plan.name, "n_train": len(train), "n_held": len(held), "n_test": len(fold.test)}
    if training.network in BASELINE_NAMES and not as_it_is:
        from models.baselines import fit_baseline  # scikit-learn takes a third of a second to import

        task = "classification" if examples.is_classes else "regression"
        fitted = fit_baseline(
            training.network, examples.x[train], examples.labels(train), task=task, seed=training.seed,
            n_jobs=training.threads, **training.architecture,
        )  # fmt: skip
        said = {"test": _as_prediction(fitted.predict(examples.x[fold.test]))}
        result["baseline"] = fitted.description()
    else:
        ensemble = _ensemble(writer, store, inputs, examples, train, held, training, as_it_is, plan.name)
        said = {name: ensemble.predict(examples.x[part]) for name, part in (("held", held), ("test", fold.test))}
        if "init" in inputs:
            source = read_model(inputs["init"])[0].domain.get("training_rows", {})
            result["transfer"] = compare_elements(source, examples.fractions[fold.test], ELEMENTS).to_dict()
    _report(writer, examples, fold.test, held, said, result)


def _training_parts(
    examples: Examples, fold: Fold, plan: FoldPlan, validation: ValidationParameters
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that are learnt from, and those of the training part that are kept back."""
    if validation.scheme == "split":
        train, held = fold.train, np.flatnonzero(examples.split == "calibration")
    else:
        systems = {name: system_draw(name, validation.seed, "held") for name in set(examples.chemsys[fold.train])}
        kept_back = np.array([systems[name] < validation.held_fraction for name in examples.chemsys[fold.train]])
        train, held = fold.train[~kept_back], fold.train[kept_back]
    if plan.size is not None:
        formulas = [examples.formula[row] for row in train]
        (chosen,) = training_subsets(formulas, (min(plan.size, len(train)),), validation.seed)
        train = train[chosen]
    return train, held


def _relabelled(examples: Examples, fold: Fold, train: NDArray[np.int64], held: NDArray[np.int64]) -> Examples:
    """Return the examples with decomposition energies for labels: see `models.relabel`."""
    if examples.targets != (ENERGY,) or examples.is_classes:
        raise InputError(f"decomposition energies come from {ENERGY}, not from {', '.join(examples.targets)} as given")
    dealt = np.concatenate([fold.train, held, fold.test])
    labels = decomposition_labels(
        parse_many(examples.formula).fractions, examples.y[:, 0], np.concatenate([train, held]), fold.test, dealt
    )
    return replace(examples, y=labels[:, None], targets=("decomposition_energy",))


def _ensemble(
    writer: ArtifactWriter,
    store: ArtifactStore,
    inputs: dict[str, ArtifactRef],
    examples: Examples,
    train: NDArray[np.int64],
    held: NDArray[np.int64],
    training: TrainParameters,
    as_it_is: bool,
    label: str,
) -> NetworkEnsemble:
    if as_it_is:
        _check_fits(inputs["init"], examples, training)
        return load_ensemble(inputs["init"])
    source = load_source(inputs["init"], training) if "init" in inputs else None
    folder = store.scratch(writer.request.key)
    learned = learn(examples, train, held, training, folder, source, f"{training.network} {label}")
    writer.write_table("learning_curve", learning_curve(learned.histories), "learning_curve")
    return learned.ensemble(training)


def _check_fits(model: ArtifactRef, examples: Examples, training: TrainParameters) -> None:
    """Refuse a model that cannot be measured on these rows as it is."""
    card = load_card(model)
    if card.features != training.representation:
        raise InputError(f"the model {model.key} reads {card.features}, the fold {training.representation}; use one")
    kinds = [target.transform for target in card.targets]
    if kinds != [examples.transform]:
        names = {"class": "classes", "log10": "one logarithm", "none": "one number"}
        said = names[kinds[0]].replace("one", "1") if len(kinds) == 1 else f"{len(kinds)} numbers"
        wanted = names[examples.transform]
        raise InputError(f"the model {model.key} predicts {said}, the rows have {wanted}; give a model of the same")


def _as_prediction(values: NDArray[np.float64]) -> Prediction:
    return Prediction(values if values.ndim == 2 else values[:, None], None)


def _report(
    writer: ArtifactWriter,
    examples: Examples,
    test: NDArray[np.int64],
    held: NDArray[np.int64],
    said: dict[str, Prediction],
    result: dict[str, Any],
) -> None:
    truth = examples.y[test, 0]
    mean = said["test"].mean[:, 1 if examples.is_classes else 0]
    result["metrics"] = measure(examples, test, said["test"])
    if not examples.is_classes:
        result["by_element"] = per_element_errors(examples.fractions[test], truth, mean).to_dict("records")
        if len(held) >= MIN_CALIBRATION_ROWS and "held" in said:
            error = said["held"].mean[:, 0] - examples.y[held, 0]
            calibrated = CalibratedUncertainty.from_dict(fit_uncertainty(error, raw_std(said["held"])))
            result["uncertainty"] = uncertainty_report(truth, mean, raw_std(said["test"]), calibrated)
    spread = said["test"].std
    table = {
        "row": pa.array(examples.row[test], pa.int64()),
        "formula": [examples.formula[row] for row in test],
        "chemsys": [str(name) for name in examples.chemsys[test]],
        "truth": truth,
        "prediction": mean,
        "prediction_std": pa.nulls(len(test), pa.float64()) if spread is None else spread[:, 0],
    }
    writer.write_table("fold", pa.table(table), "fold")
    writer.write_json(RESULT, result)
    for name in ("n_train", "n_held", "n_test"):
        writer.count(name, result[name])
