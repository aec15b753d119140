"""`substitute`: structures for compositions that have none."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands.run import ClusterOption, OutOption, StoreOption, console, payload_path, run_flow
from storage.store import ArtifactStore
from storage.tables import table_format, write_any


def substitute_command(
    table: Annotated[str, typer.Option("--in", help="Candidates of a screen, or formulas: file, artifact or key.")],
    known: Annotated[str, typer.Option("--known", help="Known compounds with structures.")] = "starter",
    per_composition: Annotated[int, typer.Option(help="Structures for a composition, the likeliest ones.")] = 3,
    no_prototypes: Annotated[bool, typer.Option("--no-prototypes", help="Only structures of known compounds.")] = False,
    max_above_hull: Annotated[
        float, typer.Option(help=r"Known compounds higher above the hull are no templates \[eV/atom].")
    ] = 0.1,
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Give compositions the structures of known compounds and prototypes, so that `rank` can read them; marked."""
    from flows.substitute import SubstituteFlowParameters, substitute
    from tasks.substitute import SubstituteParameters

    if out is not None:
        table_format(out)
    settings = SubstituteParameters.model_validate(
        {"per_composition": per_composition, "prototypes": not no_prototypes, "max_above_hull": max_above_hull}
    )
    ref = run_flow(
        substitute,
        SubstituteFlowParameters(compositions=table, known=known, settings=settings, store=store, cluster=dask),
    )
    held = ArtifactStore.from_ref(ref)
    counts = held.manifest(ref).counts
    console.print(
        f"{counts['structures']:,} structures for {counts['compositions_with_structure']:,} of "
        f"{counts['compositions']:,} compositions; hypothetical, not relaxed",
        highlight=False,
    )
    if out is not None:
        write_any(held.read_table(ref), out)
    console.print(str(out) if out is not None else payload_path(ref, "compounds.parquet"), soft_wrap=True)
