"""Sizes and optimisers of the crystal-graph network: eight that were published, with our trainer.

    python -m benchmarks.moduli_sizes [--epochs N]

An example of how the settings of `ModuliParameters` are compared. The first of the five folds of
`benchmarks.accuracy_moduli`; docs/accuracy/moduli-sizes.md is written at the end.
"""

from __future__ import annotations

import argparse
import datetime as dt
from pathlib import Path

import numpy as np
import torch

from benchmarks.accuracy_moduli import Crystals
from benchmarks.run import machine
from benchmarks.screen_page import table
from models.metrics import regression_metrics
from models.moduli_training import ModuliTraining
from models.moduli_validation import run_fold

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy" / "moduli-sizes.md"
PUBLISHED = (
    (2, 1, 32, 64, 0.01, "sgd", 0.097, 0.142),
    (3, 1, 64, 128, 0.01, "sgd", 0.099, 0.145),
    (3, 2, 64, 128, 0.01, "sgd", 0.101, 0.145),
    (4, 1, 16, 32, 0.01, "adam", 0.103, 0.153),
    (5, 2, 128, 512, 0.01, "sgd", 0.276, 0.298),
    (3, 1, 128, 32, 0.01, "adam", 0.093, 0.149),
    (4, 1, 16, 32, 0.001, "sgd", 0.110, 0.153),
    (5, 2, 64, 128, 0.001, "sgd", 0.120, 0.156),
)
"""Convolutions, hidden layers, widths of atoms and of hidden layers, rate, optimiser, MAE of log10 K and of log10 G:
S. K. Pandey, M. Tech. thesis (IIT Kharagpur), Table 11; on other crystals and not folds of formulas."""


def main() -> None:
    """Train each, and our own sizes beside them."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.moduli_sizes", description=__doc__)
    parser.add_argument("--epochs", type=int, default=ModuliTraining.epochs)
    parser.add_argument("--threads", type=int, default=2, help="threads of each training")
    parser.add_argument("--rows", type=int, help="only the first rows of the table, to try it out")
    parser.add_argument(
        "--out", type=Path, help="where to write; default: the page of the docs, or nowhere with --rows"
    )
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    crystals = Crystals(options.rows)
    usual = ModuliTraining(threads=options.threads, epochs=options.epochs)
    own = (usual.n_convolutions, usual.n_hidden, usual.atom_width, usual.hidden_width, usual.learning_rate)
    lines = []
    for n_convolutions, n_hidden, width, hidden, rate, optimiser, bulk, shear in (
        *PUBLISHED, (*own, usual.optimiser, None, None),
    ):  # fmt: skip
        settings = ModuliTraining(
            threads=options.threads, epochs=options.epochs, n_convolutions=n_convolutions, n_hidden=n_hidden,
            atom_width=width, hidden_width=hidden, learning_rate=rate, optimiser=optimiser,
            weight_decay=usual.weight_decay if optimiser == "adamw" else 0.0,
            attribute_width=0, n_trees=0, kernel_rows=0,
        )  # fmt: skip
        result = run_fold(crystals.graphs, crystals.targets, crystals.folds, 0, settings, n_members=1)
        errors = [
            float(regression_metrics(crystals.targets[result.rows, k], result.mean[:, k])["mae"] or np.nan)
            for k in range(2)
        ]
        published = ("", "") if bulk is None else (f"{bulk:.3f}", f"{shear:.3f}")
        lines.append(
            (n_convolutions, n_hidden, width, hidden, f"{rate:g}", optimiser, *published,
             *(f"{error:.3f}" for error in errors))
        )  # fmt: skip
        print(lines[-1], flush=True)
    header = ("convolutions", "hidden layers", "atom width", "hidden width", "rate", "optimiser",
              "published MAE, K", "published MAE, G", "MAE, log10 K", "MAE, log10 G")  # fmt: skip
    text = (
        "# Sizes of the crystal-graph network\n\nWritten by `python -m benchmarks.moduli_sizes`. One network each, no "
        f"trees, kernel machine or attributes, {options.epochs} epochs of {usual.batch_size} atoms a step, one-cycle "
        "rate, averaged weights, no weight decay but in the last line; what is learnt "
        "is the modulus times the volume per atom to the power 5/3; the first of "
        f"five folds that keep a formula together, {int((crystals.folds == 0).sum())} of {len(crystals.formulas):,} "
        "crystals; the last line has the sizes that elemscreen takes. A campaign or a ranking takes other sizes from "
        "`moduli: {settings: {n_convolutions: 4, optimiser: sgd}}`.\n\n"
        f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}\n\n{table(header, lines)}\n"
        "Published: S. K. Pandey, M. Tech. thesis (IIT Kharagpur), Table 11, on other crystals and without keeping the "
        "crystals of a formula together.\n"
    )
    if out := options.out or (None if options.rows else PAGE):
        out.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
