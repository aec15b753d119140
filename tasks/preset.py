"""Which preset of the trainer suits a training, where a user left it open: the number of its rows decides."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import pyarrow as pa
import pyarrow.compute as pc

from models.registry import BASELINE_NAMES
from models.training_parameters import preset_for
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.train_parameters import TrainParameters

FEW_ROWS_STEPS = 1_000
"""Steps at least, where nobody said how often few rows are to be passed over."""


def resolved(parameters: TrainParameters, n_rows: Callable[[], int]) -> TrainParameters:
    """Return the parameters with the preset that suits the training rows, where it was left open.

    Few rows are passed over until there were `FEW_ROWS_STEPS` steps, unless the passes were stated. Baselines have no
    trainer, and so no preset.

    Parameters
    ----------
    parameters
        Network and trainer.
    n_rows
        Counts the rows that are learnt from; called where it matters.
    """
    if parameters.preset != "auto" or parameters.network in BASELINE_NAMES:
        return parameters
    preset, settings = preset_for(n_rows()), parameters.settings
    if preset == "small" and parameters.epochs is None:
        settings = {"min_steps": FEW_ROWS_STEPS} | settings
    return parameters.model_copy(update={"preset": preset, "settings": settings})


def n_training_rows(rows: ArtifactRef, attributes: ArtifactRef | None = None, taught: ArtifactRef | None = None) -> int:
    """Return how many rows a network learns from.

    Parameters
    ----------
    rows
        A `features` or `examples` artifact, of which the rows of the split ``train`` count.
    attributes
        Structural attributes, where the network reads them: rows without do not count.
    taught
        Compositions of a teacher, which count as well.
    """
    table = ArtifactStore.from_ref(rows).read_table(rows, columns=["material_id", "split"])
    learnt = pc.equal(table.column("split"), "train")
    if attributes is not None:
        learnt = pc.and_(learnt, pc.is_in(table.column("material_id"), value_set=with_structures(attributes)))
    n = int(pc.sum(learnt).as_py() or 0)
    return n if taught is None else n + ArtifactStore.from_ref(taught).manifest(taught).counts["rows"]


@lru_cache(maxsize=4)
def with_structures(attributes: ArtifactRef) -> pa.Array:
    """Return the identifiers of the rows that have structural attributes."""
    table = ArtifactStore.from_ref(attributes).read_table(attributes, columns=["material_id"])
    return table.column("material_id").combine_chunks()
