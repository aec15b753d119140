"""The page of an explanation: what a network's layers know, and the phase diagrams that it predicts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from markupsafe import Markup

from models.element_similarity import element_groups
from models.elements import ELEMENTS
from tasks.reporting import figures_diagram, figures_explain, figures_probe, wording
from tasks.reporting.templating import FOLDER, environment

_ELEMENT_WARNING = 0.2
"""A network that gives an element more than this (eV/atom) is warned of: the hull has it at 0."""


@dataclass(frozen=True)
class ExplanationData:
    """Everything the page shows.

    Attributes
    ----------
    result : mapping
        What `explanation.json` holds, see `tasks.explain`.
    components, similarity, curves, diagrams : DataFrame
        Tables of the schemas `layer_components`, `element_similarity`, `probe_roc` and `predicted_diagram`; the last
        one empty without systems.
    origins : sequence of mapping
        ``role, kind, rows, scheme, key, digest`` of each artifact that it rests on.
    """

    result: Mapping[str, Any]
    components: pd.DataFrame
    similarity: pd.DataFrame
    curves: pd.DataFrame
    diagrams: pd.DataFrame
    origins: Sequence[Mapping[str, Any]] = ()


def render_explanation(data: ExplanationData) -> str:
    """Render the page as HTML that needs nothing but itself: the same bytes for the same data."""
    result = data.result
    return (
        environment()
        .get_template("explanation.html")
        .render(
            r=result,
            css=Markup((FOLDER / "report.css").read_text(encoding="utf-8")),
            layer_title=figures_explain.layer_title,
            mapped=_agreement_at(result, result["map_layer"]),
            tiles=_tiles(result),
            agreement=[entry for entry in result["agreement"] if entry["network"] == "trained"],
            auc_rows=_auc_rows(result["probes"]),
            elements=_element_figures(data),
            compounds=_drawn(figures_explain.compound_components, data, "compounds"),
            rows=_rows_figure(data),
            auc=Markup(figures_probe.auc_by_layer(result["probes"])) if result["probes"] else "",
            roc=_roc_figure(data),
            diagrams=[_diagram(data, numbers) for numbers in result["systems"]],
            origins=data.origins,
        )
    )


def _agreement_at(result: Mapping[str, Any], layer: str) -> Mapping[str, Any]:
    found: Mapping[str, Any] = next(
        entry for entry in result["agreement"] if entry["layer"] == layer and entry["network"] == "trained"
    )
    return found


def _drawn(draw: Any, data: ExplanationData, name: str) -> Markup:
    rows = data.components[data.components["set"] == name]
    return Markup(draw(rows, data.result["explained"][name]))


def _rows_figure(data: ExplanationData) -> Markup:
    rows = data.components[data.components["set"] == "table"]
    coloured = data.result["coloured_by"]
    meaning = coloured["meaning"] if coloured else ""
    return Markup(figures_explain.table_components(rows, data.result["explained"]["table"], meaning))


def _element_figures(data: ExplanationData) -> dict[str, Any]:
    """Components, maps, matrix and course by layer of the elements."""
    result = data.result
    rows = data.similarity[data.similarity["layer"] == result["map_layer"]]
    n = len(ELEMENTS)
    matrix = rows["similarity"].to_numpy(dtype=np.float64).reshape(n, n)
    apart = np.abs(matrix[~np.eye(n, dtype=np.bool_)])
    apart = apart[~np.isnan(apart)]
    # the few strongest may be cut off, so that the others are told apart
    limit = max(float(np.quantile(apart, 0.98)), 1e-6) if len(apart) else 1.0
    maps = [
        (element, Markup(figures_explain.similarity_map(_row(matrix, element), element, limit)), likes)
        for element, likes in result["neighbours"].items()
    ]
    return {
        "components": _drawn(figures_explain.element_components, data, "elements"),
        "maps": maps,
        "matrix": Markup(figures_explain.similarity_heatmap(matrix, ELEMENTS, element_groups(), limit)),
        "course": Markup(figures_explain.agreement_by_layer(result["agreement"], result["charge_balance"])),
    }


def _row(matrix: np.ndarray, element: str) -> dict[str, float]:
    return dict(zip(ELEMENTS, matrix[ELEMENTS.index(element)].tolist(), strict=True))


def _roc_figure(data: ExplanationData) -> Markup:
    if not data.result["probes"]:
        return Markup("")
    return Markup(figures_probe.roc_curves(data.curves, data.result["probes"], data.result["layers"]))


def _auc_rows(probes: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """One row per property and layer, with both networks side by side."""
    rows: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in probes:
        row = rows.setdefault((entry["probe"], entry["layer"]), dict(entry) | {"trained": None, "untrained": None})
        row[entry["network"]] = (entry["auc"], entry["auc_error"])
    return list(rows.values())


def _diagram(data: ExplanationData, numbers: Mapping[str, Any]) -> dict[str, Any]:
    rows = data.diagrams[data.diagrams["system"] == numbers["system"]].reset_index(drop=True)
    odd = {e: energy for e, energy in numbers["element_energies"].items() if abs(energy) > _ELEMENT_WARNING}
    listed = rows[rows["stable"] | rows["predicted_stable"]].iloc[len(numbers["system"].split("-")) :]
    return {
        "numbers": numbers,
        "figure": Markup(figures_diagram.phase_diagram(rows, numbers)),
        "odd": odd,
        "rows": listed.sort_values("formula", key=lambda names: names.str.len(), kind="stable").to_dict("records"),
    }


def _tiles(result: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Headline numbers: value and what it is."""
    mapped = _agreement_at(result, result["map_layer"])
    place = figures_explain.layer_title(result["map_layer"]).lower()
    tiles = [
        (
            wording.percent(mapped["nearest"]),
            f"of the elements have their nearest in their own group ({place}; by chance "
            f"{wording.percent(mapped['nearest_by_chance'])})",
        )
    ]
    trained = [entry for entry in result["probes"] if entry["network"] == "trained" and entry["layer"] != "input"]
    if trained:
        name = trained[0]["probe"]
        best = max((entry for entry in trained if entry["probe"] == name), key=lambda entry: float(entry["auc"]))
        where = figures_explain.layer_title(best["layer"]).lower()
        tiles.append((wording.decimal(best["auc"]), f"highest area under the ROC curve of {name} ({where})"))
    if result["systems"]:
        errors = [numbers["hull_mae"] for numbers in result["systems"]]
        tiles.append((wording.decimal(float(np.mean(errors))), "eV/atom between predicted and known hulls, on average"))
    return tiles
