"""A threaded HTTP/1.1 server on 127.0.0.1 that ends when it is told to, and answers without delay."""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import threading
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, urlsplit


class Handler(BaseHTTPRequestHandler):
    """Keeps connections open and sends each answer in one piece."""

    protocol_version = "HTTP/1.1"
    # one packet per answer: headers and body in two would wait for each other's acknowledgement
    wbufsize = -1
    disable_nagle_algorithm = True
    server: Server

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        status, answer = self.server.answer(url.path, query, self.headers)
        body = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class Server(ThreadingHTTPServer):
    """Answers GETs from `answer`; a context manager."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, handler: type[BaseHTTPRequestHandler] = Handler) -> None:
        self.errors: list[BaseException] = []
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Origin of the server, without a slash at its end."""
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, path: str, query: dict[str, str], headers: Message) -> tuple[int, Any]:
        """Return status and JSON body."""
        raise NotImplementedError

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Keep what went wrong in `errors`, except broken connections: clients break them on purpose."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.errors.append(error)

    def close(self) -> None:
        """Stop answering, on connections that are open too, and give the port back."""
        self.shutdown()
        self._thread.join(timeout=5)
        for connection in tuple(self._connections):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self.server_close()

    def __exit__(self, *_: object) -> None:
        self.close()


def whole(text: str | None, default: int, lowest: int = 0) -> int:
    """Return a query parameter as a whole number, or the default where it is none."""
    try:
        value = int(text or "")
    except ValueError:
        return default
    return value if value >= lowest else default
