"""Hyper-parameter search: trials as folds of the training rows, the best of them on larger budgets."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import LearnFlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.fold import plan_folds
from tasks.inputs import resolve_attributes, resolve_rows
from tasks.train_parameters import TrainParameters
from tasks.tune import run_trials, settle, summarise_trials
from tasks.tune_parameters import TuneParameters


class TuneFlowParameters(LearnFlowParameters):
    """Parameters of the flow `tune`."""

    training: TrainParameters = Field(
        default_factory=lambda: TrainParameters(threads=1), description="what all trials have in common"
    )
    tuning: TuneParameters = Field(default_factory=TuneParameters)
    tasks_in_flight: int = Field(
        64, ge=1, description="trainings handed to the cluster at a time; no part of the result"
    )


@flow(name="tune")
def tune(parameters: TuneFlowParameters) -> ArtifactRef:
    """Search for the settings with which a network learns best."""
    return on_cluster(parameters.cluster, tune_stages, parameters)


@flow(name="tune-stages")
def tune_stages(parameters: TuneFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find the rows. 2. Hold folds out. 3. Choose a preset. 4. Train, rung by rung. 5. Compare."""
    p, root = parameters, store_root(parameters.store)
    rows = resolve_rows.submit(root, p.data, p.cleaning, p.energies, p.examples).result()
    attributes = resolve_attributes.submit(root, p.attributes).result() if p.attributes else None
    plans = plan_folds.submit(root, rows, p.tuning.validation).result()
    training = settle.submit(rows, plans, p.training, p.tuning, attributes).result()
    runs = run_trials(root, rows, plans, training, p.tuning, attributes, p.tasks_in_flight)
    return summarise_trials.submit(root, rows, runs, training, p.tuning).result()
