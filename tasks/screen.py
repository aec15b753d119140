"""Screen: a block of a composition space -> one part with the compositions at or below the threshold."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import torch
from pydantic import Field

from models.elements import ELEMENT_INDEX
from models.screening import ScreenBlock, screen_range
from models.space import CompositionSpace
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.scheme import check_same_scheme
from storage.store import ArtifactStore, ArtifactWriter
from tasks.loading import load_card, load_hull, load_predictor
from tasks.parameters import Parameters, ScreenParameters, SpaceParameters
from tasks.progress import Progress
from tasks.stage import build, stage

STAGE_VERSION = 2


class Block(Parameters):
    """A range of a composition space: the work of one task."""

    space: int = Field(description="number of the space in the screen's list")
    start: int = Field(description="first index")
    stop: int = Field(description="index after the last")


def composition_space(parameters: SpaceParameters) -> CompositionSpace:
    """Return the space that the parameters describe."""
    options = {} if parameters.elements is None else {"elements": parameters.elements}
    return CompositionSpace(
        arities=parameters.arities, max_atoms=parameters.max_atoms, required=parameters.required, **options
    )


def full_space(parameters: ScreenParameters) -> CompositionSpace:
    """Return the space whose index names a candidate: all 86 elements, so that a composition has one number."""
    arities = sorted({arity for space in parameters.spaces for arity in space.arities} | {2, 3, 4})
    return CompositionSpace(
        arities=tuple(arities), max_atoms=max(10, *(space.max_atoms for space in parameters.spaces))
    )


def plan_blocks(parameters: ScreenParameters, block_size: int) -> list[Block]:
    """Cut the spaces into blocks of about `block_size` compositions."""
    blocks = []
    for number, space in enumerate(parameters.spaces):
        size = len(composition_space(space))
        blocks += [
            Block(space=number, start=low, stop=min(low + block_size, size)) for low in range(0, size, block_size)
        ]
    return blocks


@stage("screen-block")
def screen_block(
    root: str, network: ArtifactRef, phases: ArtifactRef, parameters: ScreenParameters, block: Block
) -> ArtifactRef:
    """Screen one block; its part names network, phases, space and threshold: a merge refuses a foreign one."""
    store = ArtifactStore(root)
    mixed = check_same_scheme(
        store.manifest(network).energy_scheme,
        store.manifest(phases).energy_scheme,
        "network and phases",
        parameters.allow_mixed_scheme,
    )
    request = part_request(store, network, phases, parameters, block)
    return build(root, request, lambda writer: _write(writer, network, phases, parameters, block, mixed))


def part_request(
    store: ArtifactStore, network: ArtifactRef, phases: ArtifactRef, parameters: ScreenParameters, block: Block
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
            "min_training_rows": parameters.min_training_rows,
        },
        {"network": network, "phases": phases},
        energy_scheme=store.manifest(phases).energy_scheme,
    )


def _write(
    writer: ArtifactWriter,
    network: ArtifactRef,
    phases: ArtifactRef,
    parameters: ScreenParameters,
    block: Block,
    mixed: bool,
) -> None:
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
