"""Rate and concurrency limits of services, shared by all workers of all flows through the Prefect server."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import contextmanager

from prefect import get_client
from prefect.concurrency.sync import concurrency
from prefect.context import TaskRunContext
from prefect.exceptions import ObjectAlreadyExists

from tasks.sources.transport import Gate

#: the shortest that Prefect takes
_LEASE_S = 60.0


def service_gate(name: str, requests_per_second: float, at_once: int) -> Gate:
    """Return the gate that every request to a service goes through.

    Within a flow the limits are Prefect's global ones, so that two ingests on two machines are as polite as one; they
    are made here because Prefect does not enforce a limit that is not there. Outside of a flow the pace is kept by this
    process alone.

    Parameters
    ----------
    name
        Name of the service.
    requests_per_second
        Average rate over all workers.
    at_once
        Requests under way over all workers.
    """
    if TaskRunContext.get() is None:
        return _LocalPace(requests_per_second)
    limit = f"elemscreen-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}"
    _make_limit(limit, at_once)
    # whoever has one of n slots keeps it for n / rate seconds, so that all slots together keep the rate
    keep_s = at_once / requests_per_second

    @contextmanager
    def gate() -> Iterator[None]:
        # the slot of a worker that was killed is free again after so long
        with concurrency(limit, occupy=1, strict=True, lease_duration=_LEASE_S):
            entered = time.monotonic()
            try:
                yield
            finally:
                time.sleep(max(0.0, entered + keep_s - time.monotonic()))

    return gate


class _LocalPace:
    """A pause before every request, so that none follows the one before too soon."""

    def __init__(self, requests_per_second: float) -> None:
        self._interval = 1.0 / requests_per_second
        self._next = 0.0

    @contextmanager
    def __call__(self) -> Iterator[None]:
        now = time.monotonic()
        if now < self._next:
            time.sleep(self._next - now)
        self._next = max(now, self._next) + self._interval
        yield


def _make_limit(name: str, limit: int) -> None:
    with get_client(sync_client=True) as client:
        try:
            client.upsert_global_concurrency_limit_by_name(name, limit)
        except ObjectAlreadyExists:  # another worker made it in between
            return
