"""The spaces of a screen, by rule or by list, and how they are cut into tasks."""

from __future__ import annotations

from typing import Any

import numpy as np
from pydantic import Field

from models.elements import ELEMENTS
from models.errors import InputError
from models.space import Compositions, CompositionSpace
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from storage.streams import read_rows
from tasks.parameters import Parameters, ScreenParameters, SpaceParameters


class Block(Parameters):
    """A range of a composition space or list: the work of one task."""

    space: int = Field(description="number of the space in the screen's list")
    start: int = Field(description="first index")
    stop: int = Field(description="index after the last")


def composition_space(parameters: SpaceParameters) -> CompositionSpace:
    """Return the space that the parameters describe."""
    if parameters.formulas is not None:
        raise InputError("a list of formulas has no rule; its compositions are rows of an artifact")
    unknown = sorted(set(parameters.excluded) - set(ELEMENTS))
    if unknown:
        raise InputError(f"element {unknown[0]} is outside the 86 elements of the space, so it needs no excluding")
    chosen = parameters.elements or ELEMENTS
    return CompositionSpace(
        elements=tuple(element for element in chosen if element not in parameters.excluded),
        arities=parameters.arities,
        max_atoms=parameters.max_atoms,
        required=parameters.required,
    )


def formula_list(parameters: SpaceParameters) -> ArtifactRef | None:
    """Return the list that a space is (`tasks.formulas.with_lists` has read it); None for a space that has a rule."""
    if isinstance(parameters.formulas, str):
        raise InputError(f"the list {parameters.formulas} is not in the store yet; read it with tasks.formulas first")
    return parameters.formulas


def full_space(parameters: ScreenParameters) -> CompositionSpace:
    """Return the space whose index names a candidate: all 86 elements, so that a composition has one number."""
    ruled = [space for space in parameters.spaces if space.formulas is None]
    arities = sorted({arity for space in ruled for arity in space.arities} | {2, 3, 4})
    return CompositionSpace(arities=tuple(arities), max_atoms=max([10, *(space.max_atoms for space in ruled)]))


def space_inputs(parameters: ScreenParameters) -> dict[str, ArtifactRef]:
    """Return the lists among a screen's spaces by their role, ``formulas_0`` for the first space: keys hang on them."""
    lists = {f"formulas_{number}": formula_list(space) for number, space in enumerate(parameters.spaces)}
    return {role: ref for role, ref in lists.items() if ref is not None}


def space_header(parameters: SpaceParameters, role: str = "formulas") -> dict[str, Any]:
    """Return what names a space in the parameters of an artifact: its rule, or the role of the input that it is."""
    return composition_space(parameters).to_dict() if formula_list(parameters) is None else {"formulas": role}


def space_size(parameters: SpaceParameters) -> int:
    """Return the number of compositions."""
    ref = formula_list(parameters)
    if ref is None:
        return len(composition_space(parameters))
    return ArtifactStore.from_ref(ref).manifest(ref).rows or 0


def systems_by_arity(parameters: SpaceParameters) -> dict[int, int]:
    """Return the number of chemical systems of each arity."""
    ref = formula_list(parameters)
    if ref is None:
        space = composition_space(parameters)
        return {arity: space.count(arity) // len(space.stoichiometries(arity)) for arity in space.arities}
    counts = ArtifactStore.from_ref(ref).manifest(ref).counts
    prefix = "systems_"
    return {int(name.removeprefix(prefix)): n for name, n in counts.items() if name.startswith(prefix)}


def listed_compositions(ref: ArtifactRef, start: int = 0, stop: int | None = None) -> Compositions:
    """Return the compositions of a range of a list, of the whole list by default; counts as int16."""
    store = ArtifactStore.from_ref(ref)
    stop = (store.manifest(ref).rows or 0) if stop is None else stop
    tables = list(read_rows(store, ref, start, stop))
    sizes = [table.column("arity").to_numpy() for table in tables]
    width = max((int(size.max()) for size in sizes), default=1)
    elements = np.full((stop - start, width), -1, dtype=np.int16)
    counts = np.zeros((stop - start, width), dtype=np.int16)
    low = 0
    for table, size in zip(tables, sizes, strict=True):
        rows = np.repeat(np.arange(low, low + len(size)), size)
        places = np.arange(len(rows)) - np.repeat(np.cumsum(size, dtype=np.int64) - size, size)
        elements[rows, places] = table.column("elements").combine_chunks().flatten().to_numpy()
        counts[rows, places] = table.column("counts").combine_chunks().flatten().to_numpy()
        low += len(size)
    return Compositions(elements, counts)


def plan_blocks(parameters: ScreenParameters, block_size: int) -> list[Block]:
    """Cut the spaces into blocks of about `block_size` compositions."""
    blocks = []
    for number, space in enumerate(parameters.spaces):
        size = space_size(space)
        blocks += [
            Block(space=number, start=low, stop=min(low + block_size, size)) for low in range(0, size, block_size)
        ]
    return blocks
