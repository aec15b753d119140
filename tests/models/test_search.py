"""Search spaces and samplers: what texts mean, what is asked for, and that the same seed asks the same."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.search import (
    SAMPLERS,
    Choice,
    Configuration,
    Range,
    Search,
    n_configurations,
    parse_space,
    rank_correlations,
)

MIXED = ["learning_rate=1e-4..1e-2:log", "batch_size=128|256|512", "depth=4..48", "loss=mae|huber"]
BOWL = ["x=-5.0..5.0", "log_y=1e-4..1e-2:log"]


def bowl(configuration: Configuration) -> float:
    """A quadratic with its minimum, 0, at x = 1 and log_y = 1e-3."""
    return (float(configuration["x"]) - 1.0) ** 2 + (math.log10(float(configuration["log_y"])) + 3.0) ** 2


def asked(texts: list[str], sampler: str, seed: int, batches: list[int], objective: Any = None) -> list[Configuration]:
    """What a search asks for in batches, each told before the next."""
    search, found = Search(parse_space(texts), sampler, seed, startup=6), []
    for n in batches:
        batch = search.ask(n)
        for number, configuration in enumerate(batch, start=len(found)):
            search.tell(number, 0.0 if objective is None else objective(configuration))
        found += batch
    return found


def test_texts_are_read_as_they_are_written() -> None:
    assert parse_space(MIXED) == [
        Range("learning_rate", 1e-4, 1e-2, log=True),
        Choice("batch_size", (128, 256, 512)),
        Range("depth", 4, 48, integer=True),
        Choice("loss", ("mae", "huber")),
    ]
    (rate,) = parse_space(["dropout=0..0.5:5"])
    assert rate == Range("dropout", 0, 0.5, points=5)
    (width,) = parse_space([" width = 16..256:log:5 "])
    assert width == Range("width", 16, 256, log=True, integer=True, points=5)
    (odd,) = parse_space(["a=null|true|-0.5|1e-3|magpie+voronoi"])
    assert odd == Choice("a", (None, True, -0.5, 1e-3, "magpie+voronoi"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("learning_rate", "NAME=LOW..HIGH"),
        ("=1..2", "NAME=LOW..HIGH"),
        ("learning rate=1..2", "NAME=LOW..HIGH"),
        ("width=64", "leaves nothing to search"),
        ("x=1..2:cubic", "'2:cubic' in 'x=1..2:cubic' is no number"),
        ("x=a..b", "'a' in 'x=a..b' is no number"),
        ("x=2..1", "smaller end"),
        ("x=1..1", "smaller end"),
        ("x=0..inf", "smaller end"),
        ("x=0..1:log", "positive ends"),
        ("x=0..1:1", "at least 2 points"),
        ("x=1|1", "two different options"),
        ("x=1|1.0", "two different options"),
        ("x=1|nan", "'nan' in 'x=1|nan' is no option"),
        ("x=1|1e999", "is no option"),
        ("x=1..3|5", "no number"),
        ("x=[1,2]|[3,4]", "is no option"),
        ("x=1||2", "is no option"),
    ],
)
def test_texts_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_space([text])
    assert said in str(caught.value)


def test_a_space_has_different_names_and_at_least_one() -> None:
    with pytest.raises(InputError, match="names x twice"):
        parse_space(["x=1|2", "y=1|2", "x=0..1"])
    with pytest.raises(InputError, match="needs a space"):
        parse_space([])


def test_the_grid_of_a_range() -> None:
    assert Range("x", 0.0, 1.0, points=5).grid() == [0.0, 0.25, 0.5, 0.75, 1.0]
    assert Range("x", 1e-4, 1e-2, log=True).grid() == [1e-4, 1e-3, 1e-2]
    assert Range("x", 16, 256, log=True, integer=True, points=5).grid() == [16, 32, 64, 128, 256]
    assert Range("x", 1, 2, integer=True, points=9).grid() == [1, 2]


@given(st.floats(-1e3, 1e3), st.floats(1e-3, 1e3), st.floats(0, 1))
def test_a_tidied_value_lies_in_its_range_and_is_close(low: float, span: float, share: float) -> None:
    dimension = Range("x", low, low + span)
    value = low + share * span
    tidied = dimension.tidy(value)
    assert dimension.low <= tidied <= dimension.high
    assert abs(tidied - value) <= 1e-3 * abs(value) + 1e-9


@pytest.mark.parametrize("seed", [0, 1])
def test_a_grid_is_every_combination_once(seed: int) -> None:
    texts = ["a=0.0..1.0:3", "b=1|2", "c=relu|tanh|null"]
    search = Search(parse_space(texts), "grid", seed)
    assert search.size == 18
    found = search.ask(5) + search.ask(100)
    expected = [dict(zip("abc", values, strict=True)) for values in itertools.product(
        [0.0, 0.5, 1.0], [1, 2], ["relu", "tanh", None]
    )]  # fmt: skip
    assert sorted(found, key=str) == sorted(expected, key=str)
    for number in range(18):
        search.tell(number, float(number))
    assert search.ask(1) == []


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_the_same_seed_and_values_ask_the_same(sampler: str) -> None:
    def objective(configuration: Configuration) -> float:
        return math.inf if configuration["loss"] == "huber" else float(configuration["learning_rate"])

    batches = [4, 4, 4, 4]
    first = asked(MIXED, sampler, 3, batches, objective)
    assert asked(MIXED, sampler, 3, batches, objective) == first
    assert asked(MIXED, sampler, 4, batches, objective) != first


def test_what_is_drawn_lies_in_the_space_and_is_tidy() -> None:
    for sampler in ("random", "bayes"):
        for found in asked(MIXED, sampler, 0, [5] * 6):
            assert list(found) == ["learning_rate", "batch_size", "depth", "loss"]
            rate, depth = found["learning_rate"], found["depth"]
            assert isinstance(rate, float)
            assert 1e-4 <= rate <= 1e-2
            assert rate == float(f"{rate:.4g}")
            assert isinstance(depth, int)
            assert 4 <= depth <= 48
            assert found["batch_size"] in (128, 256, 512)
            assert found["loss"] in ("mae", "huber")


def test_random_draws_do_not_depend_on_batches_or_values() -> None:
    at_once = asked(MIXED, "random", 5, [12])
    assert asked(MIXED, "random", 5, [1] * 12, lambda c: float(c["depth"])) == at_once


@pytest.mark.parametrize("sampler", ["random", "bayes"])
def test_a_small_space_is_exhausted_without_repeats(sampler: str) -> None:
    space = parse_space(["a=1|2", "b=1..3"])
    assert n_configurations(space, sampler) == 6
    found = asked(["a=1|2", "b=1..3"], sampler, 0, [4] * 4, lambda c: float(c["b"]))
    assert sorted((c["a"], c["b"]) for c in found) == list(itertools.product([1, 2], [1, 2, 3]))
    narrow = Search(parse_space(["x=1.00001..1.00002"]), "random")
    assert len(narrow.ask(5)) < 5  # four digits tell hardly anything apart in it; and it ends


def test_bayes_finds_a_quadratic_better_than_its_first_batch() -> None:
    """And it draws, in the end, where the good ones were; an even draw goes on as it began."""
    batches, late = [6] + [4] * 8, dict[str, list[float]](bayes=[], random=[])
    for seed in range(6):
        values = [bowl(found) for found in asked(BOWL, "bayes", seed, batches, bowl)]
        assert min(values[6:]) < min(values[:6])
        assert min(values) < 0.1
        late["bayes"] += values[-16:]
        late["random"] += [bowl(found) for found in asked(BOWL, "random", seed, batches)][-16:]
    assert np.median(late["bayes"]) < 0.5 * np.median(late["random"])


def test_bayes_stays_away_from_what_fails() -> None:
    """Everything above x = 1 is infinitely bad: 40 % of the space, of which an even draw would take as much."""

    def half(configuration: Configuration) -> float:
        return math.inf if float(configuration["x"]) > 1.0 else bowl(configuration)

    late = asked(BOWL, "bayes", 0, [6] + [4] * 8, half)[-16:]
    assert sum(float(found["x"]) > 1.0 for found in late) <= 4


def test_what_cannot_be_told_or_searched() -> None:
    search = Search(parse_space(["x=0.0..1.0"]), "random")
    search.ask(2)
    for number in (2, -1):
        with pytest.raises(InputError, match="was not asked for"):
            search.tell(number, 1.0)
    with pytest.raises(InputError, match="tell infinity"):
        search.tell(0, math.nan)
    with pytest.raises(InputError, match="choose one of bayes, random, grid"):
        Search(parse_space(["x=0.0..1.0"]), "annealing")
    with pytest.raises(InputError, match=r"the grid has 100,000,000 configurations"):
        Search(parse_space(["x=0.0..1.0:10000", "y=0.0..1.0:10000"]), "grid")


def test_rank_correlations_by_hand() -> None:
    space = parse_space(["x=0.0..10.0", "n=1|2|3|4", "kind=a|b", "same=1|2"])
    configurations: list[Configuration] = [
        {"x": x, "n": n, "kind": "a", "same": 1} for x, n in ((1.0, 4), (2.0, 3), (3.0, 1), (4.0, 2))
    ]
    found = rank_correlations(space, configurations, [10.0, 20.0, 30.0, math.inf])
    # n: ranks 4, 3, 1, 2 against 1, 2, 3, 4; differences 3, 1, -2, -2: rho = 1 - 6 * 18 / (4 * 15)
    assert [line["name"] for line in found] == ["x", "n", "same"]
    assert [line["rank_correlation"] for line in found] == [pytest.approx(1.0), pytest.approx(-0.8), None]
    assert rank_correlations(space, configurations[:2], [1.0, 2.0])[0]["rank_correlation"] is None
