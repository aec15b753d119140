"""`stability` and `rank`: which solids stop dendrites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import pyarrow as pa
import typer

from deployments.commands.run import ClusterOption, OutOption, StoreOption, console, payload_path, run_flow, write_rows
from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.root import store_root
from storage.store import ArtifactStore
from storage.tables import write_any
from tasks.parameters import RankParameters

PRESETS: dict[str, dict[str, Any]] = {
    "mechanical": {},
    "full": {"forbid_redox_active": True, "max_reduction_potential": 1.0, "min_oxidation_potential": 2.0},
}
"""What `rank` asks of an electrolyte beside its distance from the hull and its gap. The full preset wants one that
lithium phosphate passes (reduced at 0.7 V) and thiophosphates (1.7 V; Zhu, He, Mo, ACS Appl. Mater. Interfaces 7, 23685
(2015)) do not, up to a cathode of 2 V."""


def stability_command(
    table: Annotated[str, typer.Option("--in", help="Table with moduli and a structure or `volume_ratio`.")],
    out: OutOption = None,
    anisotropic: Annotated[
        bool, typer.Option("--anisotropic", help="From full elastic tensors: every facet of lithium on every plane.")
    ] = False,
    max_index: Annotated[int, typer.Option(help="With --anisotropic: largest Miller index of the planes.")] = 1,
    stiffness_error: Annotated[
        float, typer.Option(help="With --anisotropic: standard deviation of log10 of the stiffness.")
    ] = 0.06,
    convention: Annotated[
        str,
        typer.Option(help="With --anisotropic: `worst_direction`, or `published`, to compare with published values."),
    ] = "worst_direction",
    store: StoreOption = None,
) -> None:
    r"""Add `chi` \[kJ/mol/nm], `lambda_crit_nm` and P(chi < 0) to a table of moduli."""
    from models.crystal_stability import InterfaceParameters
    from models.errors import InputError
    from tasks.tables import stability_table

    root = store_root(store)
    parameters = InterfaceParameters(max_index=max_index, log10_stiffness_std=stiffness_error, convention=convention)
    if not anisotropic and parameters != InterfaceParameters():
        raise InputError("--max-index, --stiffness-error and --convention go with --anisotropic")
    if convention == "published" and parameters != InterfaceParameters(convention=convention):
        raise InputError("the published convention has directions of its own: leave --max-index and --stiffness-error")
    if not anisotropic:
        write_rows(root, stability_table(root, table), out)
        return
    from deployments.display import flow_display
    from tasks.interface_table import interface_table

    with flow_display(console):
        judged = interface_table(root, table, parameters)
    _say_interfaces(judged.table, convention)
    write_rows(root, judged, out)


def _say_interfaces(judged: pa.Table, convention: str) -> None:
    """Print which crystals have stable interfaces, those with the most first."""
    published = convention == "published"
    frame = judged.select(["material_id", "formula", "facet", "plane", "chi", "stable"]).to_pandas()
    good = frame[frame["chi"].notna()]
    named = good["formula"].fillna(good["material_id"]).fillna("a crystal without a name")
    by_crystal = good.assign(name=named).groupby([good["material_id"].fillna(""), "name"], sort=False)
    stable = {key: part[part["chi"] < 0 if published else part["stable"].astype(bool)] for key, part in by_crystal}
    found = sorted((item for item in stable.items() if len(item[1])), key=lambda item: -len(item[1]))
    console.print(
        f"{len(found):,} of {len(stable):,} crystals have an interface "
        + ("with chi below 0 by the published convention" if published else "that is stable in all directions"),
        highlight=False,
    )
    for (identifier, name), part in found:
        pairs = ", ".join(f"Li {row.facet} on {row.plane}" for row in part.sort_values("chi").head(3).itertuples())
        more = f" and {len(part) - 3} more" if len(part) > 3 else ""
        line = f"{name} {identifier}: {pairs}{more}; chi down to {part['chi'].min():.3f} kJ/mol/nm"
        console.print(line, highlight=False, markup=False, soft_wrap=True)


def rank_command(
    table: Annotated[str, typer.Option("--in", help="Candidates with structures: starter, file, artifact or key.")],
    model: Annotated[
        str | None, typer.Option("--model", help="Moduli model; default: trained on --structures.")
    ] = None,
    structures: Annotated[
        str, typer.Option(help="Structures with moduli to learn from; several tables: starter,mine.parquet.")
    ] = "starter",
    metal: Annotated[str, typer.Option("--metal", help="Metal electrode: Li, Na, K, Mg, Zn or Al.")] = "Li",
    max_above_hull: Annotated[float | None, typer.Option(help=r"Energy above hull at most \[eV/atom].")] = 0.05,
    min_band_gap: Annotated[float | None, typer.Option(help=r"Band gap at least \[eV].")] = 1.0,
    stated: Annotated[
        str | None, typer.Option("--stated", help="Moduli and elastic tensors by material_id; default: those of --in.")
    ] = None,
    phases: Annotated[
        str | None, typer.Option("--phases", help="Phases of the hull: adds electrochemical windows.")
    ] = None,
    preset: Annotated[
        str, typer.Option(help="mechanical, or full: also no redox-active metals and a window (needs --phases).")
    ] = "mechanical",
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Rank solid electrolytes by their Monroe-Newman stability against a metal electrode."""
    from flows.parameters import RankFlowParameters
    from flows.rank import rank

    if preset not in PRESETS:
        raise InputError(f"--preset {preset} is not known; choose {' or '.join(PRESETS)}")
    if preset == "full" and phases is None:
        raise InputError("--preset full looks at electrochemical windows: give --phases, the hull they are taken from")
    limits: dict[str, Any] = {"max_energy_above_hull": max_above_hull, "min_band_gap": min_band_gap}
    ranking = RankParameters.model_validate({"metal": metal, **limits, **PRESETS[preset]})
    ref = run_flow(
        rank,
        RankFlowParameters(
            electrolytes=table,
            model=model,
            structures=structures,
            stated=stated,
            phases=phases,
            ranking=ranking,
            store=store,
            cluster=dask,
        ),
    )
    _say_ranking(ref, out, "ranking.parquet")


def rank_compositions_command(
    table: Annotated[str, typer.Option("--in", help="Candidates of a screen, or formulas: file, artifact or key.")],
    ranking: Annotated[str, typer.Option("--ranking", help="Ranked known compounds: their volume ratios are drawn.")],
    structures: Annotated[str, typer.Option(help="Compounds with moduli, where a model is not given.")] = "starter",
    bulk_model: Annotated[str | None, typer.Option(help="Model of log10 of the bulk modulus.")] = None,
    shear_model: Annotated[str | None, typer.Option(help="Model of log10 of the shear modulus.")] = None,
    insulator_model: Annotated[str | None, typer.Option(help="Model of whether the band gap is wide.")] = None,
    metal: Annotated[str, typer.Option("--metal", help="Metal electrode: Li, Na, K, Mg, Zn or Al.")] = "Li",
    no_redox_active: Annotated[bool, typer.Option("--no-redox-active", help="No metals such as Ti, W or Sn.")] = False,
    members: Annotated[int, typer.Option(help="Networks per modulus, where they are trained.")] = 3,
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Rank compositions without a structure by how likely they stop dendrites."""
    from flows.rank_compositions import CompositionRankFlowParameters, rank_by_composition
    from tasks.rank_compositions import CompositionRankParameters

    settings = CompositionRankParameters.model_validate({"metal": metal, "forbid_redox_active": no_redox_active})
    parameters = CompositionRankFlowParameters(
        compositions=table, ranking=ranking, structures=structures, bulk_model=bulk_model, shear_model=shear_model,
        insulator_model=insulator_model, settings=settings, store=store, cluster=dask,
    )  # fmt: skip
    training = parameters.training.model_copy(update={"members": members})
    ref = run_flow(rank_by_composition, parameters.model_copy(update={"training": training}))
    _say_ranking(ref, out, "composition_ranking.parquet")


def _say_ranking(ref: ArtifactRef, out: Path | None, name: str) -> None:
    """Print the counts of a ranking and where it is; write it to a file that was named."""
    held = ArtifactStore.from_ref(ref)
    counts = held.manifest(ref).counts
    console.print(f"{counts['ranked']:,} ranked, {counts['excluded']:,} excluded with a reason", highlight=False)
    if out:
        write_any(held.read_table(ref), str(out))
    console.print(str(out) if out else payload_path(ref, name), highlight=False, soft_wrap=True)
