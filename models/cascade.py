"""Which compositions lie at or below a threshold: decided as exact arithmetic would, at the price of fast arithmetic.

Three steps, each looking at fewer rows than the one before. A sieve in reduced arithmetic (`models.sieve`) drops
what lies above the threshold by more than its errors, and where there is a second, finer one, it drops more of what
is left; fp32 gives the energies of the rest; and where fp32 itself cannot tell (within 0.01 meV of the threshold),
float64 decides. The stored energies are always those of fp32, whatever the sieves were.

Before all of them a student (`models.student`) may drop rows, off by default: it is another network, not another
arithmetic, so it loses a share of the survivors, which is measured (`models.student_recall`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.space import CompositionSpace

UNDECIDED: Final = 1e-5
"""eV/atom around the threshold within which fp32 leaves the decision to float64."""
BAND_FACTOR: Final = 1.5
"""The band is so many times the largest deviation of the sieve on the sample."""
SMALLEST_BAND: Final = 1e-3
"""eV/atom; a sample of few rows must not promise more."""


class Arithmetic(Protocol):
    """What the cascade needs of a predictor (`models.predictor.Predictor`)."""

    def predict(
        self, fractions: NDArray[np.floating], *, position: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mean and standard deviation over members in fp32 (n,), eV/atom."""
        ...

    def sieve(self, fractions: NDArray[np.floating], kind: str) -> NDArray[np.float32]:
        """Mean in reduced arithmetic of a kind (n,), eV/atom; NaN where that arithmetic is not enough."""
        ...

    def precise(self, fractions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean in float64 (n,), eV/atom."""
        ...


class Clearing(Protocol):
    """What the cascade needs of a student (`models.student.Student`)."""

    margin: float
    """eV/atom above the threshold up to which its rows are looked at by the network."""

    def predict(self, fractions: NDArray[np.floating]) -> NDArray[np.float32]:
        """Energies (n,), eV/atom, the same bits whatever rows come together."""
        ...


@dataclass(frozen=True)
class Band:
    """How far a sieve may be off.

    Attributes
    ----------
    kind
        Its arithmetic, see `models.sieve.SIEVES`.
    width
        Half width of the band around the threshold that is looked at again, eV/atom.
    n_sample, largest, mean
        Compositions it was measured on, and their largest and mean absolute deviation from fp32, eV/atom.
    second
        The same of a finer sieve, for what this one leaves; None where fp32 comes next.
    """

    kind: str
    width: float
    n_sample: int
    largest: float
    mean: float
    second: Band | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the band as a JSON-able dictionary."""
        return asdict(self)

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> Band:
        """Return the band that `to_dict` described."""
        second = record.get("second")
        return cls(**{**record, "second": None if second is None else cls.from_dict(second)})

    @property
    def sieves(self) -> list[Band]:
        """The band and those after it, in the order of the sieves."""
        return [self] if self.second is None else [self, *self.second.sieves]


def widest(bands: Sequence[Band]) -> Band:
    """Return the band that covers all, measured with the same sieves on several samples: each sieve's widest."""
    band = max(bands, key=lambda one: one.width)
    after = [one.second for one in bands if one.second is not None]
    return replace(band, second=widest(after) if after else None)


@dataclass(frozen=True)
class Decision:
    """Rows at or below the threshold.

    Attributes
    ----------
    rows
        (n,) int64, ascending.
    prediction, prediction_std
        (n,) float32 of these rows, eV/atom; the latter None for one network.
    n_again, n_precise
        Rows that were computed again in fp32 after the sieve, and in float64.
    n_after_student
        Rows that a student left to be decided; None without one.
    """

    rows: NDArray[np.int64]
    prediction: NDArray[np.float32]
    prediction_std: NDArray[np.float32] | None
    n_again: int
    n_precise: int
    n_after_student: int | None = None

    def counts(self) -> dict[str, int]:
        """Return the rows that each step looked at, as a screen counts them."""
        counts = {"again": self.n_again, "at_threshold": self.n_precise}
        return counts if self.n_after_student is None else counts | {"after_student": self.n_after_student}


def decide(
    arithmetic: Arithmetic,
    fractions: Any,
    others: NDArray[np.float64],
    threshold: float,
    band: Band | None = None,
    position: int = 0,
    student: Clearing | None = None,
) -> Decision:
    """Return the rows whose predicted energy minus that of all other phases is at or below the threshold.

    Parameters
    ----------
    arithmetic
        The network.
    fractions
        Compositions (n, n_features), or anything that the arithmetic takes for them, that has a length and of which
        rows can be picked (`models.device_space.NumberedRows`); an array with a student.
    others
        Hull of all other compositions at them (n,), eV/atom.
    threshold
        eV/atom.
    band
        Of the sieve; None: every row is computed in fp32.
    position
        Place of the first row in the range that is cut, see `models.predictor.Predictor.predict`. After a sieve the
        rows have no places of their own, which the sieve makes sure does not matter.
    student
        Drops rows before anything else looks at them; None for none. What it leaves has no place of its own either:
        without a sieve the caller makes sure that it does not matter (`Predictor.require_place_free`).
    """
    if student is None:
        return _decide(arithmetic, fractions, others, threshold, band, position)
    left = np.flatnonzero(student.predict(fractions).astype(np.float64) - others <= threshold + student.margin)
    decision = _decide(arithmetic, fractions[left], others[left], threshold, band, 0)
    return replace(decision, rows=left[decision.rows], n_after_student=len(left))


def _decide(
    arithmetic: Arithmetic,
    fractions: Any,
    others: NDArray[np.float64],
    threshold: float,
    band: Band | None,
    position: int,
) -> Decision:
    """Decide every row that is given; see `decide`."""
    if band is None:
        rows = np.arange(len(fractions))
        prediction, std = arithmetic.predict(fractions, position=position)
        n_again = 0
    else:
        rows = _left_by(arithmetic, band.sieves, fractions, others, threshold)
        prediction, std = arithmetic.predict(fractions[rows])
        n_again = len(rows)
    difference = prediction.astype(np.float64) - others[rows]
    below = difference <= threshold
    undecided = np.flatnonzero(np.abs(difference - threshold) <= UNDECIDED)
    if len(undecided):
        exact = arithmetic.precise(fractions[rows[undecided]]) - others[rows[undecided]]
        below[undecided] = exact <= threshold
    return Decision(
        rows=rows[below],
        prediction=prediction[below],
        prediction_std=None if std is None else std[below],
        n_again=n_again,
        n_precise=len(undecided),
    )


def _left_by(
    arithmetic: Arithmetic, sieves: Sequence[Band], fractions: Any, others: NDArray[np.float64], threshold: float
) -> NDArray[np.int64]:
    """Return the rows that no sieve drops, each asked about what those before it left."""
    rows = np.arange(len(fractions))
    for number, band in enumerate(sieves):
        asked = fractions[rows] if number else fractions
        quick = arithmetic.sieve(asked, band.kind).astype(np.float64) - others[rows]
        # not "at or below": what a sieve cannot say is NaN, and is looked at again
        rows = rows[~(quick > threshold + band.width)]
    return rows


def measure_band(
    arithmetic: Arithmetic,
    space: CompositionSpace,
    dense: Callable[[NDArray[np.int16], NDArray[np.int8]], NDArray[np.floating]],
    kind: str,
    *,
    n_sample: int = 1_000_000,
    seed: int = 0,
    chunk: int = 65_536,
    second: str | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Band:
    """Measure the sieve's deviation from fp32 on a random sample of a space.

    Parameters
    ----------
    arithmetic
        The network.
    space
        The compositions that will be screened.
    dense
        Element columns and counts (n, k) -> fractions (n, n_features).
    kind
        Arithmetic of the sieve.
    n_sample
        Compositions; all of a smaller space.
    seed
        Of the sample.
    chunk
        Rows in memory at a time; no part of the result.
    second
        Arithmetic of a finer sieve for what the first leaves, measured on all rows of the sample; None for none.
    on_progress
        Called with the rows done and in all.

    Raises
    ------
    InputError
        For an empty sample.
    """
    n = min(n_sample, len(space))
    if n < 1:
        raise InputError("the deviation of the fast mode needs at least one composition to be measured on")
    drawn = np.random.default_rng(seed).integers(0, len(space), n)
    index = np.arange(n) if n == len(space) else np.sort(drawn)
    deviations = [_Deviations(arithmetic, name) for name in ([kind] if second is None else [kind, second])]
    for start in range(0, n, chunk):
        compositions = space.unrank(index[start : start + chunk])
        fractions = dense(compositions.elements, compositions.counts)
        exact, _ = arithmetic.predict(fractions)
        for one in deviations:
            one.add(fractions, exact)
        if on_progress is not None:
            on_progress(min(start + chunk, n), n)
    finer = deviations[1].band(n) if second is not None else None
    return deviations[0].band(n, finer)


class _Deviations:
    """How far one sieve is off, as rows come in."""

    def __init__(self, arithmetic: Arithmetic, kind: str) -> None:
        self.arithmetic, self.kind = arithmetic, kind
        self.largest = self.total = 0.0

    def add(self, fractions: NDArray[np.floating], exact: NDArray[np.float32]) -> None:
        """Hold the sieve against fp32 energies (n,), eV/atom."""
        deviation = np.abs(self.arithmetic.sieve(fractions, self.kind).astype(np.float64) - exact)
        deviation = deviation[~np.isnan(deviation)]  # what a sieve leaves open is computed again whatever the band
        self.largest = max(self.largest, float(deviation.max(initial=0.0)))
        self.total += float(deviation.sum())

    def band(self, n: int, second: Band | None = None) -> Band:
        """Return the band after n rows."""
        width = max(BAND_FACTOR * self.largest, SMALLEST_BAND)
        return Band(self.kind, width, n, self.largest, self.total / n, second)
