"""How a flow gets its cluster and its day, and what it ends with."""

from __future__ import annotations

from typing import ParamSpec, TypeVar

from prefect import Flow
from prefect.runtime import deployment, flow_run
from pydantic import BaseModel, ConfigDict

from storage.artifact import ArtifactRef
from tasks.cluster import open_cluster

P = ParamSpec("P")
R = TypeVar("R")


class IngestResult(BaseModel):
    """References to what an ingest ends with: the table of all sources, and each one's own table and drift."""

    model_config = ConfigDict(frozen=True)

    compounds: ArtifactRef
    sources: tuple[ArtifactRef, ...]
    drifts: tuple[ArtifactRef, ...]


class CampaignResult(BaseModel):
    """References to what a campaign ends with."""

    model_config = ConfigDict(frozen=True)

    candidates: ArtifactRef
    ranking: ArtifactRef
    report: ArtifactRef


def run_day() -> str | None:
    """Return the day that a deployment's run was scheduled for, YYYY-MM-DD; None for a run by hand.

    A database without versions is read as of that day, so that a run that is tried again on the next morning goes on
    with the same snapshot.
    """
    if deployment.id is None or flow_run.scheduled_start_time is None:
        return None
    return str(flow_run.scheduled_start_time.date().isoformat())


def on_cluster(cluster: str, stages: Flow[P, R], *arguments: P.args, **options: P.kwargs) -> R:
    """Run a flow's stages as a subflow on a Dask cluster.

    Parameters
    ----------
    cluster
        Profile name, YAML file, or `tcp://HOST:PORT` of a running scheduler.
    stages
        The flow that wires the stages.
    *arguments, **options
        Its arguments.

    Returns
    -------
    R
        What the stages return.
    """
    with open_cluster(cluster) as runner:
        return stages.with_options(task_runner=runner)(*arguments, **options)
