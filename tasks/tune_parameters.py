"""Parameters of a hyper-parameter search, and a training with the settings that it tries."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, Final, Literal

from pydantic import Field, field_validator, model_validator

from models.halving import ETA, Rung, halving_plan
from models.registry import BASELINE_NAMES
from models.search import STARTUP, Configuration, Search, parse_space
from models.training_parameters import TrainingParameters
from tasks.parameters import Parameters
from tasks.train_parameters import TrainParameters
from tasks.validation_parameters import ValidationParameters

Metric = Literal["mae", "rmse", "accuracy", "f1", "auc"]

_FIXED: Final = frozenset({"network", "target", "epochs", "seed", "threads", "architecture", "settings", "transfer"})
"""Fields of a training that a search leaves alone: the task, the budget, and what holds others."""


class TuneParameters(Parameters):
    """What is searched, how, and on which rows a trial is measured: on none of the table's validation rows."""

    space: tuple[str, ...] = Field(
        ("learning_rate=1e-4..1e-2:log",),
        description="settings of the training, of the trainer or of the network: NAME=LOW..HIGH[:log][:POINTS in a "
        "grid], whole numbers where both ends are, or NAME=A|B|C",
    )
    sampler: Literal["bayes", "random", "grid"] = Field(
        "bayes", description="grid: every combination; random; bayes: learns from the trials before"
    )
    n_trials: int = Field(16, ge=1, le=10_000, description="configurations tried; grid: all, whatever this says")
    batch: int = Field(4, ge=1, description="bayes: configurations chosen at a time, and trained side by side")
    eta: int = Field(ETA, ge=2, description="successive halving: the best one in so many goes on")
    min_epochs: int | None = Field(
        None, ge=1, description="first budget; empty: two halvings below the full one; max_epochs: stop no trial early"
    )
    max_epochs: int = Field(20, ge=1, description="full budget of a trial")
    metric: Metric | None = Field(
        None, description="what the best trial is best at, on held-out rows; empty: mae, or auc for classes"
    )
    validation: ValidationParameters = Field(
        default_factory=lambda: ValidationParameters(scheme="grouped"), description="folds, of the training rows"
    )
    measured: int = Field(1, ge=1, description="folds that each trial is trained and measured on, the first so many")
    seed: int = Field(0, ge=0, description="seed of the draws")

    @field_validator("space")
    @classmethod
    def _can_be_searched(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for dimension in parse_space(value):
            if dimension.name in _FIXED:
                raise ValueError(f"{dimension.name} is the same for all trials; give it beside the space")
        return value

    @model_validator(mode="after")
    def _budgets_and_folds(self) -> TuneParameters:
        if self.min_epochs is not None and self.min_epochs > self.max_epochs:
            raise ValueError(f"min_epochs is {self.min_epochs}, max_epochs {self.max_epochs}; give the smaller first")
        held = self.validation
        if held.scheme == "split" or held.include_validation:
            raise ValueError("a search never sees the table's validation rows; hold out folds of the training rows")
        if len(held.sizes) > 1:
            raise ValueError("a search trains on one number of rows; give one size, or none")
        if held.scheme in ("random", "grouped") and self.measured > held.folds:
            raise ValueError(f"there are {held.folds} folds, not {self.measured}; measure trials on fewer")
        return self

    @property
    def batch_size(self) -> int:
        """Trials asked for at a time: all of them where the sampler learns nothing."""
        return self.batch if self.sampler == "bayes" else 10_000

    def search(self) -> Search:
        """Return the sampler, at its beginning."""
        startup = min(STARTUP, max(self.batch, self.n_trials // 3))
        return Search(parse_space(self.space), self.sampler, self.seed, startup)

    def rungs(self, search: Search, network: str) -> list[Rung]:
        """Return the budgets; a baseline is fitted without epochs, so all its trials have the same one."""
        n_trials = search.size if self.sampler == "grid" else min(self.n_trials, search.size or self.n_trials)
        assert n_trials is not None
        if network in BASELINE_NAMES:
            return [Rung(n_trials, None)]
        least = self.min_epochs or max(1, self.max_epochs // self.eta**2)
        return halving_plan(n_trials, least, self.max_epochs, self.eta)

    def description(self) -> dict[str, Any]:
        """Return what decides the trials, beside rows and training: part of a key."""
        described = self.model_dump(mode="json", exclude={"validation"})
        return described | {"validation": self.validation.description() | {"sizes": list(self.validation.sizes)}}


def configured(training: TrainParameters, configuration: Configuration, epochs: int | None) -> TrainParameters:
    """Return a training with the settings of a trial and its budget.

    Parameters
    ----------
    training
        What all trials have in common.
    configuration
        Name -> value: of a field of the training, else of the trainer, else of the network (of a baseline, which has no
        trainer, else of the baseline).
    epochs
        The budget; None leaves the training's.

    Raises
    ------
    pydantic.ValidationError
        If a value is none that the field takes.
    """
    given = training.model_dump()
    of_trainer = {field.name for field in fields(TrainingParameters)} - set(TrainParameters.model_fields)
    for name, value in configuration.items():
        if name in TrainParameters.model_fields:
            given[name] = value
        elif name in of_trainer and training.network not in BASELINE_NAMES:
            given["settings"] = given["settings"] | {name: value}
        else:
            given["architecture"] = given["architecture"] | {name: value}
    if epochs is not None:
        given["epochs"] = epochs
    return TrainParameters.model_validate(given)
