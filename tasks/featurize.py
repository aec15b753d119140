"""Featurize: rows -> what networks read (element fractions, crystal graphs)."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from safetensors.numpy import load, save

from models.crystal_graph import CRYSTAL_FEATURE_VERSION, CrystalGraphs, build_graphs
from models.elements import ELEMENTS
from models.features import element_fractions
from models.structures import parse_structures
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.fanout import fan_out
from tasks.stage import build, stage

#: Version of the element fractions; part of a model card.
FEATURE_VERSION = 1


@stage("featurize-fractions")
def featurize_fractions(root: str, training: ArtifactRef) -> ArtifactRef:
    """Write the 86 element fractions of every training row, beside the label as the source states it.

    Networks learn raw values, so that they can be measured on the source's own rows; the correction of the elemental
    references goes to their predictions (see `tasks.loading.reference_correction`).
    """
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "features",
        "tasks.featurize",
        FEATURE_VERSION,
        {"features": "element_fraction"},
        {"training": training},
        energy_scheme=store.manifest(training).energy_scheme,
    )
    return build(root, request, lambda writer: _write_fractions(writer, store.read_table(training)))


def _write_fractions(writer: ArtifactWriter, rows: pa.Table) -> None:
    fractions = element_fractions(rows.column("formula").to_pylist()).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(fractions.ravel()), len(ELEMENTS))
    table = rows.select(["material_id", "formula", "chemsys", "split"])
    table = table.append_column("formation_energy_per_atom", rows.column("formation_energy_raw"))
    writer.write_table("features", table.append_column("element_fraction", column), "features")
    writer.count("rows", rows.num_rows)


@stage("featurize-graphs")
def featurize_graphs(root: str, compounds: ArtifactRef) -> ArtifactRef:
    """Write the crystal graph of every compound that has a structure.

    The payload is `graphs.safetensors` (see `models.crystal_graph.CrystalGraphs`) with the compound's row in `rows`.
    """
    request = ArtifactRequest(
        "graphs", "tasks.featurize", CRYSTAL_FEATURE_VERSION, {"features": "crystal_graph"}, {"compounds": compounds}
    )
    return build(root, request, lambda writer: _write_graphs(writer, ArtifactStore(root), compounds))


def _graph_chunk(texts: list[str | None]) -> tuple[CrystalGraphs, list[str | None]]:
    structures, reasons = parse_structures([text or "" for text in texts])
    graphs, graph_reasons = build_graphs(structures)
    return graphs, [first or second for first, second in zip(reasons, graph_reasons, strict=True)]


def _write_graphs(writer: ArtifactWriter, store: ArtifactStore, compounds: ArtifactRef) -> None:
    table = store.read_table(compounds, columns=["material_id", "formula", "structure"])
    texts = table.column("structure").to_pylist()
    with_structure = [row for row, text in enumerate(texts) if text is not None]
    chunks = [with_structure[start : start + 50] for start in range(0, len(with_structure), 50)]
    parts = fan_out(
        _graph_chunk, [[texts[row] for row in chunk] for chunk in chunks], "crystal graphs", chunk=1, unit=50
    )
    reasons = [reason for _, chunk_reasons in parts for reason in chunk_reasons]
    rows = [row for row, reason in zip(with_structure, reasons, strict=True) if reason is None]
    graphs = CrystalGraphs.concatenate([part for part, _ in parts]) if parts else build_graphs([])[0]
    arrays = {name: np.ascontiguousarray(array) for name, array in graphs.to_arrays().items()}
    writer.write_bytes("graphs.safetensors", save(arrays | {"rows": np.array(rows, dtype=np.int64)}))
    refused = [(row, reason) for row, reason in zip(with_structure, reasons, strict=True) if reason is not None]
    if refused:
        names, formulas = table.column("material_id"), table.column("formula")
        writer.reject(
            {
                "row": row,
                "material_id": names[row].as_py(),
                "formula": formulas[row].as_py(),
                "reason": reason,
                "record": None,
            }
            for row, reason in refused
        )
    writer.count("rows", len(rows))
    writer.count("without_structure", len(texts) - len(with_structure))


def read_graphs(store: ArtifactStore, ref: ArtifactRef) -> tuple[CrystalGraphs, np.ndarray]:
    """Return the graphs of a `graphs` artifact and the row of the compound that each belongs to, shape (n,)."""
    arrays = load(store.read_bytes(ref, "graphs.safetensors"))
    rows = arrays.pop("rows")
    return CrystalGraphs.from_arrays(arrays), rows
