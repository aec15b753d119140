"""How clients of services reach them: patiently, politely, and never twice for the same page.

The transport is an adapter of `requests`, below whatever client speaks to the service (`MPRester`, `OptimadeClient`),
so that every client gets the same care: a rate limit, growing pauses with jitter on 429, 5xx, time-outs, resets and cut
bodies, a look at every answer before the client sees it, and a checkpoint per page.
"""

from __future__ import annotations

import contextlib
import email.utils
import io
import logging
import random
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import orjson
import requests
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict

from models.errors import InputError
from storage.pages import PageFolder
from tasks.sources.errors import SourceError
from tasks.sources.ledger import Ledger, PageFacts

logger = logging.getLogger(__name__)

Gate = Callable[[], AbstractContextManager[Any]]
"""Entered for every request that goes out: where a rate or concurrency limit waits."""

OnPage = Callable[[int, int], None]
"""Called after every page with the rows so far and the rows in all."""

_MOST_VISITS = 3

_REFUSED = {
    401: "does not accept the key; check it",
    403: "does not allow this; check the key, or whether this address is blocked",
}


@dataclass(frozen=True)
class Patience:
    """How long a service is borne with.

    Attributes
    ----------
    attempts
        Requests for one page before giving up.
    doubts
        Requests for one page that looks odd but is an answer, before it is taken as it is.
    first_pause_s, longest_pause_s
        Pauses grow from the first by doubling, up to the longest, each with up to half of it added at random.
    longest_wait_s
        The longest Retry-After that is waited for.
    connect_timeout_s, read_timeout_s
        Longest silence while connecting and while reading.
    """

    attempts: int = 8
    doubts: int = 5
    first_pause_s: float = 1.0
    longest_pause_s: float = 60.0
    longest_wait_s: float = 900.0
    connect_timeout_s: float = 10.0
    read_timeout_s: float = 120.0


class PageReader(Protocol):
    """What the transport has to know of a service to look at its pages."""

    name: str

    def facts(self, address: str, document: Any) -> PageFacts | None:
        """Return what a page says; None for an answer that is no page of rows; ValueError for a spoilt one."""

    def slim(self, document: Any) -> Any:
        """Return the document with of each row no more than the client needs for paging: memory stays small."""


class _Unsound(Exception):
    """An answer that another request may mend; `wait_s` is what the service asked for."""

    def __init__(self, reason: str, wait_s: float | None = None) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


class Transport(HTTPAdapter):
    """The adapter that a client's session is mounted with.

    Parameters
    ----------
    reader
        Looks at the answers.
    pages
        Keeps the pages.
    ledger
        Pages of this walk.
    patience, gate, on_page
        See there.

    Attributes
    ----------
    failure
        The error that ended a request for good, for clients that swallow exceptions.
    counts
        How many requests went out, how often one was repeated, and how many pages were in the folder already.
    """

    def __init__(
        self,
        reader: PageReader,
        pages: PageFolder,
        ledger: Ledger,
        patience: Patience,
        gate: Gate = contextlib.nullcontext,
        on_page: OnPage | None = None,
    ) -> None:
        super().__init__(max_retries=0)
        self.reader = reader
        self.pages = pages
        self.ledger = ledger
        self.patience = patience
        self.gate = gate
        self.on_page = on_page
        self.failure: Exception | None = None
        self._visits: dict[str, int] = {}
        self.counts = {"requests": 0, "repeated": 0, "from_checkpoint": 0}

    def session(self, headers: Mapping[str, str] | None = None) -> requests.Session:
        """Return a session that goes through this transport."""
        session = requests.Session()
        self.mount_on(session)
        session.headers.update(headers or {})
        return session

    def mount_on(self, session: requests.Session) -> None:
        """Make a session go through this transport, and through no proxy of the environment for loopback."""
        session.mount("http://", self)
        session.mount("https://", self)

    def session_class(self) -> type[requests.Session]:
        """Return a class of sessions that go through this transport, for clients that make their own."""
        transport = self

        class PatientSession(requests.Session):
            def __init__(self) -> None:
                super().__init__()
                transport.mount_on(self)

        return PatientSession

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        """Answer a request: from the checkpoint, or from the service once it answers soundly.

        Raises
        ------
        SourceError
            When patience is at its end.
        InputError
            When the service refuses the key or the query.
        """
        address = request.url or ""
        try:
            # a page that the client wants twice in one walk led it in a circle, so it is asked for anew
            body = None if address in self.ledger else self.pages.read(address)
            document = None if body is None else self._replay(address, body)
            return _response(request, self._ask(request, address, **options) if document is None else document)
        except (SourceError, InputError) as error:
            self.failure = error
            raise

    def _replay(self, address: str, body: bytes) -> Any:
        try:
            document, facts = self._look(address, body)
        except _Unsound:  # an earlier version of this program took it
            return None
        if facts is None:
            return None
        self.counts["from_checkpoint"] += 1
        return self._accepted(address, facts, document)

    def _accepted(self, address: str, facts: PageFacts, document: Any) -> Any:
        self._visits[address] = self._visits.get(address, 0) + 1
        if self._visits[address] > _MOST_VISITS:
            self.pages.drop(address)
            raise SourceError(f"the pages of {self.reader.name} run in a circle at {address}; run again later")
        self.ledger.accept(address, facts)
        if self.on_page is not None:
            self.on_page(self.ledger.n_rows, self.ledger.total)
        return self.reader.slim(document)

    def _ask(self, request: requests.PreparedRequest, address: str, **options: Any) -> Any:
        doubts, reason = 0, ""
        for attempt in range(self.patience.attempts):
            if attempt:
                self.counts["repeated"] += 1
            try:
                body = self._get(request, **options)
                document, facts = self._look(address, body)
                doubt = None if facts is None else self.ledger.doubt(address, facts)
                doubts += doubt is not None
                if doubt is not None and doubts < self.patience.doubts and attempt + 1 < self.patience.attempts:
                    raise _Unsound(doubt)
            except _Unsound as error:
                reason = str(error)
                if attempt + 1 < self.patience.attempts:
                    pause = self.pause(attempt, error.wait_s)
                    # one failure is nothing; whoever waits for longer wants to know why
                    level = logging.WARNING if attempt else logging.INFO
                    logger.log(level, "%s: %s; asking again in %.0f s", self.reader.name, reason, pause)
                    time.sleep(pause)
                continue
            if facts is None:
                return document
            if doubt is not None:
                logger.warning("%s: %s, %d times; taken as it is", self.reader.name, doubt, doubts)
            self.pages.write(address, body)
            return self._accepted(address, facts, document)
        raise SourceError(
            f"{self.reader.name} did not answer soundly in {self.patience.attempts} tries (last: {reason}) "
            f"at {address}; run again later: the pages read so far are kept"
        )

    def pause(self, attempt: int, wait_s: float | None = None) -> float:
        """Return the seconds to wait after a failed attempt, counted from 0; `wait_s` is what the service asks for."""
        pause = min(self.patience.first_pause_s * 2.0**attempt, self.patience.longest_pause_s)
        # jitter: workers that were turned away together must not come back together
        return float(max(pause, wait_s or 0.0) + random.uniform(0.0, 0.5 * pause))

    def _get(self, request: requests.PreparedRequest, **options: Any) -> bytes:
        """Return the body of a sound 200, or raise what came instead."""
        options |= {"timeout": (self.patience.connect_timeout_s, self.patience.read_timeout_s), "stream": False}
        try:
            with self.gate():
                self.counts["requests"] += 1
                response = super().send(request, **options)
                body = response.content
        except (requests.RequestException, OSError) as error:
            # without its cause: the exception carries the request, and that the key
            raise _Unsound(_short(error)) from None
        if response.status_code == 200:
            return bytes(body)
        self._refuse(response)
        wait_s = _retry_after(response.headers.get("Retry-After"))
        if wait_s is not None and wait_s > self.patience.longest_wait_s:
            raise SourceError(f"{self.reader.name} asks to wait {wait_s:.0f} s; run again then: the pages are kept")
        raise _Unsound(f"status {response.status_code}", wait_s)

    def _refuse(self, response: requests.Response) -> None:
        """Raise InputError for an answer that no other try can mend."""
        status = response.status_code
        if status in _REFUSED:
            raise InputError(f"{self.reader.name} {_REFUSED[status]} (status {status} at {response.url})")
        if status in (301, 302, 303, 307, 308):  # not followed: another host shall not see the key
            place = response.headers.get("Location", "another address")
            raise InputError(f"{self.reader.name} has moved from {response.url} to {place}; give that as the endpoint")
        if 400 <= status < 500 and status not in (408, 425, 429):
            said = " ".join(response.text.split())[:200]
            raise InputError(f"{self.reader.name} refuses the query (status {status} at {response.url}): {said}")

    def _look(self, address: str, body: bytes) -> tuple[Any, PageFacts | None]:
        """Return the document and what it says; a body that is none is unsound, not an error."""
        try:
            document = orjson.loads(body)
        except ValueError:
            start = " ".join(body[:60].decode(errors="replace").split())
            raise _Unsound(f"not JSON but '{start}...'") from None
        try:
            return document, self.reader.facts(address, document)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise _Unsound(f"not a page as it should be ({_short(error)})") from None


def _response(request: requests.PreparedRequest, document: Any) -> requests.Response:
    """Return a document as the answer that a client expects."""
    response = requests.Response()
    response.status_code = 200
    response.reason = "OK"
    response.url = request.url or ""
    response.request = request
    response.encoding = "utf-8"
    response.headers = CaseInsensitiveDict({"Content-Type": "application/json"})
    response.raw = io.BytesIO(orjson.dumps(document))
    return response


def _retry_after(text: str | None) -> float | None:
    """Return what a Retry-After header says in seconds: it is a number or a date."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        return max(0.0, float(text))
    with contextlib.suppress(ValueError, TypeError):
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    return None


def _short(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:120]}"
