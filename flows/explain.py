"""What a composition network knows: its layers, probes, and the phase diagrams that it predicts."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import FlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.explain import explain as explain_task
from tasks.explain import resolve_table
from tasks.explain_parameters import ExplainParameters
from tasks.inputs import resolve_model, resolve_phases


class ExplainFlowParameters(FlowParameters):
    """Parameters of the flow `explain`."""

    model: str = Field(description="the network: artifact folder or key")
    phases: str = Field("starter", description="known phases: `starter`, a file, an artifact folder or a key")
    table: str | None = Field(
        None, description="compositions to look at, with the columns of the probes; empty: the known phases"
    )
    explaining: ExplainParameters = Field(default_factory=ExplainParameters)


@flow(name="explain")
def explain(parameters: ExplainFlowParameters) -> ArtifactRef:
    """Look into a trained composition network."""
    return on_cluster(parameters.cluster, explain_stages, parameters)


@flow(name="explain-stages")
def explain_stages(parameters: ExplainFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find network, phases and table. 2. Explain."""
    p, root = parameters, store_root(parameters.store)
    network = resolve_model.submit(root, p.model).result()
    phases = resolve_phases.submit(root, p.phases).result()
    table = resolve_table.submit(root, p.table, p.explaining.probes).result() if p.table else None
    return explain_task.submit(root, network, phases, table, p.explaining).result()
