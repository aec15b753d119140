"""`featurize`: what networks read of a table of compounds."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands.ingest import MapOption, parse_map
from deployments.commands.run import ClusterOption, OutOption, StoreOption, console, payload_path, run_flow
from storage.store import ArtifactStore
from storage.tables import table_format, write_any
from tasks.parameters import SourceParameters


def featurize_command(
    table: Annotated[str, typer.Option("--in", help="Compounds: starter, a file, an artifact folder or a key.")],
    features: Annotated[
        str, typer.Option(help="magpie: 145 of the composition; voronoi: 126 of the structure; element_fraction: 86.")
    ] = "magpie",
    columns: MapOption = None,
    seconds: Annotated[
        float, typer.Option("--seconds-per-structure", help="A structure that takes longer is rejected (voronoi).")
    ] = 60.0,
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Compute what networks read; a file has one column per feature, the artifact a list.

    `magpie` and `voronoi` are the attributes of Ward et al. for every row; `element_fraction` cleans the rows for
    training first.
    """
    from flows.featurize import FeaturizeFlowParameters, featurize
    from tasks.attributes import FeaturizeParameters, attribute_columns

    if out is not None:
        table_format(out)  # an ending that is not understood is better said before the work
    featurizing = FeaturizeParameters.model_validate({"features": features, "seconds_per_structure": seconds})
    energies = SourceParameters(columns=parse_map(columns))
    parameters = FeaturizeFlowParameters(
        data=table, energies=energies, featurizing=featurizing, store=store, cluster=dask
    )
    ref = run_flow(featurize, parameters)
    held = ArtifactStore.from_ref(ref)
    counts = held.manifest(ref).counts
    text = ", ".join(f"{name.removeprefix('rows_').replace('_', ' ')} {n:,}" for name, n in counts.items())
    console.print(f"rows {text}" if len(counts) > 1 else text, highlight=False)
    if out is not None:
        write_any(attribute_columns(held, ref), out)
    payload = "features.parquet" if ref.kind == "features" else "attributes"
    console.print(str(out) if out is not None else payload_path(ref, payload), highlight=False, soft_wrap=True)
