"""The figure of a predicted uncertainty: what it says, drawn of good, bad and empty reports; as a file of its own."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest

from models.uncertainty import CalibratedUncertainty, fit_uncertainty, uncertainty_report
from tasks.reporting.figures_uncertainty import calibration
from tasks.reporting.style import standalone

RANDOM = np.random.default_rng(0)


def report(scale: float, std: np.ndarray) -> dict[str, object]:
    """Return the report of errors that are `scale` times those which the calibration was fitted to."""
    error = RANDOM.normal(0.0, std)
    calibrated = CalibratedUncertainty.from_dict(fit_uncertainty(error, std))
    return uncertainty_report(np.zeros(len(std)), scale * RANDOM.normal(0.0, std), std, calibrated)


@pytest.mark.parametrize(("scale", "held"), [(1.0, 95), (3.0, 49)])
def test_the_figure_says_how_many_rows_their_intervals_hold(scale: float, held: float) -> None:
    svg = calibration(report(scale, RANDOM.uniform(0.05, 0.5, 4000)), "eV/atom")
    said = ElementTree.fromstring(svg).attrib["aria-label"]
    share = float(said.split("; ")[1].split()[0])
    assert share == pytest.approx(held, abs=2.5)  # P(|z| < 1.96 / 3) is 49 %
    assert "4,000 rows" in said


def test_one_deviation_for_all_rows() -> None:
    svg = calibration(report(1.0, np.full(400, 0.1)), "eV/atom")
    assert "one deviation for all rows" in svg


def test_no_errors() -> None:
    svg = calibration(
        {
            "n": 2, "expected": [0.0, 1.0], "observed": [0.0, 1.0], "calibration_error": 0.0,
            "coverage": {"0.95": {"share": 1.0}}, "sharpness": 0.0, "rmse": 0.0, "spearman": None,
            "error_by_spread": [{"std": 0.0, "rmse": 0.0}],
        },
        "eV/atom",
    )  # fmt: skip
    assert "no error" in svg


def test_a_figure_stands_alone() -> None:
    file = standalone(calibration(report(1.0, np.full(400, 0.1)), "eV/atom"))
    root = ElementTree.fromstring(file)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert float(root.attrib["width"].removesuffix("pt")) == pytest.approx(720)
    assert root[0].tag == "{http://www.w3.org/2000/svg}rect"
