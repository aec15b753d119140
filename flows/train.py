"""A composition network from a table of formation energies: clean -> featurize -> train."""

from __future__ import annotations

from prefect import flow

from flows.parameters import TrainFlowParameters
from flows.run import on_cluster, store_root
from storage.artifact import ArtifactRef
from tasks.inputs import resolve_features
from tasks.train import train_network


@flow(name="train")
def train(parameters: TrainFlowParameters) -> ArtifactRef:
    """Train a network and measure it on the validation rows."""
    return on_cluster(parameters.cluster, train_stages, parameters)


@flow(name="train-stages")
def train_stages(parameters: TrainFlowParameters) -> ArtifactRef:
    """Run the stages: 1. clean and featurize what was given. 2. Train."""
    root = store_root(parameters.store)
    features = resolve_features.submit(root, parameters.data, parameters.cleaning, parameters.energies).result()
    return train_network.submit(root, features, parameters.training).result()
