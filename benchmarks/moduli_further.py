"""Moduli with further crystals to learn from, or on other folds: a section of docs/accuracy/moduli.md.

    python -m benchmarks.moduli_further --keep FOLDER [--entry binaries starter+binaries nothing@1] [--members N]

The folds of `benchmarks.accuracy_moduli`, whose models learn from `elastic_binaries` of `ELEMSCREEN_REFERENCE_DATA`,
or from these and the starter set, as well; `@N` deals the formulas out anew, by that seed. Fifteen trainings each, two
and a half minutes of a core apiece with binaries; what a training says of its fold is kept in the folder, so that a run
that was stopped goes on where it was.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from benchmarks.accuracy_moduli import FURTHER, MODULI, N_FOLDS, PAGE, Crystals, Further, Union, line
from benchmarks.run import machine
from benchmarks.screen_page import table, write_section
from models.crystal_graph import CRYSTAL_FEATURE_VERSION, build_graphs
from models.formula import parse_many
from models.moduli_members import mean_of_members
from models.moduli_training import ModuliTraining
from models.structures import parse_structures
from tasks.sources.starter import read_starter


class Starter:
    """Crystals of the starter set with the corrected moduli of its potential: graphs, formulas, targets (n, 2)."""

    def __init__(self) -> None:
        frame = read_starter().to_pandas()
        frame = frame[frame["bulk_modulus_vrh"].notna() & frame["structure"].notna()]
        self.graphs, _ = build_graphs(parse_structures(frame["structure"].tolist())[0])
        self.formulas = list(parse_many(frame["formula"].tolist()).reduced)
        self.targets = np.log10(frame[["bulk_modulus_vrh", "shear_modulus_vrh"]].to_numpy(float))
        if len(self.graphs) != len(self.targets):
            raise RuntimeError("a crystal of the starter set has no graph")


class Binaries:
    """Crystals of `elastic_binaries` that `elastic_structures` has not: graphs, formulas, targets (n, 2) in log10(GPa).

    They are of another release, which states other moduli for many of those that both have.
    """

    def __init__(self) -> None:
        folder = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", "../shared/data"))
        frame = pd.read_parquet(folder / "elastic_binaries.parquet")
        frame = frame[~frame["in_elastic_structures"].astype(bool)]
        self.graphs, reasons = build_graphs(parse_structures(frame["structure"].tolist())[0])
        frame = frame[[reason is None for reason in reasons]]
        self.formulas = list(parse_many(frame["formula"].tolist()).reduced)
        self.targets = np.log10(frame[["bulk_modulus_vrh", "shear_modulus_vrh"]].to_numpy(float))


TABLES: dict[str, Callable[[], list[Further]]] = {
    "nothing": list,
    "binaries": lambda: [Binaries()],
    "starter+binaries": lambda: [Starter(), Binaries()],
}
"""What is learnt from beside the table's own crystals."""


def kept(folder: Path, union: Union, fold: int, seed: int, threads: int) -> tuple[NDArray[np.float64], float]:
    """Return predictions and time of a training [s], from the folder where it has been."""
    settings = ModuliTraining(threads=threads, seed=seed)
    described = json.dumps(settings.to_dict(), sort_keys=True)
    made_from = hashlib.sha256(f"{union.digest()} {fold} {described} {CRYSTAL_FEATURE_VERSION}".encode()).hexdigest()[
        :16
    ]
    file = folder / f"fold-{fold}-seed-{seed}-{made_from}.npz"
    if not file.exists():
        began = time.perf_counter()
        said = mean_of_members(union.predict(fold, settings, 1), 1)
        partial = file.with_suffix(".part")
        with partial.open("wb") as stream:
            np.savez(stream, said=said, seconds=time.perf_counter() - began)
        partial.replace(file)
        print(file.name, flush=True)
    with np.load(file) as stored:
        return stored["said"], float(stored["seconds"])


def main() -> None:
    """Train what is not kept yet, and write the section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moduli_further", description=__doc__)
    parser.add_argument("--keep", type=Path, required=True, help="folder for what trainings say")
    parser.add_argument(
        "--entry", nargs="+", default=["binaries", "nothing@1", "binaries@1"], help="TABLE or TABLE@SEED of folds"
    )
    parser.add_argument("--members", type=int, default=3, help="networks in an ensemble, and what joins them")
    parser.add_argument("--threads", type=int, default=1, help="threads of each training")
    parser.add_argument("--note", default="", help="what the machine did besides")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    options.keep.mkdir(parents=True, exist_ok=True)
    measured = []
    for entry in options.entry:
        name, _, deal = entry.partition("@")
        if name not in TABLES:
            parser.error(f"{entry}: take {', '.join(TABLES)}, each with or without @SEED of the folds")
        crystals = Crystals(None, int(deal or 0))
        every = np.ones(len(crystals.formulas), bool)
        said, seconds = predicted(crystals, TABLES[name](), options.keep, options.members, options.threads)
        for label, which in ((f"all {len(every):,}", every), ("positive definite", crystals.sound)):
            measured.append([name, deal or "0", *line(crystals, label, said, seconds, which)])
    text = section(measured, options.members, options.note)
    write_section(options.out, FURTHER, text)
    print(text)


def predicted(
    crystals: Crystals, further: Sequence[Further], keep: Path, n_members: int, threads: int
) -> tuple[NDArray[np.float64], float]:
    """Return what an ensemble that learns from further crystals says of every fold (n, 2), and its time [s]."""
    union = Union(crystals, further)
    members = [np.full_like(crystals.targets, np.nan) for _ in range(n_members)]
    seconds = 0.0
    for seed, said in enumerate(members):
        for fold in range(N_FOLDS):
            rows = np.flatnonzero(crystals.folds == fold)
            said[rows], spent = kept(keep, union, fold, seed, threads)
            seconds += spent
    return np.asarray(np.mean(members, axis=0)), seconds


def section(measured: list[list[str]], n_members: int, note: str) -> str:
    """Return the section of the page."""
    header = (
        "learnt from, too",
        "folds",
        "rows",
        *(f"{metric}, log10 {m}" for m in MODULI for metric in ("RMSE", "MAE", "R2")),
        "time",
    )
    return (
        f"## {FURTHER}\n\nWritten by `python -m benchmarks.moduli_further --keep FOLDER`. CGCNN, trees, kernel "
        f"machines, {n_members} of each, the same model, on the same folds or others, but it learns from "
        "other crystals as well, without those that have a formula of the fold: "
        "*binaries* are the binary compounds of another release, with "
        "the same moduli; the *starter* set has those of a universal potential. More data and not a better model: "
        "`elemscreen rank --structures A,B,C` learns from several tables, too. *Folds* is the seed by which formulas "
        "are dealt out: 0 are those that the kinds of models and their settings were chosen on, on others nothing was "
        "chosen.\n\n"
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}. {note}\n\n{table(header, measured)}"
    )


if __name__ == "__main__":
    main()
