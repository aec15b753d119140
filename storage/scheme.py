"""Energy schemes: what an energy was computed with, and the check that two tables share it."""

from __future__ import annotations

import json

import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from storage.canonical import canonical_bytes
from storage.errors import SchemaError, SchemeMismatch

METADATA_KEY = b"energy_scheme"


class EnergyScheme(BaseModel):
    """What has to be equal before two formation energies may be compared."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str = Field(
        description="database or programme the energies come from, e.g. oqmd, mp, selfbuilt", min_length=1
    )
    release: str = Field(description="release, database version or date of the source", min_length=1)
    functional: str = Field(description="pbe, pbe+u, r2scan, mixed, chgnet, experiment", min_length=1)
    corrections: str = Field(default="none", description="Hubbard U and energy corrections in use")
    elemental_references: str = Field(
        default="as published", description="where the elemental reference energies come from"
    )

    @property
    def label(self) -> str:
        """Short text for messages and reports, e.g. ``oqmd 1.2 pbe+u``; unusual settings in brackets."""
        extra = []
        if self.corrections != "none":
            extra.append(f"corrections: {self.corrections}")
        if self.elemental_references != "as published":
            extra.append(f"references: {self.elemental_references}")
        return f"{self.source} {self.release} {self.functional}" + (f" ({'; '.join(extra)})" if extra else "")


def check_same_scheme(a: EnergyScheme | None, b: EnergyScheme | None, what: str, allow_mixed: bool = False) -> bool:
    """Check that two energy schemes are the same.

    Parameters
    ----------
    a, b
        The schemes; None where a table states none. Two unstated schemes count as the same.
    what
        What is being compared, for the message, e.g. ``"model and phases"``.
    allow_mixed
        Accept a mismatch.

    Returns
    -------
    bool
        True when the schemes differ and that was allowed: the caller marks its rows (column ``mixed_scheme``).

    Raises
    ------
    SchemeMismatch
        When they differ and `allow_mixed` is false.
    """
    if a == b:
        return False
    if allow_mixed:
        return True
    left, right = (scheme.label if scheme else "no stated scheme" for scheme in (a, b))
    if a is None or b is None:
        remedy = "state it with --energy-scheme, or accept the mixture with --allow-mixed-scheme"
    else:
        remedy = "use tables of one scheme, or accept the mixture with --allow-mixed-scheme"
    raise SchemeMismatch(f"{what}: energy schemes differ ({left} against {right}); {remedy}")


def table_scheme(table: pa.Table | pa.Schema) -> EnergyScheme | None:
    """Return the energy scheme that a table (or schema) states in its metadata, or None.

    Raises
    ------
    SchemaError
        When the metadata entry is there and cannot be read as a scheme.
    """
    schema = table if isinstance(table, pa.Schema) else table.schema
    raw = (schema.metadata or {}).get(METADATA_KEY)
    if raw is None:
        return None
    try:
        return EnergyScheme.model_validate(json.loads(raw))
    except (ValueError, ValidationError) as error:
        raise SchemaError(
            "the table's energy_scheme metadata is not a valid scheme; write the table again, or state --energy-scheme"
        ) from error


def with_scheme(table: pa.Table, scheme: EnergyScheme | None) -> pa.Table:
    """Return the table with `scheme` in its metadata (None removes it); the columns are shared, not copied."""
    metadata = {key: value for key, value in (table.schema.metadata or {}).items() if key != METADATA_KEY}
    if scheme is not None:
        metadata[METADATA_KEY] = canonical_bytes(scheme)
    return table.replace_schema_metadata(dict(sorted(metadata.items())) or None)
