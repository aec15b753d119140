"""Parameters of the discovery back-test: what is held out, and how the held-out rows are judged."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from models.backtest import THRESHOLDS
from models.formula import parse_many
from tasks.parameters import Parameters


class HoldoutParameters(Parameters):
    """Which rows are kept back."""

    by: Literal["pairs", "release"] = Field(
        "pairs",
        description="pairs: everything that contains both elements of a drawn pair; release: what first appears in "
        "later releases",
    )
    share: float = Field(0.1, gt=0, lt=1, description="pairs: about this part of the compounds is held out")
    seed: int = Field(0, ge=0, description="pairs: seed of the draw")
    releases: tuple[str, ...] = Field((), description="release: the early ones, which are learnt from")
    earliest: int | None = Field(
        None, ge=1, description="release: as many of the earliest are learnt from; empty: all but the latest"
    )

    @model_validator(mode="after")
    def _one_way_to_name_releases(self) -> HoldoutParameters:
        if self.releases and self.earliest is not None:
            raise ValueError("give the early releases by name or by number, not both")
        return self

    def description(self) -> dict[str, Any]:
        """Return what of this decides the result: the fields of the other way of holding out do not."""
        used = {"pairs": {"by", "share", "seed"}, "release": {"by", "releases", "earliest"}}[self.by]
        return self.model_dump(mode="json", include=used)


class JudgeParameters(Parameters):
    """How held-out rows are judged."""

    thresholds: tuple[float, ...] = Field(
        THRESHOLDS, min_length=1, description="predicted decomposition energies that select a compound [eV/atom]"
    )
    min_training_rows: int = Field(100, ge=0, description="an element with fewer training rows is out of domain")
    canaries: tuple[str, ...] = Field(
        ("KF6", "NaF8", "OF9", "SeF9"), description="compositions that no chemist believes, reported whatever comes"
    )
    n_bins: int = Field(10, ge=2, le=100, description="bins of the reliability tables")

    @field_validator("thresholds")
    @classmethod
    def _from_mild_to_strict(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(sorted(set(value), reverse=True))

    @field_validator("canaries")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        parsed = parse_many(value)
        wrong = [reason for reason in parsed.reason if reason is not None]
        if wrong:
            raise ValueError(wrong[0])
        return tuple(parsed.reduced)
