"""What is said of candidates because of what is known: flags, the probability of being stable, novelty."""

from __future__ import annotations

import json
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from models.formula import parse_many
from models.novelty import Novelty
from models.space import Compositions
from models.stability import probability_stable
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.candidate_columns import with_novelty

_ENUMERATED = 8  # elements up to which a system's subsystems are fewer than the systems that are known


class Knowledge:
    """What a screen's inputs know, read once: phases, the list of known compositions, the calibration.

    Parameters
    ----------
    store
        Where the inputs lie.
    inputs
        By role: ``phases``, and where there are any ``known`` and ``calibration``.
    """

    def __init__(self, store: ArtifactStore, inputs: dict[str, ArtifactRef]) -> None:
        self._calibration: dict[str, Any] = {"method": "none"}
        if "calibration" in inputs:
            self._calibration = json.loads(store.read_bytes(inputs["calibration"], "calibration.json"))["probability"]
        phases = store.read_table(inputs["phases"], columns=["formula"]).column("formula").combine_chunks()
        self._listed = pa.array([], pa.string())
        self._without_energy: set[str] = set()
        if "known" in inputs:
            known = store.read_table(inputs["known"], columns=["formula", "chemsys"])
            self._listed = known.column("formula").combine_chunks()
            without_energy = known.filter(pc.invert(pc.is_in(self._listed, value_set=phases)))
            self._without_energy = set(without_energy.column("chemsys").to_pylist())
        parsed = parse_many([*phases.to_pylist(), *self._listed.to_pylist()])
        rows = np.flatnonzero(parsed.valid)
        self._novelty = Novelty.of_compositions(parsed.elements[rows], parsed.amounts[rows])

    def with_flags(self, table: pa.Table) -> pa.Table:
        """Add `probability_stable` and `hull_incomplete`, and mark what is listed as `known`."""
        probability = probability_stable(table.column("decomposition_energy").to_numpy(), self._calibration)
        column = pa.array(probability, pa.float64(), mask=np.isnan(probability))
        table = table.append_column("probability_stable", column)
        incomplete = incomplete_systems(table.column("chemsys"), self._without_energy)
        rediscovered = pc.or_(table.column("known"), pc.is_in(table.column("formula"), value_set=self._listed))
        table = table.set_column(table.schema.get_field_index("known"), "known", rediscovered)
        return table.append_column("hull_incomplete", pa.array(incomplete))

    def with_novelty(self, table: pa.Table, compositions: Compositions) -> pa.Table:
        """Add `novelty` and `nearest_known`, with an energy or without."""
        return with_novelty(table, compositions, self._novelty)


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
    if not without_energy:
        return np.zeros(len(chemsys), dtype=bool)
    encoded = chemsys.combine_chunks().dictionary_encode()
    flags = np.zeros(len(encoded.dictionary), dtype=bool)
    sets = [set(system.split("-")) for system in without_energy if "-" in system]
    for position, system in enumerate(encoded.dictionary.to_pylist()):
        elements = system.split("-")
        if len(elements) > _ENUMERATED:
            flags[position] = any(subset <= set(elements) for subset in sets)
            continue
        subsystems = ("-".join(subset) for k in range(2, len(elements) + 1) for subset in combinations(elements, k))
        flags[position] = any(subsystem in without_energy for subsystem in subsystems)
    return flags[encoded.indices.to_numpy()] if len(encoded) else np.zeros(0, dtype=bool)
