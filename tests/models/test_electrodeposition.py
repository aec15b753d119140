"""Monroe-Newman stability: published vectors, limits, bad input, sampled errors."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from models.electrodeposition import (
    LITHIUM,
    StabilityConstants,
    critical_modulus_ratio,
    invalid_reasons,
    moduli_reasons,
    stability_parameter,
)
from models.errors import InputError
from models.stability_sampling import SamplingParameters, chi_distribution, standard_draws

REFERENCE = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
WAVE = LITHIUM.wavenumber * LITHIUM.molar_volume * 1e-12  # k V_M with J/mol/m -> kJ/mol/nm


def bulk_of(shear, poisson):
    return shear * 2 * (1 + poisson) / (3 * (1 - 2 * poisson))


def shear_range(low=-3.0, high=3.0):
    return st.floats(low, high).map(lambda x: 10**x)


poissons = st.floats(-0.9, 0.49)
ratios = st.floats(0.02, 5.0)


def test_first_vector():
    s = stability_parameter(bulk_of(10, 0.25), 10, 0.1)
    assert s.surface == pytest.approx(-0.039754, abs=5e-7)
    assert s.deviatoric == pytest.approx(2.879832, abs=5e-7)
    assert s.hydrostatic == pytest.approx(4.600896, abs=5e-7)
    assert s.chi == pytest.approx(7.440974, abs=5e-7)


@pytest.mark.parametrize(
    ("shear", "bulk", "ratio", "expected"),
    [
        (51, 70, 0.08406202, (-0.0392, 3.9564, 35.1813, 39.0986, 0.0629)),  # LiF
        (33, 40, 0.15191745, (-0.0416, 4.2179, 19.2539, 23.4301, 0.1114)),  # Li2S
        (11, 21, 0.05717569, (-0.0382, 2.7045, 5.9374, 8.6037, 0.2778)),  # Li3PS4
        (3, 6, 0.0553387, (-0.0381, 1.5646, -0.9071, 0.6194, 3.6446)),  # Li2WS4
    ],
)
def test_published_vectors(shear, bulk, ratio, expected):
    s = stability_parameter(bulk, shear, ratio)
    values = (s.surface, s.deviatoric, s.hydrostatic, s.chi, s.lambda_crit_nm)
    assert [round(float(v), 4) for v in values] == list(expected)


def test_polymer_of_monroe_and_newman():
    assert critical_modulus_ratio(0.33, 3.8535) == pytest.approx(2.1586, abs=5e-5)
    # with surface tension, the ratio at which chi itself changes sign
    low, high = 1.0, 3.0
    for _ in range(60):
        middle = (low + high) / 2
        shear = middle * LITHIUM.shear_modulus
        if stability_parameter(bulk_of(shear, 0.33), shear, 3.8535).chi > 0:
            low = middle
        else:
            high = middle
    assert low == pytest.approx(2.1364, abs=5e-5)


@given(poissons, st.floats(0.02, 0.98))
@settings(max_examples=50, deadline=None)
def test_regimes_of_crystals(poisson, ratio):
    r_c = critical_modulus_ratio(poisson, ratio)
    exact = replace(LITHIUM, surface_energy=0.0)
    for factor, sign in ((0.99, -1), (1.01, 1)):
        shear = float(r_c) * factor * LITHIUM.shear_modulus
        assert np.sign(stability_parameter(bulk_of(shear, poisson), shear, ratio, exact).chi) == sign


def test_critical_ratio_of_bad_input_is_nan():
    assert np.isnan(critical_modulus_ratio([0.5, -1, 0.3, 0.3, np.nan], [0.1, 0.1, 1.0, -1, 0.1])).all()


@given(shear_range(), poissons, ratios)
@settings(max_examples=60, deadline=None)
def test_swapped_media_keep_dev_and_flip_hyd(shear, poisson, ratio):
    swapped = replace(LITHIUM, shear_modulus=shear, poisson_ratio=poisson)
    a = stability_parameter(bulk_of(shear, poisson), shear, ratio)
    b = stability_parameter(bulk_of(3.4, 0.42), 3.4, ratio, swapped)
    assert float(a.deviatoric) == pytest.approx(float(b.deviatoric), rel=1e-8)
    assert float(a.hydrostatic) == pytest.approx(-float(b.hydrostatic), rel=1e-8, abs=1e-10)


@given(poissons, ratios)
@settings(max_examples=40, deadline=None)
def test_limit_of_a_liquid_electrolyte(poisson, ratio):
    shear = 1e-9
    s = stability_parameter(bulk_of(shear, poisson), shear, ratio)
    limit = -(1 - ratio) * WAVE * 3.4e9 / (2 * (1 - 0.42))
    assert float(s.chi) == pytest.approx(float(s.surface) + limit, rel=1e-6, abs=1e-8)


@given(shear_range(-1, 2), poissons, ratios)
@settings(max_examples=40, deadline=None)
def test_limit_of_a_liquid_electrode(shear, poisson, ratio):
    soft = replace(LITHIUM, shear_modulus=1e-9)
    s = stability_parameter(bulk_of(shear, poisson), shear, ratio, soft)
    limit = (1 - ratio) * WAVE * shear * 1e9 / (2 * (1 - poisson))
    assert float(s.chi) == pytest.approx(float(s.surface) + limit, rel=1e-6, abs=1e-7)


@given(shear_range(-1, 2), poissons)
@settings(max_examples=40, deadline=None)
def test_equal_molar_volumes_have_no_hydrostatic_part(shear, poisson):
    assert float(stability_parameter(bulk_of(shear, poisson), shear, 1.0).hydrostatic) == 0


@given(shear_range(-1, 1), ratios)
@settings(max_examples=40, deadline=None)
def test_incompressible_media(shear, ratio):
    soft = replace(LITHIUM, poisson_ratio=0.5)
    s = stability_parameter(bulk_of(shear, 0.5 - 1e-5), shear, ratio, soft)
    limit = (1 - ratio) * WAVE * (shear - 3.4) * 1e9
    assert float(s.deviatoric) == pytest.approx(0, abs=1e-4 * WAVE * 1e11)
    assert float(s.hydrostatic) == pytest.approx(limit, abs=1e-4 * WAVE * 1e11)


@given(ratios)
def test_identical_media(ratio):
    s = stability_parameter(bulk_of(3.4, 0.42), 3.4, ratio)
    assert float(s.hydrostatic) == pytest.approx(0, abs=1e-12)
    assert float(s.deviatoric) > 0


@given(shear_range(-1, 2), poissons, ratios)
@settings(max_examples=40, deadline=None)
def test_doubled_wavenumber(shear, poisson, ratio):
    a = stability_parameter(bulk_of(shear, poisson), shear, ratio)
    b = stability_parameter(bulk_of(shear, poisson), shear, ratio, replace(LITHIUM, wavenumber=2e8))
    assert float(b.surface) == pytest.approx(4 * float(a.surface))
    assert float(b.deviatoric) == pytest.approx(2 * float(a.deviatoric))
    assert float(b.hydrostatic) == pytest.approx(2 * float(a.hydrostatic), abs=1e-12)
    assert float(b.lambda_crit_nm) == pytest.approx(float(a.lambda_crit_nm))


@given(shear_range(-1, 2), poissons, ratios)
@settings(max_examples=60, deadline=None)
def test_chi_vanishes_at_the_critical_wavelength(shear, poisson, ratio):
    bulk = bulk_of(shear, poisson)
    s = stability_parameter(bulk, shear, ratio)
    if np.isinf(s.lambda_crit_nm):
        assert float(s.chi) < 0
        return
    assume(float(s.lambda_crit_nm) < 1e6)
    critical = replace(LITHIUM, wavenumber=2 * np.pi / (float(s.lambda_crit_nm) * 1e-9))
    t = stability_parameter(bulk, shear, ratio, critical)
    assert abs(float(t.chi)) < 1e-8 * (abs(float(t.surface)) + abs(float(t.deviatoric)) + abs(float(t.hydrostatic)))


def test_soft_electrolyte_is_stable_at_every_wavelength():
    s = stability_parameter(4, 1.0, 0.03)
    assert float(s.chi) < 0
    assert np.isinf(s.lambda_crit_nm)


def test_volume_ratio_decides_the_sign():
    chi = stability_parameter([4, 4], [2, 2], [0.03, 0.38]).chi
    assert chi == pytest.approx([-0.69, 0.37], abs=0.01)


BAD = [
    (np.nan, 5, 0.1, "bulk modulus is missing"),
    (10, np.nan, 0.1, "shear modulus is missing"),
    (-3, 5, 0.1, "bulk modulus -3 GPa is not positive"),
    (10, 0, 0.1, "shear modulus 0 GPa is not positive"),
    (np.inf, 5, 0.1, "too large"),
    (7e10, 5e10, 0.1, "too large"),
    (1e-15, 5e5, 0.1, "Poisson"),
    (10, 5, np.nan, "volume ratio is missing"),
    (10, 5, 0, "volume ratio 0 is outside"),
    (10, 5, -0.2, "volume ratio -0.2 is outside"),
    (10, 5, np.inf, "outside"),
]


@pytest.mark.parametrize(("bulk", "shear", "ratio", "reason"), BAD)
def test_bad_input_gives_nan_and_a_reason(bulk, shear, ratio, reason):
    s = stability_parameter([bulk, 10], [shear, 5], [ratio, 0.1])
    for part in (s.surface, s.deviatoric, s.hydrostatic, s.chi, s.lambda_crit_nm):
        assert np.isnan(part).tolist() == [True, False]
    reasons = invalid_reasons([bulk, 10], [shear, 5], [ratio, 0.1])
    assert reason in reasons[0]
    assert reasons[1] is None


anything = st.one_of(st.floats(allow_nan=True, allow_infinity=True), st.floats(0.01, 1000))


@given(anything, anything, anything)
@settings(max_examples=300, deadline=None)
def test_reason_exactly_where_chi_is_not_a_number(bulk, shear, ratio):
    chi = stability_parameter([bulk], [shear], [ratio]).chi
    assert np.isfinite(chi[0]) == (invalid_reasons([bulk], [shear], [ratio])[0] is None)


def test_moduli_reasons_do_not_ask_for_a_volume():
    assert moduli_reasons([10, 10], [5, -5]) == [None, "shear modulus -5 GPa is not positive"]


@pytest.mark.parametrize(
    "change",
    [{"shear_modulus": 0}, {"molar_volume": -1}, {"poisson_ratio": 0.7}, {"surface_energy": -1}, {"charge": np.nan}],
)
def test_constants_without_meaning_are_refused(change):
    with pytest.raises(InputError):
        StabilityConstants(**change)


def test_one_million_rows_at_once():
    n = 1_000_000
    rng = np.random.default_rng(0)
    s = stability_parameter(rng.uniform(5, 300, n), rng.uniform(1, 200, n), rng.uniform(0.03, 0.74, n))
    assert s.chi.shape == (n,)
    assert np.isfinite(s.chi).all()


# --- sampled errors


def test_draws_are_standard_and_correlated():
    draws = standard_draws(SamplingParameters(n_samples=8192, correlation=0.6))
    assert draws.shape == (3, 8192)
    assert draws.mean(axis=1) == pytest.approx(0, abs=0.01)
    assert draws.std(axis=1) == pytest.approx(1, abs=0.01)
    assert np.corrcoef(draws[0], draws[1])[0, 1] == pytest.approx(0.6, abs=0.01)
    assert np.corrcoef(draws[0], draws[2])[0, 1] == pytest.approx(0, abs=0.01)


def test_no_error_means_certainty():
    d = chi_distribution([4, 70], [2, 51], [0.03, 0.084], 0, 0)
    assert d.probability_stable.tolist() == [1, 0]
    chi = stability_parameter([4, 70], [2, 51], [0.03, 0.084]).chi
    for quantile in (d.q05, d.q50, d.q95):
        assert quantile == pytest.approx(chi)


def test_a_row_does_not_depend_on_its_company():
    rng = np.random.default_rng(1)
    bulk, shear = rng.uniform(4, 100, 3000), rng.uniform(1, 60, 3000)
    whole = chi_distribution(bulk, shear, 0.08, 0.1, 0.2)
    order = rng.permutation(3000)[:7]
    part = chi_distribution(bulk[order], shear[order], 0.08, 0.1, 0.2)
    assert np.array_equal(part.probability_stable, whole.probability_stable[order])
    assert np.array_equal(part.q05, whole.q05[order])
    assert np.array_equal(part.q95, whole.q95[order])


def test_probability_agrees_with_plain_monte_carlo():
    rng = np.random.default_rng(3)
    n = 400_000
    chi = stability_parameter(8 * 10 ** rng.normal(0, 0.13, n), 3 * 10 ** rng.normal(0, 0.23, n), 0.06).chi
    d = chi_distribution([8], [3], [0.06], 0.13, 0.23, parameters=SamplingParameters(n_samples=4096))
    assert d.probability_stable[0] == pytest.approx(np.mean(chi < 0), abs=0.004)
    assert d.q05[0] == pytest.approx(np.quantile(chi, 0.05), abs=0.03)
    assert d.q95[0] == pytest.approx(np.quantile(chi, 0.95), rel=0.02)


def test_volume_error_and_seed_matter_and_bad_rows_are_nan():
    base = chi_distribution([8], [3], [0.2], 0.1, 0.2)
    wide = chi_distribution([8], [3], [0.2], 0.1, 0.2, log10_volume_ratio_std=0.3)
    other = chi_distribution([8], [3], [0.2], 0.1, 0.2, parameters=SamplingParameters(seed=5))
    assert wide.q95[0] != base.q95[0]
    assert other.q95[0] != base.q95[0]
    bad = chi_distribution([8, -8, 8, 8], [3, 3, 3, 3], [0.2, 0.2, np.nan, 0.2], [0.1, 0.1, 0.1, np.nan], 0.2)
    assert np.isnan(bad.probability_stable).tolist() == [False, True, True, True]
    assert len(chi_distribution([], [], [], 0, 0).q05) == 0


@pytest.mark.parametrize("change", [{"n_samples": 1000}, {"n_samples": 1}, {"correlation": 1.2}])
def test_sampling_settings_are_checked(change):
    with pytest.raises(InputError):
        SamplingParameters(**change)


# --- the published screen


@pytest.mark.reference_data
def test_published_screen():
    path = REFERENCE / "electrodeposition_isotropic.parquet"
    if not path.exists():
        pytest.skip(f"reference data absent: {path}")
    table = pd.read_parquet(path)
    good = table[~table["bad_modulus"]].reset_index(drop=True)
    s = stability_parameter(good["bulk_modulus_vrh"], good["shear_modulus_vrh"], good["volume_ratio"])
    stated = good["chi"].notna().to_numpy()
    assert stated.sum() == 6301
    assert (table["bad_modulus"] & table["chi"].notna()).sum() == 21
    assert np.allclose(s.chi[stated], good["chi"][stated], rtol=1e-4, atol=0)
    assert np.allclose(s.lambda_crit_nm[stated], good["lambda_crit_nm"][stated], rtol=1e-4, atol=0)
    finite = np.isfinite(s.chi)
    assert (s.chi[finite] > 0).all()
    reasons = invalid_reasons(good["bulk_modulus_vrh"], good["shear_modulus_vrh"], good["volume_ratio"])
    assert [reason is None for reason in reasons] == finite.tolist()
    best = good["material_id"][np.argsort(-np.nan_to_num(s.lambda_crit_nm))[:7]].tolist()
    assert best == ["mp-867695", "mp-29520", "mp-135", "mp-753195", "mp-675926", "mp-567967", "mp-977207"]
