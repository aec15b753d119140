"""Figures about linear probes: areas under the curve by layer, and the curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from tasks.reporting import style
from tasks.reporting.figures_explain import layer_title
from tasks.reporting.wording import decimal

INPUT = "input"
_IN_A_ROW = 3


def _panels(n: int, height: float) -> tuple[Figure, list[Any]]:
    rows = -(-n // _IN_A_ROW)
    figure = style.new_figure(style.FULL_WIDTH, height * rows)
    axes_of = list(figure.subplots(rows, _IN_A_ROW, squeeze=False, sharey=True).ravel())
    for axes in axes_of[n:]:
        axes.axis("off")
    return figure, axes_of[:n]


def auc_by_layer(probes: Sequence[Mapping[str, Any]]) -> str:
    """Area under the ROC curve of each property by layer, with standard errors, trained and untrained.

    Parameters
    ----------
    probes : sequence of mapping
        ``probe, layer, network, auc, auc_error``; the element fractions have the layer ``input``.
    """
    name = "auc"
    names = list(dict.fromkeys(entry["probe"] for entry in probes))
    looks = {"untrained": (style.MUTED, (0, (3, 2)), "s"), "trained": (style.BLUE, "-", "o")}
    with style.house_style(name):
        figure, panels = _panels(len(names), 3.3)
        for axes, probe in zip(panels, names, strict=True):
            own = [entry for entry in probes if entry["probe"] == probe]
            layers = list(dict.fromkeys(entry["layer"] for entry in own))
            for network, (colour, line, marker) in looks.items():
                # both networks read the same inputs
                shown = [e for e in own if e["network"] == network or e["layer"] == INPUT]
                if len(shown) < 2 and network != "trained":
                    continue
                axes.errorbar(
                    [layers.index(e["layer"]) for e in shown], [e["auc"] for e in shown],
                    [e["auc_error"] for e in shown], color=colour, ls=line, marker=marker, ms=4, lw=1.5, elinewidth=0.9,
                    label=network,
                )  # fmt: skip
            axes.axhline(0.5, color=style.RED, lw=1, ls=(0, (4, 3)))
            axes.set_xticks(range(len(layers)), layers)
            axes.set_xlabel("layer")
            axes.set_title(probe, parse_math=False)
        lowest = min(entry["auc"] - entry["auc_error"] for entry in probes)
        panels[0].set_ylim(min(0.48, lowest - 0.02), 1.01)
        panels[0].set_ylabel("area under the ROC curve")
        panels[0].legend(loc="lower left")
        best = {p: max((e for e in probes if e["probe"] == p), key=lambda e: float(e["auc"])) for p in names}
        label = "Area under the ROC curve by layer; highest: " + "; ".join(
            f"{p} {decimal(e['auc'])} in {layer_title(e['layer']).lower()} ({e['network']})" for p, e in best.items()
        )
        return style.to_svg(figure, name, label + ".")


def roc_curves(table: pd.DataFrame, probes: Sequence[Mapping[str, Any]], layers: Sequence[str]) -> str:
    """Receiver operating characteristics of the trained network's layers, and of the element fractions.

    Parameters
    ----------
    table : DataFrame
        Schema ``probe_roc``.
    probes : sequence of mapping
        ``probe, layer, network, auc``.
    layers : sequence of str
        Layers to show, in order.
    """
    name = "roc"
    names = list(dict.fromkeys(entry["probe"] for entry in probes))
    colours = [style.MUTED, style.BLUE, style.ORANGE, style.GREEN, style.RED, style.PURPLE, style.INK]
    auc = {(e["probe"], e["layer"]): e["auc"] for e in probes if e["network"] == "trained"}
    trained = table[table["network"] == "trained"]
    with style.house_style(name):
        figure, panels = _panels(len(names), 3.4)
        for axes, probe in zip(panels, names, strict=True):
            axes.plot([0, 1], [0, 1], color=style.RULE, lw=1)
            for place, layer in enumerate((INPUT, *layers)):
                rows = trained[(trained["probe"] == probe) & (trained["layer"] == layer)]
                x, y = _corners(rows["false_positive_rate"].to_numpy(), rows["true_positive_rate"].to_numpy())
                title = "element fractions" if layer == INPUT else layer_title(layer)
                axes.plot(
                    x, y, color=colours[place % len(colours)], lw=1.5, ls=(0, (3, 2)) if layer == INPUT else "-",
                    label=f"{title} ({decimal(auc[probe, layer])})",
                )  # fmt: skip
            axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
            axes.set_title(probe, parse_math=False)
            axes.set_xlabel("false positive rate")
            axes.legend(loc="lower right", fontsize=8, title="area", title_fontsize=8, handlelength=1.4)
        panels[0].set_ylabel("true positive rate")
        label = "ROC curves of " + "; ".join(
            f"{probe}: " + ", ".join(f"{layer} {decimal(auc[probe, layer])}" for layer in (INPUT, *layers))
            for probe in names
        )
        return style.to_svg(figure, name, label + ".")


def _corners(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points of a staircase at which it turns; the others add nothing to the drawing."""
    if len(x) < 3:
        return x, y
    along = np.diff(x)[:-1] * np.diff(y)[1:] - np.diff(x)[1:] * np.diff(y)[:-1]
    turn = np.concatenate([[True], np.abs(along) > 1e-15, [True]])
    return x[turn], y[turn]
