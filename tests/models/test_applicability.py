"""Domain of applicability: by hand, against brute force, and by what more training rows must do."""

from __future__ import annotations

import json
import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import minimize

from models.applicability import (
    DESCRIPTORS,
    MIN_ROWS,
    Applicability,
    ExpectedError,
    fit_error,
    worth_of_expectation,
)
from models.elements import ELEMENT_INDEX
from models.errors import InputError
from models.formula import parse_many
from models.screening import composition_fractions

POOL = np.array([ELEMENT_INDEX[e] for e in ("H", "Li", "O", "Fe", "Pm", "Sm", "Hf", "Pu")], dtype=np.int16)
Compositions = tuple[NDArray[np.int16], NDArray[np.int64]]


def read(*formulas: str) -> Compositions:
    parsed = parse_many(formulas)
    assert parsed.valid.all()
    return parsed.elements, parsed.amounts.astype(np.int64)


def random_compositions(seed: int, n: int) -> Compositions:
    """Up to four elements of the pool, those at its front more often; not reduced."""
    rng = np.random.default_rng(seed)
    elements, counts = np.full((n, 4), -1, dtype=np.int16), np.zeros((n, 4), dtype=np.int64)
    for row in range(n):
        arity = rng.integers(1, 5)
        chosen = np.sort(rng.choice(len(POOL), arity, replace=False, p=np.arange(8, 0, -1) / 36))
        elements[row, :arity], counts[row, :arity] = POOL[chosen], rng.integers(1, 6, arity)
    return elements, counts


def test_by_hand() -> None:
    domain = Applicability.fit(*read("Li2O", "Li2O", "LiFeO2", "Fe2O3", "Fe", "NaCl"))
    assert domain.n == 6
    assert len(domain.elements) == 5
    table = domain.score(*read("Li2O", "LiFeO2", "Fe", "NaO", "LiCl", "LiF", "F2"))
    assert table["element_rows"].tolist() == [3, 3, 3, 1, 1, 0, 0]
    assert table["pair_rows"].tolist() == [3, 1, 3, 0, 0, 0, 0]
    # NaO to LiFeO2: 1/2, 1/4, 1/4. LiCl and LiF to Li2O: 1/2 - 2/3, 1/2, 1/3.
    chloride = math.sqrt(1 / 36 + 1 / 4 + 1 / 9)
    nearest = [0.0, 0.0, 0.0, math.sqrt(3 / 8), chloride, chloride]
    assert table["distance"].tolist()[:6] == pytest.approx(nearest, abs=1e-15)
    assert table["score"][0] == pytest.approx(3 / 13 * 4 / 14)
    assert table["score"][1] == pytest.approx(3 / 13 * 2 / 12)
    assert table["score"][3] == pytest.approx(1 / 11 * 1 / 11 * (1 - math.sqrt(3 / 16)))
    assert table["score"].tolist()[5:] == [0.0, 0.0]  # fluorine was never seen
    farthest = composition_fractions(*read("F2"))[0] - composition_fractions(domain.elements, domain.counts)
    assert table["distance"][6] == pytest.approx(np.sqrt((farthest**2).sum(axis=1)).min())


def test_a_composition_is_kept_once_whatever_its_multiple() -> None:
    elements, counts = read("Li2O", "LiFeO2", "Li2O")
    domain = Applicability.fit(elements, counts * np.array([[1], [3], [5]]))
    assert domain.n == 3
    assert domain.counts.tolist() == [[2, 1, 0], [1, 2, 1]]  # Li O; Li O Fe


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60))
def test_is_brute_force(seed: int, n: int) -> None:
    known, asked = random_compositions(seed, n), random_compositions(seed + 1, 30)
    table = Applicability.fit(*known).score(*asked)
    sets, wanted = ([set(row[row >= 0].tolist()) for row in part] for part in (known[0], asked[0]))
    for row, elements in enumerate(wanted):
        assert table["element_rows"][row] == min(sum(e in s for s in sets) for e in elements)
        assert table["pair_rows"][row] == min(sum({e, f} <= s for s in sets) for e in elements for f in elements)
    dense, other = composition_fractions(*known), composition_fractions(*asked)
    every = np.sqrt(((other[:, None] - dense[None]) ** 2).sum(axis=2)).min(axis=1)
    np.testing.assert_allclose(table["distance"], every, atol=1e-12)
    assert table["score"].between(0.0, 1.0).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_more_training_rows_never_make_it_worse(seed: int, n: int, more: int) -> None:
    elements, counts = random_compositions(seed, n + more)
    asked = random_compositions(seed + 1, 30)
    few = Applicability.fit(elements[:n], counts[:n]).score(*asked)
    many = Applicability.fit(elements, counts).score(*asked)
    for name in ("element_rows", "pair_rows"):
        assert (many[name] >= few[name]).all()
    assert (many["distance"] <= few["distance"] + 1e-12).all()
    assert (many["score"] >= few["score"] - 1e-12).all()


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 60), st.integers(1, 5))
def test_training_compositions_are_at_home(seed: int, n: int, times: int) -> None:
    elements, counts = random_compositions(seed, n)
    table = Applicability.fit(elements, counts).score(elements, times * counts)
    assert (table["distance"] == 0.0).all()
    assert (table["element_rows"] >= 1).all()
    assert (table["pair_rows"] >= 1).all()
    assert (table["score"] > 0).all()


def test_the_order_of_the_rows_is_of_no_account() -> None:
    elements, counts = random_compositions(3, 50)
    asked = random_compositions(4, 40)
    order = np.random.default_rng(0).permutation(50)
    one, other = Applicability.fit(elements, counts), Applicability.fit(elements[order], counts[order])
    assert one.to_dict() == other.to_dict()
    pd.testing.assert_frame_equal(one.score(*asked), other.score(*asked))
    turned = np.random.default_rng(1).permutation(40)
    again = one.score(asked[0][turned], asked[1][turned])
    pd.testing.assert_frame_equal(again, one.score(*asked).iloc[turned].reset_index(drop=True))


def test_json_and_back() -> None:
    domain = Applicability.fit(*random_compositions(3, 50))
    asked = random_compositions(4, 40)
    stored = json.loads(json.dumps(domain.to_dict()))
    pd.testing.assert_frame_equal(Applicability.from_dict(stored).score(*asked), domain.score(*asked))
    for name in stored:
        with pytest.raises(InputError, match="fit it again"):
            Applicability.from_dict({key: value for key, value in stored.items() if key != name})
    with pytest.raises(InputError, match="counts pairs of"):
        Applicability.from_dict(stored | {"pair_rows": [[1]]})


@pytest.mark.parametrize(
    ("elements", "amounts", "message"),
    [
        (np.empty((0, 2), dtype=np.int16), np.empty((0, 2), dtype=np.int64), "no training rows"),
        ([[0, 1]], [[0.5, 0.5]], "whole numbers"),
        ([[1, 0]], [[1, 1]], "ascend"),
        ([[0, 1]], [[1, 0]], "positive count"),
        ([[-1, -1]], [[0, 0]], "positive count"),
        ([[0, 1]], [[1]], "one shape"),
        ([[0, 99]], [[1, 1]], "columns between"),
    ],
)
def test_refuses_what_is_no_composition(elements: object, amounts: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        Applicability.fit(np.asarray(elements), np.asarray(amounts))


def test_no_composition_has_no_score() -> None:
    table = Applicability.fit(*read("LiF")).score(np.empty((0, 2), dtype=np.int16), np.empty((0, 2), dtype=np.int64))
    assert len(table) == 0


def descriptors(seed: int, n: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    own = np.floor(rng.lognormal(5.0, 1.5, n))
    pair = np.floor(own * rng.random(n) * 0.3)
    return pd.DataFrame({"element_rows": own, "pair_rows": pair, "distance": rng.exponential(0.1, n)})


def law(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Errors, eV/atom, that fall with rows and grow with the distance."""
    factor = (1 + frame["element_rows"]) ** -0.2 * (1 + frame["pair_rows"]) ** -0.1
    return np.asarray(0.3 * factor * (1 + frame["distance"] / 0.01) ** 0.3)


def test_a_law_is_found_again() -> None:
    frame = descriptors(0, 4000)
    model = fit_error(frame, law(frame))
    assert model.weights == pytest.approx((0.2, 0.1, 0.3), abs=1e-4)
    np.testing.assert_allclose(model.expected(frame), law(frame), rtol=1e-4)
    assert np.asarray(model.quantiles) == pytest.approx(1.0, rel=1e-3)
    assert model.relative(frame).mean() == pytest.approx(1.0, rel=1e-3)


def test_quantiles_hold_on_fresh_rows() -> None:
    rng = np.random.default_rng(1)
    frame, fresh = descriptors(0, 5000), descriptors(9, 5000)
    model = fit_error(frame, law(frame) * np.abs(rng.standard_t(3, 5000)))
    assert model.weights == pytest.approx((0.2, 0.1, 0.3), abs=0.05)
    error = law(fresh) * np.abs(rng.standard_t(3, 5000))
    for p in (0.1, 0.5, 0.9, 0.95):
        assert np.mean(error <= model.quantile(fresh, p)) == pytest.approx(p, abs=0.02)
    assert model.n == 5000
    low, high = np.array_split(np.argsort(model.expected(fresh)), 2)
    assert error[high].mean() > 1.3 * error[low].mean()


def test_the_fit_is_the_minimum() -> None:
    """Against a search without gradients over the same loss."""
    frame = descriptors(2, 300)
    error = law(frame) * np.random.default_rng(3).exponential(size=300)

    def loss(theta: NDArray[np.float64]) -> float:
        weights = np.abs(theta[1:])
        expected = ExpectedError(theta[0], tuple(weights), model.quantiles, 1.0, 1).expected(frame)
        return float(np.mean(np.log(expected) + error / expected))

    model = fit_error(frame, error)
    own = loss(np.array([model.intercept, *model.weights]))
    options = {"maxiter": 4000, "xatol": 1e-8, "fatol": 1e-12}
    assert own <= minimize(loss, x0=[-1.0, 0.1, 0.1, 0.1], method="Nelder-Mead", options=options).fun + 1e-7


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.sampled_from((1.0, -1.0)), st.sampled_from(DESCRIPTORS))
def test_more_support_is_never_expected_to_be_worse(seed: int, sense: float, name: str) -> None:
    """Whatever the errors say: also where they grow with the rows, by chance or for certain."""
    frame = descriptors(seed, 100)
    error = law(frame) ** sense * np.random.default_rng(seed).exponential(size=100)
    model = fit_error(frame, error)
    better = frame.assign(**{name: frame[name] / 2 if name == "distance" else 2 * frame[name]})
    assert (model.expected(better) <= model.expected(frame) * (1 + 1e-12)).all()
    assert (model.quantile(frame, 0.9) >= model.quantile(frame, 0.5)).all()
    unseen = frame.assign(element_rows=0.0, pair_rows=0.0)
    assert (model.expected(unseen) >= model.expected(frame) * (1 - 1e-12)).all()


def test_errors_that_do_not_depend_give_their_mean() -> None:
    frame = descriptors(4, 60).assign(element_rows=5.0, pair_rows=2.0, distance=0.0)
    error = np.random.default_rng(0).exponential(size=60)
    model = fit_error(frame, error)
    assert model.weights == (0.0, 0.0, 0.0)
    assert model.expected(frame) == pytest.approx(error.mean(), rel=1e-6)
    assert model.relative(frame) == pytest.approx(1.0, rel=1e-6)


def test_an_expected_error_is_the_same_in_any_order_and_after_json() -> None:
    frame = descriptors(5, 200)
    error = law(frame) * np.random.default_rng(6).exponential(size=200)
    model = fit_error(frame, error)
    order = np.random.default_rng(7).permutation(200)
    assert fit_error(frame.iloc[order], error[order]) == model
    assert ExpectedError.from_dict(json.loads(json.dumps(model.to_dict()))) == model
    stored = model.to_dict()
    for name in stored:
        with pytest.raises(InputError, match="fit it again"):
            ExpectedError.from_dict({key: value for key, value in stored.items() if key != name})
    with pytest.raises(InputError, match="another form"):
        ExpectedError.from_dict(stored | {"weights": [1.0]})


def test_the_score_feeds_the_fit() -> None:
    domain = Applicability.fit(*random_compositions(0, 200))
    table = domain.score(*random_compositions(1, MIN_ROWS))
    model = fit_error(table, np.linspace(0.1, 0.2, MIN_ROWS))
    assert (model.expected(table) > 0).all()
    unseen = model.expected(domain.score(*read("NaCl")))
    assert unseen[0] >= model.expected(table).max()


@pytest.mark.parametrize(
    ("n", "error", "change", "message"),
    [
        (MIN_ROWS - 1, np.ones(MIN_ROWS - 1), {}, "at least 50"),
        (MIN_ROWS, np.ones(MIN_ROWS + 1), {}, "one for each"),
        (MIN_ROWS, np.full(MIN_ROWS, np.nan), {}, "finite"),
        (MIN_ROWS, np.full(MIN_ROWS, -1.0), {}, "not negative"),
        (MIN_ROWS, np.zeros(MIN_ROWS), {}, "not all 0"),
        (MIN_ROWS, np.ones(MIN_ROWS), {"distance": np.nan}, "finite"),
        (MIN_ROWS, np.ones(MIN_ROWS), {"pair_rows": -1.0}, "not negative"),
    ],
)
def test_fit_error_refuses(n: int, error: NDArray[np.float64], change: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        fit_error(descriptors(0, n).assign(**change), error)


def test_use_refuses() -> None:
    frame = descriptors(0, 100)
    model = fit_error(frame, law(frame))
    with pytest.raises(InputError, match="lack the column distance"):
        model.expected(frame[["element_rows", "pair_rows"]])
    with pytest.raises(InputError, match=r"0\.01 to 0\.99"):
        model.quantile(frame, 0.999)
    with pytest.raises(InputError, match="one length"):
        model.expected({"element_rows": [1.0], "pair_rows": [1.0, 2.0], "distance": [0.0]})


def test_worth_of_an_expectation_by_hand() -> None:
    worth = worth_of_expectation([0.1, 0.4, 0.2, 0.3], [0.9, 0.2, 0.8, 0.3], [0.0, 0.5, 0.3, 0.2], n_bins=2)
    assert worth["n"] == 4
    assert worth["bins"] == [
        {"n": 2, "expected": pytest.approx(0.15), "mae": pytest.approx(0.15)},
        {"n": 2, "expected": pytest.approx(0.35), "mae": pytest.approx(0.35)},
    ]
    assert worth["spearman_expected"] == pytest.approx(0.8)  # ranks 1 4 2 3 against 1 4 3 2
    assert worth["spearman_score"] == pytest.approx(-0.8)
    assert worth_of_expectation([0.1, 0.1], [0.5, 0.5], [0.2, 0.3])["spearman_expected"] is None
    for columns in (([0.1], [0.5], [np.nan]), ([], [], []), ([0.1], [0.5, 0.5], [0.2])):
        with pytest.raises(InputError, match="expected errors, scores and errors"):
            worth_of_expectation(*columns)
