"""Hyper-parameter search: a space of configurations, a sampler that is asked and told, and successive halving.

Everything is decided by the seed and by the values told, in the order of the trials' numbers: a search that is run
again asks the same configurations.
"""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy

from models.errors import InputError

Value = float | int | str | bool | None
"""What a hyper-parameter can be."""
Configuration = dict[str, Value]

SAMPLERS: Final = ("bayes", "random", "grid")
STARTUP: Final = 10
"""Trials drawn at random before the Bayesian sampler models their values, at most."""
GRID_POINTS: Final = 3
"""Points of a range in a grid, unless the range says how many."""
LARGEST_GRID: Final = 10_000
DIGITS: Final = 4
"""Significant digits of a drawn number: enough for any hyper-parameter, and the same on every machine."""
REPEATS: Final = 20
"""Draws in a row that only repeat earlier configurations before a new one is taken by force."""

_RANGE = re.compile(r"(?P<low>.+?)\.\.(?P<high>.+?)(?P<log>:log)?(:(?P<points>\d+))?")
_WORDS: Final[dict[str, Value]] = {"true": True, "false": False, "null": None, "none": None}


@dataclass(frozen=True)
class Range:
    """A numeric hyper-parameter.

    Attributes
    ----------
    name
        Its name.
    low, high
        Ends, both included.
    log
        Search its logarithm.
    integer
        Whole numbers only.
    points
        Points in a grid, evenly spaced (in the logarithm), the ends among them.

    Raises
    ------
    InputError
        If the ends are no finite numbers in ascending order, or not positive with `log`.
    """

    name: str
    low: float
    high: float
    log: bool = False
    integer: bool = False
    points: int = GRID_POINTS

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise InputError(
                f"the range of {self.name} goes from {self.low} to {self.high}; give the smaller end first"
            )
        if self.log and self.low <= 0:
            raise InputError(f"{self.name} starts at {self.low}; a :log range has positive ends")
        if self.points < 2:
            raise InputError(f"a grid has at least 2 points of {self.name}, not {self.points}")

    def grid(self) -> list[Value]:
        """Return its points in a grid, ascending; of a short range of whole numbers fewer than `points`."""
        spaced = (np.geomspace if self.log else np.linspace)(self.low, self.high, self.points)
        return list(dict.fromkeys(self.tidy(float(value)) for value in spaced))

    def tidy(self, value: float) -> float | int:
        """Return a value as it is used: whole, or of `DIGITS` digits; never outside the range."""
        if self.integer:
            return int(min(max(round(value), self.low), self.high))
        return min(max(float(f"{value:.{DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choice:
    """A hyper-parameter that is one of some options, in no order.

    Raises
    ------
    InputError
        For fewer than two options, or one that occurs twice.
    """

    name: str
    options: tuple[Value, ...]

    def __post_init__(self) -> None:
        if len(self.options) < 2 or len(set(self.options)) < len(self.options):
            raise InputError(f"{self.name} needs two different options or more, got {list(self.options)}")

    @property
    def is_numeric(self) -> bool:
        """Whether every option is a number."""
        return all(isinstance(option, int | float) and not isinstance(option, bool) for option in self.options)


Dimension = Range | Choice


def parse_space(texts: Sequence[str]) -> list[Dimension]:
    """Read a search space, one text per hyper-parameter.

    Parameters
    ----------
    texts
        ``NAME=LOW..HIGH[:log][:POINTS]``, whole numbers where both ends are, or ``NAME=OPTION|OPTION|...``; options are
        numbers, words, ``true``, ``false`` and ``null``.

    Raises
    ------
    InputError
        If a text cannot be read, or a name occurs twice.
    """
    space = [_parse_dimension(text) for text in texts]
    names = [dimension.name for dimension in space]
    if not names:
        raise InputError("a search needs a space; give for example learning_rate=1e-4..1e-2:log")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"the space names {doubled[0]} twice; name each hyper-parameter once")
    return space


def _parse_dimension(text: str) -> Dimension:
    name, equals, written = (part.strip() for part in text.partition("="))
    if not equals or not name.isidentifier():
        raise InputError(f"'{text}' is no part of a space; write NAME=LOW..HIGH[:log], or NAME=A|B|C")
    found = _RANGE.fullmatch(written)
    if found and "|" not in written:
        low, high = (_number(found[end], text) for end in ("low", "high"))
        whole = isinstance(low, int) and isinstance(high, int)
        return Range(name, low, high, bool(found["log"]), whole, int(found["points"] or GRID_POINTS))
    if "|" not in written:
        raise InputError(f"'{text}' leaves nothing to search; give a range LOW..HIGH or options A|B|C")
    return Choice(name, tuple(_option(part.strip(), text) for part in written.split("|")))


def _number(written: str, text: str) -> float | int:
    try:
        return int(written)
    except ValueError:
        pass
    try:
        return float(written)
    except ValueError:
        raise InputError(f"'{written}' in '{text}' is no number; write for example 1e-4..1e-2:log") from None


def _option(written: str, text: str) -> Value:
    if written.lower() in _WORDS:
        return _WORDS[written.lower()]
    if re.fullmatch(r"[+-]?\.?\d.*", written) and math.isfinite(number := _number(written, text)):
        return number
    if not re.fullmatch(r"[A-Za-z_][\w.+-]*", written) or written.lower() in ("nan", "inf", "infinity"):
        raise InputError(f"'{written}' in '{text}' is no option; options are numbers, words, true, false and null")
    return written


def grid_of(dimension: Dimension) -> list[Value]:
    """Return the values of a hyper-parameter in a grid."""
    return list(dimension.options) if isinstance(dimension, Choice) else dimension.grid()


def n_configurations(space: Sequence[Dimension], sampler: str) -> int | None:
    """Return how many different configurations a sampler can be asked for; None where there is no end to them."""
    if sampler == "grid":
        return math.prod(len(grid_of(dimension)) for dimension in space)
    sizes = []
    for dimension in space:
        if isinstance(dimension, Range) and not dimension.integer:
            return None
        sizes.append(len(_every(dimension)))
    return math.prod(sizes)


def _every(dimension: Dimension) -> Sequence[Value]:
    if isinstance(dimension, Choice):
        return dimension.options
    return range(int(dimension.low), int(dimension.high) + 1)


class Search:
    """A sampler of configurations: asked for some, told their values, asked for more.

    ``bayes`` is the tree-structured Parzen estimator (J. Bergstra et al., NIPS 24, 2546 (2011)) over all
    hyper-parameters together; trials that are still under way count as bad ones (constant liar), so that a batch does
    not ask for one configuration many times. ``random`` draws evenly, ``grid`` goes through every combination of the
    points of the ranges and the options, in a shuffled order. No configuration is asked for twice.

    Parameters
    ----------
    space
        Hyper-parameters.
    sampler
        One of `SAMPLERS`.
    seed
        Of all draws.
    startup
        ``bayes``: trials that are drawn at random first.

    Raises
    ------
    InputError
        If the sampler is not known, or the grid has more than `LARGEST_GRID` configurations.
    """

    def __init__(
        self, space: Sequence[Dimension], sampler: str = "bayes", seed: int = 0, startup: int = STARTUP
    ) -> None:
        import optuna  # half a second, and only a search needs it

        if sampler not in SAMPLERS:
            raise InputError(f"sampler '{sampler}' is not known; choose one of {', '.join(SAMPLERS)}")
        self.space, self.sampler = list(space), sampler
        self.size = n_configurations(self.space, sampler)
        if sampler == "grid" and self.size is not None and self.size > LARGEST_GRID:
            raise InputError(f"the grid has {self.size:,} configurations; take fewer points, or the sampler random")
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._study = optuna.create_study(sampler=_sampler(self.space, sampler, seed, startup))
        self._distributions = {dimension.name: _distribution(dimension) for dimension in self.space}
        self._failed = optuna.trial.TrialState.FAIL
        self._trials: list[int] = []  # number of a trial here -> in the study, which also counts repeated draws
        self._seen: set[str] = set()

    def ask(self, n: int) -> list[Configuration]:
        """Return up to `n` configurations, none of them asked for before; fewer once the space is exhausted.

        They are numbered in the order in which they are asked for, from 0 on.
        """
        found: list[Configuration] = []
        while len(found) < n and (self.size is None or len(self._seen) < self.size):
            configuration = self._next()
            if configuration is None:
                break
            found.append(configuration)
        return found

    def tell(self, number: int, value: float) -> None:
        """Say what a trial came to: smaller is better, infinity for one that cannot be used.

        Raises
        ------
        InputError
            If there is no trial of that number, or the value is not a number.
        """
        if not 0 <= number < len(self._trials):
            raise InputError(f"trial {number} was not asked for; tell those from 0 to {len(self._trials) - 1}")
        if math.isnan(value):
            raise InputError(f"trial {number} has no value; tell infinity for a trial that failed")
        if self.sampler != "grid":  # a grid learns nothing, and optuna's would stop the study after its last trial
            self._study.tell(self._trials[number], value)

    def _next(self) -> Configuration | None:
        for _ in range(REPEATS):
            if (configuration := self._draw()) is not None:
                return configuration
        if self.size is None:  # the ranges hold nothing else that four digits tell apart
            return None
        names = [dimension.name for dimension in self.space]
        for values in itertools.product(*(_every(dimension) for dimension in self.space)):
            configuration = dict(zip(names, values, strict=True))
            if _text(configuration) not in self._seen:
                self._study.enqueue_trial(configuration)
                return self._draw()
        return None

    def _draw(self) -> Configuration | None:
        """Return a configuration of the sampler; None for one that was there before."""
        trial = self._study.ask(self._distributions)
        drawn: Configuration = {dimension.name: trial.params[dimension.name] for dimension in self.space}
        for dimension in self.space:
            if isinstance(dimension, Range):
                drawn[dimension.name] = dimension.tidy(trial.params[dimension.name])
        if _text(drawn) in self._seen:
            self._study.tell(trial.number, state=self._failed)
            return None
        self._seen.add(_text(drawn))
        self._trials.append(trial.number)
        return drawn


def rank_correlations(
    space: Sequence[Dimension], configurations: Sequence[Configuration], values: Sequence[float]
) -> list[dict[str, Any]]:
    """Say how far the value goes up or down with each numeric hyper-parameter.

    Parameters
    ----------
    space
        Hyper-parameters.
    configurations, values
        Of n trials of one budget; infinite values rank last.

    Returns
    -------
    list of dict
        ``name`` and ``rank_correlation`` (Spearman's, -1 to 1: negative where larger is better; None for fewer than
        three trials, or where either is constant), the strongest first; of ranges, and of choices among numbers.
    """
    found: list[dict[str, Any]] = []
    for dimension in space:
        if isinstance(dimension, Choice) and not dimension.is_numeric:
            continue
        x = np.array([configuration[dimension.name] for configuration in configurations], dtype=np.float64)
        is_defined = len(x) > 2 and len(set(x)) > 1 and len(set(values)) > 1
        rho = float(scipy.stats.spearmanr(x, values).statistic) if is_defined else None
        found.append({"name": dimension.name, "rank_correlation": rho})
    return sorted(found, key=lambda line: -abs(line["rank_correlation"] or 0.0))


def _text(configuration: Configuration) -> str:
    return json.dumps(configuration, sort_keys=True)


def _sampler(space: Sequence[Dimension], sampler: str, seed: int, startup: int) -> Any:
    from optuna.samplers import GridSampler, RandomSampler, TPESampler

    if sampler == "grid":
        return GridSampler({dimension.name: grid_of(dimension) for dimension in space}, seed=seed)
    if sampler == "random":
        return RandomSampler(seed=seed)
    return TPESampler(n_startup_trials=startup, multivariate=True, constant_liar=True, seed=seed)


def _distribution(dimension: Dimension) -> Any:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if isinstance(dimension, Choice):
        return CategoricalDistribution(dimension.options)
    if dimension.integer:
        return IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
    return FloatDistribution(dimension.low, dimension.high, log=dimension.log)
