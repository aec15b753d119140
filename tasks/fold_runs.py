"""Every entry on every fold, as Prefect tasks on the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from prefect.futures import PrefectFuture

from storage.artifact import ArtifactRef
from tasks.cross_validation import FoldRun
from tasks.fold import FoldPlan, n_learnt, run_fold
from tasks.inputs import as_model
from tasks.placement import placed
from tasks.preset import resolved
from tasks.train_parameters import TrainParameters
from tasks.validation_parameters import EntryParameters, ValidationParameters
from tasks.window import run_in_window


def run_entries(
    root: str,
    rows: ArtifactRef,
    plans: Sequence[FoldPlan],
    validation: ValidationParameters,
    entries: Sequence[EntryParameters],
    attributes: ArtifactRef | None = None,
    window: int = 64,
) -> list[FoldRun]:
    """Run every entry with every seed on every fold.

    Runs are placed by resource (see `tasks.placement.placed`): those of one thread go side by side, one per worker. The
    rows are read from the store once per worker and kept there.

    Returns
    -------
    list of FoldRun
        In the order of entries, seeds and folds, whatever ran first.
    """
    models = {entry.name: None if entry.init is None else as_model(root, entry.init) for entry in entries}

    def settled(training: TrainParameters, size: int | None) -> TrainParameters:
        """Choose one preset for all folds of a size: what is compared, and averaged, is one recipe."""
        alike = [plan for plan in plans if plan.size == size]
        return resolved(training, lambda: n_learnt(rows, alike, validation, attributes))

    work: list[tuple[EntryParameters, TrainParameters, FoldPlan]] = [
        (entry, settled(training, plan.size), plan) for entry in entries for training in entry.seeds() for plan in plans
    ]

    def submit(item: tuple[EntryParameters, TrainParameters, FoldPlan]) -> PrefectFuture[Any]:
        entry, training, plan = item
        with placed(training.threads):
            return run_fold.submit(
                root, rows, plan, validation, training, models[entry.name], entry.as_it_is, attributes
            )

    refs = run_in_window(submit, work, window, "folds", lambda item: 1, "folds")
    return [
        FoldRun(entry.name, training.seed, plan.name, plan.size, ref)
        for (entry, training, plan), ref in zip(work, refs, strict=True)
    ]
