"""Parameters of teaching."""

from __future__ import annotations

from pydantic import Field

from models.representation import FROM_FORMULA
from tasks.parameters import Parameters

CAN_BE_TAUGHT = tuple(FROM_FORMULA)
"""Representations of networks that can have a teacher: new compositions have no structure."""


class TaughtParameters(Parameters):
    """Compositions that a teacher labels for another network to learn from."""

    compositions: int = Field(400_000, ge=1, description="new compositions that the teacher labels")
    seed: int = Field(0, ge=0, description="seed of their draws")
