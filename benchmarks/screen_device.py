"""The screening engine on a GPU against the card's own limit: a section of docs/benchmarks.md.

    python -m benchmarks.screen_device [--store STORE --model KEY --phases KEY]

Needs a CUDA device. Compositions per second with all stages, and the share of the best fp16 product measured in the
same run; survivors of the fp16 sieve against those of fp32 on the device.
"""

from __future__ import annotations

import argparse
import datetime as dt
import statistics
import time
from collections.abc import Callable

import torch

from benchmarks.run import machine
from benchmarks.screen import PAGE
from benchmarks.screen_page import table, write_section
from benchmarks.screen_subject import Source, Subject, load_subject
from models.cascade import measure_band
from models.device_predictor import FP16, SIEVE_ROWS, DevicePredictor
from models.screening import ScreenBlock, composition_fractions, screen_range

TITLE = "Screening on a GPU"
ROUNDS = 5
COMPOSITIONS = 50_000_000
COMPARED = 5_000_000
SHAPES = ((SIEVE_ROWS, 1024, 1024), (4096, 4096, 4096), (8192, 8192, 8192))
"""Rows, inner and outer size of the products that stand for the card's limit: the network's, and squares."""


def peak() -> float:
    """Return the best fp16 product of several shapes [FLOP/s], the median of rounds each."""
    best = 0.0
    for rows, inner, outer in SHAPES:
        a, b = (torch.randn(*shape, device="cuda", dtype=torch.float16) for shape in ((rows, inner), (inner, outer)))
        repeats = max(1, int(2e12 / (2 * rows * inner * outer)))

        def work(a: torch.Tensor = a, b: torch.Tensor = b, repeats: int = repeats) -> None:
            for _ in range(repeats):
                a @ b

        seconds = statistics.median(timed(work) for _ in range(ROUNDS))
        best = max(best, 2 * rows * inner * outer * repeats / seconds)
    return best


def timed(work: Callable[[], object]) -> float:
    """Return the seconds of a piece of work on the device."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    work()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def measure(subject: Subject) -> str:
    """Measure both precisions; the section's tables."""
    predictor = DevicePredictor(subject.predictor)
    band = measure_band(predictor, subject.space, composition_fractions, FP16)
    middle = len(subject.space) // 2

    def screen(size: int, is_fast: bool) -> ScreenBlock:
        with_band = band if is_fast else None
        return screen_range(
            middle, middle + size, subject.space, predictor, subject.hull, subject.threshold, band=with_band
        )

    fast, exact = screen(COMPARED, True), screen(COMPARED, False)
    same = all(
        getattr(fast, name).tobytes() == getattr(exact, name).tobytes()
        for name in ("index", "prediction", "decomposition_energy")
    )
    limit = peak()
    rows = []
    for label, is_fast, size in (("fp16 sieve", True, COMPOSITIONS), ("fp32", False, COMPARED)):
        speed = size / statistics.median(timed(lambda s=size, f=is_fast: screen(s, f)) for _ in range(ROUNDS))
        flops = speed * subject.flop
        rows.append((label, f"{speed:,.0f}", f"{flops / 1e12:,.0f}", f"{flops / limit:.2f}"))
    return (
        table(("all stages, one GPU", "compositions/s", "TFLOP/s", "of the fp16 peak"), rows)
        + f"\nBest fp16 product of this run: {limit / 1e12:,.0f} TFLOP/s. Band {band.width * 1e3:.1f} meV (largest "
        f"deviation {band.largest * 1e3:.1f} meV on {band.n_sample:,}). Survivors of {COMPARED:,} compositions: "
        + (f"the same {len(exact):,}, bit for bit.\n" if same else "**not the same as fp32's.**\n")
    )


def main() -> None:
    """Measure and write the section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.screen_device", description=__doc__)
    for name in ("--store", "--model", "--phases"):
        parser.add_argument(name)
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("benchmarks.screen_device needs a CUDA device, and torch sees none here")
        raise SystemExit(2)
    text = measure(load_subject(Source(options.store, options.model, options.phases)))
    card = torch.cuda.get_device_name()
    write_section(PAGE, TITLE, f"## {TITLE}\n\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, {card}, {machine()}.\n\n{text}")
    print(text)


if __name__ == "__main__":
    main()
