"""chi without a structure: v drawn from known compounds of the same anion."""

from __future__ import annotations

import numpy as np
import pytest

from models.composition_chi import MIN_KNOWN, anion_of, composition_chi, known_ratios
from models.electrodeposition import stability_parameter
from models.errors import InputError
from models.stability_sampling import SamplingParameters

#: 40 sulphides with a small v and 30 fluorides with a large one.
FORMULAS = [*[f"Li{n}S" for n in range(1, 41)], *[f"Li{n}F" for n in range(1, 31)], "LiCl"]
RATIOS = np.array([*np.linspace(0.02, 0.04, 40), *np.full(30, 0.38), 0.2])


def test_anions() -> None:
    said = {f: anion_of(f) for f in ("Li2S", "Li3PO4", "Li6PS5Cl", "LiBH4", "LiF", "Li3N", "LiC12", "LiAl")}
    assert said == {
        "Li2S": "S", "Li3PO4": "O", "Li6PS5Cl": "Cl", "LiBH4": "H", "LiF": "F", "Li3N": "N", "LiC12": None,
        "LiAl": None,
    }  # fmt: skip


def test_ratios_by_anion_and_of_all_where_there_are_few() -> None:
    known = known_ratios(FORMULAS, RATIOS)
    assert set(known.by_anion) == {"S", "F"}
    np.testing.assert_array_equal(known.of("F"), np.full(30, 0.38))
    assert len(known.of("Cl")) == len(known.of(None)) == 71
    some = RATIOS.copy()
    some[: 71 - MIN_KNOWN + 1] = np.nan
    with pytest.raises(InputError, match=r"19 volume ratios .* too few"):
        known_ratios(FORMULAS, some)


def test_v_decides_the_sign() -> None:
    """G = 2, K = 4 GPa without errors: stable at v = 0.03, not at 0.38, and in between where v is not known."""
    known = known_ratios(FORMULAS, RATIOS)
    formulas = ["Li2S", "LiF", "LiCl"]
    exact = (np.full(3, 4.0), np.full(3, 2.0)), (np.zeros(3), np.zeros(3))
    median, spread = composition_chi(formulas, *exact, known)
    np.testing.assert_allclose(median, [0.03, 0.38, np.median(RATIOS)])
    assert spread.probability_stable[:2].tolist() == [1.0, 0.0]
    assert spread.q50[1] == pytest.approx(stability_parameter(4, 2, 0.38).chi) == pytest.approx(0.37, abs=0.005)
    below = np.mean(stability_parameter(4.0, 2.0, RATIOS).chi < 0)
    assert spread.probability_stable[2] == pytest.approx(below, abs=0.01)
    assert 0.5 < below < 0.6


def test_errors_of_the_moduli_widen_it() -> None:
    known = known_ratios(FORMULAS, RATIOS)
    moduli, std = (np.array([4.0, 4.0]), np.array([2.0, 2.0])), (np.array([0.0, 0.2]), np.array([0.0, 0.2]))
    _, spread = composition_chi(["LiF", "LiF"], moduli, std, known, parameters=SamplingParameters(n_samples=4096))
    assert spread.q95[1] - spread.q05[1] > spread.q95[0] - spread.q05[0]
    assert 0 < spread.probability_stable[1] < 1
    chance = np.random.default_rng(0).normal(size=(2, 200_000)) * 0.2
    sampled = stability_parameter(4 * 10 ** chance[0], 2 * 10 ** chance[1], 0.38).chi
    assert spread.probability_stable[1] == pytest.approx(np.mean(sampled < 0), abs=0.01)


def test_missing_moduli_have_no_chi() -> None:
    known = known_ratios(FORMULAS, RATIOS)
    moduli = (np.array([4.0, np.nan, 4.0]), np.array([2.0, 2.0, 2.0]))
    _, spread = composition_chi(["LiF"] * 3, moduli, (np.zeros(3), np.array([0.0, 0.0, np.nan])), known)
    assert np.isnan(spread.probability_stable).tolist() == [False, True, True]
