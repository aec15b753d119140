"""Figure of a predicted uncertainty: whether its intervals hold what they say, and whether errors grow with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tasks.reporting import style
from tasks.reporting.wording import count, decimal


def calibration(report: Mapping[str, Any], unit: str) -> str:
    """Draw two panels: quantiles as stated and as they came true, and errors against the deviation that was stated.

    Parameters
    ----------
    report : mapping
        What `models.uncertainty.uncertainty_report` says of rows that neither trained nor calibrated the network.
    unit : str
        Unit of the prediction.
    """
    name = "calibration"
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 4.3)
        left, right = figure.subplots(1, 2)
        _levels(left, report)
        _spread(right, report, unit)
        held = report["coverage"]["0.95"]["share"]
        label = (
            f"Calibration on {count(report['n'])} rows: calibration error {report['calibration_error']:.4f}; "
            f"{100 * held:.1f} percent of the rows lie in their 95 percent interval; stated deviation "
            f"{decimal(report['sharpness'])} {unit} in the mean, RMSE {decimal(report['rmse'])} {unit}."
        )
        return style.to_svg(figure, name, label)


def _levels(axes: Axes, report: Mapping[str, Any]) -> None:
    expected, observed = (np.asarray(report[key], dtype=float) for key in ("expected", "observed"))
    axes.plot([0, 1], [0, 1], color=style.MUTED, lw=0.9, ls=(0, (4, 3)))
    axes.fill_between(expected, expected, observed, color=style.RED, alpha=0.3, lw=0)
    axes.plot(expected, observed, color=style.BLUE, lw=1.6)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.02), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1.0))
    axes.set_xlabel("stated probability of lying below")
    axes.set_ylabel("share of the rows that does")
    held = report["coverage"]["0.95"]
    style.note(
        axes,
        f"calibration error {report['calibration_error']:.4f}\n95 % intervals hold {100 * held['share']:.1f} %\n"
        f"{count(report['n'])} rows",
    )


def _spread(axes: Axes, report: Mapping[str, Any], unit: str) -> None:
    bins = report["error_by_spread"]
    stated, found = (np.array([one[key] for one in bins], dtype=float) for key in ("std", "rmse"))
    positive = np.concatenate([stated, found])
    positive = positive[positive > 0]
    if not len(positive):  # a network that is never wrong and says so
        style.note(axes, "no error, and none stated")
        return
    low, high = 0.8 * float(positive.min()), 1.25 * float(positive.max())
    axes.plot([low, high], [low, high], color=style.MUTED, lw=0.9, ls=(0, (4, 3)))
    axes.plot(stated, found, color=style.BLUE, lw=1.0, marker="o", ms=5)
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    for axis in (axes.xaxis, axes.yaxis):
        style.log_axis(axis, low, high)
    axes.set_xlabel(f"stated deviation ({unit})")
    axes.set_ylabel(f"root mean square error ({unit})")
    rank = report["spearman"]
    said = "one deviation for all rows" if rank is None else f"rank correlation with |error| {rank:.2f}"
    style.note(axes, f"{said}\n{len(bins)} bins of equal counts")
