"""What the terminal, or a log file in its place, says while a flow runs."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from deployments.display import LINES_PER_RUN, FlowDisplay


def progress(done: int, total: int = 1000, *, is_whole: bool = True, elapsed: float = 10.0) -> dict[str, Any]:
    return {
        "event": "progress", "id": "a", "label": "screen", "done": done, "total": total, "unit": "compositions",
        "message": "", "elapsed_s": elapsed, "is_whole": is_whole,
    }  # fmt: skip


def shown(events: list[dict[str, Any]], *, terminal: bool = False) -> list[str]:
    text = io.StringIO()
    display = FlowDisplay(Console(file=text, force_terminal=terminal, width=200))
    for event in events:
        display.handle(event)
    return text.getvalue().splitlines()


def test_a_log_gets_a_line_now_and_then_with_rate_and_time_left() -> None:
    lines = shown([progress(done, elapsed=done / 10) for done in range(1, 1001)])
    assert len(lines) == LINES_PER_RUN - 1
    assert lines[0].startswith("  screen: 50 of 1,000 compositions, ")
    assert lines[-1].startswith("  screen: 950 of 1,000 compositions, ")
    assert all(line.endswith(" left") for line in lines)


def test_the_first_rate_is_that_since_the_start() -> None:
    (line,) = shown([progress(250, elapsed=10.0)])
    assert line == "  screen: 250 of 1,000 compositions, 25/s, 0:00:30 left"


def test_what_the_work_says_of_itself_goes_before_its_rate() -> None:
    (line,) = shown([progress(250, elapsed=10.0) | {"message": "MAE 0.05 eV/atom"}])
    assert line == "  screen: 250 of 1,000 compositions, MAE 0.05 eV/atom, 0:00:30 left"


def test_a_terminal_has_bars_and_single_tasks_have_no_lines() -> None:
    assert shown([progress(done) for done in (100, 500)], terminal=True) == []
    assert shown([progress(done, is_whole=False) for done in (100, 500)]) == []


def test_blocks_are_counted_and_said_once() -> None:
    part = {"event": "stage", "key": "k", "stage": "s", "kind": "candidates_part", "elapsed_s": 1.0}
    merged = {"event": "stage", "key": "candidates-1", "stage": "s", "kind": "candidates", "state": "built"}
    lines = shown([part | {"state": "built"}] * 2 + [part | {"state": "cached"}, merged | {"elapsed_s": 2.0}])
    assert lines == [
        "✓ screen: blocks            2 computed, 1 stored",
        "✓ screen: merge                  2.0 s  candidates-1",
    ]
