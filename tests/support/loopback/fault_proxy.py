"""An HTTP proxy in front of one server, which forwards GETs and makes some of them fail on a schedule."""

from __future__ import annotations

import http.client
import select
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from email.message import Message
from email.utils import formatdate
from typing import Any
from urllib.parse import urlsplit

from loopback.faults import Draw, Fault, Schedule
from loopback.serving import Handler, Server
from loopback.tampering import Page, moved_back, with_other_type, without_field

SECRET_HEADERS = frozenset({"x-api-key", "authorization", "proxy-authorization", "cookie"})
LARGEST_SHIFT = 3
_PAGE = b"<!DOCTYPE html>\n<html><head><title>Just a moment...</title></head><body>Please wait.</body></html>\n"
_STATUS = {Fault.RATE_LIMIT: 429, Fault.INTERNAL: 500, Fault.UNAVAILABLE: 503}


@dataclass
class Exchange:
    """One request that the proxy got, and what it did about it.

    Attributes
    ----------
    at, until : float
        Monotonic times of the request and of the end of its answer; `until` is None while there is none.
    headers : dict
        Names in lower case; secret ones have no value here.
    fault : Fault or None
        What was injected; None where the scheduled fault could not happen, for instance a page before the first.
    status : int or None
        Status that was sent; None where the client got none.
    note : str
        Details of the fault.
    """

    method: str
    target: str
    at: float
    headers: dict[str, str]
    fault: Fault | None = None
    status: int | None = None
    note: str = ""
    until: float | None = None


@dataclass
class _Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    length: int | None = None
    """Promised length where it is not that of the body."""


class _ProxyHandler(Handler):
    server: FaultProxy
    upstream: http.client.HTTPConnection | None = None

    def do_GET(self) -> None:
        exchange = self.server.begin(self.command, self.path, dict(self.headers.items()))
        draw = self.server.schedule.draw(self.path)
        try:
            if draw.fault is Fault.RESET:
                self._reset(exchange)
            elif draw.fault is Fault.HANG:
                self._hang(exchange)
            else:
                self._send(exchange, self._answered(exchange, draw))
        finally:
            self.server.end(exchange)

    def do_POST(self) -> None:
        exchange = self.server.begin(self.command, self.path, dict(self.headers.items()))
        self.close_connection = True  # its body stays unread
        self._send(exchange, _Answer(405, b"", {"Allow": "GET"}))

    do_PUT = do_PATCH = do_DELETE = do_POST

    def finish(self) -> None:
        super().finish()
        if self.upstream:
            self.upstream.close()

    def _answered(self, exchange: Exchange, draw: Draw) -> _Answer:
        fault, source = draw.fault, draw.random
        if fault in _STATUS:
            exchange.fault = fault
            headers = {}
            if (wait := self.server.retry_after(draw)) is not None:
                headers["Retry-After"] = exchange.note = wait
            return _Answer(_STATUS[fault], b'{"detail": "injected"}', {"Content-Type": "application/json", **headers})
        if fault is Fault.HTML:
            exchange.fault = fault
            return _Answer(200, _PAGE, {"Content-Type": "text/html; charset=utf-8"})
        if fault in (Fault.DUPLICATED, Fault.SHIFTED):
            return self._moved(exchange, draw)
        answer = self._fetch(self.path)
        whole = answer.body.rstrip()
        if fault is None or answer.status != 200 or not whole:
            return answer
        if fault is Fault.TRUNCATED:
            answer.length = len(whole)
            answer.body = whole[: len(whole) // 2]
        elif fault is Fault.TRUNCATED_JSON:
            answer.body = whole[: source.randrange(len(whole) // 4, len(whole))]
        else:
            spoil = without_field if fault is Fault.MISSING_FIELD else with_other_type
            try:
                answer.body, exchange.note = spoil(whole, source)
            except ValueError:  # neither rows nor fields to spoil
                return answer
        exchange.fault = fault
        return answer

    def _moved(self, exchange: Exchange, draw: Draw) -> _Answer:
        """Answer with other rows than those asked for, where the request names a page and there are such rows."""
        page = Page.of(self.path)
        if page is None or (draw.fault is Fault.DUPLICATED and page.offset == 0):
            return self._fetch(self.path)
        if draw.fault is Fault.DUPLICATED:
            earlier = page.moved(-page.limit)
            exchange.fault, exchange.note = draw.fault, f"rows from {earlier.offset} instead of {page.offset}"
            return self._fetch(earlier.target)
        rows = draw.random.randint(1, LARGEST_SHIFT) * draw.random.choice((1, -1))
        other = page.moved(rows if page.offset + rows >= 0 else -rows)
        answer = self._fetch(other.target)
        if answer.status == 200:
            exchange.fault, exchange.note = draw.fault, f"rows from {other.offset} instead of {page.offset}"
            answer.body = moved_back(answer.body, page, other)
        return answer

    def _fetch(self, target: str) -> _Answer:
        own = ("host", "connection", "accept-encoding")
        sent = {name: value for name, value in self.headers.items() if name.lower() not in own}
        # uncompressed, so that links can be rewritten
        sent |= {"Host": self.server.upstream.netloc, "Accept-Encoding": "identity"}
        for _ in range(2):
            if self.upstream is None:
                self.upstream = http.client.HTTPConnection(self.server.upstream.netloc, timeout=60)
            try:
                self.upstream.request("GET", target, headers=sent)
                response = self.upstream.getresponse()
                body = response.read()
            except (http.client.HTTPException, OSError):
                # perhaps an idle connection that the server closed meanwhile: once more on a fresh one
                self.upstream.close()
                self.upstream = None
                continue
            kind = response.headers.get("Content-Type", "application/octet-stream")
            # absolute links, to the next page for instance, would lead around the proxy
            body = body.replace(self.server.upstream_url.encode(), self.server.url.encode())
            return _Answer(response.status, body, {"Content-Type": kind})
        return _Answer(502, b'{"detail": "no answer from upstream"}', {"Content-Type": "application/json"})

    def _send(self, exchange: Exchange, answer: _Answer) -> None:
        exchange.status = answer.status
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body) if answer.length is None else answer.length))
        if answer.length is not None:
            self.close_connection = True
        self.end_headers()
        # before the last byte leaves: a client that asks again at once has not two requests in flight
        self.server.end(exchange)
        self.wfile.write(answer.body)

    def _reset(self, exchange: Exchange) -> None:
        exchange.fault = Fault.RESET
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.server.end(exchange)
        # the handler's files keep the socket open, so its descriptor is closed beneath them
        socket.close(self.connection.detach())

    def _hang(self, exchange: Exchange) -> None:
        exchange.fault = Fault.HANG
        self.close_connection = True
        self.server.hang(exchange, self.connection)


class FaultProxy(Server):
    """Proxy on 127.0.0.1 in front of one server; a context manager.

    Parameters
    ----------
    upstream_url : str
        Origin of the server, `http://127.0.0.1:1234`.
    schedule : Schedule
        Which requests fail and how; may be replaced between requests (`proxy.schedule = ...`).
    retry_after : sequence of (str or None)
        What `Retry-After` says, drawn for each 429 and 503: seconds, "date" for a time one second ahead, or None for no
        such header.

    Attributes
    ----------
    log : list of Exchange
        Every request, in the order of arrival.
    peak : int
        Most requests that were in flight at once.
    """

    def __init__(
        self,
        upstream_url: str,
        schedule: Schedule | None = None,
        retry_after: Sequence[str | None] = ("0", "1", "date", None),
    ) -> None:
        self.upstream_url = upstream_url.rstrip("/")
        self.upstream = urlsplit(self.upstream_url)
        self.schedule = schedule or Schedule.none()
        self._retry_after = tuple(retry_after)
        self._lock = threading.Lock()
        self._wake, self._waker = socket.socketpair()
        self._open: set[int] = set()
        self._hanging: dict[int, tuple[Exchange, socket.socket]] = {}
        self.forget()
        super().__init__(_ProxyHandler)

    def forget(self) -> None:
        """Empty the log; the schedule goes on counting."""
        with self._lock:
            self.log: list[Exchange] = []
            self.peak = 0

    def pages(self) -> dict[str, int]:
        """Return the path with query of every page that was answered soundly, and how often."""
        with self._lock:
            return dict(Counter(one.target for one in self.log if one.fault is None and one.status == 200))

    def faults(self) -> dict[Fault, int]:
        """Return how often each fault was injected."""
        with self._lock:
            return dict(Counter(one.fault for one in self.log if one.fault is not None))

    def retry_after(self, draw: Draw) -> str | None:
        """Return the `Retry-After` of an answer; a 429 always has one, a 500 never."""
        choices = [text for text in self._retry_after if text is not None or draw.fault is Fault.UNAVAILABLE]
        if draw.fault is Fault.INTERNAL or not choices:
            return None
        text = draw.random.choice(choices)
        return formatdate(time.time() + 1, usegmt=True) if text == "date" else text

    def begin(self, method: str, target: str, headers: dict[str, str]) -> Exchange:
        """Log a request and count it as in flight."""
        shown = {
            name.lower(): "(hidden)" if name.lower() in SECRET_HEADERS else value for name, value in headers.items()
        }
        exchange = Exchange(method, target, time.monotonic(), shown)
        with self._lock:
            # a client that gave up on one request and sent this one has one in flight, however soon it was noticed
            for key, (hanging, connection) in self._hanging.items():
                if hanging.until is None and _gone(connection):
                    hanging.until = exchange.at
                    self._open.discard(key)
            self._open.add(id(exchange))
            self.log.append(exchange)
            self.peak = max(self.peak, len(self._open))
        return exchange

    def end(self, exchange: Exchange) -> None:
        """Count a request as answered; once is enough."""
        with self._lock:
            self._open.discard(id(exchange))
            if exchange.until is None:
                exchange.until = time.monotonic()

    def hang(self, exchange: Exchange, connection: socket.socket) -> None:
        """Wait until the client closes its connection, or the proxy ends."""
        with self._lock:
            self._hanging[id(exchange)] = (exchange, connection)
        waiting = [connection, self._wake]
        while True:
            ready, _, _ = select.select(waiting, [], [])
            if self._wake in ready or _gone(connection):
                break
            waiting = [self._wake]  # it sent more instead of giving up: only the proxy's end ends this
        with self._lock:
            del self._hanging[id(exchange)]

    def answer(self, path: str, query: dict[str, str], headers: Message) -> tuple[int, Any]:
        raise NotImplementedError  # the handler answers

    def close(self) -> None:
        self._waker.close()
        super().close()
        # `_wake` stays open: threads that still leave `select` read from it


def _gone(connection: socket.socket) -> bool:
    """Whether the client closed its end."""
    try:
        return connection.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
