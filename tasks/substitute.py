"""Substitute: compositions without a structure -> `compounds` with structures by substitution, marked as such."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pydantic import Field

from models.crystals import structure_json
from models.errors import InputError
from models.formula import parse_many
from models.hypothetical import Substitution, Templates, hypothetical_structure, substitutions
from models.ranking import HYPOTHETICAL_SOURCE
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.compounds import Provenance, compounds
from tasks.fanout import fan_out
from tasks.parameters import Parameters
from tasks.stage import build, stage

STAGE_VERSION = 1
TABLE = "substitutions"
_WAYS = ("material_id", "formula", "template", "kind", "exchanged", "log10_probability")
_RAW = (*_WAYS, "structure", "energy_above_hull", "prototype", "_reason")


class SubstituteParameters(Parameters):
    """How structures are made for compositions."""

    per_composition: int = Field(3, ge=1, le=50, description="structures for a composition, the likeliest ones")
    prototypes: bool = Field(True, description="also the prototypes of the AFLOW library, not only known compounds")
    max_above_hull: float | None = Field(
        0.1, ge=0, description="known compounds that lie higher above the hull are no templates [eV/atom]; empty: all"
    )
    max_sites: int = Field(100, ge=1, description="largest cell")


@stage("substitute")
def substitute(
    root: str, compositions: ArtifactRef, known: ArtifactRef, parameters: SubstituteParameters
) -> ArtifactRef:
    """Give compositions the structures of known compounds and prototypes, with their own elements.

    Parameters
    ----------
    root
        The store.
    compositions
        `candidates` of a screen, or `compounds`.
    known
        `compounds` with structures.
    parameters
        How many, and from what.
    """
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "compounds", "tasks.substitute", STAGE_VERSION, parameters.model_dump(mode="json"),
        {"compositions": compositions, "known": known}, energy_scheme=store.manifest(compositions).energy_scheme,
    )  # fmt: skip
    return build(root, request, lambda writer: _write(writer, store, compositions, known, parameters))


def _write(
    writer: ArtifactWriter,
    store: ArtifactStore,
    compositions: ArtifactRef,
    known: ArtifactRef,
    parameters: SubstituteParameters,
) -> None:
    frame = lowest_by_formula(store.read_table(compositions).to_pandas())
    templates = templates_of(store.read_table(known).to_pandas(), parameters)
    found, rejected = find(frame, templates, parameters.per_composition)
    texts = fan_out(_structure, [(way, parameters.max_sites) for _, way in found], "structures by substitution")
    rows = [
        _row(frame.iloc[row], way, structure, reason)
        for (row, way), (structure, reason) in zip(found, texts, strict=True)
    ]
    made = compounds(pd.DataFrame(rows, columns=_RAW), Provenance(HYPOTHETICAL_SOURCE, known.key))
    rejected += [one | {"row": found[one["row"]][0]} for one in made.rejected]  # rows of the compositions
    writer.count("compositions", len(frame))
    writer.count("structures", made.table.num_rows)
    if made.table.num_rows == 0:
        reasons = "; ".join(sorted({row["reason"] for row in rejected})[:3])
        raise InputError(f"no composition got a structure: {reasons or 'the table is empty'}")
    writer.count("compositions_with_structure", len(set(made.table.column("formula").to_pylist())))
    writer.write_table("compounds", made.table, "compounds")
    kept = set(made.table.column("material_id").to_pylist())
    ways = [row for row in rows if row["material_id"] in kept]
    writer.write_table(TABLE, pa.table({name: [row[name] for row in ways] for name in _WAYS}), TABLE)
    if rejected:
        writer.reject(rejected)


def lowest_by_formula(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each formula that lies lowest above the hull, in the order in which formulas occur first."""
    if "energy_above_hull" not in frame.columns:
        return frame.drop_duplicates("formula", ignore_index=True)
    first = {formula: place for place, formula in enumerate(dict.fromkeys(frame["formula"]))}
    lowest = frame.sort_values("energy_above_hull", na_position="last", kind="stable").drop_duplicates("formula")
    return lowest.sort_values("formula", key=lambda names: names.map(first), kind="stable", ignore_index=True)


def templates_of(known: pd.DataFrame, parameters: SubstituteParameters) -> list[Templates]:
    """Return the structures whose elements may be exchanged, those of known compounds first."""
    given = known[known["structure"].notna() & known["source"].ne(HYPOTHETICAL_SOURCE)]
    # names are those of one source: of two rows with one name the lower is taken
    given = given.sort_values("energy_above_hull", na_position="last", kind="stable").drop_duplicates("material_id")
    identifiers, formulas, texts = (given[name].tolist() for name in ("material_id", "formula", "structure"))
    above = given["energy_above_hull"].to_numpy(float)
    limit = np.inf if parameters.max_above_hull is None else parameters.max_above_hull
    compared = Templates.of_compounds(identifiers, formulas, texts, above, limit)
    return [compared, *([Templates.of_prototypes()] if parameters.prototypes else [])]


def find(
    frame: pd.DataFrame, templates: list[Templates], n: int
) -> tuple[list[tuple[int, Substitution]], list[dict[str, Any]]]:
    """Return the substitutions of each row of a table, and the rows for which there is none with the reason."""
    found: list[tuple[int, Substitution]] = []
    rejected: list[dict[str, Any]] = []
    for row, formula in enumerate(frame["formula"].astype(str)):
        try:
            found += [(row, way) for way in substitutions(parse_many([formula]), templates, n)]
        except InputError as error:
            record = json.dumps({"formula": formula})
            reason = {"row": row, "material_id": None, "formula": formula, "reason": str(error), "record": record}
            rejected.append(reason)
    return found, rejected


def _structure(given: tuple[Substitution, int]) -> tuple[str | None, str | None]:
    try:
        return structure_json(hypothetical_structure(*given), decimals=8), None
    except InputError as error:
        return None, str(error)


def _row(composition: pd.Series, way: Substitution, structure: str | None, reason: str | None) -> dict[str, Any]:
    """Return a raw row of `compounds`; the distance from the hull is the composition's, whatever its structure."""
    formula = str(composition["formula"])
    return {
        "material_id": f"{formula}@{way.identifier}", "formula": formula, "structure": structure,
        "energy_above_hull": composition.get("energy_above_hull"), "prototype": way.identifier, "_reason": reason,
        "template": way.identifier, "kind": way.kind, "exchanged": json.dumps(way.exchanged),
        "log10_probability": way.log10_probability,
    }  # fmt: skip
