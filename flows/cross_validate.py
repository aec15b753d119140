"""Cross-validation: networks and baselines on the same folds, side by side."""

from __future__ import annotations

from prefect import flow
from pydantic import Field, model_validator

from flows.parameters import LearnFlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.cross_validation import summarise_folds
from tasks.fold import plan_folds
from tasks.fold_runs import run_entries
from tasks.inputs import resolve_attributes, resolve_rows
from tasks.validation_parameters import EntryParameters, ValidationParameters


class CrossValidateParameters(LearnFlowParameters):
    """Parameters of the flow `cross_validate`."""

    entries: tuple[EntryParameters, ...] = Field(
        (EntryParameters(name="elemnet"),), min_length=1, description="what is trained, each on every fold"
    )
    validation: ValidationParameters = Field(default_factory=ValidationParameters)
    tasks_in_flight: int = Field(64, ge=1, description="folds handed to the cluster at a time; no part of the result")

    @model_validator(mode="after")
    def _different_names(self) -> CrossValidateParameters:
        names = [entry.name for entry in self.entries]
        if len(set(names)) < len(names):
            raise ValueError("entries need different names")
        return self


@flow(name="cross-validate")
def cross_validate(parameters: CrossValidateParameters) -> ArtifactRef:
    """Train every entry on every fold and compare them."""
    return on_cluster(parameters.cluster, cross_validate_stages, parameters)


@flow(name="cross-validate-stages")
def cross_validate_stages(parameters: CrossValidateParameters) -> ArtifactRef:
    """Run the stages: 1. find the rows. 2. Hold folds out. 3. Train on each, and predict. 4. Compare."""
    p, root = parameters, store_root(parameters.store)
    rows = resolve_rows.submit(root, p.data, p.cleaning, p.energies, p.examples).result()
    attributes = resolve_attributes.submit(root, p.attributes).result() if p.attributes else None
    plans = plan_folds.submit(root, rows, p.validation).result()
    runs = run_entries(root, rows, plans, p.validation, p.entries, attributes, p.tasks_in_flight)
    return summarise_folds.submit(root, rows, runs, p.validation).result()
