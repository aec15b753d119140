"""What can go wrong between a client and a database, and schedules of it."""

from __future__ import annotations

import enum
import random
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass


class Fault(enum.Enum):
    """A way for one request to fail."""

    RATE_LIMIT = "429 with Retry-After"
    INTERNAL = "500"
    UNAVAILABLE = "503, with Retry-After or without"
    RESET = "connection reset before any answer"
    HANG = "no answer until the client gives up"
    TRUNCATED = "connection closed before the promised length"
    TRUNCATED_JSON = "half of a body, as if it were whole"
    HTML = "a page for people, with status 200"
    DUPLICATED = "the page before this one"
    SHIFTED = "a page moved by a few rows, as if others had been inserted or deleted"
    MISSING_FIELD = "one field of one record is not there"
    CHANGED_TYPE = "one value of one record has another type"


LOUD = (
    Fault.RATE_LIMIT, Fault.INTERNAL, Fault.UNAVAILABLE, Fault.RESET, Fault.TRUNCATED, Fault.TRUNCATED_JSON, Fault.HTML,
)  # fmt: skip
"""Faults that a client can see from one answer alone, without waiting for it."""
SILENT = (Fault.DUPLICATED, Fault.SHIFTED, Fault.MISSING_FIELD, Fault.CHANGED_TYPE)
"""Faults in answers that look sound on the wire."""


@dataclass(frozen=True)
class Draw:
    """What befalls one request: the fault, and where its details come from (same request, same details)."""

    fault: Fault | None
    random: random.Random


class Schedule:
    """Decides on the fault of each request from its path with query and how often that was asked for before.

    A schedule counts, so every proxy needs one of its own. See the constructors `none`, `always`, `scripted` and
    `seeded`.
    """

    def __init__(self, choose: Callable[[str, int, random.Random], Fault | None], seed: int = 0) -> None:
        self._choose = choose
        self._seed = seed
        self._asked: Counter[str] = Counter()
        self._lock = threading.Lock()

    def draw(self, target: str) -> Draw:
        """Return what befalls the next request for a path with query."""
        with self._lock:  # `choose` may count too
            self._asked[target] += 1
            asked = self._asked[target]
            # text seeds are the same in every process, unlike hashes of text
            source = random.Random(f"{self._seed} {asked} {target}")
            return Draw(self._choose(target, asked, source), source)

    @classmethod
    def none(cls) -> Schedule:
        """No faults."""
        return cls(lambda target, asked, source: None)

    @classmethod
    def always(cls, fault: Fault, match: str = "", seed: int = 0) -> Schedule:
        """One fault for every request whose path with query contains a text."""
        return cls(lambda target, asked, source: fault if match in target else None, seed)

    @classmethod
    def scripted(cls, faults: Sequence[Fault | None], match: str = "", seed: int = 0) -> Schedule:
        """One fault, or None, for each of the first requests that contain a text; none for those after them."""
        left = iter(tuple(faults))
        return cls(lambda target, asked, source: next(left, None) if match in target else None, seed)

    @classmethod
    def seeded(
        cls,
        seed: int,
        rate: float = 0.3,
        faults: Sequence[Fault] = LOUD,
        max_consecutive: int = 3,
        match: str = "",
    ) -> Schedule:
        """Faults drawn by a seed: neither the port nor the order of different requests changes them.

        Parameters
        ----------
        seed : int
            Same seed, same faults.
        rate : float
            Share of the requests that fail.
        faults : sequence of Fault
            Which ones may happen, all as often.
        max_consecutive : int
            Most faults in a row that one path with query meets.
        match : str
            Only requests that contain this text fail.
        """
        row: Counter[str] = Counter()
        kinds = tuple(faults)

        def choose(target: str, asked: int, source: random.Random) -> Fault | None:
            fails = source.random() < rate
            kind = source.choice(kinds)
            if not fails or match not in target or row[target] >= max_consecutive:
                row[target] = 0
                return None
            row[target] += 1
            return kind

        return cls(choose, seed)
