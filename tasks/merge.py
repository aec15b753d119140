"""Merge: all parts of a screen -> `candidates`, with every flag; strict about what belongs to the screen."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from models.space import Compositions
from storage.artifact import ArtifactRef, ArtifactRequest, Manifest
from storage.errors import ForeignPart
from storage.store import ArtifactStore, ArtifactWriter
from tasks.candidate_columns import compositions_of, unbalanced, with_charge_balance
from tasks.candidate_flags import Knowledge
from tasks.candidate_order import ordered_pieces
from tasks.candidate_summary import CandidateSummary
from tasks.parameters import ScreenParameters, SpaceParameters
from tasks.progress import Progress
from tasks.spaces import formula_list, full_space, space_header, space_inputs, space_size, systems_by_arity
from tasks.stage import build, stage

_OF_A_PART = ("network", "phases", "precision", "student")

STAGE_VERSION = 4  # that of tasks.screen: the parts are no inputs


@stage("merge-candidates")
def merge_candidates(
    root: str,
    parts: Sequence[ArtifactRef],
    network: ArtifactRef,
    phases: ArtifactRef,
    precision: ArtifactRef | None,
    calibration: ArtifactRef | None,
    known: ArtifactRef | None,
    parameters: ScreenParameters,
    student: ArtifactRef | None = None,
) -> ArtifactRef:
    """Merge the parts of a screen in the order of their index.

    The key does not know how the space was cut: other blocks give the same artifact.
    """
    store = ArtifactStore(root)
    inputs = {"network": network, "phases": phases}
    optional = {"precision": precision, "student": student, "calibration": calibration, "known": known}
    inputs |= {name: ref for name, ref in optional.items() if ref is not None} | space_inputs(parameters)
    request = ArtifactRequest(
        "candidates",
        "tasks.merge",
        STAGE_VERSION,
        screen_header(parameters),
        inputs,
        energy_scheme=store.manifest(phases).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, list(parts), inputs, parameters))


def _write(
    writer: ArtifactWriter,
    store: ArtifactStore,
    parts: list[ArtifactRef],
    inputs: dict[str, ArtifactRef],
    parameters: ScreenParameters,
) -> None:
    counts = check_parts(store, parts, inputs, parameters)
    knowledge, summary, full = Knowledge(store, inputs), CandidateSummary(), full_space(parameters)
    progress, rows = Progress("merge", counts["below"], "candidates"), 0
    with writer.stream_table("candidates", "candidates") as append:
        for piece in ordered_pieces(store, parts):
            table = knowledge.with_flags(piece)
            compositions = compositions_of(table, full)
            table = with_charge_balance(table, compositions)
            failed, removed = unbalanced(table, compositions)
            for name, n in removed.items():
                counts[name] = counts.get(name, 0) + n
            if parameters.charge_balance == "filter":
                table = table.filter(pa.array(~failed))
                compositions = Compositions(compositions.elements[~failed], compositions.counts[~failed])
            table = knowledge.with_novelty(table, compositions)
            append(table)
            summary.add(table, compositions)
            rows += piece.num_rows
            progress.update(rows)
    writer.write_table("categories", summary.categories(), "categories")
    writer.write_table("best_per_system", summary.best(), "best_per_system")
    for name, value in (counts | summary.counts).items():
        writer.count(name, value)


def screen_header(parameters: ScreenParameters) -> dict[str, Any]:
    """Return what names a screen: lists by the role of the input, so that the key hangs on their content."""
    header: dict[str, Any] = parameters.model_dump(mode="json")
    for number, space in enumerate(parameters.spaces):
        if formula_list(space) is not None:
            header["spaces"][number] = space_header(space, f"formulas_{number}")
    return header


def check_parts(
    store: ArtifactStore, parts: list[ArtifactRef], inputs: dict[str, ArtifactRef], parameters: ScreenParameters
) -> dict[str, int]:
    """Check that the parts are the whole screen and nothing else, and add up their counts.

    Raises
    ------
    ForeignPart
        When a part belongs to another screen, or the parts leave a gap or overlap.
    """
    counts = {"screened": 0, "below": 0, "systems": 0}
    ranges: dict[str, list[tuple[int, int, str]]] = {}
    for part in parts:
        manifest = store.manifest(part)
        header = manifest.parameters
        if not is_of_screen(manifest, inputs, parameters):
            raise ForeignPart(
                f"{part.key} belongs to another screen (network, phases, precision, space or threshold); screen again"
            )
        ranges.setdefault(space_of_part(manifest), []).append((header["start"], header["stop"], part.key))
        for name, value in manifest.counts.items():
            counts[name] = counts.get(name, 0) + value
            if name.startswith(("screened_", "below_")):
                counts[name.partition("_")[0]] += value
    for space_parameters in parameters.spaces:
        _check_ranges(ranges.pop(space_name(space_parameters), []), space_size(space_parameters))
        for arity, n in systems_by_arity(space_parameters).items():
            counts[f"systems_{arity}"] = counts.get(f"systems_{arity}", 0) + n
            counts["systems"] += n
    if ranges:
        raise ForeignPart(
            f"{next(iter(ranges.values()))[0][2]} belongs to a space that this screen does not have; screen again"
        )
    return counts


def is_of_screen(manifest: Manifest, inputs: Mapping[str, Any], parameters: ScreenParameters) -> bool:
    """Whether a part was made as a screen's parts are; `inputs` by role, as references or records."""
    header = manifest.parameters
    return (
        header.get("threshold") == parameters.threshold
        and header.get("min_training_rows") == parameters.min_training_rows
        and header.get("full_space") == full_space(parameters).to_dict()
        and header.get("precision") == parameters.precision
        and header.get("keep_predictions", False) == parameters.keep_predictions
        and all(_digest(manifest.inputs.get(name)) == _digest(inputs.get(name)) for name in _OF_A_PART)
    )


def space_of_part(manifest: Manifest) -> str:
    """Return the name of the space that a part is a range of: its rule, and the content of its list."""
    return _space_name(manifest.parameters["space"], _digest(manifest.inputs.get("formulas")))


def space_name(parameters: SpaceParameters) -> str:
    """Return the name of a screen's space as `space_of_part` does."""
    return _space_name(space_header(parameters), _digest(formula_list(parameters)))


def _space_name(header: dict[str, Any], content: str | None) -> str:
    return json.dumps([header, content], sort_keys=True)


def _digest(record: Any) -> str | None:
    return None if record is None else str(record.digest)


def _check_ranges(ranges: list[tuple[int, int, str]], size: int) -> None:
    position = 0
    for start, stop, key in sorted(ranges):
        if start != position:
            what = "is missing" if start > position else f"is doubled by {key}"
            raise ForeignPart(
                f"the range from {min(start, position):,} to {max(start, position):,} {what}; screen again"
            )
        position = stop
    if position != size:
        raise ForeignPart(f"the range from {position:,} to {size:,} is missing; screen again")
