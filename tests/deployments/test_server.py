from __future__ import annotations

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import psutil
import pytest
from prefect.settings import get_current_settings

from deployments import server as server_module
from deployments.server import (
    ServerError,
    configured_api_url,
    embedded_server,
    is_healthy,
    read_state,
    server_home,
    stop_server,
)
from prefect_home import prepared

HOLD = """
import sys
from deployments.server import embedded_server
with embedded_server(sys.argv[1]) as server:
    print(server.pid, server.started, flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def unconfigured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "configured_api_url", lambda: None)


def hold(store: Path) -> subprocess.Popen[str]:
    """Start another process that uses the store's server until a line comes in."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    return subprocess.Popen(
        [sys.executable, "-c", HOLD, str(store)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd=store,
    )


def servers_of(store: Path) -> list[int]:
    """Ids of the processes that serve this store, by their working folder."""
    home, found = str(server_home(store)), []
    for candidate in psutil.process_iter():
        try:
            if candidate.cwd() == home and "prefect" in " ".join(candidate.cmdline()):
                found.append(candidate.pid)
        except (psutil.AccessDenied, psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return found


def test_one_server_for_all_users_and_none_after_the_last(
    tmp_path: Path, unconfigured: None, prefect_server: object
) -> None:
    prepared(tmp_path)
    others = [hold(tmp_path) for _ in range(2)]  # both start at once: one starts the server, the other finds it
    lines = [process.stdout.readline().split() for process in others if process.stdout]
    assert sorted(started for _, started in lines) == ["False", "True"]
    assert len({pid for pid, _ in lines}) == 1
    pid = int(lines[0][0])
    with embedded_server(tmp_path) as server:
        assert (server.pid, server.started) == (pid, False)
        assert servers_of(tmp_path) == [pid]
        assert os.environ["PREFECT_API_URL"] == server.api_url == configured_api_url()
        assert os.environ["PYTHONSAFEPATH"] == "1"
        current = get_current_settings()  # what would be idle work on a server of one's own is left out
        assert current.flows.heartbeat_frequency is None
        assert str(current.api.ssl_cert_file) == os.environ["PREFECT_API_SSL_CERT_FILE"]
        assert len(ssl.create_default_context(cafile=str(current.api.ssl_cert_file)).get_ca_certs()) == 1
        for process in others:
            process.communicate("go\n", timeout=60)
        assert is_healthy(server.api_url), "the server ended while it was in use"
    assert not psutil.pid_exists(pid)
    assert read_state(tmp_path) is None


def test_orphan_is_taken_over_and_a_stale_state_file_replaced(
    tmp_path: Path, unconfigured: None, prefect_server: object
) -> None:
    prepared(tmp_path)
    other = hold(tmp_path)
    assert other.stdout is not None
    pid = int(other.stdout.readline().split()[0])
    other.kill()
    other.wait()
    with embedded_server(tmp_path, keep=True) as server:
        assert (server.pid, server.started) == (pid, False)
    assert is_healthy(server.api_url), "a kept server was stopped"

    os.kill(pid, signal.SIGKILL)  # now the state file lies
    psutil.wait_procs([psutil.Process(pid)] if psutil.pid_exists(pid) else [], timeout=10)
    with embedded_server(tmp_path) as server:
        assert server.started
        assert server.pid != pid
        assert servers_of(tmp_path) == [server.pid]
    assert read_state(tmp_path) is None


def test_state_file_of_another_process_never_ends_it(tmp_path: Path) -> None:
    home = server_home(tmp_path)
    home.mkdir()
    bystander = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    state = {"api_url": "http://127.0.0.1:1/api", "pid": bystander.pid, "created": 1.0, "prefect_version": "0"}
    (home / "server.json").write_text(json.dumps(state))
    assert not stop_server(tmp_path)
    assert bystander.poll() is None
    bystander.communicate(b"\n", timeout=30)
    assert read_state(tmp_path) is None


@pytest.mark.parametrize("text", ["", "{", '{"pid": 1}'])
def test_damaged_state_file_says_nothing(tmp_path: Path, text: str) -> None:
    server_home(tmp_path).mkdir()
    (server_home(tmp_path) / "server.json").write_text(text)
    assert read_state(tmp_path) is None
    assert not stop_server(tmp_path)


def test_configured_server_is_used_and_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            return

    with HTTPServer(("127.0.0.1", 0), Healthy) as fake:
        threading.Thread(target=fake.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{fake.server_port}/api"
        monkeypatch.setattr(server_module, "configured_api_url", lambda: url)
        with embedded_server(tmp_path) as server:
            assert (server.api_url, server.pid, server.started) == (url, None, False)
        fake.shutdown()
    assert not server_home(tmp_path).exists()
    with (
        pytest.raises(ServerError, match=r"no Prefect server answers at .*unset PREFECT_API_URL"),
        embedded_server(tmp_path),
    ):
        pass


def test_server_that_cannot_start_is_one_line(tmp_path: Path, unconfigured: None) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(ServerError, match=r"did not start .*see .*server\.log") as caught,
            embedded_server(tmp_path, port=port),
        ):
            pass
    assert "\n" not in str(caught.value)
    assert read_state(tmp_path) is None


def test_home_lies_in_a_local_store_and_in_the_cache_of_a_remote_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert server_home(tmp_path / "store") == tmp_path / "store" / ".prefect"
    assert server_home(f"file://{tmp_path}/store") == tmp_path / "store" / ".prefect"
    remote = server_home("s3://bucket/store")
    assert remote.parent == tmp_path / "elemscreen"
    assert remote != server_home("s3://bucket/other")


def test_environment_is_as_before_afterwards(prefect_server: object, server_store: Path) -> None:
    before = dict(os.environ)
    with embedded_server(server_store):
        assert os.environ["PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL"] == "WARNING"
    assert dict(os.environ) == before
