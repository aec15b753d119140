"""`train` and `predict`: networks from tables, predictions for tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from deployments.commands.run import (
    ClusterOption,
    ColumnsOption,
    MixedOption,
    OutOption,
    StoreOption,
    console,
    payload_path,
    run_flow,
    write_rows,
)
from deployments.commands.validate import read_entries, rows_given, say_comparison
from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from storage.root import store_root
from tasks.train_parameters import ENERGY

if TYPE_CHECKING:
    from tasks.validation_parameters import EntryParameters

SettingsOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="SETTING=VALUE of the trainer or of the network; several when repeated."),
]

_SHOWN = ("mae", "rmse", "r2", "accuracy", "f1", "auc")


def train_command(
    data: Annotated[str, typer.Option("--data", help="starter, a file, an artifact folder or a key (prefix).")],
    model: Annotated[
        str, typer.Option("--model", help="Network: elemnet, attention, residual, multi_property.")
    ] = "elemnet",
    target: Annotated[
        str, typer.Option("--target", help="Column to learn; several, joined by commas, with multi_property.")
    ] = ENERGY,
    above: Annotated[float | None, typer.Option(help="Two classes: whether the target is larger than this.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Energies as they are, without ElemNet's rules.")] = False,
    log10: Annotated[bool, typer.Option("--log10", help="Learn the logarithm of the target.")] = False,
    folds: Annotated[int | None, typer.Option("--folds", help="Cross-validate over so many folds instead.")] = None,
    init: Annotated[str | None, typer.Option("--init", help="Start from this model: folder or key.")] = None,
    frozen: Annotated[int, typer.Option(help="With --init: groups of layers that stay as they are.")] = 0,
    rate_decay: Annotated[
        float, typer.Option(help="With --init: factor on the rate from one group of layers to the one before.")
    ] = 1.0,
    teacher: Annotated[
        str | None,
        typer.Option(help="Learn a model's energies of new compositions, too: folder or key; of the same data."),
    ] = None,
    taught: Annotated[int, typer.Option(help="With --teacher: how many compositions it labels.")] = 400_000,
    representation: Annotated[
        str, typer.Option(help="element_fraction, magpie, voronoi or magpie+voronoi.")
    ] = "element_fraction",
    attributes: Annotated[str | None, typer.Option(help="Structural attributes: artifact folder or key.")] = None,
    settings: SettingsOption = None,
    columns: ColumnsOption = None,
    database: Annotated[str, typer.Option(help="File: database that the rows came from.")] = "file",
    functional: Annotated[str | None, typer.Option(help="File: pbe, pbe+u, r2scan, experiment, ...")] = None,
    temperature: Annotated[float | None, typer.Option(help="File: temperature of measured values, K.")] = None,
    preset: Annotated[str, typer.Option(help="standard, small, or auto: small below 30,000 rows.")] = "auto",
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; default: the preset's.")] = None,
    members: Annotated[int, typer.Option(help="Networks in the ensemble.")] = 1,
    restarts: Annotated[
        int,
        typer.Option(help="Times that a network goes on, the rate rising once more; each end stays in the ensemble."),
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of weights and row order.")] = 0,
    threads: Annotated[int, typer.Option(help="CPU threads; part of the key.")] = 2,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Train one network or an ensemble, on formation energies or on any other column."""
    from flows.parameters import TrainFlowParameters
    from flows.train import train

    changes = {"representation": representation, "members": members, "restarts": restarts, "seed": seed}
    if init is not None:
        changes["transfer"] = {"frozen": frozen, "rate_decay": rate_decay}
    common = {"target": target, "preset": preset, "epochs": epochs, "threads": threads} | changes
    (entry,) = read_entries([f"{model}@{','.join(settings or [])}"], common, init)
    rows = rows_given(data, columns, database, functional, temperature, target, above, plain, log10)
    where = rows | {"attributes": attributes, "store": store, "cluster": dask}
    if folds is not None:
        _over_folds(entry, folds, teacher, where)
    else:
        lessons = {"teacher": teacher, "taught": {"compositions": taught}}
        _say(run_flow(train, TrainFlowParameters(training=entry.training, init=init, **lessons, **where)))


def _over_folds(entry: EntryParameters, folds: int, teacher: str | None, where: dict[str, Any]) -> None:
    """Cross-validate a network instead of training it once."""
    from flows.cross_validate import CrossValidateParameters, cross_validate
    from tasks.validation_parameters import ValidationParameters

    if teacher is not None:
        raise InputError("a teacher has learnt from all folds: leave --teacher out, or --folds")
    parameters = CrossValidateParameters(entries=(entry,), validation=ValidationParameters(folds=folds), **where)
    say_comparison(run_flow(cross_validate, parameters))


def _say(ref: ArtifactRef) -> None:
    """Print a model's metrics and where it is."""
    card, _ = read_model(ref)
    for split, values in card.metrics.items():
        each = values if any(isinstance(value, dict) for value in values.values()) else {"": values}
        for name, metrics in each.items():
            shown = ", ".join(f"{key} {value:.4f}" for key, value in metrics.items() if key in _SHOWN and value)
            console.print(f"{split:<12}{name + ' ' if name else ''}{shown}", highlight=False)
    console.print(payload_path(ref, "card.json"), highlight=False, soft_wrap=True)


def predict_command(
    model: Annotated[str, typer.Option("--model", help="Model: artifact folder or key (prefix).")],
    table: Annotated[str, typer.Option("--in", help="Table with a column `formula`: file, artifact folder or key.")],
    out: OutOption = None,
    allow_mixed: MixedOption = False,
    store: StoreOption = None,
) -> None:
    """Add `prediction` and `prediction_std` to a table; with a calibrated model its 95 % interval, too."""
    from tasks.tables import predict_table

    root = store_root(store)
    write_rows(root, predict_table(root, model, table, allow_mixed), out)
