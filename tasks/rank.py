"""Rank: candidates and their moduli -> `ranking`, with the reason for every row that is left out."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from models.candidate_filters import FilterOutcome, FilterParameters, apply_filters
from models.electrochemical_window import electrochemical_window, within_window
from models.electrodeposition import LITHIUM
from models.electrodes import electrode
from models.elements import ELEMENTS, RADIOACTIVE, REDOX_ACTIVE
from models.formula import parse_many
from models.ranking import RankingParameters, choose_moduli, rank_table, with_volume_ratio
from models.stability_sampling import SamplingParameters
from models.structures import parse_structures
from models.superionic import superionic_likelihoods
from models.volume_ratio import VolumeRatios, volume_ratios
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.fanout import fan_out
from tasks.loading import load_hull
from tasks.parameters import RankParameters
from tasks.rank_interfaces import with_interfaces
from tasks.stage import build, stage

STAGE_VERSION = 4


@stage("rank")
def rank(
    root: str,
    candidates: ArtifactRef,
    moduli: ArtifactRef,
    parameters: RankParameters,
    phases: ArtifactRef | None = None,
    stated: ArtifactRef | None = None,
) -> ArtifactRef:
    """Rank the candidates by chi against the metal, lowest first.

    Parameters
    ----------
    root
        The store.
    candidates
        `compounds` with structures.
    moduli
        Predicted moduli of those compounds.
    parameters
        Filters and electrode.
    phases
        Hull that electrochemical windows are taken from; and the distance from it, for candidates that state none and
        whose energies are of its scheme.
    stated
        `compounds` with moduli, and perhaps elastic tensors, of the same identifiers; empty: the candidates' own.
    """
    store = ArtifactStore(root)
    inputs = {"candidates": candidates, "moduli": moduli}
    scheme = store.manifest(candidates).energy_scheme
    if phases is not None:
        inputs["phases"] = phases
    if stated is not None:
        inputs["stated"] = stated
    request = ArtifactRequest(
        "ranking", "tasks.rank", STAGE_VERSION, parameters.model_dump(mode="json"), inputs, energy_scheme=scheme
    )
    return build(root, request, lambda writer: _write(writer, store, inputs, parameters))


def ranking_parameters(parameters: RankParameters) -> RankingParameters:
    """Return the science's settings for a stage's parameters."""
    return RankingParameters(
        filters=FilterParameters(
            metal=parameters.metal,
            max_energy_above_hull=parameters.max_energy_above_hull,
            keep_missing_hull=parameters.keep_unknown,
            min_band_gap=parameters.min_band_gap,
            keep_missing_gap=parameters.keep_unknown,
            forbidden_elements=() if parameters.allow_radioactive else tuple(RADIOACTIVE),
            redox_active=tuple(REDOX_ACTIVE) if parameters.forbid_redox_active else (),
        ),
        constants=electrode(parameters.metal, parameters.wavenumber),
        sampling=SamplingParameters(n_samples=parameters.samples, seed=parameters.seed),
    )


def _write(
    writer: ArtifactWriter, store: ArtifactStore, inputs: dict[str, ArtifactRef], parameters: RankParameters
) -> None:
    settings = ranking_parameters(parameters)
    frame = store.read_table(inputs["candidates"]).to_pandas()
    writer.count("candidates", len(frame))
    if "phases" in inputs and _of_one_scheme(store, inputs):
        frame = with_energy_above_hull(frame, inputs["phases"])
    outcomes = [apply_filters(frame, settings.filters)]
    stated = store.read_table(inputs["stated"]).to_pandas() if "stated" in inputs else frame
    stated = stated if parameters.prefer_stated else stated.iloc[:0]
    predicted = store.read_table(inputs["moduli"]).to_pandas()
    outcomes.append(choose_moduli(outcomes[-1].kept, stated, predicted, bad_stated=settings.bad_stated))
    outcomes.append(_from_structures(outcomes[-1].kept, parameters.metal))
    if "phases" in inputs:
        outcomes[-1] = replace(outcomes[-1], kept=with_window(outcomes[-1].kept, inputs["phases"], parameters.metal))
    limits = (parameters.max_reduction_potential, parameters.min_oxidation_potential)
    outcomes.append(within_window(outcomes[-1].kept, *limits, keep_missing=parameters.keep_unknown))
    kept = outcomes[-1].kept
    outcomes.append(rank_table(kept, settings))
    tensors = stated if parameters.metal == LITHIUM.metal else stated.iloc[:0]
    ranked, interfaces = with_interfaces(outcomes[-1].kept, tensors, kept)
    outcomes[-1] = replace(outcomes[-1], kept=ranked)
    _write_outcomes(writer, outcomes)
    writer.write_table("interfaces", interfaces, "interfaces")


def _write_outcomes(writer: ArtifactWriter, outcomes: list[FilterOutcome]) -> None:
    ranked = outcomes[-1].kept.copy()
    ranked["mixed_scheme"] = False
    writer.write_table("ranking", pa.Table.from_pandas(ranked, preserve_index=False), "ranking")
    excluded = pd.concat([outcome.excluded for outcome in outcomes], ignore_index=True)
    columns = {
        name: pa.array(excluded[name].astype(str), pa.string())
        for name in ("material_id", "formula", "stage", "reason")
    }
    writer.write_table("excluded", pa.table(columns), "excluded")
    writer.count("ranked", len(ranked))
    writer.count("excluded", len(excluded))
    for name, n in excluded["stage"].value_counts().items():
        writer.count(f"excluded_{name}", int(n))


def _of_one_scheme(store: ArtifactStore, inputs: dict[str, ArtifactRef]) -> bool:
    """Whether energies of the candidates may be held against the hull."""
    first, second = (store.manifest(inputs[name]).energy_scheme for name in ("candidates", "phases"))
    return first == second


def with_window(frame: pd.DataFrame, phases: ArtifactRef, metal: str) -> pd.DataFrame:
    """Add the electrochemical window of each row against the metal, from the hull of the phases."""
    window = electrochemical_window(
        load_hull(phases),
        parse_many(frame["formula"].tolist()).fractions,
        ELEMENTS.index(metal),
        electrode(metal).charge,
        np.nan_to_num(frame["energy_above_hull"].to_numpy(float)),
    )
    return frame.assign(**vars(window))


def with_energy_above_hull(frame: pd.DataFrame, phases: ArtifactRef) -> pd.DataFrame:
    """Fill the energy above hull of rows that state a formation energy and no distance."""
    energy = frame["formation_energy_per_atom"].to_numpy(float)
    above = frame["energy_above_hull"].to_numpy(float).copy()
    rows = np.flatnonzero(np.isnan(above) & np.isfinite(energy))
    if len(rows):
        fractions = parse_many(frame["formula"].iloc[rows].tolist()).fractions
        above[rows] = np.maximum(energy[rows] - load_hull(phases).energy_many(fractions), 0.0)
    return frame.assign(energy_above_hull=above)


def _structural_chunk(given: tuple[str, list[str | None]]) -> list[tuple[float, str | None, float]]:
    metal, texts = given
    structures, reasons = parse_structures([text or "" for text in texts])
    found = volume_ratios(structures, electrode(metal))
    nothing = np.full(len(texts), np.nan)
    fast = superionic_likelihoods(structures)[0] if metal == LITHIUM.metal else nothing
    rows = zip(found.values, reasons, found.reasons, fast, strict=True)
    return [(float(value), first or second, float(likelihood)) for value, first, second, likelihood in rows]


def _from_structures(frame: pd.DataFrame, metal: str) -> FilterOutcome:
    """Give each candidate what its structure says: the volume ratio, and how likely it conducts lithium fast."""
    texts: list[Any] = frame["structure"].tolist()
    chunks = [(metal, texts[start : start + 50]) for start in range(0, len(texts), 50)]
    found = [row for part in fan_out(_structural_chunk, chunks, "volume ratios", chunk=1, unit=50) for row in part]
    ratios = VolumeRatios(np.array([row[0] for row in found], dtype=float), [row[1] for row in found])
    return with_volume_ratio(frame.assign(superionic_likelihood=[row[2] for row in found]), ratios)
