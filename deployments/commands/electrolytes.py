"""`stability` and `rank`: which solids stop dendrites."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands.run import ClusterOption, OutOption, StoreOption, console, payload_path, run_flow, write_rows
from flows.parameters import RankFlowParameters
from flows.rank import rank
from models.errors import InputError
from storage.root import store_root
from storage.store import ArtifactStore
from storage.tables import write_any
from tasks.parameters import RankParameters
from tasks.tables import stability_table


def stability_command(
    table: Annotated[str, typer.Option("--in", help="Table with moduli and a structure or `volume_ratio`.")],
    out: OutOption = None,
    anisotropic: Annotated[bool, typer.Option("--anisotropic", help="From the full elastic tensor.")] = False,
    store: StoreOption = None,
) -> None:
    r"""Add `chi` \[kJ/mol/nm], `lambda_crit_nm` and P(chi < 0) to a table of moduli."""
    if anisotropic:
        raise InputError("the anisotropic (Stroh) solver is not part of this release; leave --anisotropic out")
    root = store_root(store)
    write_rows(root, stability_table(root, table), out)


def rank_command(
    table: Annotated[str, typer.Option("--in", help="Candidates with structures: starter, file, artifact or key.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Moduli model; default: trained on --structures.")
    ] = None,
    structures: Annotated[str, typer.Option(help="Structures with moduli to learn from.")] = "starter",
    metal: Annotated[str, typer.Option("--metal", help="Metal electrode.")] = "Li",
    max_above_hull: Annotated[float | None, typer.Option(help=r"Energy above hull at most \[eV/atom].")] = 0.05,
    min_band_gap: Annotated[float | None, typer.Option(help=r"Band gap at least \[eV].")] = 1.0,
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Rank lithium solid electrolytes by their Monroe-Newman stability parameter."""
    ranking = RankParameters(metal=metal, max_energy_above_hull=max_above_hull, min_band_gap=min_band_gap)
    ref = run_flow(
        rank,
        RankFlowParameters(
            electrolytes=table, model=model, structures=structures, ranking=ranking, store=store, cluster=dask
        ),
    )
    held = ArtifactStore.from_ref(ref)
    counts = held.manifest(ref).counts
    console.print(f"{counts['ranked']:,} ranked, {counts['excluded']:,} excluded with a reason", highlight=False)
    if out:
        write_any(held.read_table(ref), str(out))
    console.print(str(out) if out else payload_path(ref, "ranking.parquet"), highlight=False, soft_wrap=True)
