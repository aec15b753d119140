"""Sources into the store: read, hold against the snapshot before, put side by side."""

from __future__ import annotations

from prefect import flow

from flows.parameters import IngestParameters
from flows.run import IngestResult, on_cluster, run_day
from storage.root import store_root
from tasks.drift import check_drift
from tasks.ingest import ingest as ingest_source
from tasks.merge_sources import merge_sources


@flow(name="ingest")
def ingest(parameters: IngestParameters) -> IngestResult:
    """Read one source or several; rows that cannot be used are kept under `rejected/`."""
    return on_cluster(parameters.cluster, ingest_stages, parameters, run_day())


@flow(name="ingest-stages")
def ingest_stages(parameters: IngestParameters, day: str | None = None) -> IngestResult:
    """Run the stages.

    1. Read every source, page by page.   2. Hold it against its snapshot before.   3. Put several side by side.
    """
    p, root = parameters, store_root(parameters.store)
    sources = [ingest_source.submit(root, source, day) for source in (p.source, *p.beside)]
    tables = [source.result() for source in sources]
    checks = [check_drift.submit(root, table, p.drift) for table in tables]
    drifts = [check.result() for check in checks]
    compounds = merge_sources.submit(root, tables).result() if len(tables) > 1 else tables[0]
    return IngestResult(compounds=compounds, sources=tables, drifts=drifts)
