"""Transfer learning: a network of a large table, fine-tuned on a small one, beside the same from scratch."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import FlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.cross_validation import summarise_folds
from tasks.examples import ExampleParameters
from tasks.fold import plan_folds
from tasks.fold_runs import run_entries
from tasks.inputs import resolve_model, resolve_rows
from tasks.members import train_ensemble
from tasks.overlap import remove_overlap
from tasks.parameters import CleanParameters, SourceParameters
from tasks.source_model import training_of
from tasks.train_parameters import TrainParameters
from tasks.validation_parameters import ValidationParameters, transfer_entries


class TransferFlowParameters(FlowParameters):
    """Parameters of the flow `transfer`."""

    source: str = Field(description="the trained network that is transferred: artifact folder or key")
    data: str = Field(description="the table to learn: a file, an artifact folder or a key")
    energies: SourceParameters = Field(default_factory=SourceParameters, description="how to read `data`, if a file")
    examples: ExampleParameters = Field(default_factory=ExampleParameters, description="labels and rows of `data`")
    training: TrainParameters = Field(
        default_factory=TrainParameters, description="how the small table is learnt, transferred and from scratch alike"
    )
    source_rows: str | None = Field(
        None,
        description="rows that the source learnt from: another network is trained on those whose formulas `data` does "
        "not have, and transferred too; empty: not done",
    )
    source_training: TrainParameters | None = Field(
        None, description="how that other network is trained; empty: as the source was"
    )
    validation: ValidationParameters = Field(default_factory=lambda: ValidationParameters(folds=10))
    tasks_in_flight: int = Field(64, ge=1, description="folds handed to the cluster at a time; no part of the result")


@flow(name="transfer")
def transfer(parameters: TransferFlowParameters) -> ArtifactRef:
    """Fine-tune a network on every fold of a small table, and compare."""
    return on_cluster(parameters.cluster, transfer_stages, parameters)


@flow(name="transfer-stages")
def transfer_stages(parameters: TransferFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find model and rows. 2. Train a source that never saw them. 3. Fold by fold. 4. Compare."""
    p, root = parameters, store_root(parameters.store)
    source = resolve_model.submit(root, p.source).result()
    rows = resolve_rows.submit(root, p.data, CleanParameters(), p.energies, p.examples).result()
    unseen = None
    if p.source_rows is not None:
        every = resolve_rows.submit(root, p.source_rows, CleanParameters(), SourceParameters(), None).result()
        others = remove_overlap.submit(root, every, rows).result()
        unseen = train_ensemble(root, others, p.source_training or training_of(source))
    entries = transfer_entries(p.training, source.key, None if unseen is None else unseen.key)
    plans = plan_folds.submit(root, rows, p.validation).result()
    runs = run_entries(root, rows, plans, p.validation, entries, None, p.tasks_in_flight)
    return summarise_folds.submit(root, rows, runs, p.validation).result()
