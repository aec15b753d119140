"""Cross-validation: the folds of several entries -> their errors side by side, and which differences are real."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from models.comparison import Measured, compare, summarise
from models.significance import crossing_points
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.fold import RESULT
from tasks.stage import build, stage
from tasks.validation_parameters import ValidationParameters

STAGE_VERSION = 2  # 2: classes are compared by their Brier scores
SUMMARY = "cross_validation.json"


class FoldRun(NamedTuple):
    """One entry on one fold."""

    entry: str
    seed: int
    fold: str
    size: int | None
    ref: ArtifactRef


@stage("summarise-folds")
def summarise_folds(
    root: str, rows: ArtifactRef, runs: Sequence[FoldRun], validation: ValidationParameters
) -> ArtifactRef:
    """Put the folds of all entries side by side.

    Returns
    -------
    ArtifactRef
        A `cross_validation`: a table with one row per run, and ``cross_validation.json`` with means and intervals,
        comparisons of every pair and, with sizes, the sizes at which learning curves cross. All are of the mean
        absolute error, ``mae``; for classes of the Brier score, ``brier``: the mean squared difference of probability
        and outcome, which only the true probabilities make least (G. W. Brier, Mon. Weather Rev. 78, 1 (1950)). There
        ``auc`` and ``f1`` stand beside it. Of entries that start from a model, ``elements`` that it and
        the table have in common, and that one of them has.
    """
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "cross_validation",
        "tasks.cross_validation",
        STAGE_VERSION,
        {
            "validation": validation.description() | {"sizes": list(validation.sizes)},
            "runs": [{"entry": run.entry, "seed": run.seed, "fold": run.fold, "size": run.size} for run in runs],
        },
        {"rows": rows} | {f"run_{number:04d}": run.ref for number, run in enumerate(runs)},
        energy_scheme=store.manifest(rows).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, runs))


def _write(writer: ArtifactWriter, store: ArtifactStore, runs: Sequence[FoldRun]) -> None:
    results = [json.loads(store.read_bytes(run.ref, RESULT)) for run in runs]
    measured = [_measured(store, run, result) for run, result in zip(runs, results, strict=True)]
    entries = summarise(measured)
    summary: dict[str, Any] = {"entries": entries, "comparisons": compare(measured), "crossings": _crossings(entries)}
    if _is_of_classes(results[0]):
        summary["entries"] = [_of_classes(line, runs, results) for line in entries]
    transfers: dict[str, list[dict[str, Any]]] = {}
    for run, result in zip(runs, results, strict=True):
        if "transfer" in result:
            transfers.setdefault(run.entry, []).append(result["transfer"])
    if transfers:
        summary["elements"] = {entry: _elements(reports) for entry, reports in transfers.items()}
    writer.write_json(SUMMARY, summary)
    writer.write_table("cross_validation", _table(runs, results), "cross_validation")
    writer.count("runs", len(runs))


def _elements(transfers: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """Return the elements that a transferred model and the table, all folds together, have in common and alone."""
    shared = {element for one in transfers for element in one["shared"]}
    new = {element for one in transfers for element in one["only_target"]} - shared
    left = {element for one in transfers for element in one["only_source"]} - shared
    return {"shared": sorted(shared), "only_target": sorted(new), "only_source": sorted(left)}


def _measured(store: ArtifactStore, run: FoldRun, result: dict[str, Any]) -> Measured:
    table = store.read_table(run.ref, "fold")
    error = table.column("prediction").to_numpy() - table.column("truth").to_numpy()
    if _is_of_classes(result):
        error = error**2
    by_element = {line["element"]: line["mae"] for line in result.get("by_element", []) if line["n"] >= 20}
    return Measured(
        run.entry, run.seed, run.fold, run.size, result["n_train"], table.column("row").to_numpy(), error,
        np.array(table.column("chemsys").to_pylist(), dtype=str), by_element,
    )  # fmt: skip


def _is_of_classes(result: dict[str, Any]) -> bool:
    return "auc" in result["metrics"]


def _of_classes(line: dict[str, Any], runs: Sequence[FoldRun], results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return an entry's line under the name of what was averaged, with the scores that users of classes know."""
    named = {"brier" if name == "mae" else name: value for name, value in line.items()}
    named["runs"] = [{"brier" if name == "mae" else name: v for name, v in run.items()} for run in line["runs"]]
    own = [
        result["metrics"]
        for run, result in zip(runs, results, strict=True)
        if (run.entry, run.size) == (line["entry"], line["size"])
    ]
    for name in ("auc", "f1"):
        known = [metrics[name] for metrics in own if metrics.get(name) is not None]
        named[name] = float(np.mean(known)) if known else None
    return named


def _crossings(entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the training sizes at which the learning curves of two entries cross."""
    curves: dict[str, dict[int, float]] = {}
    for line in entries:
        if line["size"] is not None:
            curves.setdefault(line["entry"], {})[line["n_train"]] = line["mae"]
    found = []
    names = list(curves)
    for number, first in enumerate(names):
        for second in names[number + 1 :]:
            sizes = sorted(set(curves[first]) & set(curves[second]))
            if len(sizes) > 1:
                places = crossing_points(sizes, [curves[first][n] for n in sizes], [curves[second][n] for n in sizes])
                found.append({"first": first, "second": second, "sizes": places})
    return found


def _table(runs: Sequence[FoldRun], results: Sequence[dict[str, Any]]) -> pa.Table:
    lines = []
    for run, result in zip(runs, results, strict=True):
        line = {"entry": run.entry, "seed": run.seed, "fold": run.fold}
        line |= {name: result[name] for name in ("n_train", "n_test")}
        line |= {name: result["metrics"].get(name) for name in ("mae", "rmse", "r2", "f1", "auc")}
        lines.append(line)
    names = ("mae", "rmse", "r2", "f1", "auc")
    return pa.table(
        {name: [line[name] for line in lines] for name in ("entry", "fold")}
        | {name: pa.array([line[name] for line in lines], pa.int32()) for name in ("seed", "n_train", "n_test")}
        | {name: pa.array([line[name] for line in lines], pa.float64()) for name in names}
    )
