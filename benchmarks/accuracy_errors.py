"""Errors of several networks on the same validation rows: their distributions, and those of each element."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter
from scipy.stats import spearmanr

from benchmarks.accuracy_tables import summary_of
from benchmarks.screen_page import table
from models.formula import parse_many
from models.metrics import per_element_errors
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.examples import load_examples
from tasks.loading import load_ensemble
from tasks.reporting import style

LEVELS = (50, 75, 90, 95, 99)
MIN_ROWS = 20
"""Rows that an element must have for its error to be compared."""
SHARES = np.linspace(0.0, 1.0, 401)
"""Shares of the rows at which a distribution is drawn."""
COLOURS = (style.BLUE, style.GREEN, style.ORANGE, style.RED, style.PURPLE, style.INK)

Said = Mapping[str, pd.DataFrame]
"""By name: ``formula``, ``truth`` and ``prediction`` [eV/atom] of the validation rows."""


def of_model(ref: ArtifactRef) -> pd.DataFrame:
    """Return what a model says of the validation rows of its table."""
    store = ArtifactStore.from_ref(ref)
    rows = store.resolve(store.manifest(ref).inputs["features"].key)
    examples = load_examples(rows, "element_fraction")
    held = np.flatnonzero(examples.split == "validation")
    prediction = load_ensemble(ref).predict(examples.x[held]).mean[:, 0]
    formulas = [examples.formula[row] for row in held]
    return pd.DataFrame({"formula": formulas, "truth": examples.y[held, 0], "prediction": prediction})


def of_folds(ref: ArtifactRef) -> dict[str, pd.DataFrame]:
    """Return what every entry of a cross-validation with one fold and one seed says of its test rows."""
    store = ArtifactStore.from_ref(ref)
    inputs = store.manifest(ref).inputs
    return {
        line["entry"]: store.read_table(store.resolve(inputs[f"run_{number:04d}"].key), "fold").to_pandas()
        for number, line in enumerate(summary_of(ref)["entries"])
    }


def errors(said: pd.DataFrame) -> np.ndarray:
    """Return the absolute errors [eV/atom], ascending."""
    return np.sort((said["prediction"] - said["truth"]).abs().to_numpy())


def distribution_table(said: Said) -> str:
    """One row per network: mean absolute error, and the error that a share of the rows stays below [eV/atom]."""
    lines = []
    for name, frame in said.items():
        size = errors(frame)
        levels = np.percentile(size, LEVELS)
        lines.append((name, f"{len(size):,}", f"{size.mean():.4f}", *(f"{level:.4f}" for level in levels)))
    return table(("network", "rows", "MAE", *(f"{level} %" for level in LEVELS)), lines)


def element_table(said: Said) -> str:
    """Rank correlations (Spearman) between the networks' mean absolute errors of each element."""
    by_element = {}
    for name, frame in said.items():
        fractions = parse_many(frame["formula"].tolist()).fractions
        found = per_element_errors(fractions, frame["truth"].to_numpy(), frame["prediction"].to_numpy())
        by_element[name] = found[found["n"] >= MIN_ROWS].set_index("element")["mae"]
    joined = pd.DataFrame(by_element).dropna()
    ranks = {a: [f"{spearmanr(joined[a], joined[b]).statistic:.2f}" for b in joined] for a in joined}
    worst = {name: ", ".join(f"{e} {joined[name][e]:.2f}" for e in joined[name].nlargest(4).index) for name in joined}
    return (
        table((f"{len(joined)} elements", *joined), [(name, *line) for name, line in ranks.items()])
        + "\n"
        + table(("network", "elements with the largest errors"), list(worst.items()))
    )


def distribution_figure(said: Said) -> str:
    """Share of the rows whose error is at most so large, by network, as an inline figure."""
    name = "error-distribution"
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 4.3)
        axes = figure.add_subplot()
        for colour, (label, frame) in zip(COLOURS, said.items(), strict=False):
            size = np.quantile(errors(frame), SHARES)
            axes.plot(size, SHARES, color=colour, lw=1.5, label=label)
        axes.set(xscale="log", xlim=(1e-3, 2.0), ylim=(0, 1))
        style.log_axis(axes.xaxis, 1e-3, 2.0)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("absolute error (eV/atom)")
        axes.set_ylabel("share of the validation rows")
        axes.legend(loc="upper left")
        return style.to_svg(figure, name, f"Distributions of the absolute errors of {', '.join(said)}.")
