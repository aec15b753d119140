"""Hyper-parameter search on the cluster: rows and a space -> `tuning`, its trials and the best configuration.

A trial is a training with a budget of epochs, measured on held-out rows: folds like those of a cross-validation, so a
search that is run again, after a kill or with more trials, finds what it trained before in the store.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.futures import PrefectFuture
from prefect.states import Completed

from models.errors import InputError
from models.halving import Measurement, Outcome, Trial, best_of, run_rungs
from models.search import parse_space, rank_correlations
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks import fold
from tasks.fold import FoldPlan, run_fold
from tasks.learning import described_settings, learning_inputs
from tasks.placement import placed
from tasks.preset import resolved
from tasks.stage import build, stage
from tasks.train_parameters import TrainParameters
from tasks.tune_parameters import TuneParameters, configured
from tasks.validation_parameters import ValidationParameters
from tasks.window import run_in_window

STAGE_VERSION = 2  # 2: the preset that was chosen is named
SUMMARY = "tuning.json"
DIVERGENCE = "diverged.json"

_LOSS = "Training diverged"
_PREDICTION = ("Members' means must be finite", "Truth or prediction holds NaN or infinite values")
"""How the trainer says that a loss is no number; and how ensembles and metrics say that a prediction is none, which is
all that shows of a training whose last step diverged."""


class Work(NamedTuple):
    """One trial on one fold."""

    trial: Trial
    training: TrainParameters
    plan: FoldPlan


class TrialRun(NamedTuple):
    """A trial on a rung, with the artifacts of its folds."""

    outcome: Outcome
    refs: tuple[ArtifactRef, ...]


RunWork = Callable[[Sequence[Work]], Sequence[ArtifactRef]]


@stage("run-trial", retries=1)
def run_trial(
    root: str,
    rows: ArtifactRef,
    plan: FoldPlan,
    validation: ValidationParameters,
    training: TrainParameters,
    attributes: ArtifactRef | None = None,
) -> ArtifactRef:
    """Train a trial on a fold's training rows and measure it on the others.

    Parameters
    ----------
    root
        The store's folder or URL.
    rows
        A `features` or `examples` artifact.
    plan, validation
        The fold.
    training
        The trial's configuration and budget.
    attributes
        Structural attributes, for representations that need them.

    Returns
    -------
    ArtifactRef
        A `fold`; where the training diverges a `diverged`, which says so in ``diverged.json``.
    """
    store = ArtifactStore(root)
    training = resolved(training, lambda: fold.n_learnt(rows, [plan], validation, attributes))
    inputs = learning_inputs({"rows": rows}, training.representation, attributes=attributes)
    if attributes is not None:
        inputs["attributes"] = attributes  # as of the fold: rows without are left out, whatever is read
    described = {"fold": plan.name, "size": plan.size, "training": described_settings(training)}
    request = ArtifactRequest(
        "diverged",
        "tasks.tune",
        STAGE_VERSION,
        described | {"validation": validation.description(), "fold_version": fold.STAGE_VERSION},
        inputs,
        energy_scheme=store.manifest(rows).energy_scheme,
    )
    known = store.find(request.key)
    if known is not None:
        return cast(ArtifactRef, Completed(name="Cached", data=known))
    try:
        return run_fold.fn(root, rows, plan, validation, training, None, False, attributes)
    except InputError as error:
        said = str(error)
        if not said.startswith((_LOSS, *_PREDICTION)):
            raise
    reason = said if said.startswith(_LOSS) else "The trained network predicts no finite values: lower learning_rate."
    return build(root, request, lambda writer: _write_divergence(writer, plan, reason))


def _write_divergence(writer: ArtifactWriter, plan: FoldPlan, reason: str) -> None:
    writer.write_json(DIVERGENCE, {"fold": plan.name, "reason": reason})


@task(name="choose-preset", cache_policy=NO_CACHE)
def settle(
    rows: ArtifactRef,
    plans: Sequence[FoldPlan],
    training: TrainParameters,
    tuning: TuneParameters,
    attributes: ArtifactRef | None = None,
) -> TrainParameters:
    """Return what all trials have in common, with one preset for all of them where it was left open."""
    measured = plans[: tuning.measured]
    return resolved(training, lambda: fold.n_learnt(rows, measured, tuning.validation, attributes))


def run_trials(
    root: str,
    rows: ArtifactRef,
    plans: Sequence[FoldPlan],
    training: TrainParameters,
    tuning: TuneParameters,
    attributes: ArtifactRef | None = None,
    window: int = 64,
) -> list[TrialRun]:
    """Run a search, its trainings as Prefect tasks on the cluster.

    Those of a batch, or of a rung, go side by side, placed by resource (see `tasks.placement.placed`).

    Returns
    -------
    list of TrialRun
        By rung, then by number, whatever ran first.
    """

    def submit(work: Work) -> PrefectFuture[Any]:
        with placed(work.training.threads):
            return run_trial.submit(root, rows, work.plan, tuning.validation, work.training, attributes)

    def run(work: Sequence[Work]) -> list[ArtifactRef]:
        label = f"rung {work[0].trial.rung + 1}"
        return run_in_window(submit, work, window, label, lambda item: 1, "trainings")

    return search_trials(root, plans, training, tuning, run)


def search_trials(
    root: str, plans: Sequence[FoldPlan], training: TrainParameters, tuning: TuneParameters, run: RunWork
) -> list[TrialRun]:
    """Run a search whose trainings `run` does, returning their artifacts in the order of the work.

    Raises
    ------
    InputError
        If there are fewer folds than each trial is measured on, a trial's held-out rows do not have the metric, or the
        space names settings that there are not.
    """
    if len(plans) < tuning.measured:
        raise InputError(f"there are {len(plans)} folds, not {tuning.measured}; measure trials on fewer")
    refs: dict[tuple[int, int], tuple[ArtifactRef, ...]] = {}
    measured = plans[: tuning.measured]

    def measure(trials: Sequence[Trial]) -> list[Measurement]:
        work = [
            Work(trial, configured(training, trial.configuration, trial.epochs), plan)
            for trial in trials
            for plan in measured
        ]
        done = list(run(work))
        found = []
        for number, trial in enumerate(trials):
            mine = tuple(done[number * len(measured) : (number + 1) * len(measured)])
            refs[trial.number, trial.rung] = mine
            found.append(_measurement(ArtifactStore(root), mine, tuning.metric))
        return found

    search = tuning.search()
    outcomes = run_rungs(search, tuning.rungs(search, training.network), measure, tuning.batch_size)
    return [TrialRun(outcome, refs[outcome.trial.number, outcome.trial.rung]) for outcome in outcomes]


def _measurement(store: ArtifactStore, refs: Sequence[ArtifactRef], metric: str | None) -> Measurement:
    """Return the mean over folds of what is minimised: an error, or what a score lacks of 1."""
    values = []
    for ref in refs:
        if ref.kind == "diverged":
            said = json.loads(store.read_bytes(ref, DIVERGENCE))
            return Measurement(math.inf, said["reason"])
        metrics = json.loads(store.read_bytes(ref, fold.RESULT))["metrics"]
        name = metric or ("mae" if "mae" in metrics else "auc")
        value = metrics.get(name)
        if value is None:
            known = ", ".join(one for one in ("mae", "rmse", "accuracy", "f1", "auc") if metrics.get(one) is not None)
            raise InputError(f"the held-out rows of a trial have no {name}; measure by one of {known}")
        values.append(value if name in ("mae", "rmse") else 1.0 - value)
    return Measurement(sum(values) / len(values))


@stage("summarise-trials")
def summarise_trials(
    root: str, rows: ArtifactRef, runs: Sequence[TrialRun], training: TrainParameters, tuning: TuneParameters
) -> ArtifactRef:
    """Put the trials of a search side by side.

    Returns
    -------
    ArtifactRef
        A `tuning`: a table with one row per trial and rung, and ``tuning.json`` with the best configuration.

    Raises
    ------
    InputError
        If every trial diverged.
    """
    store = ArtifactStore(root)
    inputs = {"rows": rows}
    for outcome, refs in runs:
        where = f"trial_{outcome.trial.number:04d}_rung_{outcome.trial.rung}"
        inputs |= {f"{where}_fold_{number}": ref for number, ref in enumerate(refs)}
    request = ArtifactRequest(
        "tuning",
        "tasks.tune",
        STAGE_VERSION,
        {"tuning": tuning.description(), "training": described_settings(training)},
        inputs,
        energy_scheme=store.manifest(rows).energy_scheme,
    )
    outcomes = [run.outcome for run in runs]
    return build(root, request, partial(_write, outcomes=outcomes, tuning=tuning, preset=training.preset))


def _write(writer: ArtifactWriter, outcomes: Sequence[Outcome], tuning: TuneParameters, preset: str) -> None:
    best = best_of(outcomes)
    first = [outcome for outcome in outcomes if outcome.trial.rung == 0]
    importance = rank_correlations(
        parse_space(tuning.space), [one.trial.configuration for one in first], [one.value for one in first]
    )
    rungs: dict[int, dict[str, Any]] = {}
    for outcome in outcomes:
        line = rungs.setdefault(outcome.trial.rung, {"n_trials": 0, "epochs": outcome.trial.epochs})
        line["n_trials"] += 1
    n_diverged = len({outcome.trial.number for outcome in outcomes if outcome.state == "diverged"})
    writer.write_json(
        SUMMARY,
        {
            "best": {
                "trial": best.trial.number,
                "rung": best.trial.rung,
                "epochs": best.trial.epochs,
                "configuration": best.trial.configuration,
                "value": best.value,
            },
            "preset": preset,
            "metric": tuning.metric,
            "sampler": tuning.sampler,
            "space": list(tuning.space),
            "rungs": list(rungs.values()),
            "importance": importance,
        },
    )
    writer.write_table("trials", _table(outcomes), "trials")
    writer.count("trials", len(first))
    writer.count("trainings", len(outcomes))
    writer.count("diverged", n_diverged)


def _table(outcomes: Sequence[Outcome]) -> pa.Table:
    values = [outcome.value if math.isfinite(outcome.value) else None for outcome in outcomes]
    return pa.table(
        {
            "trial": pa.array([outcome.trial.number for outcome in outcomes], pa.int32()),
            "rung": pa.array([outcome.trial.rung for outcome in outcomes], pa.int32()),
            "epochs": pa.array([outcome.trial.epochs for outcome in outcomes], pa.int32()),
            "configuration": [json.dumps(outcome.trial.configuration, sort_keys=True) for outcome in outcomes],
            "value": pa.array(values, pa.float64()),
            "state": [outcome.state for outcome in outcomes],
            "reason": pa.array([outcome.reason for outcome in outcomes], pa.string()),
        }
    )
