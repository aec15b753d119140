"""`train` and `predict`: networks from tables, predictions for tables."""

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
from flows.parameters import TrainFlowParameters
from flows.run import store_root
from flows.train import train
from storage.model_files import read_model
from tasks.parameters import TrainParameters
from tasks.tables import predict_table


def train_command(
    data: Annotated[str, typer.Option("--data", help="starter, a file, an artifact folder or a key (prefix).")],
    model: Annotated[str, typer.Option("--model", help="Network: elemnet.")] = "elemnet",
    target: Annotated[str, typer.Option("--target", help="Column to learn.")] = "formation_energy_per_atom",
    preset: Annotated[str, typer.Option(help="standard, or small for some thousand rows.")] = "standard",
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; default: the preset's.")] = None,
    members: Annotated[int, typer.Option(help="Networks in the ensemble.")] = 1,
    seed: Annotated[int, typer.Option(help="Seed of weights and row order.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; part of the key.")] = 2,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Train one network or an ensemble on a table of formation energies."""
    training = TrainParameters(
        network=model, target=target, preset=preset, epochs=epochs, members=members, seed=seed, threads=threads
    )
    ref = run_flow(train, TrainFlowParameters(data=data, training=training, store=store, cluster=dask))
    card, _ = read_model(ref)
    for split, values in card.metrics.items():
        shown = ", ".join(f"{name} {value:.4f}" for name, value in values.items() if name in ("mae", "rmse", "r2"))
        console.print(f"{split:<12}{shown}", highlight=False)
    console.print(payload_path(ref, "card.json"), highlight=False, soft_wrap=True)


def predict_command(
    model: Annotated[str, typer.Option("--model", help="Model: artifact folder or key (prefix).")],
    table: Annotated[str, typer.Option("--in", help="Table with a column `formula`: file, artifact folder or key.")],
    out: OutOption = None,
    allow_mixed: MixedOption = False,
    store: StoreOption = None,
) -> None:
    """Add `prediction` and `prediction_std` to a table."""
    root = store_root(store)
    write_rows(root, predict_table(root, model, table, allow_mixed), out)
