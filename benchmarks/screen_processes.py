"""The screen in several processes: two against one, and memory against the length of the range."""

from __future__ import annotations

import multiprocessing as mp
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.screen_kernel import FAST, FP32, screens
from benchmarks.screen_page import spread, table
from benchmarks.screen_subject import Source, load_subject, starter_hull, threshold_that_keeps, untrained_predictor
from models.cascade import Band
from models.screening import CHUNK_ROWS, screen_range
from models.space import CompositionSpace

MEMORY_KEPT = 0.001
"""Share that survives: what is found is kept, and must grow."""
TINY = (8, 1)
"""Widths of the network for the memory: its speed does not matter there."""
START_TIMEOUT_S = 180


def n_cores() -> int:
    """Return the cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def peak_bytes() -> int:
    """Return the largest resident set of this process [bytes].

    Not ``ru_maxrss`` where Linux says better: a child starts with its parent's there.
    """
    status = Path("/proc/self/status")
    if status.exists():
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    import resource

    largest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return int(largest) * (1 if sys.platform == "darwin" else 1024)


def forget_peak() -> bool:
    """Start the largest resident set of this process anew; False where the system cannot.

    Loading takes more for a moment than it leaves, which would hide what a screen takes.
    """
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


class Worker:
    """A process of one thread that screens when told to."""

    def __init__(self, source: Source, threshold: float, band: Band | None) -> None:
        context = mp.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process: BaseProcess = context.Process(target=_serve, args=(theirs, source, threshold, band), daemon=True)
        self._process.start()
        theirs.close()

    def ready(self) -> None:
        """Wait until it is loaded and has screened once."""
        if not self._pipe.poll(START_TIMEOUT_S):
            raise RuntimeError(f"a worker was not ready after {START_TIMEOUT_S} s")
        self._pipe.recv()

    def start(self, kind: str) -> None:
        """Let it screen once."""
        self._pipe.send(kind)

    def finish(self) -> float:
        """Wait until it has screened; returns the compositions."""
        return float(self._pipe.recv())

    def stop(self) -> int:
        """End it; returns its largest resident set [bytes]."""
        self._pipe.send(None)
        peak = int(self._pipe.recv())
        self._process.join()
        return peak


def _serve(pipe: Connection, source: Source, threshold: float, band: Band | None) -> None:
    subject = replace(load_subject(source), threshold=threshold)
    with tempfile.TemporaryDirectory() as folder:
        ours = screens(subject, band, Path(folder))
        for screen in ours.values():
            screen()
        pipe.send("ready")
        while (kind := pipe.recv()) is not None:
            pipe.send(ours[kind]())
            ours[kind].done.clear()
    pipe.send(peak_bytes())


def measure_processes(source: Source, threshold: float, band: Band | None, rounds: int) -> str:
    """Measure two processes against one, in turns, with the same work in each; the page's text."""
    if n_cores() < 2:
        text = "Two processes were not measured: there is one core.\n"
        print(text)
        return text
    workers = [Worker(source, threshold, band) for _ in range(2)]
    for worker in workers:
        worker.ready()
    rows = []
    for kind in (FP32, FAST) if band is not None else (FP32,):
        single: list[float] = []
        double: list[float] = []
        for number in range(rounds):
            single.append(_speed([workers[number % 2]], kind))
            double.append(_speed(workers, kind))
        one, two = statistics.median(single), statistics.median(double)
        rows.append((kind, f"{one:,.0f}", f"{two:,.0f}", spread(double, single)))
        print("processes:", *rows[-1], sep=" | ", flush=True)
    peak = max(worker.stop() for worker in workers)
    text = (
        f"Each process has one thread and screens as above, {n_cores()} cores; the time of two is that of the "
        f"slower. Largest resident set of a process: {peak / 1e9:.2f} GB.\n"
    )
    print(text, flush=True)
    header = ("compositions/s, all stages", "one process", "two processes", "ratio")
    return table(header, rows) + "\n" + text


def _speed(workers: list[Worker], kind: str) -> float:
    started = time.perf_counter()
    for worker in workers:
        worker.start(kind)
    compositions = sum(worker.finish() for worker in workers)
    return compositions / (time.perf_counter() - started)


def measure_memory(lengths: Sequence[int]) -> str:
    """Measure the largest resident set of processes that screen ranges of growing length; the page's text."""
    context = mp.get_context("spawn")
    rows = []
    for n in lengths:
        ours, theirs = context.Pipe()
        process = context.Process(target=_screen_tiny, args=(theirs, n), daemon=True)
        process.start()
        theirs.close()
        is_fresh, before, peak, survivors, seconds = ours.recv()
        process.join()
        rows.append((f"{n:,}", f"{survivors:,}", f"{before / 1e6:,.0f}", f"{peak / 1e6:,.0f}", f"{seconds:.0f}"))
        print("memory:", *rows[-1], sep=" | ", flush=True)
    header = ("compositions", "survivors", "one chunk, MB", "peak of the whole range, MB", "seconds")
    text = (
        f"One process each, fp32, with a network of {TINY[0]} hidden units (memory does not wait for the network) and "
        f"the starter set's phases; {CHUNK_ROWS:,} compositions are in memory at a time. Largest resident sets; the "
        "first is what the libraries, the phases and one such chunk take"
        + (", the second counts from there.\n" if is_fresh else ", which the second includes.\n")
    )
    print(text, flush=True)
    return table(header, rows) + "\n" + text


def _screen_tiny(pipe: Connection, n: int) -> None:
    import torch

    torch.set_num_threads(1)
    predictor, hull, space = untrained_predictor(TINY), starter_hull(), CompositionSpace()
    threshold = threshold_that_keeps(MEMORY_KEPT, predictor, hull, space)
    start = space.offsets[2]
    screen_range(start, start + CHUNK_ROWS, space, predictor, hull, threshold)
    forget_peak()
    screen_range(start, start + CHUNK_ROWS, space, predictor, hull, threshold)
    before, is_fresh, started = peak_bytes(), forget_peak(), time.perf_counter()
    found = screen_range(start, start + n, space, predictor, hull, threshold)
    pipe.send((is_fresh, before, peak_bytes(), len(found), time.perf_counter() - started))
