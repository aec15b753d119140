"""Figures about the network: how it learned, how far off it is, what its probabilities are worth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from tasks.reporting import style
from tasks.reporting.wording import count, decimal

SCATTER_LIMIT = 2000  # more points than this are drawn as a density
RESIDUAL_RANGE = 0.4  # eV/atom either side; what lies outside is counted in the figure


def learning_curve(table: pd.DataFrame) -> str:
    """Training and validation error against epoch, one thin line per member, with the learning rate below.

    Parameters
    ----------
    table : DataFrame
        Schema ``learning_curve``; MAE in eV/atom.
    """
    name = "learning-curve"
    with_rate = "learning_rate" in table and table["learning_rate"].notna().any()
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 3.7 if with_rate else 3.1)
        grid = figure.add_gridspec(2 if with_rate else 1, 1, height_ratios=[3.4, 1] if with_rate else [1])
        axes = figure.add_subplot(grid[0])
        values = []
        for column, label, colour in (
            ("train_mae", "training rows", style.ORANGE),
            ("validation_mae", "held-out rows", style.BLUE),
        ):
            if column not in table or table[column].isna().all():
                continue
            for i, (_, member) in enumerate(table.sort_values("epoch").groupby("member", sort=True)):
                axes.plot(
                    member["epoch"], member[column], color=colour, lw=1.6, alpha=1.0 if i == 0 else 0.5,
                    label=label if i == 0 else None, marker="o" if len(member) == 1 else None,
                )  # fmt: skip
            values.append(table[column].dropna().to_numpy(float))
        low, high = np.concatenate(values).min(), np.concatenate(values).max()
        if low > 0 and high / low > 3:
            axes.set_yscale("log")
            style.log_axis(axes.yaxis, low, high)
        axes.set_ylabel("MAE (eV/atom)")
        axes.legend(loc="upper right")
        bottom = axes
        if with_rate:
            bottom = figure.add_subplot(grid[1], sharex=axes)
            for _, member in table.sort_values("epoch").groupby("member", sort=True):
                bottom.plot(member["epoch"], member["learning_rate"] * 1e3, color=style.MUTED, lw=1.2)
            bottom.set_ylabel("rate (10⁻³)")
            bottom.set_ylim(bottom=0)
            axes.tick_params(labelbottom=False)
        bottom.set_xlabel("epoch")
        final = table.sort_values("epoch").groupby("member").tail(1)
        label = (
            f"Learning curve: mean absolute error against epoch, {table['member'].nunique()} member(s), "
            f"{count(table['epoch'].max())} epochs; training error ends at "
            f" {decimal(final['train_mae'].mean())} eV/atom."
        )
        return style.to_svg(figure, name, label)


def _cloud(axes: Axes, x: np.ndarray, y: np.ndarray, extent: tuple[float, float, float, float]) -> None:
    """Points where they are few; otherwise hexagons shaded by the logarithm of the count, as one small image."""
    if len(x) <= SCATTER_LIMIT:
        axes.scatter(x, y, s=9, color=style.BLUE, alpha=0.5, lw=0)
        return
    density = axes.hexbin(
        x, y, gridsize=90, bins="log", mincnt=1, cmap=style.DENSITY, extent=extent, lw=0.1, rasterized=True
    )
    figure = axes.get_figure()
    if figure is not None:
        bar = figure.colorbar(density, ax=axes, shrink=0.55, aspect=18, pad=0.02, anchor=(0, 0))
        bar.set_label("rows per cell")
        bar.outline.set_visible(False)  # type: ignore[operator]
        low, high = density.get_clim()
        style.log_axis(bar.ax.yaxis, max(low, 1.0), max(high, 1.0), counts=True)


def parity(reference: np.ndarray, prediction: np.ndarray, rows: str) -> str:
    """Predicted against reference formation energy.

    Parameters
    ----------
    reference, prediction : ndarray, shape (n,)
        Formation energies in eV/atom; n > 0.
    rows : str
        Which rows these are, in plain words.
    """
    name = "parity"
    error = prediction - reference
    mae, rmse = np.abs(error).mean(), float(np.sqrt((error**2).mean()))
    spread = ((reference - reference.mean()) ** 2).sum()
    r2 = 1 - (error**2).sum() / spread if spread > 0 else float("nan")
    low, high = float(min(reference.min(), prediction.min())), float(max(reference.max(), prediction.max()))
    pad = 0.04 * max(high - low, 0.1)
    low, high = low - pad, high + pad
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 4.3)
        axes = figure.add_subplot()
        axes.plot([low, high], [low, high], color=style.MUTED, lw=0.9, zorder=3, ls=(0, (4, 3)))
        _cloud(axes, reference, prediction, (low, high, low, high))
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_xlabel("reference formation energy (eV/atom)")
        axes.set_ylabel("predicted formation energy (eV/atom)")
        style.note(axes, f"MAE {decimal(mae)} eV/atom\nRMSE {decimal(rmse)} eV/atom\nR² {decimal(r2, 4)}")
        label = (
            f"Parity plot of {count(len(error))} {rows}: predicted against reference formation energy, "
            f"MAE {decimal(mae)} eV/atom, RMSE {decimal(rmse)} eV/atom, R squared {decimal(r2, 4)}."
        )
        return style.to_svg(figure, name, label)


def residuals(reference: np.ndarray, prediction: np.ndarray, rows: str) -> str:
    """Histogram of prediction minus reference, with the share of rows the axis leaves out.

    Parameters
    ----------
    reference, prediction : ndarray, shape (n,)
        Formation energies in eV/atom; n > 0.
    rows : str
        Which rows these are, in plain words.
    """
    name = "residuals"
    error = prediction - reference
    outside = int((np.abs(error) > RESIDUAL_RANGE).sum())
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 4.3)
        axes = figure.add_subplot()
        axes.hist(error, bins=np.linspace(-RESIDUAL_RANGE, RESIDUAL_RANGE, 81).tolist(), color=style.BLUE, alpha=0.85)
        axes.axvline(0, ymax=0.78, color=style.INK, lw=0.9)
        p90 = float(np.quantile(np.abs(error), 0.9))
        if p90 < RESIDUAL_RANGE:
            for edge in (-p90, p90):
                axes.axvline(edge, ymax=0.74, color=style.RED, lw=1.1, ls=(0, (4, 3)))
        axes.set_xlim(-RESIDUAL_RANGE, RESIDUAL_RANGE)
        axes.set_xlabel("prediction − reference (eV/atom)")
        axes.set_ylabel("rows")
        axes.set_ylim(top=1.32 * axes.get_ylim()[1])  # headroom for the numbers
        style.count_axis(axes.yaxis)
        axes.grid(axis="x", visible=False)
        style.note(
            axes,
            f"mean {decimal(error.mean(), 3, sign=True)} eV/atom\nmedian |error| {decimal(np.median(np.abs(error)))}\n"
            f"90 % within ±{decimal(p90)}\n{count(outside)} of {count(len(error))} rows outside",
        )
        label = (
            f"Histogram of residuals of {count(len(error))} {rows}: mean {decimal(error.mean())} eV/atom, "
            f"90 percent within {decimal(p90)} eV/atom, {count(outside)} rows outside the axis."
        )
        return style.to_svg(figure, name, label)


def reliability(table: Sequence[Mapping[str, Any]]) -> str:
    """Observed share of stable rows against the probability that was stated.

    Parameters
    ----------
    table : sequence of mapping
        Bins of `models.stability.fit_probability`: ``stated`` (mean probability), ``observed`` (share that is
        stable) with its 95 % interval ``observed_low``, ``observed_high``, and ``n`` (rows).
    """
    name = "reliability"
    rows = [row for row in table if row["n"] > 0]
    stated, observed, low, high, size = (
        np.array([row[key] for row in rows], float)
        for key in ("stated", "observed", "observed_low", "observed_high", "n")
    )
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 4.1)
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=style.MUTED, lw=0.9, ls=(0, (4, 3)))
        axes.vlines(stated, low, high, color=style.BLUE, lw=1.2)
        axes.scatter(stated, observed, s=18 + 130 * np.sqrt(size / size.max()), color=style.BLUE, alpha=0.8, lw=0)
        axes.set(xlim=(-0.03, 1.03), ylim=(-0.03, 1.03), aspect="equal")
        axes.xaxis.set_major_formatter(PercentFormatter(1.0))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("stated probability of being stable")
        axes.set_ylabel("observed share that is stable")
        label = (
            f"Reliability of the probabilities: {len(rows)} bins over {count(size.sum())} rows, "
            f"largest gap between stated and observed share {100 * np.abs(stated - observed).max():.0f} percent points."
        )
        return style.to_svg(figure, name, label)
