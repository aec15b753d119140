"""Where tasks run: a profile (name or YAML file) or the address of a Dask scheduler, and the task runner on it.

Profiles are the YAML files of `deployments/profiles/`. Resources say what a task may count on: `core` is a CPU core,
`GPU` a whole GPU. Dask's resources belong to workers, not to the machine, so the local cluster gives all cores to its
first worker and one to each other: tasks that compute with many threads queue up on the first one and never run side
by side, single-threaded tasks spread over all.
"""

from __future__ import annotations

import importlib
import importlib.resources
import logging
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import dask
import yaml
from dask.system import CPU_COUNT
from distributed import Client, Nanny, Scheduler, SpecCluster, Worker, WorkerPlugin
from distributed.deploy.cluster import Cluster
from distributed.system import MEMORY_LIMIT
from prefect.futures import PrefectFuture
from prefect.settings import get_current_settings
from prefect.task_runners import TaskRunner
from prefect_dask import DaskTaskRunner
from prefect_dask.client import PrefectDaskClient
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from models.errors import InputError
from tasks.device import BLOCK_SIZES, worker_device
from tasks.progress import TOPIC, publish
from tasks.worker_process import start_method

_SCHEMES = ("tcp://", "tls://", "ucx://", "ws://", "wss://")
_LOOPBACK = {"localhost", "127.0.0.1", "::1", "0.0.0.0"}
_GIB = 2**30
_CONNECT_TIMEOUT = "distributed.comm.timeouts.connect"
_START_METHOD = "distributed.worker.multiprocessing-method"
_USUAL_START_METHOD: str = dask.config.get(_START_METHOD, "spawn")

#: Every worker's environment. One thread per worker process unless a task asks for more (`torch.set_num_threads`);
#: PYTHONSAFEPATH keeps a `models/` folder in the current directory from shadowing ours.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    # threads that wait do not spin: on a busy machine spinning takes the time from those that they wait for
    "OMP_WAIT_POLICY": "PASSIVE",
    # one heap: those of threads are cut into pieces of 64 MiB, given back and taken anew at every step of a training
    "MALLOC_ARENA_MAX": "1",
    "PYTHONSAFEPATH": "1",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
}

#: Dask settings of every profile; a profile's own `dask` section overrides them.
DASK_SETTINGS: dict[str, Any] = {
    # a task whose resources no worker has waits for ever without it
    "distributed.scheduler.no-workers-timeout": "10 minutes",
    # results are references of a few hundred bytes: there is nothing to spill, and a paused worker only looks hung
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    # a training step or a hull holds the interpreter for seconds; that is no reason to call a worker dead
    "distributed.scheduler.worker-ttl": "15 minutes",
    _CONNECT_TIMEOUT: "60s",
    "distributed.admin.tick.limit": "1h",
    # tasks last seconds to minutes: asking every process fifty to a hundred times a second how it is takes a tenth of a
    # core from those that compute; the dashboard's profile and its event loops are coarser for it
    "distributed.admin.tick.interval": "500ms",
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.worker.memory.monitor-interval": "500ms",
    "distributed.scheduler.work-stealing-interval": "500ms",
    "distributed.worker.profile.interval": "500ms",
    "distributed.worker.profile.cycle": "10s",
}


#: Loggers of flow and task runs; they write to the Prefect server and, where they propagate, to the console.
RUN_LOGGERS = ("prefect.flow_runs", "prefect.task_runs")


class Adapt(BaseModel):
    """Bounds of a cluster that grows and shrinks [workers]."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    minimum: int = Field(0, ge=0)
    maximum: int = Field(ge=1)


class WatchedTaskRunner(DaskTaskRunner):
    """A Dask task runner that passes its workers' progress events on to the listeners of this process."""

    @property
    def client(self) -> PrefectDaskClient:
        """The Dask client, connected on first access."""
        is_new = not self._client
        client = super().client
        if is_new:
            client.subscribe_topic(TOPIC, lambda event: publish(event[1]))
        return client


class ClusterProfile(BaseModel):
    """A Dask cluster: one that runs, by its address, or one to start, by its class.

    Attributes
    ----------
    description
        One line for people.
    address
        Scheduler of a cluster that runs already.
    cluster_class
        Dotted path of a `distributed` cluster class (or function that returns one).
    options
        Keyword arguments of that class.
    adapt
        Bounds of a cluster that grows and shrinks.
    environment
        Added to the environment of every worker.
    environment_via
        How the environment reaches workers: `nanny` (same machine), `job_script` (lines of a batch job),
        `env` (a keyword argument of the cluster class).
    dask
        Dask settings, by dotted name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    description: str = ""
    address: str | None = None
    cluster_class: str | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    adapt: Adapt | None = None
    environment: dict[str, str] = Field(default_factory=dict)
    environment_via: Literal["nanny", "job_script", "env"] = "nanny"
    dask: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _one_way(self) -> ClusterProfile:
        if (self.address is None) == (self.cluster_class is None):
            raise ValueError("give either an address or a cluster_class")
        return self

    @property
    def same_machine(self) -> bool:
        """Whether all workers run on this machine."""
        if self.address is not None:
            return urlsplit(self.address).hostname in _LOOPBACK
        return self.environment_via == "nanny"


def _is_not_a_heartbeat(record: logging.LogRecord) -> bool:
    """Tell whether a worker says more than that it missed a heartbeat: it tries again, or its scheduler is gone."""
    return not record.getMessage().startswith("Failed to communicate with scheduler during heartbeat")


class QuietRuns(WorkerPlugin):
    """Keeps a worker's run logs out of the console: they go to the Prefect server, and errors to the flow.

    So does it with what a cluster says while it closes: a scheduler that ends between two heartbeats would otherwise
    put a traceback above the one line that tells a user what went wrong.
    """

    name = "elemscreen-quiet-runs"

    def setup(self, worker: Worker) -> None:
        """Prepare a worker."""
        for name in RUN_LOGGERS:
            logging.getLogger(name).propagate = False
        # of every task that is called off because another one failed, it warns that it was called off
        logging.getLogger("distributed.worker.state_machine").setLevel(logging.ERROR)
        logging.getLogger("distributed.worker").addFilter(_is_not_a_heartbeat)  # adding it again changes nothing


class PatientNanny(Nanny):
    """A nanny that lets its worker end in peace.

    Prefect reports task states from threads of the worker, which finish when the interpreter exits. Dask kills a
    worker four seconds after it was told to stop; on a busy machine the last tasks would then stay Running in the UI.
    """

    async def close(self, timeout: float | None = None, reason: str = "nanny-close") -> Any:
        """Stop the worker, and kill it only after `timeout` [s], a minute by default."""
        return await super().close(timeout=60.0 if timeout is None else timeout, reason=reason)


def local_cluster(
    cores: int | Literal["auto"] = "auto",
    memory_per_worker: str | Literal["auto"] = "auto",
    dashboard_address: str | None = "127.0.0.1:0",
    env: dict[str, str] | None = None,
) -> SpecCluster:
    """Start one single-threaded worker process per core on this machine.

    Parameters
    ----------
    cores
        Number of workers; `auto` takes what this process may use (cgroup limits counted).
    memory_per_worker
        Limit above which a worker is restarted; `auto` is an equal share, but at least 4 GiB or 70 % of the memory.
    dashboard_address
        Where Dask's dashboard listens; None for no dashboard.
    env
        Environment variables that each worker sets when it has begun.

    Returns
    -------
    SpecCluster
        The first worker offers `core: cores`, the others `core: 1`.
    """
    count = CPU_COUNT if cores == "auto" else cores
    memory: str | int = memory_per_worker
    if memory_per_worker == "auto":
        memory = int(max(MEMORY_LIMIT / count, min(4 * _GIB, 0.7 * MEMORY_LIMIT)))

    def worker(index: int) -> dict[str, Any]:
        options = {
            "nthreads": 1,
            "resources": {"core": count if index == 0 else 1},
            "memory_limit": memory,
            "host": "127.0.0.1",
            "dashboard": False,
            "env": dict(env or {}),
            "silence_logs": dask.config.get("logging.distributed", "warning").upper(),
        }
        return {"cls": PatientNanny, "options": options}

    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "dashboard": dashboard_address is not None,
            "dashboard_address": dashboard_address or ":0",
        },
    }
    return SpecCluster(
        workers={index: worker(index) for index in range(count)}, scheduler=scheduler, name="elemscreen-local"
    )


def usual_block_size(spec: str) -> int:
    """Return the compositions per screening task that suit the workers of a profile, see `load_profile`."""
    return BLOCK_SIZES[worker_device(load_profile(spec).environment)]


def profile_names(folder: Path | None = None) -> list[str]:
    """Return the names of the profiles that come with elemscreen (or lie in `folder`)."""
    return sorted(
        entry.name.removesuffix(".yaml") for entry in _folder(folder).iterdir() if entry.name.endswith(".yaml")
    )


def load_profile(spec: str, folder: Path | None = None) -> ClusterProfile:
    """Return the profile that a campaign or a command line names.

    Parameters
    ----------
    spec
        `tcp://HOST:PORT` of a scheduler, the path of a YAML file, or the name of a profile.
    folder
        Where profiles are looked up by name; those that come with elemscreen by default.

    Returns
    -------
    ClusterProfile
        The profile.

    Raises
    ------
    InputError
        There is no such profile, or it says something wrong.
    """
    if spec.startswith(_SCHEMES):
        return ClusterProfile(description=f"the scheduler at {spec}", address=spec)
    if spec.endswith((".yaml", ".yml")):
        source: Traversable = Path(spec).expanduser()
        known = "give the path of a YAML file that exists"
    else:
        source = _folder(folder) / f"{spec}.yaml"
        known = f"use one of {', '.join(profile_names(folder))}, a YAML file or tcp://HOST:PORT"
    if not source.is_file():
        raise InputError(f"there is no cluster profile '{spec}': {known}")
    try:
        return ClusterProfile.model_validate(yaml.safe_load(source.read_text()) or {})
    except yaml.YAMLError as error:
        raise InputError(f"the cluster profile {source} is not YAML ({' '.join(str(error).split())})") from error
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the file"
        raise InputError(f"the cluster profile {source} is wrong at {where}: {first['msg']}") from error


@contextmanager
def open_cluster(profile: ClusterProfile | str) -> Iterator[TaskRunner[PrefectFuture[Any]]]:
    """Have a Dask cluster, and a task runner on it, for as long as the block lasts.

    A cluster that is started here ends with the block; one that runs elsewhere is left as it is. Progress events of
    the workers go to this process's listeners. The profile's Dask settings hold for this process from here on, since
    schedulers and workers read them when they start.

    Parameters
    ----------
    profile
        A profile, or what `load_profile` takes.

    Yields
    ------
    DaskTaskRunner
        For `flow.with_options(task_runner=...)`.

    Raises
    ------
    InputError
        The profile is wrong, its cluster class is not installed or does not start, nothing answers at its address, or
        its workers cannot reach Prefect's server.
    """
    if isinstance(profile, str):
        profile = load_profile(profile)
    api_url = get_current_settings().api.url
    check_reachable(profile, str(api_url) if api_url else None)
    dask.config.set(DASK_SETTINGS | profile.dask)
    with ExitStack() as stack:
        address, security = profile.address, None
        if address is None:
            cluster = stack.enter_context(_start(profile, str(api_url) if api_url else None))
            address, security = cluster.scheduler_address, cluster.security or None
        client = stack.enter_context(_connect(address, security))
        client.subscribe_topic(TOPIC, lambda event: publish(event[1]))
        if not any(logging.getLogger(name).propagate for name in RUN_LOGGERS):
            client.register_plugin(QuietRuns())  # workers are as quiet as we are
        runner = DaskTaskRunner(address=address, client_kwargs={"security": security} if security else None)
        # prefect-dask's futures do not share Prefect's variance; they are what its flows take all the same
        yield cast("TaskRunner[PrefectFuture[Any]]", runner)


def check_reachable(profile: ClusterProfile, api_url: str | None) -> None:
    """Raise InputError when workers on other machines would have to reach a server on this machine's loopback."""
    if not profile.same_machine and (api_url is None or urlsplit(api_url).hostname in _LOOPBACK):
        raise InputError(
            "workers on other machines cannot reach a Prefect server on this machine's loopback: start one with "
            "'prefect server start --host 0.0.0.0' and set PREFECT_API_URL to its address"
        )


def _start(profile: ClusterProfile, api_url: str | None) -> Cluster:
    """Start the cluster of a profile; the environment reaches its workers in the profile's way."""
    environment = WORKER_ENVIRONMENT | profile.environment
    if api_url is not None:
        environment["PREFECT_API_URL"] = api_url
    options = dict(profile.options)
    if _START_METHOD not in profile.dask:
        method = _USUAL_START_METHOD
        if profile.cluster_class == f"{__name__}.{local_cluster.__name__}":
            method, later = start_method(environment)
            options["env"] = later | options.get("env", {})
        # for the workers that take the place of dead ones, too, and not for those of a cluster of another kind
        dask.config.set({_START_METHOD: method})
    if profile.environment_via == "nanny":
        # set before the interpreter starts: an environment set later comes too late for OpenMP and for sys.path
        dask.config.set({"distributed.nanny.pre-spawn-environ": environment})
    elif profile.environment_via == "job_script":
        lines = [f"export {name}={shlex.quote(value)}" for name, value in environment.items()]
        options["job_script_prologue"] = [*lines, *options.get("job_script_prologue", [])]
    else:
        options["env"] = environment | options.get("env", {})
    module, _, name = str(profile.cluster_class).rpartition(".")
    try:
        cluster_class = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        package = module.partition(".")[0].replace("_", "-")
        raise InputError(f"{profile.cluster_class} cannot be imported ({error}): pip install {package}") from error
    try:
        cluster: Cluster = cluster_class(**options)
    except TypeError as error:
        raise InputError(f"the options of {profile.cluster_class} are wrong: {error}") from error
    if profile.adapt:
        cluster.adapt(minimum=profile.adapt.minimum, maximum=profile.adapt.maximum)
    return cluster


def _connect(address: str, security: Any) -> Client:
    try:
        return Client(address, security=security, set_as_default=False, timeout=dask.config.get(_CONNECT_TIMEOUT))
    except OSError as error:
        raise InputError(f"no Dask scheduler answers at {address}: start it, or use the profile 'local'") from error


def _folder(folder: Path | None) -> Traversable:
    # by name: tasks know nothing of the room above them, but the profiles are part of the distribution
    return folder if folder is not None else importlib.resources.files("deployments") / "profiles"
