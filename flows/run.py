"""How a flow gets its store and its cluster."""

from __future__ import annotations

import os
from pathlib import Path
from typing import ParamSpec, TypeVar

from prefect import Flow
from pydantic import BaseModel, ConfigDict

from storage.artifact import ArtifactRef
from tasks.cluster import open_cluster

P = ParamSpec("P")
R = TypeVar("R")

DEFAULT_STORE = "elemscreen-store"


class CampaignResult(BaseModel):
    """References to what a campaign ends with."""

    model_config = ConfigDict(frozen=True)

    candidates: ArtifactRef
    ranking: ArtifactRef
    report: ArtifactRef


def store_root(store: str | None) -> str:
    """Return the store's folder (absolute) or URL: as given, from $ELEMSCREEN_STORE, or ./elemscreen-store."""
    root = store or os.environ.get("ELEMSCREEN_STORE") or DEFAULT_STORE
    return root if "://" in root else str(Path(root).expanduser().absolute())


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
