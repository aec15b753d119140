"""Merge: all parts of a screen -> `candidates`, with every flag; strict about what belongs to the screen."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.stability import probability_stable
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.errors import ForeignPart
from storage.store import ArtifactStore, ArtifactWriter
from tasks.candidate_columns import best_of, categories_of, unbalanced, with_charge_balance, with_novelty
from tasks.parameters import ScreenParameters
from tasks.spaces import composition_space, full_space
from tasks.stage import build, stage

_OF_A_PART = ("network", "phases", "precision")

STAGE_VERSION = 3  # with tasks.screen: the parts are no inputs


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
) -> ArtifactRef:
    """Merge the parts of a screen in the order of their index.

    The key does not know how the space was cut: other blocks give the same artifact.
    """
    store = ArtifactStore(root)
    inputs = {"network": network, "phases": phases}
    optional = {"precision": precision, "calibration": calibration, "known": known}
    inputs |= {name: ref for name, ref in optional.items() if ref is not None}
    request = ArtifactRequest(
        "candidates",
        "tasks.merge",
        STAGE_VERSION,
        parameters.model_dump(mode="json"),
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
    table = pa.concat_tables([store.read_table(part) for part in parts]).combine_chunks()
    table = table.take(pc.sort_indices(table, sort_keys=[("index", "ascending")]))
    index = table.column("index").to_numpy()
    if len(index) and (index.min() < 0 or (np.diff(index) <= 0).any()):
        raise ForeignPart(
            "two of the screen's spaces share compositions; make their arities or elements exclude each other"
        )
    table = _with_flags(table, store, inputs)
    compositions = full_space(parameters).unrank(index)
    table = with_charge_balance(table, compositions)
    failed, removed = unbalanced(table, compositions)
    counts |= removed
    if parameters.charge_balance == "filter":
        table, index = table.filter(pa.array(~failed)), index[~failed]
        compositions = full_space(parameters).unrank(index)
    table = with_novelty(table, compositions, _listed(store, inputs))
    writer.write_table("candidates", table, "candidates")
    writer.write_table("categories", categories_of(table, compositions), "categories")
    writer.write_table("best_per_system", best_of(table, compositions), "best_per_system")
    for name, value in (counts | candidate_counts(table)).items():
        writer.count(name, value)


def _listed(store: ArtifactStore, inputs: dict[str, ArtifactRef]) -> list[str]:
    """Return the formulas of all known compositions, those without an energy too."""
    formulas: list[str] = store.read_table(inputs["phases"], columns=["formula"]).column("formula").to_pylist()
    if "known" in inputs:
        formulas += store.read_table(inputs["known"], columns=["formula"]).column("formula").to_pylist()
    return formulas


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
        same = (
            header["threshold"] == parameters.threshold
            and header["min_training_rows"] == parameters.min_training_rows
            and header["full_space"] == full_space(parameters).to_dict()
            and header["precision"] == parameters.precision
            and all(_digest(manifest.inputs.get(name)) == _digest(inputs.get(name)) for name in _OF_A_PART)
        )
        if not same:
            raise ForeignPart(
                f"{part.key} belongs to another screen (network, phases, precision, space or threshold); screen again"
            )
        ranges.setdefault(json.dumps(header["space"], sort_keys=True), []).append(
            (header["start"], header["stop"], part.key)
        )
        for name, value in manifest.counts.items():
            counts[name] = counts.get(name, 0) + value
            if name.startswith(("screened_", "below_")):
                counts[name.partition("_")[0]] += value
    for space_parameters in parameters.spaces:
        space = composition_space(space_parameters)
        _check_ranges(ranges.pop(json.dumps(space.to_dict(), sort_keys=True), []), len(space))
        for arity in space.arities:
            n = space.count(arity) // len(space.stoichiometries(arity))
            counts[f"systems_{arity}"] = counts.get(f"systems_{arity}", 0) + n
            counts["systems"] += n
    if ranges:
        raise ForeignPart(
            f"{next(iter(ranges.values()))[0][2]} belongs to a space that this screen does not have; screen again"
        )
    return counts


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


def _with_flags(table: pa.Table, store: ArtifactStore, inputs: dict[str, ArtifactRef]) -> pa.Table:
    """Add the probability of being stable and the flags that need the list of known compositions."""
    calibration: dict[str, Any] = {"method": "none"}
    if "calibration" in inputs:
        calibration = json.loads(store.read_bytes(inputs["calibration"], "calibration.json"))["probability"]
    probability = probability_stable(table.column("decomposition_energy").to_numpy(), calibration)
    table = table.append_column("probability_stable", pa.array(probability, pa.float64(), mask=np.isnan(probability)))
    incomplete = np.zeros(table.num_rows, dtype=bool)
    if "known" in inputs:
        listed = store.read_table(inputs["known"], columns=["formula", "chemsys"])
        phases = store.read_table(inputs["phases"], columns=["formula"]).column("formula").combine_chunks()
        without_energy = listed.filter(pc.invert(pc.is_in(listed.column("formula"), value_set=phases)))
        incomplete = incomplete_systems(table.column("chemsys"), set(without_energy.column("chemsys").to_pylist()))
        is_listed = pc.is_in(table.column("formula"), value_set=listed.column("formula").combine_chunks())
        rediscovered = pc.or_(table.column("known"), is_listed)
        table = table.set_column(table.schema.get_field_index("known"), "known", rediscovered)
    return table.append_column("hull_incomplete", pa.array(incomplete))


def incomplete_systems(chemsys: pa.ChunkedArray, without_energy: set[str]) -> np.ndarray:
    """Say which chemical systems, or their subsystems, hold a composition that is known without an energy.

    Parameters
    ----------
    chemsys
        Chemical systems, shape (n,), such as ``Fe-Li-O``.
    without_energy
        Systems of the compositions without an energy; elements alone do not count, their energy is 0.

    Returns
    -------
    ndarray of bool, shape (n,)
    """
    encoded = chemsys.combine_chunks().dictionary_encode()
    flags = np.zeros(len(encoded.dictionary), dtype=bool)
    for position, system in enumerate(encoded.dictionary.to_pylist()):
        elements = system.split("-")
        subsystems = ("-".join(subset) for k in range(2, len(elements) + 1) for subset in combinations(elements, k))
        flags[position] = any(subsystem in without_energy for subsystem in subsystems)
    return flags[encoded.indices.to_numpy()] if len(encoded) else np.zeros(0, dtype=bool)


def candidate_counts(table: pa.Table) -> dict[str, int]:
    """Count candidates before and after those known, hull_incomplete and out_of_domain are taken out, in turn."""
    flags = {name: table.column(name).to_numpy() for name in ("known", "hull_incomplete", "out_of_domain")}
    counts = {f"flag_{name}": int(flag.sum()) for name, flag in flags.items()}
    left = np.ones(table.num_rows, dtype=bool)
    for name, flag in flags.items():
        left &= ~flag
        counts[f"left_after_{name}"] = int(left.sum())
    return counts | {"unflagged": int(left.sum())}
