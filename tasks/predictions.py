"""The predictions that a screen kept: found by what made them, streamed in the order of the index.

The parts are no inputs of `candidates`, whose content does not depend on how the space was cut, so they cannot be
listed there. Instead, all parts of the same screen that the store holds answer for their ranges, of one cut or of many.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.errors import ArtifactNotFound
from storage.store import ArtifactStore
from storage.streams import read_rows
from tasks.merge import is_of_screen, space_name, space_of_part
from tasks.parameters import ScreenParameters, SpaceParameters
from tasks.screen import PREDICTIONS, STAGE_VERSION
from tasks.spaces import space_size


@dataclass(frozen=True)
class PredictionPart:
    """A range of a space whose predictions lie in one part.

    Attributes
    ----------
    space
        Number of the space in the screen's list.
    start, stop
        Range of its indices (of places, for a list of formulas).
    part
        The part's artifact; its table `all_predictions` has one row for each index from ``first`` on.
    first
        Index of the part's first row.
    """

    space: int
    start: int
    stop: int
    part: ArtifactRef
    first: int


@dataclass(frozen=True)
class Predictions:
    """Predictions of a run of indices.

    Attributes
    ----------
    space
        Number of the space in the screen's list.
    start
        Index of the first value in the space.
    values
        (n,) float32, predicted formation energies, eV/atom.
    """

    space: int
    start: int
    values: NDArray[np.float32]


def prediction_parts(store: ArtifactStore, candidates: ArtifactRef) -> list[PredictionPart]:
    """Find the parts of a screen with `keep_predictions`, gapless and in the order of spaces and indices.

    Raises
    ------
    InputError
        When the screen kept no predictions.
    ArtifactNotFound
        When parts are no longer in the store.
    """
    parameters = screen_of(store, candidates)
    if not parameters.keep_predictions:
        raise InputError(f"{candidates.key} kept no predictions; screen again with --keep-predictions")
    inputs = store.manifest(candidates).inputs
    held: dict[str, list[tuple[int, int, ArtifactRef]]] = {}
    for part in store.list("candidates_part"):
        manifest = store.manifest(part)
        if manifest.stage_version == STAGE_VERSION and is_of_screen(manifest, inputs, parameters):
            header = manifest.parameters
            held.setdefault(space_of_part(manifest), []).append((header["start"], header["stop"], part))
    found: list[PredictionPart] = []
    for number, space in enumerate(parameters.spaces):
        found += _cover(number, space_size(space), held.get(space_name(space), []))
    return found


def stream_predictions(store: ArtifactStore, candidates: ArtifactRef) -> Iterator[Predictions]:
    """Yield the predictions of a whole screen, space by space, in the order of the index, at most 4 MB at a time.

    Parameters
    ----------
    store, candidates
        The screen's candidates.

    Raises
    ------
    InputError, ArtifactNotFound
        As `prediction_parts`.
    """
    for found in prediction_parts(store, candidates):
        at = found.start
        for table in read_rows(store, found.part, found.start - found.first, found.stop - found.first, PREDICTIONS):
            values = table.column("formation_energy_per_atom").to_numpy()
            yield Predictions(found.space, at, values)
            at += len(values)


def screen_of(store: ArtifactStore, candidates: ArtifactRef) -> ScreenParameters:
    """Return the parameters that candidates were screened with, lists as references."""
    manifest = store.manifest(candidates)
    spaces = []
    for space in manifest.parameters["spaces"]:
        if "formulas" not in space:
            spaces.append(SpaceParameters(**space))
            continue
        record = manifest.inputs[space["formulas"]]
        ref = store.find(record.key)
        if ref is None:
            raise ArtifactNotFound(f"the list {record.key} of {candidates.key} is not in the store; screen it again")
        spaces.append(SpaceParameters(formulas=ref))
    return ScreenParameters.model_validate(manifest.parameters | {"spaces": spaces})


def _cover(number: int, size: int, held: list[tuple[int, int, ArtifactRef]]) -> Iterator[PredictionPart]:
    """Choose parts that cover a space, each time the one that reaches furthest."""
    position = 0
    while position < size:
        reach = [(stop, start, part) for start, stop, part in held if start <= position < stop]
        if not reach:
            raise ArtifactNotFound(
                f"the predictions from {position:,} on are no longer in the store; screen again with --keep-predictions"
            )
        stop, start, part = max(reach, key=lambda entry: (entry[0], entry[2].key))
        yield PredictionPart(number, position, stop, part, start)
        position = stop
