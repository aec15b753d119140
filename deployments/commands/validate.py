"""`cross-validate`: networks and baselines on the same folds, side by side."""

from __future__ import annotations

import copy
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.table import Table

from deployments.commands.ingest import parse_map
from deployments.commands.run import (
    ClusterOption,
    ColumnsOption,
    StoreOption,
    console,
    payload_path,
    print_table,
    run_flow,
)
from models.errors import InputError
from models.registry import BASELINE_NAMES
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.parameters import SourceParameters
from tasks.train_parameters import ENERGY, TrainParameters

if TYPE_CHECKING:
    from tasks.validation_parameters import EntryParameters

_Texts = list[str] | None
_NUMBERS_WIDTH = 70
"""Columns that the numbers beside an entry's name take."""
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+")

EntriesOption = Annotated[
    _Texts,
    typer.Option(
        "--entry",
        help="What is trained: NETWORK[@SETTING=VALUE,...], such as elemnet, attention@epochs=20 or "
        "residual@representation=magpie,depth=48,skip=stacked; several when repeated. Or a YAML file with a list, "
        "whose settings come before the other options.",
    ),
]


def validate_command(
    data: Annotated[str, typer.Option("--data", help="starter, a file, an artifact folder or a key (prefix).")],
    entry: EntriesOption = None,
    scheme: Annotated[str, typer.Option(help="random, grouped, elements, holdout or split.")] = "random",
    folds: Annotated[int, typer.Option(help="Folds, of random and grouped.")] = 5,
    holdout: Annotated[_Texts, typer.Option(help="holdout: a system such as Ti-O; several when repeated.")] = None,
    size: Annotated[list[int] | None, typer.Option(help="Train on so many rows; several when repeated.")] = None,
    seeds: Annotated[int, typer.Option(help="Repeat everything with so many seeds.")] = 1,
    target: Annotated[str, typer.Option("--target", help="Column to learn.")] = ENERGY,
    above: Annotated[float | None, typer.Option(help="Two classes: whether the target is larger than this.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Energies as they are, without ElemNet's rules.")] = False,
    log10: Annotated[bool, typer.Option("--log10", help="Learn the logarithm of the target.")] = False,
    init: Annotated[str | None, typer.Option(help="A model that every network starts from.")] = None,
    columns: ColumnsOption = None,
    database: Annotated[str, typer.Option(help="File: database that the rows came from.")] = "file",
    functional: Annotated[str | None, typer.Option(help="File: pbe, pbe+u, r2scan, experiment, ...")] = None,
    temperature: Annotated[float | None, typer.Option(help="File: temperature of measured values, K.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Passes over the data; default: the preset's.")] = None,
    preset: Annotated[str, typer.Option(help="standard, small, or auto: small below 30,000 rows.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of a training; folds go side by side with 1.")] = 1,
    fold_seed: Annotated[int, typer.Option(help="Seed of the folds.")] = 0,
    attributes: Annotated[str | None, typer.Option(help="Structural attributes: artifact folder or key.")] = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Train networks and baselines on the same folds, in parallel, and say which differences are real."""
    from flows.cross_validate import CrossValidateParameters, cross_validate
    from tasks.validation_parameters import ValidationParameters

    common = {"epochs": epochs, "preset": preset, "threads": threads, "target": target}
    entries = read_entries(entry or ["elemnet"], common, init, seeds)
    parameters = CrossValidateParameters(
        **rows_given(data, columns, database, functional, temperature, target, above, plain, log10),
        attributes=attributes,
        entries=entries,
        validation=ValidationParameters.model_validate(
            {"scheme": scheme, "folds": folds, "holdouts": tuple(holdout or ()), "sizes": tuple(size or ())}
            | {"seed": fold_seed}
        ),
        store=store,
        cluster=dask,
    )
    say_comparison(run_flow(cross_validate, parameters))


def rows_given(
    data: str,
    columns: _Texts,
    database: str,
    functional: str | None,
    temperature: float | None,
    target: str,
    above: float | None,
    plain: bool,
    log10: bool = False,
) -> dict[str, Any]:
    """Return the parameters of a flow that say which rows are learnt from, and how a file is read."""
    from tasks.examples import ExampleParameters
    from tasks.further_columns import is_ours

    source = "starter" if data == "starter" else f"file:{data.removeprefix('file:')}"
    targets = tuple(name.strip() for name in target.split(",") if name.strip())
    by_rules = not plain and not log10 and above is None and targets == (ENERGY,)
    return {
        "data": data,
        "energies": SourceParameters.model_validate(
            {"source": source, "columns": parse_map(columns), "database": database}
            | {"functional": functional, "temperature": temperature}
            | {"further": () if data == "starter" else tuple(name for name in targets if not is_ours(name))}
        ),
        "examples": None if by_rules else ExampleParameters(targets=targets, above=above, log10=log10),
    }


def read_entries(
    texts: list[str], common: dict[str, Any], init: str | None = None, n_seeds: int = 1
) -> tuple[EntryParameters, ...]:
    """Return entries from what was given on the command line, or from a YAML file with a list of them.

    Parameters
    ----------
    texts
        ``NETWORK@SETTING=VALUE,...``, or one name of a YAML file.
    common
        Parameters of every training; those of an entry come before them.
    init, n_seeds
        A model to start from, which is none for baselines, and the number of seeds; likewise.

    Raises
    ------
    InputError
        If an entry cannot be read.
    """
    if len(texts) == 1 and texts[0].endswith((".yaml", ".yml")):
        path = Path(texts[0])
        if not path.is_file():
            raise InputError(f"there is no file {path} with entries; give NETWORK@SETTING=VALUE or a YAML file")
        listed = _read(path.read_text(), str(path))
        if not isinstance(listed, list) or not all(isinstance(item, dict) for item in listed) or not listed:
            raise InputError(f"{path} holds no list of entries; begin each with '- name: ...'")
        return tuple(_listed_entry(item, common, init, n_seeds) for item in listed)
    return tuple(_entry(text, common, init, n_seeds) for text in texts)


def _listed_entry(item: dict[str, Any], common: dict[str, Any], init: str | None, n_seeds: int) -> EntryParameters:
    from tasks.validation_parameters import EntryParameters

    training = copy.deepcopy(common) | _numbers(item.get("training") or {})
    starts = None if training.get("network") in BASELINE_NAMES else init
    return EntryParameters.model_validate({"init": starts, "n_seeds": n_seeds} | item | {"training": training})


def _entry(text: str, common: dict[str, Any], init: str | None, n_seeds: int) -> EntryParameters:
    """Return the entry of ``NETWORK@SETTING=VALUE,...``: of the training, of the trainer, or of the network."""
    from models.training_parameters import TrainingParameters
    from tasks.validation_parameters import EntryParameters

    network, _, changes = text.partition("@")
    training: dict[str, Any] = {"network": network} | copy.deepcopy(common)
    of_trainer = {name for name in TrainingParameters().__dict__ if name not in TrainParameters.model_fields}
    if network in BASELINE_NAMES:  # which no trainer trains: its settings are the estimator's
        of_trainer = set()
    for change in _changes(changes):
        name, equals, value = (part.strip() for part in change.partition("="))
        if not equals:
            raise InputError(f"'{change}' in --entry {text} is no SETTING=VALUE; write for example {network}@epochs=20")
        read = _numbers(_read(value, f"--entry {text}"))
        if name in TrainParameters.model_fields:
            training[name] = read
        elif name in of_trainer:
            training.setdefault("settings", {})[name] = read
        else:
            training.setdefault("architecture", {})[name] = read
    starts = None if network in BASELINE_NAMES else init
    return EntryParameters(name=text, training=TrainParameters(**training), init=starts, n_seeds=n_seeds)


def _changes(text: str) -> list[str]:
    """Return what commas separate, other than those within brackets: ``widths=[16,8],epochs=2`` are two."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "[{") - (sign in "]}")
        if sign == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += sign
    return [part for part in parts if part.strip()]


def _read(text: str, where: str) -> Any:
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InputError(f"{where} cannot be read: {' '.join(str(error).split())}; write it as YAML") from error


def _numbers(read: Any) -> Any:
    """Return what YAML read with numbers such as 1e-3, which YAML 1.1 takes for text, as numbers."""
    if isinstance(read, dict):
        return {name: _numbers(value) for name, value in read.items()}
    if isinstance(read, list):
        return [_numbers(value) for value in read]
    return float(read) if isinstance(read, str) and _NUMBER.fullmatch(read) else read


def say_comparison(ref: ArtifactRef) -> None:
    """Print the errors of all entries and what their differences are worth."""
    from tasks.cross_validation import SUMMARY

    summary = json.loads(ArtifactStore.from_ref(ref).read_bytes(ref, SUMMARY))
    of_classes = "brier" in summary["entries"][0]
    name, shown = ("brier", "Brier") if of_classes else ("mae", "MAE")
    scores = ("auc", "f1") if of_classes else ()
    table = Table(title=f"{'Brier score' if of_classes else 'mean absolute error'}, with 95 % intervals")
    for column in ("entry", "rows", shown, "interval", *(score.upper() for score in scores), "folds", "seeds"):
        table.add_column(column, justify="left" if column == "entry" else "right")
    for line in summary["entries"]:
        interval = "-" if line["low"] is None else f"{line['low']:.4f} to {line['high']:.4f}"
        table.add_row(
            line["entry"], f"{line['n_train']:,}", f"{line[name]:.4f}", interval,
            *("-" if line[score] is None else f"{line[score]:.4f}" for score in scores),
            str(line["n_folds"]), str(line["n_seeds"]),
        )  # fmt: skip
    print_table(table, max(len(line["entry"]) for line in summary["entries"]) + _NUMBERS_WIDTH)
    for pair in summary["comparisons"]:
        better = pair["first"] if pair["difference"] < 0 else pair["second"]
        p = pair["p_adjusted"]
        said = f"{better} is better by {abs(pair['difference']):.4f} (p {p:.3f})" if p < 0.05 else "no difference shown"
        console.print(f"{pair['first']} / {pair['second']}: {said}", highlight=False, soft_wrap=True)
    for entry, elements in summary.get("elements", {}).items():
        new = ", ".join(elements["only_target"])
        said = f"the model has not seen {new}" if new else "the model has seen all of the table's"
        console.print(f"{entry}: {len(elements['shared'])} elements in common; {said}", highlight=False, soft_wrap=True)
    for crossing in summary["crossings"]:
        places = ", ".join(f"{place:,.0f}" for place in crossing["sizes"]) or "never"
        console.print(f"{crossing['first']} and {crossing['second']} cross at: {places}", highlight=False)
    console.print(payload_path(ref, SUMMARY), highlight=False, soft_wrap=True)
