"""What the screening benchmark's parts share: measuring in turns, tables, and a section of a page."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

Work = Callable[[], float]
"""Does something and returns how many units of it: compositions, systems or FLOP."""

Speeds = dict[str, list[float]]
"""Units per second by name, one number per round."""


@dataclass(frozen=True)
class Turns:
    """What was measured in turns.

    Attributes
    ----------
    wall
        Units per second of the clock on the wall: what counts.
    processor
        Units per second that this process had a core. On an idle machine it says the same; the more the two differ,
        the more did other work disturb.
    running
        Share of the time that this process had a core.
    """

    wall: Speeds
    processor: Speeds
    running: float

    def median(self, name: str) -> float:
        """Return the median speed of one work."""
        return statistics.median(self.wall[name])

    def ratio(self, ours: str, theirs: str, factor: float = 1.0) -> float:
        """Return the median of the rounds' ratios: what slows a whole round down cancels."""
        return statistics.median(ratios(self.wall[ours], self.wall[theirs])) * factor

    def said(self, ours: str, theirs: str, factor: float = 1.0) -> str:
        """Return the ratio as text, with the rounds' lowest and highest, and by processor time."""
        text = spread(self.wall[ours], self.wall[theirs], factor)
        processor = statistics.median(ratios(self.processor[ours], self.processor[theirs])) * factor
        return f"{text}, by processor time {processor:.2f}"


def in_turns(works: Mapping[str, Work], rounds: int) -> Turns:
    """Run every work once per round, one after the other (A B C A B C ...).

    Parameters
    ----------
    works
        By name; each is run once before, unmeasured. They run in this process, on one thread.
    rounds
        How often each is measured.

    Returns
    -------
    Turns
        Units per second by name, one number per round.
    """
    for work in works.values():
        work()
    wall: Speeds = {name: [] for name in works}
    processor: Speeds = {name: [] for name in works}
    elapsed = had = 0.0
    for _ in range(rounds):
        for name, work in works.items():
            started, had_before = time.perf_counter(), time.process_time()
            units = work()
            seconds, core_seconds = time.perf_counter() - started, time.process_time() - had_before
            wall[name].append(units / seconds)
            processor[name].append(units / core_seconds)
            elapsed, had = elapsed + seconds, had + core_seconds
    return Turns(wall, processor, had / elapsed)


def ratios(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    """Return the ratio of every round."""
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def spread(ours: Sequence[float], theirs: Sequence[float], factor: float = 1.0) -> str:
    """Return the median of the rounds' ratios times a factor as text, with the lowest and the highest."""
    each = [value * factor for value in ratios(ours, theirs)]
    return f"{statistics.median(each):.2f} ({min(each):.2f} to {max(each):.2f})"


def table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def section_of(page: str, title: str) -> str:
    """Return a section of a Markdown page from its ``## title`` to the next one; empty where there is none."""
    kept: list[str] = []
    inside = False
    for line in page.splitlines(keepends=True):
        if line.startswith("## "):
            inside = line.strip() == f"## {title}"
        if inside:
            kept.append(line)
    return "".join(kept).rstrip() + "\n" if kept else ""


def with_section(page: str, title: str, text: str) -> str:
    """Return the page with its section ``## title`` replaced by `text`, or with `text` at its end.

    Parameters
    ----------
    page
        Markdown.
    title
        Of the section.
    text
        The new section, its heading included.
    """
    old = section_of(page, title)
    if not old:
        return f"{page.rstrip()}\n\n{text.rstrip()}\n"
    before, _, after = page.partition(old.rstrip())
    following = after.strip()
    return f"{before}{text.rstrip()}\n" + (f"\n{following}\n" if following else "")


def with_others(page: str, old: str, ours: Sequence[str] = ()) -> str:
    """Return a new page with the sections of the old one that other benchmarks wrote, in their order.

    Parameters
    ----------
    page, old
        Markdown.
    ours
        Titles of the sections that belong to the new page: the old page's are left away.
    """
    titles = [line.removeprefix("## ").strip() for line in old.splitlines() if line.startswith("## ")]
    for title in titles:
        if title not in ours:
            page = with_section(page, title, section_of(old, title))
    return page


def write_section(path: Path, title: str, text: str) -> None:
    """Write a section into a page, leaving its other sections as they are; a new page gets a title first."""
    page = path.read_text() if path.exists() else "# Benchmarks\n"
    path.write_text(with_section(page, title, text))
