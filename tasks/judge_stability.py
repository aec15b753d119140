"""Stability: what folds predicted -> which compounds are called stable, and how many of them are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from models import stability_judgement
from models.errors import InputError
from models.folds import Fold
from models.formula import parse_many
from models.stability_judgement import all_predicted_decomposition, decomposition_against
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.cross_validation import FoldRun
from tasks.examples import load_examples
from tasks.fold import folds_of
from tasks.parameters import Parameters
from tasks.stage import build, stage
from tasks.train_parameters import ENERGY
from tasks.validation_parameters import ValidationParameters

STAGE_VERSION = 1
RESULT = "stability.json"

Judged = Literal["all_predicted", "training_competitors", "direct"]


class StabilitySetting(Parameters):
    """How decomposition energies are predicted, and how rows are held out for it."""

    judged: Judged = Field(
        "all_predicted",
        description="all_predicted: predicted energies against the hull of all other predictions; "
        "training_competitors: against the hull of the true energies of the fold's training rows; direct: "
        "decomposition energies are learnt, each training part's own",
    )
    scheme: Literal["random", "grouped"] = Field(
        "random", description="random: k folds of compositions; grouped: of whole chemical systems"
    )

    def validation(self, folds: int, held_fraction: float, seed: int) -> ValidationParameters:
        """Return the cross-validation to run: all rows of the table are dealt out."""
        return ValidationParameters(
            scheme=self.scheme,
            folds=folds,
            held_fraction=held_fraction,
            seed=seed,
            include_validation=True,
            relabel="decomposition_energy" if self.judged == "direct" else None,
        )


class _Entry(NamedTuple):
    """What was trained once on every fold."""

    name: str
    seed: int
    size: int | None


class _Truth(NamedTuple):
    """The rows that were dealt out, ascending, each of shape (n,) or (n, 86)."""

    row: NDArray[np.int64]
    formula: list[str]
    chemsys: NDArray[np.str_]
    fractions: NDArray[np.float64]
    energy: NDArray[np.float64]
    decomposition: NDArray[np.float64]

    def located(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where rows of the artifact's table are among these."""
        return np.searchsorted(self.row, rows)


@stage("judge-stability")
def judge_stability(
    root: str, rows: ArtifactRef, runs: Sequence[FoldRun], validation: ValidationParameters, judged: Judged
) -> ArtifactRef:
    """Judge every compound by the fold that tested it, entry by entry.

    Parameters
    ----------
    root
        The store's folder or URL.
    rows
        A `features` or `examples` artifact of formation energies.
    runs
        All folds of every entry, as `tasks.fold_runs.run_entries` returns them.
    validation
        How the rows were held out.
    judged
        See `StabilitySetting`.

    Returns
    -------
    ArtifactRef
        A `stability`: ``stability.json`` with the judgement of each entry, and a table of all compounds with predicted
        and true decomposition energies.

    Raises
    ------
    InputError
        If rows are not tested exactly once, an entry lacks a fold, or the labels are not what is to be judged.
    """
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "stability",
        "tasks.judge_stability",
        STAGE_VERSION,
        {
            "judged": judged,
            "validation": validation.description() | {"sizes": list(validation.sizes)},
            "runs": [{"entry": run.entry, "seed": run.seed, "fold": run.fold, "size": run.size} for run in runs],
        },
        {"rows": rows} | {f"run_{number:04d}": run.ref for number, run in enumerate(runs)},
        energy_scheme=store.manifest(rows).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, rows, runs, validation, judged))


def _write(
    writer: ArtifactWriter,
    store: ArtifactStore,
    rows: ArtifactRef,
    runs: Sequence[FoldRun],
    validation: ValidationParameters,
    judged: Judged,
) -> None:
    if validation.scheme not in ("random", "grouped"):
        raise InputError(f"scheme {validation.scheme} does not test every row once; take random or grouped")
    if (judged == "direct") != (validation.relabel is not None):
        raise InputError(f"'{judged}' does not go with folds of {validation.relabel or ENERGY}; see StabilitySetting")
    folds = {fold.name: fold for fold in folds_of(rows, validation)}
    truth = _truth(rows, folds)
    entries: list[dict[str, Any]] = []
    tables: list[pa.Table] = []
    for entry, of_folds in _by_entry(runs, folds).items():
        fold_of, said = _predictions(store, of_folds, folds, truth)
        below = _decomposition(judged, said, folds, truth)
        found = stability_judgement.judge_stability(below, truth.decomposition, truth.chemsys)
        error = None if judged == "direct" else float(np.abs(said - truth.energy).mean())
        line = {"entry": entry.name, "seed": entry.seed, "size": entry.size, "formation_energy_mae": error}
        entries.append(line | {"stability": found})
        tables.append(_table(entry, fold_of, below, truth))
    result: dict[str, Any] = {"judged": judged, "scheme": validation.scheme, "rows": len(truth.row), "entries": entries}
    if judged == "training_competitors":
        perfect = _decomposition(judged, truth.energy, folds, truth)
        result["true_energies"] = stability_judgement.judge_stability(perfect, truth.decomposition, truth.chemsys)
    writer.write_json(RESULT, result)
    writer.write_table("stability", pa.concat_tables(tables), "stability")
    writer.count("rows", len(truth.row))
    writer.count("stable", int((truth.decomposition < 0.0).sum()))
    writer.count("entries", len(entries))


def _truth(rows: ArtifactRef, folds: Mapping[str, Fold]) -> _Truth:
    examples = load_examples(rows, "element_fraction")
    if examples.targets != (ENERGY,) or examples.is_classes:
        raise InputError(f"stability is judged from {ENERGY}, not from {', '.join(examples.targets)} as given")
    used = np.sort(np.concatenate([fold.test for fold in folds.values()]))
    formulas = [examples.formula[row] for row in used]
    fractions, energy = parse_many(formulas).fractions, examples.y[used, 0]
    decomposition = all_predicted_decomposition(fractions, energy)
    return _Truth(used, formulas, examples.chemsys[used], fractions, energy, decomposition)


def _by_entry(runs: Sequence[FoldRun], folds: Mapping[str, Fold]) -> dict[_Entry, dict[str, ArtifactRef]]:
    """Return the folds of each entry, in the order in which the entries come."""
    found: dict[_Entry, dict[str, ArtifactRef]] = {}
    for run in runs:
        found.setdefault(_Entry(run.entry, run.seed, run.size), {})[run.fold] = run.ref
    for entry, of_folds in found.items():
        if set(of_folds) != set(folds):
            missing = sorted(set(folds) ^ set(of_folds))
            raise InputError(f"the folds of {entry.name} differ from those of the table by {', '.join(missing)}")
    if not found:
        raise InputError("there is no run to judge; train at least one entry on every fold")
    return found


def _predictions(
    store: ArtifactStore, of_folds: Mapping[str, ArtifactRef], folds: Mapping[str, Fold], truth: _Truth
) -> tuple[NDArray[np.object_], NDArray[np.float64]]:
    """Return the fold that tested each row, and what was predicted there."""
    fold_of = np.empty(len(truth.row), dtype=object)
    said = np.full(len(truth.row), np.nan)
    for name, ref in of_folds.items():
        table = store.read_table(ref, "fold", columns=["row", "prediction"])
        tested = table.column("row").to_numpy()
        if not np.array_equal(np.sort(tested), folds[name].test):
            raise InputError(f"{ref.key} does not predict all {len(folds[name].test)} rows of {name}; leave no row out")
        at = truth.located(tested)
        fold_of[at], said[at] = name, table.column("prediction").to_numpy()
    return fold_of, said


def _decomposition(
    judged: Judged, said: NDArray[np.float64], folds: Mapping[str, Fold], truth: _Truth
) -> NDArray[np.float64]:
    """Return predicted decomposition energies, eV/atom; see `StabilitySetting`."""
    if judged == "direct":
        return said
    if judged == "all_predicted":
        return all_predicted_decomposition(truth.fractions, said)
    below = np.full(len(said), np.nan)
    for fold in folds.values():
        test, train = truth.located(fold.test), truth.located(fold.train)
        below[test] = decomposition_against(
            truth.fractions[test], said[test], truth.fractions[train], truth.energy[train]
        )
    return below


def _table(entry: _Entry, fold_of: NDArray[np.object_], below: NDArray[np.float64], truth: _Truth) -> pa.Table:
    n = len(truth.row)
    return pa.table(
        {
            "entry": pa.array([entry.name] * n, pa.string()),
            "seed": pa.array([entry.seed] * n, pa.int32()),
            "size": pa.array([entry.size] * n, pa.int32()),
            "fold": pa.array(fold_of, pa.string()),
            "row": truth.row,
            "formula": truth.formula,
            "chemsys": pa.array(truth.chemsys.tolist(), pa.string()),
            "predicted": below,
            "true": truth.decomposition,
        }
    )
