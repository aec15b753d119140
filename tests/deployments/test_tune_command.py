"""The command `tune`: trials on a cluster, what it prints, and that its last word trains with the best settings."""

from __future__ import annotations

import itertools
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from command_line import Cli, assert_one_line
from deployments.commands.tune import training_command
from deployments.commands.validate import read_entries
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks.inputs import as_features
from tasks.learning import described_settings
from tasks.parameters import CleanParameters, SourceParameters
from tasks.train_parameters import TrainParameters
from tasks.tune_parameters import TuneParameters, configured

BEST = {"learning_rate": 2.5e-05, "batch_size": 64, "depth": 3, "schedule": "step", "patience": None, "clip_norm": 1e6}


def options_of(command: str, name: str) -> list[str]:
    words = shlex.split(command)
    return [value for word, value in itertools.pairwise(words) if word == name]


def test_the_command_that_is_printed_means_the_best_trial() -> None:
    (entry,) = read_entries(["elemnet@dropout=[0.1],loss=mse"], {"preset": "small", "threads": 1})
    rows = ["--data", "my table.csv", "--plain"]
    command = training_command(
        {"configuration": BEST, "epochs": 9}, rows, ["dropout=[0.1]", "loss=mse"], entry.training, TuneParameters()
    )
    assert command.startswith("elemscreen train --data 'my table.csv' --plain --model elemnet ")
    common = {"preset": options_of(command, "--preset")[0], "threads": int(options_of(command, "--threads")[0])}
    common |= {"representation": options_of(command, "--representation")[0]}
    common |= {"epochs": int(options_of(command, "--epochs")[0])}
    (read,) = read_entries([f"elemnet@{','.join(options_of(command, '--set'))}"], common)
    assert read.training == configured(entry.training, BEST, 9)


def test_of_a_baseline_it_is_a_cross_validation() -> None:
    training = TrainParameters(network="random_forest", architecture={"n_estimators": 10}, threads=2)
    best = {"configuration": {"min_samples_leaf": 3}, "epochs": None}
    command = training_command(best, ["--data", "x"], ["n_estimators=10"], training, TuneParameters())
    assert command.startswith("elemscreen cross-validate --data x --entry ")
    assert options_of(command, "--scheme") + options_of(command, "--folds") == ["grouped", "5"]
    assert "--preset" not in command  # a baseline has no trainer
    (read,) = read_entries(options_of(command, "--entry"), {"threads": int(options_of(command, "--threads")[0])})
    assert read.training == configured(training, best["configuration"], None)


def test_a_search_over_the_workers(cli: Cli, scheduler: str, tiny: Any, tmp_path: Path) -> None:
    """And once more, from the store; and then the training that it recommends."""
    root = tmp_path / "store"
    source = SourceParameters(source=f"file:{tiny.energies_file}", database="tiny", functional="pbe")
    rows = as_features(str(root), str(tiny.energies_file), CleanParameters(calibration_fraction=0.3), source)
    place = ["--store", root, "--dask", scheduler]
    given = ["--data", rows.key, "--set", "widths=[8,1]", "--folds", "2", "--measured", "2"]
    space = ["--space", "learning_rate=1e-3|1e30", "--space", "batch_size=16..64:log"]
    budgets = ["--trials", "4", "--batch", "2", "--eta", "2", "--min-epochs", "2", "--max-epochs", "4"]
    ended = cli("tune", *given, *space, *budgets, *place)
    assert ended.code == 0, ended
    said = json.loads(Path(ended.last).read_text())
    assert said["preset"] == "small"
    assert said["rungs"] == [{"n_trials": 4, "epochs": 2}, {"n_trials": 2, "epochs": 4}]
    store = ArtifactStore(root)
    table = store.read_table(store.resolve(Path(ended.last).parents[1])).to_pandas()
    rates = table["configuration"].map(lambda text: json.loads(text)["learning_rate"])
    assert ((table["state"] == "diverged") == (rates == 1e30)).all()
    n_diverged = int((rates == 1e30).sum())
    assert f"diverged: {n_diverged} of {len(table)} trials, the first being " in ended.out
    assert f"│ {said['best']['value']:.4f} │ batch_size=" in ended.out
    assert len(store.list("fold")) + len(store.list("diverged")) == 2 * len(table)

    again = cli("tune", *given, *space, *budgets, *place)
    assert again.last == ended.last
    assert len(store.list("fold")) + len(store.list("diverged")) == 2 * len(table)

    command = ended.out.strip().splitlines()[-2]
    assert " --preset small " in command  # as the trials were trained, whatever the number of rows later
    trained = cli(*shlex.split(command)[1:])
    assert trained.code == 0, trained
    model = store.resolve(Path(trained.last).parents[1])
    assert read_model(model)[0].architecture.parameters["widths"] == [8, 1]
    (entry,) = read_entries(["elemnet@widths=[8,1]"], {"preset": "small", "threads": 1})
    best = configured(entry.training, said["best"]["configuration"], said["best"]["epochs"])
    assert store.manifest(model).parameters == described_settings(best)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--space", "learning_rate=2..1"], ["space", "smaller end"]),
        (["--space", "epochs=1|2"], ["epochs is the same for all trials"]),
        (["--space", "width=64"], ["leaves nothing to search"]),
        (["--space", "dropout=0..0.5", "--sampler", "annealing"], ["sampler"]),
        (["--space", "dropout=0..0.5", "--min-epochs", "9", "--max-epochs", "3"], ["smaller first"]),
        (["--space", "dropout=0..0.5", "--scheme", "split"], ["never sees"]),
        (["--space", "dropout=0..0.5", "--model", "alexnet"], ["alexnet", "not known"]),
        ([], ["--space", "elemscreen tune --help"]),
    ],
)
def test_what_a_user_can_get_wrong(cli: Cli, options: list[str], words: list[str]) -> None:
    assert_one_line(cli("tune", "--data", "starter", *options), *words)
