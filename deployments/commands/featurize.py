"""`featurize`: physical attributes of a table of compounds."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands.run import ClusterOption, OutOption, StoreOption, console, payload_path, run_flow
from flows.featurize import FeaturizeFlowParameters, featurize
from storage.store import ArtifactStore
from storage.tables import table_format, write_any
from tasks.attributes import FeaturizeParameters, attribute_columns


def featurize_command(
    table: Annotated[str, typer.Option("--in", help="Compounds: starter, a file, an artifact folder or a key.")],
    features: Annotated[
        str, typer.Option(help="magpie: 145 of the composition; voronoi: 126 of the structure.")
    ] = "magpie",
    seconds: Annotated[
        float, typer.Option("--seconds-per-structure", help="A structure that takes longer is rejected (voronoi).")
    ] = 60.0,
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Compute the attributes of Ward et al.; a file has one column per attribute, the artifact a list."""
    if out is not None:
        table_format(out)  # an ending that is not understood is better said before the work
    featurizing = FeaturizeParameters.model_validate({"features": features, "seconds_per_structure": seconds})
    ref = run_flow(featurize, FeaturizeFlowParameters(data=table, featurizing=featurizing, store=store, cluster=dask))
    held = ArtifactStore.from_ref(ref)
    counts = held.manifest(ref).counts
    console.print(
        f"rows in {counts['rows_in']:,}, kept {counts['rows_kept']:,}, rejected {counts['rows_rejected']:,}, "
        f"without structure {counts['without_structure']:,}",
        highlight=False,
    )
    if out is not None:
        write_any(attribute_columns(held, ref), out)
    console.print(str(out) if out is not None else payload_path(ref, "attributes"), highlight=False, soft_wrap=True)
