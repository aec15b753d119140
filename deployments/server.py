"""The embedded Prefect server: one real server per store, on loopback, for as long as somebody uses it.

Left alone, every process that runs Prefect code without an API URL starts a server of its own, on one SQLite file.
So one server is started, its URL goes into the environment (Dask workers inherit it), and the last process that used
it stops it. Users are counted by shared locks on a file, which the system gives back even after SIGKILL; an orphaned
server is taken over by the next run.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import httpx
from pydantic import BaseModel, ValidationError

from deployments import process
from deployments.logs import console_log_environment, drain, set_console_level

#: What every child process gets, whichever server is used.
CHILD_ENVIRONMENT = {
    # a `models/` folder in the current directory must not shadow ours
    "PYTHONSAFEPATH": "1",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    # a process that lost the URL fails at once instead of starting a server of its own
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
}

_STATE_FILE = "server.json"
_POLL_S = 0.1


class ServerError(RuntimeError):
    """The Prefect server cannot be started or does not answer; the message is one line that names the remedy."""


class ServerState(BaseModel):
    """What `server.json` says of a running embedded server."""

    api_url: str
    pid: int
    created: float
    prefect_version: str
    keep: bool = False


@dataclass(frozen=True)
class Server:
    """A Prefect server that answers.

    Attributes
    ----------
    api_url
        URL of its API, ending in `/api`.
    home
        Folder of its database and log; None for a server that Prefect's settings name.
    pid
        Its process; None for a server that Prefect's settings name.
    started
        Whether this call started it.
    """

    api_url: str
    home: Path | None
    pid: int | None
    started: bool

    @property
    def ui_url(self) -> str:
        """URL of the user interface."""
        return self.api_url.removesuffix("/api")


def server_home(store: str | Path) -> Path:
    """Return the folder of the embedded server that belongs to a store.

    It lies in the store when that is a local folder, and in the user's cache folder when it is an object store.
    """
    text = str(store).removeprefix("file://")
    if "://" not in text:
        return Path(text).expanduser().resolve() / ".prefect"
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()
    return cache / "elemscreen" / f"prefect-{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def configured_api_url() -> str | None:
    """Return the API URL that Prefect's settings name (environment, profile or prefect.toml), or None."""
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    return str(url) if url else None


def read_state(store: str | Path) -> ServerState | None:
    """Return what is recorded of a store's server, or None; the server itself is not asked."""
    return _read(server_home(store))


def is_healthy(api_url: str, timeout_s: float = 5.0) -> bool:
    """Whether a Prefect server answers at `api_url`."""
    try:
        answer = httpx.get(f"{api_url}/health", timeout=timeout_s, trust_env=False)
    except httpx.HTTPError:
        return False
    return answer.status_code == 200


@contextmanager
def embedded_server(
    store: str | Path, *, keep: bool = False, port: int | None = None, verbose: bool = False, wait_s: float = 90.0
) -> Iterator[Server]:
    """Have one Prefect server for as long as the block lasts.

    A server that Prefect's settings name is used as it is. Otherwise the store's embedded server is reused when it
    runs and started when it does not; the last user stops it.

    Parameters
    ----------
    store
        Folder or URL of the artifact store.
    keep
        Leave the embedded server running at the end.
    port
        Port on loopback for a server started here; a free one by default.
    verbose
        Show Prefect's log in the terminal, down to INFO instead of WARNING.
    wait_s
        How long a server may take to answer [s].

    Yields
    ------
    Server
        The server; its URL is in Prefect's settings and in the environment until the block ends.

    Raises
    ------
    ServerError
        It does not answer.
    """
    configured = configured_api_url()
    with ExitStack() as stack:
        if configured:
            if not is_healthy(configured, timeout_s=20.0):
                raise ServerError(
                    f"no Prefect server answers at {configured}: "
                    "start it, or unset PREFECT_API_URL to use an embedded one"
                )
            server = Server(configured, None, None, False)
        else:
            server = stack.enter_context(_embedded(server_home(store), keep, port, wait_s))
        stack.enter_context(_use(server, verbose))
        yield server


def stop_server(store: str | Path) -> bool:
    """Stop a store's embedded server, whoever uses it, and return whether there was one."""
    home = server_home(store)
    state = read_state(store)
    if state is None:
        return False
    with _locked(home / "server.lock", 60.0):
        return _stop(home)


@contextmanager
def _embedded(home: Path, keep: bool, port: int | None, wait_s: float) -> Iterator[Server]:
    home.mkdir(parents=True, exist_ok=True)
    with (home / "users.lock").open("a") as users:
        with _locked(home / "server.lock", wait_s + 30.0):
            alone = _alone(users)
            fcntl.flock(users, fcntl.LOCK_SH)
            server = _find(home, keep, alone, wait_s) or _start(home, keep, port, wait_s)
        try:
            yield server
        finally:
            with _locked(home / "server.lock", wait_s + 30.0):
                fcntl.flock(users, fcntl.LOCK_UN)
                state = _read(home)
                if state is not None and not state.keep and _alone(users):
                    _stop(home)


def _find(home: Path, keep: bool, alone: bool, wait_s: float) -> Server | None:
    """Return the running server of this home; what is recorded but no longer usable is cleared away."""
    from prefect import __version__

    state = _read(home)
    if state is None:
        return None
    running = process.find(state.pid, state.created)
    if running is not None and state.prefect_version != __version__ and not alone:
        raise ServerError(
            f"a run with Prefect {state.prefect_version} uses {home} (this is {__version__}): "
            "wait for it to end, or choose another store"
        )
    # a server that others use is only slow; an orphan is asked once and replaced
    patience = 5.0 if alone else wait_s
    if running is not None and state.prefect_version == __version__ and is_healthy(state.api_url, patience):
        if keep and not state.keep:
            _write(home, state.model_copy(update={"keep": True}))
        return Server(state.api_url, home, state.pid, False)
    _stop(home)
    return None


def _start(home: Path, keep: bool, port: int | None, wait_s: float) -> Server:
    from prefect import __version__

    port = port or _free_port()
    api_url = f"http://127.0.0.1:{port}/api"
    environment = {k: v for k, v in os.environ.items() if k not in {"PREFECT_API_URL", "PREFECT_API_KEY"}}
    environment |= CHILD_ENVIRONMENT | {
        "PREFECT_HOME": str(home),
        "PREFECT_SERVER_API_HOST": "127.0.0.1",
        "PREFECT_SERVER_API_PORT": str(port),
    }
    command = [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)]
    log_path = home / "server.log"
    with log_path.open("w") as log:
        # a session of its own: Ctrl-C must reach the flow, which still has to tell the server that it was cancelled
        child = subprocess.Popen(
            command, cwd=home, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
    state = ServerState(
        api_url=api_url, pid=child.pid, created=process.creation_time(child.pid), prefect_version=__version__, keep=keep
    )
    _write(home, state)
    deadline = time.monotonic() + wait_s
    while not is_healthy(api_url):
        if child.poll() is not None or time.monotonic() > deadline:
            _stop(home)
            lines = [line.strip() for line in log_path.read_text(errors="replace").splitlines() if line.strip()]
            last = lines[-1] if lines else "it printed nothing"
            raise ServerError(f"the embedded Prefect server did not start ({last}); see {log_path}")
        time.sleep(_POLL_S)
    return Server(api_url, home, child.pid, True)


def _stop(home: Path) -> bool:
    """Stop the recorded server, if it still is that process, and forget it."""
    state = _read(home)
    running = process.find(state.pid, state.created) if state else None
    if running is not None:
        process.stop(running)
    (home / _STATE_FILE).unlink(missing_ok=True)
    return running is not None


def _read(home: Path) -> ServerState | None:
    try:
        return ServerState.model_validate_json((home / _STATE_FILE).read_text())
    except (FileNotFoundError, ValidationError):
        return None  # a state file that cannot be read says as little as none


def _write(home: Path, state: ServerState) -> None:
    temporary = home / f"{_STATE_FILE}.{os.getpid()}"
    temporary.write_text(state.model_dump_json())
    temporary.replace(home / _STATE_FILE)


@contextmanager
def _locked(path: Path, wait_s: float) -> Iterator[None]:
    """Hold an exclusive lock on a file, so that one process at a time looks, starts or stops."""
    deadline = time.monotonic() + wait_s
    with path.open("a") as file:
        while not _try_lock(file):
            if time.monotonic() > deadline:
                raise ServerError(f"another process holds {path} for over {wait_s:.0f} s: end it, then try again")
            time.sleep(_POLL_S)
        yield


def _try_lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alone(users: IO[str]) -> bool:
    """Whether no other process uses the server; called while `server.lock` is held."""
    if not _try_lock(users):
        return False
    fcntl.flock(users, fcntl.LOCK_UN)
    return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _certificate(home: Path) -> Path | None:
    """Return a file with one certificate, None where there is none to take.

    Prefect's clients, two for every task, load all certificates that they are given: 30 ms of processor for the usual
    list of authorities. The embedded server speaks plain HTTP on the loopback and needs none.
    """
    file = home / "certificate.pem"
    if not file.exists():
        import certifi

        text = Path(certifi.where()).read_text(encoding="utf-8")
        found = re.search(
            r"^-----BEGIN CERTIFICATE-----$.*?^-----END CERTIFICATE-----$", text, re.DOTALL | re.MULTILINE
        )
        if found is None:  # somebody's own list, in another form: nothing is lost but time
            return None
        part = file.with_name(f"{file.name}.{os.getpid()}")
        part.write_text(found.group() + "\n", encoding="utf-8")
        part.replace(file)
    return file


@contextmanager
def _use(server: Server, verbose: bool) -> Iterator[None]:
    """Put the server into Prefect's settings and into the environment that child processes inherit."""
    from prefect.settings import (
        PREFECT_API_SSL_CERT_FILE,
        PREFECT_API_URL,
        PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
        PREFECT_HOME,
        temporary_settings,
    )

    environment = CHILD_ENVIRONMENT | {"PREFECT_API_URL": server.api_url} | console_log_environment(verbose)
    settings: dict[Any, Any] = {PREFECT_API_URL: server.api_url}
    if server.home is not None:
        environment["PREFECT_HOME"] = settings[PREFECT_HOME] = str(server.home)
        if certificate := _certificate(server.home):
            environment["PREFECT_API_SSL_CERT_FILE"] = settings[PREFECT_API_SSL_CERT_FILE] = str(certificate)
        # nobody listens to the heartbeats of a flow here, and each flow would wait half a second for its first
        settings[PREFECT_FLOWS_HEARTBEAT_FREQUENCY] = None
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        with temporary_settings(settings):
            set_console_level(verbose)
            try:
                yield
            finally:
                drain()
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
