"""The composition spaces of a screen, and how they are cut into tasks."""

from __future__ import annotations

from pydantic import Field

from models.elements import ELEMENTS
from models.errors import InputError
from models.space import CompositionSpace
from tasks.parameters import Parameters, ScreenParameters, SpaceParameters


class Block(Parameters):
    """A range of a composition space: the work of one task."""

    space: int = Field(description="number of the space in the screen's list")
    start: int = Field(description="first index")
    stop: int = Field(description="index after the last")


def composition_space(parameters: SpaceParameters) -> CompositionSpace:
    """Return the space that the parameters describe."""
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
