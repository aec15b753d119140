"""What a person sees in the terminal while a flow runs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Lock
from typing import Any

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from tasks.progress import listen

_STAGE_NAMES = {
    "compounds": "ingest",
    "formulas": "ingest known formulas",
    "formula_list": "read formulas",
    "references": "audit references",
    "phases": "clean: phases of the hull",
    "training": "clean: training rows",
    "features": "featurize: fractions",
    "graphs": "featurize: graphs",
    "drift": "compare with the last",
    "attributes": "featurize: attributes",
    "model": "train",
    "predictions": "predict",
    "calibration": "calibrate",
    "precision": "compare with fp32",
    "candidates": "screen: merge",
    "moduli": "predict moduli",
    "ranking": "rank",
    "report": "report",
}

#: Rates and the time left are of the last so many seconds: what a resumed run finds in the store took no time.
RATE_PERIOD_S = 600.0
#: Without a terminal, a long run writes a line after each of so many parts of its work.
LINES_PER_RUN = 20


class FlowDisplay:
    """Bars for what runs, one line for each stage that ended."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bars = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("{task.fields[note]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            speed_estimate_period=RATE_PERIOD_S,
        )
        self._lines: dict[str, int] = {}
        self._running: dict[str, TaskID] = {}
        self._lock = Lock()
        self._parts = {"built": 0, "cached": 0}

    def handle(self, event: dict[str, Any]) -> None:
        """Show one event; called from any thread."""
        with self._lock:
            if event["event"] == "stage":
                self._stage(event)
            elif event["event"] == "progress":
                self._progress(event)

    def _stage(self, event: dict[str, Any]) -> None:
        name = _STAGE_NAMES.get(event["kind"], event["kind"])
        if event["state"] == "building":
            return
        how = "stored" if event["state"] == "cached" else f"{event['elapsed_s']:.1f} s"
        if event["kind"] == "candidates_part":
            self._parts[event["state"]] += 1
            return
        if event["kind"] == "candidates" and sum(self._parts.values()):
            built, cached = self._parts["built"], self._parts["cached"]
            self.console.print(f"[green]✓[/] {'screen: blocks':<26}{built} computed, {cached} stored")
            self._parts = {"built": 0, "cached": 0}
        self.console.print(f"[green]✓[/] {name:<26}{how:>10}  [dim]{event['key']}[/]", highlight=False, soft_wrap=True)

    def _progress(self, event: dict[str, Any]) -> None:
        key = event["id"]
        if key not in self._running:
            self._running[key] = self.bars.add_task(event["label"], total=event["total"], note="")
        row = self._running[key]
        self.bars.update(row, total=event["total"], completed=event["done"])
        rate = self._rate(row, event)
        self.bars.update(row, note=event["message"] or f"{rate:,.0f} {event['unit']}/s")
        if event.get("is_whole") and not self.console.is_terminal:
            self._line(event, rate)
        if event["done"] >= event["total"]:
            self.bars.remove_task(self._running.pop(key))

    def _rate(self, row: TaskID, event: dict[str, Any]) -> float:
        """Units per second: of late where there were two updates, since the start before that."""
        speed = next((task.speed for task in self.bars.tasks if task.id == row), None)
        return speed or (event["done"] / event["elapsed_s"] if event["elapsed_s"] > 0 else 0.0)

    def _line(self, event: dict[str, Any], rate: float) -> None:
        """Print how far the whole is, now and then, where there is no terminal that shows bars."""
        step = event["done"] * LINES_PER_RUN // event["total"]
        if step <= self._lines.get(event["id"], 0) or event["done"] >= event["total"]:
            return
        self._lines[event["id"]] = step
        left = (event["total"] - event["done"]) / rate if rate else 0.0
        # what the work says of itself, such as its error, tells more than a rate
        said = event["message"] or f"{rate:,.0f}/s"
        self.console.print(
            f"  {event['label']}: {event['done']:,} of {event['total']:,} {event['unit']}, {said}, "
            f"{timedelta(seconds=round(left))} left",
            highlight=False,
            soft_wrap=True,
        )


@contextmanager
def flow_display(console: Console) -> Iterator[FlowDisplay]:
    """Show progress events until the block ends."""
    display = FlowDisplay(console)
    stop = listen(display.handle)
    try:
        with display.bars:
            yield display
    finally:
        stop()
