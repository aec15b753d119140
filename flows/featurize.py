"""Physical attributes of a table of compounds: find the table -> featurize."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import FlowParameters
from flows.run import on_cluster, store_root
from storage.artifact import ArtifactRef
from tasks.attributes import FeaturizeParameters, featurize_attributes
from tasks.inputs import resolve_compounds


class FeaturizeFlowParameters(FlowParameters):
    """Parameters of the flow `featurize`."""

    data: str = Field("starter", description="compounds: `starter`, a file, an artifact folder or a key")
    featurizing: FeaturizeParameters = Field(default_factory=FeaturizeParameters, description="which attributes")


@flow(name="featurize")
def featurize(parameters: FeaturizeFlowParameters) -> ArtifactRef:
    """Compute the attributes of Ward et al. of every compound, from its composition or its structure."""
    return on_cluster(parameters.cluster, featurize_stages, parameters)


@flow(name="featurize-stages")
def featurize_stages(parameters: FeaturizeFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find the compounds. 2. Featurize."""
    root = store_root(parameters.store)
    compounds = resolve_compounds.submit(root, parameters.data).result()
    return featurize_attributes.submit(root, compounds, parameters.featurizing).result()
