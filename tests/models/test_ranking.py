"""Filters, choice of moduli and the ranked table."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.candidate_filters import (
    FilterParameters,
    apply_filters,
    contains_metal,
    identified,
    near_hull,
    not_metallic,
    split,
    wide_gap,
    without_elements,
)
from models.electrochemical_window import within_window
from models.electrodeposition import StabilityConstants, stability_parameter
from models.elements import REDOX_ACTIVE
from models.errors import InputError
from models.ranking import (
    RANKING_COLUMNS,
    RankingParameters,
    choose_moduli,
    rank_candidates,
    rank_table,
    with_metal,
    with_volume_ratio,
)
from models.stability_sampling import SamplingParameters
from models.volume_ratio import VolumeRatios

FEW = SamplingParameters(n_samples=64)
OFF = FilterParameters(max_energy_above_hull=None, min_band_gap=None, anion_formers=(), forbidden_elements=())


def candidates(**columns) -> pd.DataFrame:
    n = len(next(iter(columns.values())))
    base = {
        "material_id": [f"m{i}" for i in range(n)],
        "formula": ["LiF"] * n,
        "energy_above_hull": [0.0] * n,
        "band_gap": [5.0] * n,
    }
    return pd.DataFrame({**base, **columns})


def test_identity():
    frame = candidates(
        material_id=["a", None, "a", "b", "c", "d", "", pd.NA],
        formula=["LiF", "LiF", "LiF", "Xx3", None, "LiAr", "LiF", "LiF"],
    )
    outcome = identified(frame)
    assert outcome.kept["material_id"].tolist() == ["a"]
    reasons = dict(zip(outcome.excluded["material_id"], outcome.excluded["reason"], strict=True))
    assert reasons["a"] == "material_id a occurs before"
    assert reasons["c"] == "formula is missing"
    assert "row 1" in reasons
    assert "row 7" in reasons
    assert {"b", "d"} <= set(reasons)


def test_metals_alloys_and_graphite_go_and_salts_stay():
    formulas = ["Li", "Li2Mg", "LiC12", "LiAl", "LiB3", "LiF", "Li2S", "LiBH4", "Li2WS4", "LiHO", "Li2CO3", "Li3N"]
    outcome = not_metallic(candidates(formula=formulas))
    assert outcome.kept["formula"].tolist() == formulas[5:]
    assert outcome.excluded["stage"].tolist() == ["anion"] * 5
    assert outcome.excluded["reason"].str.contains("metal, alloy or conductor").all()


def test_metal_and_radioactive_elements():
    frame = candidates(formula=["LiF", "NaCl", "LiTcO4", "Li2UO4", "broken?", None])
    metal = contains_metal(frame, "Li")
    assert metal.kept["formula"].tolist() == ["LiF", "LiTcO4", "Li2UO4"]
    assert metal.excluded["reason"][0] == "contains no Li"
    assert metal.excluded["reason"][2] == "formula is missing"
    clean = without_elements(metal.kept)
    assert clean.kept["formula"].tolist() == ["LiF"]
    assert clean.excluded["reason"].tolist()[1].startswith("contains U")


@pytest.mark.parametrize(("keep", "expected"), [(False, [0, 1]), (True, [0, 1, 3])])
def test_hull_filter_and_its_policy_for_missing_values(keep, expected):
    frame = candidates(energy_above_hull=[0.0, 0.05, 0.051, np.nan, np.inf])
    outcome = near_hull(frame, 0.05, keep_missing=keep)
    assert outcome.kept["material_id"].tolist() == [f"m{i}" for i in expected]
    assert outcome.excluded["reason"][0] == "energy_above_hull 0.051 eV/atom > 0.05 eV/atom"


def test_gap_filter_and_missing_column():
    outcome = wide_gap(candidates(band_gap=[0.0, 1.0, None, "unknown"]), 1.0)
    assert outcome.kept["material_id"].tolist() == ["m1"]
    assert outcome.excluded["reason"].tolist() == ["band_gap 0 eV < 1 eV"] + ["band_gap is missing"] * 2
    absent = candidates(formula=["LiF"]).drop(columns="band_gap")
    assert len(wide_gap(absent, 1.0).kept) == 0
    assert len(wide_gap(absent, 1.0, keep_missing=True).kept) == 1


def test_missing_columns_and_reasons_of_another_length_are_refused():
    with pytest.raises(InputError, match="no column formula"):
        contains_metal(pd.DataFrame({"material_id": ["a"]}))
    with pytest.raises(InputError, match="1 reasons for 2 rows"):
        split(candidates(formula=["LiF", "LiF"]), "x", [None])


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c", "d", None]),
            st.sampled_from(["LiF", "Li", "Li2S", "NaCl", "LiUO3", "?", None]),
            st.sampled_from([0.0, 0.2, np.nan]),
            st.sampled_from([0.0, 4.0, np.nan]),
        ),
        max_size=12,
    )
)
@settings(max_examples=60, deadline=None)
def test_every_row_is_kept_or_excluded_with_a_reason(rows):
    frame = pd.DataFrame(rows, columns=["material_id", "formula", "energy_above_hull", "band_gap"])
    outcome = apply_filters(frame)
    assert len(outcome.kept) + len(outcome.excluded) == len(frame)
    assert sum(outcome.counts().values()) == len(frame)
    assert outcome.excluded["reason"].map(lambda r: isinstance(r, str) and bool(r)).all()
    assert list(outcome.excluded.columns) == ["material_id", "formula", "stage", "reason"]


def test_filters_can_be_switched_off():
    frame = candidates(formula=["Li", "LiU"], energy_above_hull=[9, np.nan], band_gap=[0, np.nan])
    assert len(apply_filters(frame, OFF).kept) == 2


# --- moduli


def moduli(identifiers, bulk, shear, **columns) -> pd.DataFrame:
    return pd.DataFrame({"material_id": identifiers, "bulk_modulus_vrh": bulk, "shear_modulus_vrh": shear, **columns})


def test_stated_moduli_come_before_predicted_ones():
    frame = candidates(formula=["LiF"] * 5)
    unstable = np.diag([9.0, 9, 9, -1, 3, 3]).tolist()
    stated = moduli(
        ["m0", "m2", "m3", "m0"], [70, -5, 40, 1], [51, 10, 20, 1], elastic_tensor=[None, None, unstable, None]
    )
    predicted = moduli(
        [f"m{i}" for i in range(4)],
        [60.0] * 4,
        [40.0] * 4,
        log10_bulk_modulus_std=[0.1] * 4,
        log10_shear_modulus_std=[0.2] * 4,
    )
    outcome = choose_moduli(frame, stated, predicted)
    kept = outcome.kept.set_index("material_id")
    assert kept["moduli_source"].to_dict() == {"m0": "stated", "m1": "predicted"}
    assert kept.loc["m0", "bulk_modulus_vrh"] == 70
    assert np.isnan(kept.loc["m0", "log10_bulk_modulus_std"])
    assert kept.loc["m1", "log10_shear_modulus_std"] == 0.2
    assert outcome.excluded["reason"].tolist() == [
        "stated: bulk modulus -5 GPa is not positive",
        "stated: elastic tensor is not positive definite (negative diagonal element)",
        "no stated moduli and no prediction",
    ]
    lenient = choose_moduli(frame, stated, predicted, bad_stated="predict").kept
    assert lenient["moduli_source"].tolist() == ["stated"] + ["predicted"] * 3


def test_moduli_of_the_candidates_themselves_and_bad_predictions():
    frame = candidates(formula=["LiF"] * 3, bulk_modulus_vrh=[70, np.nan, None], shear_modulus_vrh=[51, np.nan, None])
    predicted = moduli(["m1", "m2"], [30.0, np.nan], [20.0, 5.0])
    outcome = choose_moduli(frame, None, predicted)
    assert outcome.kept["moduli_source"].tolist() == ["stated", "predicted"]
    assert outcome.excluded["reason"].tolist() == ["predicted: bulk modulus is missing"]
    assert len(choose_moduli(candidates(formula=["LiF"])).excluded) == 1


def test_stated_volume_ratios_come_before_computed_ones():
    frame = candidates(formula=["LiF"] * 3, volume_ratio=[0.1, np.nan, np.nan])
    ratios = VolumeRatios(np.array([0.5, 0.2, np.nan]), [None, None, "structure has no Li"])
    outcome = with_volume_ratio(frame, ratios)
    assert outcome.kept["volume_ratio"].tolist() == [0.1, 0.2]
    assert outcome.excluded["reason"].tolist() == ["structure has no Li"]
    with pytest.raises(InputError, match="3 volume ratios for 1"):
        with_volume_ratio(frame[:1], ratios)


# --- the table


def complete(n: int = 6, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return candidates(
        bulk_modulus_vrh=rng.uniform(5, 80, n),
        shear_modulus_vrh=rng.uniform(2, 50, n),
        log10_bulk_modulus_std=[0.1] * n,
        log10_shear_modulus_std=[0.2] * n,
        moduli_source=["predicted"] * n,
        volume_ratio=rng.uniform(0.03, 0.3, n),
    )


def test_ranked_table():
    frame = complete()
    table = rank_table(frame, RankingParameters(sampling=FEW)).kept
    assert tuple(table.columns) == RANKING_COLUMNS
    assert table["rank"].tolist() == [1, 2, 3, 4, 5, 6]
    assert table["chi"].is_monotonic_increasing
    assert (table["chi_q05"] < table["chi"]).all()
    assert (table["chi"] < table["chi_q95"]).all()
    assert set(table["chemsys"]) == {"F-Li"}
    best = frame.set_index("material_id").loc[table["material_id"][0]]
    direct = stability_parameter(best["bulk_modulus_vrh"], best["shear_modulus_vrh"], best["volume_ratio"])
    assert table["chi"][0] == pytest.approx(float(direct.chi))
    assert table["lambda_crit_nm"][0] == pytest.approx(float(direct.lambda_crit_nm))
    assert table["pugh_ratio"][0] == pytest.approx(best["bulk_modulus_vrh"] / best["shear_modulus_vrh"])


def test_ranking_does_not_depend_on_the_order_of_the_rows():
    frame = complete(30)
    frame.loc[3, ["bulk_modulus_vrh", "shear_modulus_vrh", "volume_ratio"]] = [20.0, 10.0, 0.1]
    frame.loc[9, ["bulk_modulus_vrh", "shear_modulus_vrh", "volume_ratio"]] = [20.0, 10.0, 0.1]
    p = RankingParameters(sampling=FEW)
    a, b = rank_table(frame, p).kept, rank_table(frame.sample(frac=1, random_state=1), p).kept
    pd.testing.assert_frame_equal(a, b)


def test_order_by_probability():
    frame = candidates(
        bulk_modulus_vrh=[4.0, 6.0],
        shear_modulus_vrh=[2.0, 3.0],
        log10_bulk_modulus_std=[0.0, 0.3],
        log10_shear_modulus_std=[0.0, 0.6],
        moduli_source=["predicted"] * 2,
        volume_ratio=[0.38, 0.055],
    )
    by_chi = rank_table(frame, RankingParameters(sampling=FEW)).kept
    by_p = rank_table(frame, RankingParameters(sampling=FEW, sort_by="probability_stable")).kept
    assert by_chi["material_id"].tolist() == ["m0", "m1"]
    assert by_p["material_id"].tolist() == ["m1", "m0"]


def test_stated_rows_have_the_error_that_is_asked_for():
    frame = complete(2).assign(
        moduli_source=["stated", "predicted"], log10_bulk_modulus_std=np.nan, log10_shear_modulus_std=np.nan
    )
    table = rank_table(frame, RankingParameters(sampling=FEW)).kept.set_index("moduli_source")
    assert table.loc["stated", "chi_q05"] == pytest.approx(table.loc["stated", "chi"])
    assert table.loc["stated", "probability_stable"] in (0, 1)
    assert np.isnan(table.loc["predicted", "probability_stable"])
    spread = rank_table(frame, RankingParameters(sampling=FEW, stated_log10_std=(0.03, 0.05))).kept
    row = spread.set_index("moduli_source").loc["stated"]
    assert row["chi_q05"] < row["chi"] < row["chi_q95"]
    assert np.isnan(row["log10_bulk_modulus_std"])


def test_rows_without_chi_are_excluded():
    frame = complete(3)
    frame.loc[0, "volume_ratio"] = np.nan
    frame.loc[1, "shear_modulus_vrh"] = -4
    outcome = rank_table(frame, RankingParameters(sampling=FEW))
    assert len(outcome.kept) == 1
    assert outcome.excluded["reason"].tolist() == ["volume ratio is missing", "shear modulus -4 GPa is not positive"]
    empty = rank_table(frame[:0], RankingParameters(sampling=FEW)).kept
    assert len(empty) == 0
    assert tuple(empty.columns) == RANKING_COLUMNS


def test_the_whole_way():
    frame = candidates(
        formula=["LiF", "Li2WS4", "Li", "NaCl", "Li2S", "LiI", "Li3N"],
        energy_above_hull=[0, 0.036, 0, 0, 0.3, 0, 0],
        band_gap=[8.7, 1.9, 0, 5, 3.4, 4, 1.2],
    )
    stated = moduli(["m0", "m1", "m5"], [70, 6, 20], [51, 3, 10])
    predicted = moduli(["m6"], [50.0], [40.0], log10_bulk_modulus_std=[0.1], log10_shear_modulus_std=[0.2])
    ratios = {"m0": (0.08406, None), "m1": (0.0553387, None), "m5": (np.nan, "Voronoi cell of Li is not closed")}
    p = RankingParameters(sampling=FEW)
    ranking = rank_candidates(frame, stated=stated, predicted=predicted, ratios=ratios, parameters=p)
    assert ranking.ranked["formula"].tolist() == ["Li2WS4", "LiF"]
    assert ranking.ranked["chi"].round(3).tolist() == [0.619, 39.099]
    assert ranking.counts == {
        "candidates": 7,
        "ranked": 2,
        "excluded_metal": 1,
        "excluded_anion": 1,
        "excluded_hull": 1,
        "excluded_volume_ratio": 2,
    }
    assert sum(n for name, n in ranking.counts.items() if name != "candidates") == 7
    assert set(ranking.excluded["stage"]) == {"metal", "anion", "hull", "volume_ratio"}
    nothing = rank_candidates(frame[:0], parameters=p)
    assert nothing.counts == {"candidates": 0, "ranked": 0}


def test_parameters_are_checked():
    sodium = StabilityConstants(metal="Na", shear_modulus=3.3)
    with pytest.raises(InputError, match="use one metal"):
        RankingParameters(constants=sodium)
    assert with_metal(RankingParameters(), sodium).filters.metal == "Na"
    for change in ({"bad_stated": "ignore"}, {"sort_by": "luck"}, {"stated_log10_std": (-1.0, 0.0)}):
        with pytest.raises(InputError):
            RankingParameters(**change)


def test_redox_active_metals_are_named():
    frame = pd.DataFrame({"material_id": ["a", "b"], "formula": ["Li2WS4", "Li3PO4"]})
    limits = {"max_energy_above_hull": None, "min_band_gap": None}
    outcome = apply_filters(frame, FilterParameters(redox_active=REDOX_ACTIVE, **limits))
    assert outcome.kept["material_id"].tolist() == ["b"]
    assert outcome.excluded["reason"].tolist() == ["contains W (which a metal electrode reduces)"]
    assert outcome.excluded["stage"].tolist() == ["redox_active"]


@pytest.mark.parametrize(
    ("limits", "keep", "kept"),
    [
        ((None, None), False, "abcd"),
        ((1.0, None), False, "ab"),
        ((None, 3.0), False, "bc"),
        ((1.0, 3.0), False, "b"),
        ((1.0, 3.0), True, "bd"),
    ],
)
def test_windows_that_suit_a_cell(limits, keep, kept):
    frame = pd.DataFrame(
        {
            "material_id": list("abcd"),
            "formula": ["Li2S", "Li3PO4", "Li3PS4", "LiX"],
            "reduction_potential": [0.0, 0.7, 1.7, np.nan],
            "oxidation_potential": [2.0, 4.2, 3.3, np.nan],
        }
    )
    outcome = within_window(frame, *limits, keep_missing=keep)
    assert "".join(outcome.kept["material_id"]) == kept
    said = outcome.excluded.set_index("material_id")["reason"].to_dict()
    assert all("V" in said[name] if name != "d" else "give the phases" in said[name] for name in said)
