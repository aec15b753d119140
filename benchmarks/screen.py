"""The screening engine against the machine's own limits and against what a user would otherwise run.

    python -m benchmarks.screen [--store STORE --model KEY --phases KEY]

Everything is measured in turns (A B A B ...) in this run, on one thread unless said; nothing is remembered from
another. About five minutes on an idle machine; the section Screening of docs/benchmarks.md is written at the end.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import time
from collections.abc import Callable
from pathlib import Path

import torch
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.run import machine
from benchmarks.screen_hull import measure_hull
from benchmarks.screen_kernel import band_of, measure_kernel
from benchmarks.screen_page import write_section
from benchmarks.screen_processes import measure_memory, measure_processes, n_cores
from benchmarks.screen_products import instructions, measure_ceilings
from benchmarks.screen_subject import QUICK, Sizes, Source, Subject, load_subject
from models.cascade import Band

TITLE = "Screening"
PARTS = {"kernel": "One core", "processes": "Two processes", "hull": "Hull", "memory": "Memory"}
"""Headings of the parts."""
PAGE = Path(__file__).resolve().parents[1] / "docs" / "benchmarks.md"
BUSY = 0.5
"""Load average per core above which a measurement is not to be trusted."""


QUICK_NOTE = " WARNING: a quick trial with little work, no measurement."


def arguments() -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screen", description=__doc__)
    parser.add_argument("--store", help="artifact store with a trained network; without: an untrained one")
    parser.add_argument("--model", help="key of the network in the store")
    parser.add_argument("--phases", help="key of the phases in the store")
    parser.add_argument("--out", type=Path, default=PAGE, help="page whose section is replaced")
    parser.add_argument("--title", default=TITLE, help="of the section: one for each kind of processor")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured")
    parser.add_argument("--parts", nargs="+", choices=tuple(PARTS), help="only these, printed and not written")
    parser.add_argument("--quick", action="store_true", help="little work, to try that it runs: no measurement")
    return parser.parse_args()


def load_note() -> str:
    """Return the load at the start, with a warning where the machine is busy."""
    if not hasattr(os, "getloadavg"):
        return "The load at the start is not known."
    per_core = os.getloadavg()[0] / n_cores()
    if per_core <= BUSY:
        return f"Load average at the start: {per_core:.2f} per core."
    return f"WARNING: load average at the start {per_core:.2f} per core, the machine did other work: not to be trusted."


def measure(source: Source, parts: tuple[str, ...], rounds: int) -> str:
    """Measure the parts; the page's text."""
    subject = load_subject(source)
    print(subject.description, flush=True)
    band = band_of(subject) if {"kernel", "processes"} & set(parts) else None
    works: dict[str, Callable[[], str]] = {
        "kernel": lambda: _kernel(subject, band, rounds),
        "processes": lambda: measure_processes(source, subject.threshold, band, max(1, rounds - 2)),
        "hull": lambda: measure_hull(subject, rounds),
        "memory": lambda: measure_memory(source.sizes.memory),
    }
    sections = [f"### {PARTS[name]}\n\n{works[name]()}" for name in parts]
    return "\n".join([subject.description + "\n", *sections])


def _kernel(subject: Subject, band: Band | None, rounds: int) -> str:
    ceilings, text = measure_ceilings(min(rounds, 3))
    return f"{text}\n{measure_kernel(subject, band, ceilings, rounds)}"


def _titled(title: str) -> str:
    return "" if title == TITLE else f' --title "{title}"'


def main() -> None:
    """Measure and write the section."""
    torch.set_num_threads(1)
    options = arguments()
    started, note = time.perf_counter(), load_note() + (QUICK_NOTE if options.quick else "")
    print(note, flush=True)
    with threadpool_limits(1):  # numpy's library has threads of its own
        sizes = QUICK if options.quick else Sizes()
        source = Source(options.store, options.model, options.phases, sizes)
        text = measure(source, tuple(options.parts or PARTS), options.rounds)
    page = (
        f"## {options.title}\n\n"
        f"Written by `python -m benchmarks.screen{_titled(options.title)}`. Medians of interleaved rounds; a ratio is "
        "the median of the rounds' ratios, with the lowest and highest in brackets. One thread unless said.\n\n"
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}, {n_cores()} cores. {instructions()}. {note}\n\n{text}"
    )
    print(f"measured in {time.perf_counter() - started:.0f} s")
    if options.parts or (options.quick and options.out == PAGE):
        return
    write_section(options.out, options.title, page)
    print(options.out)


if __name__ == "__main__":
    main()
