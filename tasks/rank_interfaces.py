"""Ranked crystals whose full elastic tensor is known, judged facet by facet and plane by plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from models.crystal_stability import InterfaceParameters
from storage.schemas import SCHEMAS
from tasks.interface_table import Crystal, judged_interfaces

COLUMNS = ("n_interfaces", "n_stable_interfaces", "chi_interface")


def with_interfaces(ranked: pd.DataFrame, stated: pd.DataFrame, kept: pd.DataFrame) -> tuple[pd.DataFrame, pa.Table]:
    """Judge the interfaces of ranked crystals with lithium.

    Parameters
    ----------
    ranked
        Columns of the ranking.
    stated
        ``material_id`` and ``elastic_tensor`` [GPa] of crystals that have one; may be empty.
    kept
        ``material_id``, ``structure`` and ``volume_ratio`` of the ranked rows.

    Returns
    -------
    tuple of DataFrame and Table
        The ranking with `COLUMNS`, empty where there is no tensor, and a table of schema ``interfaces``.
    """
    crystals = _crystals(ranked, stated, kept)
    if not crystals:
        return ranked.assign(**dict.fromkeys(COLUMNS)), SCHEMAS["interfaces"].arrow.empty_table()
    judged = judged_interfaces(crystals)
    columns = judged.select(["material_id", "chi", "stable"]).to_pandas()
    by_crystal = columns.groupby("material_id")
    found = pd.DataFrame(
        {
            "n_interfaces": by_crystal["chi"].count(),
            "n_stable_interfaces": by_crystal["stable"].sum().astype(int),
            "chi_interface": by_crystal["chi"].min(),
        }
    ).reindex(ranked["material_id"])
    counts = {name: pd.array(found[name].to_numpy(), dtype="Int32") for name in COLUMNS[:2]}
    return ranked.assign(**counts, chi_interface=found["chi_interface"].to_numpy()), judged


def _crystals(ranked: pd.DataFrame, stated: pd.DataFrame, kept: pd.DataFrame) -> list[Crystal]:
    if "elastic_tensor" not in stated:
        return []
    unique: list[dict[Any, Any]] = stated.drop_duplicates("material_id").to_dict("records")
    rows_of = {str(row["material_id"]): row for row in unique}
    rows = {str(name): (text, float(v)) for name, text, v in kept[["material_id", "structure", "volume_ratio"]].values}
    crystals = []
    for name, formula in zip(ranked["material_id"], ranked["formula"], strict=True):
        row = rows_of.get(name, {})
        tensor = row.get("elastic_tensor")
        if tensor is None or np.ndim(tensor) == 0:
            continue
        identity = {"material_id": name, "formula": formula}
        structure, ratio = rows[name]
        crystals.append(Crystal(identity, tensor, structure, None, ratio, InterfaceParameters(), row))
    return crystals
