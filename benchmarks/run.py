"""All measurements, one table: `make bench` writes it into docs/benchmarks.md with date and machine.

Every comparison runs both sides in one process, in turns (A B A B ...), and reports the median of the ratios.
"""

from __future__ import annotations

import datetime as dt
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch

from benchmarks import hull, inference, ingest, magpie, parsing
from benchmarks.screen_page import with_others

Work = Callable[[], int]


def pair(ours: Work, theirs: Work, rounds: int = 5) -> tuple[float, float, float]:
    """Return units per second of both, and the median ratio over interleaved rounds."""
    ours(), theirs()
    speeds: list[tuple[float, float]] = []
    for _ in range(rounds):
        speeds.append((_speed(ours), _speed(theirs)))
    a, b = (statistics.median(column) for column in zip(*speeds, strict=True))
    return a, b, statistics.median(x / y for x, y in speeds)


def _speed(work: Work) -> float:
    started = time.perf_counter()
    units = work()
    return units / (time.perf_counter() - started)


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []:
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def machine() -> str:
    """Return what this was measured on."""
    return f"{_processor()}, {platform.machine()}, Python {platform.python_version()}, torch {torch.__version__}"


def main() -> None:
    """Measure everything on one thread and write the table."""
    torch.set_num_threads(1)
    rows = []
    for module in (inference, hull, parsing, magpie):
        for case in module.cases():
            a, b, ratio = pair(case.ours, case.theirs)
            unit = f"{case.unit}/s"
            rows.append(f"| {case.name} | {a:,.0f} {unit} | {case.against}: {b:,.0f} {unit} | {ratio:.1f} |")
            print(rows[-1])
    header = (
        "# Benchmarks\n\n"
        "Written by `make bench`. One thread; medians of five interleaved rounds; the ratio is the median of the "
        "rounds' ratios.\n\n"
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}\n\n"
        "| what | elemscreen | against | ratio |\n| --- | --- | --- | --- |\n"
    )
    path = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
    page = header + "\n".join(rows) + "\n" + ingest.section()
    path.write_text(with_others(page, path.read_text(), ours=("Ingest",)) if path.exists() else page)
    print(path)


if __name__ == "__main__":
    main()
