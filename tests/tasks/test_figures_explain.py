"""Figures of an explanation: what they say in words, and that odd data does not break them."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.element_similarity import element_groups
from models.elements import ELEMENTS
from models.formula import parse_many
from models.predicted_diagram import diagram_summary, predicted_diagram
from tasks.reporting import figures_diagram, figures_explain, figures_probe


def label(svg: str) -> str:
    found = re.search(r'aria-label="([^"]+)"', svg)
    assert found
    assert svg.startswith("<svg")
    assert svg.endswith("</svg>")
    written = re.sub(r"base64,[^\"]*", "", svg)  # images are letters by chance
    assert "nan" not in written.lower().replace("lan", "")
    return found.group(1)


def diagram(elements: tuple[str, ...], predicted: float) -> tuple[pd.DataFrame, dict[str, Any]]:
    phases = parse_many(["Li2O", "LiO", "Al2O3", "LiAlO2"])
    made = predicted_diagram(
        elements, lambda x: np.full(len(x), predicted), phases, np.array([-2.0, -1.2, -3.3, -2.9]), 5
    )
    lines = {
        side: [[made.formulas[i] for i in pair] for pair in getattr(made, side).tie_lines]
        for side in ("predicted", "reference")
    }
    rows = pd.DataFrame(
        {
            "formula": made.formulas, "shares": list(made.shares), "prediction": made.predicted.energies,
            "predicted_stable": made.predicted.stable, "formation_energy_per_atom": made.reference.energies,
            "stable": made.reference.stable, "in_space": made.in_space,
        }
    )  # fmt: skip
    return rows, {"system": "-".join(elements), "tie_lines": lines} | diagram_summary(made)


@pytest.mark.parametrize("predicted", [-1.0, 0.0, 2.0])
@pytest.mark.parametrize("elements", [("Li", "O"), ("Li", "Al", "O"), ("K", "Na"), ("K", "Na", "Rb")])
def test_diagrams_say_what_they_show(elements: tuple[str, ...], predicted: float) -> None:
    rows, numbers = diagram(elements, predicted)
    said = label(figures_diagram.phase_diagram(rows, numbers))
    compounds = rows.iloc[len(elements) :]
    assert said == (
        f"Phase diagram of {'-'.join(elements)}: {compounds['predicted_stable'].sum()} compositions on the predicted "
        f"hull, {compounds['stable'].sum()} on that of the known phases, "
        f"{(compounds['stable'] & compounds['predicted_stable']).sum()} on both."
    )
    assert figures_diagram.phase_diagram(rows, numbers) == figures_diagram.phase_diagram(rows, numbers)


def test_maps_name_the_nearest_and_leave_the_unknown_empty() -> None:
    values = {symbol: 0.01 * i for i, symbol in enumerate(ELEMENTS)} | {"Pu": float("nan"), "Na": 1.0}
    said = label(figures_explain.similarity_map(values, "Na", 0.5))
    assert said == ("Periodic table shaded by likeness to Na; most alike: Np 0.84, U 0.83, Pa 0.82, Th 0.81, Ac 0.80.")


def test_matrix_with_elements_that_have_no_similarity() -> None:
    matrix = np.random.default_rng(0).uniform(-1, 1, (86, 86))
    matrix[5], matrix[:, 5] = np.nan, np.nan
    said = label(figures_explain.similarity_heatmap(matrix, ELEMENTS, element_groups(), 0.5))
    assert said.startswith("Similarity of 86 elements in pairs, sorted by family: alkali, alkaline earths, groups 13")


def test_layers_by_agreement_where_some_have_none() -> None:
    entries = [
        {"layer": str(k), "network": network, "nearest": None if k == 2 else 0.1 * k, "nearest_by_chance": 0.05,
         "contrast": None if k == 2 else -0.1}
        for k in (1, 2, 3)
        for network in ("trained", "untrained")
    ]  # fmt: skip
    assert "at most 30\u202f% in layer 3" in label(figures_explain.agreement_by_layer(entries, entries))


def test_areas_and_curves_of_four_properties() -> None:
    probes = [
        {"probe": f"p{n}", "layer": layer, "network": "trained", "auc": 0.5 + 0.1 * n, "auc_error": 0.02}
        for n in range(4)
        for layer in ("input", "1")
    ]
    said = label(figures_probe.auc_by_layer(probes))
    assert "p3 0.800 in input (trained)" in said
    table = pd.concat(
        pd.DataFrame(
            {"probe": e["probe"], "layer": e["layer"], "network": "trained", "false_positive_rate": [0, 0, 0.5, 1, 1],
             "true_positive_rate": [0, 0.5, 0.5, 0.5, 1.0]}
        )
        for e in probes
    )  # fmt: skip
    assert "p0: input 0.500, 1 0.500" in label(figures_probe.roc_curves(table, probes, ["1"]))


def test_staircases_keep_their_corners() -> None:
    x, y = np.array([0, 0, 0, 0.5, 1, 1]), np.array([0, 0.2, 0.5, 0.5, 0.5, 1])
    kept = figures_probe._corners(x, y)
    assert kept[0].tolist() == [0, 0, 1, 1]
    assert kept[1].tolist() == [0, 0.5, 0.5, 1]
