"""A look ahead at a screen: how long it will take and what it will leave, from small samples of its blocks."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Final

import torch

from models.screening import ScreenBlock, merge_blocks
from storage.artifact import ArtifactRef
from storage.parquet import parquet_bytes
from tasks.arithmetic import load_arithmetic, sieve_kind
from tasks.formulas import read_formulas
from tasks.inputs import as_model, as_phases
from tasks.parameters import ScreenParameters, SpaceParameters
from tasks.precision import band_on
from tasks.screen import part_table, rare_elements, screen_part
from tasks.spaces import Block, full_space, plan_blocks, space_inputs, space_size, systems_by_arity
from tasks.stage import reference

TIMED: Final = (8, 8_192)
"""Evenly spaced ranges of each space that are timed, and compositions of each: as the blocks are, at full speed."""
COUNTED: Final = (128, 512)
"""Ranges whose candidates are counted, and compositions of each: many, because like systems have like answers."""
BAND_SAMPLE: Final = 16_384
"""Compositions on which the fast mode's band is guessed; the screen measures it on many more."""
MERGED: Final = 1.2
"""Size of the merged table over that of its parts: more columns, in larger row groups."""
BYTES_PER_PREDICTION: Final = 3.2
"""Of a stored prediction: float32 with its bytes split by significance, zstd."""


@dataclass(frozen=True)
class Estimate:
    """What a screen will take.

    Attributes
    ----------
    n_compositions, n_systems, n_blocks
        Compositions, chemical systems and tasks.
    n_sample
        Compositions that were screened for this.
    core_seconds
        Of one core of this machine.
    n_candidates
        Expected at or below the threshold.
    n_bytes
        On disk: parts, the merged table, and predictions where they are kept.
    """

    n_compositions: int
    n_systems: int
    n_blocks: int
    n_sample: int
    core_seconds: float
    n_candidates: float
    n_bytes: float

    @property
    def rate(self) -> float:
        """Compositions per second and core."""
        return self.n_compositions / self.core_seconds


def estimate_screen(root: str, model: str, phases: str, parameters: ScreenParameters, block_size: int) -> Estimate:
    """Screen a sample of every space, on one core of this machine.

    Parameters
    ----------
    root
        The store.
    model, phases
        As a user gives them: artifact folder or key, and for the phases also ``starter`` or a file.
    parameters
        The screen.
    block_size
        Compositions per task.
    """
    torch.set_num_threads(1)
    inputs = {"network": as_model(root, model), "phases": as_phases(root, phases)}
    spaces = tuple(_with_list(root, space) for space in parameters.spaces)
    parameters = parameters.model_copy(update={"spaces": spaces})
    samples = [_sample(inputs, parameters, number) for number in range(len(spaces))]
    sizes = [space_size(space) for space in spaces]
    seconds, candidates, n_bytes = (
        sum(size * sample[i] for size, sample in zip(sizes, samples, strict=True)) for i in (1, 2, 3)
    )
    n_bytes *= 1.0 + MERGED
    n_bytes += BYTES_PER_PREDICTION * sum(sizes) if parameters.keep_predictions else 0.0
    n_systems = sum(sum(systems_by_arity(space).values()) for space in spaces)
    n_blocks, n_sample = len(plan_blocks(parameters, block_size)), sum(int(sample[0]) for sample in samples)
    return Estimate(sum(sizes), n_systems, n_blocks, n_sample, seconds, candidates, n_bytes)


def _with_list(root: str, space: SpaceParameters) -> SpaceParameters:
    if not isinstance(space.formulas, str):
        return space
    return space.model_copy(update={"formulas": reference(read_formulas.fn(root, space.formulas))})


def _sample(inputs: dict[str, ArtifactRef], parameters: ScreenParameters, number: int) -> tuple[float, ...]:
    """Screen ranges of a space: how many, and per composition the seconds, the candidates, and the bytes of parts."""
    space = parameters.spaces[number]
    predictor = load_arithmetic(inputs["network"], inputs["phases"])
    listed = space_inputs(parameters).get(f"formulas_{number}")
    inputs = inputs | ({"formulas": listed} if listed else {})
    kind = sieve_kind() if parameters.is_fast else None
    band = band_on(space, predictor, kind, BAND_SAMPLE) if kind else None

    def run(start: int, stop: int) -> ScreenBlock:
        return screen_part(predictor, inputs, parameters, Block(space=number, start=start, stop=stop), band)

    full, rare = full_space(parameters), rare_elements(inputs["network"], parameters)
    size = space_size(space)
    run(0, min(size, 64))  # what is compiled or loaded on first use
    began = time.perf_counter()
    n_timed = sum(_screened(run(start, stop)) for start, stop in sample_ranges(size, *TIMED))
    seconds = time.perf_counter() - began
    found = merge_blocks([run(start, stop) for start, stop in sample_ranges(size, *COUNTED)])
    n_bytes = len(parquet_bytes(part_table(found, full, rare, mixed=False)))
    per_composition = 1.0 / _screened(found)
    return n_timed + _screened(found), seconds / n_timed, len(found) * per_composition, n_bytes * per_composition


def _screened(block: ScreenBlock) -> int:
    """Return how many compositions were screened."""
    return sum(block.n_screened.values())


def sample_ranges(size: int, n: int, rows: int) -> list[tuple[int, int]]:
    """Return `n` evenly spaced ranges of a space, of `rows` compositions each; all of a small one."""
    if size <= n * rows:
        return [(0, size)]
    stride = size // n
    first = (stride - rows) // 2
    return [(first + i * stride, first + i * stride + rows) for i in range(n)]
