"""Many small pieces of work inside one Prefect task."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from distributed import as_completed, get_worker, worker_client

from tasks.progress import Progress

T = TypeVar("T")
R = TypeVar("R")

#: Fewer items than this are not worth the way to the other workers.
MIN_ITEMS = 64


def _chunk(function: Callable[[T], R], items: Sequence[T]) -> list[R]:
    return [function(item) for item in items]


def fan_out(function: Callable[[T], R], items: Sequence[T], label: str, chunk: int = 32, unit: int = 1) -> list[R]:
    """Apply a pure function to every item, over the Dask workers when called on one.

    Parameters
    ----------
    function
        Importable by the workers; called once per item (more than once where a worker dies).
    items
        The work.
    label
        Name of the work in progress displays.
    chunk
        Items per Dask task.
    unit
        Rows that one item stands for, in progress displays.

    Returns
    -------
    list
        Results in the order of `items`.
    """
    progress = Progress(label, len(items) * unit)
    try:
        get_worker()
        on_worker = len(items) * unit >= MIN_ITEMS
    except ValueError:
        on_worker = False
    if not on_worker:
        results: list[R] = []
        for index, item in enumerate(items):
            results.append(function(item))
            progress.update((index + 1) * unit)
        return results
    pieces = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    with worker_client() as client:
        futures: list[Any] = client.map(_chunk, [function] * len(pieces), pieces, pure=False)
        done = 0
        for future in as_completed(futures):
            done += len(future.result())
            progress.update(done * unit)
        gathered: list[list[R]] = client.gather(futures)
    return [result for piece in gathered for result in piece]
