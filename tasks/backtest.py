"""Back-test: hold rows out, and judge what a network that never saw them says of them.

The network, the hull and the calibration come from the usual stages, run on the training side's table unchanged.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.backtest import Judged, anion_class, in_turn, judge
from models.cleaning import system_draw
from models.elements import ELEMENT_INDEX
from models.formula import ParsedFormulas, parse_many
from models.holdout import (
    HELD_OUT,
    TRAINING,
    Holdout,
    Pair,
    earliest_versions,
    first_pair,
    hold_out_pairs,
    hold_out_releases,
)
from models.hull import PhaseHull
from models.novelty import LEVELS, Novelty, level_of
from models.recalibration import compare_calibrations
from models.stability import probability_stable, residual_summary
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.backtest_parameters import HoldoutParameters, JudgeParameters
from tasks.candidate_columns import FLAGS
from tasks.candidate_flags import incomplete_systems
from tasks.loading import hull_of, load_card, load_hull, load_predictor
from tasks.merge_sources import SCHEMES
from tasks.stage import build, stage

STAGE_VERSION = 1
HOLDOUT = "holdout.json"
RESULT = "backtest.json"
_ENERGY = "formation_energy_per_atom"

Side = Literal["training", "held_out"]


@stage("hold-out")
def hold_out(root: str, compounds: ArtifactRef, parameters: HoldoutParameters, side: Side) -> ArtifactRef:
    """Write one side of a table of compounds, itself a table of compounds, and what was held out.

    The sides share no composition. Elements alone are on the training side (those of later releases on neither).
    """
    store = ArtifactStore(root)
    manifest = store.manifest(compounds)
    request = ArtifactRequest(
        "compounds",
        "tasks.backtest.hold_out",
        STAGE_VERSION,
        parameters.description() | {"side": side},
        {"compounds": compounds},
        energy_scheme=manifest.energy_scheme,
    )

    def write(writer: ArtifactWriter) -> None:
        table = store.read_table(compounds)
        cut = _cut(table, parameters)
        kept = cut.part == (TRAINING if side == "training" else HELD_OUT)
        writer.write_table("compounds", table.filter(pa.array(kept)), "compounds")
        if SCHEMES in {entry.path for entry in manifest.payload}:
            writer.write_bytes(SCHEMES, store.read_bytes(compounds, SCHEMES))
        writer.write_json(HOLDOUT, parameters.description() | {"pairs": cut.pairs, "releases": cut.versions})
        for name, n in cut.counts().items():
            writer.count(name, n)

    return build(root, request, write)


def _cut(table: pa.Table, parameters: HoldoutParameters) -> Holdout:
    parsed = parse_many(table.column("formula").to_pylist())
    if parameters.by == "pairs":
        return hold_out_pairs(parsed.elements, parameters.share, parameters.seed)
    versions = table.column("source_version").to_pylist()
    early = parameters.releases or earliest_versions(versions, parameters.earliest)
    return hold_out_releases(parsed.reduced, parsed.arity, versions, early)


@stage("judge-held-out")
def judge_held_out(
    root: str,
    network: ArtifactRef,
    phases: ArtifactRef,
    calibration: ArtifactRef,
    held_out: ArtifactRef,
    truth: ArtifactRef,
    known: ArtifactRef | None,
    parameters: JudgeParameters,
) -> ArtifactRef:
    """Judge held-out compounds the way candidates are judged, and hold the judgement against the truth.

    Parameters
    ----------
    root
        The store's folder or URL.
    network, phases, calibration
        From the training side alone.
    held_out
        The held-out side of `hold_out`.
    truth
        Its cleaned `phases`: the lowest energy per composition, corrected by an audit of the whole table.
    known
        A list of known compositions, with or without energies. What is held out is taken off it first: a composition
        of the held-out side or, where pairs were drawn, with a held-out pair is unknown in the situation played.
    parameters
        Thresholds, canaries.

    Returns
    -------
    ArtifactRef
        A `backtest`: `backtest.json` with all numbers, and a table of the held-out compounds.
    """
    store = ArtifactStore(root)
    inputs = {"network": network, "phases": phases, "calibration": calibration, "held_out": held_out, "truth": truth}
    if known is not None:
        inputs["known"] = known
    request = ArtifactRequest(
        "backtest",
        "tasks.backtest",
        STAGE_VERSION,
        parameters.model_dump(mode="json"),
        inputs,
        energy_scheme=store.manifest(phases).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, inputs, parameters))


@dataclass(frozen=True)
class _World:
    """What is known once the held-out rows are gone: phases, network, calibration, list of known compositions."""

    store: ArtifactStore
    inputs: dict[str, ArtifactRef]
    hull: PhaseHull
    pairs: tuple[Pair, ...]
    min_training_rows: int

    def judged(self, parsed: ParsedFormulas) -> dict[str, NDArray[Any]]:
        """Return a candidate's columns for n compositions: energies in eV/atom, the probability, the flags."""
        fractions = parsed.fractions
        predictor = load_predictor(self.inputs["network"], self.inputs["phases"])
        mean, std = predictor.predict(fractions.astype(np.float32))
        prediction = mean.astype(np.float64)
        below = self.hull.decomposition_energy(fractions, prediction)
        fitted = json.loads(self.store.read_bytes(self.inputs["calibration"], "calibration.json"))["probability"]
        listed, incomplete = self._listed
        formulas = pa.array(parsed.reduced, pa.string())
        return {
            "prediction": prediction,
            "prediction_std": np.full(len(prediction), np.nan) if std is None else std.astype(np.float64),
            "hull_energy_per_atom": prediction - below,
            "decomposition_energy": below,
            "probability_stable": probability_stable(below, fitted),
            "known": self.hull.is_known(fractions)
            | pc.is_in(formulas, value_set=listed).to_numpy(zero_copy_only=False),
            "hull_incomplete": incomplete_systems(pa.chunked_array([parsed.chemsys], pa.string()), incomplete),
            "out_of_domain": np.isin(parsed.elements, self._rare()).any(axis=1),
            "novelty": np.array(LEVELS, dtype=object)[
                level_of(self._novelty.nearest(parsed.elements, parsed.amounts)[0])
            ],
        }

    @cached_property
    def _novelty(self) -> Novelty:
        """Everything known: the training side's phases and the list without what is held out."""
        phases = self.store.read_table(self.inputs["phases"], columns=["formula"]).column("formula").to_pylist()
        known = parse_many([*phases, *self._listed[0].to_pylist()])
        return Novelty.of_compositions(known.elements[known.valid], known.amounts[known.valid])

    def _rare(self) -> list[int]:
        rows = load_card(self.inputs["network"]).domain["training_rows"]
        return [ELEMENT_INDEX[element] for element, n in rows.items() if n < self.min_training_rows]

    @cached_property
    def _listed(self) -> tuple[pa.Array, set[str]]:
        """Return the listed formulas that are not held out, and the systems of those that have no energy."""
        if "known" not in self.inputs:
            return pa.array([], pa.string()), set()
        table = self.store.read_table(self.inputs["known"], columns=["formula", "chemsys"])
        held = self.store.read_table(self.inputs["held_out"], columns=["formula"]).column("formula")
        table = table.filter(pc.invert(_is_in(table.column("formula"), held)))
        if self.pairs:
            paired = [pair is not None for pair in first_pair(table.column("chemsys").to_pylist(), self.pairs)]
            table = table.filter(pc.invert(pa.array(paired, pa.bool_())))
        phases = self.store.read_table(self.inputs["phases"], columns=["formula"]).column("formula")
        without = table.filter(pc.invert(_is_in(table.column("formula"), phases)))
        return table.column("formula").combine_chunks(), set(without.column("chemsys").to_pylist())


def _is_in(column: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.is_in(column, value_set=values.combine_chunks())


def _write(
    writer: ArtifactWriter, store: ArtifactStore, inputs: dict[str, ArtifactRef], parameters: JudgeParameters
) -> None:
    truth = store.read_table(inputs["truth"])
    cut = json.loads(store.read_bytes(inputs["held_out"], HOLDOUT))
    pairs = tuple((one, two) for one, two in cut["pairs"])
    world = _World(store, inputs, load_hull(inputs["phases"]), pairs, parameters.min_training_rows)
    parsed = parse_many(truth.column("formula").to_pylist())
    columns = world.judged(parsed)
    energy = truth.column(_ENERGY).to_numpy()
    columns["decomposition_energy_true"] = energy - columns["hull_energy_per_atom"]
    columns["decomposition_energy_among_all"] = _among_all(store, inputs).decomposition_energy(parsed.fractions, energy)
    rows = Judged(
        columns["decomposition_energy"],
        columns["decomposition_energy_true"],
        columns["decomposition_energy_among_all"],
        columns["probability_stable"],
    )
    labels: dict[str, NDArray[Any]] = {"arity": parsed.arity, "anion": anion_class(parsed.elements)}
    labels["novelty"] = columns["novelty"]
    groups = np.array(first_pair(parsed.chemsys, pairs) if pairs else parsed.chemsys, dtype=str)
    flags = {name: columns[name] for name in FLAGS}
    unflagged = ~np.any(list(flags.values()), axis=0)
    half = np.array([system_draw(str(group), 0, "recalibration") < 0.5 for group in groups])
    result = {
        "holdout": cut,
        "parts": store.manifest(inputs["held_out"]).counts,
        "training_rows": load_card(inputs["network"]).split,
        "phases": len(world.hull),
        "residuals": residual_summary(columns["prediction"], energy),
        "flags": {name: int(flag.sum()) for name, flag in flags.items()},
        "in_turn": in_turn(rows, flags, parameters.thresholds),
        "before": judge(rows, labels, groups, parameters.thresholds, parameters.n_bins),
        "after": judge(
            rows.keep(unflagged),
            {name: label[unflagged] for name, label in labels.items()},
            groups[unflagged],
            parameters.thresholds,
            parameters.n_bins,
        ),
        "canaries": _canaries(world, parameters.canaries, truth),
        "recalibration": compare_calibrations(rows, half, parameters.thresholds, parameters.n_bins),
    }
    writer.write_json(RESULT, result)
    writer.write_table("backtest", _table(truth, parsed, columns, labels["anion"], groups), "backtest")
    writer.count("rows", len(rows))
    writer.count("unflagged", int(unflagged.sum()))


def _among_all(store: ArtifactStore, inputs: dict[str, ArtifactRef]) -> PhaseHull:
    """Return the hull of everything: the training side's phases and the held-out compounds."""
    tables = [store.read_table(inputs[role], columns=["formula", _ENERGY]) for role in ("phases", "truth")]
    return hull_of(pa.concat_tables([table.replace_schema_metadata(None) for table in tables]))


def _canaries(world: _World, formulas: Iterable[str], truth: pa.Table) -> list[dict[str, Any]]:
    """Return what is said of each canary, and its true energies where it is among the held-out compounds."""
    parsed = parse_many(list(formulas))
    if len(parsed) == 0:
        return []
    columns = world.judged(parsed)
    energies = dict(zip(truth.column("formula").to_pylist(), truth.column(_ENERGY).to_pylist(), strict=True))
    listed = []
    for row, formula in enumerate(parsed.reduced):
        entry: dict[str, Any] = {"formula": formula, "held_out": formula in energies}
        for name, values in columns.items():
            value = values[row] if isinstance(values[row], str) else values[row].item()
            entry[name] = None if isinstance(value, float) and np.isnan(value) else value
        if formula in energies:
            entry[_ENERGY] = energies[formula]
            entry["decomposition_energy_true"] = energies[formula] - entry["hull_energy_per_atom"]
        listed.append(entry)
    return listed


def _table(
    truth: pa.Table,
    parsed: ParsedFormulas,
    columns: dict[str, NDArray[Any]],
    anion: NDArray[Any],
    groups: NDArray[np.str_],
) -> pa.Table:
    data: dict[str, Any] = {
        "formula": truth.column("formula"),
        "chemsys": truth.column("chemsys"),
        "arity": pa.array(parsed.arity, pa.int8()),
        "anion": pa.array(anion, pa.string()),
        "group": pa.array(groups, pa.string()),
        "source_version": truth.column("source_version"),
        _ENERGY: truth.column(_ENERGY),
    }
    data |= {
        name: pa.array(values, mask=np.isnan(values)) if values.dtype.kind == "f" else pa.array(values)
        for name, values in columns.items()
    }
    return pa.table(data)
