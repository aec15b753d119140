"""What an artifact is: the request that names it, the reference to it, and its manifest."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from storage.canonical import plain, pretty_bytes, refuse_secrets, sha256_json
from storage.errors import ArtifactCorrupt, ArtifactNotFound, StoreError
from storage.scheme import EnergyScheme

FORMAT_VERSION = 1
"""Version of the layout of an artifact and of its manifest."""

MANIFEST = "manifest.json"
RUN_RECORD = "run.json"

_NAME = re.compile(r"[a-z][a-z0-9_]*")


class ArtifactRef(BaseModel):
    """A small, serialisable reference to a committed artifact; what tasks pass around instead of tables.

    Attributes
    ----------
    kind
        What it is: compounds, phases, model, candidates, ...
    key
        ``<kind>-<24 hex digits>``.
    digest
        SHA-256 of the content: the same for the same payload, wherever and whenever it was made.
    uri
        The artifact's folder: an absolute path for a local store, an address for an object store.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    key: str
    digest: str
    uri: str


@dataclass(frozen=True)
class ArtifactRequest:
    """Everything that decides what an artifact will hold.

    Attributes
    ----------
    kind
        Kind of the artifact: lower-case letters, digits, underscores.
    stage
        Dotted name of the stage that makes it, e.g. ``tasks.clean``.
    stage_version
        Raised by the stage whenever its result changes for the same input.
    parameters
        Parameters of the stage. Stored in the form JSON gives them; credentials are refused.
    inputs
        Artifacts it is made from, by role.
    energy_scheme
        Scheme of the energies in it, where there are any.

    Raises
    ------
    StoreError
        When a parameter has no JSON form (NaN among them), or looks like a credential.
    """

    kind: str
    stage: str
    stage_version: int
    parameters: dict[str, Any] = field(default_factory=dict)
    inputs: dict[str, ArtifactRef] = field(default_factory=dict)
    energy_scheme: EnergyScheme | None = None

    def __post_init__(self) -> None:
        """Check the names and bring the parameters into their JSON form."""
        if not _NAME.fullmatch(self.kind):
            raise StoreError(f"'{self.kind}' is no artifact kind; use lower-case letters, digits and underscores")
        refuse_secrets(plain(self.parameters, "parameters"))
        object.__setattr__(self, "parameters", plain(self.parameters, "parameters"))
        object.__setattr__(self, "inputs", dict(sorted(self.inputs.items())))

    @property
    def key(self) -> str:
        """The key: kind and the first 24 hex digits of the SHA-256 of everything above."""
        return artifact_key(
            self.kind,
            self.stage,
            self.stage_version,
            self.parameters,
            {name: ref.digest for name, ref in self.inputs.items()},
            self.energy_scheme,
        )


def artifact_key(
    kind: str,
    stage: str,
    stage_version: int,
    parameters: Mapping[str, Any],
    input_digests: Mapping[str, str],
    energy_scheme: EnergyScheme | None,
) -> str:
    """Return the key of the artifact that these decide; inputs count by content, not by where they lie."""
    identity = {
        "kind": kind,
        "stage": stage,
        "stage_version": stage_version,
        "parameters": parameters,
        "inputs": input_digests,
        "energy_scheme": energy_scheme,
    }
    return f"{kind}-{sha256_json(identity)[:24]}"


class InputRecord(BaseModel):
    """An input of an artifact, as its manifest names it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: str
    key: str
    digest: str


class PayloadFile(BaseModel):
    """One payload file: path relative to the attempt's folder, size, SHA-256; rows and schema where it is a table."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    path: str
    bytes: int
    sha256: str
    rows: int | None = None
    schema_name: str | None = None
    schema_version: int | None = None


class Manifest(BaseModel):
    """The deterministic record of an artifact; the artifact exists exactly when this file does.

    `digest` covers the content (kind, payload, counts, energy scheme); keys of later artifacts are made from it.
    `checksum` covers the whole manifest, so that an edited one is noticed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: int = FORMAT_VERSION
    kind: str
    key: str
    schema_version: int | None = None
    stage: str
    stage_version: int
    code_version: str
    parameters: dict[str, Any]
    inputs: dict[str, InputRecord]
    energy_scheme: EnergyScheme | None
    payload: list[PayloadFile]
    counts: dict[str, int]
    digest: str
    checksum: str

    @property
    def attempt(self) -> str:
        """Name of the folder, inside the artifact's, that holds the payload."""
        return self.digest[:16]

    @property
    def rows(self) -> int | None:
        """Rows of the main table ``<kind>.parquet`` (or its parts), or None where there is none."""
        main = [f.rows for f in self.payload if f.path == f"{self.kind}.parquet" or f.path.startswith(f"{self.kind}/")]
        known = [rows for rows in main if rows is not None]
        return sum(known) if known else None

    def file(self, path: str) -> PayloadFile:
        """Return the entry of a payload file; ArtifactNotFound names the files there are."""
        for entry in self.payload:
            if entry.path == path:
                return entry
        raise ArtifactNotFound(
            f"artifact {self.key} has no file '{path}'; it has {', '.join(f.path for f in self.payload)}"
        )

    def tables(self, name: str | None = None) -> list[PayloadFile]:
        """Return the file of a table, or its parts; the main table ``<kind>``, or the only one, by default."""
        wanted = (name or self.kind).removesuffix(".parquet")
        tables = [entry for entry in self.payload if entry.path.endswith(".parquet")]
        found = [entry for entry in tables if entry.path == f"{wanted}.parquet" or entry.path.startswith(f"{wanted}/")]
        if not found and name is None:
            found = [entry for entry in tables if not entry.path.startswith("rejected/")]
            found = found if len(found) == 1 else []
        if not found:
            names = ", ".join(entry.path for entry in tables) or "none"
            raise ArtifactNotFound(f"artifact {self.key} has no table '{wanted}'; its tables: {names}")
        return found

    def to_bytes(self) -> bytes:
        """Return the bytes of ``manifest.json``."""
        return pretty_bytes(self)


def make_manifest(request: ArtifactRequest, payload: list[PayloadFile], counts: Mapping[str, int]) -> Manifest:
    """Return the manifest of a finished artifact."""
    payload = sorted(payload, key=lambda entry: entry.path)
    main = next((entry for entry in payload if entry.path == f"{request.kind}.parquet"), None)
    fields: dict[str, Any] = {
        "format_version": FORMAT_VERSION,
        "kind": request.kind,
        "key": request.key,
        "schema_version": main.schema_version if main else None,
        "stage": request.stage,
        "stage_version": request.stage_version,
        "code_version": code_version(),
        "parameters": request.parameters,
        "inputs": {name: {"kind": r.kind, "key": r.key, "digest": r.digest} for name, r in request.inputs.items()},
        "energy_scheme": request.energy_scheme.model_dump() if request.energy_scheme else None,
        "payload": [entry.model_dump() for entry in payload],
        "counts": dict(sorted(counts.items())),
    }
    fields["digest"] = _content_digest(fields)
    fields["checksum"] = sha256_json(fields)
    return Manifest.model_validate(fields)


def _content_digest(fields: Mapping[str, Any]) -> str:
    content = {name: fields[name] for name in ("kind", "payload", "counts", "energy_scheme")}
    return sha256_json(content)


def read_manifest(data: bytes, where: str) -> Manifest:
    """Parse and check the bytes of a manifest.

    Raises
    ------
    ArtifactCorrupt
        When it is not a manifest, or its checksum, content digest or key does not match what it says.
    StoreError
        When a newer version of this programme wrote it.
    """
    damaged = f"the manifest {where} is damaged; run the stage again to rebuild it, or restore it from a copy"
    try:
        fields = json.loads(data)
        newer = int(fields["format_version"]) > FORMAT_VERSION
    except (ValueError, KeyError, TypeError) as error:
        raise ArtifactCorrupt(damaged) from error
    if newer:
        raise StoreError(
            f"{where} was written by a newer elemscreen (format {fields['format_version']}); upgrade elemscreen"
        )
    try:
        manifest = Manifest.model_validate(fields)
    except ValidationError as error:
        raise ArtifactCorrupt(damaged) from error
    unsigned = {name: value for name, value in fields.items() if name != "checksum"}
    digests = {name: record.digest for name, record in manifest.inputs.items()}
    identity = (
        manifest.kind,
        manifest.stage,
        manifest.stage_version,
        manifest.parameters,
        digests,
        manifest.energy_scheme,
    )
    sound = (
        sha256_json(unsigned) == manifest.checksum
        and _content_digest(fields) == manifest.digest
        and artifact_key(*identity) == manifest.key
    )
    if not sound:
        raise ArtifactCorrupt(damaged)
    return manifest


def payload_file(path: str, data: Any, size: int, **table: Any) -> PayloadFile:
    """Return the manifest entry of a payload file from an open binary file and its size."""
    return PayloadFile(path=path, bytes=size, sha256=hashlib.file_digest(data, "sha256").hexdigest(), **table)


@cache
def code_version() -> str:
    """Return the installed version of elemscreen, or ``0+unknown`` when it runs from a bare checkout."""
    try:
        return version("elemscreen")
    except PackageNotFoundError:
        return "0+unknown"
