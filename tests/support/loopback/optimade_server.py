"""The OPTIMADE reference server, in a process of its own, with the made-up compounds of one provider."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

from loopback.records import Compound, compounds
from loopback.wire import optimade_structure, provider_fields

START_TIMEOUT = 120.0
"""Seconds that the server may take to read its data and answer."""


class OptimadeServer:
    """OPTIMADE on 127.0.0.1; answers when the constructor returns. A context manager.

    Parameters
    ----------
    folder : Path
        Empty folder for settings, data and logs.
    prefix : str
        Provider, for instance `oqmd`, `jarvis` or `alexandria`; decides on the names of its fields.
    made : sequence of Compound
        What the database holds.
    page_limit, page_limit_max : int
        Rows of a page where the client does not say, and the most it may ask for.
    """

    def __init__(
        self,
        folder: Path,
        prefix: str = "oqmd",
        made: tuple[Compound, ...] | None = None,
        page_limit: int = 100,
        page_limit_max: int = 500,
    ) -> None:
        began = time.perf_counter()
        self.prefix = prefix
        self.folder = folder
        self.fields = provider_fields(prefix)
        # bound and listening before the child runs: no other process can take the port, and early clients wait
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        settings = self._settings(compounds() if made is None else made, page_limit, page_limit_max)
        self._process = self._start(settings)
        try:
            self._wait()
        except BaseException:
            self.close()
            raise
        self.startup_seconds = time.perf_counter() - began

    def _settings(self, made: tuple[Compound, ...], page_limit: int, page_limit_max: int) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        data = self.folder / "structures.jsonl"
        with data.open("w") as lines:
            lines.write(json.dumps({"x-optimade": {"meta": {"api_version": "1.2.0"}}}) + "\n")
            lines.writelines(json.dumps(optimade_structure(one, self.prefix)) + "\n" for one in made)
        fields = [
            {"name": name, "type": self._type(quantity), "description": f"{quantity} of a made-up compound"}
            for quantity, name in self.fields.items()
        ]
        settings = {
            "base_url": self.url,
            "page_limit": page_limit,
            "page_limit_max": page_limit_max,
            "insert_test_data": False,
            "insert_from_jsonl": str(data),
            "log_level": "warning",
            "log_dir": str(self.folder),
            "provider": {
                "prefix": self.prefix,
                "name": f"Made-up {self.prefix}",
                "description": "Made-up compounds for tests",
                "homepage": None,
            },
            "provider_fields": {"structures": fields},
        }
        file = self.folder / "optimade.json"
        file.write_text(json.dumps(settings))
        return file

    def _type(self, quantity: str) -> str:
        if quantity == "id":
            return "integer" if self.prefix == "oqmd" else "string"
        return "float"

    def _start(self, settings: Path) -> subprocess.Popen[bytes]:
        inherited = {key: value for key, value in os.environ.items() if not key.upper().startswith("OPTIMADE_")}
        environment = inherited | {"OPTIMADE_CONFIG_FILE": str(settings), "OPTIMADE_DATABASE_BACKEND": "mongomock"}
        child = Path(__file__).with_name("optimade_child.py")
        descriptor = self._socket.fileno()
        with (self.folder / "output.txt").open("wb") as output:
            return subprocess.Popen(
                # -P: the folder of the script has modules of its own, none of which the server shall see
                [sys.executable, "-P", str(child), str(descriptor)],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=subprocess.STDOUT,
                pass_fds=[descriptor],
                env=environment,
                cwd=self.folder,
            )

    def _wait(self) -> None:
        end = time.monotonic() + START_TIMEOUT
        host, port = self._socket.getsockname()
        while time.monotonic() < end and self._process.poll() is None:
            # the backlog holds the request until the server accepts it; the short timeout is for noticing its death
            connection = http.client.HTTPConnection(host, port, timeout=2)
            try:
                connection.request("GET", "/v1/info")
                answer = connection.getresponse()
                answer.read()
            except OSError:
                continue
            finally:
                connection.close()
            if answer.status == 200:
                return
            break
        tail = (self.folder / "output.txt").read_text(errors="replace")[-2000:]
        raise RuntimeError(f"the OPTIMADE server did not start:\n{tail}")

    def close(self) -> None:
        """End the server and give the port back."""
        if self._process.stdin:
            self._process.stdin.close()
        self._process.terminate()
        try:
            self._process.wait(timeout=10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._socket.close()

    def __enter__(self) -> OptimadeServer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
