"""Parameters of teaching."""

from __future__ import annotations

from pydantic import Field

from tasks.parameters import Parameters


class TaughtParameters(Parameters):
    """Compositions that a teacher labels for another network to learn from."""

    compositions: int = Field(400_000, ge=1, description="new compositions that the teacher labels")
    seed: int = Field(0, ge=0, description="seed of their draws")
