"""What the page of moduli shows of single crystals: stated against predicted moduli, and the largest misses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from benchmarks.screen_page import table
from tasks.reporting import style

Moduli = NDArray[np.float64]
NAMES = ("K", "G")
N_WORST = 5


def parity_figure(stated: Moduli, said: Mapping[str, Moduli]) -> str:
    """Predicted against stated moduli [log10(GPa)], a row per modulus and a column per model, as an inline figure."""
    name = "moduli-parity"
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 6.4)
        panels = figure.subplots(len(NAMES), len(said), squeeze=False)
        for row, modulus in enumerate(NAMES):
            reference = 10 ** stated[:, row]
            low, high = 0.8 * reference.min(), 1.25 * reference.max()
            for axes, (model, predicted) in zip(panels[row], said.items(), strict=True):
                axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
                axes.plot([low, high], [low, high], color=style.MUTED, lw=0.9, ls=(0, (4, 3)))
                axes.scatter(
                    reference, 10 ** predicted[:, row], s=7, color=style.BLUE, alpha=0.4, lw=0, rasterized=True
                )
                for axis in (axes.xaxis, axes.yaxis):
                    style.log_axis(axis, low, high)
                axes.set_title(model if row == 0 else "")
                axes.set_xlabel(f"stated {modulus} (GPa)")
                axes.set_ylabel(f"predicted {modulus} (GPa)")
        label = f"Bulk and shear moduli of crystals that were held out, predicted by {', '.join(said)}, against stated."
        return style.to_svg(figure, name, label)


def worst(formulas: Sequence[str], stated: Moduli, predicted: Moduli, is_sound: NDArray[np.bool_]) -> str:
    """Return the largest misses of a model as a table, and what each of them does to the error."""
    lines = []
    for k, modulus in enumerate(NAMES):
        miss = predicted[:, k] - stated[:, k]
        for row in np.argsort(-np.abs(miss))[:N_WORST]:
            rest = np.delete(miss, row)
            less = np.sqrt((miss**2).mean()) - np.sqrt((rest**2).mean())
            lines.append(
                (modulus, formulas[row], f"{10 ** stated[row, k]:.3g}", f"{10 ** predicted[row, k]:.3g}",
                 "yes" if is_sound[row] else "no", f"{less:.4f}")
            )  # fmt: skip
    header = (
        "modulus",
        "crystal",
        "stated, GPa",
        "predicted, GPa",
        "positive definite",
        "adds to the RMSE of all",
    )
    return table(header, lines)
