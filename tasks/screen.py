"""Screen: a block of a composition space or list -> one part with the compositions at or below the threshold."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from models.cascade import Band
from models.composition_list import screen_list
from models.device_predictor import DevicePredictor
from models.elements import ELEMENT_INDEX
from models.formula_text import chemsys_array, reduced_formula_array
from models.predictor import Predictor
from models.screening import Recorded, ScreenBlock, screen_range
from models.space import CompositionSpace
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.scheme import check_same_scheme
from storage.store import ArtifactStore, ArtifactWriter
from tasks.arithmetic import load_arithmetic
from tasks.loading import load_card, load_hull
from tasks.parameters import ScreenParameters
from tasks.precision import read_band
from tasks.progress import Progress
from tasks.spaces import Block, composition_space, formula_list, full_space, listed_compositions, space_header
from tasks.stage import build, stage
from tasks.student import load_student

STAGE_VERSION = 4  # 4: where torch's own products are faster, they are taken, whose sums differ in the last bits

PREDICTIONS = "all_predictions"
"""Table and schema of the predictions of a whole part."""


@stage("screen-block")
def screen_block(
    root: str,
    network: ArtifactRef,
    phases: ArtifactRef,
    precision: ArtifactRef | None,
    parameters: ScreenParameters,
    block: Block,
    student: ArtifactRef | None = None,
) -> ArtifactRef:
    """Screen one block; its part names network, phases, precision, space and threshold: a merge refuses a foreign one.

    With `precision` (`tasks.precision.measure_precision`) the fast mode sieves first; the survivors are the same. With
    `student` (`tasks.student.distil_student`) some are lost.
    """
    store = ArtifactStore(root)
    mixed = check_same_scheme(
        store.manifest(network).energy_scheme,
        store.manifest(phases).energy_scheme,
        "network and phases",
        parameters.allow_mixed_scheme,
    )
    listed = formula_list(parameters.spaces[block.space])
    optional = {"precision": precision, "formulas": listed, "student": student}
    inputs = {"network": network, "phases": phases} | {name: ref for name, ref in optional.items() if ref is not None}
    request = part_request(store, inputs, parameters, block)
    return build(root, request, lambda writer: _write(writer, inputs, parameters, block, mixed))


def part_request(
    store: ArtifactStore, inputs: dict[str, ArtifactRef], parameters: ScreenParameters, block: Block
) -> ArtifactRequest:
    """Return what a part is made from: its header."""
    return ArtifactRequest(
        "candidates_part",
        "tasks.screen",
        STAGE_VERSION,
        {
            "space": space_header(parameters.spaces[block.space]),
            "full_space": full_space(parameters).to_dict(),
            "start": block.start,
            "stop": block.stop,
            "threshold": parameters.threshold,
            "precision": parameters.precision,
            "min_training_rows": parameters.min_training_rows,
        }
        | ({"keep_predictions": True} if parameters.keep_predictions else {}),
        inputs,
        energy_scheme=store.manifest(inputs["phases"]).energy_scheme,
    )


def _write(
    writer: ArtifactWriter,
    inputs: dict[str, ArtifactRef],
    parameters: ScreenParameters,
    block: Block,
    mixed: bool,
) -> None:
    network, phases = inputs["network"], inputs["phases"]
    torch.set_num_threads(1)  # one process per core beats one process with many threads
    predictor, band = load_arithmetic(network, phases), read_band(inputs.get("precision"))
    if "student" in inputs:
        predictor.require_place_free()
    if parameters.keep_predictions:
        with writer.stream_column(PREDICTIONS, PREDICTIONS, start=block.start, stop=block.stop) as stream:
            screened = screen_part(Recorded(predictor, stream.append), inputs, parameters, block, band)
        if stream.rows != block.stop - block.start:
            raise AssertionError(f"{stream.rows:,} predictions of {block.stop - block.start:,} compositions")
    else:
        screened = screen_part(predictor, inputs, parameters, block, band)
    table = part_table(screened, full_space(parameters), rare_elements(network, parameters), mixed)
    writer.write_table("candidates_part", table, "candidates_part")
    for arity in sorted(screened.n_screened):
        writer.count(f"screened_{arity}", screened.n_screened[arity])
        writer.count(f"below_{arity}", screened.n_below.get(arity, 0))
    for name, n in screened.n_decided.items():
        writer.count(f"decided_{name}", n)


def screen_part(
    predictor: Predictor | DevicePredictor | Recorded,
    inputs: dict[str, ArtifactRef],
    parameters: ScreenParameters,
    block: Block,
    band: Band | None,
) -> ScreenBlock:
    """Run the kernel over a block, by its rule or by its list; with a band in the fast mode."""
    progress = Progress(f"screen block {block.start:,} to {block.stop:,}", block.stop - block.start, "compositions")
    hull, threshold = load_hull(inputs["phases"]), parameters.threshold
    student = load_student(inputs["student"]) if "student" in inputs else None
    options: dict[str, Any] = {"band": band, "student": student, "on_progress": _shown(progress)}
    if "formulas" not in inputs:
        space = composition_space(parameters.spaces[block.space])
        return screen_range(block.start, block.stop, space, predictor, hull, threshold, **options)
    compositions = listed_compositions(inputs["formulas"], block.start, block.stop)
    max_atoms = full_space(parameters).max_atoms
    return screen_list(compositions, predictor, hull, threshold, first=block.start, max_atoms=max_atoms, **options)


def _shown(progress: Progress) -> Callable[[int, int], None]:
    return lambda done, total: progress.update(done)


def rare_elements(network: ArtifactRef, parameters: ScreenParameters) -> list[int]:
    """Return the columns of the elements that the network has seen too few training rows of."""
    # by name: a card is JSON, which keeps no order of its entries
    rows = load_card(network).domain["training_rows"]
    return [ELEMENT_INDEX[element] for element, n in rows.items() if n < parameters.min_training_rows]


def part_table(screened: ScreenBlock, full: CompositionSpace, rare: list[int], mixed: bool) -> pa.Table:
    """Return the survivors as rows, with formulas only now that they are few."""
    n = len(screened)
    index = full.rank(screened.elements, screened.counts)
    std = screened.prediction_std
    return pa.table(
        {
            "index": pa.array(index, pa.int64(), mask=index < 0),
            "formula": reduced_formula_array(screened.elements, screened.counts),
            "chemsys": chemsys_array(screened.elements),
            "arity": np.count_nonzero(screened.elements >= 0, axis=1).astype(np.int8),
            "formation_energy_per_atom": screened.prediction.astype(np.float64),
            "prediction_std": pa.nulls(n, pa.float64()) if std is None else std.astype(np.float64),
            "hull_energy_per_atom": screened.hull_energy,
            "energy_above_hull": screened.energy_above_hull,
            "decomposition_energy": screened.decomposition_energy,
            "known": screened.known,
            "out_of_domain": np.isin(screened.elements, rare).any(axis=1),
            "mixed_scheme": np.full(n, mixed),
        }
    )
