"""What networks read of a table of compounds: find the table (-> clean) -> featurize."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import FlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.attributes import FeaturizeParameters, featurize_attributes
from tasks.inputs import resolve_compounds, resolve_features
from tasks.parameters import CleanParameters, SourceParameters


class FeaturizeFlowParameters(FlowParameters):
    """Parameters of the flow `featurize`."""

    data: str = Field("starter", description="compounds: `starter`, a file, an artifact folder or a key")
    energies: SourceParameters = Field(
        default_factory=SourceParameters, description="how to read `data` where it is a file"
    )
    cleaning: CleanParameters = Field(
        default_factory=CleanParameters, description="of the rows whose element fractions are asked for"
    )
    featurizing: FeaturizeParameters = Field(default_factory=FeaturizeParameters, description="which features")


@flow(name="featurize")
def featurize(parameters: FeaturizeFlowParameters) -> ArtifactRef:
    """Compute element fractions of training rows, or the attributes of Ward et al. of every compound."""
    return on_cluster(parameters.cluster, featurize_stages, parameters)


@flow(name="featurize-stages")
def featurize_stages(parameters: FeaturizeFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find the compounds. 2. Clean, for fractions. 3. Featurize."""
    p, root = parameters, store_root(parameters.store)
    if p.featurizing.features == "element_fraction":
        return resolve_features.submit(root, p.data, p.cleaning, p.energies).result()
    compounds = resolve_compounds.submit(root, p.data, p.energies).result()
    return featurize_attributes.submit(root, compounds, p.featurizing).result()
