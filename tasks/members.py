"""A network, or an ensemble whose members are trained side by side: each a Prefect task and a model of the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from prefect.futures import PrefectFuture

from models.training_together import can_train_together
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.learning import training_settings
from tasks.loading import load_card
from tasks.placement import offered, placed, places_for
from tasks.train import model_request, settled, train_network
from tasks.train_parameters import TrainParameters
from tasks.window import run_in_window

WINDOW = 64


def train_ensemble(
    root: str,
    rows: ArtifactRef,
    parameters: TrainParameters,
    init: ArtifactRef | None = None,
    attributes: ArtifactRef | None = None,
    taught: ArtifactRef | None = None,
) -> ArtifactRef:
    """Train a network or an ensemble, on as many workers as it has members.

    A member is the network of its own seed, so one that the store has already is not trained again. Without a Dask
    cluster, or where a GPU trains all in one batched pass, a single task trains them; the artifact is the same.

    Parameters
    ----------
    root, rows, parameters, init, attributes, taught
        As `tasks.train.train_network` takes them.

    Returns
    -------
    ArtifactRef
        A `model`.
    """
    parameters = settled(parameters, rows, attributes, taught)
    members: Sequence[ArtifactRef] = ()
    if _are_tasks(parameters, init, taught):
        store = ArtifactStore(root)
        if store.find(model_request(store, rows, parameters, init, attributes, taught).key) is None:
            members = _train_members(root, rows, parameters, init, attributes, taught)
    with _where(parameters.threads):
        return train_network.submit(root, rows, parameters, init, attributes, taught, members).result()


def _are_tasks(parameters: TrainParameters, init: ArtifactRef | None, taught: ArtifactRef | None = None) -> bool:
    """Return whether members are tasks of their own."""
    if parameters.members == 1 or (init is not None and load_card(init).n_members > 1):
        return False  # members start from the source's members, one each
    workers = offered()
    if workers is None:
        return False
    # as `tasks.learning.learn` does it: members that have a source, a teacher or restarts are trained one by one
    alone = init is not None or taught is not None or parameters.restarts > 0
    one_pass = not alone and can_train_together({"name": parameters.network}, training_settings(parameters))
    return not (one_pass and any(worker.get("GPU", 0) >= 1 for worker in workers))


def _train_members(
    root: str,
    rows: ArtifactRef,
    parameters: TrainParameters,
    init: ArtifactRef | None,
    attributes: ArtifactRef | None,
    taught: ArtifactRef | None,
) -> list[ArtifactRef]:
    def submit(seed: int) -> PrefectFuture[Any]:
        member = parameters.model_copy(update={"members": 1, "seed": seed})
        with _where(parameters.threads):
            return train_network.submit(root, rows, member, init, attributes, taught)

    seeds = [parameters.seed + number for number in range(parameters.members)]
    return run_in_window(submit, seeds, WINDOW, "train members", lambda seed: 1, "members")


def _where(threads: int) -> AbstractContextManager[None]:
    """Place a training: on a GPU, or on cores; more threads than any worker has cores are slow, but no error."""
    workers = offered()
    return placed(threads) if not workers or places_for(threads, workers) > 0 else nullcontext()
