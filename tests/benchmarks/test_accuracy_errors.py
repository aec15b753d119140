from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pandas as pd
import pytest

from benchmarks.accuracy_errors import Said, distribution_figure, distribution_table, element_table


@pytest.fixture(scope="module")
def said() -> Said:
    """Errors of 0.1 on the chlorides and 0.3 on the oxides, and the other way round."""
    formulas = [f"{metal}{anion}" for anion in ("Cl", "O") for metal in ("Li", "Na", "K") for _ in range(20)]
    truth = np.full(len(formulas), -1.0)
    oxide = np.array([text.endswith("O") for text in formulas])
    sizes = {"first": np.where(oxide, 0.3, 0.1), "second": np.where(oxide, 0.1, 0.3)}
    return {
        name: pd.DataFrame({"formula": formulas, "truth": truth, "prediction": truth + size})
        for name, size in sizes.items()
    }


def test_distribution(said: Said) -> None:
    line = distribution_table(said).splitlines()[2]
    assert line == "| first | 120 | 0.2000 | 0.2000 | 0.3000 | 0.3000 | 0.3000 | 0.3000 |"


def test_elements_that_are_hard_for_one_are_easy_for_the_other(said: Said) -> None:
    lines = element_table(said).splitlines()
    # mean errors: Cl 0.1, O 0.3 and the metals 0.2, and the other way round
    assert lines[0] == "| 5 elements | first | second |"
    assert lines[2:4] == ["| first | 1.00 | -1.00 |", "| second | -1.00 | 1.00 |"]
    assert lines[-2].startswith("| first | O 0.30, ")


def test_figure_names_all(said: Said) -> None:
    svg = distribution_figure(said)
    assert ElementTree.fromstring(svg).attrib["aria-label"].endswith("first, second.")
