"""How much of what a student puts above the threshold must be kept, and what is lost all the same.

The margin is chosen on one random sample; recall is measured on another that shares nothing with it. Both are drawn
composition by composition, each independently of the others: whole chemical systems would come cheaper, but their
compositions are missed or found together, and an interval that takes them for independent would be too narrow.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import NDArray

from models.cascade import Arithmetic, Band, decide
from models.errors import InputError
from models.student import CHUNK_ROWS, OnProgress, OtherPhases, Sampled, Student, draw, fractions_at

CONFIDENCE: Final = 0.95
"""Of the interval that is given with a recall."""
_RESOLUTION: Final = 1e-6
"""eV/atom to which a margin is rounded up, so that rounding cannot push out the row that it was chosen by."""


@dataclass(frozen=True)
class Recall:
    """What a student lets through, measured.

    Attributes
    ----------
    threshold, margin
        eV/atom.
    wanted
        Recall that the margin was chosen for.
    n_choice, n_choice_survivors
        Compositions that it was chosen on, and those of them at or below the threshold by the full network.
    n_sample, n_survivors, n_missed
        The same of the independent sample, and the survivors among them that the student cleared.
    recall, low, high
        Survivors kept over survivors, with its exact interval (Clopper and Pearson) of confidence 0.95.
    passed
        Share of the sample that the full network still has to decide.
    flops
        Operations of student and full network over those of the full network alone on every composition.
    """

    threshold: float
    margin: float
    wanted: float
    n_choice: int
    n_choice_survivors: int
    n_sample: int
    n_survivors: int
    n_missed: int
    recall: float
    low: float
    high: float
    passed: float
    flops: float

    def to_dict(self) -> dict[str, Any]:
        """Return the record as a JSON-able dictionary."""
        return asdict(self)


@dataclass(frozen=True)
class Sample:
    """Compositions drawn independently, as student and network see them.

    Attributes
    ----------
    excess
        Energy by the student above the threshold (n,), eV/atom.
    survivor
        Whether the full network puts them at or below the threshold (n,), bool.
    """

    excess: NDArray[np.float64]
    survivor: NDArray[np.bool_]


def clopper_pearson(successes: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact interval of a proportion: C. J. Clopper and E. S. Pearson, Biometrika 26, 404 (1934).

    Parameters
    ----------
    successes, n
        Of so many independent draws.
    confidence
        Probability, at least, that the interval holds the proportion.
    """
    if not (0 <= successes <= n and n > 0 and 0 < confidence < 1):
        raise InputError(f"an interval needs 0 to n successes of n draws, got {successes} of {n} at {confidence}")
    tail = (1 - confidence) / 2
    low = 0.0 if successes == 0 else float(scipy.stats.beta.ppf(tail, successes, n - successes + 1))
    high = 1.0 if successes == n else float(scipy.stats.beta.ppf(1 - tail, successes + 1, n - successes))
    return low, high


def choose_margin(excess: NDArray[np.float64], wanted: float) -> float:
    """Smallest margin, eV/atom, at which the wanted share of survivors passes.

    Parameters
    ----------
    excess
        Of the survivors of a sample (n,), eV/atom.
    wanted
        Recall, above 0 and at most 1. Where 1 - wanted is less than one of them, all pass.
    """
    if not 0 < wanted <= 1:
        raise InputError(f"the recall of a cascade lies above 0 and at most at 1, got {wanted}")
    if len(excess) == 0:
        raise InputError(
            "no composition of the student's sample lies at or below the threshold, so that no margin can be chosen: "
            "raise the sample, or screen without a student"
        )
    may_be_lost = math.floor(len(excess) * (1 - wanted) + 1e-9)
    largest = float(np.sort(excess)[::-1][min(may_be_lost, len(excess) - 1)])
    return math.ceil(largest / _RESOLUTION) * _RESOLUTION


def draw_sample(
    student: Student,
    arithmetic: Arithmetic,
    hull: OtherPhases,
    spaces: Sequence[Sampled],
    threshold: float,
    n: int,
    seed: Sequence[int],
    *,
    band: Band | None = None,
    on_progress: OnProgress | None = None,
) -> Sample:
    """Draw compositions and ask both networks; which survive is decided as in a screen without a student.

    Parameters
    ----------
    student, arithmetic, hull, spaces, threshold
        As in `models.student.distil`.
    n
        Compositions, with replacement.
    seed
        Of the draw.
    band
        Of the sieve that decides with the full network, None for fp32: the survivors are the same.
    on_progress
        Called with the compositions done and in all.
    """
    drawn = draw(spaces, n, np.random.default_rng(tuple(seed)))
    excess, survivor = np.empty(n), np.zeros(n, dtype=np.bool_)
    for start in range(0, n, CHUNK_ROWS):
        stop = min(start + CHUNK_ROWS, n)
        fractions = fractions_at(spaces, drawn[start:stop])
        others = -hull.decomposition_energy(fractions, np.zeros(stop - start))
        single = fractions.astype(np.float32)
        excess[start:stop] = student.predict(single).astype(np.float64) - others - threshold
        survivor[start + decide(arithmetic, single, others, threshold, band).rows] = True
        if on_progress is not None:
            on_progress(stop, n)
    return Sample(excess, survivor)


def assess(
    student: Student, choice: Sample, measured: Sample, threshold: float, wanted: float, full_weights: int
) -> tuple[Student, Recall]:
    """Choose the margin on one sample and measure recall on the other.

    Parameters
    ----------
    student
        Whose margin is chosen.
    choice, measured
        Independent samples.
    threshold
        eV/atom.
    wanted
        Recall on the first sample, at least.
    full_weights
        Matrix entries of the full network, all members together.

    Returns
    -------
    tuple
        The student with its margin, and what was measured.
    """
    margin = choose_margin(choice.excess[choice.survivor], wanted)
    passes = measured.excess <= margin
    n_survivors = int(measured.survivor.sum())
    if n_survivors == 0:
        raise InputError("no composition of the student's second sample lies at or below the threshold: raise it")
    kept = int((passes & measured.survivor).sum())
    low, high = clopper_pearson(kept, n_survivors)
    share = float(passes.mean())
    record = Recall(
        threshold=threshold,
        margin=margin,
        wanted=wanted,
        n_choice=len(choice.excess),
        n_choice_survivors=int(choice.survivor.sum()),
        n_sample=len(measured.excess),
        n_survivors=n_survivors,
        n_missed=n_survivors - kept,
        recall=kept / n_survivors,
        low=low,
        high=high,
        passed=share,
        flops=student.n_weights / full_weights + share,
    )
    return student.with_margin(margin), record
