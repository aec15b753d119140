"""Interfaces of a user's crystals with a metal electrode, from their full elastic tensors: a table in, a table out."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
from pymatgen.core import Structure

from models.crystal_stability import (
    CORRECTED_STD,
    INTERFACE_COLUMNS,
    InterfaceParameters,
    crystal_reason,
    crystal_stability,
)
from models.elasticity import parse_tensor, rescaled_tensor
from models.errors import InputError
from models.structures import parse_structure
from models.tensor_frame import OrientedTensor, oriented_tensors
from models.volume_ratio import shannon_voronoi_ratio
from storage.schemas import SCHEMAS, conform
from tasks.fanout import fan_out
from tasks.inputs import as_table
from tasks.tables import AddedColumns


@dataclass(frozen=True)
class Crystal:
    """What one row of a table states, and how it is judged.

    Attributes
    ----------
    identity
        ``material_id`` and ``formula``.
    tensor
        Stiffness [GPa] as `models.elasticity.parse_tensor` reads it, or None.
    structure
        CIF, POSCAR or pymatgen JSON; None with a lattice.
    lattice
        Rows a, b, c of the conventional cell [A] in the tensor's axes, or None: the axes are then told by symmetry.
    volume_ratio
        v; NaN: from the structure.
    parameters
        Which planes, and what is called stable.
    stated
        The row that states the tensor: its moduli say whether they were corrected, see `corrected`.
    """

    identity: dict[str, Any]
    tensor: Any
    structure: str | None
    lattice: Any
    volume_ratio: float
    parameters: InterfaceParameters
    stated: Mapping[str, Any]


def interface_table(root: str, table: str, parameters: InterfaceParameters | None = None) -> AddedColumns:
    """Judge every interface of every crystal of a table.

    Parameters
    ----------
    root
        The store.
    table
        File or artifact with ``elastic_tensor`` [GPa] and ``structure``, ``cif``, or ``lattice``: rows a, b, c of the
        conventional cell [A] in the tensor's axes, which are then taken as stated. ``volume_ratio`` counts where it is
        given and is computed from the structure elsewhere.
    parameters
        Which planes, and what is called stable.

    Returns
    -------
    AddedColumns
        A row per facet of the metal and plane of the crystal, and one with a ``reason`` for each crystal that cannot
        be judged.
    """
    rows, _ = as_table(root, table)
    crystals = _crystals(rows, parameters or InterfaceParameters())
    made = conform(judged_interfaces(crystals), "interfaces")
    if made.column("reason").null_count == made.num_rows:
        made = made.drop_columns(["reason"])
    return AddedColumns(made, "interfaces", {})


def judged_interfaces(crystals: Sequence[Crystal]) -> pa.Table:
    """Judge crystals, over the Dask workers when called on one.

    Parameters
    ----------
    crystals
        At least one.

    Returns
    -------
    Table
        Schema ``interfaces``, in the crystals' order.
    """
    schema = SCHEMAS["interfaces"].arrow
    parts = fan_out(_judged, crystals, "interfaces", chunk=8)
    return pa.concat_tables([pa.Table.from_pandas(part, schema=schema, preserve_index=False) for part in parts])


def corrected(
    tensor: Any, stated: Mapping[str, Any], parameters: InterfaceParameters
) -> tuple[Any, InterfaceParameters]:
    """Correct a tensor as the moduli beside it were corrected, and state the larger error of such moduli.

    Parameters
    ----------
    tensor
        Stiffness as it was computed, GPa.
    stated
        The row: where it has ``bulk_modulus_vrh_raw`` and ``shear_modulus_vrh_raw``, its moduli are corrected ones.
    parameters
        With the error of a stiffness as it was computed.
    """
    factors = []
    for modulus in ("bulk", "shear"):
        now, raw = (_number(stated, f"{modulus}_modulus_vrh{which}") for which in ("", "_raw"))
        if not (now > 0 and raw > 0):
            return tensor, parameters
        factors.append(now / raw)
    std = max(parameters.log10_stiffness_std, CORRECTED_STD)
    return rescaled_tensor(parse_tensor(tensor), *factors), replace(parameters, log10_stiffness_std=std)


def _number(stated: Mapping[str, Any], name: str) -> float:
    """Return a number that a row states, NaN where it states none."""
    value = stated.get(name)
    return float(value) if isinstance(value, int | float) else math.nan


def _crystals(rows: pa.Table, parameters: InterfaceParameters) -> list[Crystal]:
    names = rows.column_names
    if "elastic_tensor" not in names:
        raise InputError(
            f"the table has no column 'elastic_tensor', which --anisotropic needs; it has {', '.join(names)}"
        )
    structure = next((name for name in ("structure", "cif") if name in names), None)
    if structure is None and "lattice" not in names:
        raise InputError("the table has neither 'structure' nor 'lattice': planes have no normals without one of them")
    if structure is None and "volume_ratio" not in names:
        raise InputError("the table has neither 'structure' nor 'volume_ratio'; stability needs one of them")
    frame = rows.to_pandas()
    nothing = pd.Series([None] * len(frame), dtype=object)
    ratio = pd.to_numeric(frame.get("volume_ratio", nothing), errors="coerce").to_numpy(float)
    texts = nothing if structure is None else frame[structure]
    columns = (texts, frame.get("lattice", nothing), frame["elastic_tensor"], ratio)
    identities = [
        {name: None if name not in frame or pd.isna(frame[name].iloc[i]) else str(frame[name].iloc[i])
         for name in ("material_id", "formula")}
        for i in range(len(frame))
    ]  # fmt: skip
    stated = frame.to_dict("records")
    return [
        Crystal(identity, tensor, text if isinstance(text, str) else None, lattice, float(v), parameters, row)
        for identity, text, lattice, tensor, v, row in zip(identities, *columns, stated, strict=True)
    ]


def _judged(crystal: Crystal) -> pd.DataFrame:
    """Return the interfaces of one crystal, or one row that says why there are none."""
    try:
        if crystal.tensor is None:
            raise InputError("elastic tensor is missing")
        tensor, parameters = corrected(parse_tensor(crystal.tensor), crystal.stated, crystal.parameters)
        structure = None if crystal.structure is None else parse_structure(crystal.structure)
        ratio = crystal.volume_ratio
        if np.isnan(ratio):
            if structure is None:
                raise InputError("volume ratio is missing")
            ratio = shannon_voronoi_ratio(structure)
        reason = crystal_reason(tensor, ratio)
        if reason is not None:
            raise InputError(reason)
        table = crystal_stability(tensor, _cells(crystal, tensor, structure), ratio, parameters=parameters)
    except InputError as error:
        nothing = dict.fromkeys(("volume_ratio", *INTERFACE_COLUMNS))
        return pd.DataFrame([crystal.identity | nothing | {"reason": str(error)}])
    return table.assign(**crystal.identity, volume_ratio=ratio, reason=None)


def _cells(crystal: Crystal, tensor: Any, structure: Structure | None) -> list[OrientedTensor]:
    """Return the frames of a tensor: the one that is stated with a lattice, or what symmetry allows."""
    if crystal.lattice is not None:
        return [OrientedTensor("stated", _lattice(crystal.lattice), 0.0)]
    if crystal.parameters.convention == "published":
        raise InputError(
            "lattice is missing; the published convention takes the conventional cell in the tensor's axes"
        )
    if structure is None:
        raise InputError("structure is missing; give a CIF, a POSCAR or pymatgen JSON")
    return oriented_tensors(tensor, structure)


def _lattice(value: Any) -> Any:
    try:
        raw = json.loads(value) if isinstance(value, str) else value
        lattice = np.concatenate([np.asarray(row, dtype=np.float64).ravel() for row in raw])
    except (TypeError, ValueError) as error:
        raise InputError(f"lattice cannot be read ({error}); give the rows a, b, c in A") from error
    if lattice.size != 9 or not np.isfinite(lattice).all() or abs(np.linalg.det(lattice.reshape(3, 3))) < 1e-6:
        raise InputError("lattice is not three vectors that span a volume; give the rows a, b, c in A")
    return lattice.reshape(3, 3)
