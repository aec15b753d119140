"""Typed parameters of the stages.

Each class is one stage's whole configuration: the fields go into the artifact's key, are validated where they enter
(YAML, CLI, Prefect form), and their descriptions are what the Prefect UI shows beside the form.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator


class Parameters(BaseModel):
    """Base of all stage parameters: frozen, and an unknown field is an error instead of a silent default."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceParameters(Parameters):
    """Where a table comes from and what its energies are."""

    source: str = Field("starter", description="`starter`, or `file:PATH` (CSV, JSON, JSON lines or Parquet, .gz too)")
    columns: dict[str, str] = Field(
        default_factory=dict,
        description="the file's column -> ours, for example {'delta_e': 'formation_energy_per_atom'}",
    )
    database: str = Field("file", description="name of the database the rows came from: oqmd, mp, jarvis, ...")
    release: str = Field("unstated", description="release of that database; part of the energy scheme")
    functional: str | None = Field(None, description="pbe, pbe+u, r2scan, mixed, chgnet, experiment")
    corrections: str = Field("none", description="U values and corrections the energies carry")
    temperature: float | None = Field(None, description="temperature of measured values [K]; empty for computed ones")

    @field_validator("source")
    @classmethod
    def _known_source(cls, value: str) -> str:
        if value == "starter" or value.startswith("file:"):
            return value
        raise ValueError(f"source '{value}' is not known; use 'starter' or 'file:PATH'")


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
    audit_references: bool = Field(True, description="look for wrong elemental references and correct them")


class TrainParameters(Parameters):
    """A composition network and how it is trained."""

    network: Literal["elemnet"] = Field("elemnet", description="architecture")
    target: Literal["formation_energy_per_atom"] = Field("formation_energy_per_atom", description="column to learn")
    preset: Literal["standard", "small"] = Field("standard", description="`small` for some thousand rows")
    epochs: int | None = Field(None, ge=1, description="passes over the data; empty: the preset's")
    batch_size: int | None = Field(None, ge=1, description="rows per step; empty: the preset's")
    members: int = Field(1, ge=1, le=20, description="networks in the ensemble")
    seed: int = Field(0, description="seed of weights and row order; member m uses seed + m")
    threads: int = Field(2, ge=1, description="CPU threads; part of the key, because sums differ with it")


class SpaceParameters(Parameters):
    """A composition space: every A_w B_x (C_y (D_z)) of the elements with w+x+y+z at most `max_atoms`."""

    elements: tuple[str, ...] | None = Field(None, description="elements to combine; empty: all 86")
    required: tuple[str, ...] = Field((), description="elements that every composition contains")
    arities: tuple[int, ...] = Field((2, 3), description="numbers of elements per composition")
    max_atoms: int = Field(10, ge=2, le=24, description="atoms per formula unit at most")


class ScreenParameters(Parameters):
    """What is screened and what is kept."""

    spaces: tuple[SpaceParameters, ...] = Field(
        (SpaceParameters(),), min_length=1, description="spaces, one after another"
    )
    threshold: float = Field(
        -0.2,
        description="keep compositions whose predicted energy minus the hull of all others is at most this [eV/atom]",
    )
    allow_mixed_scheme: bool = Field(
        False, description="go on although network and phases are of different energy schemes"
    )
    min_training_rows: int = Field(100, ge=0, description="an element with fewer training rows is out of domain")


class ModuliParameters(Parameters):
    """The crystal-graph network for bulk and shear modulus."""

    members: int = Field(3, ge=1, le=20, description="networks in the ensemble")
    epochs: int | None = Field(None, ge=1, description="passes over the data; empty: the network's default")
    seed: int = Field(0, description="seed of folds, weights and row order")
    threads: int = Field(1, ge=1, description="CPU threads; part of the key, because sums differ with it")


class RankParameters(Parameters):
    """Which candidates are ranked and at what interface wavelength."""

    metal: Literal["Li"] = Field("Li", description="the metal electrode")
    max_energy_above_hull: float | None = Field(0.05, ge=0, description="stability filter [eV/atom]; empty: off")
    min_band_gap: float | None = Field(1.0, ge=0, description="insulators only [eV]; empty: off")
    keep_unknown: bool = Field(True, description="keep rows whose energy above hull or band gap is not known")
    allow_radioactive: bool = Field(False, description="keep radioactive elements")
    wavenumber: float = Field(1e8, gt=0, description="wavenumber k of the interface roughness [1/m]")
    prefer_stated: bool = Field(True, description="use stated moduli where a row has them, predicted ones elsewhere")
    samples: int = Field(1024, ge=64, description="draws of the moduli's errors for P(chi < 0); a power of two")
    seed: int = Field(0, description="seed of the draws")
