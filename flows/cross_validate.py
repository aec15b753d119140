"""Cross-validation: networks and baselines on the same folds, side by side."""

from __future__ import annotations

from prefect import flow
from pydantic import Field, model_validator

from flows.parameters import FlowParameters
from flows.run import on_cluster, store_root
from storage.artifact import ArtifactRef
from tasks.cross_validation import summarise_folds
from tasks.examples import ExampleParameters
from tasks.fold import plan_folds
from tasks.fold_runs import run_entries
from tasks.inputs import resolve_rows
from tasks.parameters import CleanParameters, SourceParameters
from tasks.validation_parameters import EntryParameters, ValidationParameters


class CrossValidateParameters(FlowParameters):
    """Parameters of the flow `cross_validate`."""

    data: str = Field("starter", description="rows: `starter`, a file, an artifact folder or a key")
    energies: SourceParameters = Field(default_factory=SourceParameters, description="how to read `data`, if a file")
    cleaning: CleanParameters = Field(
        default_factory=CleanParameters, description="of formation energies that are learnt by ElemNet's rules"
    )
    examples: ExampleParameters | None = Field(
        None, description="other labels, or formation energies without ElemNet's rules; empty: by those rules"
    )
    attributes: str | None = Field(None, description="structural attributes: artifact folder or key")
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
    plans = plan_folds.submit(root, rows, p.validation).result()
    runs = run_entries(root, rows, plans, p.validation, p.entries, p.attributes, p.tasks_in_flight)
    return summarise_folds.submit(root, rows, runs, p.validation).result()
