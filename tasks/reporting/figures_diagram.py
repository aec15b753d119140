"""Figures of phase diagrams: hulls of a binary system, tie lines of a ternary one, predicted and known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from tasks.reporting import style
from tasks.reporting.wording import count, formula_text

_HEIGHT = math.sqrt(3.0) / 2.0
_MANY_LABELS = 14
_ENERGY = "formation_energy_per_atom"


def phase_diagram(rows: pd.DataFrame, numbers: Mapping[str, Any]) -> str:
    """Draw the predicted and the reference diagram of one system.

    Parameters
    ----------
    rows : DataFrame
        Schema ``predicted_diagram``, one system; elements first.
    numbers : mapping
        ``system``, ``tie_lines`` of ``predicted`` and ``reference`` as pairs of formulas.
    """
    elements = numbers["system"].split("-")
    return _binary(rows, elements) if len(elements) == 2 else _ternary(rows, elements, numbers["tie_lines"])


def _label(rows: pd.DataFrame, elements: Sequence[str]) -> str:
    compounds = rows.iloc[len(elements) :]
    both = int((compounds["stable"] & compounds["predicted_stable"]).sum())
    return (
        f"Phase diagram of {'-'.join(elements)}: {count(compounds['predicted_stable'].sum())} compositions on the "
        f"predicted hull, {count(compounds['stable'].sum())} on that of the known phases, {count(both)} on both."
    )


def _binary(rows: pd.DataFrame, elements: Sequence[str]) -> str:
    name = f"diagram-{'-'.join(elements)}"
    share = np.stack(rows["shares"].to_list())[:, 1]
    compound = np.arange(len(rows)) >= 2
    prediction = np.where(compound, rows["prediction"], 0.0)
    known = rows[_ENERGY].to_numpy(float)
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 4.6)
        axes = figure.add_subplot()
        axes.axhline(0, color=style.RULE, lw=1)
        enumerated = compound & rows["in_space"].to_numpy(bool)
        order = np.argsort(share[enumerated])
        axes.scatter(
            share[enumerated][order], prediction[enumerated][order], s=13, color=style.BLUE, alpha=0.55, lw=0,
            label="predicted compositions",
        )  # fmt: skip
        for stable, energies, colour, marker, label in (
            ("stable", np.where(compound, known, 0.0), style.INK, "s", "hull of the known phases"),
            ("predicted_stable", prediction, style.BLUE, "o", "predicted hull"),
        ):
            on = rows[stable].to_numpy(bool)
            line = np.argsort(share[on])
            axes.plot(share[on][line], energies[on][line], color=colour, lw=1.6, marker=marker, ms=5, label=label)
        phases = compound & ~np.isnan(known) & ~rows["stable"].to_numpy(bool)
        axes.scatter(
            share[phases], known[phases], s=24, marker="s", facecolor="none", edgecolor=style.INK, lw=0.9,
            label="known phases above it",
        )  # fmt: skip
        low = min(np.nanmin(prediction), np.nanmin(known, initial=0.0), -0.02)
        # far above the hull nothing is of interest; what is cut off is counted
        top = float(np.nanmax(np.concatenate([prediction, known[phases], [0.02]])))
        high = 1.05 * min(top, max(-0.2 * low, 0.2))
        hidden = int((prediction[compound] > high).sum() + (known[phases] > high).sum())
        axes.set(xlim=(-0.02, 1.02), ylim=(1.16 * low, high))
        _name_binary(axes, rows, share, np.where(compound, known, 0.0), prediction, -low)
        if hidden:
            style.note(axes, f"{count(hidden)} more above", x=0.985, align="right")
        axes.set_xlabel(f"fraction of {elements[1]} ({elements[0]} on the left)")
        axes.set_ylabel("formation energy (eV/atom)")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=4, columnspacing=1.4)
        return style.to_svg(figure, name, _label(rows, elements))


def _name_binary(
    axes: Axes, rows: pd.DataFrame, share: np.ndarray, known: np.ndarray, prediction: np.ndarray, depth: float
) -> None:
    """Formulas of the corners: of the known hull in black, of predicted ones that are not on it in blue."""
    stable, predicted = rows["stable"].to_numpy(bool), rows["predicted_stable"].to_numpy(bool)
    placed: list[tuple[float, float]] = []
    compounds = np.arange(len(rows)) >= 2
    first = [(i, known[i], style.INK) for i in np.flatnonzero(stable & compounds)]
    second = [(i, prediction[i], style.BLUE) for i in np.flatnonzero(predicted & ~stable & compounds)]
    for i, energy, colour in first + second:
        spot = (share[i], energy / depth)
        if any(abs(spot[0] - x) < 0.055 and abs(spot[1] - y) < 0.06 for x, y in placed):
            continue
        placed.append(spot)
        axes.annotate(
            formula_text(rows["formula"].iloc[i]), (share[i], energy), (0, -6), textcoords="offset points", ha="center",
            va="top", fontsize=8, color=colour,
        )  # fmt: skip


def _ternary(rows: pd.DataFrame, elements: Sequence[str], tie_lines: Mapping[str, Sequence[Sequence[str]]]) -> str:
    name = f"diagram-{'-'.join(elements)}"
    shares = np.stack(rows["shares"].to_list())
    points = np.column_stack([shares[:, 1] + 0.5 * shares[:, 2], _HEIGHT * shares[:, 2]])
    where = dict(zip(rows["formula"], points, strict=True))
    stable, predicted = rows["stable"].to_numpy(bool), rows["predicted_stable"].to_numpy(bool)
    compound = np.arange(len(rows)) >= 3
    known = compound & rows[_ENERGY].notna().to_numpy()
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 5.0)
        left, right = figure.subplots(1, 2)
        for axes, title, side in ((left, "Known phases", "reference"), (right, "Predicted", "predicted")):
            axes.set_title(title)
            colour = style.INK if side == "reference" else style.BLUE
            for a, b in tie_lines[side]:
                axes.plot(*zip(where[a], where[b], strict=True), color=colour, lw=0.8, alpha=0.75, zorder=1)
            for symbol, (x, y), (dx, dy) in zip(elements, points[:3], ((-9, -9), (9, -9), (0, 7)), strict=True):
                axes.annotate(
                    symbol, (x, y), (dx, dy), textcoords="offset points", ha="center", va="center", fontsize=10,
                    fontweight="bold",
                )  # fmt: skip
            axes.set(xlim=(-0.08, 1.08), ylim=(-0.09, _HEIGHT + 0.09), aspect="equal")
            axes.axis("off")
        above = known & ~stable
        left.scatter(*points[above].T, s=18, marker="s", facecolor=style.PAPER, edgecolor=style.MUTED, lw=0.9, zorder=2)
        left.scatter(*points[stable & compound].T, s=30, marker="s", color=style.INK, zorder=3)
        right.scatter(*points[predicted & compound & ~stable].T, s=22, color=style.BLUE, zorder=2)
        right.scatter(*points[predicted & compound & stable].T, s=44, color=style.GREEN, zorder=4)
        right.scatter(
            *points[stable & compound & ~predicted].T, s=30, marker="s", facecolor="none", edgecolor=style.RED, lw=1.2,
            zorder=3,
        )  # fmt: skip
        _name_ternary(left, rows, points, stable & compound)
        if int((predicted & compound).sum()) <= _MANY_LABELS:
            _name_ternary(right, rows, points, predicted & compound)
        else:
            _name_ternary(right, rows, points, predicted & stable & compound)
        left.legend(
            handles=_handles([("s", style.INK, "on the hull"), ("s", None, "known, above it")]), loc="upper left",
            bbox_to_anchor=(-0.02, 1.0),
        )  # fmt: skip
        right.legend(
            handles=_handles(
                [("o", style.GREEN, "on both hulls"), ("o", style.BLUE, "predicted alone"), ("s", style.RED, "missed")]
            ),
            loc="upper left", bbox_to_anchor=(-0.02, 1.0),
        )  # fmt: skip
        return style.to_svg(figure, name, _label(rows, elements))


def _handles(entries: Sequence[tuple[str, str | None, str]]) -> list[Any]:
    return [
        Line2D(
            [], [], ls="", marker=marker, ms=5.5, color=colour or style.MUTED, label=label,
            markerfacecolor=style.PAPER if colour in (None, style.RED) else colour,
        )
        for marker, colour, label in entries
    ]  # fmt: skip


def _name_ternary(axes: Axes, rows: pd.DataFrame, points: np.ndarray, chosen: np.ndarray) -> None:
    """Formulas beside the chosen points, as far as they do not cover one another."""
    placed: list[np.ndarray] = []
    for i in np.flatnonzero(chosen):
        if any(abs(points[i][0] - p[0]) < 0.1 and abs(points[i][1] - p[1]) < 0.04 for p in placed):
            continue
        placed.append(points[i])
        axes.annotate(
            formula_text(rows["formula"].iloc[i]), points[i], (5, 4), textcoords="offset points", fontsize=8,
            color=style.INK, bbox={"facecolor": style.PAPER, "edgecolor": "none", "alpha": 0.7, "pad": 0.5}, zorder=5,
        )  # fmt: skip
