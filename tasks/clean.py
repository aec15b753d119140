"""Clean: raw `compounds` -> `phases` (the hull) and `training` (the network), two tables for two purposes.

They must not be one: ElemNet's 5-sigma rule takes out CaF2, LaF3, HoF3, ThF4 and ThO2, which would come back as
"discoveries" if the hull had lost them.
"""

from __future__ import annotations

import pandas as pd
import pyarrow as pa

from models.cleaning import phases_table, training_table
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.parameters import CleanParameters
from tasks.rows import raw_rows, scheme_of
from tasks.stage import build, stage

STAGE_VERSION = 1

_OF_PHASES = ("lowest_energy", "highest_energy", "source", "allow_mixed_scheme")


@stage("clean-phases")
def clean_phases(
    root: str, compounds: ArtifactRef, references: ArtifactRef, parameters: CleanParameters
) -> ArtifactRef:
    """Write the lowest energy of every composition, with wrong elemental references corrected."""
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "phases",
        "tasks.clean",
        STAGE_VERSION,
        parameters.model_dump(mode="json", include=set(_OF_PHASES)),
        {"compounds": compounds, "references": references},
        energy_scheme=scheme_of(store, compounds, parameters),
    )

    def write(writer: ArtifactWriter) -> None:
        kept, rejected, counts = phases_table(
            raw_rows(store, compounds, parameters.source),
            references=store.read_table(references).to_pandas(),
            physical_range=(parameters.lowest_energy, parameters.highest_energy),
        )
        _write(writer, "phases", kept, rejected, counts)

    return build(root, request, write)


@stage("clean-training")
def clean_training(
    root: str, compounds: ArtifactRef, references: ArtifactRef, parameters: CleanParameters
) -> ArtifactRef:
    """Write the rows that a network learns from and is measured on, split by whole chemical systems."""
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "training",
        "tasks.clean",
        STAGE_VERSION,
        parameters.model_dump(mode="json", exclude={"audit_references"}),
        {"compounds": compounds, "references": references},
        energy_scheme=scheme_of(store, compounds, parameters),
    )

    def write(writer: ArtifactWriter) -> None:
        kept, rejected, counts = training_table(
            raw_rows(store, compounds, parameters.source),
            references=store.read_table(references).to_pandas(),
            physical_range=(parameters.lowest_energy, parameters.highest_energy),
            calibration_fraction=parameters.calibration_fraction,
            validation_fraction=parameters.validation_fraction,
            sigmas=parameters.n_sigma,
            seed=parameters.seed,
        )
        _write(writer, "training", kept, rejected, counts)

    return build(root, request, write)


def _write(
    writer: ArtifactWriter, name: str, kept: pd.DataFrame, rejected: pd.DataFrame, counts: dict[str, int]
) -> None:
    writer.write_table(name, pa.Table.from_pandas(kept, preserve_index=False), name)
    if len(rejected):
        writer.reject(pa.Table.from_pandas(rejected, preserve_index=False))
    for rule, n in counts.items():
        writer.count(rule, n)
