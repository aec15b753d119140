"""Networks that go on when their epochs are over, and stay in the ensemble as they were before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.network_ensemble import NetworkEnsemble
from storage.model_files import read_model
from tasks.examples import ExampleParameters, choose_examples
from tasks.loading import load_ensemble, scale_of
from tasks.source_model import training_of
from tasks.stage import reference
from tasks.train import train_network
from tasks.train_parameters import TrainParameters
from training_watch import Killed, watch_training

ONCE = TrainParameters(preset="small", epochs=4, batch_size=32, threads=1, seed=5, architecture={"widths": [32, 16, 1]})
TWICE_MORE = ONCE.model_copy(update={"restarts": 2})


def test_every_end_is_a_network_of_the_ensemble(stages: Any, tmp_path: Path) -> None:
    root = str(tmp_path / "store")
    chain = reference(train_network.fn(root, stages.features, TWICE_MORE))
    card, networks = read_model(chain)
    assert card.n_members == len(networks) == 3
    ensemble = load_ensemble(chain)
    x = np.eye(86, dtype=np.float32)[:9]
    once = load_ensemble(stages.run(train_network, stages.features, ONCE)).predict(x).mean
    shape, scale = card.architecture.model_dump(), scale_of(card)
    each = [NetworkEnsemble(shape, scale, [network]).predict(x).mean for network in networks]
    np.testing.assert_array_equal(each[0], once)
    assert np.abs(each[1] - each[0]).max() > 1e-4
    assert np.abs(each[2] - each[1]).max() > 1e-4
    np.testing.assert_allclose(ensemble.predict(x).mean, np.mean(each, axis=0), rtol=0, atol=1e-6)


def test_the_learning_rate_rises_once_more_for_half_as_many_epochs(stages: Any) -> None:
    curve = stages.store.read_table(
        stages.run(train_network, stages.features, TWICE_MORE), "learning_curve"
    ).to_pandas()
    assert curve.groupby("member")["epoch"].apply(list).tolist() == [[1, 2, 3, 4], [1, 2], [1, 2]]
    rates = curve.groupby("member")["learning_rate"]
    assert (rates.first().to_numpy()[1:] > 10 * rates.last().to_numpy()[:-1]).all()
    stated = TWICE_MORE.model_copy(update={"restart_epochs": 3})
    curve = stages.store.read_table(stages.run(train_network, stages.features, stated), "learning_curve").to_pandas()
    assert curve.groupby("member").size().tolist() == [4, 3, 3]


@pytest.mark.parametrize("are_classes", [False, True])
def test_what_the_store_has_is_not_trained_again(
    stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, are_classes: bool
) -> None:
    root, rows, once = str(tmp_path / "store"), stages.features, ONCE
    if are_classes:
        rows = stages.run(choose_examples, stages.energies, ExampleParameters(above=-1.0, calibration_fraction=0.2))
        once = ONCE.model_copy(update={"settings": {"loss": "cross_entropy"}})
    twice_more = once.model_copy(update={"restarts": 2})
    epochs = watch_training(monkeypatch)
    train_network.fn(root, rows, once)
    train_network.fn(root, rows, once.model_copy(update={"restarts": 1}))
    chain = train_network.fn(root, rows, twice_more)
    names = ("member-000", "member-000-restart-01", "member-000-restart-02")
    assert epochs == [(names[0], n) for n in (1, 2, 3, 4)] + [(name, n) for name in names[1:] for n in (1, 2)]
    assert chain.digest == train_network.fn(str(tmp_path / "other"), rows, twice_more).digest


def test_a_killed_restart_goes_on(stages: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = str(tmp_path / "store")
    whole = stages.run(train_network, stages.features, TWICE_MORE)
    watch_training(monkeypatch, ("member-000-restart-01", 1))
    with pytest.raises(Killed):
        train_network.fn(root, stages.features, TWICE_MORE)
    epochs = watch_training(monkeypatch)
    resumed = train_network.fn(root, stages.features, TWICE_MORE)
    assert epochs == [("member-000-restart-01", 2), ("member-000-restart-02", 1), ("member-000-restart-02", 2)]
    assert (resumed.key, resumed.digest) == (whole.key, whole.digest)


def test_how_it_was_trained_can_be_read_back(stages: Any) -> None:
    read = training_of(stages.run(train_network, stages.features, TWICE_MORE))
    assert (read.epochs, read.restarts, read.restart_epochs) == (4, 2, None)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"restart_epochs": 5}, "say how many restarts"),
        ({"network": "random_forest", "restarts": 1}, "no epochs to go on from"),
    ],
)
def test_what_makes_no_sense(wrong: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        TrainParameters(**wrong)
