"""The rows of a `compounds` artifact as the cleaning rules read them."""

from __future__ import annotations

import pandas as pd

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore

_COLUMNS = [
    "material_id",
    "formula",
    "formation_energy_per_atom",
    "split",
    "source",
    "source_id",
    "source_version",
    "functional",
    "temperature",
]


def raw_rows(store: ArtifactStore, compounds: ArtifactRef) -> pd.DataFrame:
    """Return the columns that cleaning needs; `release` is the source's version, `split` only where rows state one.

    Raises
    ------
    InputError
        When no row states a formation energy, or the energies were measured: experiments are no hull phases.
    """
    frame: pd.DataFrame = store.read_table(compounds, columns=_COLUMNS).to_pandas()
    if frame["formation_energy_per_atom"].isna().all():
        raise InputError(
            f"{compounds.key} has no formation energies; name their column with --map COLUMN=formation_energy_per_atom"
        )
    functionals = set(frame["functional"].dropna())
    if "experiment" in functionals:
        raise InputError(
            "experimental formation energies are never hull phases beside computed ones; ingest computed ones"
        )
    frame["release"] = frame["source_version"]
    return frame.drop(columns="split") if frame["split"].isna().all() else frame
