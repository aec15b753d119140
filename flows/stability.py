"""Stability: which compounds networks call stable from predictions for rows that they never saw."""

from __future__ import annotations

from prefect import flow
from pydantic import Field, model_validator

from flows.parameters import FlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.examples import ExampleParameters
from tasks.fold import plan_folds
from tasks.fold_runs import run_entries
from tasks.inputs import resolve_rows
from tasks.judge_stability import StabilitySetting, judge_stability
from tasks.parameters import CleanParameters, SourceParameters
from tasks.validation_parameters import EntryParameters


class StabilityParameters(FlowParameters):
    """Parameters of the flow `stability`."""

    data: str = Field("starter", description="formation energies: `starter`, a file, an artifact folder or a key")
    energies: SourceParameters = Field(default_factory=SourceParameters, description="how to read `data`, if a file")
    examples: ExampleParameters = Field(
        default_factory=ExampleParameters, description="which rows; ElemNet's rules would leave phases out of the hull"
    )
    entries: tuple[EntryParameters, ...] = Field(
        (EntryParameters(name="elemnet"),), min_length=1, description="what is trained, each on every fold"
    )
    settings: tuple[StabilitySetting, ...] = Field(
        (
            StabilitySetting(judged="all_predicted"),
            StabilitySetting(judged="training_competitors", scheme="grouped"),
            StabilitySetting(judged="direct"),
        ),
        min_length=1,
        description="how stability is judged, one artifact each",
    )
    folds: int = Field(5, ge=2, le=100, description="folds")
    held_fraction: float = Field(0.05, ge=0, lt=0.5, description="part of the training rows kept for early stopping")
    seed: int = Field(0, description="seed of the folds")
    tasks_in_flight: int = Field(64, ge=1, description="folds handed to the cluster at a time; no part of the result")

    @model_validator(mode="after")
    def _different_names(self) -> StabilityParameters:
        names = [entry.name for entry in self.entries]
        if len(set(names)) < len(names):
            raise ValueError("entries need different names")
        return self


@flow(name="stability")
def stability(parameters: StabilityParameters) -> list[ArtifactRef]:
    """Train every entry on every fold and judge stability: one artifact per setting, in their order."""
    return on_cluster(parameters.cluster, stability_stages, parameters)


@flow(name="stability-stages")
def stability_stages(parameters: StabilityParameters) -> list[ArtifactRef]:
    """Run the stages: 1. find the rows. 2. Of each setting: hold folds out, train on each, predict, and judge."""
    p, root = parameters, store_root(parameters.store)
    rows = resolve_rows.submit(root, p.data, CleanParameters(), p.energies, p.examples).result()
    judged = []
    for setting in p.settings:
        validation = setting.validation(p.folds, p.held_fraction, p.seed)
        plans = plan_folds.submit(root, rows, validation).result()
        runs = run_entries(root, rows, plans, validation, p.entries, window=p.tasks_in_flight)
        judged.append(judge_stability.submit(root, rows, runs, validation, setting.judged).result())
    return judged
