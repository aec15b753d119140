"""Bulk and shear moduli: crystal-graph networks and what joins them, composition networks, forests; five folds.

    python -m benchmarks.accuracy_moduli [--members N] [--rows N] [--threads N] [--keep FOLDER]

Crystals of `elastic_structures` of `ELEMSCREEN_REFERENCE_DATA`; folds keep the crystals of a formula together, so no
network has seen a test formula in another structure. An hour on one core; docs/accuracy/moduli.md is written at the
end. What an entry says is kept in the folder, so that a run that was stopped goes on with the next entry.
"""

from __future__ import annotations

import argparse
import datetime as dt
import hashlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from pymatgen.core import Composition

from benchmarks.moduli_parity import parity_figure, worst
from benchmarks.run import machine
from benchmarks.screen_page import section_of, table, with_section
from models.architectures import architecture
from models.baselines import fit_baseline
from models.crystal_graph import CRYSTAL_FEATURE_VERSION, CrystalGraphs, build_graphs
from models.elasticity import instability_reason
from models.folds import grouped_folds
from models.formula import parse_many
from models.metrics import regression_metrics
from models.moduli_members import Members, mean_of_members, train_members
from models.moduli_training import ModuliTraining
from models.network_ensemble import NetworkEnsemble
from models.registry import build
from models.representation import represent
from models.structures import parse_structures
from models.training import train_network
from models.training_parameters import TrainingParameters
from models.training_state import data_digest
from tasks.reporting.style import standalone

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy" / "moduli.md"
FIGURE = "moduli-parity.svg"
FURTHER = "With further crystals to learn from"
"""Section of the page that `benchmarks.moduli_further` writes."""
N_FOLDS = 5
MODULI = ("K", "G")
FEW = 3
"""Members of the network that is shown for comparison only."""
ATTENTION = {"learning_rate": 1e-3, "weight_decay": 0.1, "clip_norm": 1.0, "beta2": 0.98}
Predictor = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]]
Outcome = tuple[NDArray[np.float64], float | None]
"""Predictions, and the time that they took [s]; None where it is part of another entry's."""


class Crystals:
    """The table: graphs, formulas, targets (n, 2) in log10(GPa), folds, and which tensors are positive definite."""

    def __init__(self, n_rows: int | None, deal: int = 0) -> None:
        folder = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", "../shared/data"))
        frame = pd.read_parquet(folder / "elastic_structures.parquet").head(n_rows or 10**9)
        frame = frame[(frame["bulk_modulus_vrh"] > 0) & (frame["shear_modulus_vrh"] > 0)].reset_index(drop=True)
        structures, _ = parse_structures(frame["cif"].tolist())
        self.graphs: CrystalGraphs
        self.graphs, reasons = build_graphs(structures)
        frame = frame[[reason is None for reason in reasons]].reset_index(drop=True)
        self.formulas = list(parse_many(frame["formula"].tolist()).reduced)
        self.targets = np.log10(frame[["bulk_modulus_vrh", "shear_modulus_vrh"]].to_numpy(float))
        self.folds = grouped_folds(self.formulas, N_FOLDS, deal)
        self.with_lithium = np.array(["Li" in Composition(name) for name in self.formulas])
        self.sound = np.array([instability_reason(tensor) is None for tensor in frame["elastic_tensor"]])

    def by_formula(self, rows: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64]]:
        """Return formulas and their mean targets: what a network that sees no structure can learn."""
        names = pd.Series([self.formulas[row] for row in rows])
        means = pd.DataFrame(self.targets[rows]).groupby(names).mean()
        return list(means.index), means.to_numpy()


def forest(crystals: Crystals, representation: str, threads: int) -> Predictor:
    """Predict with a random forest on attributes of the composition."""
    x = represent(crystals.formulas, representation)

    def predict(learn: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        fits = [fit_baseline("random_forest", x[learn], y, n_jobs=threads) for y in crystals.targets[learn].T]
        return np.stack([fit.predict(x[test]) for fit in fits], axis=1)

    return predict


def attention(crystals: Crystals, members: int, threads: int) -> Predictor:
    """Predict with composition networks, one ensemble per modulus."""

    def predict(learn: NDArray[np.int64], test: NDArray[np.int64]) -> NDArray[np.float64]:
        formulas, means = crystals.by_formula(learn)
        x = represent(formulas, "element_fraction")
        unseen = represent([crystals.formulas[row] for row in test], "element_fraction")
        said = []
        for y in means.T:
            described = architecture("attention", x.shape[1], 1, {})
            trained = [
                train_network(
                    x, y, None, None, TrainingParameters.preset("small", seed=seed, threads=threads, **ATTENTION),
                    build=lambda described=described: build(described),
                )
                for seed in range(members)
            ]  # fmt: skip
            ensemble = NetworkEnsemble(described, trained[0].normalisation, [one.state for one in trained])
            said.append(ensemble.predict(unseen).mean[:, 0])
        return np.stack(said, axis=1)

    return predict


Entry = Callable[[Crystals], Outcome]


class Further(Protocol):
    """Crystals that are learnt from and not predicted."""

    graphs: CrystalGraphs
    formulas: list[str]
    targets: NDArray[np.float64]


class Union:
    """The table's crystals, and further ones of no fold to learn from; also from tensors not positive definite."""

    def __init__(self, crystals: Crystals, further: Sequence[Further] = ()) -> None:
        self.graphs = CrystalGraphs.concatenate([crystals.graphs, *(one.graphs for one in further)])
        self.targets = np.concatenate([crystals.targets, *(one.targets for one in further)])
        self.formulas = crystals.formulas + [name for one in further for name in one.formulas]
        n_further = len(self.formulas) - len(crystals.formulas)
        self.folds = np.concatenate([crystals.folds, np.full(n_further, N_FOLDS)])

    def digest(self) -> str:
        """Return what tells these crystals from others."""
        return data_digest(*self.graphs.to_arrays().values(), self.targets, self.folds)

    def predict(self, fold: int, settings: ModuliTraining, members: int) -> NDArray[np.float64]:
        """Train on what has no formula of the fold, and predict its rows: networks, trees, kernels, (3 k, m, 2)."""
        held_out = {self.formulas[row] for row in np.flatnonzero(self.folds == fold)}
        unseen = np.flatnonzero([formula not in held_out for formula in self.formulas])
        trained = train_members(self.graphs.select(unseen), self.targets[unseen], settings, members)
        ready = Members(settings.network().architecture(), trained.normalisation, trained.states, settings.threads)
        return ready.predict_members(self.graphs.select(np.flatnonzero(self.folds == fold)))


class Ensembles:
    """The members of every fold, trained once for the entries that they make together and apart."""

    def __init__(self, union: Union, members: int, settings: ModuliTraining, folder: Path | None) -> None:
        self.union, self.members, self.settings, self.folder = union, members, settings, folder
        self.is_new = True

    def mean_of(self, part: slice | None = None) -> Entry:
        """Return the mean of all, of the networks, of the trees or of the kernel machines; the first has their time."""

        def predictions(crystals: Crystals) -> Outcome:
            described = f"{self.union.digest()} {self.members} {self.settings.to_dict()} {CRYSTAL_FEATURE_VERSION}"
            said, seconds = kept(self.folder, described, self._train)
            seconds, self.is_new = (seconds if self.is_new else None), False
            return mean_of_members(said, self.members) if part is None else said[part].mean(axis=0), seconds

        return predictions

    def _train(self) -> Outcome:
        began = time.perf_counter()
        parts = [self.union.predict(fold, self.settings, self.members) for fold in range(N_FOLDS)]
        said = np.full((len(parts[0]), len(self.union.folds), 2), np.nan)
        for fold, part in enumerate(parts):
            said[:, self.union.folds == fold] = part
        return said[:, self.union.folds < N_FOLDS], time.perf_counter() - began


def kept(folder: Path | None, described: str, compute: Callable[[], Outcome]) -> Outcome:
    """Return predictions and the time they took [s], from the folder where they are."""
    if folder is None:
        return compute()
    file = folder / f"{hashlib.sha256(described.encode()).hexdigest()[:16]}.npz"
    if not file.exists():
        folder.mkdir(parents=True, exist_ok=True)
        said, seconds = compute()
        partial = file.with_suffix(".part")
        with partial.open("wb") as stream:
            np.savez(stream, said=said, seconds=float(seconds or 0.0))
        partial.replace(file)
    with np.load(file) as stored:
        return stored["said"], float(stored["seconds"])


def by_composition(predict: Predictor, described: str, folder: Path | None) -> Entry:
    """Return the out-of-fold predictions (n, 2) of a model that sees no structure."""

    def predictions(crystals: Crystals) -> Outcome:
        def compute() -> Outcome:
            said, began = np.full_like(crystals.targets, np.nan), time.perf_counter()
            for fold in range(N_FOLDS):
                learn, test = np.flatnonzero(crystals.folds != fold), np.flatnonzero(crystals.folds == fold)
                said[test] = predict(learn, test)
            return said, time.perf_counter() - began

        return kept(folder, f"{Union(crystals).digest()} {described}", compute)

    return predictions


def line(
    crystals: Crystals, name: str, said: NDArray[np.float64], seconds: float | None, which: NDArray[np.bool_]
) -> list[str]:
    """Return a row of the table: means over folds, their standard deviations, and R2 of all rows."""
    cells = [name]
    for k in range(2):
        folds = [
            regression_metrics(crystals.targets[rows, k], said[rows, k])
            for fold in range(N_FOLDS)
            if len(rows := np.flatnonzero((crystals.folds == fold) & which))
        ]
        for metric in ("rmse", "mae"):
            values = [float(one[metric] or 0.0) for one in folds]
            cells.append(f"{np.mean(values):.4f} ± {np.std(values, ddof=1):.4f}" if len(folds) > 1 else "-")
        whole = regression_metrics(crystals.targets[which, k], said[which, k])["r2"] if folds else None
        cells.append("-" if whole is None else f"{whole:.3f}")
    return [*cells, "" if seconds is None else f"{seconds / 60:.1f} min"]


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy_moduli", description=__doc__)
    parser.add_argument("--members", type=int, default=5, help="networks in an ensemble, and what joins them")
    parser.add_argument("--rows", type=int, help="only the first rows of the table, to try it out")
    parser.add_argument("--threads", type=int, default=2, help="threads of each training")
    parser.add_argument("--keep", type=Path, help="folder for what the entries say")
    parser.add_argument("--note", default="", help="what the machine did besides")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    crystals, members, threads = Crystals(options.rows), options.members, options.threads
    magpie, attentive = "random forest, Magpie", f"attention on compositions, {members} members"
    ours, folder = f"CGCNN, trees, kernel machines, {members} of each", options.keep
    settings = ModuliTraining(threads=threads)
    graph_alone = replace(settings, attribute_width=0, n_trees=0, kernel_rows=0)
    own = Ensembles(Union(crystals), members, settings, folder)
    entries = {
        "random forest, fractions": by_composition(
            forest(crystals, "element_fraction", threads), "random forest, fractions", folder
        ),
        magpie: by_composition(forest(crystals, "magpie", threads), magpie, folder),
        attentive: by_composition(attention(crystals, members, threads), f"{attentive} {ATTENTION}", folder),
        ours: own.mean_of(),
        "its networks alone": own.mean_of(slice(members)),
        "its trees alone": own.mean_of(slice(members, 2 * members)),
        "its kernel machines alone": own.mean_of(slice(2 * members, None)),
        f"CGCNN of the graph alone, {FEW} members": Ensembles(Union(crystals), FEW, graph_alone, folder).mean_of(),
    }
    every, sound = np.ones(len(crystals.formulas), bool), crystals.sound
    which = {"all": every, "sound": sound, "lithium": crystals.with_lithium, "both": crystals.with_lithium & sound}
    rows: dict[str, list[list[str]]] = {part: [] for part in which}
    said: dict[str, NDArray[np.float64]] = {}
    for name, predictions in entries.items():
        said[name], seconds = predictions(crystals)
        for part, chosen in which.items():
            rows[part].append(line(crystals, name, said[name], seconds, chosen))
        print(rows["all"][-1], flush=True)
    header = ("model", *(f"{metric}, log10 {m}" for m in MODULI for metric in ("RMSE", "MAE", "R2")), "time")
    shown = {name: said[name] for name in (magpie, attentive, ours)}
    options.out.with_name(FIGURE).write_bytes(standalone(parity_figure(crystals.targets, shown)))
    text = (
        "# Moduli\n\nWritten by `python -m benchmarks.accuracy_moduli`. Five folds that keep the crystals of a formula "
        "together; means and standard deviations over the folds, log10(GPa). Composition models learn the mean of a "
        f"formula's crystals. Threads: {threads}.\n\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}. "
        f"{options.note}\n\nWhich attributes, trees and kernel machine stand beside the network, their settings and "
        "the power of the volume were chosen on these very folds, so that the errors of what has them are a little "
        "too small.\n\n"
        f"## All {len(every):,} crystals\n\n{table(header, rows['all'])}\n"
        f"![Stated and predicted moduli]({FIGURE})\n\n"
        f"The largest misses of {ours}:\n\n{worst(crystals.formulas, crystals.targets, said[ours], sound)}\n"
        f"## The {int(sound.sum()):,} whose tensor is positive definite\n\nMeasured on these; learnt from all. Where a "
        "tensor is stated in whole GPa, an eigenvalue of zero is rounding and no reason to leave it out.\n\n"
        f"{table(header, rows['sound'])}\n"
        f"## The {int(which['lithium'].sum())} with lithium\n\nWhat a search for lithium electrolytes asks for; learnt "
        f"from all.\n\n{table(header, rows['lithium'])}\n"
        f"Of these the {int(which['both'].sum())} whose tensor is positive definite:\n\n{table(header, rows['both'])}\n"
        "Published, on another set and without keeping formulas together: RMSE 0.1013 and 0.1268 (Ahmad et al., ACS "
        "Cent. Sci. 4, 996, 2018).\n"
    )
    further = section_of(options.out.read_text(), FURTHER) if options.out.exists() else ""
    options.out.write_text(with_section(text, FURTHER, further) if further else text)
    print(text, options.out, sep="\n")


if __name__ == "__main__":
    main()
