"""An ensemble whose members are trained side by side: the same artifact as of one task, bit by bit."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import dask
import pytest

from flows.parameters import TrainFlowParameters
from flows.train import train
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks import members, placement
from tasks.examples import ExampleParameters, choose_examples
from tasks.inputs import as_rows
from tasks.members import _are_tasks
from tasks.placement import places_for
from tasks.stage import reference
from tasks.train import model_request, train_network
from tasks.train_parameters import TrainParameters

SMALL = TrainParameters(
    preset="small", epochs=3, batch_size=32, threads=1, seed=5, architecture={"widths": [32, 16, 1]}
)
ENSEMBLE = SMALL.model_copy(update={"members": 3})


@pytest.mark.parametrize(
    ("threads", "workers", "places"),
    [
        (1, [{"core": 2}, {"core": 1}], 2),
        (2, [{"core": 2}, {"core": 1}], 1),
        (2, [{"core": 1}], 0),
        (8, [{"GPU": 1, "core": 2}, {"GPU": 1}, {"core": 16}], 2),
        (1, [{}, {}], 2),  # workers without resources take everything
        (1, [], 0),
    ],
)
def test_places_for_trainings(threads: int, workers: list[dict[str, float]], places: int) -> None:
    assert places_for(threads, workers) == places


@pytest.mark.parametrize(
    ("changes", "workers", "apart"),
    [
        ({}, [{"core": 2}, {"core": 1}], True),
        ({}, [], True),  # a cluster that grows
        ({}, None, False),
        ({"members": 1}, [{"core": 2}, {"core": 1}], False),
        ({"members": 1, "restarts": 2}, [{"core": 2}, {"core": 1}], False),  # one after the other by nature
        ({"restarts": 2}, [{"GPU": 1}, {"GPU": 1}], True),
        ({"threads": 8}, [{"core": 2}], True),  # one after the other, and kept
        ({}, [{"GPU": 1}, {"GPU": 1}], False),  # one batched pass
        ({"network": "attention", "architecture": {}}, [{"GPU": 1}, {"GPU": 1}], True),
    ],
)
def test_when_members_are_tasks_of_their_own(
    monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], workers: list[dict[str, float]] | None, apart: bool
) -> None:
    monkeypatch.setattr(members, "offered", lambda: workers)
    assert _are_tasks(ENSEMBLE.model_copy(update=changes), None) == apart


def test_every_training_is_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The cluster has a GPU and a processor: a single training may not end up on the latter."""
    where: list[Any] = []
    monkeypatch.setattr(placement, "offered", lambda: [{"GPU": 1}, {"core": 8}])
    monkeypatch.setattr(members, "offered", lambda: [{"GPU": 1}, {"core": 8}])
    monkeypatch.setattr(members, "settled", lambda parameters, *_: parameters)

    def submit(*_: Any) -> Any:
        where.append(dask.get_annotations().get("resources"))
        return SimpleNamespace(result=lambda: "model")

    monkeypatch.setattr(members, "train_network", SimpleNamespace(submit=submit))
    for parameters in (SMALL, ENSEMBLE):  # which is one batched pass
        assert members.train_ensemble("store", "rows", parameters) == "model"  # type: ignore[arg-type, comparison-overlap]
    assert where == [{"GPU": 1}] * 2


def test_members_of_a_source_start_the_members_of_an_ensemble_in_one_task(
    stages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(members, "offered", lambda: [{"core": 1}] * 4)
    single, many = (stages.run(train_network, stages.features, one) for one in (SMALL, ENSEMBLE))
    assert _are_tasks(ENSEMBLE, single)
    assert not _are_tasks(ENSEMBLE, many)
    monkeypatch.setattr(members, "offered", lambda: [{"GPU": 1}] * 2)
    assert _are_tasks(ENSEMBLE, single)  # only what starts from nothing fits one pass


def test_an_ensemble_put_together_is_the_one_that_is_trained_in_one_task(stages: Any, tmp_path: Path) -> None:
    """Of energies, of energies with a predicted spread, and of classes."""
    chosen = ExampleParameters(calibration_fraction=0.4, validation_fraction=0.2, seed=1)
    examples = stages.run(choose_examples, stages.energies, chosen)
    classes = stages.run(choose_examples, stages.energies, chosen.model_copy(update={"above": -1.0}))
    robust = {"loss": "robust_l1"}
    for rows, changes in (
        (stages.features, {}),
        (stages.features, {"restarts": 1}),
        (examples, {"settings": robust}),
        (classes, {"settings": {"loss": "cross_entropy"}}),
    ):
        parameters = ENSEMBLE.model_copy(update=changes)
        whole = stages.run(train_network, rows, parameters)
        root = str(tmp_path / "apart")
        singles = [
            reference(train_network.fn(root, rows, parameters.model_copy(update={"members": 1, "seed": 5 + number})))
            for number in range(3)
        ]
        joint = reference(train_network.fn(root, rows, parameters, members=singles))
        assert (joint.key, joint.digest) == (whole.key, whole.digest)


def test_members_are_trained_on_several_workers_and_kept(tiny: Any, scheduler: str, tmp_path: Path) -> None:
    """Each is a model of its own; the ensemble is what one process makes, and is not trained for twice."""
    source = {"source": f"file:{tiny.energies_file}", "database": "tiny", "functional": "pbe"}
    given = {"data": str(tiny.energies_file), "energies": source, "cleaning": {"calibration_fraction": 0.2}}
    parameters = TrainFlowParameters.model_validate(
        given | {"training": ENSEMBLE, "store": str(tmp_path / "flow"), "cluster": scheduler}
    )
    ensemble = train(parameters)
    store = ArtifactStore(tmp_path / "flow")
    assert [ref.key for ref in store.list("model") if read_model(ref)[0].n_members == 3] == [ensemble.key]
    assert len(store.list("model")) == 4

    p, root = parameters, str(tmp_path / "alone")
    rows = as_rows(root, p.data, p.cleaning, p.energies, p.examples)
    assert reference(train_network.fn(root, rows, ENSEMBLE)).digest == ensemble.digest
    seeded = SMALL.model_copy(update={"seed": 6})
    assert store.find(model_request(store, as_rows(store.root, p.data, p.cleaning, p.energies, p.examples), seeded).key)

    records = [store.run_record(ref) for ref in store.list("model")]
    assert train(parameters) == ensemble
    assert [store.run_record(ref) for ref in store.list("model")] == records
