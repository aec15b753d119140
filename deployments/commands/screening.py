"""`hull` and `screen`: energies against everything known."""

from __future__ import annotations

from typing import Annotated

import typer

from deployments.commands.run import (
    ClusterOption,
    MixedOption,
    OutOption,
    StoreOption,
    console,
    payload_path,
    run_flow,
    write_rows,
)
from flows.parameters import ScreenFlowParameters
from flows.run import store_root
from flows.screen import screen
from models.errors import InputError
from storage.store import ArtifactStore
from storage.tables import write_any
from tasks.parameters import ScreenParameters, SpaceParameters
from tasks.tables import hull_table


def hull_command(
    phases: Annotated[str, typer.Option("--phases", help="Known phases: starter, file, artifact folder or key.")],
    table: Annotated[str, typer.Option("--in", help="Table with `formula` and `formation_energy_per_atom`.")],
    out: OutOption = None,
    allow_mixed: MixedOption = False,
    store: StoreOption = None,
) -> None:
    """Add `hull_energy_per_atom`, `energy_above_hull` and `decomposition_energy` to a table."""
    root = store_root(store)
    write_rows(root, hull_table(root, phases, table, allow_mixed), out)


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def screen_command(
    model: Annotated[str, typer.Option("--model", help="Model: artifact folder or key (prefix).")],
    phases: Annotated[str, typer.Option("--phases", help="Known phases: starter, file, artifact folder or key.")],
    elements: Annotated[str | None, typer.Option(help="Elements to combine: Li,La,Zr,O. Default: all 86.")] = None,
    exclude: Annotated[str | None, typer.Option(help="Elements that no composition contains: U,Pu,Hg.")] = None,
    required: Annotated[str | None, typer.Option(help="Elements that every composition contains.")] = None,
    arity: Annotated[str, typer.Option(help="Numbers of elements: 2,3,4.")] = "2,3",
    max_atoms: Annotated[int, typer.Option(help="Atoms per formula unit at most.")] = 10,
    threshold: Annotated[float, typer.Option(help="Keep up to this distance from the hull [eV/atom].")] = -0.2,
    charge_balance: Annotated[str, typer.Option(help="column; or filter: keep what charges balance.")] = "column",
    precision: Annotated[str, typer.Option(help="fp32, or fast: bytes first, with the same result.")] = "fp32",
    known: Annotated[str | None, typer.Option(help="File with known formulas, energies not needed.")] = None,
    allow_mixed: MixedOption = False,
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Screen a composition space against the convex hull of the known phases."""
    try:
        arities = tuple(int(part) for part in _split(arity))
    except ValueError:
        raise InputError(f"--arity takes numbers, for example 2,3,4; got '{arity}'") from None
    space = SpaceParameters(
        elements=_split(elements) or None,
        excluded=_split(exclude),
        required=_split(required),
        arities=arities,
        max_atoms=max_atoms,
    )
    screening = ScreenParameters.model_validate(
        {"spaces": (space,), "threshold": threshold, "precision": precision, "allow_mixed_scheme": allow_mixed}
        | {"charge_balance": charge_balance}
    )
    ref = run_flow(
        screen,
        ScreenFlowParameters(model=model, phases=phases, known=known, screening=screening, store=store, cluster=dask),
    )
    held = ArtifactStore.from_ref(ref)
    counts = held.manifest(ref).counts
    console.print(
        f"{counts['screened']:,} compositions, {counts['below']:,} at or below {threshold} eV/atom, "
        f"{counts['unflagged']:,} without flags",
        highlight=False,
    )
    if out:
        write_any(held.read_table(ref), str(out))
    console.print(str(out) if out else payload_path(ref, "candidates.parquet"), highlight=False, soft_wrap=True)
