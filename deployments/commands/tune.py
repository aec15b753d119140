"""`tune`: a search for the settings with which a network learns best."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml
from rich.table import Table

from deployments.commands.run import ClusterOption, ColumnsOption, StoreOption, console, payload_path, run_flow
from deployments.commands.validate import read_entries, rows_given
from models.registry import BASELINE_NAMES
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.train_parameters import ENERGY, TrainParameters

if TYPE_CHECKING:
    from tasks.tune_parameters import TuneParameters

_Texts = list[str] | None
_SHOWN = 10
_DEFAULTS = {"--database": "file", "--target": ENERGY, "--dask": "local", "--preset": "auto"}

SpaceOption = Annotated[
    list[str],
    typer.Option(
        "--space",
        help="What is searched: NAME=LOW..HIGH[:log][:POINTS in a grid], or NAME=A|B|C; one per setting, repeat it.",
    ),
]
SettingsOption = Annotated[_Texts, typer.Option("--set", help="SETTING=VALUE of all trials; several when repeated.")]
FirstBudgetOption = Annotated[
    int | None,
    typer.Option(help="First budget; as --max-epochs: no trial is stopped early. Default: two halvings below."),
]
RepresentationOption = Annotated[str, typer.Option(help="element_fraction, magpie, voronoi or magpie+voronoi.")]


def tune_command(
    data: Annotated[str, typer.Option("--data", help="starter, a file, an artifact folder or a key (prefix).")],
    space: SpaceOption,
    model: Annotated[str, typer.Option("--model", help="Network, or a baseline of cross-validate.")] = "elemnet",
    sampler: Annotated[str, typer.Option(help="bayes, random or grid.")] = "bayes",
    trials: Annotated[int, typer.Option(help="Configurations tried; a grid tries all.")] = 16,
    batch: Annotated[int, typer.Option(help="bayes: configurations chosen at a time.")] = 4,
    eta: Annotated[int, typer.Option(help="The best one in so many goes on to the next budget.")] = 3,
    min_epochs: FirstBudgetOption = None,
    max_epochs: Annotated[int, typer.Option(help="Full budget of a trial.")] = 20,
    metric: Annotated[str | None, typer.Option(help="mae, rmse, accuracy, f1 or auc. Default: mae or auc.")] = None,
    scheme: Annotated[str, typer.Option(help="Held-out rows: grouped, random or elements.")] = "grouped",
    folds: Annotated[int, typer.Option(help="Folds of the training rows.")] = 5,
    measured: Annotated[int, typer.Option(help="Folds that each trial is trained and measured on.")] = 1,
    size: Annotated[int | None, typer.Option(help="Train on so many of a fold's rows. Default: all.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of the search.")] = 0,
    settings: SettingsOption = None,
    representation: RepresentationOption = "element_fraction",
    attributes: Annotated[str | None, typer.Option(help="Structural attributes: artifact folder or key.")] = None,
    target: Annotated[str, typer.Option("--target", help="Column to learn.")] = ENERGY,
    above: Annotated[float | None, typer.Option(help="Two classes: whether the target is larger than this.")] = None,
    plain: Annotated[bool, typer.Option("--plain", help="Energies as they are, without ElemNet's rules.")] = False,
    log10: Annotated[bool, typer.Option("--log10", help="Learn the logarithm of the target.")] = False,
    columns: ColumnsOption = None,
    database: Annotated[str, typer.Option(help="File: database that the rows came from.")] = "file",
    functional: Annotated[str | None, typer.Option(help="File: pbe, pbe+u, r2scan, experiment, ...")] = None,
    temperature: Annotated[float | None, typer.Option(help="File: temperature of measured values, K.")] = None,
    preset: Annotated[str, typer.Option(help="standard, small, or auto: small below 30,000 rows.")] = "auto",
    threads: Annotated[int, typer.Option(help="CPU threads of a training; trials go side by side with 1.")] = 1,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Search for the settings with which a network learns best; validation rows are never looked at."""
    from flows.tune import TuneFlowParameters, tune
    from tasks.tune_parameters import TuneParameters

    common = {"preset": preset, "threads": threads, "target": target, "representation": representation}
    (entry,) = read_entries([f"{model}@{','.join(settings or [])}"], common)
    asked = {"space": tuple(space), "sampler": sampler, "n_trials": trials, "batch": batch, "eta": eta, "seed": seed}
    asked |= {"min_epochs": min_epochs, "max_epochs": max_epochs, "metric": metric, "measured": measured}
    held = {"scheme": scheme, "folds": folds, "sizes": () if size is None else (size,)}
    tuning = TuneParameters.model_validate(asked | {"validation": held})
    given = rows_given(data, columns, database, functional, temperature, target, above, plain, log10)
    where = {"attributes": attributes, "store": store, "cluster": dask}
    ref = run_flow(tune, TuneFlowParameters(training=entry.training, tuning=tuning, **given, **where))
    options = {"--data": data, "--database": database, "--functional": functional, "--temperature": temperature}
    options |= {"--target": target, "--above": above, "--attributes": attributes, "--store": store, "--dask": dask}
    flags = [name for name, is_on in (("--plain", plain), ("--log10", log10)) if is_on]
    words = [*flags, *(word for text in columns or [] for word in ("--map", text))]
    _say(ref, [*_words(options), *words], settings or [], entry.training, tuning)


def _say(
    ref: ArtifactRef, rows: Sequence[str], settings: Sequence[str], training: TrainParameters, tuning: TuneParameters
) -> None:
    """Print the best trials, what matters, and the command that trains with the best settings."""
    from tasks.tune import SUMMARY

    store = ArtifactStore.from_ref(ref)
    summary = json.loads(store.read_bytes(ref, SUMMARY))
    lines = store.read_table(ref, "trials").to_pylist()
    console.print(best_trials(lines))
    for line in summary["importance"]:
        if line["rank_correlation"] is not None:
            said = f"{line['name']}: rank correlation with the error {line['rank_correlation']:+.2f}"
            console.print(said, highlight=False)
    diverged = [line for line in lines if line["state"] == "diverged"]
    if diverged:
        first = diverged[0]
        said = f"diverged: {len(diverged)} of {len(lines)} trials, the first being {first['trial']}: {first['reason']}"
        console.print(said, highlight=False, markup=False, soft_wrap=True)
    chosen = training.model_copy(update={"preset": summary["preset"]})
    command = training_command(summary["best"], rows, settings, chosen, tuning)
    console.print(command, highlight=False, markup=False, soft_wrap=True)
    console.print(payload_path(ref, SUMMARY), highlight=False, soft_wrap=True)


def best_trials(lines: Sequence[Mapping[str, Any]]) -> Table:
    """Return the best trials of a table `trials`, those with the largest budgets first."""
    latest: dict[int, Mapping[str, Any]] = {}
    for line in sorted(lines, key=lambda line: -line["rung"]):
        latest.setdefault(line["trial"], line)
    usable = [line for line in latest.values() if line["value"] is not None]
    usable.sort(key=lambda line: (-line["rung"], line["value"], line["trial"]))
    table = Table(title="best trials, on held-out rows")
    for name in ("trial", "epochs", "error", "configuration"):
        table.add_column(name, justify="left" if name == "configuration" else "right")
    for line in usable[:_SHOWN]:
        settings = ", ".join(f"{name}={_yaml(value)}" for name, value in json.loads(line["configuration"]).items())
        table.add_row(str(line["trial"]), str(line["epochs"] or "-"), f"{line['value']:.4f}", settings)
    return table


def training_command(
    best: Mapping[str, Any],
    rows: Sequence[str],
    settings: Sequence[str],
    training: TrainParameters,
    tuning: TuneParameters,
) -> str:
    """Return the command line that trains with the best settings; of a baseline, that cross-validates it.

    Parameters
    ----------
    best
        The best trial, as ``tuning.json`` has it.
    rows
        Options that say which rows are learnt from, and where.
    settings
        Those of all trials, as ``SETTING=VALUE``.
    training, tuning
        Parameters of the search.
    """
    chosen = [*settings, *(f"{name}={_yaml(value)}" for name, value in best["configuration"].items())]
    common = _words({"--preset": training.preset, "--threads": training.threads})
    if training.network in BASELINE_NAMES:
        entry = f"{training.network}@{','.join([*chosen, f'representation={training.representation}'])}"
        held = _words({"--scheme": tuning.validation.scheme, "--folds": tuning.validation.folds})
        return shlex.join(["elemscreen", "cross-validate", *rows, "--entry", entry, *held, *common])
    budget = _words({"--representation": training.representation, "--epochs": best["epochs"]})
    changes = [word for text in chosen for word in ("--set", text)]
    return shlex.join(["elemscreen", "train", *rows, "--model", training.network, *common, *budget, *changes])


def _words(options: Mapping[str, Any]) -> list[str]:
    """Return options as words of a command line, without those that are not given or as they are by default."""
    given = {name: value for name, value in options.items() if value is not None and value != _DEFAULTS.get(name)}
    return [word for name, value in given.items() for word in (name, str(value))]


def _yaml(value: Any) -> str:
    """Return a value as `--set` reads it."""
    return str(yaml.safe_dump(value, default_flow_style=True)).splitlines()[0]
