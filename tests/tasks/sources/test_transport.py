"""The transport: what it waits for, what it gives up on, what it keeps and what it never keeps."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any
from unittest.mock import Mock, call

import cloudpickle
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from scripted import ListService, ScriptedServer, page
from storage.pages import PageFolder
from tasks.sources.errors import SourceError
from tasks.sources.ledger import Ledger
from tasks.sources.service import ROUNDS, documents, read_all
from tasks.sources.transport import Patience, Transport

HTML = (200, {"Content-Type": "text/html"}, b"<!DOCTYPE html>\n<html>Please wait.</html>\n")
SOUND = page("a", "b", total=2)
KEY = "0123456789abcdef0123456789abcdef"

Start = Callable[..., ScriptedServer]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a server whose first page, `/1`, gives these answers one after another; other pages by their path."""
    running: list[ScriptedServer] = []

    def server(*answers: Any, **others: list[Any]) -> ScriptedServer:
        script = {"/1": list(answers)} | {f"/{name.removeprefix('p')}": list(more) for name, more in others.items()}
        running.append(ScriptedServer(script))
        return running[-1]

    yield server
    for one in running:
        one.close()
    assert not [error for one in running for error in one.errors]


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Pauses that the transport would have made."""
    made: list[float] = []
    monkeypatch.setattr("tasks.sources.transport.time.sleep", made.append)
    return made


@pytest.fixture
def pages(tmp_path: Path) -> PageFolder:
    return PageFolder(tmp_path / "pages")


def names(server: ScriptedServer, pages: PageFolder, **patience: Any) -> tuple[list[str], dict[str, int]]:
    """Return the rows of a server's list and the counts of the walk."""
    service = ListService(server.url, {"x-api-key": KEY})
    addresses, counts = read_all(service, pages, Patience(**patience))
    return [str(row["material_id"]) for row in service.rows(documents(pages, addresses))], counts


def failure(kind: type[Exception], server: ScriptedServer, pages: PageFolder, **patience: Any) -> str:
    """Return the one line that a walk ends with."""
    with pytest.raises(kind) as caught:
        names(server, pages, **patience)
    assert "\n" not in str(caught.value)
    assert KEY.encode() not in cloudpickle.dumps((repr(caught.value), caught.value.args))
    return str(caught.value).replace(server.url, "HOST")


# Waiting


def test_a_rate_limit_in_seconds_is_waited_for(start: Start, pages: PageFolder, pauses: list[float]) -> None:
    server = start((429, {"Retry-After": "17"}, b"{}"), SOUND)
    assert names(server, pages) == (["a", "b"], {"requests": 2, "repeated": 1, "from_checkpoint": 0})
    (pause,) = pauses
    assert 17.0 <= pause <= 17.5


@pytest.mark.parametrize("status", [429, 503])
def test_a_rate_limit_as_a_date_is_waited_for(
    start: Start, pages: PageFolder, pauses: list[float], status: int
) -> None:
    server = start(lambda: (status, {"Retry-After": formatdate(time.time() + 40, usegmt=True)}, b""), SOUND)
    assert names(server, pages)[0] == ["a", "b"]
    (pause,) = pauses
    assert 38.0 <= pause <= 40.5


@pytest.mark.parametrize("text", ["-5", "soon", "", "nan", "Thu, 01 Jan 1970 00:00:00 GMT", "0"])
def test_a_retry_after_of_no_use_is_an_ordinary_pause(
    start: Start, pages: PageFolder, pauses: list[float], text: str
) -> None:
    server = start((429, {"Retry-After": text}, b""), SOUND)
    assert names(server, pages)[0] == ["a", "b"]
    (pause,) = pauses
    assert 1.0 <= pause <= 1.5


def test_pauses_grow_up_to_the_longest_and_have_jitter(start: Start, pages: PageFolder, pauses: list[float]) -> None:
    server = start(*[(500, {}, b"")] * 9, SOUND)
    assert names(server, pages, attempts=10, first_pause_s=2.0, longest_pause_s=30.0)[0] == ["a", "b"]
    lowest = [2.0, 4.0, 8.0, 16.0, 30.0, 30.0, 30.0, 30.0, 30.0]
    assert len(pauses) == len(lowest)
    assert all(low <= pause <= 1.5 * low for low, pause in zip(lowest, pauses, strict=True))
    assert len(set(pauses[4:])) == 5


@given(
    st.integers(0, 60), st.floats(0, 100), st.floats(0, 1000), st.one_of(st.none(), st.floats(0, 900))
)  # fmt: skip
def test_every_pause_is_within_its_bounds(attempt: int, first: float, longest: float, wait: float | None) -> None:
    service = ListService("http://127.0.0.1:1")
    patience = Patience(first_pause_s=first, longest_pause_s=longest)
    transport = Transport(service, None, Ledger(), patience)  # type: ignore[arg-type]
    pause = transport.pause(attempt, wait)
    plain = min(first * 2.0**attempt, longest)
    assert max(plain, wait or 0.0) <= pause <= max(plain, wait or 0.0) + 0.5 * plain


def test_a_wait_that_is_too_long_ends_the_walk(start: Start, pages: PageFolder, pauses: list[float]) -> None:
    server = start((429, {"Retry-After": "86400"}, b""), SOUND)
    text = "the list asks to wait 86400 s; run again then: the pages are kept"
    assert failure(SourceError, server, pages, longest_wait_s=900.0) == text
    assert pauses == []
    assert names(server, pages)[0] == ["a", "b"]


# Giving up


REFUSALS = {
    400: "the list refuses the query (status 400 at HOST/1): no such field",
    401: "the list does not accept the key; check it (status 401 at HOST/1)",
    403: "the list does not allow this; check the key, or whether this address is blocked (status 403 at HOST/1)",
    404: "the list refuses the query (status 404 at HOST/1): no such field",
    422: "the list refuses the query (status 422 at HOST/1): no such field",
}


@pytest.mark.parametrize("status", REFUSALS)
def test_a_refusal_ends_the_walk_at_once(start: Start, pages: PageFolder, pauses: list[float], status: int) -> None:
    server = start((status, {}, b"no such\n\n   field"), SOUND)
    assert failure(InputError, server, pages) == REFUSALS[status]
    assert server.asked == ["/1"]
    assert pauses == []


def test_a_move_is_not_followed(start: Start, pages: PageFolder) -> None:
    """The key would go with it."""
    other = start(SOUND)
    server = start((301, {"Location": other.url + "/1"}, b""), SOUND)
    text = f"the list has moved from HOST/1 to {other.url}/1; give that as the endpoint"
    assert failure(InputError, server, pages) == text
    assert other.asked == []


def test_exhausted_tries_end_in_one_line_and_keep_the_pages(
    start: Start, pages: PageFolder, pauses: list[float]
) -> None:
    server = start(page("a", following="/2"), p2=[(502, {}, b""), (503, {}, b""), (500, {}, b"")])
    text = "the list did not answer soundly in 3 tries (last: status 500) at HOST/2; "
    assert failure(SourceError, server, pages, attempts=3) == text + "run again later: the pages read so far are kept"
    assert server.asked == ["/1", "/2", "/2", "/2"]
    assert len(pauses) == 2
    server.script["/2"] = [page("b")]
    assert names(server, pages) == (["a", "b"], {"requests": 1, "repeated": 0, "from_checkpoint": 1})
    assert server.asked[4:] == ["/2"]


def test_a_server_that_is_not_there(pages: PageFolder, pauses: list[float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as place:
        port = place.getsockname()[1]
    with pytest.raises(SourceError, match=rf"in 2 tries \(last: ConnectionError: .*127\.0\.0\.1:{port}/1; run again"):
        read_all(ListService(f"http://127.0.0.1:{port}"), pages, Patience(attempts=2))


def test_silence_ends_in_a_time_out(start: Start, pages: PageFolder) -> None:
    quiet = socket.create_server(("127.0.0.1", 0))
    with quiet:
        service = ListService(f"http://127.0.0.1:{quiet.getsockname()[1]}")
        began = time.monotonic()
        with pytest.raises(SourceError, match=r"in 2 tries \(last: ReadTimeout: "):
            read_all(service, pages, Patience(attempts=2, first_pause_s=0.0, read_timeout_s=0.2))
    assert 0.4 <= time.monotonic() - began < 3.0


@pytest.mark.parametrize("last", ["/1", "/2", "/3"])
def test_pages_in_a_circle_end_in_one_line(start: Start, pages: PageFolder, pauses: list[float], last: str) -> None:
    server = start(page("a", following="/2"), p2=[page("b", following="/3")], p3=[page("c", following=last)])
    assert (
        failure(SourceError, server, pages) == f"the pages of the list run in a circle at HOST{last}; run again later"
    )
    assert len(server.asked) < 3 * 3 * Patience.doubts + 1


def test_a_circle_that_was_an_error_is_left(start: Start, pages: PageFolder, pauses: list[float]) -> None:
    server = start(page("a", following="/2"), p2=[page("b", following="/1"), page("b", following="/3")], p3=[page("c")])
    assert names(server, pages)[0] == ["a", "b", "c"]


def test_a_list_that_never_fits_together(start: Start, pages: PageFolder, pauses: list[float]) -> None:
    server = start(page("a", total=3, following="/2"), p2=[page("a", total=3)])
    text = f"the list changed while it was read, {ROUNDS} times over; run again when nobody writes to it"
    assert failure(SourceError, server, pages) == text
    server.script |= {"/2": [page("b", "c", total=3)]}
    assert names(server, pages)[0] == ["a", "b", "c"]


def test_a_wrong_total_on_the_last_page_does_not_stay(start: Start, pages: PageFolder) -> None:
    server = start(page("a", total=2, following="/2"), p2=[page("b", total=3), page("b", total=2)])
    assert names(server, pages)[0] == ["a", "b"]


# The checkpoint


def test_what_was_read_is_not_asked_for_again(start: Start, pages: PageFolder) -> None:
    server = start(page("a", following="/2"), p2=[page("b", following="/3")], p3=[page("c")])
    first, counts = names(server, pages)
    assert counts == {"requests": 3, "repeated": 0, "from_checkpoint": 0}
    again, counts = names(server, PageFolder(pages.folder))
    assert again == first == ["a", "b", "c"]
    assert counts == {"requests": 0, "repeated": 0, "from_checkpoint": 3}
    assert server.asked == ["/1", "/2", "/3"]


def test_progress_counts_replayed_pages_too(start: Start, pages: PageFolder) -> None:
    server = start(page("a", "b", total=3, following="/2"), p2=[page("c", total=3)])
    for _ in range(2):
        on_page = Mock()
        read_all(ListService(server.url), pages, Patience(), on_page=on_page)
        assert on_page.call_args_list == [call(2, 3), call(3, 3)]


def test_a_damaged_page_is_asked_for_again(start: Start, pages: PageFolder) -> None:
    server = start(page("a", following="/2"), p2=[page("b")])
    names(server, pages)
    for path in pages.folder.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    assert names(server, pages) == (["a", "b"], {"requests": 2, "repeated": 0, "from_checkpoint": 0})


def test_a_kept_page_that_is_no_page_any_more_is_asked_for_again(start: Start, pages: PageFolder) -> None:
    """An earlier version of the program may have kept what this one does not take."""
    server = start(SOUND)
    for body in (b'{"detail": "sorry"}', b"[]", b"<html>"):
        pages.write(server.url + "/1", body)
        assert names(server, pages)[0] == ["a", "b"]
    assert server.asked == ["/1", "/1", "/1"]


SPOILT = {
    "html": HTML,
    "cut json": (200, {}, SOUND[2][:-10]),
    "empty": (200, {}, b""),
    "another object": (200, {}, b'{"detail": "sorry"}'),
    "a list": (200, {}, b"[1, 2]"),
    "cut body": (200, {"Content-Length": str(len(SOUND[2]) + 10)}, SOUND[2]),
    "error page": (500, {}, SOUND[2]),
}


@pytest.mark.parametrize("answer", SPOILT.values(), ids=SPOILT)
def test_no_unsound_answer_is_kept(start: Start, pages: PageFolder, pauses: list[float], answer: Any) -> None:
    server = start(answer)
    text = failure(SourceError, server, pages, attempts=4)
    assert text.startswith("the list did not answer soundly in 4 tries (last: ")
    assert len(server.asked) == 4
    assert len(pages) == 0
    server.script["/1"] = [answer, SOUND]
    assert names(server, pages)[0] == ["a", "b"]
    assert pages.read(server.url + "/1") == SOUND[2]


def test_the_key_is_sent_and_not_kept(start: Start, pages: PageFolder) -> None:
    server = start(SOUND)
    names(server, pages)
    assert server.headers[0]["x-api-key"] == KEY
    assert not [path for path in pages.folder.iterdir() if KEY.encode() in path.read_bytes()]


# Gate and clients


def test_every_request_goes_through_the_gate(start: Start, pages: PageFolder, pauses: list[float]) -> None:
    entered: list[str] = []

    class Gate:
        def __enter__(self) -> None:
            entered.append("in")

        def __exit__(self, *_: object) -> None:
            entered.append("out")

    server = start((500, {}, b""), HTML, page("a", following="/2"), p2=[page("b")])
    read_all(ListService(server.url), pages, Patience(), Gate)
    assert entered == ["in", "out"] * 4
    entered.clear()
    read_all(ListService(server.url), pages, Patience(), Gate)
    assert entered == []


def test_a_client_that_swallows_errors_does_not_hide_them(start: Start, pages: PageFolder) -> None:
    class Careless(ListService):
        def walk(self, transport: Transport) -> None:
            try:
                super().walk(transport)
            except Exception:
                return

    class Clumsy(ListService):
        def walk(self, transport: Transport) -> None:
            try:
                super().walk(transport)
            except Exception as error:
                raise KeyError("data") from error

    server = start((401, {}, b""))
    for service in (Careless(server.url), Clumsy(server.url)):
        with pytest.raises(InputError, match="does not accept the key"):
            read_all(service, pages, Patience())


def test_a_client_that_gives_up_on_its_own(start: Start, pages: PageFolder) -> None:
    class Broken(ListService):
        def walk(self, transport: Transport) -> None:
            raise RuntimeError("no\nidea")

    with pytest.raises(SourceError, match=r"^the client of the list gave up \(no idea\)$"):
        read_all(Broken(start(SOUND).url), pages, Patience())


def test_sessions_that_a_client_makes_itself_are_patient_too(
    start: Start, pages: PageFolder, pauses: list[float]
) -> None:
    server = start((500, {}, b""), SOUND)
    transport = Transport(ListService(server.url), pages, Ledger(), Patience())
    with transport.session_class()() as session:
        assert isinstance(session, requests.Session)
        assert session.get(server.url + "/1").json() == {"next": None}
    assert transport.counts == {"requests": 2, "repeated": 1, "from_checkpoint": 0}
