"""190,000 rows of the OQMD through ingest, cleaning and element fractions, as a user runs them: time and memory.

Both commands start a server and a cluster of their own, which is part of what is measured. Memory is the largest
resident set of any one process but the Prefect server's.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
import psutil
from matminer.featurizers.composition import ElementFraction
from pymatgen.core import Composition

N_THEIRS = 5_000


@dataclass(frozen=True)
class Measured:
    """Wall-clock time [s] and largest resident set of one process [bytes]."""

    seconds: float
    peak: int


def watched(command: list[str]) -> tuple[Measured, str]:
    """Run a command to its end; its time, its memory and its last line."""
    started, peak = time.perf_counter(), 0
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    me = psutil.Process(process.pid)
    with tempfile.TemporaryFile("w+") as said:
        while process.poll() is None:
            peak = max(peak, _largest(me))
            time.sleep(0.1)
        assert process.stdout is not None
        said.write(process.stdout.read())
        said.seek(0)
        lines = said.read().strip().splitlines()
    if process.returncode != 0:
        raise RuntimeError("\n".join(lines))
    return Measured(time.perf_counter() - started, peak), lines[-1]


def _largest(me: psutil.Process) -> int:
    sizes = [0]
    for member in [me, *me.children(recursive=True)]:
        try:
            if "prefect server" not in " ".join(member.cmdline()):
                sizes.append(member.memory_info().rss)
        except psutil.Error:
            continue
    return max(sizes)


def by_hand(path: Path) -> float:
    """Return the seconds per row of the usual way: pandas, pymatgen's Composition, matminer's ElementFraction."""
    rows = pd.read_parquet(path).dropna(subset="formation_energy_per_atom").sample(N_THEIRS, random_state=0)
    started = time.perf_counter()
    featurizer = ElementFraction()
    rows = rows.assign(composition=[Composition(formula) for formula in rows["formula"]])
    rows["reduced"] = [composition.reduced_formula for composition in rows["composition"]]
    rows = rows.sort_values("formation_energy_per_atom").drop_duplicates("reduced")
    for composition in rows["composition"]:
        featurizer.featurize(composition)
    return (time.perf_counter() - started) / N_THEIRS


def section() -> str:
    """Return the measurement as a section of docs/benchmarks.md; empty without the reference data."""
    folder = os.environ.get("ELEMSCREEN_REFERENCE_DATA")
    path = Path(folder or ".") / "oqmd_formation_energy.parquet"
    if not path.is_file():
        return ""
    n_rows = len(pd.read_parquet(path, columns=["formula"]))
    with tempfile.TemporaryDirectory() as store:
        command = [sys.executable, "-m", "deployments.cli"]
        options = ["--map", "release=source_version", "--database", "oqmd", "--functional", "pbe+u", "--store", store]
        ingest, where = watched([*command, "ingest", "--source", f"file:{path}", *options])
        key = Path(where).parents[1].name
        featurize, _ = watched([*command, "featurize", "--in", key, "--features", "element_fraction", "--store", store])
    seconds, peak = ingest.seconds + featurize.seconds, max(ingest.peak, featurize.peak)
    theirs = by_hand(path) * n_rows
    return (
        "\n## Ingest\n\n"
        f"{n_rows:,} rows of the OQMD: `elemscreen ingest` and `elemscreen featurize --features element_fraction` "
        "(clean, audit of references, fractions), each with a server and a cluster of its own.\n\n"
        "| what | time | largest process |\n| --- | --- | --- |\n"
        f"| ingest, with drift check | {ingest.seconds:.1f} s | {ingest.peak / 1e9:.2f} GB |\n"
        f"| clean and featurize | {featurize.seconds:.1f} s | {featurize.peak / 1e9:.2f} GB |\n"
        f"| together | {seconds:.1f} s | {peak / 1e9:.2f} GB |\n"
        f"| pandas, pymatgen and matminer by hand ({N_THEIRS:,} rows measured, scaled) | {theirs:.1f} s | |\n"
    )


if __name__ == "__main__":
    print(section())
