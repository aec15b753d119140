"""Many Prefect tasks of one kind, a bounded number of them in flight at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from prefect.futures import PrefectFuture

from models.errors import InputError
from storage.artifact import ArtifactRef
from tasks.progress import Progress

Item = TypeVar("Item")


def run_in_window(
    submit: Callable[[Item], PrefectFuture[Any]],
    items: Sequence[Item],
    window: int,
    label: str,
    size: Callable[[Item], int],
    unit: str,
) -> list[ArtifactRef]:
    """Submit a task for every item and collect their references, in the order of the items.

    A scheduler that is handed thousands of tasks at once gets slow, and so does a Prefect server; a window of several
    tasks per core keeps the cores busy all the same.

    Parameters
    ----------
    submit
        Submits the task of one item.
    items
        The work.
    window
        Tasks in flight at most; a few per core.
    label, unit
        Name of the whole, and of what is counted, in progress displays.
    size
        Units that an item stands for.

    Raises
    ------
    InputError
        If the window is smaller than one task.
    """
    if window < 1:
        raise InputError(f"tasks_in_flight must be at least 1, got {window}")
    progress = Progress(label, sum(size(item) for item in items), unit, is_whole=True)
    waiting: deque[tuple[Item, PrefectFuture[Any]]] = deque()
    references: list[ArtifactRef] = []
    done = 0

    def collect() -> None:
        nonlocal done
        item, future = waiting.popleft()
        references.append(future.result())
        done += size(item)
        progress.update(done)

    for item in items:
        if len(waiting) == window:
            collect()
        waiting.append((item, submit(item)))
    while waiting:
        collect()
    return references
