"""Structures for compositions that have none, by substitution: find the tables -> substitute."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import FlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.inputs import resolve_compositions, resolve_compounds
from tasks.substitute import SubstituteParameters
from tasks.substitute import substitute as substitute_task


class SubstituteFlowParameters(FlowParameters):
    """Parameters of the flow `substitute`."""

    compositions: str = Field(description="candidates of a screen, or a table of formulas: a file, a folder or a key")
    known: str = Field("starter", description="known compounds with structures: `starter`, a file, a folder or a key")
    settings: SubstituteParameters = Field(default_factory=SubstituteParameters)


@flow(name="substitute")
def substitute(parameters: SubstituteFlowParameters) -> ArtifactRef:
    """Give compositions hypothetical structures."""
    return on_cluster(parameters.cluster, substitute_stages, parameters)


@flow(name="substitute-stages")
def substitute_stages(parameters: SubstituteFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find the tables. 2. Substitute."""
    p, root = parameters, store_root(parameters.store)
    compositions = resolve_compositions.submit(root, p.compositions).result()
    known = resolve_compounds.submit(root, p.known).result()
    return substitute_task.submit(root, compositions, known, p.settings).result()
