"""One source into the store."""

from __future__ import annotations

from prefect import flow

from flows.parameters import IngestParameters
from flows.run import on_cluster, store_root
from storage.artifact import ArtifactRef
from tasks.ingest import ingest as ingest_task


@flow(name="ingest")
def ingest(parameters: IngestParameters) -> ArtifactRef:
    """Read one source; rows that cannot be used are kept under `rejected/`."""
    return on_cluster(parameters.cluster, ingest_stages, parameters)


@flow(name="ingest-stages")
def ingest_stages(parameters: IngestParameters) -> ArtifactRef:
    """Run the one stage of an ingest."""
    return ingest_task.submit(store_root(parameters.store), parameters.source).result()
