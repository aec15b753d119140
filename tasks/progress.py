"""Progress of long work, from wherever it runs to whoever watches.

A worker process logs an event with the Dask scheduler (at most one a second); the process that opened the cluster
passes the events on to its listeners, the CLI's bars among them. The Prefect UI gets a progress artifact.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import Any

from distributed import get_worker
from prefect.artifacts import create_progress_artifact, update_progress_artifact
from prefect.context import TaskRunContext

TOPIC = "elemscreen-progress"
MIN_INTERVAL_S = 1.0

Listener = Callable[[dict[str, Any]], None]
_listeners: list[Listener] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Call `listener` with every progress event of this process and its cluster; returns what ends it."""
    _listeners.append(listener)
    return lambda: _listeners.remove(listener)


def publish(event: dict[str, Any]) -> None:
    """Hand an event to the listeners of this process."""
    for listener in list(_listeners):
        listener(event)


def send(event: dict[str, Any]) -> None:
    """Send an event to whoever listens, through the Dask scheduler when this is a worker."""
    try:
        worker = get_worker()
    except ValueError:  # not on a Dask worker
        publish(event)
    else:
        worker.log_event(TOPIC, event)


class Progress:
    """How far one piece of work is.

    Parameters
    ----------
    label
        What is going on, as a person would say it.
    total
        Number of units to do.
    unit
        What is counted.
    is_whole
        Whether this is the sum over many tasks, worth a line now and then where there is no terminal to draw bars on.
    """

    def __init__(self, label: str, total: int, unit: str = "rows", *, is_whole: bool = False) -> None:
        self.label = label
        self.total = max(int(total), 1)
        self.unit = unit
        self.is_whole = is_whole
        self._id = uuid.uuid4().hex
        self._started = time.monotonic()
        self._last = self._started
        self._artifact: Any = None

    def update(self, done: int, message: str = "") -> None:
        """Say that `done` of the total units are done; cheap to call often."""
        now = time.monotonic()
        finished = done >= self.total
        if now - self._last < MIN_INTERVAL_S and not (finished and self._last > self._started):
            return
        self._last = now
        self._send(done, message, now - self._started)
        self._update_artifact(100.0 * min(done / self.total, 1.0))

    def _send(self, done: int, message: str, elapsed: float) -> None:
        send(
            {
                "event": "progress",
                "id": self._id,
                "label": self.label,
                "done": int(done),
                "total": self.total,
                "unit": self.unit,
                "message": message,
                "elapsed_s": elapsed,
                "is_whole": self.is_whole,
            }
        )

    def _update_artifact(self, percent: float) -> None:
        if TaskRunContext.get() is None:
            return
        if self._artifact is None:
            self._artifact = create_progress_artifact(progress=percent, description=self.label)
        else:
            update_progress_artifact(self._artifact, progress=percent)
