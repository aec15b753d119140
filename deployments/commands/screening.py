"""`hull` and `screen`: energies against everything known."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer
from dask.system import CPU_COUNT

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
from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.root import store_root
from storage.store import ArtifactStore
from storage.tables import write_any
from storage.writer import REJECTED
from tasks.parameters import ScreenParameters, SpaceParameters

if TYPE_CHECKING:
    from models.student_recall import Recall
    from tasks.estimate import Estimate

_SHOWN = 3  # files of predictions that are named, beside the last


def hull_command(
    phases: Annotated[str, typer.Option("--phases", help="Known phases: starter, file, artifact folder or key.")],
    table: Annotated[str, typer.Option("--in", help="Table with `formula` and `formation_energy_per_atom`.")],
    out: OutOption = None,
    allow_mixed: MixedOption = False,
    store: StoreOption = None,
) -> None:
    """Add `hull_energy_per_atom`, `energy_above_hull` and `decomposition_energy` to a table."""
    from tasks.tables import hull_table

    root = store_root(store)
    write_rows(root, hull_table(root, phases, table, allow_mixed), out)


def _split(text: str | None) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip()) if text else ()


def _space(rule: dict[str, Any], formulas: str | None) -> SpaceParameters:
    """Return the space that the options describe; only those that were given are in `rule`."""
    if formulas is None:
        return SpaceParameters.model_validate(rule)
    if rule:
        raise InputError("--formulas is a list that is screened as it is: leave the options of a space's rule out")
    return SpaceParameters(formulas=formulas)


def _rule(
    elements: str | None, exclude: str | None, required: str | None, arity: str | None, max_atoms: int | None
) -> dict[str, Any]:
    """Return the parameters of a space's rule as far as they were given."""
    try:
        arities = tuple(int(part) for part in _split(arity))
    except ValueError:
        raise InputError(f"--arity takes numbers, for example 2,3,4; got '{arity}'") from None
    given: dict[str, Any] = {"elements": _split(elements), "excluded": _split(exclude), "required": _split(required)}
    given |= {"arities": arities, "max_atoms": max_atoms}
    return {name: value for name, value in given.items() if value}


def screen_command(
    model: Annotated[str, typer.Option("--model", help="Model: artifact folder or key (prefix).")],
    phases: Annotated[str, typer.Option("--phases", help="Known phases: starter, file, artifact folder or key.")],
    elements: Annotated[str | None, typer.Option(help="Elements to combine: Li,La,Zr,O. Default: all 86.")] = None,
    exclude: Annotated[str | None, typer.Option(help="Elements that no composition contains: U,Pu,Hg.")] = None,
    required: Annotated[str | None, typer.Option(help="Elements that every composition contains.")] = None,
    arity: Annotated[str | None, typer.Option(help="Numbers of elements: 2,3,4. Default: 2,3.")] = None,
    max_atoms: Annotated[int | None, typer.Option(help="Atoms per formula unit at most. Default: 10.")] = None,
    formulas: Annotated[
        str | None, typer.Option(help="A list instead: table with `formula`, text with one per line, or artifact.")
    ] = None,
    threshold: Annotated[float, typer.Option(help=r"Keep up to this distance from the hull \[eV/atom].")] = -0.2,
    charge_balance: Annotated[str, typer.Option(help="column; or filter: keep what charges balance.")] = "column",
    precision: Annotated[str, typer.Option(help="fp32, or fast: bytes first, with the same result.")] = "fp32",
    keep_predictions: Annotated[
        bool, typer.Option("--keep-predictions", help="Keep the predicted energy of every composition, 3.2 bytes each.")
    ] = False,
    student: Annotated[
        bool, typer.Option("--student", help="A small network clears first: faster, and a measured share is lost.")
    ] = False,
    known: Annotated[str | None, typer.Option(help="File with known formulas, energies not needed.")] = None,
    block_size: Annotated[
        int | None, typer.Option(help="Compositions per task; no part of the result. Default: what suits the workers.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say how long it would take, and how much disk.")] = (
        False
    ),
    allow_mixed: MixedOption = False,
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Screen a composition space, or a list of formulas, against the convex hull of the known phases."""
    from flows.parameters import ScreenFlowParameters
    from flows.screen import screen
    from tasks.cluster import usual_block_size
    from tasks.estimate import estimate_screen

    space = _space(_rule(elements, exclude, required, arity, max_atoms), formulas)
    screening = ScreenParameters.model_validate(
        {"spaces": (space,), "threshold": threshold, "precision": precision, "allow_mixed_scheme": allow_mixed}
        | {"charge_balance": charge_balance, "keep_predictions": keep_predictions}
        | ({"student": {}} if student else {})
    )
    parameters = ScreenFlowParameters(
        model=model, phases=phases, known=known, screening=screening, block_size=block_size, store=store, cluster=dask
    )
    if dry_run:
        size = block_size or usual_block_size(dask)
        _print_estimate(estimate_screen(store_root(store), model, phases, screening, size), student)
        return
    ref = run_flow(screen, parameters)
    _print_counts(ref, threshold)
    if keep_predictions:
        _print_predictions(ref)
    if out:
        write_any(ArtifactStore.from_ref(ref).read_table(ref), str(out))
    console.print(str(out) if out else payload_path(ref, "candidates.parquet"), highlight=False, soft_wrap=True)


def _print_estimate(estimate: Estimate, is_cleared: bool) -> None:
    """Say what a screen would take."""
    seconds = timedelta(seconds=round(estimate.core_seconds))
    on_all = timedelta(seconds=round(estimate.core_seconds / CPU_COUNT))
    if is_cleared:
        console.print("without the student, which has to be distilled first:", highlight=False)
    for line in (
        f"{estimate.n_compositions:,} compositions in {estimate.n_systems:,} chemical systems, "
        f"{estimate.n_blocks:,} tasks",
        f"about {estimate.rate:,.0f} compositions/s on one core of this machine (measured on {estimate.n_sample:,}): "
        f"{seconds} h on one, {on_all} h on all {CPU_COUNT}",
        f"about {_rounded(estimate.n_candidates):,} candidates "
        f"({estimate.n_candidates / estimate.n_compositions:.2%}), {estimate.n_bytes / 1e6:,.1f} MB on disk",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def _rounded(number: float) -> int:
    """Round to two digits: more would say more than a sample knows."""
    return int(float(f"{number:.1e}"))


def _print_counts(ref: ArtifactRef, threshold: float) -> None:
    """Say how many compositions there were, and what became of a list's rows."""
    from tasks.student import read_recall

    store = ArtifactStore.from_ref(ref)
    manifest = store.manifest(ref)
    for role, record in manifest.inputs.items():
        listed = store.find(record.key) if role.startswith("formulas_") else None
        if listed is not None:
            counts = store.manifest(listed).counts
            rejected = counts.get("rejected", 0)
            where = f", see {payload_path(listed, REJECTED)}" if rejected else ""
            console.print(
                f"list: {counts['rows_in']:,} rows, {rejected:,} rejected{where}", highlight=False, soft_wrap=True
            )
    cleared = store.find(manifest.inputs["student"].key) if "student" in manifest.inputs else None
    if cleared is not None:
        console.print(_recall_line(read_recall(cleared)), highlight=False, soft_wrap=True)
    counts = manifest.counts
    console.print(
        f"{counts['screened']:,} compositions, {counts['below']:,} at or below {threshold} eV/atom, "
        f"{counts['unflagged']:,} without flags",
        highlight=False,
    )


def _recall_line(recall: Recall) -> str:
    """Say what a student lost and saved, as measured on a sample that had no part in its making."""
    return (
        f"student: recall {recall.recall:.5f}, 95 % interval {recall.low:.5f} to {recall.high:.5f} "
        f"({recall.n_missed:,} of {recall.n_survivors:,} missed), {recall.passed:.1%} passed on, "
        f"{1 / recall.flops:.1f} times fewer operations"
    )


def _print_predictions(ref: ArtifactRef) -> None:
    """Say where the predictions of all compositions lie, in the order of the index."""
    from tasks.predictions import prediction_parts
    from tasks.screen import PREDICTIONS

    parts = prediction_parts(ArtifactStore.from_ref(ref), ref)
    console.print(f"all predictions, {len(parts):,} files in the order of the index:", highlight=False)
    for number, found in enumerate(parts):
        if number < _SHOWN or number == len(parts) - 1:
            console.print(payload_path(found.part, f"{PREDICTIONS}.parquet"), highlight=False, soft_wrap=True)
        elif number == _SHOWN:
            console.print("...", highlight=False)
