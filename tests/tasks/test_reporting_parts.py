"""Parts of the report: numbers as text, counting rules, figures at their smallest."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from tasks.reporting import figures, summary, tables, wording


def test_first_flag_counts() -> None:
    table = pd.DataFrame(
        {
            "known": [True, False, False, False],
            "hull_incomplete": pd.array([True, True, None, False], dtype="boolean"),
            "out_of_domain": [True, True, True, False],
        }
    )
    assert summary.flag_category(table).tolist() == [1, 2, 3, 0]


def test_exclusions_are_counted_and_none_is_lost() -> None:
    reasons = ["gap"] * 5 + [f"reason {i}" for i in range(40)]
    rows = tables.exclusion_rows(pd.DataFrame({"stage": "filter", "reason": reasons}))
    assert rows[0] == {"stage": "filter", "reason": "gap", "count": 5}
    assert sum(row["count"] for row in rows) == 45
    assert len(rows) == tables.N_REASONS + 1
    counted = tables.exclusion_rows(pd.DataFrame({"stage": ["a"], "reason": ["b"], "count": [12]}))
    assert counted == [{"stage": "a", "reason": "b", "count": 12}]


@pytest.mark.parametrize("n", [1, 2])
def test_figures_of_one_or_two_rows(n: int) -> None:
    value = np.linspace(-1.0, -0.5, n)
    ranked = pd.DataFrame({"rank": range(1, n + 1), "formula": "Li2S", "shear_modulus_vrh": 33.0, "chi": 23.4})
    ranked = ranked.assign(chi_q05=15.0, chi_q95=30.0)
    assert figures.parity(value, value, "rows").startswith("<svg")
    assert figures.residuals(value, value, "rows").startswith("<svg")
    assert figures.decomposition_distribution(value, np.zeros(n, int), None).startswith("<svg")
    assert figures.chi_against_shear(ranked).startswith("<svg")
    assert figures.chi_intervals(ranked.drop(columns=["chi_q05", "chi_q95"])).startswith("<svg")
    assert figures.element_map({"Li": 1}, "candidates").startswith("<svg")
    assert figures.moduli_parity(
        pd.DataFrame({f"{m}_modulus_{k}": [10.0] * n for m in ("bulk", "shear") for k in ("vrh", "prediction")})
    ).startswith("<svg")


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (wording.decimal(-0.2), "−0.200"),
        (wording.decimal(-0.0001), "0.000"),
        (wording.decimal(0.66, sign=True), "+0.660"),
        (wording.decimal(float("nan")), "–"),
        (wording.count(446_597_140), "446,597,140"),
        (wording.percent(0.001), "<1\u202f%"),
        (wording.percent(1.0), "100\u202f%"),
        (wording.significant(0.06289), "0.0629"),
        (wording.wavelength(float("inf")), "every"),
        (wording.round_count(16168.0), "16,000"),
        (wording.label("p90"), "90\u202f% below"),
    ],
)
def test_numbers_as_a_reader_sees_them(written: str, expected: str) -> None:
    assert written == expected
