"""Audit: `compounds` -> `references`, the elemental reference energies that are wrong, and by how much."""

from __future__ import annotations

import pyarrow as pa

from models.elemental_references import audit_references as audit
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.parameters import CleanParameters
from tasks.rows import raw_rows, scheme_of
from tasks.stage import build, stage

STAGE_VERSION = 1


@stage("audit-references")
def audit_references(root: str, compounds: ArtifactRef, parameters: CleanParameters) -> ArtifactRef:
    """Measure the reference shift of every element in every release of the source.

    With `parameters.audit_references` off nothing is corrected, and the table says so: it is empty.
    """
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "references",
        "tasks.references",
        STAGE_VERSION,
        {"audit": parameters.audit_references, "source": parameters.source},
        {"compounds": compounds},
        energy_scheme=scheme_of(store, compounds, parameters),
    )
    return build(root, request, lambda writer: _write(writer, store, compounds, parameters))


def _write(writer: ArtifactWriter, store: ArtifactStore, compounds: ArtifactRef, parameters: CleanParameters) -> None:
    rows = raw_rows(store, compounds, parameters.source)
    found = audit(rows if parameters.audit_references else rows.iloc[:0])
    writer.write_table("references", pa.Table.from_pandas(found, preserve_index=False), "references")
    writer.count("measured", len(found))
    writer.count("corrected", int((found["reference_correction"] != 0.0).sum()))
