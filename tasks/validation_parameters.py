"""Parameters of cross-validations: how rows are held out, and what is trained on the rest."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from models.folds import parse_holdout
from tasks.parameters import Parameters
from tasks.train_parameters import TrainParameters


class ValidationParameters(Parameters):
    """Which rows are held out; every network is measured on the same."""

    scheme: Literal["random", "grouped", "elements", "holdout", "split"] = Field(
        "random",
        description="random: k folds of compositions; grouped: of whole chemical systems; elements: each element in "
        "turn; holdout: named systems; split: the validation rows of the table, once",
    )
    folds: int = Field(5, ge=2, le=100, description="folds, of random and grouped")
    holdouts: tuple[str, ...] = Field(
        (),
        description="holdout: two elements, such as Ti-O, hold out all compounds with both; more, such as Na-Fe-Mn-O, "
        "those made of nothing else",
    )
    minimum_rows: int = Field(20, ge=1, description="elements: only those with so many rows")
    sizes: tuple[int, ...] = Field((), description="train on so many of the fold's rows, once each; empty: on all")
    held_fraction: float = Field(
        0.05,
        ge=0,
        lt=0.5,
        description="part of a fold's training rows, by whole chemical systems, kept for early stopping and for the "
        "calibration of uncertainties; `split` takes the table's own calibration rows",
    )
    include_validation: bool = Field(
        False, description="deal the table's validation rows out too, not only its training rows"
    )
    seed: int = Field(0, description="seed of the folds")
    relabel: Literal["decomposition_energy"] | None = Field(
        None,
        description="recompute the labels within each training part: formation energy minus the hull of its other "
        "compositions; empty: the labels as they are",
    )

    @field_validator("holdouts")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for text in value:
            parse_holdout(text)
        return value

    @field_validator("sizes", "holdouts")
    @classmethod
    def _once_each(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(value)) < len(value):
            raise ValueError(f"{', '.join(map(str, value))} has one twice, which would count double; give each once")
        return value

    @model_validator(mode="after")
    def _holdouts_named(self) -> ValidationParameters:
        if (self.scheme == "holdout") != bool(self.holdouts):
            raise ValueError("name the systems that are held out with scheme holdout, for example Ti-O; and only then")
        return self

    def description(self) -> dict[str, Any]:
        """Return what decides the folds, beside the rows: part of a key."""
        used = {"scheme", "seed", "held_fraction", "include_validation"}
        used |= {"random": {"folds"}, "grouped": {"folds"}, "elements": {"minimum_rows"}}.get(self.scheme, set())
        if self.scheme == "split":
            used = {"scheme", "seed"}
        if self.relabel is not None:
            used.add("relabel")
        return self.model_dump(mode="json", include=used)


class EntryParameters(Parameters):
    """One thing that is trained on every fold."""

    name: str = Field(min_length=1, description="name in the tables")
    training: TrainParameters = Field(default_factory=TrainParameters)
    init: str | None = Field(None, description="a model to start from: artifact folder or key")
    as_it_is: bool = Field(False, description="predict with the model to start from, without any training")
    n_seeds: int = Field(1, ge=1, le=50, description="repeat with so many seeds")

    @model_validator(mode="after")
    def _something_to_start_from(self) -> EntryParameters:
        if self.as_it_is and self.init is None:
            raise ValueError(f"entry '{self.name}' is to predict as it is: give a model with init")
        return self

    def seeds(self) -> list[TrainParameters]:
        """Return the training's parameters, one per seed."""
        first = self.training.seed
        step = self.training.members
        return [self.training.model_copy(update={"seed": first + k * step}) for k in range(self.n_seeds)]


def transfer_entries(training: TrainParameters, source: str, unseen: str | None = None) -> tuple[EntryParameters, ...]:
    """Return what a transfer is compared with, all with the same recipe.

    Parameters
    ----------
    training
        How the small table is learnt.
    source
        Key of the model that is transferred.
    unseen
        Key of one that never saw a formula of the small table; None for none.
    """
    scratch = training.model_copy(update={"transfer": None})
    entries = [
        EntryParameters(name="from scratch", training=scratch),
        EntryParameters(name="transferred", training=training, init=source),
        EntryParameters(name="as it is", training=training, init=source, as_it_is=True),
    ]
    if unseen is not None:
        entries.append(EntryParameters(name="transferred, formulas unseen", training=training, init=unseen))
    return tuple(entries)
