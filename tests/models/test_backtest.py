"""Metrics of the discovery back-test against numbers worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from models.backtest import (
    ANION_CLASSES,
    Judged,
    anion_class,
    at_threshold,
    discovery,
    energy_errors,
    in_turn,
    interval_over_groups,
    judge,
    reliability,
    share,
)
from models.errors import InputError
from models.formula import parse_many
from models.recalibration import compare_calibrations

#: Eight compounds. At -0.1 the first four are selected: two stable, one of them as deep; five are stable in all.
PREDICTED = np.array([-0.30, -0.20, -0.15, -0.10, -0.04, 0.00, 0.10, 0.20])
TRUE = np.array([-0.25, -0.05, 0.05, 0.15, -0.02, 0.00, -0.12, 0.30])
AMONG_ALL = np.array([-0.25, 0.01, 0.05, 0.15, 0.03, 0.00, -0.12, 0.30])
PROBABILITY = np.array([0.95, 0.85, 0.75, 0.75, 0.45, 0.25, 0.15, 0.05])


@pytest.fixture
def rows() -> Judged:
    return Judged(PREDICTED, TRUE, AMONG_ALL, PROBABILITY)


def test_discovery_by_hand(rows: Judged) -> None:
    found = at_threshold(rows, -0.1)
    assert found["selected"] == 4
    stable = found["stable"]
    assert (stable["precision"]["hits"], stable["precision"]["n"]) == (2, 4)
    assert stable["precision"]["share"] == 0.5
    assert stable["recall"]["share"] == 2 / 5
    assert stable["prevalence"]["share"] == 5 / 8
    assert stable["acceleration"] == pytest.approx(0.5 / 0.625)
    assert stable["f1"] == pytest.approx(2 * 0.5 * 0.4 / (0.5 + 0.4))
    deep = found["as_deep"]  # at or below -0.1: the first and the seventh
    assert (deep["precision"]["share"], deep["recall"]["share"], deep["prevalence"]["share"]) == (0.25, 0.5, 0.25)
    assert deep["acceleration"] == 1.0
    everything = found["stable_among_all"]  # first, sixth (a tie) and seventh
    assert (everything["precision"]["hits"], everything["recall"]["n"]) == (1, 3)


def test_the_threshold_itself_is_selected(rows: Judged) -> None:
    assert [at_threshold(rows, t)["selected"] for t in (-0.31, -0.3, -0.2, -0.05)] == [0, 1, 2, 4]


def test_wilson_interval_by_hand() -> None:
    """2 of 4: centre 0.5, half width z / (1 + z^2/4) * sqrt(1/16 + z^2/64), z = 1.96."""
    z = 1.959963984540054
    half = z / (1 + z * z / 4) * math.sqrt(0.25 / 4 + z * z / 64)
    found = share(2, 4)
    assert (found["low"], found["high"]) == (pytest.approx(0.5 - half), pytest.approx(0.5 + half))
    assert found["low"] == pytest.approx(0.1500, abs=1e-4)
    assert share(0, 0) == {"hits": 0, "n": 0, "share": None, "low": None, "high": None}


def test_nothing_selected_has_no_precision() -> None:
    found = discovery(np.zeros(3, dtype=bool), np.array([True, False, False]))
    assert found["precision"]["share"] is None
    assert found["acceleration"] is None
    assert found["recall"]["share"] == 0.0
    assert found["f1"] == 0.0
    nothing = discovery(np.zeros(3, dtype=bool), np.zeros(3, dtype=bool))
    assert nothing["f1"] is None
    assert nothing["recall"]["share"] is None
    assert nothing["prevalence"]["share"] == 0.0


def test_interval_over_groups_by_hand() -> None:
    """Groups that are all alike leave nothing to chance; of two that differ, a quarter of the draws takes one twice."""
    everything = np.ones(6, dtype=bool)
    alike = interval_over_groups(everything, np.array([1, 0, 1, 0, 1, 0], dtype=bool), np.array(list("aabbcc")))
    assert alike == {"groups": 3, "low": 0.5, "high": 0.5}
    hits = np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    differ = interval_over_groups(everything, hits, np.array(list("aaabbb")))
    assert (differ["low"], differ["high"]) == (0.0, 1.0)
    one = interval_over_groups(hits, hits, np.array(list("aaabbb")))
    assert one == {"groups": 1, "low": None, "high": None}


def test_rows_of_one_group_count_less_than_independent_ones() -> None:
    rng = np.random.default_rng(8)
    groups = np.repeat(np.arange(40), 25)
    hits = np.repeat(rng.random(40) < 0.6, 25)  # a group is right or wrong as a whole
    wide = interval_over_groups(np.ones(1000, dtype=bool), hits, groups)
    narrow = share(int(hits.sum()), 1000)
    assert wide["high"] - wide["low"] > 4 * (narrow["high"] - narrow["low"])  # sqrt(25) = 5


def test_the_winners_curse_by_hand(rows: Judged) -> None:
    """Errors: -0.05, -0.15, -0.20, -0.25, -0.02, 0, 0.22, -0.10."""
    everything = energy_errors(rows)
    assert everything["n"] == 8
    assert everything["mae"] == pytest.approx(0.99 / 8)
    assert everything["bias"] == pytest.approx(-0.55 / 8)
    assert everything["median"] == pytest.approx(-0.075)
    selected = at_threshold(rows, -0.1)["errors"]
    assert selected["n"] == 4
    assert selected["bias"] == pytest.approx(-0.65 / 4)
    assert selected["mae"] == pytest.approx(0.65 / 4)
    assert energy_errors(rows.keep(PREDICTED > 9))["mae"] is None


def test_reliability_by_hand() -> None:
    """Two bins of ten: 0.1-0.2 with 0.1 and 0.15 (none stable), 0.9-1 with 0.9 and 1.0 (one stable)."""
    found = reliability(np.array([0.1, 0.15, 0.9, 1.0, np.nan]), np.array([False, False, True, False, True]))
    assert (found["n"], found["n_without"]) == (4, 1)
    assert [(b["low"], b["high"]) for b in found["bins"]] == [(0.1, 0.2), (0.9, 1.0)]
    assert [b["stated"] for b in found["bins"]] == [pytest.approx(0.125), pytest.approx(0.95)]
    assert [b["observed"]["share"] for b in found["bins"]] == [0.0, 0.5]
    assert found["calibration_error"] == pytest.approx((2 * 0.125 + 2 * 0.45) / 4)
    assert found["brier"] == pytest.approx((0.01 + 0.0225 + 0.01 + 1.0) / 4)
    assert found["log_loss"] == pytest.approx(
        -(math.log(0.9) + math.log(0.85) + math.log(0.9) + math.log(1e-6)) / 4, rel=1e-6
    )
    assert found["stated"] == pytest.approx(2.15 / 4)
    empty = reliability(np.array([np.nan]), np.array([True]))
    assert (empty["n"], empty["n_without"], empty["brier"], empty["bins"]) == (0, 1, None, [])


def test_reliability_among_the_selected(rows: Judged) -> None:
    found = at_threshold(rows, -0.1)["reliability"]
    assert found["n"] == 4
    assert found["stated"] == pytest.approx((0.95 + 0.85 + 0.75 + 0.75) / 4)
    assert found["observed"]["share"] == 0.5
    assert found["brier"] == pytest.approx((0.05**2 + 0.15**2 + 2 * 0.75**2) / 4)


def test_groups_add_up_to_the_whole(rows: Judged) -> None:
    arity = np.array([2, 2, 3, 3, 3, 4, 4, 4])
    found = judge(rows, {"arity": arity}, np.arange(8) // 2, (-0.05, -0.1))
    assert sorted(found["by_arity"]) == ["2", "3", "4"]
    assert found["n"] == sum(part["n"] for part in found["by_arity"].values()) == 8
    for number in (0, 1):
        whole = found["thresholds"][number]
        parts = [part["thresholds"][number] for part in found["by_arity"].values()]
        assert whole["selected"] == sum(part["selected"] for part in parts)
        for target in ("stable", "as_deep", "stable_among_all"):
            assert whole[target]["prevalence"]["hits"] == sum(part[target]["prevalence"]["hits"] for part in parts)
    assert found["by_arity"]["2"]["thresholds"][1]["stable"]["precision"]["share"] == 1.0
    assert found["thresholds"][1]["over_groups"]["groups"] == 2
    assert "bins" in found["reliability"]
    assert "bins" not in found["by_arity"]["2"]["reliability"]


def test_flags_are_taken_out_in_turn(rows: Judged) -> None:
    first, second = np.zeros(8, dtype=bool), np.zeros(8, dtype=bool)
    first[[1, 7]] = True
    second[[1, 2]] = True  # the second row has both flags and leaves once
    steps = in_turn(rows, {"known": first, "out_of_domain": second}, (-0.1,))
    assert [step["taken_out"] for step in steps] == [None, "known", "out_of_domain"]
    assert [step["n"] for step in steps] == [8, 6, 5]
    assert [step["stable"] for step in steps] == [5, 4, 4]
    assert [step["thresholds"][0]["selected"] for step in steps] == [4, 3, 2]
    assert [step["thresholds"][0]["stable_selected"]["hits"] for step in steps] == [2, 1, 1]


def test_anion_classes_by_hand() -> None:
    formulas = ["KF6", "NaF8", "OF9", "SeF9", "NaCl", "Fe2O3", "ZnS", "GaN", "AlNi", "LaH3", "SiC", "NaClF"]
    expected = [
        "fluoride", "fluoride", "oxyhalide", "chalcohalide", "halide", "oxide", "chalcogenide", "pnictide",
        "intermetallic", "hydride", "other", "fluoride",
    ]  # fmt: skip
    found = anion_class(parse_many(formulas).elements)
    assert found.tolist() == expected
    assert set(found) <= set(ANION_CLASSES)


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(InputError, match="equal lengths"):
        Judged(PREDICTED, TRUE[1:], AMONG_ALL, PROBABILITY)
    with pytest.raises(InputError, match="true holds NaN"):
        Judged(PREDICTED, np.full(8, np.nan), AMONG_ALL, PROBABILITY)


def made_up(n: int, seed: int) -> Judged:
    """Predictions whose errors are so large that most of the deep ones are wrong, and a calibration that is sure."""
    rng = np.random.default_rng(seed)
    true = rng.normal(0.2, 0.15, n)
    predicted = true + rng.normal(0.0, 0.2, n)
    return Judged(predicted, true, true, 1.0 / (1.0 + np.exp(40.0 * predicted)))


def test_a_calibration_on_held_out_rows_repairs_an_overconfident_one() -> None:
    rows = made_up(6000, 5)
    half = np.random.default_rng(6).random(6000) < 0.5
    found = compare_calibrations(rows, half, (-0.05, -0.1))
    assert found["halves"] == [int((~half).sum()), int(half.sum())]
    assert [entry["threshold"] for entry in found["thresholds"]] == [0.0, -0.05, -0.1]
    for entry in found["thresholds"]:
        assert entry["stated"]["n"] == entry["held_out_rows"]["n"] == entry["selected"]
        assert entry["held_out_rows"]["log_loss"] < entry["stated"]["log_loss"]
        assert entry["held_out_rows"]["calibration_error"] < 0.08 < entry["stated"]["calibration_error"]
    assert all(fit["method"] == "platt" for fit in found["fits"])


def test_a_calibration_is_measured_on_rows_it_has_not_seen() -> None:
    """Two halves of opposite truth: what the first half teaches is wrong for the second, and shows."""
    rng = np.random.default_rng(7)
    predicted = rng.uniform(-0.2, 0.0, 400)
    half = np.arange(400) < 200
    true = np.where(half, -0.1, 0.1)
    true[::20] *= -1.0  # ten of each class in each half, or nothing is fitted
    found = compare_calibrations(Judged(predicted, true, true, np.full(400, 0.5)), half, ())
    assert found["thresholds"][0]["held_out_rows"]["log_loss"] > 2.0
    assert found["thresholds"][0]["stated"]["log_loss"] == pytest.approx(math.log(2.0))


def test_too_few_rows_state_no_probability() -> None:
    rows = Judged(PREDICTED, TRUE, AMONG_ALL, PROBABILITY)
    found = compare_calibrations(rows, np.arange(8) < 4, (-0.1,))
    assert {fit["method"] for fit in found["fits"]} == {"none"}
    assert found["thresholds"][0]["held_out_rows"]["n"] == 0
    assert found["thresholds"][0]["held_out_rows"]["n_without"] == 6
    with pytest.raises(InputError, match="as many halves"):
        compare_calibrations(rows, np.zeros(3, dtype=bool), ())
