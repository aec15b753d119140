"""The rows of a `compounds` artifact as the cleaning rules read them."""

from __future__ import annotations

import json

import pandas as pd

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.scheme import EnergyScheme
from storage.store import ArtifactStore
from tasks.merge_sources import SCHEMES
from tasks.parameters import CleanParameters

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


def scheme_of(store: ArtifactStore, compounds: ArtifactRef, parameters: CleanParameters) -> EnergyScheme | None:
    """Return the scheme of the energies that cleaning takes; None for a mixture that was asked for.

    Raises
    ------
    InputError
        When the table has several sources of different schemes and none was chosen, or not the one that was.
    """
    manifest = store.manifest(compounds)
    if SCHEMES not in {entry.path for entry in manifest.payload}:
        if parameters.source not in (None, manifest.energy_scheme.source if manifest.energy_scheme else None):
            raise InputError(f"{compounds.key} has no rows of the source {parameters.source}; leave the choice away")
        return manifest.energy_scheme
    schemes = {name: EnergyScheme(**value) for name, value in json.loads(store.read_bytes(compounds, SCHEMES)).items()}
    if parameters.source is None:
        if manifest.energy_scheme is None and not parameters.allow_mixed_scheme:
            labels = ", ".join(scheme.label for scheme in schemes.values())
            raise InputError(
                f"{compounds.key} has energies of several schemes ({labels}); choose one with --source-of-energies "
                f"{min(schemes)}, or accept the mixture with --allow-mixed-scheme"
            )
        return manifest.energy_scheme
    if parameters.source not in schemes:
        raise InputError(
            f"{compounds.key} has no rows of the source {parameters.source}; it has {', '.join(sorted(schemes))}"
        )
    return schemes[parameters.source]


def raw_rows(store: ArtifactStore, compounds: ArtifactRef, source: str | None = None) -> pd.DataFrame:
    """Return the columns that cleaning needs; `release` is the source's version, `split` only where rows state one.

    Parameters
    ----------
    store, compounds
        The table.
    source
        Only rows of this source; all when None.

    Raises
    ------
    InputError
        When no row states a formation energy, or the energies were measured: experiments are no hull phases.
    """
    frame: pd.DataFrame = store.read_table(compounds, columns=_COLUMNS).to_pandas()
    if source is not None:
        frame = frame[frame["source"] == source].reset_index(drop=True)
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
