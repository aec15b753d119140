"""Parameters of a training: which network, and how it is trained."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from models.registry import BASELINE_NAMES, NETWORKS
from tasks.parameters import Parameters

ENERGY = "formation_energy_per_atom"
"""What is learnt where nothing else is asked for."""


class TransferParameters(Parameters):
    """What becomes of the weights of the network that a training starts from."""

    frozen: int = Field(0, ge=0, description="groups of layers, from the input on, that keep their weights")
    rate_decay: float = Field(
        1.0, gt=0, le=1, description="factor on the learning rate from one group of layers to the one before it"
    )


class TrainParameters(Parameters):
    """The network, and how it is trained."""

    network: str = Field(
        "elemnet",
        description="architecture: elemnet, attention, residual, multi_property; in cross-validations also linear, "
        "ridge, random_forest, gradient_boosting, svr and logistic",
    )
    architecture: dict[str, Any] = Field(
        default_factory=dict, description="its parameters that differ from the default, for example {'depth': 48}"
    )
    representation: Literal["element_fraction", "magpie", "voronoi", "magpie+voronoi"] = Field(
        "element_fraction", description="what the network reads of a compound"
    )
    target: str = Field(ENERGY, description="column to learn; several, joined by commas, with multi_property")
    preset: Literal["auto", "standard", "small"] = Field(
        "auto", description="`standard`, `small` for less than 30,000 rows, or which of them their number says"
    )
    epochs: int | None = Field(None, ge=1, description="passes over the data; empty: the preset's, of few rows more")
    batch_size: int | None = Field(None, ge=1, description="rows per step; empty: the preset's")
    settings: dict[str, Any] = Field(
        default_factory=dict,
        description="further settings of the trainer, for example {'loss': 'robust_l1', 'patience': 10}",
    )
    members: int = Field(1, ge=1, le=20, description="networks in the ensemble")
    restarts: int = Field(
        0,
        ge=0,
        le=20,
        description="times that a network goes on when its epochs are over, the learning rate rising once more; what "
        "it was before stays in the ensemble",
    )
    restart_epochs: int | None = Field(None, ge=1, description="passes of a restart; empty: half as many as before it")
    passes: int = Field(0, ge=0, description="predictions per network with dropout on; 0: off")
    seed: int = Field(0, description="seed of weights and row order; member m uses seed + m")
    threads: int = Field(2, ge=1, description="CPU threads; part of the key, because sums differ with it")
    checkpoint_minutes: float | None = Field(
        None, ge=0, description="time between two checkpoints; empty: 20 s; no part of the result"
    )
    transfer: TransferParameters | None = Field(None, description="with --init: frozen layers and their rates")

    @property
    def targets(self) -> tuple[str, ...]:
        """Columns to learn."""
        return tuple(name.strip() for name in self.target.split(",") if name.strip())

    @model_validator(mode="after")
    def _known(self) -> TrainParameters:
        if self.network not in (*NETWORKS, *BASELINE_NAMES):
            names = ", ".join((*NETWORKS, *BASELINE_NAMES))
            raise ValueError(f"network '{self.network}' is not known; choose one of {names}")
        if not self.targets:
            raise ValueError("name a column to learn")
        if self.restart_epochs is not None and not self.restarts:
            raise ValueError("restart_epochs are the passes of restarts: say how many restarts")
        if self.restarts and self.network in BASELINE_NAMES:
            raise ValueError(f"{self.network} has no epochs to go on from: leave restarts out")
        if doubled := sorted({"seed", "threads", "epochs", "batch_size"} & set(self.settings)):
            raise ValueError(f"'{doubled[0]}' is a parameter of its own; leave it out of settings")
        return self
