"""`explain`: what the layers of a composition network know, and the phase diagrams that it predicts."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer
from rich.table import Table

from deployments.commands.run import ClusterOption, MixedOption, StoreOption, console, payload_path, run_flow
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore

_Texts = list[str] | None


def explain_command(
    model: Annotated[str, typer.Option("--model", help="Composition network: artifact folder or key (prefix).")],
    phases: Annotated[str, typer.Option("--phases", help="Known phases: starter, file, artifact folder or key.")],
    table: Annotated[
        str | None, typer.Option(help="Compositions to look at, with columns to probe. Default: the known phases.")
    ] = None,
    layer: Annotated[_Texts, typer.Option(help="Number or name of a layer; repeat it. Default: 1, 2, middle.")] = None,
    system: Annotated[_Texts, typer.Option(help="Phase diagram to predict: Ti-O, Na-Mn-O; repeat it.")] = None,
    probe: Annotated[
        _Texts, typer.Option(help="Property to read off: halogen, magnetic_3d, ..., or a column: band_gap>0.1.")
    ] = None,
    elements: Annotated[str | None, typer.Option(help="Elements whose likes are mapped. Default: Na,Ti,Cl,La.")] = None,
    represent: Annotated[str, typer.Option(help="elements: each alone; compounds: mean of its AX.")] = "elements",
    measure: Annotated[str, typer.Option(help="Similarity: centred, correlation, cosine.")] = "centred",
    max_atoms: Annotated[int, typer.Option(help="Atoms per formula unit in phase diagrams.")] = 12,
    max_rows: Annotated[int, typer.Option(help="Rows of the table at most; more are drawn from.")] = 4000,
    seed: Annotated[int, typer.Option(help="Seed of every draw.")] = 0,
    untrained: Annotated[
        bool, typer.Option("--untrained/--no-untrained", help="Show the network with random weights beside it.")
    ] = True,
    allow_mixed: MixedOption = False,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Look into a network: likeness of elements, linear probes of its layers, predicted phase diagrams."""
    from flows.explain import ExplainFlowParameters, explain
    from tasks.explain_parameters import ExplainParameters

    given: dict[str, Any] = {"layers": layer, "systems": system, "probes": probe}
    given["elements"] = [symbol.strip() for symbol in elements.split(",")] if elements else None
    explaining = ExplainParameters.model_validate(
        {"represent": represent, "measure": measure, "max_atoms": max_atoms, "max_rows": max_rows}
        | {"seed": seed, "untrained": untrained, "allow_mixed_scheme": allow_mixed}
        | {name: tuple(values) for name, values in given.items() if values}
    )
    parameters = ExplainFlowParameters(
        model=model, phases=phases, table=table, explaining=explaining, store=store, cluster=dask
    )
    _say(run_flow(explain, parameters))


def _say(ref: ArtifactRef) -> None:
    """Print the numbers in short, and where the page is."""
    from tasks.explain import PAGE, RESULT

    result = json.loads(ArtifactStore.from_ref(ref).read_bytes(ref, RESULT))
    console.print(_layers(result))
    for entry in result["not_probed"]:
        console.print(f"not probed: {entry['probe']} ({entry['reason']})", highlight=False)
    if result["systems"]:
        console.print(_systems(result["systems"]))
    console.print(payload_path(ref, PAGE), highlight=False, soft_wrap=True)


def _layers(result: dict[str, Any]) -> Table:
    """By layer: elements that go by the periodic table, and areas under the ROC curves."""
    table = Table(title="nearest element of the same group; area under the ROC curve of each probe")
    areas = {(e["probe"], e["layer"]): e["auc"] for e in result["probes"] if e["network"] == "trained"}
    nearest = {e["layer"]: e["nearest"] for e in result["agreement"] if e["network"] == "trained"}
    probes = list(dict.fromkeys(name for name, _ in areas))
    for name in ("layer", "nearest", *probes):
        table.add_column(name, justify="right", no_wrap=True)
    layers = list(dict.fromkeys([layer for _, layer in areas] or list(nearest)))
    for layer in layers:
        share = nearest.get(layer)
        said = "-" if share is None else f"{100 * share:.0f} %"
        table.add_row(layer, said, *(f"{areas[name, layer]:.3f}" for name in probes))
    return table


def _systems(systems: list[dict[str, Any]]) -> Table:
    table = Table(title="phase diagrams (eV/atom): compositions on the hulls, and how far off they are")
    for name in ("system", "on both", "predicted only", "known only", "phases off", "hull off"):
        table.add_column(name, justify="left" if name == "system" else "right", no_wrap=True)
    for numbers in systems:
        error = numbers["energy_mae"]
        counts = (len(numbers[f"stable_{side}"]) for side in ("both", "predicted_only", "reference_only"))
        table.add_row(
            numbers["system"], *map(str, counts), "-" if error is None else f"{error:.3f}", f"{numbers['hull_mae']:.3f}"
        )
    return table
