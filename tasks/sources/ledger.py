"""What a walk through a service's pages has seen, and which of its pages cannot be right.

Services answer with pages of a list that may move while it is read, and with pages that belong to another request.
Both show in the identifiers: a row on two pages, a page too short, a total that changed. The ledger sees to it that
the table is complete without trusting any single answer.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class PageFacts:
    """What one page says of itself.

    Attributes
    ----------
    ids
        Identifiers of its rows, in its order.
    group
        The list that the page is a part of; a service may be asked for several.
    total
        Rows in the whole list, where the service says so.
    expected
        Rows that this page should have, where that is known.
    next_address
        Where the page says that the list goes on.
    missing
        Names of fields that were asked for and are absent, or of a type they cannot have, in at least one row.
    """

    ids: tuple[str, ...]
    group: str
    total: int | None = None
    expected: int | None = None
    next_address: str | None = None
    missing: frozenset[str] = frozenset()


class Ledger:
    """The pages of one walk, in the order in which they were accepted.

    Parameters
    ----------
    vital
        Fields without which a row is of no use: their absence is doubted on every page. Other fields are doubted until
        one page has shown that the service does without them.
    """

    def __init__(self, vital: frozenset[str] = frozenset()) -> None:
        self._vital = vital
        self._pages: dict[str, PageFacts] = {}
        self._seen: dict[tuple[str, str], str] = {}
        self._absent: set[str] = set()

    @property
    def addresses(self) -> list[str]:
        """Addresses of the accepted pages, in order."""
        return list(self._pages)

    @property
    def n_rows(self) -> int:
        """Rows accepted so far."""
        return sum(len(page.ids) for page in self._pages.values())

    @property
    def total(self) -> int:
        """Rows that all lists seen so far hold, as far as their services say so."""
        totals = {page.group: page.total for page in self._pages.values() if page.total is not None}
        return max(sum(totals.values()), self.n_rows)

    def doubt(self, address: str, page: PageFacts) -> str | None:
        """Return why a page should be asked for again, or None; a doubt that stays may be accepted."""
        if len(set(page.ids)) < len(page.ids):
            return "a row occurs twice on the page"
        for name in page.ids:
            other = self._seen.get((page.group, name))
            if other is not None and other != address:
                return f"row {name} was on another page too"
        if page.expected is not None and len(page.ids) != page.expected:
            return f"the page has {len(page.ids)} rows instead of {page.expected}"
        if page.next_address is not None and (page.next_address == address or page.next_address in self._pages):
            return "the page's next page is one that was read before"
        odd = sorted(page.missing - self._absent)
        if odd:
            return f"no proper {', '.join(odd)} in some row"
        return None

    def accept(self, address: str, page: PageFacts) -> None:
        """Take a page into the walk."""
        self._absent |= page.missing - self._vital
        before = self._pages.get(address)
        if before is not None:
            for name in before.ids:
                if self._seen.get((before.group, name)) == address:
                    del self._seen[before.group, name]
        self._pages[address] = page
        for name in page.ids:
            self._seen.setdefault((page.group, name), address)

    def __contains__(self, address: str) -> bool:
        """Whether a page was accepted in this walk."""
        return address in self._pages

    def audit(self) -> set[str]:
        """Return the addresses of pages that cannot all be right: to be asked for again. Empty: the table is complete.

        Rows that occur twice condemn their pages, a wrong number of rows condemns its page, and totals that differ
        condemn the pages with another total than the last, and the last, which may be the one that is wrong. A list
        that is short of rows without such a sign is read again whole, and so is the end of a list that breaks off.
        Totals count only where every page states one.
        """
        suspects: set[str] = set()
        for group in {page.group for page in self._pages.values()}:
            suspects |= _audit([(address, page) for address, page in self._pages.items() if page.group == group])
        return suspects


def _audit(pages: list[tuple[str, PageFacts]]) -> set[str]:
    suspects = set(_doubled(pages))
    total = pages[-1][1].total if all(page.total is not None for _, page in pages) else None
    if pages[-1][1].next_address is not None:
        suspects.add(pages[-1][0])
    distinct = {name for _, page in pages for name in page.ids}
    for address, page in pages:
        if total is not None and page.total != total:
            suspects |= {address, pages[-1][0]}
        if page.expected is not None and len(page.ids) != page.expected:
            suspects.add(address)
    if total is not None and len(distinct) != total and not suspects:
        suspects = {address for address, _ in pages}
    return suspects


def _doubled(pages: list[tuple[str, PageFacts]]) -> Iterable[str]:
    first: dict[str, str] = {}
    for address, page in pages:
        for name in page.ids:
            if name in first:
                yield address
                yield first[name]
            else:
                first[name] = address
