"""Successive halving: many trials with a small budget, then fewer and fewer, the best so far, with a larger one.

K. Jamieson and A. Talwalkar, AISTATS 2016 (PMLR 51, 240). Budgets are those of one bracket of Hyperband (L. Li et al.,
J. Mach. Learn. Res. 18(185), 1 (2018), Algorithm 1), the last one being the full budget.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal, NamedTuple

from models.errors import InputError
from models.search import Configuration, Search

ETA: Final = 3
"""One trial in so many goes on; Li et al. (2018, section 3.6) recommend 3 or 4."""

State = Literal["finished", "promoted", "stopped", "diverged"]


class Rung(NamedTuple):
    """So many trials, with a budget of so many epochs; None for what is fitted without any."""

    n_trials: int
    epochs: int | None


def halving_plan(n_trials: int, min_epochs: int, max_epochs: int, eta: int = ETA) -> list[Rung]:
    """Return the rungs of a search.

    Budgets are ``max_epochs / eta**k``, rounded, as long as they are at least `min_epochs`; from one to the next
    ``n // eta`` trials go on, at least one. Rungs on which a single trial would be compared with nothing are left out,
    but for the last.

    Parameters
    ----------
    n_trials
        Trials on the first rung.
    min_epochs, max_epochs
        Smallest budget that says anything, and the full one; equal ones stop no trial early.
    eta
        One in so many goes on.

    Raises
    ------
    InputError
        If there is no trial, `eta` is less than 2, or the budgets are not ascending.
    """
    if n_trials < 1 or eta < 2:
        raise InputError(f"a search needs a trial and an eta of at least 2, got {n_trials} and {eta}")
    if not 1 <= min_epochs <= max_epochs:
        raise InputError(f"a search goes from {min_epochs} to {max_epochs} epochs; give the smaller budget first")
    n_halvings = 0
    while max_epochs >= min_epochs * eta ** (n_halvings + 1):
        n_halvings += 1
    rungs = [
        Rung(max(1, n_trials // eta**k), round(max_epochs / eta ** (n_halvings - k))) for k in range(n_halvings + 1)
    ]
    return [rung for rung in rungs[:-1] if rung.n_trials > 1] + rungs[-1:]


@dataclass(frozen=True)
class Trial:
    """A configuration on a rung.

    Attributes
    ----------
    number
        In the order in which configurations were asked for, from 0 on; it keeps it on every rung.
    rung
        Number of the rung, from 0 on.
    epochs
        Its budget.
    configuration
        Hyper-parameter -> value.
    """

    number: int
    rung: int
    epochs: int | None
    configuration: Configuration


@dataclass(frozen=True)
class Measurement:
    """What a trial came to.

    Attributes
    ----------
    value
        Its error on held-out rows, smaller is better; infinite for a training that diverged.
    reason
        Why it is infinite.

    Raises
    ------
    InputError
        If the value is not a number.
    """

    value: float
    reason: str | None = None

    def __post_init__(self) -> None:
        if math.isnan(self.value):
            raise InputError("a trial has no value: measure it by a metric that its held-out rows have")


@dataclass(frozen=True)
class Outcome:
    """A trial, its measurement and what became of it.

    Attributes
    ----------
    trial, value
        See `Trial` and `Measurement`.
    state
        ``finished`` on the last rung, ``promoted`` to the next one, ``stopped`` early, or ``diverged``.
    reason
        Why it was stopped or cannot be used.
    """

    trial: Trial
    value: float
    state: State
    reason: str | None


Measure = Callable[[Sequence[Trial]], Sequence[Measurement]]
"""Trains some trials, side by side where it can, and returns their measurements in the same order."""


def run_rungs(search: Search, rungs: Sequence[Rung], measure: Measure, batch: int) -> list[Outcome]:
    """Ask for trials, measure them, and let the best go on to ever larger budgets.

    The sampler learns from the first rung, where every trial is; results are told in the order of the trials, batch by
    batch. A trial that diverges is the worst there is and never goes on; where too few are left, fewer go on. On equal
    values the trial that was asked for first goes on.

    Parameters
    ----------
    search
        Where configurations come from.
    rungs
        See `halving_plan`; the first may find the space exhausted and have fewer trials.
    measure
        Trains and measures.
    batch
        Trials asked for at a time.

    Returns
    -------
    list of Outcome
        By rung, then by number.

    Raises
    ------
    InputError
        If `measure` does not return one measurement per trial.
    """
    outcomes: list[Outcome] = []
    current: list[tuple[Trial, Measurement]] = []
    while len(current) < rungs[0].n_trials:
        asked = search.ask(min(batch, rungs[0].n_trials - len(current)))
        if not asked:
            break
        trials = [Trial(len(current) + k, 0, rungs[0].epochs, found) for k, found in enumerate(asked)]
        measured = _measured(measure, trials)
        for trial, measurement in measured:
            search.tell(trial.number, measurement.value)
        current += measured
    for number, rung in enumerate(rungs[1:], start=1):
        chosen = _best(current, rung.n_trials)
        outcomes += [_outcome(trial, measurement, chosen, len(current)) for trial, measurement in current]
        trials = [replace(trial, rung=number, epochs=rung.epochs) for trial, _ in current if trial.number in chosen]
        current = _measured(measure, trials) if trials else []
    return outcomes + [_outcome(trial, measurement, None, len(current)) for trial, measurement in current]


def _measured(measure: Measure, trials: Sequence[Trial]) -> list[tuple[Trial, Measurement]]:
    measurements = list(measure(trials))
    if len(measurements) != len(trials):
        raise InputError(f"{len(trials)} trials came to {len(measurements)} measurements; measure each once")
    return list(zip(trials, measurements, strict=True))


def _best(measured: Sequence[tuple[Trial, Measurement]], n: int) -> list[int]:
    """Return the numbers of the n best trials, best first; none that diverged."""
    usable = [(measurement.value, trial.number) for trial, measurement in measured if math.isfinite(measurement.value)]
    return [number for _, number in sorted(usable)[:n]]


def _outcome(trial: Trial, measurement: Measurement, chosen: Sequence[int] | None, n: int) -> Outcome:
    if not math.isfinite(measurement.value):
        return Outcome(trial, measurement.value, "diverged", measurement.reason)
    if chosen is None:
        return Outcome(trial, measurement.value, "finished", None)
    if trial.number in chosen:
        return Outcome(trial, measurement.value, "promoted", None)
    return Outcome(trial, measurement.value, "stopped", f"not among the best {len(chosen)} of {n}")


def best_of(outcomes: Sequence[Outcome]) -> Outcome:
    """Return the best trial with the largest budget that any usable trial had.

    A configuration that diverged on a later rung is not usable, whatever it came to before.

    Raises
    ------
    InputError
        If every trial diverged.
    """
    diverged = {outcome.trial.number for outcome in outcomes if outcome.state == "diverged"}
    usable = [outcome for outcome in outcomes if outcome.trial.number not in diverged]
    if not usable:
        reason = next((outcome.reason for outcome in outcomes if outcome.reason), "none was measured")
        raise InputError(f"no trial of the search can be used, the first because: {reason}")
    return min(usable, key=lambda outcome: (-outcome.trial.rung, outcome.value, outcome.trial.number))
