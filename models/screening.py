"""The screening kernel: a range of the composition space -> the compositions that lie at or below the hull's threshold.

Whole chemical systems are enumerated as arrays, predicted in batches of one shape at places that follow from the
index, and held against the hull at the same compositions. The survivors of a range are therefore those of any
partition of it, bit for bit, and memory does not grow with its size.

The same call screens on a GPU: a predictor there (`models.device_predictor`) enumerates the compositions itself, and
several chunks are in hand at a time, so that the processor evaluates the hull while the device computes.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import Any, Protocol, runtime_checkable

import numba
import numpy as np
from numpy.typing import NDArray

from models.cascade import Arithmetic, Band, Clearing, decide
from models.elements import N_ELEMENTS
from models.errors import InputError
from models.space import Compositions, CompositionSpace, SystemBlock

CHUNK_ROWS = 65_536
"""Compositions held in memory at a time (about 25 MB of dense rows); no part of the result."""
SIEVED_ROWS = 262_144
"""The same for the fast mode: of few compositions a chunk leaves to fp32, the last batch is never full."""


@runtime_checkable
class Enumerating(Protocol):
    """A predictor that enumerates compositions itself, and is called from several threads."""

    threads: int
    """Chunks in hand at a time."""
    chunk_rows: int
    """Compositions of a chunk."""

    def rows(self, space: CompositionSpace, start: int, stop: int) -> Any:
        """Compositions ``start`` to ``stop - 1`` of a space: with a length, and some of them can be picked."""
        ...


class Hull(Protocol):
    """What the kernel needs of a hull of known phases (`models.hull.PhaseHull`)."""

    def energy_block(
        self,
        systems: NDArray[np.integer],
        stoichiometry_fractions: NDArray[np.float64],
        *,
        exclude_own: bool = False,
    ) -> NDArray[np.float64]:
        """Hull energies (m, s), eV/atom, of systems (m, k) at fractions (s, k); of all other compositions on demand."""
        ...

    def is_known(self, fractions: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether rows (n, 86) are compositions of known phases."""
        ...


@dataclass(frozen=True)
class ScreenBlock:
    """The survivors of a range, in the order of their index, and its counts.

    Attributes
    ----------
    index
        (n,) int64, position in the composition space, or in the list of compositions.
    elements
        (n, k) int16, element columns, ascending, padded with -1.
    counts
        (n, k) int8 (int16 from a list of compositions), coprime atom counts, padded with 0.
    prediction
        (n,) float32, predicted formation energy, eV/atom.
    prediction_std
        (n,) float32, standard deviation over the ensemble, eV/atom; None for one network.
    hull_energy
        (n,) float64, hull of all known phases at the composition, eV/atom.
    decomposition_energy
        (n,) float64, prediction minus the hull of all other compositions, eV/atom: at or below the threshold.
    known
        (n,) bool, whether the composition is a known phase.
    n_screened, n_below
        Compositions screened, and survivors, by arity.
    n_decided
        Compositions computed ``again`` in fp32 after the sieve, and in float64 because they lie ``at_threshold``; with
        a student also those that it left, ``after_student``.
    """

    index: NDArray[np.int64]
    elements: NDArray[np.int16]
    counts: NDArray[np.integer]
    prediction: NDArray[np.float32]
    prediction_std: NDArray[np.float32] | None
    hull_energy: NDArray[np.float64]
    decomposition_energy: NDArray[np.float64]
    known: NDArray[np.bool_]
    n_screened: dict[int, int]
    n_below: dict[int, int]
    n_decided: dict[str, int]

    def __len__(self) -> int:
        return len(self.index)

    @property
    def energy_above_hull(self) -> NDArray[np.float64]:
        """Prediction minus the hull of all known phases (n,), eV/atom; may be negative."""
        return self.prediction.astype(np.float64) - self.hull_energy

    @property
    def compositions(self) -> Compositions:
        """The survivors as compositions of the space, for their formulas."""
        return Compositions(self.elements, self.counts)


@dataclass(frozen=True)
class Recorded:
    """A network that hands on every energy it predicts, on its way to the decision: nothing is computed twice.

    A kernel without a band asks for the fp32 energies of each chunk once, in the order of the compositions.

    Attributes
    ----------
    arithmetic
        The network.
    listen
        Takes the energies (n,) float32, eV/atom, of each chunk in turn.
    """

    arithmetic: Arithmetic
    listen: Callable[[NDArray[np.float32]], None]

    def predict(
        self, fractions: NDArray[np.floating], *, position: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mean and standard deviation over members in fp32 (n,), eV/atom; the mean is handed on."""
        prediction, std = self.arithmetic.predict(fractions, position=position)
        self.listen(prediction)
        return prediction, std

    def sieve(self, fractions: NDArray[np.floating], kind: str) -> NDArray[np.float32]:
        """Refuse: after a sieve, fp32 looks at few compositions only."""
        raise InputError("The fast mode does not predict every composition in fp32: screen with precision fp32.")

    def precise(self, fractions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean in float64 (n,), eV/atom; not handed on, since it decides and is not stored."""
        return self.arithmetic.precise(fractions)


def screen_range(
    start: int,
    stop: int,
    space: CompositionSpace,
    predictor: Arithmetic,
    hull: Hull,
    threshold: float,
    *,
    band: Band | None = None,
    student: Clearing | None = None,
    on_progress: Callable[[int, int], None] | None = None,
    batch: int | None = None,
) -> ScreenBlock:
    """Screen the indices ``start`` to ``stop - 1`` of a composition space.

    Parameters
    ----------
    start, stop
        Range of indices.
    space
        The composition space.
    predictor
        Predicts formation energies, on the reference and functional of the hull.
    hull
        Hull of the known phases.
    threshold
        Compositions are kept whose prediction minus the hull of all *other* compositions is at or below it, eV/atom.
    band
        How far the predictor's sieve may be off (`models.cascade.measure_band`): the fast mode, with the same
        survivors. None computes every composition in fp32.
    student
        Clears compositions before the network looks at them; some survivors are lost (`models.student_recall`).
    on_progress
        Called with the compositions done and in all, after every `batch` of them; may raise to stop.
    batch
        Compositions held in memory at a time, by default what suits the predictor; no part of the result.

    Raises
    ------
    InputError
        If the range lies outside of the space, or the threshold or batch is not usable.
    """
    threads, size = _shape(predictor, band, student)
    batch = size if batch is None else batch
    _check(start, stop, space, threshold, batch)

    def work(low: int) -> ScreenBlock:
        return _screen_chunk(low, min(stop, low + batch), space, predictor, hull, threshold, band, student)

    kept = [
        _screen_chunk(start, start, space, predictor, hull, threshold, band, student)
    ]  # the columns of an empty result
    for low, found in zip(range(start, stop, batch), _in_order(work, range(start, stop, batch), threads), strict=True):
        kept.append(found)
        if on_progress is not None:
            on_progress(min(stop, low + batch) - start, stop - start)
    return merge_blocks(kept)


def _shape(predictor: Arithmetic, band: Band | None, student: Clearing | None) -> tuple[int, int]:
    """Return the chunks in hand at a time and their compositions that suit a predictor."""
    if student is None and isinstance(predictor, Enumerating):
        return predictor.threads, predictor.chunk_rows
    return 1, CHUNK_ROWS if band is None else SIEVED_ROWS


def _check(start: int, stop: int, space: CompositionSpace, threshold: float, batch: int) -> None:
    if not 0 <= start <= stop <= len(space):
        raise InputError(f"The range {start} to {stop} lies outside the composition space of {len(space):,}.")
    if not np.isfinite(threshold):
        raise InputError(f"The threshold must be a finite energy in eV/atom, got {threshold}.")
    if batch < 1:
        raise InputError(f"The screen's batch must be at least 1, got {batch}.")


def _in_order(work: Callable[[int], ScreenBlock], starts: Sequence[int], threads: int) -> Iterator[ScreenBlock]:
    """Results in the order of the starts, with at most `threads` of them in the making."""
    if threads == 1:
        yield from map(work, starts)
        return
    waiting: deque[Future[ScreenBlock]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for start in starts:
            if len(waiting) == threads:
                yield waiting.popleft().result()
            waiting.append(pool.submit(work, start))
        while waiting:
            yield waiting.popleft().result()
    finally:  # whoever stops a screen waits for the chunks that have begun, no more
        pool.shutdown(cancel_futures=True)


def merge_blocks(blocks: Sequence[ScreenBlock]) -> ScreenBlock:
    """Join the blocks of adjacent ranges, given in order."""
    if not blocks:
        raise InputError("No screened blocks to merge: screen at least one range.")
    columns: dict[str, Any] = {}
    for field in fields(ScreenBlock):
        parts = [getattr(block, field.name) for block in blocks]
        if field.name.startswith("n_"):
            columns[field.name] = _summed(parts)
        elif any(part is None for part in parts):
            columns[field.name] = None
        else:
            columns[field.name] = np.concatenate(parts)
    return ScreenBlock(**columns)


def composition_fractions(
    elements: NDArray[np.integer], counts: NDArray[np.integer], n_elements: int = N_ELEMENTS
) -> NDArray[np.float64]:
    """Element fractions (n, n_elements) from element columns and atom counts (n, k), for hull and network alike.

    Rounded to float32 they are what a formula's features are, so network and hull see the same composition.
    """
    elements, counts = np.asarray(elements), np.asarray(counts, dtype=np.int64)
    share = counts / counts.sum(axis=1, keepdims=True)
    dense = np.zeros((len(elements), n_elements))
    rows, columns = np.nonzero(elements >= 0)
    dense[rows, elements[rows, columns]] = share[rows, columns]
    return dense


def _screen_chunk(
    start: int,
    stop: int,
    space: CompositionSpace,
    predictor: Arithmetic,
    hull: Hull,
    threshold: float,
    band: Band | None,
    student: Clearing | None,
) -> ScreenBlock:
    """Screen a range that fits in memory."""
    blocks = list(space.iterate_systems(start, stop, block_size=CHUNK_ROWS))
    rows_of_chunk: Any
    if student is None and isinstance(predictor, Enumerating):
        rows_of_chunk = predictor.rows(space, start, stop)
    else:
        rows_of_chunk = _dense_rows(blocks)
    # A phase on the hull holds its own composition down: taken out, its network prediction competes with the others.
    others = _joined([_block_hull(block, hull) for block in blocks])
    decision = decide(predictor, rows_of_chunk, others, threshold, band, start, student)
    rows = decision.rows
    survivors = space.unrank(rows + start)
    arity = np.count_nonzero(survivors.elements >= 0, axis=1)
    exact = composition_fractions(survivors.elements, survivors.counts)
    return ScreenBlock(
        index=rows + start,
        elements=survivors.elements,
        counts=survivors.counts,
        prediction=decision.prediction,
        prediction_std=decision.prediction_std,
        hull_energy=_survivors_hull(blocks, hull, rows),
        decomposition_energy=decision.prediction.astype(np.float64) - others[rows],
        known=hull.is_known(exact) if len(rows) else np.zeros(0, dtype=bool),
        n_screened={k: sum(block.size for block in blocks if block.arity == k) for k in space.arities},
        n_below={k: int((arity == k).sum()) for k in space.arities},
        n_decided=decision.counts(),
    )


def _dense_rows(blocks: Sequence[SystemBlock]) -> NDArray[np.float32]:
    """Dense element fractions (n, 86) of the blocks' compositions inside the range, in fp64 rounded to float32."""
    dense = np.zeros((sum(block.size for block in blocks), N_ELEMENTS), dtype=np.float32)
    low = 0
    for block in blocks:
        _fill(block.systems, block.fractions.astype(np.float32), block.skip, dense[low : low + block.size])
        low += block.size
    return dense


@numba.njit(cache=True, nogil=True)  # pragma: no cover - compiled, so never traced
def _fill(systems, fractions, skip, dense):  # type: ignore[no-untyped-def]
    """Fill ``dense`` (n, 86), zeros, with the compositions ``skip, ...`` of systems (m, k) at fractions (s, k)."""
    system, stoichiometry = skip // len(fractions), skip % len(fractions)
    for row in range(len(dense)):
        for column in range(systems.shape[1]):
            dense[row, systems[system, column]] = fractions[stoichiometry, column]
        stoichiometry += 1
        if stoichiometry == len(fractions):
            system, stoichiometry = system + 1, 0


def _block_hull(block: SystemBlock, hull: Hull) -> NDArray[np.float64]:
    """Hull energies, eV/atom, of all phases of other compositions, at the block's compositions inside the range."""
    energies = hull.energy_block(block.systems, block.fractions, exclude_own=True)
    return energies.reshape(-1)[block.skip : block.skip + block.size]


def _survivors_hull(blocks: list[SystemBlock], hull: Hull, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Hull energies of all phases at some rows of the blocks, eV/atom.

    Their whole systems are evaluated: the last bits of an energy must not depend on which of a system's compositions
    are in the range.
    """
    energies = np.zeros(len(rows))
    low = 0
    for block in blocks:
        first, last = np.searchsorted(rows, (low, low + block.size))
        place = rows[first:last] - low + block.skip
        system, stoichiometry = np.divmod(place, len(block.stoichiometries))
        wanted, position = np.unique(system, return_inverse=True)
        if len(wanted):
            found = hull.energy_block(block.systems[wanted], block.fractions)
            energies[first:last] = found[position, stoichiometry]
        low += block.size
    return energies


def _joined(parts: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return np.concatenate([np.zeros(0), *parts])


def _summed(parts: Sequence[dict[Any, int]]) -> dict[Any, int]:
    total: dict[Any, int] = {}
    for part in parts:
        for name, count in part.items():
            total[name] = total.get(name, 0) + count
    return total
