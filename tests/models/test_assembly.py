"""Every relaxed row ends in the table or among the rejected with a reason."""

from __future__ import annotations

import pandas as pd
import pytest

from models.assembly import SHEAR_MAP, assemble, corrected
from models.reference_energies import References

_REFERENCES = References({"Mg": -1.0, "O": -5.0, "Ca": -2.0}, {}, {})
_TENSOR = [float(100 * (i == j)) for i in range(6) for j in range(6)]


def _relaxed() -> pd.DataFrame:
    good = {
        **{"converged": True, "n_evaluations": 5, "max_force": 0.0, "max_stress": 0.1, "energy_per_atom": -6.0},
        **{"volume_per_atom": 10.0, "spacegroup_start": 225, "spacegroup_end": 225, "shortest_ratio": 0.9},
        "structure": "{}",
    }
    changes = [
        {},
        {"converged": False, "max_force": 0.4},
        {"volume_per_atom": 15.0},
        {"spacegroup_end": 1},
        {"shortest_ratio": 0.3},
        {"energy_per_atom": -20.0},
        {"energy_per_atom": -5.9995},
        {"energy_per_atom": -5.5},
    ]
    return pd.DataFrame([{**good, **change, "candidate_id": i} for i, change in enumerate(changes)])


@pytest.fixture(scope="module")
def result():  # type: ignore[no-untyped-def]
    n = 8
    candidates = pd.DataFrame(
        {
            "candidate_id": range(n + 2),
            "prototype": ["AB_cF8_225_a_b:B1"] * 6
            + ["AB_cP2_221_b_a:B2", "AB_cF8_216_c_a:B3"]
            + ["AB_cF8_225_a_b:B1"] * 2,
            "elements": "O Mg",
            "formula": "MgO",
            "chemsys": "Mg-O",
            "nsites": 2,
            "lithium": False,
        }
    )
    static = pd.DataFrame({"candidate_id": range(n + 2), "energy_per_atom": [-5.5] * n + [float("nan"), -5.0]})
    static["pressure"] = [0.0] * (n + 1) + [70.0]
    selected = candidates.iloc[:n].assign(static_volume_per_atom=10.0, static_above_hull=0.0)
    tensors = pd.DataFrame(
        [
            {"candidate_id": 0, "elastic_tensor": _TENSOR, "converged": True},
            {"candidate_id": 7, "elastic_tensor": [-v for v in _TENSOR], "converged": True},
        ]
    )
    return assemble(candidates, static, selected, _relaxed(), tensors, _REFERENCES, "toy 1")


def test_compounds(result) -> None:  # type: ignore[no-untyped-def]
    table = result.compounds
    assert list(table["material_id"]) == ["sb-000001", "sb-000002"]
    assert list(table["formation_energy_per_atom"]) == [-3.0, -2.5]
    assert table["prototype"][0] == "AB_cF8_225_a_b B1"
    # An isotropic tensor of 100 on the diagonal: K = 100/3, G_V = G_R = 50 ... 100.
    assert table["bulk_modulus_vrh_raw"][0] == pytest.approx(100 / 3, abs=1e-3)
    slope, intercept = SHEAR_MAP
    by_hand = table["shear_modulus_vrh_raw"][0] ** slope * 10**intercept
    assert table["shear_modulus_vrh"][0] == pytest.approx(by_hand, rel=1e-4)
    assert pd.isna(table["bulk_modulus_vrh"][1])
    assert table["elastic_tensor"][1] is None


def test_correction_by_hand() -> None:
    raw = pd.Series([1.0, 100.0, float("nan")])
    fixed = corrected(raw, (0.5, 1.0))
    assert fixed[0] == pytest.approx(10.0)
    assert fixed[1] == pytest.approx(100.0)
    assert pd.isna(fixed[2])


def test_every_rejection_has_its_reason(result) -> None:  # type: ignore[no-untyped-def]
    rules = list(result.rejected["rule"])
    assert rules == [
        *("isolated atom", "pressure"),
        *("not converged", "volume", "left prototype", "overlap", "energy", "duplicate"),
        "not positive definite",
    ]
    assert (result.rejected["reason"].str.len() > 10).all()
    assert "+50 %" in result.rejected["reason"][3]
    assert result.rejected["reason"][1].startswith("70 GPa")


def test_counts_add_up(result) -> None:  # type: ignore[no-untyped-def]
    counts = result.counts
    rejected = sum(value for key, value in counts.items() if key.startswith("rejected, relax"))
    assert counts["relaxed"] == counts["compounds"] + rejected == 8
    assert counts["distinct_formulas"] == 1
    assert counts["elements"] == 2
    assert counts["compounds_with_tensor"] == 1
