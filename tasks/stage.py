"""What every stage has in common: the house's Prefect settings and the look into the store."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

from prefect import Task, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State, TaskRun
from prefect.states import Completed
from prefect.tasks import exponential_backoff
from pydantic import ValidationError

from models.errors import InputError
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.errors import StoreError
from storage.store import ArtifactStore, ArtifactWriter
from tasks.progress import send


def worth_retrying(task: Task[Any, Any], run: TaskRun, state: State[Any]) -> bool:
    """Whether running the task again can help: not on bad input, which stays bad."""
    error = state.result(raise_on_failure=False)
    if isinstance(error, Exception):
        return not isinstance(error, InputError | StoreError | ValidationError | TypeError | AssertionError)
    return True


P = ParamSpec("P")
R = TypeVar("R")


def stage(name: str, **options: Any) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a function a Prefect task with the house's settings.

    The store is the only cache (Prefect's own is off), results are references and stay in memory, and only
    failures that another try can mend are tried again, with growing pauses.
    """
    settings: dict[str, Any] = {
        "cache_policy": NO_CACHE,
        "persist_result": False,
        "retries": 2,
        "retry_delay_seconds": exponential_backoff(backoff_factor=2),
        "retry_jitter_factor": 0.5,
        "retry_condition_fn": worth_retrying,
    }
    return task(name=name, **(settings | options))


def build(root: str, request: ArtifactRequest, write: Callable[[ArtifactWriter], None]) -> ArtifactRef:
    """Return the artifact of `request`, built by `write` unless the store has it.

    Parameters
    ----------
    root
        The store's folder or URL.
    request
        What the artifact is made from; its hash is the key.
    write
        Writes the payload.

    Returns
    -------
    ArtifactRef
        The reference; on a hit wrapped in a state that the Prefect UI shows as Cached, and which Prefect unwraps for
        whoever asks for the task's result.
    """
    started = time.monotonic()

    def announced(writer: ArtifactWriter) -> None:
        send({"event": "stage", "key": request.key, "stage": request.stage, "kind": request.kind, "state": "building"})
        write(writer)

    built = ArtifactStore(root).get_or_build(request, announced)
    send(
        {
            "event": "stage",
            "key": request.key,
            "stage": request.stage,
            "kind": request.kind,
            "state": "cached" if built.cached else "built",
            "elapsed_s": time.monotonic() - started,
        }
    )
    if not built.cached:
        return built.ref
    return cast(ArtifactRef, Completed(name="Cached", data=built.ref))


def reference(result: ArtifactRef | State[ArtifactRef]) -> ArtifactRef:
    """Return the reference inside what `build` returned, for callers that go around Prefect."""
    return result if isinstance(result, ArtifactRef) else cast(ArtifactRef, result.data)
