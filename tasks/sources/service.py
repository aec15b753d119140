"""What all services have in common, and how one is read to its end."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator
from typing import Any, Protocol

import orjson

from models.errors import InputError
from storage.pages import PageFolder
from storage.scheme import EnergyScheme
from tasks.sources.errors import SourceError
from tasks.sources.ledger import Ledger
from tasks.sources.transport import Gate, OnPage, PageReader, Patience, Transport

logger = logging.getLogger(__name__)

#: Walks through the pages of a service before it is said to change too much to be read.
ROUNDS = 6

RawRow = dict[str, Any]
"""One row with our column names. ``_reason``: why it cannot be used; ``_same_as``: the row that it repeats."""


class Service(PageReader, Protocol):
    """A database that is read page by page through its own client."""

    #: fields without which a row is of no use
    vital: frozenset[str]
    #: requests per second, and requests at once, that the service bears
    requests_per_second: float
    concurrency: int

    def snapshot(self, transport: Transport) -> str:
        """Return the state of the database that is read: its version, or the day."""

    def scheme(self, snapshot: str) -> EnergyScheme:
        """Return the scheme of the service's energies."""

    def walk(self, transport: Transport) -> None:
        """Let the service's client go through all pages."""

    def rows(self, documents: Iterator[Any]) -> Iterator[RawRow]:
        """Turn the pages of a finished walk into rows."""


def read_all(
    service: Service,
    pages: PageFolder,
    patience: Patience,
    gate: Gate = contextlib.nullcontext,
    on_page: OnPage | None = None,
) -> tuple[list[str], dict[str, int]]:
    """Read a service to its end, so that every row is there once.

    Returns
    -------
    addresses, counts
        Addresses of the pages, in order, all of them in `pages`; and how often the service was asked.

    Raises
    ------
    SourceError
        When the service does not answer soundly, or changes as it is read again and again.
    InputError
        When it refuses the key or the query.
    """
    counts: dict[str, int] = {}
    for _ in range(ROUNDS):
        ledger = Ledger(service.vital)
        transport = Transport(service, pages, ledger, patience, gate, on_page)
        try:
            service.walk(transport)
        except Exception as error:  # clients raise errors of every kind, and wrap those of the transport
            if transport.failure is not None:
                raise transport.failure from None
            if isinstance(error, SourceError | InputError):
                raise
            raise SourceError(f"the client of {service.name} gave up ({' '.join(str(error).split())[:200]})") from None
        finally:
            for name, n in transport.counts.items():
                counts[name] = counts.get(name, 0) + n
        if transport.failure is not None:  # a client may swallow what ended it
            raise transport.failure
        suspects = ledger.audit()
        if not suspects:
            return ledger.addresses, counts
        logger.info("%s: %d pages do not fit together; reading them again", service.name, len(suspects))
        for address in suspects:
            pages.drop(address)
    raise SourceError(
        f"{service.name} changed while it was read, {ROUNDS} times over; run again when nobody writes to it"
    )


def documents(pages: PageFolder, addresses: list[str]) -> Iterator[Any]:
    """Yield the documents of pages that were read."""
    for address in addresses:
        body = pages.read(address)
        if body is None:
            raise SourceError(f"the page of {address} was lost after it was read; run again")
        yield orjson.loads(body)
