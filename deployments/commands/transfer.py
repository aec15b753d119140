"""`transfer`: fine-tune a trained network on a small table, beside training from scratch."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deployments.commands.run import ClusterOption, ColumnsOption, StoreOption, run_flow
from deployments.commands.validate import read_entries, rows_given, say_comparison
from storage.model_files import read_model
from storage.root import store_root
from storage.store import ArtifactStore

_Texts = list[str] | None


def transfer_command(
    source: Annotated[str, typer.Option("--source", help="The trained network: artifact folder or key (prefix).")],
    data: Annotated[str, typer.Option("--data", help="The small table: file, artifact folder or key (prefix).")],
    folds: Annotated[int, typer.Option(help="Folds.")] = 10,
    size: Annotated[list[int] | None, typer.Option(help="Learn from so many rows; several when repeated.")] = None,
    settings: Annotated[
        _Texts, typer.Option("--set", help="SETTING=VALUE of the trainer; several when repeated.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; default: the preset's.")] = None,
    frozen: Annotated[int, typer.Option(help="Groups of layers that stay as they are.")] = 0,
    rate_decay: Annotated[float, typer.Option(help="Factor on the rate from one group to the one before.")] = 1.0,
    source_rows: Annotated[
        str | None,
        typer.Option(help="Rows the source learnt from: train another one without the table's formulas, too."),
    ] = None,
    source_settings: Annotated[
        _Texts,
        typer.Option("--set-source", help="SETTING=VALUE of that other training, which is else as the source's was."),
    ] = None,
    columns: ColumnsOption = None,
    database: Annotated[str, typer.Option(help="File: database that the rows came from.")] = "file",
    functional: Annotated[str | None, typer.Option(help="File: pbe, pbe+u, r2scan, experiment, ...")] = None,
    temperature: Annotated[float | None, typer.Option(help="File: temperature of measured values, K.")] = None,
    threads: Annotated[int, typer.Option(help="CPU threads of a training; folds go side by side with 1.")] = 1,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Fine-tune a network on a small table, fold by fold, beside the same from scratch and the network as it is."""
    from flows.transfer import TransferFlowParameters, transfer
    from tasks.inputs import as_model
    from tasks.source_model import training_of
    from tasks.train_parameters import ENERGY
    from tasks.validation_parameters import ValidationParameters

    root = store_root(store)
    model = as_model(root, source)
    card, _ = read_model(model, ArtifactStore(root))
    architecture = {name: value for name, value in card.architecture.parameters.items() if name != "n_features"}
    common: dict[str, Any] = {"preset": "small", "threads": threads, "architecture": architecture}
    common |= {"representation": card.features, "members": card.n_members}
    rates = {"frozen": frozen, "rate_decay": rate_decay}
    given = [f"{card.architecture.name}@{','.join(texts or [])}" for texts in (settings, source_settings)]
    (learnt,) = read_entries(given[:1], common | {"epochs": epochs, "transfer": rates})
    unseen = None
    if source_rows is not None:
        (entry,) = read_entries(given[1:], training_of(model).model_dump(exclude={"network"}))
        unseen = entry.training
    rows = rows_given(data, columns, database, functional, temperature, ENERGY, None, True)
    parameters = TransferFlowParameters(
        source=source,
        training=learnt.training,
        source_rows=source_rows,
        source_training=unseen,
        validation=ValidationParameters(folds=folds, sizes=tuple(size or ()), include_validation=True),
        store=store,
        cluster=dask,
        **rows,
    )
    say_comparison(run_flow(transfer, parameters))
