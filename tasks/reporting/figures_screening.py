"""Figures about the screened space: what lies below the hull, what is left, and where in the periodic table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.colors import LogNorm
from matplotlib.patches import Rectangle

from tasks.reporting import style
from tasks.reporting.wording import ARITY_NAMES, FLAG_LABELS, count, decimal, threshold

PERIODIC_TABLE = """
H . . . . . . . . . . . . . . . . He
Li Be . . . . . . . . . . B C N O F Ne
Na Mg . . . . . . . . . . Al Si P S Cl Ar
K Ca Sc Ti V Cr Mn Fe Co Ni Cu Zn Ga Ge As Se Br Kr
Rb Sr Y Zr Nb Mo Tc Ru Rh Pd Ag Cd In Sn Sb Te I Xe
Cs Ba . Hf Ta W Re Os Ir Pt Au Hg Tl Pb Bi Po At Rn
Fr Ra
. . La Ce Pr Nd Pm Sm Eu Gd Tb Dy Ho Er Tm Yb Lu
. . Ac Th Pa U Np Pu
""".strip().splitlines()
CATEGORIES = ("none", *FLAG_LABELS)
_CATEGORY_LABELS = {"none": "no flag", **FLAG_LABELS}


def waterfall(steps: Sequence[tuple[str, int, str]]) -> str:
    """From everything below the threshold to what is left.

    Parameters
    ----------
    steps : sequence of (str, int, str)
        Label, count, and category (a flag, ``none`` for what remains, ``total`` for the first).
    """
    name = "waterfall"
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 0.42 * len(steps) + 0.75)
        axes = figure.add_subplot()
        total = max(steps[0][1], 1)
        left = steps[0][1]
        for row, (_, number, category) in enumerate(steps):
            removed = category in FLAG_LABELS
            start = left - number if removed else 0
            left = start if removed else left
            colour = style.INK if category == "total" else style.FLAG_COLOURS[category]
            axes.barh(row, number, left=start, height=0.62, color=colour)
            sign = "−" if removed else ""
            end = start + number
            inside = end > 0.82 * total and not removed and number > 0.2 * total
            axes.text(
                end + (-0.01 if inside else 0.01) * total, row, f"{sign}{number:,}", va="center",
                ha="right" if inside else "left", color=style.PAPER if inside else style.INK, fontweight="bold",
            )  # fmt: skip
        axes.set_yticks(range(len(steps)), [label for label, _, _ in steps], color=style.INK)
        axes.set_ylim(len(steps) - 0.5, -0.5)
        axes.set_xlim(0, 1.12 * total)
        axes.tick_params(axis="y", length=0)
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("compositions")
        style.count_axis(axes.xaxis)
        label = "From the threshold to what remains: " + "; ".join(f"{text} {count(n)}" for text, n, _ in steps) + "."
        return style.to_svg(figure, name, label)


def decomposition_distribution(energies: np.ndarray, category: np.ndarray, limit: float | None) -> str:
    """Histogram of the decomposition energy stacked by flag, and how many lie at or below each value.

    Parameters
    ----------
    energies : ndarray, shape (n,)
        Decomposition energies in eV/atom; n > 0.
    category : ndarray of int, shape (n,)
        Position in `CATEGORIES`: the first flag that applies, 0 where none does.
    limit : float or None
        The screen's threshold in eV/atom.
    """
    name = "decomposition"
    low, high = float(energies.min()), float(energies.max())
    edges = np.linspace(low, high if high > low else low + 0.01, 61)
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 3.9)
        left, right = figure.subplots(1, 2)
        groups = [energies[category == i] for i in range(len(CATEGORIES))]
        shown = [i for i, group in enumerate(groups) if len(group)]
        binned = [np.histogram(groups[i], edges)[0] for i in shown]
        floor = np.zeros(len(edges) - 1)
        for i, counts in zip(shown, binned, strict=True):
            left.stairs(
                floor + counts, edges, baseline=floor, fill=True, color=style.FLAG_COLOURS[CATEGORIES[i]],
                label=f"{_CATEGORY_LABELS[CATEGORIES[i]]} ({len(groups[i]):,})",
            )  # fmt: skip
            floor = floor + counts
        left.legend(loc="upper left", reverse=True)
        left.set_ylim(bottom=0)
        style.count_axis(left.yaxis)
        left.set_ylabel(f"candidates per {1000 * (edges[1] - edges[0]):.0f} meV/atom")
        left.set_title("How far below the hull")

        grid = np.linspace(low, high, 200)
        for values, colour, label in (
            (energies, style.INK, "all"),
            (groups[0], style.BLUE, "without any flag"),
        ):
            below = np.searchsorted(np.sort(values), grid, side="right")
            if below.max() > 0:
                right.plot(grid[below > 0], below[below > 0], color=colour, lw=1.8, label=label)
        right.set_yscale("log")
        style.log_axis(right.yaxis, 1.0, max(float(len(energies)), 10.0), counts=True)
        right.legend(loc="upper left")
        right.set_ylabel("candidates at or below")
        right.set_title("Had the threshold been stricter")
        for axes in (left, right):
            axes.set_xlabel("decomposition energy (eV/atom)")
            if limit is not None:
                axes.axvline(limit, color=style.RED, lw=1.1, ls=(0, (4, 3)))
        parts = ", ".join(f"{len(groups[i]):,} {_CATEGORY_LABELS[CATEGORIES[i]]}" for i in shown)
        label = (
            f"Distribution of the decomposition energy of {count(len(energies))} candidates ({parts}), lowest "
            f"{decimal(low)} eV/atom, "
            f"threshold {threshold(limit)} eV/atom."
        )
        return style.to_svg(figure, name, label)


def arity_funnel(screened: Mapping[int, int], below: Mapping[int, int], remaining: Mapping[int, int]) -> str:
    """Compositions screened, at or below the threshold, and left without a flag, per number of elements (log axis).

    Parameters
    ----------
    screened, below, remaining : mapping of int to int
        Counts per arity; `screened` may be empty.
    """
    name = "arity"
    arities = sorted({*screened, *below, *remaining})
    series = [
        ("screened", screened, style.GREY, "s"),
        ("at or below the threshold", below, style.INK, "o"),
        ("without any flag", remaining, style.BLUE, "D"),
    ]
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 4.1)
        axes = figure.add_subplot()
        top = max([1, *screened.values(), *below.values()])
        for row, arity in enumerate(arities):
            present = [counts[arity] for _, counts, _, _ in series if counts.get(arity, 0) > 0]
            if present:
                axes.hlines(row, min(present), max(present), color=style.RULE, lw=2.5, zorder=1)
            for _, counts, colour, marker in series:
                number = counts.get(arity, 0)
                if number > 0:
                    axes.scatter(number, row, s=46, color=colour, marker=marker, zorder=3)
                    axes.annotate(
                        style.compact(number), (number, row), (0, -17 if marker == "D" else 9), ha="center",
                        textcoords="offset points", fontsize=8, color=style.BLUE if marker == "D" else style.INK,
                    )  # fmt: skip
        for text, counts, colour, marker in series:
            if any(counts.values()):
                axes.scatter([], [], s=46, color=colour, marker=marker, label=text)
        axes.set_xscale("log")
        axes.set_xlim(0.5, 6 * top)
        style.log_axis(axes.xaxis, 0.5, 6.0 * top, counts=True)
        axes.set_yticks(range(len(arities)), [ARITY_NAMES.get(a, f"{a} elements") for a in arities], color=style.INK)
        axes.set_ylim(len(arities) - 0.4, -0.6)
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel("compositions (logarithmic)")
        axes.legend(loc="upper center", bbox_to_anchor=(0.42, -0.16), ncols=3, handletextpad=0.2, columnspacing=1.0)
        label = "Candidates by number of elements: " + "; ".join(
            f"{ARITY_NAMES.get(a, a)} {count(below.get(a, 0))} at or below the threshold, "
            f"{count(remaining.get(a, 0))} without any flag"
            for a in arities
        )
        return style.to_svg(figure, name, label + ".")


def element_counts(chemsys: pd.Series) -> dict[str, int]:
    """How many candidates contain each element.

    Parameters
    ----------
    chemsys : Series of str
        Chemical systems, elements joined by "-".
    """
    totals: dict[str, int] = {}
    for system, number in chemsys.value_counts().items():
        for element in str(system).split("-"):
            totals[element] = totals.get(element, 0) + int(number)
    return dict(sorted(totals.items()))


def element_map(counts: Mapping[str, int], what: str) -> str:
    """Periodic table shaded by the number of candidates that contain each element (log scale).

    Parameters
    ----------
    counts : mapping of str to int
        Candidates per element symbol.
    what : str
        Which candidates these are, in plain words.
    """
    name = "elements"
    present = [number for number in counts.values() if number > 0] or [1]
    norm = LogNorm(0.6 * min(present), max(3 * min(present), *present))
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 4.6)
        axes = figure.add_subplot()
        for row, line in enumerate(PERIODIC_TABLE):
            for column, symbol in enumerate(line.split()):
                if symbol == ".":
                    continue
                number = counts.get(symbol, 0)
                y = row + (0.35 if row > 6 else 0.0)
                fill = style.DENSITY(norm(number)) if number else "none"
                axes.add_patch(
                    Rectangle((column, y), 0.94, 0.94, facecolor=fill, edgecolor=style.RULE, lw=0 if number else 0.7)
                )
                dark = number > 0 and float(norm(number)) > 0.45
                colour = style.PAPER if dark else style.INK if number else style.GREY
                middle = column + 0.47
                axes.text(middle, y + (0.44 if number else 0.6), symbol, ha="center", color=colour, fontweight="bold")
                if number:
                    axes.text(middle, y + 0.8, style.compact(number), ha="center", color=colour, fontsize=7)
        axes.set(xlim=(-0.1, 18.1), ylim=(9.4, -0.1), aspect="equal")
        axes.axis("off")
        top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:5]
        label = (
            f"Periodic table shaded by the number of {what} that contain each element; most frequent: "
            + (", ".join(f"{element} {count(number)}" for element, number in top) or "none")
            + "."
        )
        return style.to_svg(figure, name, label)
