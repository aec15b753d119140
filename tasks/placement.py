"""Where on a Dask cluster a training goes: to a GPU where workers have one, else to as many cores as it has threads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import dask
from prefect.context import FlowRunContext

from models.errors import InputError


def resources_for(threads: int, workers: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return what a training asks of its worker.

    Parameters
    ----------
    threads
        CPU threads of the training.
    workers
        What each worker offers, such as ``{"core": 2}``.

    Returns
    -------
    dict
        One GPU where a worker offers one; the cores, where workers offer any; nothing where they offer nothing, as on
        a cluster that was started without resources.

    Raises
    ------
    InputError
        If workers offer cores, but none of them enough.
    """
    offers = list(workers)
    if any(offer.get("GPU", 0) >= 1 for offer in offers):
        return {"GPU": 1}
    most = max((offer.get("core", 0) for offer in offers), default=0)
    if most == 0:
        return {}
    if most < threads:
        raise InputError(f"a training of {threads} threads finds no worker with so many cores; take {most:g} at most")
    return {"core": threads}


def places_for(threads: int, workers: Iterable[Mapping[str, Any]]) -> int:
    """Return how many trainings of so many threads can run at once: one per worker that offers enough.

    Parameters
    ----------
    threads, workers
        As `resources_for` takes them.
    """
    offers = list(workers)
    for resource, least in (("GPU", 1), ("core", threads)):
        if any(offer.get(resource, 0) > 0 for offer in offers):
            return sum(offer.get(resource, 0) >= least for offer in offers)
    return len(offers)


def offered() -> list[Mapping[str, Any]] | None:
    """Return what each worker of the flow's Dask cluster offers; None where the flow has no such cluster."""
    context = FlowRunContext.get()
    client = getattr(context.task_runner, "client", None) if context is not None else None
    if client is None:
        return None
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    return [worker.get("resources", {}) for worker in workers]


@contextmanager
def placed(threads: int) -> Iterator[None]:
    """Place the tasks that are submitted in the block."""
    offers = offered()
    if offers is None:
        yield
        return
    resources = resources_for(threads, offers)
    with dask.annotate(**({"resources": resources} if resources else {})):
        yield
