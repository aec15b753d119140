"""A bounded number of tasks in flight, their references in order."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import InputError
from tasks import progress
from tasks.window import run_in_window


class Cluster:
    """Futures that count how many of them wait."""

    def __init__(self, fails: int | None = None) -> None:
        self.fails, self.waiting, self.most, self.submitted = fails, 0, 0, 0

    def submit(self, item: int) -> Any:
        self.waiting, self.submitted = self.waiting + 1, self.submitted + 1
        self.most = max(self.most, self.waiting)
        return Future(self, item)


class Future:
    def __init__(self, cluster: Cluster, item: int) -> None:
        self.cluster, self.item = cluster, item

    def result(self) -> str:
        self.cluster.waiting -= 1
        if self.item == self.cluster.fails:
            raise RuntimeError("worker lost")
        return f"part-{self.item}"


def run(cluster: Cluster, items: list[int], window: int) -> list[Any]:
    return list(run_in_window(cluster.submit, items, window, "screen", lambda item: 10, "compositions"))


@pytest.mark.parametrize(("n", "window", "most"), [(0, 3, 0), (2, 3, 2), (7, 3, 3), (7, 1, 1), (7, 7, 7)])
def test_order_and_number_in_flight(n: int, window: int, most: int) -> None:
    cluster = Cluster()
    assert run(cluster, list(range(n)), window) == [f"part-{i}" for i in range(n)]
    assert (cluster.most, cluster.submitted, cluster.waiting) == (most, n, 0)


def test_a_failure_ends_it_before_more_is_handed_out() -> None:
    cluster = Cluster(fails=2)
    with pytest.raises(RuntimeError, match="worker lost"):
        run(cluster, list(range(50)), 4)
    assert cluster.submitted == 6


def test_a_window_of_nothing_is_refused() -> None:
    with pytest.raises(InputError, match="tasks_in_flight must be at least 1"):
        run(Cluster(), [1], 0)


def test_it_says_how_far_the_whole_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "MIN_INTERVAL_S", 0.0)
    events: list[dict[str, Any]] = []
    stop = progress.listen(events.append)
    try:
        run(Cluster(), [1, 2, 3], 2)
    finally:
        stop()
    assert [event["done"] for event in events] == [10, 20, 30]
    assert {(event["total"], event["unit"], event["is_whole"]) for event in events} == {(30, "compositions", True)}
