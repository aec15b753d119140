"""The starter set: prototypes -> decorations -> static energies -> relaxations -> elastic tensors -> compounds."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import FlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.selfbuilt import (
    SelfbuiltParameters,
    assemble_starter,
    evaluate_chunk,
    evaluate_references,
    list_candidates,
    merge_chunks,
    plan_chunks,
    select_relaxations,
    select_tensors,
)


class SelfbuiltFlowParameters(FlowParameters):
    """Parameters of the flow `selfbuilt`."""

    starter: SelfbuiltParameters = Field(default_factory=SelfbuiltParameters)


@flow(name="selfbuilt")
def selfbuilt(parameters: SelfbuiltFlowParameters) -> ArtifactRef:
    """Build the starter set with a universal potential; needs the extra `selfbuilt` and two to four core-hours."""
    return on_cluster(parameters.cluster, selfbuilt_stages, parameters)


@flow(name="selfbuilt-stages")
def selfbuilt_stages(parameters: SelfbuiltFlowParameters) -> ArtifactRef:
    """Run the stages.

    1. Decorate the prototypes.     3. Relax the lowest of each prototype and every lithium compound.
    2. Evaluate all of them.        4. Strain some for elastic tensors.   5. Put the set together.
    """
    p, root = parameters.starter, store_root(parameters.store)
    candidates = list_candidates.submit(root, p).result()
    references = evaluate_references.submit(root, candidates)
    static = _in_chunks(root, "static", candidates)
    selected = select_relaxations.submit(root, candidates, static, references.result(), p).result()
    relaxed = _in_chunks(root, "relax", selected)
    chosen = select_tensors.submit(root, selected, relaxed, references.result()).result()
    tensors = _in_chunks(root, "tensors", chosen)
    inputs = {
        "candidates": candidates, "static": static, "selected": selected, "relax": relaxed, "tensors": tensors,
        "references": references.result(),
    }  # fmt: skip
    return assemble_starter.submit(root, inputs).result()


def _in_chunks(root: str, step: str, rows: ArtifactRef) -> ArtifactRef:
    """Run one step over a table, chunk by chunk; finished chunks stay in the store."""
    chunks = [evaluate_chunk.submit(root, step, rows, start, stop) for start, stop in plan_chunks(root, step, rows)]
    return merge_chunks.submit(root, step, rows, [chunk.result() for chunk in chunks]).result()
