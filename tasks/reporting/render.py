"""One self-contained HTML page from the data of a campaign."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

import numpy as np
from markupsafe import Markup

from models.electrodes import METAL_NAMES
from tasks.reporting import figures, summary, tables, wording
from tasks.reporting.data import ReportData, has_rows
from tasks.reporting.templating import FOLDER, environment

FIGURES = (
    "learning_curve", "parity", "residuals", "reliability", "waterfall", "decomposition", "arity", "elements", "moduli",
    "chi_shear", "chi_best", "regimes", "chi_polar",
)  # fmt: skip


def render_report(data: ReportData) -> str:
    """Render the whole report as HTML: no request to anywhere, the same bytes for the same data.

    Parameters
    ----------
    data : ReportData
        What the stages left; those that were not run are said to be missing.

    Returns
    -------
    str
        A complete HTML document.
    """
    script = (FOLDER / "sort.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return (
        environment()
        .get_template("template.html")
        .render(
            data=data,
            css=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
            script=Markup(script),
            script_digest=digest,
            flag_labels=wording.FLAG_LABELS,
            arity_names=wording.ARITY_NAMES,
            has_rows=has_rows,
            metal=METAL_NAMES[data.metal],
            model_name=summary.model_name(data.model_card),
            tiles=summary.tiles(data),
            sentences=summary.sentences(data),
            numbers=summary.screen_numbers(data),
            figure=_figures(data),
            **_tables(data),
        )
    )


def _tables(data: ReportData) -> dict[str, Any]:
    """Every table of the page by the name that the template uses."""
    candidates, flagged = tables.candidate_tables(data.candidates)
    chosen, ranked = summary.headline_rows(data), tables.ranking_rows(data.ranking)
    return {
        "candidate_rows": candidates,
        "flagged_rows": flagged,
        "canaries": tables.canary_rows(data),
        "implausible": tables.unflagged_among(data.candidates, tables.IMPLAUSIBLE),
        "implausible_all": tables.IMPLAUSIBLE,
        "ranking_rows": ranked,
        "has_window": tables.is_stated(ranked, "reduction_potential"),
        "has_likelihood": tables.is_stated(ranked, "superionic_likelihood"),
        "reference_rows": tables.corrected_references(data.references),
        "exclusion_rows": tables.exclusion_rows(data.excluded),
        "parameter_rows": tables.flatten(data.parameters),
        "card_rows": tables.card_rows(data.model_card),
        "metric_table": tables.metric_table(data.metrics),
        "moduli_table": tables.metric_table(data.moduli_metrics),
        "calibration_rows": tables.calibration_rows(data.calibration),
        "headline_split": chosen[0] if chosen else "",
        "rests_on_potential": tables.rests_on_potential(data),
        "mixed_schemes": tables.mixed_schemes(data),
    }


def _figures(data: ReportData) -> dict[str, Markup]:
    """Draw every figure that the data allows; the others are empty."""
    drawn: dict[str, str] = {}
    if has_rows(data.learning_curve):
        drawn["learning_curve"] = figures.learning_curve(data.learning_curve)  # type: ignore[arg-type]
    chosen = summary.headline_rows(data)
    if chosen is not None:
        split, rows = chosen
        reference = rows["formation_energy_per_atom"].to_numpy(float)
        prediction = rows["prediction"].to_numpy(float)
        drawn["parity"] = figures.parity(reference, prediction, f"{split} rows")
        drawn["residuals"] = figures.residuals(reference, prediction, f"{split} rows")
    if any(row["n"] > 0 for row in data.calibration.get("reliability", ())):
        drawn["reliability"] = figures.reliability(data.calibration["reliability"])
    drawn.update(_screening_figures(data))
    if has_rows(data.moduli_predictions):
        drawn["moduli"] = figures.moduli_parity(data.moduli_predictions)  # type: ignore[arg-type]
    if has_rows(data.ranking):
        drawn["chi_shear"] = figures.chi_against_shear(data.ranking, data.metal)  # type: ignore[arg-type]
        drawn["chi_best"] = figures.chi_intervals(data.ranking)  # type: ignore[arg-type]
        drawn["regimes"] = figures.regimes(data.ranking, data.metal)  # type: ignore[arg-type]
    if data.interfaces is not None and data.interfaces["chi"].notna().any():
        drawn["chi_polar"] = figures.chi_over_directions(data.interfaces)
    return {name: Markup(drawn.get(name, "")) for name in FIGURES}


def _screening_figures(data: ReportData) -> dict[str, str]:
    numbers = summary.screen_numbers(data)
    if numbers is None or not numbers.n_below:
        return {}
    drawn = {
        "waterfall": figures.waterfall(summary.waterfall_steps(numbers)),
        "arity": figures.arity_funnel(
            numbers.screened_by_arity, numbers.below_by_arity, numbers.remaining_by_arity
        ),
    }  # fmt: skip
    table = data.candidates
    if table is not None and has_rows(table):
        category = summary.flag_category(table)
        energies = table["decomposition_energy"].to_numpy(float)
        drawn["decomposition"] = figures.decomposition_distribution(
            energies, category.astype(np.int64), numbers.threshold
        )
        if (category == 0).any():
            totals = figures.element_counts(table["chemsys"][category == 0])
            drawn["elements"] = figures.element_map(totals, "candidates without any flag")
    return drawn
