"""Time to an error: ElemNet by the trainer against a plain loop with batch 32 and the published settings.

    python -m benchmarks.training_time [--oqmd FILE] [--epochs N ...] [--limit FACTOR] [--note TEXT]

Both learn the same cleaned rows on one thread, one after the other; neither clock counts the evaluation. The plain loop
goes on until it has the trainer's best error, or has taken `--limit` times as long. The data are those of
`ELEMSCREEN_REFERENCE_DATA`; about an hour of one core. The section of docs/benchmarks.md is written at the end.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.run import machine
from benchmarks.screen import PAGE, load_note
from benchmarks.screen_page import table, write_section
from benchmarks.screen_processes import n_cores
from models.elemnet import ELEMNET_DROPOUT_KEEP, ElemNet
from models.training import train_network
from models.training_parameters import TrainingParameters
from tasks.examples import load_examples
from tasks.inputs import as_rows
from tasks.learning import by_split
from tasks.parameters import CleanParameters, SourceParameters

TITLE = "Time to an error"
BATCH, RATE = 32, 1e-4
"""Batch size and learning rate of Adam as published: Jha et al., Sci. Rep. 8, 17593 (2018)."""

FloatArray = NDArray[np.float32]


@dataclass(frozen=True)
class Data:
    """Inputs (n, 86) and formation energies (n,) [eV/atom] of rows to learn and of rows to measure on."""

    x: FloatArray
    y: NDArray[np.float64]
    x_test: FloatArray
    y_test: NDArray[np.float64]

    def error(self, predict: Callable[[torch.Tensor], torch.Tensor]) -> float:
        """Return the mean absolute error on the rows to measure on."""
        with torch.no_grad():
            said = [predict(part).double() for part in torch.from_numpy(self.x_test).split(2048)]
        return float((torch.cat(said).reshape(-1) - torch.from_numpy(self.y_test)).abs().mean())


@dataclass(frozen=True)
class Reached:
    """An error on the rows to measure on [eV/atom], and the seconds of training and epochs that it took."""

    seconds: float
    error: float
    epochs: int


def read_data(oqmd: str) -> Data:
    """Return the cleaned rows of the OQMD."""
    with tempfile.TemporaryDirectory() as folder:
        source = SourceParameters(source=f"file:{oqmd}", database="oqmd", functional="pbe")
        examples = load_examples(as_rows(folder, oqmd, CleanParameters(), source, None), "element_fraction")
        parts = by_split(examples, ("train", "validation"))
        train, test = parts["train"], parts["validation"]
        return Data(examples.x[train], examples.y[train, 0], examples.x[test], examples.y[test, 0])


def ours(data: Data, epochs: int) -> Reached:
    """Train with the preset of large tables, for so many epochs."""
    parameters = TrainingParameters.preset("standard", epochs=epochs, threads=1)
    started = time.perf_counter()
    trained = train_network(data.x, data.y, None, None, parameters, build=ElemNet)
    seconds = time.perf_counter() - started
    network = ElemNet()
    network.load_state_dict({name: torch.from_numpy(array) for name, array in trained.state.items()})
    mean, std = trained.normalisation["mean"][0], trained.normalisation["std"][0]
    return Reached(seconds, data.error(lambda x: network.eval()(x) * std + mean), epochs)


def plain(data: Data, dropout: Sequence[float] | None) -> Iterator[Reached]:
    """Train as one would write it down, epoch by epoch: Adam at one rate, small batches, the last weights.

    The initial weights are the trainer's, for deep plain networks hardly start from torch's own.
    """
    torch.manual_seed(0)
    network = ElemNet(dropout=dropout, input_scale=1.0)
    optimiser, loss = torch.optim.Adam(network.parameters(), lr=RATE), nn.L1Loss()
    x, y = torch.from_numpy(data.x), torch.from_numpy(data.y).float()
    seconds, epochs = 0.0, 0
    while True:
        started = time.perf_counter()
        network.train()
        for rows in torch.randperm(len(x)).split(BATCH):
            optimiser.zero_grad()
            loss(network(x[rows]).reshape(-1), y[rows]).backward()
            optimiser.step()
        seconds, epochs = seconds + time.perf_counter() - started, epochs + 1
        yield Reached(seconds, data.error(network.eval()), epochs)


def until(curve: Iterator[Reached], error: float, seconds: float) -> list[Reached]:
    """Follow a training until it has an error, or has taken so many seconds."""
    followed = []
    for point in curve:
        followed.append(point)
        print(f"  plain: {point.epochs} epochs, {point.seconds:.0f} s, {point.error:.4f}", flush=True)
        if point.error <= error or point.seconds > seconds:
            break
    return followed


def said(mine: Reached, curve: Sequence[Reached]) -> str:
    """Return how long the other took to the same error, and how many times as long that is."""
    for point in curve:
        if point.error <= mine.error:
            return f"{point.seconds:,.0f} s ({point.epochs} epochs), {point.seconds / mine.seconds:.1f} times"
    last, best = curve[-1], min(point.error for point in curve)
    times = f"over {last.seconds / mine.seconds:.1f} times"
    return f"not in {last.seconds:,.0f} s ({last.epochs} epochs, best {best:.4f}), {times}"


def section(mine: Sequence[Reached], others: dict[str, Sequence[Reached]], n_rows: int, note: str) -> str:
    """Return the section of the page."""
    lines = [
        (
            f"{point.error:.4f} eV/atom",
            f"{point.seconds:,.0f} s ({point.epochs} epochs)",
            *(said(point, curve) for curve in others.values()),
        )
        for point in mine
    ]
    return (
        f"## {TITLE}\n\n"
        f"Written by `python -m benchmarks.training_time`. ElemNet on {n_rows:,} cleaned rows of the OQMD, one thread; "
        "the error is that on the validation rows. Each line of the trainer is a training of its own, whose schedule "
        f"ends there; the plain loops are one training each: Adam at a rate of {RATE:g}, batches of {BATCH}, initial "
        "weights as the trainer's, no schedule, no average, read off after every epoch. The last column is a plain "
        "loop without the published dropout.\n\n"
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}, {n_cores()} cores. {note}\n\n"
        + table(("error", "trainer", *others), lines)
    )


def main() -> None:
    """Measure and write the section."""
    folder = os.environ.get("ELEMSCREEN_REFERENCE_DATA", "../shared/data")
    parser = argparse.ArgumentParser(prog="python -m benchmarks.training_time", description=__doc__)
    parser.add_argument("--oqmd", default=f"{folder}/oqmd_formation_energy.parquet", help="table of energies")
    parser.add_argument("--epochs", type=int, nargs="+", default=[5, 10], help="trainings of the trainer")
    parser.add_argument(
        "--limit", type=float, default=3.5, help="times the trainer's time that the plain loop may take"
    )
    parser.add_argument("--note", default="", help="what the machine did besides")
    parser.add_argument("--out", type=Path, default=PAGE, help=f"page whose section {TITLE} is replaced")
    options = parser.parse_args()
    torch.set_num_threads(1)
    note = options.note or load_note()
    data = read_data(options.oqmd)
    mine = [ours(data, epochs) for epochs in sorted(options.epochs)]
    print(mine, flush=True)
    best, limit = min(point.error for point in mine), options.limit * max(point.seconds for point in mine)
    loops = {"plain loop, as published": ELEMNET_DROPOUT_KEEP, "plain loop, without dropout": None}
    others = {name: until(plain(data, dropout), best, limit) for name, dropout in loops.items()}
    text = section(mine, others, len(data.x), note)
    write_section(options.out, TITLE, text)
    print(text, options.out, sep="\n")


if __name__ == "__main__":
    main()
