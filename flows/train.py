"""A network from a table of energies or of any other property: clean -> featurize -> train."""

from __future__ import annotations

from prefect import flow

from flows.parameters import TrainFlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.inputs import resolve_attributes, resolve_model, resolve_rows
from tasks.members import train_ensemble
from tasks.teach import teach


@flow(name="train")
def train(parameters: TrainFlowParameters) -> ArtifactRef:
    """Train a network and measure it on the validation rows."""
    return on_cluster(parameters.cluster, train_stages, parameters)


@flow(name="train-stages")
def train_stages(parameters: TrainFlowParameters) -> ArtifactRef:
    """Run the stages: 1. clean what was given, or choose examples from it. 2. Have a teacher label more. 3. Train."""
    p, root = parameters, store_root(parameters.store)
    rows = resolve_rows.submit(root, p.data, p.cleaning, p.energies, p.examples).result()
    init = resolve_model.submit(root, p.init).result() if p.init else None
    attributes = resolve_attributes.submit(root, p.attributes).result() if p.attributes else None
    taught = None
    if p.teacher:
        teacher = resolve_model.submit(root, p.teacher).result()
        taught = teach.submit(root, rows, teacher, p.taught).result()
    return train_ensemble(root, rows, p.training, init, attributes, taught)
