"""Figures about the layers of a network: components of elements and compounds, and likeness of the elements."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from tasks.reporting import style
from tasks.reporting.figures_screening import PERIODIC_TABLE
from tasks.reporting.wording import count, decimal, percent

SKY = "#56b4e9"
DIVERGING = LinearSegmentedColormap.from_list(
    "diverging", ["#a34600", "#e8a066", "#f6f4f1", "#7fb8dc", "#0b4f86"]
)  # unlike: orange, alike: blue
FAMILIES: dict[str, tuple[str, tuple[str, ...]]] = {
    "alkali metals, H": (style.BLUE, ("1",)),
    "alkaline earths": (SKY, ("2",)),
    "groups 13–15": (style.GREEN, ("13", "14", "15")),
    "chalcogens": (style.ORANGE, ("16",)),
    "halogens": (style.RED, ("17",)),
    "noble gases": (style.PURPLE, ("18",)),
    "transition metals": (style.MUTED, tuple(str(group) for group in range(3, 13))),
    "f elements": (style.GREY, ("La-Lu", "Ac-Pu")),
}
"""Families of elements: colour, and the groups in them. The last two are drawn without their symbols."""
_UNNAMED = ("transition metals", "f elements")
_KINDS = {
    "I-VI": (style.ORANGE, "o"),
    "I-VII": (style.BLUE, "o"),
    "II-VI": (style.BLUE, "s"),
    "II-VII": (style.ORANGE, "s"),
}
_SCATTER_LIMIT = 1000  # more points than this are drawn as an image inside the SVG


def layer_title(layer: str) -> str:
    """Write a layer's number or name as a title."""
    return f"Layer {layer}" if layer.isdecimal() else layer


def _panels(
    table: pd.DataFrame, explained: Mapping[str, Sequence[float]], height: float
) -> tuple[Figure, list[tuple[Axes, pd.DataFrame]]]:
    """Make one panel per layer, three in a row, with titles and axes; each comes with its rows."""
    layers = list(dict.fromkeys(table["layer"]))
    columns = min(3, len(layers))
    figure = style.new_figure(style.FULL_WIDTH, height * math.ceil(len(layers) / columns))
    axes_of = figure.subplots(math.ceil(len(layers) / columns), columns, squeeze=False).ravel()
    for axes in axes_of[len(layers) :]:
        axes.axis("off")
    result = []
    for axes, layer in zip(axes_of, layers, strict=False):
        first, second = explained[layer][:2]
        axes.set_title(layer_title(layer))
        axes.set_xlabel(f"component 1 ({100 * first:.0f} % of the variance)")
        axes.set_ylabel(f"component 2 ({100 * second:.0f} %)")
        axes.margins(0.09)
        result.append((axes, table[table["layer"] == layer]))
    return figure, result


def _name_points(
    axes: Axes,
    rows: pd.DataFrame,
    named: Sequence[tuple[pd.DataFrame, str]],
    size: float,
    room: tuple[float, float],
) -> None:
    """Write formulas beside their points, as far as they do not cover one another.

    Parameters
    ----------
    axes : Axes
    rows : DataFrame
        All points of the panel.
    named : sequence of (DataFrame, str)
        Points to name and the colour of their names; the first take precedence.
    size : float
        Of the type.
    room : tuple of float
        Width and height of a name as parts of the panel's range.
    """
    corner = rows[["component_1", "component_2"]].to_numpy().min(axis=0)
    span = np.maximum(rows[["component_1", "component_2"]].to_numpy().max(axis=0) - corner, 1e-12)
    placed: list[np.ndarray] = []
    for own, colour in named:
        for formula, x, y in zip(own["formula"], own["component_1"], own["component_2"], strict=True):
            spot = (np.array([x, y]) - corner) / span
            if any(abs(spot[0] - other[0]) < room[0] and abs(spot[1] - other[1]) < room[1] for other in placed):
                continue
            placed.append(spot)
            axes.annotate(
                formula, (x, y), (3, 2), textcoords="offset points", fontsize=size, color=colour, fontweight="bold",
                zorder=4,
            )  # fmt: skip


def element_components(table: pd.DataFrame, explained: Mapping[str, Sequence[float]]) -> str:
    """Elements on the first two principal components of each layer, coloured by family.

    Parameters
    ----------
    table : DataFrame
        ``layer, formula`` (a symbol), ``label`` (its group), ``component_1, component_2``.
    explained : mapping
        Layer to the shares of the variance.
    """
    name = "element-components"
    with style.house_style(name):
        figure, panels = _panels(table, explained, 3.7)
        for axes, rows in panels:
            named: list[tuple[pd.DataFrame, str]] = []
            for family, (colour, groups) in reversed(FAMILIES.items()):
                own = rows[rows["label"].isin(groups)]
                axes.scatter(
                    own["component_1"], own["component_2"], s=7 if family in _UNNAMED else 10, color=colour, lw=0
                )
                if family in _UNNAMED:
                    continue
                named.append((own, colour))
            _name_points(axes, rows, named[::-1], 7.5, (0.055, 0.034))
        handles = [
            Line2D([], [], ls="", marker="o", ms=5, color=colour, label=family)
            for family, (colour, _) in FAMILIES.items()
        ]
        figure.legend(handles=handles, loc="outside lower center", ncols=8, handletextpad=0.1, columnspacing=1.2)
        layers = ", ".join(layer for layer in dict.fromkeys(table["layer"]))
        label = f"The 86 elements on the first two principal components of the activations of layers {layers}."
        return style.to_svg(figure, name, label)


def compound_components(table: pd.DataFrame, explained: Mapping[str, Sequence[float]]) -> str:
    """AB compounds on the first two components of each layer: shape says the metal's group, colour charge balance.

    Parameters
    ----------
    table : DataFrame
        ``layer, formula, label`` (a kind such as ``I-VII``), ``component_1, component_2``.
    explained : mapping
        Layer to the shares of the variance.
    """
    name = "compound-components"
    with style.house_style(name):
        figure, panels = _panels(table, explained, 3.5)
        for axes, rows in panels:
            axes.margins(x=0.16)
            for kind, (colour, marker) in _KINDS.items():
                own = rows[rows["label"] == kind]
                filled = colour if kind.endswith("VII") else style.PAPER
                axes.scatter(
                    own["component_1"], own["component_2"], s=22, facecolor=filled, edgecolor=colour, marker=marker
                )
            _name_points(axes, rows, [(rows, style.INK)], 7.5, (0.1, 0.034))
        words = {
            "I-VI": "I–VI (LiS), not balanced", "I-VII": "I–VII (LiCl), balanced",
            "II-VI": "II–VI (MgS), balanced", "II-VII": "II–VII (MgCl), not balanced",
        }  # fmt: skip
        handles = [
            Line2D([], [], ls="", marker=marker, ms=5.5, color=colour, label=words[kind],
                   markerfacecolor=colour if kind.endswith("VII") else style.PAPER)
            for kind, (colour, marker) in _KINDS.items()
        ]  # fmt: skip
        figure.legend(handles=handles, loc="outside lower center", ncols=4, handletextpad=0.2)
        layers = ", ".join(dict.fromkeys(table["layer"]))
        label = (
            f"AB compounds of groups I and II with S and Cl on two components of the activations of layers {layers}."
        )
        return style.to_svg(figure, name, label)


def table_components(table: pd.DataFrame, explained: Mapping[str, Sequence[float]], meaning: str) -> str:
    """Rows of a table on the first two components of each layer, coloured by a property.

    Parameters
    ----------
    table : DataFrame
        ``layer, label`` (yes, no or missing), ``component_1, component_2``.
    explained : mapping
        Layer to the shares of the variance.
    meaning : str
        The property in words; empty for none.
    """
    name = "table-components"
    answers = [("no", style.ORANGE), ("yes", style.BLUE)]
    with style.house_style(name):
        figure, panels = _panels(table, explained, 3.4)
        for axes, rows in panels:
            unknown = rows[rows["label"].isna()]
            image = len(rows) > _SCATTER_LIMIT
            axes.scatter(
                unknown["component_1"], unknown["component_2"], s=4, color=style.GREY, alpha=0.5, lw=0, rasterized=image
            )
            # rarer answers on top, so that they are seen
            for answer, colour in sorted(answers, key=lambda item: -int((rows["label"] == item[0]).sum())):
                own = rows[rows["label"] == answer]
                axes.scatter(
                    own["component_1"], own["component_2"], s=6, color=colour, alpha=0.6, lw=0, rasterized=image
                )
        first = panels[0][1]["label"]
        if meaning:
            shown = [(answer, colour, int((first == answer).sum())) for answer, colour in answers[::-1]]
            shown += [("does not apply, or not known", style.GREY, int(first.isna().sum()))]
            handles = [
                Line2D([], [], ls="", marker="o", ms=5, color=colour, label=f"{answer} ({count(n)})")
                for answer, colour, n in shown
                if n
            ]
            figure.legend(handles=handles, loc="outside lower center", ncols=3, handletextpad=0.1)
        label = f"{count(len(first))} compositions on two components of the activations" + (
            f", coloured by: {meaning}." if meaning else "."
        )
        return style.to_svg(figure, name, label)


def similarity_map(similarities: Mapping[str, float], element: str, limit: float) -> str:
    """Periodic table shaded by the likeness of each element to one.

    Parameters
    ----------
    similarities : mapping of str to float
        Symbol to similarity; elements without one stay empty.
    element : str
        The one they are compared with.
    limit : float
        Similarity of the strongest shade, the same for all maps of a page.
    """
    name = f"similarity-{element}"
    norm = Normalize(-limit, limit)
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 2.75)
        axes = figure.add_subplot()
        for row, line in enumerate(PERIODIC_TABLE):
            for column, symbol in enumerate(line.split()):
                if symbol == ".":
                    continue
                value = similarities.get(symbol, float("nan"))
                known, own = not math.isnan(value), symbol == element
                y = row + (0.35 if row > 6 else 0.0)
                fill = style.INK if own else DIVERGING(norm(value)) if known else "none"
                axes.add_patch(
                    Rectangle((column, y), 0.94, 0.94, facecolor=fill, edgecolor=style.RULE, lw=0 if known else 0.5)
                )
                light = own or (known and abs(value) > 0.62 * limit)
                colour = style.PAPER if light else style.INK if known else style.GREY
                axes.text(
                    column + 0.47, y + 0.5, symbol, ha="center", va="center", fontsize=6.5, color=colour,
                    fontweight="bold",
                )  # fmt: skip
        axes.set(xlim=(-0.1, 18.1), ylim=(9.4, -0.1), aspect="equal")
        axes.axis("off")
        top = sorted(((v, s) for s, v in similarities.items() if s != element and v == v), reverse=True)[:5]
        label = f"Periodic table shaded by likeness to {element}; most alike: " + ", ".join(
            f"{symbol} {decimal(value, 2)}" for value, symbol in top
        )
        return style.to_svg(figure, name, label + ".")


def similarity_heatmap(matrix: np.ndarray, elements: Sequence[str], groups: Sequence[str], limit: float) -> str:
    """Similarity of all pairs, elements sorted by their groups.

    Parameters
    ----------
    matrix : ndarray, shape (n, n)
        Similarities; NaN where there is none.
    elements, groups : sequence of str, length n
        Symbols, and their groups ``1`` to ``18``, ``La-Lu``, ``Ac-Pu``.
    limit : float
        Similarity of the strongest shade.
    """
    name = "similarity-matrix"
    place = {group: i for i, (_, own) in enumerate(FAMILIES.values()) for group in own}
    inner = {group: (place[group], int(group) if group.isdecimal() else 99 + len(group)) for group in place}
    order = sorted(range(len(elements)), key=lambda i: (inner[groups[i]], groups[i], i))
    families = [place[groups[i]] for i in order]
    edges = [i for i in range(1, len(order)) if families[i] != families[i - 1]]
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 4.95)
        axes = figure.add_subplot()
        image = axes.imshow(
            np.ma.masked_invalid(matrix[np.ix_(order, order)]), cmap=DIVERGING, vmin=-limit, vmax=limit,
            interpolation="nearest",
        )  # fmt: skip
        axes.grid(visible=False)
        for edge in edges:
            axes.axhline(edge - 0.5, color=style.PAPER, lw=1)
            axes.axvline(edge - 0.5, color=style.PAPER, lw=1)
        bounds = [0, *edges, len(order)]
        middles = [(a + b - 1) / 2 for a, b in itertools.pairwise(bounds)]
        names = [list(FAMILIES)[families[a]].replace(" metals, H", "").replace(" metals", "") for a in bounds[:-1]]
        axes.set_yticks(middles, names, color=style.INK)
        axes.set_xticks([])
        axes.tick_params(length=0)
        for spine in axes.spines.values():
            spine.set_visible(False)
        bar = figure.colorbar(image, ax=axes, location="bottom", shrink=0.8, aspect=32, pad=0.02)
        bar.outline.set_visible(False)
        bar.set_label("similarity: orange unlike, blue alike")
        label = f"Similarity of {count(len(order))} elements in pairs, sorted by family: {', '.join(names)}."
        return style.to_svg(figure, name, label)


def agreement_by_layer(agreement: Sequence[Mapping[str, Any]], contrast: Sequence[Mapping[str, Any]]) -> str:
    """How much the layers go by the periodic table, and by charge balance.

    Parameters
    ----------
    agreement : sequence of mapping
        ``layer, network, nearest, nearest_by_chance``.
    contrast : sequence of mapping
        ``layer, network, contrast``.
    """
    name = "agreement"
    layers = list(dict.fromkeys(entry["layer"] for entry in agreement))
    looks = {"trained": (style.BLUE, "-", "o"), "untrained": (style.MUTED, (0, (3, 2)), "s")}
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 3.5)
        left, right = figure.subplots(1, 2)
        for axes, entries, key, factor in ((left, agreement, "nearest", 100), (right, contrast, "contrast", 1)):
            for network, (colour, line, marker) in looks.items():
                own = {e["layer"]: e[key] for e in entries if e["network"] == network and e[key] is not None}
                shown = [i for i, layer in enumerate(layers) if layer in own]
                if shown:
                    values = [factor * own[layers[i]] for i in shown]
                    axes.plot(shown, values, color=colour, ls=line, marker=marker, ms=4, lw=1.6, label=network)
            axes.set_xticks(range(len(layers)), layers)
            axes.set_xlabel("layer")
        chance = 100 * next((e["nearest_by_chance"] for e in agreement if e["nearest_by_chance"] is not None), 0.0)
        left.axhline(chance, color=style.RED, lw=1, ls=(0, (4, 3)), label="by chance")
        left.set_ylim(bottom=0)
        left.set_ylabel("elements (%)")
        left.set_title("Nearest element is of the same group")
        left.legend(loc="best")
        right.axhline(0, color=style.INK, lw=0.8)
        right.set_ylabel("difference of similarities")
        right.set_title("AB compounds: balance against groups")
        best = max((e for e in agreement if e["network"] == "trained"), key=lambda e: e["nearest"] or 0.0)
        label = (
            "By layer: share of elements whose nearest element is of their group, at most "
            f"{percent(best['nearest'])} in layer {best['layer']}; and whether AB compounds are alike by shared groups "
            "or by charge balance."
        )
        return style.to_svg(figure, name, label)
