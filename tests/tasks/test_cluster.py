from __future__ import annotations

import logging
import os
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask
import psutil
import pytest
from distributed import Client, KilledWorker, LocalCluster, get_worker
from distributed.scheduler import NoValidWorkerError
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.settings import get_current_settings

from deployments.server import Server
from models.errors import InputError
from tasks.cluster import (
    ClusterProfile,
    QuietRuns,
    check_reachable,
    load_profile,
    local_cluster,
    open_cluster,
    profile_names,
)

LOCAL = ClusterProfile(cluster_class="tasks.cluster.local_cluster", options={"cores": 2, "dashboard_address": None})


@pytest.fixture(autouse=True)
def dask_settings() -> Iterator[None]:
    """`open_cluster` sets Dask's settings for the process: take them back."""
    with dask.config.set({}):
        before = dask.config.config.copy()
        yield
        dask.config.config.clear()
        dask.config.config.update(before)


@task
def look_around() -> dict[str, Any]:
    return {
        "pid": os.getpid(),
        "api_url": get_current_settings().api.url,
        "threads": os.environ.get("OMP_NUM_THREADS"),
        "safe_path": os.environ.get("PYTHONSAFEPATH"),
        "resources": dict(get_worker().state.total_resources),
    }


@flow
def look_everywhere(n: int, cores: int) -> list[dict[str, Any]]:
    with dask.annotate(resources={"core": cores}):
        futures = [look_around.submit() for _ in range(n)]
    return [future.result() for future in futures]


def prefect_servers() -> set[int]:
    """Servers among the processes that this one and its Dask workers started."""
    found = set()
    for process in psutil.Process().children(recursive=True):
        try:
            line = process.cmdline()
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
        if "prefect.server.api.server:create_app" in line or line[1:5] == ["-m", "prefect", "server", "start"]:
            found.add(process.pid)
    return found


def assert_recorded(n: int) -> None:
    """Wait until the server knows of at least `n` completed tasks: their states travel as events."""
    deadline = time.monotonic() + 60
    with get_client(sync_client=True) as client:
        while time.monotonic() < deadline:
            runs = client.read_task_runs(limit=200)
            if sum(run.state_name == "Completed" for run in runs) >= n:
                return
            time.sleep(0.2)
    pytest.fail(f"the server knows {[run.state_name for run in runs]}")


def test_workers_report_to_the_one_server(prefect_server: Server) -> None:
    before = prefect_servers()
    with open_cluster(LOCAL) as runner:
        seen = look_everywhere.with_options(task_runner=runner)(8, 1)
        assert prefect_servers() == before
    assert {item["api_url"] for item in seen} == {prefect_server.api_url}
    assert {item["threads"] for item in seen} == {"1"}
    assert {item["safe_path"] for item in seen} == {"1"}
    assert {item["pid"] for item in seen}.isdisjoint({os.getpid()})
    assert_recorded(8)


def test_tasks_that_want_the_machine_run_on_one_worker_only(prefect_server: Server) -> None:
    with open_cluster(LOCAL) as runner:
        seen = look_everywhere.with_options(task_runner=runner)(4, 2)
    assert len({item["pid"] for item in seen}) == 1
    assert seen[0]["resources"] == {"core": 2}


def test_resources_that_nobody_has_end_the_task(prefect_server: Server) -> None:
    impatient = LOCAL.model_copy(update={"dask": {"distributed.scheduler.no-workers-timeout": "2s"}})
    with open_cluster(impatient) as runner, pytest.raises((NoValidWorkerError, KilledWorker)):
        look_everywhere.with_options(task_runner=runner)(1, 99)


def test_progress_events_of_workers_reach_this_process(prefect_server: Server) -> None:
    from tasks.progress import listen, send

    events: list[dict[str, Any]] = []
    stop = listen(events.append)
    profile = LOCAL.model_copy(update={"options": {"cores": 1, "dashboard_address": None}})
    try:
        with open_cluster(profile) as runner, Client(runner.address, set_as_default=False) as client:
            client.submit(send, {"event": "progress", "done": 1}).result()
            client.sync(client.scheduler.identity)  # one round trip later the event has come
            for _ in range(100):
                if events:
                    break
                client.sync(client.scheduler.identity)
    finally:
        stop()
    assert [event["done"] for event in events] == [1]


def test_a_quiet_worker_tells_of_errors_but_not_of_a_missed_heartbeat(caplog: pytest.LogCaptureFixture) -> None:
    """The scheduler may end between two heartbeats; a traceback about that would bury the user's one line."""
    said = logging.getLogger("distributed.worker")
    names = ("distributed.worker.state_machine", "prefect.flow_runs", "prefect.task_runs")
    before = [
        (logging.getLogger(name), logging.getLogger(name).level, logging.getLogger(name).propagate) for name in names
    ]
    filters = list(said.filters)
    try:
        for _ in range(2):
            QuietRuns().setup(None)  # type: ignore[arg-type]
        assert len(said.filters) == len(filters) + 1
        said.addHandler(caplog.handler)
        said.error("Failed to communicate with scheduler during heartbeat.")
        said.error("Unexpected exception during heartbeat. Closing worker.")
        assert set(caplog.messages) == {"Unexpected exception during heartbeat. Closing worker."}
    finally:
        said.removeHandler(caplog.handler)
        said.filters[:] = filters
        for logger, level, propagate in before:
            logger.setLevel(level)
            logger.propagate = propagate


def test_scheduler_by_address_is_left_running() -> None:
    with LocalCluster(n_workers=0, dashboard_address=None, processes=False, protocol="tcp") as cluster:
        with open_cluster(cluster.scheduler_address) as runner:
            assert runner.address == cluster.scheduler_address
        assert cluster.status.name == "running"


def test_memory_is_shared_out_but_never_too_small() -> None:
    with local_cluster(cores=1, dashboard_address=None) as cluster:
        options = cluster.worker_spec[0]["options"]
    assert options["memory_limit"] >= 0.7 * min(4 * 2**30, psutil.virtual_memory().total)


def test_every_profile_that_comes_with_elemscreen_loads() -> None:
    assert profile_names() == ["kubernetes", "local", "local-cuda", "slurm"]
    for name in profile_names():
        assert load_profile(name).description
    assert load_profile("local").same_machine
    assert not load_profile("slurm").same_machine
    assert load_profile("tcp://10.0.0.1:8786") == ClusterProfile(
        description="the scheduler at tcp://10.0.0.1:8786", address="tcp://10.0.0.1:8786"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cluster_class: [", "is not YAML"),
        ("description: nothing", "give either an address or a cluster_class"),
        ("cluster_class: a.b\nworkers: 3", "wrong at workers"),
        ("- a list", "wrong at the file"),
    ],
)
def test_wrong_profile_is_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "site.yaml"
    file.write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_profile(str(file))
    assert "\n" not in str(caught.value)


def test_unknown_profile_names_those_that_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=re.escape("use one of kubernetes, local, local-cuda, slurm")):
        load_profile("loca")
    with pytest.raises(InputError, match=r"there is no cluster profile .*none\.yaml"):
        load_profile(str(tmp_path / "none.yaml"))


@pytest.mark.parametrize(
    ("profile", "message"),
    [
        (ClusterProfile(cluster_class="no_such_thing.Cluster"), "pip install no-such-thing"),
        (ClusterProfile(cluster_class="tasks.cluster.local_cluster", options={"n": 3}), "options of .* are wrong"),
        (ClusterProfile(address="tcp://127.0.0.1:1"), "no Dask scheduler answers at"),
    ],
)
def test_cluster_that_does_not_start_is_one_line(profile: ClusterProfile, message: str) -> None:
    quick = profile.model_copy(update={"dask": {"distributed.comm.timeouts.connect": "1s"}})
    with pytest.raises(InputError, match=message) as caught, open_cluster(quick):
        pass
    assert "\n" not in str(caught.value)


def test_workers_elsewhere_need_a_server_they_can_reach() -> None:
    far = ClusterProfile(address="tcp://10.0.0.1:8786")
    for api_url in (None, "http://127.0.0.1:4200/api"):
        with pytest.raises(InputError, match="set PREFECT_API_URL"):
            check_reachable(far, api_url)
    check_reachable(far, "http://prefect.example.org/api")
    check_reachable(LOCAL, "http://127.0.0.1:4200/api")


def test_batch_jobs_get_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: dict[str, Any] = {}

    def batch_cluster(**options: Any) -> Any:
        seen.update(options)
        return LocalCluster(n_workers=0, dashboard_address=None, processes=False, protocol="tcp")

    monkeypatch.setattr("tasks.cluster.batch_cluster", batch_cluster, raising=False)
    monkeypatch.setattr("tasks.cluster.check_reachable", lambda profile, api_url: None)
    for via in ("job_script", "env"):
        profile = ClusterProfile(
            cluster_class="tasks.cluster.batch_cluster",
            environment_via=via,
            environment={"SITE": "a b"},
            options={"job_script_prologue": ["module load python"]} if via == "job_script" else {},
        )
        with open_cluster(profile):
            pass
    assert "export SITE='a b'" in seen["job_script_prologue"]
    assert seen["job_script_prologue"][-1] == "module load python"
    assert seen["env"]["PYTHONSAFEPATH"] == "1"
