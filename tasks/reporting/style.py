"""One look for all figures, and their way into the page as inline SVG with the same bytes each time."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from xml.sax.saxutils import quoteattr

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

# Okabe & Ito's palette, which colour-blind readers can tell apart; grey for what is set aside.
INK, MUTED, RULE, PAPER = "#1c2733", "#5b6876", "#d5dbe1", "#ffffff"
BLUE, ORANGE, GREEN, RED, PURPLE, GREY = "#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#b3bcc6"
FLAG_COLOURS = {"none": BLUE, "known": GREY, "hull_incomplete": ORANGE, "out_of_domain": PURPLE}
DENSITY = LinearSegmentedColormap.from_list("density", ["#dcebf5", "#7fb8dc", "#2b83ba", "#0b4f86", "#062b4f"])

FULL_WIDTH, HALF_WIDTH = 10.0, 5.0  # inches; both are shown at the same scale, so type has one size
RASTER_DPI = 220

_FONTS = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', 'Noto Sans', 'DejaVu Sans', Arial, sans-serif"
_RC: Any = {  # the stubs want every key as a literal
    "font.size": 9.0,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 9.0,
    "axes.labelcolor": INK,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.unicode_minus": True,
    "axes.grid": True,
    "grid.color": "#e8ecef",
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "svg.fonttype": "none",
    "svg.image_inline": True,
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}
# Matplotlib's settings are global to the process; two reports in two threads must not mix theirs.
_SETTINGS = threading.RLock()


@contextmanager
def house_style(name: str) -> Iterator[None]:
    """Matplotlib's defaults plus the settings above, whatever the user's own configuration says.

    Parameters
    ----------
    name : str
        Name of the figure, unique in the page: salt of its element ids.
    """
    with _SETTINGS, mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_RC)
        mpl.rcParams["svg.hashsalt"] = name
        yield


def new_figure(width: float, height: float) -> Figure:
    """Make a figure of ``width`` x ``height`` inches outside pyplot's registry."""
    return Figure(figsize=(width, height), layout="constrained")


def to_svg(figure: Figure, name: str, label: str) -> str:
    """Inline SVG of a figure: no header, no metadata, no addresses, ids that are unique in the page.

    Parameters
    ----------
    figure : Figure
        Drawn under `house_style`.
    name : str
        Prefix of the ids.
    label : str
        What a reader who cannot see the figure is told.
    """
    buffer = io.StringIO()
    metadata = {"Date": None, "Creator": None, "Format": None, "Type": None}
    if engine := figure.get_layout_engine():
        # once: with an engine, matplotlib lays out and draws all twice, the first time to measure
        FigureCanvasSVG(figure)  # measures text as it will be written
        engine.execute(figure)
        figure.set_layout_engine(None)
    figure.savefig(buffer, format="svg", dpi=RASTER_DPI, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    opening, body = svg.split(">", 1)
    view_box = re.search(r'viewBox="([^"]+)"', opening)
    if view_box is None:
        raise ValueError(f"matplotlib wrote figure {name!r} without a viewBox")
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = body.replace("xlink:href", "href")
    body = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', body)
    body = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', body)
    body = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", body)
    body = re.sub(r"'DejaVu Sans'[^;\"]*", _FONTS, body)
    body = re.sub(r"<!--.*?-->\s*", "", body, flags=re.DOTALL)
    return f'<svg class="figure" viewBox="{view_box.group(1)}" role="img" aria-label={quoteattr(label)}>{body.strip()}'


def standalone(svg: str) -> bytes:
    """Return an inline figure as a file of its own, on paper, in its size in print.

    Parameters
    ----------
    svg : str
        From `to_svg`.
    """
    opening, body = svg.split(">", 1)
    box = re.search(r'viewBox="([\d. -]+)"', opening)
    if box is None:
        raise ValueError("a figure without a viewBox")
    width, height = box.group(1).split()[2:]
    frame = f'xmlns="http://www.w3.org/2000/svg" width="{width}pt" height="{height}pt"'
    paper = f'<rect width="100%" height="100%" fill="{PAPER}"/>'
    return f"{opening.replace('<svg', f'<svg {frame}', 1)}>{paper}{body}".encode()


def compact(value: float) -> str:
    """Write a count in few characters: 950, 1.2k, 3.4M."""
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.1f}".removesuffix(".0") + suffix
    return f"{value:g}"


def log_axis(axis: Axis, low: float, high: float, counts: bool = False) -> None:
    """Ticks of a logarithmic axis as plain numbers, few on many decades and more on few."""
    decades = np.log10(high / low)
    subs = (1.0,) if decades > 3 else (1.0, 3.0) if decades > 1.5 else (1.0, 2.0, 5.0)
    axis.set_major_locator(LogLocator(base=10, subs=subs, numticks=20))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value) if counts else f"{value:g}"))


def count_axis(axis: Axis) -> None:
    """Ticks of a linear axis of counts in few characters."""
    axis.set_major_formatter(FuncFormatter(lambda value, _: compact(value)))


def note(axes: Axes, text: str, x: float = 0.03, y: float = 0.97, align: str = "left") -> None:
    """Numbers in a corner of a figure, on a patch of paper so that they stay readable."""
    axes.text(
        x, y, text, transform=axes.transAxes, ha=align, va="top", linespacing=1.5, parse_math=False,
        bbox={"facecolor": PAPER, "edgecolor": "none", "alpha": 0.85, "pad": 3},
    )  # fmt: skip
