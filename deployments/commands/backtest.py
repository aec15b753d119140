"""`backtest`: what a screen's finds are worth, measured on compounds that were held out."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from deployments.commands.ingest import parse_map
from deployments.commands.run import ClusterOption, ColumnsOption, StoreOption, console, payload_path, run_flow
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.parameters import SourceParameters
from tasks.train_parameters import TrainParameters

_Texts = list[str] | None


def backtest_command(
    source: Annotated[str, typer.Option(help="Energies: starter, file:PATH, artifact folder or key.")] = "starter",
    by: Annotated[_Texts, typer.Option(help="pairs, or release; both when given twice. Default: pairs.")] = None,
    known: Annotated[str | None, typer.Option(help="File with known formulas, energies not needed.")] = None,
    columns: ColumnsOption = None,
    database: Annotated[str, typer.Option(help="File: database that the rows came from.")] = "file",
    release: Annotated[str, typer.Option(help="File: its release; part of the energy scheme.")] = "unstated",
    functional: Annotated[str | None, typer.Option(help="File: pbe, pbe+u, r2scan, ...")] = None,
    share: Annotated[float, typer.Option(help="pairs: about this part of the compounds is held out.")] = 0.1,
    holdout_seed: Annotated[int, typer.Option(help="pairs: seed of the draw.")] = 0,
    early: Annotated[_Texts, typer.Option(help="release: one to learn from; several when repeated.")] = None,
    earliest: Annotated[int | None, typer.Option(help="release: how many to learn from. Default: all but one.")] = None,
    preset: Annotated[str, typer.Option(help="standard, small, or auto: small below 30,000 rows.")] = "auto",
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; default: the preset's.")] = None,
    members: Annotated[int, typer.Option(help="Networks in the ensemble.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of weights and row order.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; part of the key.")] = 2,
    canary: Annotated[
        _Texts, typer.Option(help="Formula to report whatever comes. Default: KF6 NaF8 OF9 SeF9.")
    ] = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Hold compounds out, train without them, and measure precision, recall and acceleration of the finds."""
    from flows.backtest import BacktestFlowParameters, backtest
    from tasks.backtest_parameters import HoldoutParameters, JudgeParameters

    named = {"releases": tuple(early or ()), "earliest": earliest}
    ways = [
        HoldoutParameters.model_validate(
            {"by": way} | (named if way == "release" else {"share": share, "seed": holdout_seed})
        )
        for way in dict.fromkeys(by or ["pairs"])
    ]
    file = source if source.startswith("file:") else "starter"
    energies = SourceParameters.model_validate(
        {"source": file, "columns": parse_map(columns), "database": database}
        | {"release": release, "functional": functional}
    )
    training = TrainParameters.model_validate(
        {"preset": preset, "epochs": epochs, "members": members, "seed": seed, "threads": threads}
    )
    judging = JudgeParameters.model_validate({"canaries": tuple(canary)} if canary else {})
    parameters = BacktestFlowParameters(
        data=source, energies=energies, known=known, ways=tuple(ways), training=training, judging=judging,
        store=store, cluster=dask,
    )  # fmt: skip
    for ref in run_flow(backtest, parameters):
        _say(ref)


def _say(ref: ArtifactRef) -> None:
    """Print one back-test's tables and where its rows are."""
    from tasks.backtest import RESULT

    held = ArtifactStore.from_ref(ref)
    result = json.loads(held.read_bytes(ref, RESULT))
    parts = result["parts"]
    what = f"{len(result['holdout']['pairs'])} pairs of elements" if result["holdout"]["pairs"] else "later releases"
    console.print(
        f"\n[bold]Held out: {what}[/], {result['before']['n']:,} compounds judged, "
        f"{result['training_rows']['train']:,} rows trained on, {parts['left_out']:,} left out; "
        f"{result['after']['n']:,} without flags",
        highlight=False,
    )
    console.print(_metrics(result))
    console.print(_canaries(result["canaries"]))
    console.print(payload_path(ref, "backtest.parquet"), highlight=False, soft_wrap=True)


def _metrics(result: dict[str, Any]) -> Table:
    table = Table(
        title="finds at or below a threshold (eV/atom); gain: precision over prevalence; P: mean stated probability"
    )
    # no more than 80 characters hold: intervals, F1 and the rest are in the artifact
    for name in ("at", "rows", "selected", "precision", "prevalence", "gain", "recall", "P"):
        table.add_column(name, justify="right", no_wrap=True)
    for part, label in (("before", "all"), ("after", "no flags")):
        for entry in result[part]["thresholds"]:
            stable, said = entry["stable"], entry["reliability"]
            table.add_row(
                f"{entry['threshold']:g}", label, f"{entry['selected']:,}", percent(stable["precision"]),
                percent(stable["prevalence"]), number(stable["acceleration"]), percent(stable["recall"]),
                number(said["stated"]),
            )  # fmt: skip
    return table


def _canaries(entries: list[dict[str, Any]]) -> Table:
    table = Table(title="canaries")
    for name in ("formula", "predicted (eV/atom)", "minus hull", "probability", "flags"):
        table.add_column(name, justify="left" if name in ("formula", "flags") else "right")
    for entry in entries:
        flags = [flag for flag in ("known", "hull_incomplete", "out_of_domain", "held_out") if entry[flag]]
        table.add_row(
            entry["formula"], f"{entry['prediction']:.3f}", f"{entry['decomposition_energy']:.3f}",
            number(entry["probability_stable"]), ", ".join(flags) or "none",
        )  # fmt: skip
    return table


def percent(entry: dict[str, Any]) -> str:
    """Return a share in percent; a dash where there is none."""
    return "-" if entry["share"] is None else f"{100 * entry['share']:.1f} %"


def number(value: float | None) -> str:
    """Return a number with two decimals; a dash where there is none."""
    return "-" if value is None else f"{value:.2f}"
