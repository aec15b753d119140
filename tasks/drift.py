"""Drift: whether a snapshot of a source is what the one before lets expect."""

from __future__ import annotations

from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from pydantic import Field

from models.drift import DriftLimits, drift
from models.errors import InputError
from storage.artifact import ArtifactRef, ArtifactRequest, Manifest
from storage.catalog import created_at
from storage.store import ArtifactStore, ArtifactWriter
from tasks.parameters import Parameters
from tasks.stage import build, reference, stage

STAGE_VERSION = 1

_COLUMNS = [
    "formula",
    "formation_energy_per_atom",
    "energy_above_hull",
    "band_gap",
    "volume_per_atom",
    "bulk_modulus_vrh",
    "shear_modulus_vrh",
    "source_version",
]
#: what tells two snapshots of one source apart, and is no part of what the source is
_OF_A_SNAPSHOT = ("snapshot", "release")
_LIMITS = DriftLimits()


class DriftParameters(Parameters):
    """How much a snapshot may differ from the one before it."""

    on_drift: Literal["warn", "refuse"] = Field("warn", description="what happens when a limit is exceeded")
    rows: float = Field(_LIMITS.rows, ge=0, description="change of the number of rows, relative")
    filled: float = Field(_LIMITS.filled, ge=0, description="change of the share of rows that have a value")
    extreme_energy: float = Field(
        _LIMITS.extreme_energy, ge=0, description="change of an extreme energy [eV/atom] or gap [eV]"
    )
    extreme_relative: float = Field(_LIMITS.extreme_relative, ge=0, description="change of other extremes, relative")
    shared_energy: float = Field(
        _LIMITS.shared_energy, ge=0, description="median change of the energies of shared compositions [eV/atom]"
    )
    reference: float = Field(
        _LIMITS.reference,
        ge=0,
        description="change of an element's shift against its neighbours [eV per its atom]",
    )


@stage("check-drift")
def check_drift(root: str, compounds: ArtifactRef, parameters: DriftParameters) -> ArtifactRef:
    """Compare a snapshot with the newest accepted one of the same source, and write what changed.

    Raises
    ------
    InputError
        When a limit is exceeded and the parameters say `refuse`. The snapshot and the findings stay in the store, and
        the snapshot is not what the next one is compared with.
    """
    store = ArtifactStore(root)
    previous = previous_snapshot(store, compounds)
    inputs = {"compounds": compounds} | ({"previous": previous} if previous else {})
    request = ArtifactRequest("drift", "tasks.drift", STAGE_VERSION, parameters.model_dump(mode="json"), inputs)
    built = build(root, request, lambda writer: _write(writer, store, compounds, previous, parameters))
    ref = reference(built)
    if parameters.on_drift == "refuse":
        said = findings(store, ref)
        if said:
            more = f" and {len(said) - 3} more" if len(said) > 3 else ""
            raise InputError(
                f"the snapshot {compounds.key} drifted: {'; '.join(said[:3])}{more}; look at {ref.key}, then accept it "
                "with a higher limit or --on-drift warn"
            )
    return built


def previous_snapshot(store: ArtifactStore, compounds: ArtifactRef) -> ArtifactRef | None:
    """Return the newest snapshot of the same source that is older and was not refused; None where there is none."""
    mine = store.manifest(compounds)
    born = created_at(store, compounds.key)
    refused = _refused(store)
    older = []
    for ref in store.list("compounds"):
        manifest = store.manifest(ref)
        same = manifest.stage == mine.stage and _source(manifest) == _source(mine)
        time = created_at(store, ref.key)
        if same and ref.key not in refused and ref.key != compounds.key and time and born and time < born:
            older.append((time, ref.key, ref))
    return max(older)[2] if older else None


def _source(manifest: Manifest) -> dict[str, Any]:
    return {name: value for name, value in manifest.parameters.items() if name not in _OF_A_SNAPSHOT}


def _refused(store: ArtifactStore) -> set[str]:
    """Return the keys of snapshots that a drift check refused and none accepted."""
    verdicts: dict[str, bool] = {}
    for ref in store.list("drift"):
        manifest = store.manifest(ref)
        bad = manifest.parameters.get("on_drift") == "refuse" and manifest.counts.get("exceeded", 0) > 0
        key = manifest.inputs["compounds"].key
        verdicts[key] = verdicts.get(key, True) and bad
    return {key for key, bad in verdicts.items() if bad}


def findings(store: ArtifactStore, ref: ArtifactRef) -> list[str]:
    """Return what exceeded its limit, one line each, the largest excess first."""
    table = store.read_table(ref).to_pandas()
    table = table[table["exceeded"]]
    excess = (table["change"].abs() / table["limit"].clip(lower=1e-12)).sort_values(ascending=False, kind="stable")
    lines = []
    for row in table.loc[excess.index].to_dict("records"):
        what = "elemental reference" if row["measure"] == "reference" else row["measure"]
        if row["measure"] == "vanished":
            lines.append(f"{row['subject']} has vanished")
            continue
        if pd.isna(row["previous"]) and row["measure"] == "reference":
            lines.append(f"{what} of {row['subject']} is off by {row['change']:+.3f} eV/atom")
            continue
        lines.append(f"{what} of {row['subject']} changed by {row['change']:+.3g} (limit {row['limit']:g})")
    return lines


def _write(
    writer: ArtifactWriter,
    store: ArtifactStore,
    compounds: ArtifactRef,
    previous: ArtifactRef | None,
    parameters: DriftParameters,
) -> None:
    current, earlier = _rows(store, compounds), None
    if previous is not None:
        # two snapshots of one database differ in their release by nature
        current, earlier = _without_release(current), _without_release(_rows(store, previous))
    limits = DriftLimits(**parameters.model_dump(exclude={"on_drift"}))
    found = drift(current, earlier, limits)
    writer.write_table("drift", pa.Table.from_pandas(found, preserve_index=False), "drift")
    writer.count("measured", len(found))
    writer.count("exceeded", int(found["exceeded"].sum()))


def _rows(store: ArtifactStore, compounds: ArtifactRef) -> pd.DataFrame:
    frame: pd.DataFrame = store.read_table(compounds, columns=_COLUMNS).to_pandas()
    return frame.rename(columns={"source_version": "release"})


def _without_release(frame: pd.DataFrame) -> pd.DataFrame:
    """Leave the release away where all rows share one."""
    return frame.drop(columns="release") if frame["release"].nunique() == 1 else frame
