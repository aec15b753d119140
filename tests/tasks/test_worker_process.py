from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing import forkserver
from typing import Any

import dask
import psutil
import pytest
from distributed import Client
from prefect.settings import PREFECT_API_URL, temporary_settings

from tasks import worker_process
from tasks.cluster import WORKER_ENVIRONMENT, ClusterProfile, open_cluster
from tasks.worker_process import start_method

ONE = ClusterProfile(cluster_class="tasks.cluster.local_cluster", options={"cores": 1, "dashboard_address": None})
FORK_SERVER = "from multiprocessing.forkserver import main"


@pytest.fixture(autouse=True)
def settings_and_environment(prefect_server: object) -> Iterator[None]:
    """`open_cluster` sets Dask's settings and the environment of the process: take them back.

    Other tests of this process may have started the fork server: here the environment is the one that it began with.
    """
    with dask.config.set({}):
        before, variables = dask.config.config.copy(), dict(os.environ)
        if worker_process._begun is not None:
            os.environ.clear()
            os.environ.update(worker_process._begun[1])
        with temporary_settings({PREFECT_API_URL: os.environ.get("PREFECT_API_URL")}):
            yield
        dask.config.config.clear()
        dask.config.config.update(before)
        os.environ.clear()
        os.environ.update(variables)


@pytest.fixture
def begun(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """A fork server that began with this environment; no real one."""
    began = {"PYTHONHASHSEED": "6640", "OMP_NUM_THREADS": "1", "HOME": "/home/somebody"}
    monkeypatch.setattr(worker_process, "_begun", (7, dict(began)))
    monkeypatch.setattr(worker_process, "_server_pid", lambda: 7)
    monkeypatch.setattr(os, "environ", {"HOME": "/home/somebody"})
    return began


def seen_by_a_worker(profile: ClusterProfile) -> dict[str, Any]:
    def look() -> dict[str, Any]:  # sent by value: workers cannot import tests
        parent = psutil.Process().parent()
        assert parent is not None
        return {
            "parent": " ".join(parent.cmdline()),
            "colour": os.environ.get("COLOUR"),
            "threads": os.environ["OMP_NUM_THREADS"],
        }

    with open_cluster(profile) as runner, Client(runner.address, set_as_default=False) as client:
        found: dict[str, Any] = client.submit(look).result()
    return found


def is_forked(seen: dict[str, Any]) -> bool:
    return FORK_SERVER in seen["parent"]


def test_workers_are_forked_and_have_the_variables_of_their_day(monkeypatch: pytest.MonkeyPatch) -> None:
    first = seen_by_a_worker(ONE)
    assert is_forked(first)
    assert (first["colour"], first["threads"]) == (None, "1")
    monkeypatch.setenv("COLOUR", "green")
    later = seen_by_a_worker(ONE)
    assert is_forked(later)
    assert later["colour"] == "green"


def test_what_counts_at_an_import_is_set_before_it() -> None:
    seen_by_a_worker(ONE)
    os.environ.pop("OMP_NUM_THREADS")
    seen = seen_by_a_worker(ONE.model_copy(update={"environment": {"OMP_NUM_THREADS": "2"}}))
    assert not is_forked(seen)
    assert seen["threads"] == "2"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, ("spawn", {})),  # without a variable that the others have
        ({"OMP_NUM_THREADS": "1"}, ("forkserver", {})),
        ({"OMP_NUM_THREADS": "1", "COLOUR": "green"}, ("forkserver", {"COLOUR": "green"})),
        ({"OMP_NUM_THREADS": "1", "PREFECT_API_URL": "http://127.0.0.1:1/api"}, ("spawn", {})),
        ({"OMP_NUM_THREADS": "4"}, ("spawn", {})),
        ({"OMP_NUM_THREADS": "1", "HOME": "/home/other"}, ("forkserver", {})),  # one that is set stays as it is
    ],
)
def test_which_workers_are_forked(
    begun: dict[str, str], environment: dict[str, str], expected: tuple[str, dict[str, str]]
) -> None:
    method, later = start_method(environment)
    later.pop("PYTEST_CURRENT_TEST", None)
    assert (method, later) == expected


def test_without_a_fork_server_of_ours_workers_start_afresh(
    begun: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert start_method(begun)[0] == "forkserver"
    monkeypatch.setattr(worker_process, "_server_pid", lambda: 8)  # ours died, and somebody started another one
    assert start_method(begun) == ("spawn", {})
    monkeypatch.setattr(worker_process, "_begun", None)
    assert start_method(begun) == ("spawn", {})
    monkeypatch.setattr(worker_process, "get_all_start_methods", lambda: ["spawn"])
    assert start_method(WORKER_ENVIRONMENT) == ("spawn", {})


def test_the_next_cluster_of_another_kind_starts_as_it_would_have() -> None:
    seen_by_a_worker(ONE)
    assert dask.config.get("distributed.worker.multiprocessing-method") == "forkserver"
    other = ClusterProfile(
        cluster_class="distributed.LocalCluster", options={"n_workers": 0, "dashboard_address": None}
    )
    with open_cluster(other):
        assert dask.config.get("distributed.worker.multiprocessing-method") == "spawn"
    stubborn = ONE.model_copy(update={"dask": {"distributed.worker.multiprocessing-method": "spawn"}})
    assert not is_forked(seen_by_a_worker(stubborn))


def test_it_begins_with_our_modules_and_the_environment_and_leaves_ours_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: dict[str, Any] = {}

    def ensure_running() -> None:
        begun["environment"] = dict(os.environ)

    monkeypatch.setattr(forkserver, "set_forkserver_preload", lambda names: begun.update(modules=names))
    monkeypatch.setattr(forkserver, "ensure_running", ensure_running)
    monkeypatch.setattr(worker_process, "_begun", None)
    monkeypatch.setattr(worker_process, "_server_pid", lambda: 7 if begun else None)
    monkeypatch.delenv("KMP_BLOCKTIME", raising=False)
    before = dict(os.environ)
    assert start_method({"KMP_BLOCKTIME": "0"}) == ("forkserver", {})
    assert begun["environment"]["KMP_BLOCKTIME"] == "0"
    assert {"tasks.cluster", "models.errors", "prefect_dask"} <= set(begun["modules"])
    assert not [name for name in begun["modules"] if name.startswith("deployments")]
    assert dict(os.environ) == before
