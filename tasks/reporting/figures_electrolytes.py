"""Figures about the electrolytes: predicted moduli, and chi with its uncertainty."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.transforms import blended_transform_factory

from models.electrodes import METAL_NAMES, electrode
from tasks.reporting import style
from tasks.reporting.wording import count, decimal, formula_text

CHI_UNIT = "kJ mol⁻¹ nm⁻¹"
SCATTER_LIMIT = 5000  # more points than this are drawn as an image inside the SVG


def moduli_parity(table: pd.DataFrame) -> str:
    """Predicted against reference bulk and shear modulus, both axes logarithmic.

    Parameters
    ----------
    table : DataFrame
        ``bulk_modulus_vrh, bulk_modulus_prediction, shear_modulus_vrh, shear_modulus_prediction`` in GPa.
    """
    name = "moduli"
    summary = []
    with style.house_style(name):
        figure = style.new_figure(style.FULL_WIDTH, 4.3)
        panels = figure.subplots(1, 2)
        for axes, prefix, title in zip(
            panels, ("bulk_modulus", "shear_modulus"), ("Bulk modulus K", "Shear modulus G"), strict=True
        ):
            reference = table[f"{prefix}_vrh"].to_numpy(float)
            prediction = table[f"{prefix}_prediction"].to_numpy(float)
            usable = (reference > 0) & (prediction > 0)
            summary.append(_modulus_panel(axes, reference[usable], prediction[usable], title))
        return style.to_svg(
            figure, name, "Parity of the predicted moduli on held-out rows: " + "; ".join(summary) + "."
        )


def _modulus_panel(axes: Axes, reference: np.ndarray, prediction: np.ndarray, title: str) -> str:
    """One panel of `moduli_parity`; returns its numbers in words."""
    axes.set_title(title)
    axes.set_xlabel(f"reference {title[0].lower()}{title[1:]} (GPa)")
    axes.set_ylabel(f"predicted {title[0].lower()}{title[1:]} (GPa)")
    if not len(reference):
        style.note(axes, "no rows")
        return f"{title}: no rows"
    low = 0.8 * min(reference.min(), prediction.min())
    high = 1.25 * max(reference.max(), prediction.max())
    axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(low, high), aspect="equal")
    axes.plot([low, high], [low, high], color=style.MUTED, lw=0.9, ls=(0, (4, 3)))
    axes.scatter(
        reference, prediction, s=9, color=style.BLUE, alpha=0.45, lw=0, rasterized=len(reference) > SCATTER_LIMIT
    )
    for axis in (axes.xaxis, axes.yaxis):
        style.log_axis(axis, low, high)
    error = np.log10(prediction / reference)
    mae, bias = float(np.abs(error).mean()), float(error.mean())
    style.note(
        axes,
        f"MAE {decimal(mae)} in log₁₀\nRMSE {decimal(float(np.sqrt((error**2).mean())))} in log₁₀\n"
        f"bias {decimal(bias, 3, sign=True)} in log₁₀\n{count(len(error))} rows",
    )
    return f"{title}: {count(len(error))} rows, MAE {decimal(mae)}, bias {decimal(bias)} in log10(GPa)"


def _with_intervals(table: pd.DataFrame) -> bool:
    return {"chi_q05", "chi_q95"} <= set(table.columns) and bool(table["chi_q05"].notna().any())


def _chi_range(chi: np.ndarray, best: pd.DataFrame | None) -> tuple[float, float]:
    """Lowest and highest chi to show: all of the best with their intervals, all but the highest of many others."""
    top = float(np.quantile(chi, 0.995)) if len(chi) > 200 else float(chi.max())
    bottom = min(0.0, float(chi.min()))
    if best is not None:
        bottom, top = min(bottom, float(best["chi_q05"].min())), max(top, float(best["chi_q95"].max()))
    return bottom, max(top, bottom + 1e-6)


def _reference_lines(axes: Axes, metal: str, span: float) -> None:
    """Draw the stability line with the region below it, and the shear modulus of the metal."""
    shear_modulus = electrode(metal).shear_modulus
    axes.axhspan(axes.get_ylim()[0] - span, 0, color=style.GREEN, alpha=0.12, lw=0)
    axes.axhline(0, color=style.GREEN, lw=1.4)
    axes.axvline(shear_modulus, color=style.MUTED, lw=0.9, ls=(0, (2, 3)))
    along_x = blended_transform_factory(axes.transAxes, axes.transData)
    axes.text(
        0.985, -0.018 * span, "stable: χ < 0", transform=along_x, ha="right", va="top", color="#00664b",
        fontweight="bold",
    )  # fmt: skip
    along_y = blended_transform_factory(axes.transData, axes.transAxes)
    axes.text(shear_modulus * 1.04, 0.985, f"G of {metal}", transform=along_y, va="top", fontsize=8, color=style.MUTED)


def chi_against_shear(ranking: pd.DataFrame, metal: str = "Li", n_best: int = 20) -> str:
    """Stability parameter against shear modulus; the best rows with their 5-95 % intervals.

    Parameters
    ----------
    ranking : DataFrame
        Schema ``ranking``, not empty; chi in kJ/mol/nm, moduli in GPa.
    metal : str
        Electrode, whose shear modulus is drawn for comparison.
    n_best : int
        How many of the first ranks are marked.
    """
    name, of_metal = "chi-shear", electrode(metal).shear_modulus
    table = ranking.sort_values("rank", kind="stable")
    best = table.head(n_best)
    chi, shear = table["chi"].to_numpy(float), table["shear_modulus_vrh"].to_numpy(float)
    intervals = _with_intervals(best)
    bottom, top = _chi_range(chi, best if intervals else None)
    span = top - bottom
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 5.2)
        axes = figure.add_subplot()
        axes.set_xscale("log")
        low, high = 0.75 * min(shear.min(), of_metal), 1.35 * max(shear.max(), of_metal)
        axes.set(xlim=(low, high), ylim=(bottom - 0.09 * span, top + 0.05 * span))
        style.log_axis(axes.xaxis, low, high)
        _reference_lines(axes, metal, span)
        rest = table.iloc[n_best:]
        axes.scatter(
            rest["shear_modulus_vrh"], rest["chi"], s=9, color=style.GREY, alpha=0.7, lw=0, label="ranked lower",
            rasterized=len(rest) > SCATTER_LIMIT,
        )  # fmt: skip
        if intervals:
            axes.vlines(best["shear_modulus_vrh"], best["chi_q05"], best["chi_q95"], color=style.BLUE, lw=1, alpha=0.55)
        axes.scatter(
            best["shear_modulus_vrh"], best["chi"], s=22, color=style.BLUE, zorder=3, label=f"best {len(best)}"
        )
        hidden = int((chi > axes.get_ylim()[1]).sum())
        if hidden:
            style.note(axes, f"{count(hidden)} more above", x=0.97, align="right")
        axes.set_xlabel("shear modulus G (GPa, logarithmic)")
        axes.set_ylabel(f"stability parameter χ ({CHI_UNIT})")
        if len(rest):
            axes.legend(loc="upper left", bbox_to_anchor=(0.0, 0.94), handletextpad=0.2)
        label = (
            f"Stability parameter chi against shear modulus of {count(len(table))} {METAL_NAMES[metal]} compounds; "
            f"{count((chi < 0).sum())} have chi below zero; smallest {decimal(chi.min(), 2)} kJ per mol and nm."
        )
        return style.to_svg(figure, name, label)


def chi_intervals(ranking: pd.DataFrame, n_best: int = 20) -> str:
    """Draw the best ranks by name: chi with its 5-95 % interval, against the stability line.

    Parameters
    ----------
    ranking : DataFrame
        Schema ``ranking``, not empty.
    n_best : int
        How many ranks are shown.
    """
    name = "chi-best"
    best = ranking.sort_values("rank", kind="stable").head(n_best)
    rows = np.arange(len(best))
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, max(5.2 * len(best) / 20, 1.0) if len(best) < 20 else 5.2)
        axes = figure.add_subplot()
        intervals = _with_intervals(best)
        if intervals:
            axes.hlines(rows, best["chi_q05"], best["chi_q95"], color=style.BLUE, lw=2.4, alpha=0.4)
        axes.scatter(best["chi"], rows, s=24, color=style.BLUE, zorder=3)
        axes.axvline(0, color=style.GREEN, lw=1.4)
        left, right = axes.get_xlim()
        left, right = min(left, 0.0), max(right, 0.0)
        left -= 0.05 * (right - left)
        axes.axvspan(left, 0, color=style.GREEN, alpha=0.12, lw=0)
        axes.set(xlim=(left, right), ylim=(len(best) - 0.4, -0.6))
        axes.set_yticks(rows)
        labels = axes.set_yticklabels([formula_text(formula) for formula in best["formula"]], color=style.INK)
        for text in labels:
            text.set_parse_math(False)  # a formula is data: no mark-up of ours
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
        axes.set_xlabel(f"stability parameter χ ({CHI_UNIT})")
        label = f"Stability parameter chi of the best {len(best)} with 5 to 95 percent intervals: " + "; ".join(
            f"{row.formula} {decimal(row.chi, 2)}" for row in best.itertuples()
        )
        return style.to_svg(figure, name, label + ".")
