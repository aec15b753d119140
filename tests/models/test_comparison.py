"""Models side by side: means, intervals and differences against values by hand and scipy."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from models.comparison import Measured, compare, summarise
from models.errors import InputError
from models.significance import corrected_t_test, holm, paired_rows

SYSTEMS = ("Li-O", "Na-O", "K-O", "F-Li")


def measured(entry: str, fold: str, error: Sequence[float], **changes: Any) -> Measured:
    """Return one model on a fold whose rows start at 10 times its number, each of a chemical system of its own."""
    start = 10 * int(fold)
    known: dict[str, Any] = {
        "seed": 0, "size": None, "n_train": 8, "row": np.arange(start, start + len(error)), "by_element": {},
        "groups": np.array([SYSTEMS[k % len(SYSTEMS)] for k in range(len(error))]),
    }  # fmt: skip
    return Measured(entry=entry, fold=fold, error=np.array(error), **(known | changes))


def mae(errors: Sequence[float]) -> float:
    return float(np.mean(np.abs(errors)))


# --- summaries


def test_the_mean_absolute_error_by_hand() -> None:
    assert measured("a", "1", [0.1, -0.3, 0.2]).mae == pytest.approx(0.2)


def test_one_seed_has_an_interval_over_its_folds() -> None:
    runs = [measured("a", "1", [1.0, -1.0]), measured("a", "2", [2.0]), measured("a", "3", [-3.0])]
    (line,) = summarise(runs)
    assert (line["entry"], line["size"], line["n_folds"], line["n_seeds"], line["n_train"]) == ("a", None, 3, 1, 8)
    assert line["mae"] == 2.0
    low, high = stats.ttest_1samp([1.0, 2.0, 3.0], 0.0).confidence_interval(0.95)
    assert (line["low"], line["high"]) == pytest.approx((low, high))
    assert line["runs"] == [{"seed": 0, "fold": str(k), "mae": float(k)} for k in (1, 2, 3)]
    json.dumps(line)


def test_several_seeds_have_an_interval_over_their_means() -> None:
    errors = {(0, "1"): 1.0, (0, "2"): 3.0, (1, "1"): 2.0, (1, "2"): 6.0}
    (line,) = summarise([measured("a", fold, [e], seed=seed) for (seed, fold), e in errors.items()])
    assert (line["mae"], line["n_seeds"], line["n_folds"]) == (3.0, 2, 2)
    low, high = stats.ttest_1samp([2.0, 4.0], 0.0).confidence_interval(0.95)
    assert (line["low"], line["high"]) == pytest.approx((low, high))


def test_seeds_that_make_no_difference_are_no_certainty() -> None:
    """A linear fit has no chance in it: its interval is that over the folds."""
    once = [measured("a", fold, [e]) for fold, e in (("1", 1.0), ("2", 2.0), ("3", 4.0))]
    thrice = [measured("a", run.fold, run.error.tolist(), seed=seed) for seed in range(3) for run in once]
    (one,), (three,) = summarise(once), summarise(thrice)
    assert (three["low"], three["high"]) == (one["low"], one["high"])
    assert three["low"] < three["mae"] < three["high"]
    assert three["n_seeds"] == 3


def test_a_single_run_has_no_interval() -> None:
    (line,) = summarise([measured("a", "1", [1.0, 2.0])])
    assert (line["mae"], line["low"], line["high"]) == (1.5, None, None)


def test_sizes_are_lines_of_their_own() -> None:
    runs = [measured(e, f, [k], size=n, n_train=n) for e in "ab" for n in (5, 9) for f, k in (("1", n), ("2", 1))]
    lines = summarise(runs)
    assert [(line["entry"], line["size"], line["n_train"], line["mae"]) for line in lines] == [
        ("a", 5, 5, 3.0), ("a", 9, 9, 5.0), ("b", 5, 5, 3.0), ("b", 9, 9, 5.0),
    ]  # fmt: skip


# --- comparisons


def test_a_pair_by_hand() -> None:
    """Systems differ by -1, -1, 2 and -4 in their sums: of 16 exchanges those with a total of 4 or more in size."""
    first = measured("a", "1", [1.0, -1.0, 3.0, 0.0])
    second = measured("b", "1", [2.0, 2.0, -1.0, 4.0])
    (pair,) = compare([first, second])
    assert (pair["first"], pair["second"], pair["size"]) == ("a", "b", None)
    assert pair["difference"] == pytest.approx(-1.0)
    assert (pair["n_folds"], pair["better_folds"]) == (1, 1)
    totals = [abs(a + b + c + d) for a in (-1, 1) for b in (-1, 1) for c in (-2, 2) for d in (-4, 4)]
    assert pair["p_value"] == pair["p_adjusted"] == sum(total >= 4 for total in totals) / 16
    assert pair["low"] <= pair["difference"] <= pair["high"]
    assert "p_folds" not in pair
    assert "spearman" not in pair
    json.dumps(pair)


def test_folds_are_joined_and_seeds_averaged() -> None:
    rng = np.random.default_rng(0)
    errors = {(e, s, f): rng.normal(size=6) for e in "ab" for s in (0, 1) for f in ("1", "2", "3")}
    runs = [measured(e, f, error, seed=s, n_train=12) for (e, s, f), error in errors.items()]
    (pair,) = compare(runs, seed=3)
    sides = [
        np.concatenate([np.mean([np.abs(errors[e, s, f]) for s in (0, 1)], axis=0) for f in ("1", "2", "3")])
        for e in "ab"
    ]
    groups = np.concatenate([runs[0].groups] * 3)
    expected = paired_rows(sides[0], sides[1], groups, seed=3)
    assert [pair[name] for name in ("difference", "low", "high", "p_value")] == [
        expected.difference, expected.low, expected.high, expected.p_value,
    ]  # fmt: skip
    by_fold = (sides[0] - sides[1]).reshape(3, 6).mean(axis=1)
    assert pair["better_folds"] == int((by_fold < 0).sum())
    assert pair["p_folds"] == pytest.approx(corrected_t_test(by_fold, 12, 6).p_value)


def test_who_is_named_first_only_turns_the_sign() -> None:
    rng = np.random.default_rng(1)
    runs = [measured(e, f, rng.normal(size=8)) for e in "ab" for f in ("1", "2")]
    (pair,), (turned,) = compare(runs), compare(runs[2:] + runs[:2])
    assert (turned["first"], turned["second"]) == ("b", "a")
    assert turned["difference"] == pytest.approx(-pair["difference"])
    assert turned["p_value"] == pair["p_value"]
    assert turned["better_folds"] == 2 - pair["better_folds"]


def test_the_order_of_folds_has_no_say() -> None:
    rng = np.random.default_rng(2)
    runs = [measured(e, f, rng.normal(size=5)) for e in "ab" for f in ("1", "2", "3")]
    mixed = [runs[k] for k in (0, 1, 2, 5, 3, 4)]
    assert compare(mixed) == compare(runs)


def test_p_values_are_adjusted_over_all_pairs() -> None:
    rng = np.random.default_rng(3)
    runs = [measured(e, "1", rng.normal(size=8), size=n) for n in (5, 9) for e in "abc"]
    pairs = compare(runs)
    assert [(pair["size"], pair["first"], pair["second"]) for pair in pairs] == [
        (n, *names) for n in (5, 9) for names in (("a", "b"), ("a", "c"), ("b", "c"))
    ]
    assert [pair["p_adjusted"] for pair in pairs] == holm([pair["p_value"] for pair in pairs]).tolist()


def test_errors_by_element_are_correlated() -> None:
    one = measured("a", "1", [1.0, 2.0], by_element={"Li": 1.0, "O": 2.0, "F": 3.0, "Na": 9.0, "K": 1.0})
    two = measured("b", "1", [1.0, 1.0], by_element={"Li": 5.0, "O": 6.0, "F": 5.5, "Na": 7.0, "Xe": 0.0})
    (pair,) = compare([one, two])
    expected = stats.spearmanr([1.0, 2.0, 3.0, 9.0], [5.0, 6.0, 5.5, 7.0])
    assert (pair["spearman"], pair["spearman_p"]) == pytest.approx((expected.statistic, expected.pvalue))
    # elements that one fold does not have are left out, the others averaged over folds
    further = [measured(e, "2", [1.0, 3.0], by_element={"Li": 3.0, "O": 0.0, "F": 1.0}) for e in "ab"]
    (pair,) = compare([one, two, *further])
    expected = stats.spearmanr([2.0, 1.0, 2.0], [4.0, 3.0, 3.25])
    assert pair["spearman"] == pytest.approx(expected.statistic)
    for constant in ({"Li": 1.0, "O": 1.0, "F": 1.0}, {"Li": 1.0, "O": 2.0}):  # no order, or too few to order
        (pair,) = compare([measured(e, "1", [1.0, 2.0], by_element=constant) for e in "ab"])
        assert "spearman" not in pair


def test_one_chemical_system_shows_nothing() -> None:
    """All exchanges of one group are as extreme as what was observed: p is 1."""
    groups = np.array(["Li-O"] * 3)
    (pair,) = compare([measured(e, "1", [k, k, k], groups=groups) for e, k in (("a", 1.0), ("b", 3.0))])
    assert (pair["difference"], pair["low"], pair["high"], pair["p_adjusted"]) == (-2.0, None, None, 1.0)


def test_equal_models_do_not_differ() -> None:
    runs = [measured(e, f, [0.5, -0.25, 1.0]) for e in "ab" for f in ("1", "2", "3")]
    (pair,) = compare(runs)
    assert (pair["difference"], pair["p_value"], pair["better_folds"]) == (0.0, 1.0, 0)
    assert "p_folds" not in pair


def test_one_model_is_not_compared() -> None:
    assert compare([measured("a", "1", [1.0]), measured("a", "2", [1.0])]) == []
    assert math.isclose(summarise([measured("a", "1", [-1.0])])[0]["mae"], 1.0)


@pytest.mark.parametrize(
    "other",
    [
        [measured("b", "1", [1.0, 2.0], row=np.array([10, 12]))],
        [measured("b", "1", [1.0])],
        [measured("b", "2", [1.0, 2.0])],
        [measured("b", "1", [1.0, 2.0]), measured("b", "2", [1.0, 2.0])],
        [measured("b", "1", [1.0, 2.0]), measured("b", "1", [1.0, 2.0], seed=1, row=np.array([7, 8]))],
    ],
    ids=["other rows", "fewer rows", "another fold", "one fold more", "other rows of one seed"],
)
def test_other_rows_are_refused(other: list[Measured]) -> None:
    with pytest.raises(InputError, match="a and b were measured on different rows"):
        compare([measured("a", "1", [1.0, 2.0]), *other])
