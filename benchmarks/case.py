"""One comparison."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Case:
    """What is measured, in which unit, and against what a user would otherwise run."""

    name: str
    unit: str
    against: str
    ours: Callable[[], int]
    theirs: Callable[[], int]
