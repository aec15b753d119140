"""Screen: a block of a composition space -> one part with the compositions at or below the threshold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch

from models.elements import ELEMENT_INDEX
from models.screening import ScreenBlock, screen_range
from models.space import CompositionSpace
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.scheme import check_same_scheme
from storage.store import ArtifactStore, ArtifactWriter
from tasks.loading import load_card, load_hull, load_predictor
from tasks.parameters import ScreenParameters
from tasks.precision import read_band
from tasks.progress import Progress
from tasks.spaces import Block, composition_space, full_space
from tasks.stage import build, stage

STAGE_VERSION = 3


@stage("screen-block")
def screen_block(
    root: str,
    network: ArtifactRef,
    phases: ArtifactRef,
    precision: ArtifactRef | None,
    parameters: ScreenParameters,
    block: Block,
) -> ArtifactRef:
    """Screen one block; its part names network, phases, precision, space and threshold: a merge refuses a foreign one.

    With `precision` (`tasks.precision.measure_precision`) the fast mode sieves first; the survivors are the same.
    """
    store = ArtifactStore(root)
    mixed = check_same_scheme(
        store.manifest(network).energy_scheme,
        store.manifest(phases).energy_scheme,
        "network and phases",
        parameters.allow_mixed_scheme,
    )
    inputs = {"network": network, "phases": phases} | ({"precision": precision} if precision else {})
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
            "space": composition_space(parameters.spaces[block.space]).to_dict(),
            "full_space": full_space(parameters).to_dict(),
            "start": block.start,
            "stop": block.stop,
            "threshold": parameters.threshold,
            "precision": parameters.precision,
            "min_training_rows": parameters.min_training_rows,
        },
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
    space = composition_space(parameters.spaces[block.space])
    predictor, hull = load_predictor(network, phases), load_hull(phases)
    progress = Progress(f"screen block {block.start:,} to {block.stop:,}", block.stop - block.start, "compositions")
    screened = screen_range(
        block.start,
        block.stop,
        space,
        predictor,
        hull,
        parameters.threshold,
        band=read_band(inputs.get("precision")),
        on_progress=lambda done, total: progress.update(done),
    )
    # by name: a card is JSON, which keeps no order of its entries
    rare = [
        ELEMENT_INDEX[element]
        for element, n in load_card(network).domain["training_rows"].items()
        if n < parameters.min_training_rows
    ]
    writer.write_table(
        "candidates_part", _table(screened, space, full_space(parameters), rare, mixed), "candidates_part"
    )
    for arity in space.arities:
        writer.count(f"screened_{arity}", screened.n_screened[arity])
        writer.count(f"below_{arity}", screened.n_below[arity])
    for name, n in screened.n_decided.items():
        writer.count(f"decided_{name}", n)


def _table(
    screened: ScreenBlock, space: CompositionSpace, full: CompositionSpace, rare: list[int], mixed: bool
) -> pa.Table:
    """Return the survivors as rows, with formulas only now that they are few."""
    n = len(screened)
    std = screened.prediction_std
    return pa.table(
        {
            "index": full.rank(screened.elements, screened.counts),
            "formula": space.formula_array(screened.compositions),
            "chemsys": pa.array(space.chemsys(screened.compositions), pa.string()),
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
