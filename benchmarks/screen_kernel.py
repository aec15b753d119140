"""The screening kernel with all its stages on one core, against the network alone and what one would write first."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch

from benchmarks.screen_byhand import N_SYSTEMS as BY_HAND_SYSTEMS
from benchmarks.screen_byhand import by_hand
from benchmarks.screen_page import Turns, Work, in_turns, table
from benchmarks.screen_products import Ceiling, again, has_bf16
from benchmarks.screen_subject import Subject
from models.cascade import Band, measure_band
from models.screening import ScreenBlock, composition_fractions, screen_range
from models.sieve import best_sieve, second_sieve
from storage.parquet import write_parquet
from storage.schemas import conform
from tasks.screen import part_table

EAGER_BATCHES = (1024, 8192)
NETWORK_ROWS = 16_384

EAGER, NETWORK, FP32, FAST = "torch eager fp32", "network fp32", "screen fp32", "screen fast"
BY_HAND = "by hand"


@dataclass
class Screen:
    """The work of a screening task, on ranges of the space in turn: screen, rows, Parquet.

    Attributes
    ----------
    subject, band
        What is screened; band None for fp32.
    folder
        Where the Parquet files go.
    ranges_per_call
        Ranges that one call screens.
    done
        What was found, by the first index of the range.
    """

    subject: Subject
    band: Band | None
    folder: Path
    ranges_per_call: int
    done: dict[int, ScreenBlock] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._starts: Iterator[int] = itertools.cycle(self.subject.starts())

    def __call__(self) -> float:
        """Screen the next ranges and write their survivors; returns the compositions."""
        subject = self.subject
        for start in itertools.islice(self._starts, self.ranges_per_call):
            found = screen_range(
                start,
                start + subject.sizes.rows,
                subject.space,
                subject.predictor,
                subject.hull,
                subject.threshold,
                band=self.band,
            )
            rows = conform(part_table(found, subject.space, [], mixed=False), "candidates_part")
            path = self.folder / f"{start}.parquet"
            write_parquet(rows, path)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            self.done[start] = found
        return float(self.ranges_per_call * subject.sizes.rows)


def band_of(subject: Subject) -> Band | None:
    """Measure the fast mode's band on a sample; None where the processor has no fast mode."""
    kind = best_sieve()
    if kind is None:
        return None
    return measure_band(
        subject.predictor,
        subject.space,
        composition_fractions,
        kind,
        n_sample=subject.sizes.band_sample,
        second=second_sieve(kind),
    )


def screens(subject: Subject, band: Band | None, folder: Path) -> dict[str, Screen]:
    """Return the screens in fp32 and, where there is one, in the fast mode; calls of about equal length."""
    found = {FP32: Screen(subject, None, folder, 1)}
    if band is not None:
        found[FAST] = Screen(subject, band, folder, 3)
    return found


def measure_kernel(subject: Subject, band: Band | None, ceilings: dict[str, Ceiling], rounds: int) -> str:
    """Measure the kernel between the ceilings and its competitors, in turns; the page's text."""
    # an emulated product is slower than fp32 and bounds nothing
    ceilings = {kind: ceiling for kind, ceiling in ceilings.items() if kind != "bf16" or has_bf16()}
    eager_rows, eager = _best_eager(subject)
    with tempfile.TemporaryDirectory() as folder:
        ours = screens(subject, band, Path(folder))
        # each screen next to the ceiling that bounds it
        works: dict[str, Work] = {kind: ceilings[kind].work for kind in ceilings if kind == "fp32"}
        works[FP32] = ours[FP32]
        works |= {kind: ceilings[kind].work for kind in ceilings if kind != "fp32"}
        works |= {FAST: ours[FAST]} if FAST in ours else {}
        works |= {EAGER: eager, NETWORK: _network(subject), BY_HAND: by_hand(subject)}
        turns = in_turns(works, rounds)
        for screen in ours.values():
            _complete(screen)
    lines = [
        _speeds_table(subject, turns, ceilings, eager_rows),
        f"Ceilings measured in the same rounds: {again(ceilings, turns)}. GFLOP/s are nominal: {subject.flop:,} FLOP "
        "per composition, whatever is left out or computed twice. The screens include enumeration, network, hull, "
        f"formulas and a Parquet file for every {subject.sizes.rows:,} compositions. The process had a core for "
        f"{turns.running:.0%} of the time; by hand is scaled from {BY_HAND_SYSTEMS} systems.\n",
        _ratios(subject, turns, ceilings),
    ]
    if band is not None:
        lines.append(_fast_text(subject, band, ours, turns, ceilings))
    print(*lines, sep="\n", flush=True)
    return "\n".join(lines)


def _complete(screen: Screen) -> None:
    """Screen, unmeasured, the ranges whose turn did not come: fast mode and fp32 are compared on all."""
    while len(screen.done) < len(set(screen.subject.starts())):
        screen()


def _best_eager(subject: Subject) -> tuple[int, Work]:
    """Return the better of torch's batches, as a user would choose."""
    x = torch.from_numpy(subject.dense(subject.starts()[0], max(EAGER_BATCHES)))

    def work(batch: int) -> Work:
        @torch.inference_mode()
        def run() -> float:
            for rows in x.split(batch):
                for network in subject.networks:
                    network(rows)
            return float(len(x))

        return run

    turns = in_turns({str(batch): work(batch) for batch in EAGER_BATCHES}, 2)
    best = max(EAGER_BATCHES, key=lambda batch: turns.median(str(batch)))
    return best, work(best)


def _network(subject: Subject) -> Work:
    x = subject.dense(subject.starts()[0], NETWORK_ROWS)

    def run() -> float:
        subject.predictor.predict(x)
        return float(len(x))

    return run


def _speeds_table(subject: Subject, turns: Turns, ceilings: dict[str, Ceiling], eager_rows: int) -> str:
    names = {
        FP32: "screen, all stages, fp32",
        FAST: "screen, all stages, fast mode",
        NETWORK: f"network alone, fp32 ({subject.predictor.engine})",
        EAGER: f"network alone, torch eager fp32, {eager_rows:,} rows",
        BY_HAND: "by hand: strings, matminer, torch eager, pymatgen",
    }
    rows = []
    for name, text in names.items():
        if name not in turns.wall:
            continue
        speed = turns.median(name)
        shares = [f"{turns.ratio(name, kind, subject.flop):.2f}" for kind in ceilings]
        rows.append(
            (text, f"{speed:,.0f}", f"{speed * subject.flop / 1e9:,.0f}", *shares, f"{turns.ratio(name, EAGER):.2f}")
        )
    shares_of = [f"of {kind} ceiling" for kind in ceilings]
    return table(("one core", "compositions/s", "GFLOP/s", *shares_of, "times torch eager"), rows)


def _ratios(subject: Subject, turns: Turns, ceilings: dict[str, Ceiling]) -> str:
    """Return the ratios with their spread over the rounds."""
    lines = []
    for name in (FP32, FAST):
        if name not in turns.wall:
            continue
        for kind in ceilings:
            lines.append(f"- {name} / {kind} ceiling: {turns.said(name, kind, subject.flop)}")
        lines.append(f"- {name} / torch eager, network alone: {turns.said(name, EAGER)}")
        lines.append(f"- {name} / by hand: {turns.said(name, BY_HAND)}")
    if FAST in turns.wall:
        lines.append(f"- {FAST} / {FP32}: {turns.said(FAST, FP32)}")
    if "bf16" not in ceilings:
        lines.append("- bf16 is not among this processor's instructions: libraries emulate it, no ceiling to reach.")
    return "\n".join(lines) + "\n"


def _fast_text(
    subject: Subject, band: Band, ours: dict[str, Screen], turns: Turns, ceilings: dict[str, Ceiling]
) -> str:
    found = ours[FAST].done
    n_screened = len(found) * subject.sizes.rows
    n_again = sum(block.n_decided["again"] for block in found.values())
    n_kept = sum(len(block) for block in found.values())
    same = all(same_survivors(ours[FP32].done[start], block) for start, block in found.items())
    bands = ", then ".join(
        f"{one.kind} sieve, band {one.width:.3f} eV/atom (largest deviation {one.largest:.3f}, mean {one.mean:.4f})"
        for one in band.sieves
    )
    text = (
        f"Fast mode: {bands}, measured on {band.n_sample:,} compositions, not timed; a campaign measures on more, and "
        f"a wider band has more to compute again. {n_again / n_screened:.2%} of the compositions were computed in fp32 "
        f"as well and {n_kept / n_screened:.2%} kept; over {n_screened:,} compositions the survivors and their "
        f"energies {'equal those of fp32' if same else 'DIFFER FROM THOSE OF FP32'}."
    )
    if band.kind.startswith("int8") and "int8" in ceilings:
        computed = subject.computed_share(band.kind)
        text += (
            f" The sieve leaves silent units out and computes {computed:.1%} of the network's products; counting only "
            f"these, its share of the int8 ceiling is {turns.said(FAST, 'int8', subject.flop * computed)}."
        )
    return text + "\n"


def same_survivors(one: ScreenBlock, other: ScreenBlock) -> bool:
    """Whether two screens kept the same compositions with the same energies, bit for bit."""
    return np.array_equal(one.index, other.index) and np.array_equal(one.prediction, other.prediction)
