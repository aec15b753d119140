"""Fitted models that are nothing but arrays: written under a prefix among others, and checked when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError


class StoredArrays:
    """Base of frozen dataclasses whose fields are the arrays of `KINDS`.

    Attributes
    ----------
    KINDS
        Name of each array, and its type.
    WHAT
        What they are together, for error messages.
    """

    KINDS: ClassVar[Mapping[str, Any]]
    WHAT: ClassVar[str]

    def fits(self) -> bool:
        """Whether the arrays fit each other and hold what they may: checked where they are read."""
        raise NotImplementedError

    def to_arrays(self, prefix: str = "") -> dict[str, NDArray[Any]]:
        """Return the arrays by name, each with a prefix."""
        return {prefix + name: getattr(self, name) for name in self.KINDS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]], prefix: str = "") -> Self:
        """Rebuild what `to_arrays` was called on.

        Raises
        ------
        InputError
            An array is missing, does not fit the others, or holds what it may not.
        """
        missing = [name for name in cls.KINDS if prefix + name not in arrays]
        if missing:
            raise InputError(f"the {cls.WHAT} lacks the arrays {', '.join(missing)}; train the model again")
        made = cls(
            **{name: np.ascontiguousarray(arrays[prefix + name], dtype=kind) for name, kind in cls.KINDS.items()}
        )
        if not made.fits():
            raise InputError(f"the {cls.WHAT} has arrays that do not fit each other; train the model again")
        return made
