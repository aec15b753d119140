"""Folds of a cross-validation: four on one worker, one after the other, against four on two workers, side by side.

    python -m benchmarks.folds [--data FILE] [--rows N] [--entry NETWORK@SETTING=VALUE,...] [--rounds N]

Entries are written as for `elemscreen cross-validate` and trained with one thread. Ten minutes to half an hour on two
idle cores; the section Folds of docs/benchmarks.md is written at the end. The default has folds of seconds, of which
what comes before and after them is a part; those of the page are `--rows 60000 --entry elemnet@epochs=12
--entry attention@epochs=2` on the OQMD.
"""

from __future__ import annotations

import argparse
import datetime as dt
import shutil
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from prefect.futures import PrefectFuture
from prefect.task_runners import TaskRunner

from benchmarks.run import machine
from benchmarks.screen import PAGE, load_note
from benchmarks.screen_page import spread, table, write_section
from benchmarks.screen_processes import n_cores
from deployments.commands.ingest import parse_map
from deployments.commands.validate import read_entries
from deployments.server import embedded_server
from flows.cross_validate import CrossValidateParameters, cross_validate_stages
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from storage.tables import read_any
from tasks.cluster import ClusterProfile, open_cluster
from tasks.examples import ExampleParameters
from tasks.inputs import as_rows
from tasks.parameters import CleanParameters, SourceParameters
from tasks.sources.starter import read_starter
from tasks.validation_parameters import EntryParameters, ValidationParameters

TITLE = "Folds"
N_FOLDS = 4
ENTRIES = ("elemnet@epochs=8", "attention@epochs=8")
SEED = 0

Runner = TaskRunner[PrefectFuture[Any]]


@dataclass(frozen=True)
class Measured:
    """One entry's rounds.

    Attributes
    ----------
    name
        The entry.
    one, two
        Wall time of the flow's body on one and on two workers [s], one number per round.
    shares
        Folds of each of the two workers, largest first, by round.
    """

    name: str
    one: list[float]
    two: list[float]
    shares: list[tuple[int, ...]]

    @property
    def line(self) -> tuple[str, ...]:
        """Line of the page's table."""
        one, two = (f"{statistics.median(times):.1f} s" for times in (self.one, self.two))
        shares = ", ".join(" + ".join(map(str, share)) for share in sorted(set(self.shares)))
        return self.name, one, two, spread(self.one, self.two), shares


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the command line's options."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.folds", description=__doc__)
    parser.add_argument("--data", default="starter", help="table of formation energies; default: the starter set")
    parser.add_argument("--map", action="append", help="COLUMN=NAME: the column of the file and ours")
    parser.add_argument("--rows", type=int, default=12_000, help="rows drawn from the table")
    parser.add_argument("--entry", action="append", help=f"what is trained; default: {', '.join(ENTRIES)}")
    parser.add_argument("--rounds", type=int, default=3, help="how often each is measured")
    parser.add_argument("--out", type=Path, default=PAGE, help=f"page whose section {TITLE} is replaced")
    return parser.parse_args(given)


def workers(n: int) -> ClusterProfile:
    """Return a local cluster of so many workers."""
    options = {"cores": n, "dashboard_address": None}
    return ClusterProfile(cluster_class="tasks.cluster.local_cluster", options=options)


def rows_of(folder: Path, data: str, columns: list[str] | None, n_rows: int) -> tuple[Path, ArtifactRef]:
    """Return a store with rows to learn from, drawn from a table, and the rows."""
    whole = read_starter() if data == "starter" else read_any(data)
    drawn = whole.to_pandas().sample(min(n_rows, whole.num_rows), random_state=SEED).sort_index()
    file, root = folder / "drawn.parquet", folder / "rows"
    pq.write_table(pa.Table.from_pandas(drawn, schema=whole.schema, preserve_index=False), file)
    source = SourceParameters(source=f"file:{file}", columns=parse_map(columns), database="benchmark")
    examples = ExampleParameters(calibration_fraction=0.0, validation_fraction=0.0)  # the folds deal all rows out
    return root, as_rows(str(root), str(file), CleanParameters(), source, examples)


def timed(store: Path, runner: Runner, entry: EntryParameters, rows: ArtifactRef) -> tuple[float, dict[str, str]]:
    """Run the flow's body in a new copy of a store; its wall time [s] and the digest of every fold by key."""
    parameters = CrossValidateParameters(
        store=str(store), data=rows.key, entries=(entry,), validation=ValidationParameters(folds=N_FOLDS)
    )
    started = time.perf_counter()
    cross_validate_stages.with_options(task_runner=runner)(parameters)
    seconds = time.perf_counter() - started
    return seconds, {ref.key: ref.digest for ref in ArtifactStore(store).list("fold")}


def measure(folder: Path, root: Path, rows: ArtifactRef, entry: EntryParameters, rounds: int) -> Measured:
    """Measure one entry on one and on two workers, in turns.

    A cluster lives as long as its measurement and is warm: one epoch goes before that is not counted. What waits for
    nothing would still take its share of the two cores.

    Raises
    ------
    RuntimeError
        If the folds of both differ in a single byte.
    """
    short = entry.model_copy(update={"training": entry.training.model_copy(update={"epochs": 1})})
    measured = Measured(entry.name, [], [], [])
    for number in range(rounds):
        seconds, digests = [], []
        for n_workers in (1, 2):
            stores = [folder / f"{number}-{n_workers}-{part}" for part in ("warm", "timed")]
            for store in stores:
                shutil.copytree(root, store)
            with open_cluster(workers(n_workers)) as runner:
                timed(stores[0], runner, short, rows)
                took, made = timed(stores[1], runner, entry, rows)
            seconds.append(took)
            digests.append(made)
            share = tuple(sorted(workers_of(stores[1]).values(), reverse=True))
            for store in stores:
                shutil.rmtree(store)
        if digests[0] != digests[1] or len(digests[0]) != N_FOLDS:
            raise RuntimeError(f"{entry.name}: the folds of one worker and of two differ")
        measured.one.append(seconds[0])
        measured.two.append(seconds[1])
        measured.shares.append(share)
        print(f"{entry.name}: {seconds[0]:.1f} s, {seconds[1]:.1f} s, {share}", flush=True)
    return measured


def workers_of(store: Path) -> Counter[int]:
    """Return how many folds each process trained."""
    held = ArtifactStore(store)
    return Counter(held.run_record(ref)["pid"] for ref in held.list("fold"))


def section(lines: Sequence[Measured], n_rows: int, data: str, note: str) -> str:
    """Return the section of the page."""
    header = (f"{N_FOLDS} folds", "one worker", "two workers", "ratio", "folds of each of the two")
    return (
        f"## {TITLE}\n\n"
        f"Written by `python -m benchmarks.folds`. {N_FOLDS} folds of {n_rows:,} compositions of {data}, one thread "
        "each; whole wall time of the flow's body, from finding the rows to the comparison, on a server and on "
        "a cluster that run already. One worker trains the folds one after the other. Medians of "
        f"{len(lines[0].one)} interleaved rounds; the ratio is the median of the rounds' ratios, with the lowest and "
        "highest in brackets. The folds of both are the same, byte for byte.\n\n"
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}, {n_cores()} cores. {note}\n\n"
        + table(header, [line.line for line in lines])
    )


def main(given: Sequence[str] | None = None) -> None:
    """Measure and write the section."""
    options, note = arguments(given), load_note()
    print(note, flush=True)
    entries = read_entries(options.entry or list(ENTRIES), {"threads": 1})
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        root, rows = rows_of(folder, options.data, options.map, options.rows)
        stack.enter_context(embedded_server(folder / "server"))
        lines = [measure(folder, root, rows, entry, options.rounds) for entry in entries]
        n_rows = ArtifactStore(root).read_table(rows).num_rows
    drawn = f"`{Path(options.data).stem}` (`--data`, `--rows {options.rows}`)"
    data = "the starter set" if options.data == "starter" else drawn
    text = section(lines, n_rows, data, note)
    write_section(options.out, TITLE, text)
    print(text, options.out, sep="\n")


if __name__ == "__main__":
    main()
