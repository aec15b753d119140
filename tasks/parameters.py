"""Typed parameters of the stages.

Each class is one stage's whole configuration: the fields go into the artifact's key, are validated where they enter
(YAML, CLI, Prefect form), and their descriptions are what the Prefect UI shows beside the form.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from models.elements import ALL_SYMBOLS
from storage.artifact import ArtifactRef
from storage.schemas import SCHEMAS


class Parameters(BaseModel):
    """Base of all stage parameters: frozen, and an unknown field is an error instead of a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


Property = Literal[
    "formation_energy", "energy_above_hull", "band_gap", "volume", "structure", "elasticity", "elastic_tensor"
]


class QueryParameters(Parameters):
    """Which part of a database is asked for, and which properties; of no meaning for files."""

    chemsys: tuple[str, ...] = Field((), description="chemical systems, each exactly: Li-P-S is without Li-P")
    elements: tuple[str, ...] = Field((), description="everything made of nothing but these elements")
    ids: tuple[str, ...] = Field((), description="identifiers in the database")
    properties: tuple[Property, ...] = Field(
        ("formation_energy", "energy_above_hull", "band_gap", "volume"), description="what is asked for"
    )
    thermo_type: Literal["GGA_GGA+U_R2SCAN", "GGA_GGA+U", "R2SCAN"] = Field(
        "GGA_GGA+U_R2SCAN", description="Materials Project: which calculations the energies come from"
    )
    include_restricted: bool = Field(
        False, description="Materials Project: also records that may not be used commercially (CC BY-NC)"
    )
    as_of: str | None = Field(
        None,
        description="the day that a database without versions is read at, YYYY-MM-DD; empty: that of the run",
        pattern=r"^\d{4}-\d{2}-\d{2}$",
    )
    page_size: int = Field(500, ge=1, le=1000, description="rows per page; no part of the result")

    @field_validator("chemsys")
    @classmethod
    def _sorted_systems(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple("-".join(_elements(system.split("-"))) for system in value)

    @field_validator("elements")
    @classmethod
    def _known_elements(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(_elements(value))

    @property
    def whole(self) -> bool:
        """Whether nothing is filtered."""
        return not (self.chemsys or self.elements or self.ids)

    @property
    def day(self) -> str:
        """The day that the database is read at."""
        return self.as_of or datetime.now(UTC).date().isoformat()


def _elements(symbols: Iterable[str]) -> list[str]:
    unknown = [symbol for symbol in symbols if symbol not in ALL_SYMBOLS]
    if unknown:
        raise ValueError(f"'{unknown[0]}' is no element; write systems as Li-P-S")
    return sorted(symbols)


class ServiceParameters(Parameters):
    """How a database is reached; of no meaning for files."""

    endpoint: str | None = Field(None, description="root of the server; empty: the database's own")
    cache: str | None = Field(
        None, description="Materials Project: folder for the whole collection, which is then downloaded in one piece"
    )
    key_block: str | None = Field(
        None, description="Prefect secret block that holds the API key; empty: the environment's MP_API_KEY"
    )
    requests_per_second: float | None = Field(None, gt=0, description="empty: what the database bears")
    concurrency: int | None = Field(None, ge=1, description="requests at once, over all workers; empty: likewise")
    attempts: int = Field(8, ge=1, description="tries per page")
    first_pause_s: float = Field(1.0, ge=0, description="pause after the first failed try [s]; it doubles every time")
    longest_pause_s: float = Field(60.0, ge=0, description="longest pause between two tries [s]")
    read_timeout_s: float = Field(120.0, gt=0, description="longest silence of the server [s]")


class SourceParameters(Parameters):
    """Where a table comes from and what its energies are."""

    source: str = Field(
        "starter",
        description="`starter`, `mp`, `oqmd`, `jarvis`, `optimade:URL`, "
        "or `file:PATH` (CSV, JSON, JSON lines or Parquet, .gz too)",
    )
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="the file's (or provider's) column -> ours, for example {'delta_e': 'formation_energy_per_atom'}",
    )
    database: str = Field("file", description="files: name of the database the rows came from: oqmd, mp, jarvis, ...")
    release: str = Field("unstated", description="files: release of that database; part of the energy scheme")
    functional: str | None = Field(None, description="pbe, pbe+u, r2scan, mixed, chgnet, experiment")
    corrections: str = Field("none", description="U values and corrections the energies carry")
    temperature: float | None = Field(None, description="temperature of measured values [K]; empty for computed ones")
    identities: str | None = Field(
        None, description="files without formulas: a table with material_id and formula to take them from"
    )
    further: tuple[str, ...] = Field(
        (), description="files: columns that are none of ours, of numbers or of yes and no, to learn or to probe"
    )
    query: QueryParameters = Field(default_factory=QueryParameters, description="databases: what is asked for")
    service: ServiceParameters = Field(default_factory=ServiceParameters, description="databases: how they are reached")

    @model_serializer(mode="wrap")
    def _only_what_there_is(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave `further` out where it is empty: keys of files that were read before there was it stay the same."""
        data: dict[str, Any] = handler(self)
        if not self.further:
            data.pop("further", None)
        return data

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if value in ("starter", "mp", "oqmd", "jarvis") or value.startswith(("file:", "optimade:")):
            return value
        raise ValueError(f"source '{value}' is not known; use starter, mp, oqmd, jarvis, optimade:URL or file:PATH")

    @field_validator("further")
    @classmethod
    def _none_of_ours(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name in SCHEMAS["compounds"].arrow.names:
                raise ValueError(f"'{name}' is a column of ours, which is kept anyway; leave it out")
        return tuple(dict.fromkeys(value))

    @model_validator(mode="after")
    def _further_columns_of_files(self) -> SourceParameters:
        if self.further and not self.source.startswith("file:"):
            raise ValueError(f"further columns are kept of files, not of {self.source}; leave them out")
        return self

    @model_validator(mode="after")
    def _measured_at_a_temperature(self) -> SourceParameters:
        if self.functional == "experiment" and self.temperature is None and "temperature" not in self.columns.values():
            raise ValueError(
                "measured values need the temperature they hold at: give --temperature, or map a column to it"
            )
        if self.functional != "experiment" and self.temperature is not None:
            raise ValueError("computed values have no temperature: state --functional experiment, or leave it away")
        return self

    @property
    def is_service(self) -> bool:
        """Whether the rows come from a database that is asked page by page."""
        return self.source in ("mp", "oqmd", "jarvis") or self.source.startswith("optimade:")


class CleanParameters(Parameters):
    """Rules that turn raw rows into the hull's phases and the network's training rows."""

    lowest_energy: float = Field(-6.0, description="physical range of a formation energy, lower end [eV/atom]")
    highest_energy: float = Field(6.0, description="physical range of a formation energy, upper end [eV/atom]")
    n_sigma: float = Field(5.0, gt=0, description="training rows lie within this many standard deviations of the mean")
    calibration_fraction: float = Field(
        0.05, gt=0, lt=0.5, description="part of the training rows, by whole chemical systems, kept for calibration"
    )
    validation_fraction: float = Field(
        0.1,
        ge=0,
        lt=0.5,
        description="part of the rows, by whole chemical systems, only measured; used when the table has no split",
    )
    seed: int = Field(0, description="seed of the split")
    source: str | None = Field(
        None, description="which source's rows, where a table has several side by side; empty: all, of one scheme"
    )
    allow_mixed_scheme: bool = Field(False, description="take all sources together although their energies differ")
    audit_references: bool = Field(True, description="look for wrong elemental references and correct them")


class SpaceParameters(Parameters):
    """A composition space: every A_w B_x (C_y (D_z)) of the elements with w+x+y+z at most `max_atoms`; or a list."""

    elements: tuple[str, ...] | None = Field(None, description="elements to combine; empty: all 86")
    excluded: tuple[str, ...] = Field((), description="elements that no composition contains")
    required: tuple[str, ...] = Field((), description="elements that every composition contains")
    arities: tuple[int, ...] = Field((2, 3), description="numbers of elements per composition")
    max_atoms: int = Field(10, ge=2, le=24, description="atoms per formula unit at most")
    formulas: str | ArtifactRef | None = Field(
        None,
        description="a list instead: table with the column `formula`, text file with one per line, artifact or key",
    )

    @model_validator(mode="after")
    def _list_or_rule(self) -> SpaceParameters:
        rules = ("elements", "excluded", "required", "arities", "max_atoms")
        fields = type(self).model_fields
        stated = [name for name in rules if getattr(self, name) != fields[name].default]
        if self.formulas is not None and stated:
            raise ValueError(f"a list of formulas is screened as it is: leave {', '.join(stated)} out")
        return self

    @model_serializer(mode="wrap")
    def _only_what_counts(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave out what has no meaning: keys of artifacts made before there were lists stay what they were."""
        data: dict[str, Any] = handler(self)
        if self.formulas is None:
            data.pop("formulas", None)
            return data
        return {"formulas": self.formulas if isinstance(self.formulas, str) else self.formulas.key}


class StudentParameters(Parameters):
    """The cascade's student: a small network that clears what is far from the threshold."""

    widths: tuple[int, ...] = Field(
        (256, 256, 256, 128, 64, 1), min_length=1, description="units of its layers, the last being its energy"
    )
    labelled: int = Field(4_000_000, ge=1, description="compositions that the network labels for it")
    steps: int = Field(8_000, ge=1, description="steps of its training")
    batch_rows: int = Field(1024, ge=1, description="rows per step")
    recall: float = Field(
        0.9999, gt=0, le=1, description="share of the survivors it has to leave, on the sample that sets its margin"
    )
    sample: int = Field(
        2_000_000, ge=1, description="compositions in each of two samples: for its margin, and to measure its recall"
    )
    seed: int = Field(0, ge=0, description="seed of its weights and of all samples")


class ScreenParameters(Parameters):
    """What is screened and what is kept."""

    spaces: tuple[SpaceParameters, ...] = Field((SpaceParameters(),), description="spaces, one after another")
    threshold: float = Field(
        -0.2,
        description="keep compositions whose predicted energy minus the hull of all others is at most this [eV/atom]",
    )
    allow_mixed_scheme: bool = Field(
        False, description="go on although network and phases are of different energy schemes"
    )
    min_training_rows: int = Field(100, ge=0, description="an element with fewer training rows is out of domain")
    charge_balance: Literal["column", "filter"] = Field(
        "column",
        description="column: say which candidates integer oxidation states can balance; filter: keep only those, and "
        "the ones without a typical non-metal, where the rule does not apply",
    )
    precision: Literal["fp32", "fast"] = Field(
        "fp32",
        description="fast: bytes first, fp32 for what lies near or below the threshold; the same candidates, two to "
        "four times as fast on processors with VNNI instructions",
    )
    precision_sample: int = Field(
        1_000_000, ge=1, description="compositions on which the fast mode is compared with fp32 first"
    )
    keep_predictions: bool = Field(
        False, description="keep the predicted energy of every composition, 3.2 bytes each; with precision fp32 only"
    )
    student: StudentParameters | None = Field(
        None,
        description="a cascade: a small network clears what is far above the threshold, and a measured share of the "
        "candidates is lost; empty: off",
    )

    @field_validator("spaces")
    @classmethod
    def _at_least_one(cls, value: tuple[SpaceParameters, ...]) -> tuple[SpaceParameters, ...]:
        # no `min_length`: of one wrong space pydantic would say that the tuple is too short as well
        if not value:
            raise ValueError("a screen needs at least one space")
        return value

    @model_validator(mode="after")
    def _all_or_fast(self) -> ScreenParameters:
        if self.keep_predictions and (self.is_fast or self.student):
            raise ValueError(
                "keep_predictions needs precision fp32 and no student: otherwise not every energy is computed in full "
                "precision"
            )
        return self

    @model_serializer(mode="wrap")
    def _only_what_is_used(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Leave an option out that is not used: keys of artifacts made before there was one stay what they were."""
        data: dict[str, Any] = handler(self)
        for name in ("keep_predictions", "student"):
            if not getattr(self, name):
                data.pop(name, None)
        return data

    @property
    def is_fast(self) -> bool:
        """Whether the fast mode sieves first."""
        return self.precision == "fast"


class ModuliParameters(Parameters):
    """What bulk and shear moduli are learnt by: crystal-graph networks, boosted trees and kernel machines."""

    members: int = Field(3, ge=1, le=20, description="networks in the ensemble, each with trees and a kernel machine")
    epochs: int | None = Field(None, ge=1, description="passes over the data; empty: the network's default")
    seed: int = Field(0, description="seed of folds, weights and row order")
    threads: int = Field(1, ge=1, description="CPU threads; part of the key, because sums differ with it")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="further settings, for example {'n_convolutions': 4, 'loss': 'mse', 'n_trees': 0}",
    )

    @field_validator("settings")
    @classmethod
    def _are_settings(cls, value: dict[str, Any]) -> dict[str, Any]:
        if doubled := sorted({"epochs", "seed", "threads"} & set(value)):
            raise ValueError(f"'{doubled[0]}' is a parameter of its own; leave it out of settings")
        return value


class RankParameters(Parameters):
    """Which candidates are ranked and at what interface wavelength."""

    metal: Literal["Li", "Na", "K", "Mg", "Zn", "Al"] = Field("Li", description="the metal electrode")
    max_energy_above_hull: float | None = Field(0.05, ge=0, description="stability filter [eV/atom]; empty: off")
    min_band_gap: float | None = Field(1.0, ge=0, description="insulators only [eV]; empty: off")
    keep_unknown: bool = Field(True, description="keep rows whose energy above hull or band gap is not known")
    allow_radioactive: bool = Field(False, description="keep radioactive elements")
    forbid_redox_active: bool = Field(False, description="no metals that the electrode reduces, such as Ti, W or Sn")
    max_reduction_potential: float | None = Field(
        None, description="reduced at this potential at most [V against the metal]; empty: off"
    )
    min_oxidation_potential: float | None = Field(
        None, description="oxidised at this potential at least [V against the metal]; empty: off"
    )
    wavenumber: float = Field(1e8, gt=0, description="wavenumber k of the interface roughness [1/m]")
    prefer_stated: bool = Field(True, description="use stated moduli where a row has them, predicted ones elsewhere")
    samples: int = Field(1024, ge=64, description="draws of the moduli's errors for P(chi < 0); a power of two")
    seed: int = Field(0, description="seed of the draws")
