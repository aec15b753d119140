"""The starter set's stages: decorated prototypes -> relaxed compounds and elastic tensors, from a universal potential.

The tables between the stages are the generator's own and are not read by any other stage, so they carry no table
schema; what comes out at the end is `compounds`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from pydantic import Field

from models import selfbuilt
from models.assembly import AssemblyRules, assemble, judge
from models.decoration import candidates as decorate
from models.reference_energies import References, binary_energies, elemental_energies, fit_references
from models.selection import energies_above_hull, formation_energies, select_for_relaxation, select_for_tensors
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.parquet import write_parquet
from storage.scheme import EnergyScheme
from storage.store import ArtifactStore, ArtifactWriter
from tasks.parameters import Parameters
from tasks.stage import build, stage

STAGE_VERSION = 1

SCHEME = EnergyScheme(
    source="selfbuilt",
    release="2026.11",
    functional="chgnet",
    corrections="as in the potential's training data (Materials Project: anion and U corrections)",
    elemental_references="lowest CHGNet solid; H N O F Cl Br I fitted to measured enthalpies",
)

#: Rows per chunk: one to two minutes of work on a core.
CHUNK_ROWS = {"static": 2000, "relax": 100, "tensors": 8}

_STEPS: dict[str, Callable[[pd.DataFrame], pd.DataFrame]] = {
    "static": selfbuilt.evaluate_static,
    "relax": selfbuilt.relax,
    "tensors": selfbuilt.tensors,
}


class SelfbuiltParameters(Parameters):
    """Parameters of the starter set."""

    seed: int = Field(2026, description="seed of the decorations")
    max_candidates: int | None = Field(None, ge=1, description="only the first so many candidates; empty: all")
    max_relaxed: int | None = Field(
        14_190,
        ge=1,
        description="relax at most so many, most wanted first (the shipped set's budget); empty: all selected",
    )


def _keep(writer: ArtifactWriter, name: str, frame: pd.DataFrame) -> None:
    """Write a table of the generator, and its number of rows."""
    write_parquet(pa.Table.from_pandas(frame, preserve_index=False), writer.folder / f"{name}.parquet")
    writer.count(f"rows_{name}", len(frame))


def read_frame(store: ArtifactStore, ref: ArtifactRef, name: str) -> pd.DataFrame:
    """Return a table that `_keep` wrote."""
    frame: pd.DataFrame = store.read_table(ref, name).to_pandas()
    return frame


@stage("selfbuilt-candidates")
def list_candidates(root: str, parameters: SelfbuiltParameters) -> ArtifactRef:
    """List the decorated prototypes."""
    request = ArtifactRequest(
        "selfbuilt_candidates",
        "tasks.selfbuilt",
        STAGE_VERSION,
        parameters.model_dump(include={"seed", "max_candidates"}),
    )
    listed = lambda: decorate(parameters.seed).head(parameters.max_candidates or 10**9)  # noqa: E731
    return build(root, request, lambda writer: _keep(writer, "candidates", listed()))


@stage("selfbuilt-references")
def evaluate_references(root: str, listed: ArtifactRef) -> ArtifactRef:
    """Evaluate the elements over the elemental prototypes, and the binaries with a measured enthalpy."""

    def write(writer: ArtifactWriter) -> None:
        torch.set_num_threads(1)
        table = read_frame(ArtifactStore(root), listed, "candidates")
        elements = sorted({element for system in table["chemsys"].unique() for element in system.split("-")})
        _keep(writer, "elements", elemental_energies(elements, selfbuilt.evaluate))
        _keep(writer, "binaries", binary_energies(selfbuilt.evaluate))

    request = ArtifactRequest("selfbuilt_references", "tasks.selfbuilt", STAGE_VERSION, {}, {"candidates": listed})
    return build(root, request, write)


def chunk_request(step: str, rows: ArtifactRef, start: int, stop: int) -> ArtifactRequest:
    """Return what one chunk of a step is made from."""
    parameters = {"step": step, "start": start, "stop": stop}
    return ArtifactRequest("selfbuilt_chunk", "tasks.selfbuilt", STAGE_VERSION, parameters, {"rows": rows})


def plan_chunks(root: str, step: str, rows: ArtifactRef) -> list[tuple[int, int]]:
    """Cut a table into chunks of one to two minutes of work."""
    n = ArtifactStore(root).manifest(rows).counts[f"rows_{rows.kind.removeprefix('selfbuilt_')}"]
    size = CHUNK_ROWS[step]
    return [(start, min(start + size, n)) for start in range(0, n, size)]


@stage("selfbuilt-chunk")
def evaluate_chunk(root: str, step: str, rows: ArtifactRef, start: int, stop: int) -> ArtifactRef:
    """Evaluate, relax or strain the rows `start` to `stop - 1` of a table."""

    def write(writer: ArtifactWriter) -> None:
        torch.set_num_threads(1)
        table = read_frame(ArtifactStore(root), rows, rows.kind.removeprefix("selfbuilt_"))
        _keep(writer, step, _STEPS[step](table.iloc[start:stop]))

    return build(root, chunk_request(step, rows, start, stop), write)


@stage("selfbuilt-merge")
def merge_chunks(root: str, step: str, rows: ArtifactRef, chunks: Sequence[ArtifactRef]) -> ArtifactRef:
    """Join the chunks of a step; the key does not know how the table was cut."""
    request = ArtifactRequest(f"selfbuilt_{step}", "tasks.selfbuilt", STAGE_VERSION, {}, {"rows": rows})

    def write(writer: ArtifactWriter) -> None:
        store = ArtifactStore(root)
        _keep(writer, step, pd.concat([read_frame(store, chunk, step) for chunk in chunks], ignore_index=True))

    return build(root, request, write)


def _references(store: ArtifactStore, ref: ArtifactRef) -> References:
    return fit_references(read_frame(store, ref, "elements"), read_frame(store, ref, "binaries"))


@stage("selfbuilt-select")
def select_relaxations(
    root: str, listed: ArtifactRef, static: ArtifactRef, references: ArtifactRef, parameters: SelfbuiltParameters
) -> ArtifactRef:
    """Choose the lowest part of every prototype and every lithium compound."""
    request = ArtifactRequest(
        "selfbuilt_selected",
        "tasks.selfbuilt",
        STAGE_VERSION,
        parameters.model_dump(include={"max_relaxed"}),
        {"candidates": listed, "static": static, "references": references},
    )

    def write(writer: ArtifactWriter) -> None:
        store = ArtifactStore(root)
        chosen = select_for_relaxation(
            read_frame(store, listed, "candidates"), read_frame(store, static, "static"), _references(store, references)
        )
        _keep(writer, "selected", chosen.head(parameters.max_relaxed or len(chosen)).reset_index(drop=True))

    return build(root, request, write)


@stage("selfbuilt-select-tensors")
def select_tensors(root: str, selected: ArtifactRef, relaxed: ArtifactRef, references: ArtifactRef) -> ArtifactRef:
    """Choose the compounds that get an elastic tensor: lithium insulators first."""
    inputs = {"selected": selected, "relaxed": relaxed, "references": references}
    request = ArtifactRequest("selfbuilt_chosen", "tasks.selfbuilt", STAGE_VERSION, {}, inputs)

    def write(writer: ArtifactWriter) -> None:
        store = ArtifactStore(root)
        table = read_frame(store, selected, "selected").merge(
            read_frame(store, relaxed, "relax"), on="candidate_id", validate="one_to_one"
        )
        table["formation_energy_per_atom"] = formation_energies(table, _references(store, references))
        good = judge(table, AssemblyRules())[0].copy()
        good["energy_above_hull"] = energies_above_hull(good)
        _keep(writer, "chosen", select_for_tensors(good))

    return build(root, request, write)


@stage("selfbuilt-assemble")
def assemble_starter(root: str, inputs: dict[str, ArtifactRef]) -> ArtifactRef:
    """Put the starter set together: `compounds`, with every rejected row and its reason.

    Parameters
    ----------
    root
        The store.
    inputs
        Artifacts by role: `candidates, static, selected, relax, tensors, references`.
    """
    request = ArtifactRequest("compounds", "tasks.selfbuilt", STAGE_VERSION, {}, inputs, energy_scheme=SCHEME)
    return build(root, request, lambda writer: _write_starter(writer, ArtifactStore(root), inputs))


def _write_starter(writer: ArtifactWriter, store: ArtifactStore, inputs: dict[str, ArtifactRef]) -> None:
    candidates, static, selected, relaxed, tensors = (
        read_frame(store, inputs[name], name) for name in ("candidates", "static", "selected", "relax", "tensors")
    )
    references, version = _references(store, inputs["references"]), selfbuilt.potential_version()
    made = assemble(candidates, static, selected, relaxed, tensors, references, version)
    tensor = made.compounds["elastic_tensor"]
    flat = pa.array(
        [None if value is None else np.asarray(value, float).tolist() for value in tensor], pa.list_(pa.float64())
    )
    compounds = made.compounds.drop(columns="elastic_tensor")
    table = pa.Table.from_pandas(compounds, preserve_index=False).append_column("elastic_tensor", flat)
    writer.write_table("compounds", table, "compounds")
    rejected: list[dict[str, Any]] = [
        {
            "row": row,
            "material_id": None,
            "formula": record["formula"],
            "reason": f"{record['stage']}: {record['reason']}",
            "record": None,
        }
        for row, record in enumerate(made.rejected.to_dict("records"))
    ]
    writer.reject(rejected)
    for name, n in made.counts.items():
        writer.count(name, n)
