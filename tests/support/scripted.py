"""A server that answers from a script, and the simplest client of its list of rows."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from loopback.serving import Handler, Server
from storage.scheme import EnergyScheme
from tasks.sources.ledger import PageFacts
from tasks.sources.service import RawRow
from tasks.sources.transport import Transport

Answer = tuple[int, dict[str, str], bytes]


def page(*ids: str, total: int | None = None, following: str | None = None) -> Answer:
    """Return a sound page of rows."""
    return 200, {}, json.dumps({"data": list(ids), "total": total, "next": following}).encode()


class _ScriptedHandler(Handler):
    server: ScriptedServer

    def do_GET(self) -> None:
        status, headers, body = self.server.next_answer(self.path, dict(self.headers.items()))
        self.send_response(status)
        for name, value in ({"Content-Length": str(len(body))} | headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
        self.close_connection = "Content-Length" in headers


class ScriptedServer(Server):
    """Answers each path from its list, the last answer over and over; an answer may be what a function returns."""

    def __init__(self, script: dict[str, list[Any]]) -> None:
        self.script = script
        self.asked: list[str] = []
        self.headers: list[dict[str, str]] = []
        super().__init__(_ScriptedHandler)

    def next_answer(self, path: str, headers: dict[str, str]) -> Answer:
        self.asked.append(path)
        self.headers.append(headers)
        answers = self.script[path]
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        found: Answer = answer() if callable(answer) else answer
        return found


class ListService:
    """Follows the links of a `ScriptedServer` from its first page, `/1`."""

    name = "the list"
    vital: frozenset[str] = frozenset()
    requests_per_second = 1000.0
    concurrency = 1

    def __init__(self, url: str, headers: dict[str, str] | None = None) -> None:
        self.url, self.headers = url, headers

    def snapshot(self, transport: Transport) -> str:
        return "1"

    def scheme(self, snapshot: str) -> EnergyScheme:
        return EnergyScheme(source="list", release=snapshot, functional="pbe")

    def facts(self, address: str, document: Any) -> PageFacts | None:
        following = document["next"]
        return PageFacts(
            tuple(document["data"]), "all", document["total"], next_address=following and self.url + following
        )

    def slim(self, document: Any) -> Any:
        return {"next": document["next"]}

    def walk(self, transport: Transport) -> None:
        path: str | None = "/1"
        with transport.session(self.headers) as session:
            while path is not None:
                path = session.get(self.url + path).json()["next"]

    def rows(self, documents: Iterator[Any]) -> Iterator[RawRow]:
        for document in documents:
            for name in document["data"]:
                yield {"material_id": name, "formula": "LiF"}
