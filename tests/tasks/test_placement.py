"""Where trainings go: to GPUs, to as many cores as they have threads, or anywhere."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import dask
import pytest

from models.errors import InputError
from tasks import placement
from tasks.placement import placed, resources_for


@pytest.mark.parametrize(
    ("threads", "workers", "resources"),
    [
        (2, [{"core": 2}, {"core": 4}], {"core": 2}),
        (4, [{"core": 2}, {"core": 4}], {"core": 4}),
        (1, [{}, {"core": 1}], {"core": 1}),
        (8, [{"core": 2}, {"GPU": 1, "core": 2}], {"GPU": 1}),  # a GPU does not wait for cores
        (2, [{"core": 2, "GPU": 0}], {"core": 2}),
        (8, [{}, {}], {}),  # a cluster without resources takes everything
        (8, [], {}),
        (2, [{"memory": 1e9}], {}),
    ],
)
def test_what_a_training_asks_for(threads: int, workers: list[dict[str, float]], resources: dict[str, float]) -> None:
    assert resources_for(threads, workers) == resources


def test_too_many_threads_are_refused_and_not_queued_for_ever() -> None:
    with pytest.raises(InputError, match=r"training of 8 threads finds no worker .* take 4 at most"):
        resources_for(8, [{"core": 4.0}, {"core": 2.0}, {}])


def on_cluster(monkeypatch: pytest.MonkeyPatch, *resources: dict[str, float] | None) -> None:
    """Pretend that the flow runs on a cluster whose workers state these resources."""

    def scheduler_info(n_workers: int) -> dict[str, Any]:
        workers = {f"tcp://{k}": {} if one is None else {"resources": one} for k, one in enumerate(resources)}
        return {"workers": dict(list(workers.items())[: None if n_workers == -1 else n_workers])}

    context = SimpleNamespace(task_runner=SimpleNamespace(client=SimpleNamespace(scheduler_info=scheduler_info)))
    monkeypatch.setattr(placement, "FlowRunContext", SimpleNamespace(get=lambda: context))


def test_tasks_are_placed_within_the_block_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    on_cluster(monkeypatch, *[{"core": 1}] * 7, {"core": 3})  # the last of many workers is the one
    with placed(3):
        assert dask.get_annotations() == {"resources": {"core": 3}}
    assert dask.get_annotations() == {}
    with pytest.raises(InputError, match="4 threads"), placed(4):
        pass
    on_cluster(monkeypatch, None, None)
    with placed(4):
        assert dask.get_annotations() == {}


def test_without_a_cluster_nothing_is_placed(monkeypatch: pytest.MonkeyPatch) -> None:
    with placed(64):
        assert dask.get_annotations() == {}
    in_threads = SimpleNamespace(get=lambda: SimpleNamespace(task_runner=SimpleNamespace()))
    monkeypatch.setattr(placement, "FlowRunContext", in_threads)
    with placed(64):
        assert dask.get_annotations() == {}
