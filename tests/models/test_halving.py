"""Successive halving: rungs by hand and from the literature, who goes on, and what a failure does."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.errors import InputError
from models.halving import Measurement, Outcome, Rung, Trial, best_of, halving_plan, run_rungs
from models.search import Search, parse_space


class Laboratory:
    """Measures trials by a rule, and remembers what it was given."""

    def __init__(self, rule: dict[tuple[int, int], float]) -> None:
        self.rule, self.given = rule, list[list[tuple[int, int, int | None]]]()

    def measure(self, trials: Sequence[Trial]) -> list[Measurement]:
        self.given.append([(trial.number, trial.rung, trial.epochs) for trial in trials])
        values = [self.rule.get((trial.number, trial.rung), float(trial.number)) for trial in trials]
        return [Measurement(value, "Training diverged" if math.isinf(value) else None) for value in values]


def grid(n: int) -> Search:
    return Search(parse_space([f"x=0..{n - 1}:{n}"]), "grid")


def states(outcomes: Sequence[Outcome]) -> list[tuple[int, int, str]]:
    return [(outcome.trial.rung, outcome.trial.number, outcome.state) for outcome in outcomes]


@pytest.mark.parametrize(
    ("given", "rungs"),
    [
        # Li et al. (2018), Table 1, R = 81 and eta = 3: the brackets s = 4, 3, 2 and 0, their last rungs full
        ((81, 1, 81, 3), [(81, 1), (27, 3), (9, 9), (3, 27), (1, 81)]),
        ((27, 3, 81, 3), [(27, 3), (9, 9), (3, 27), (1, 81)]),
        ((9, 9, 81, 3), [(9, 9), (3, 27), (1, 81)]),
        ((5, 81, 81, 3), [(5, 81)]),
        # the full budget is kept, smaller ones are rounded
        ((16, 2, 20, 3), [(16, 2), (5, 7), (1, 20)]),
        ((16, 5, 40, 2), [(16, 5), (8, 10), (4, 20), (2, 40)]),
        # nobody is compared with nobody
        ((4, 1, 27, 3), [(4, 1), (1, 27)]),
        ((1, 1, 27, 3), [(1, 27)]),
    ],
)
def test_plans_by_hand(given: tuple[int, int, int, int], rungs: list[tuple[int, int]]) -> None:
    assert halving_plan(*given) == [Rung(*rung) for rung in rungs]


@given(st.integers(1, 500), st.integers(1, 20), st.integers(0, 500), st.integers(2, 6))
def test_any_plan_narrows_down_to_the_full_budget(n: int, least: int, more: int, eta: int) -> None:
    plan = halving_plan(n, least, least + more, eta)
    assert plan[0].n_trials == n
    assert plan[-1].epochs == least + more
    for before, after in itertools.pairwise(plan):
        assert before.n_trials > 1
        assert after.n_trials <= max(1, before.n_trials // eta)
        assert before.epochs is not None
        assert after.epochs is not None
        assert least <= before.epochs < after.epochs


@pytest.mark.parametrize(("given", "said"), [
    ((0, 1, 9, 3), "needs a trial"), ((4, 1, 9, 1), "eta of at least 2"),
    ((4, 10, 9, 3), "smaller budget first"), ((4, 0, 9, 3), "smaller budget first"),
])  # fmt: skip
def test_plans_of_no_use(given: tuple[int, int, int, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        halving_plan(*given)


def test_the_best_go_on_and_the_rest_are_stopped() -> None:
    rule = {(0, 0): 5.0, (1, 0): 1.0, (2, 0): 4.0, (3, 0): 2.0, (4, 0): 9.0, (5, 0): 2.0} | {
        (1, 1): 0.7, (3, 1): 0.5, (5, 1): 0.6, (3, 2): 0.4
    }  # fmt: skip
    laboratory = Laboratory(rule)
    outcomes = run_rungs(grid(6), [Rung(6, 1), Rung(3, 2), Rung(1, 4)], laboratory.measure, batch=4)
    assert laboratory.given == [
        [(0, 0, 1), (1, 0, 1), (2, 0, 1), (3, 0, 1)], [(4, 0, 1), (5, 0, 1)],
        [(1, 1, 2), (3, 1, 2), (5, 1, 2)], [(3, 2, 4)],
    ]  # fmt: skip
    assert states(outcomes) == [
        (0, 0, "stopped"), (0, 1, "promoted"), (0, 2, "stopped"), (0, 3, "promoted"), (0, 4, "stopped"),
        (0, 5, "promoted"), (1, 1, "stopped"), (1, 3, "promoted"), (1, 5, "stopped"), (2, 3, "finished"),
    ]  # fmt: skip
    assert outcomes[0].reason == "not among the best 3 of 6"
    assert outcomes[1].trial.configuration == outcomes[6].trial.configuration
    best = best_of(outcomes)
    assert (best.trial.number, best.trial.rung, best.value) == (3, 2, 0.4)


def test_on_equal_values_the_first_goes_on() -> None:
    laboratory = Laboratory({(number, 0): 1.0 for number in range(4)})
    outcomes = run_rungs(grid(4), [Rung(4, 1), Rung(2, 2)], laboratory.measure, batch=10)
    assert [number for number, rung, _ in laboratory.given[1] if rung == 1] == [0, 1]
    assert best_of(outcomes).trial.number == 0


def test_a_trial_that_diverges_never_goes_on() -> None:
    bad = math.inf
    laboratory = Laboratory({(0, 0): bad, (1, 0): bad, (2, 0): bad, (3, 0): 1.0, (3, 1): bad})
    outcomes = run_rungs(grid(4), [Rung(4, 1), Rung(2, 2), Rung(1, 4)], laboratory.measure, batch=10)
    assert laboratory.given[1:] == [[(3, 1, 2)]]  # too few were left, and then none
    assert states(outcomes) == [
        (0, 0, "diverged"), (0, 1, "diverged"), (0, 2, "diverged"), (0, 3, "promoted"), (1, 3, "diverged"),
    ]  # fmt: skip
    assert outcomes[0].reason == "Training diverged"
    with pytest.raises(InputError, match=r"no trial of the search can be used, .*: Training diverged"):
        best_of(outcomes)


def test_the_best_is_one_that_did_not_diverge_later() -> None:
    laboratory = Laboratory({(0, 0): 0.1, (1, 0): 0.2, (2, 0): 0.3, (0, 1): math.inf})
    outcomes = run_rungs(grid(3), [Rung(3, 1), Rung(1, 3)], laboratory.measure, batch=10)
    best = best_of(outcomes)
    assert (best.trial.number, best.trial.rung, best.value) == (1, 0, 0.2)


def test_values_are_told_in_order_before_more_is_asked() -> None:
    class Told(Search):
        log: list[str]

        def ask(self, n: int) -> list[dict[str, float | int | str | bool | None]]:
            self.log.append(f"ask {n}")
            return super().ask(n)

        def tell(self, number: int, value: float) -> None:
            self.log.append(f"tell {number} {value:g}")
            super().tell(number, value)

    search = Told(parse_space(["x=0.0..1.0"]), "random")
    search.log = []
    run_rungs(search, [Rung(3, 1), Rung(1, 2)], Laboratory({(1, 0): math.inf}).measure, batch=2)
    assert search.log == ["ask 2", "tell 0 0", "tell 1 inf", "ask 1", "tell 2 2"]


def test_an_exhausted_space_has_fewer_trials() -> None:
    laboratory = Laboratory({})
    outcomes = run_rungs(grid(2), [Rung(5, 1), Rung(3, 2)], laboratory.measure, batch=10)
    assert states(outcomes) == [(0, 0, "promoted"), (0, 1, "promoted"), (1, 0, "finished"), (1, 1, "finished")]


def test_what_is_no_measurement() -> None:
    with pytest.raises(InputError, match="no value"):
        Measurement(math.nan)
    with pytest.raises(InputError, match="2 trials came to 1 measurements"):
        run_rungs(grid(2), [Rung(2, 1)], lambda trials: [Measurement(1.0)], batch=10)
