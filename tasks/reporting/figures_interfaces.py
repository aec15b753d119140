"""Figures about interfaces: where soft or stiff electrolytes are stable, and chi over the directions of a plane."""

from __future__ import annotations

from typing import cast

import numpy as np
import pandas as pd
from matplotlib.projections.polar import PolarAxes

from models.electrodeposition import critical_modulus_ratio
from models.electrodes import METAL_NAMES, electrode
from tasks.reporting import style
from tasks.reporting.figures_electrolytes import CHI_UNIT
from tasks.reporting.wording import count, decimal, formula_text

RATIOS = (1.0, 5 / 3, 4.0)
"""K/G of the lines in the map of regimes: brittle, Poisson's ratio 1/4, ductile."""
_DASHES = ("-", (0, (4, 2)), (0, (1, 1.5)))
_FACETS = (style.BLUE, style.ORANGE, style.PURPLE, style.RED)


def regimes(ranking: pd.DataFrame, metal: str = "Li") -> str:
    """Map which electrolytes are stable over shear modulus and volume ratio, and where the ranked ones lie.

    Parameters
    ----------
    ranking : DataFrame
        Schema ``ranking``, not empty.
    metal : str
        Electrode.
    """
    name, constants = "regimes", electrode(metal)
    shear, v = ranking["shear_modulus_vrh"].to_numpy(float), ranking["volume_ratio"].to_numpy(float)
    axis = np.geomspace(0.02, 5.0, 481)
    low, high = min(0.1, 0.7 * shear.min()), max(100.0, 1.4 * shear.max())
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 4.4)
        axes = figure.add_subplot()
        axes.set(xscale="log", yscale="log", xlim=(low, high), ylim=(axis[0], axis[-1]))
        style.log_axis(axes.xaxis, low, high)
        style.log_axis(axes.yaxis, axis[0], axis[-1])
        for ratio, dashes in zip(RATIOS, _DASHES, strict=True):
            nu = (3 * ratio - 2) / (6 * ratio + 2)
            critical = critical_modulus_ratio(nu, axis, constants) * constants.shear_modulus
            critical[np.abs(axis - 1.0) < 0.01] = np.nan  # the line leaves at one side and comes back at the other
            axes.plot(critical, axis, color=style.GREEN, lw=1.2, ls=dashes, label=f"χ = 0 at K/G = {ratio:.2g}")
            if ratio == RATIOS[1]:
                soft = axis < 1
                axes.fill_betweenx(axis[soft], low, critical[soft], color=style.GREEN, alpha=0.12, lw=0)
                axes.fill_betweenx(axis[~soft], critical[~soft], high, color=style.GREEN, alpha=0.12, lw=0)
        axes.axhline(1.0, color=style.MUTED, lw=0.7)
        below = ranking["chi"].to_numpy(float) < 0
        axes.scatter(shear[~below], v[~below], s=12, color=style.GREY, lw=0, zorder=3, label="ranked")
        if below.any():
            axes.scatter(shear[below], v[below], s=20, color=style.BLUE, lw=0, zorder=4, label="ranked, χ < 0")
        axes.text(low * 1.15, 0.025, "v < 1: soft is stable", fontsize=8, color="#00664b")
        axes.text(high / 1.15, 1.15, "v > 1: stiff is stable", ha="right", fontsize=8, color="#00664b")
        axes.set_xlabel("shear modulus G (GPa, logarithmic)")
        axes.set_ylabel("molar volume ratio v (logarithmic)")
        axes.legend(loc="lower right", fontsize=7.5)
        label = (
            f"Regimes of stability against {METAL_NAMES[metal]} over shear modulus and molar volume ratio: soft "
            f"electrolytes are stable below a ratio of one, stiff ones above; {count(len(ranking))} ranked compounds."
        )
        return style.to_svg(figure, name, label)


def chi_over_directions(interfaces: pd.DataFrame) -> str:
    """Draw chi of the most stable plane over the directions in it, a line per facet of lithium.

    Parameters
    ----------
    interfaces : DataFrame
        Schema ``interfaces`` with at least one that was judged.
    """
    name = "chi-polar"
    judged = interfaces[interfaces["chi"].notna()]
    best = judged.loc[judged["chi"].idxmin()]
    formula, plane = str(best["formula"]), str(best["plane"])
    same = judged[(judged["material_id"] == best["material_id"]) & (judged["plane"] == plane)]
    lines = {str(row.facet): np.tile(np.asarray(row.chi_by_direction, dtype=float), 2) for row in same.itertuples()}
    values = np.concatenate(list(lines.values()))
    span = max(float(values.max()), 0.0) - min(float(values.min()), 0.0)
    with style.house_style(name):
        figure = style.new_figure(style.HALF_WIDTH, 4.4)
        axes = cast(PolarAxes, figure.add_subplot(projection="polar"))
        whole = np.linspace(0, 2 * np.pi, 361)
        axes.set_ylim(min(float(values.min()), 0.0) - 0.6 * span, max(float(values.max()), 0.0) + 0.1 * span)
        axes.fill_between(whole, axes.get_ylim()[0], 0.0, color=style.GREEN, alpha=0.12, lw=0)
        axes.plot(whole, np.zeros_like(whole), color=style.GREEN, lw=1.4)
        for (facet, chi), colour in zip(lines.items(), _FACETS, strict=False):
            angles = np.pi * np.arange(len(chi) + 1) / (len(chi) / 2)
            axes.plot(angles, np.append(chi, chi[0]), color=colour, lw=1.3, label=f"lithium {facet}")
        axes.set_rlabel_position(90)
        axes.set_xticks(np.arange(0, 2 * np.pi, np.pi / 6))
        title = axes.set_title(f"{formula_text(formula)} {plane}: χ ({CHI_UNIT})")
        title.set_parse_math(False)
        axes.legend(loc="upper left", bbox_to_anchor=(-0.25, -0.03), ncols=2, fontsize=7.5)
        worst = decimal(float(best["chi"]), 2)
        label = (
            f"chi of {formula} on its plane {plane} over the directions of the wave, for "
            f"{len(lines)} facets of lithium; the worst pair of directions has {worst} kJ per mol and nm."
        )
        return style.to_svg(figure, name, label)
