"""Parameters of the stage `explain`: which layers, elements, properties and chemical systems are looked at."""

from __future__ import annotations

import re
from typing import Literal

from pydantic import Field, field_validator

from models.elements import ELEMENT_INDEX
from models.predicted_diagram import parse_system
from tasks.parameters import Parameters

PROBE = re.compile(r"\s*(?P<column>\w+)\s*(?:(?P<sign>[=<>])\s*(?P<value>[^=<>\s][^=<>]*?)\s*)?")
"""A property, or a column with or without a condition: ``halogen``, ``is_magnetic``, ``band_gap>0.1``."""


class ExplainParameters(Parameters):
    """What is looked at."""

    layers: tuple[str, ...] = Field(
        (), description="layers by number or name; empty: the first, the second and the middle one"
    )
    represent: Literal["elements", "compounds"] = Field(
        "elements", description="an element's activations: of the pure element, or the mean of its compounds AX"
    )
    measure: Literal["centred", "correlation", "cosine"] = Field(
        "centred", description="similarity; centred: cosine of the deviations from the mean element"
    )
    elements: tuple[str, ...] = Field(("Na", "Ti", "Cl", "La"), description="elements whose likes are mapped")
    probes: tuple[str, ...] = Field(
        ("charge_balanced", "magnetic_3d", "halogen"),
        description="properties read off the layers: of the composition, or columns of the table such as band_gap>0.1",
    )
    test_share: float = Field(0.3, gt=0, lt=1, description="share of the chemical systems a probe is tested on")
    penalty: float = Field(1e-3, gt=0, description="half of it times the squared weights of a probe adds to its loss")
    systems: tuple[str, ...] = Field((), description="binary or ternary systems to predict: Ti-O, Na-Mn-O")
    max_atoms: int = Field(12, ge=3, le=24, description="atoms per formula unit of their compositions at most")
    max_rows: int = Field(4000, ge=20, description="rows of the table at most; of a larger one as many are drawn")
    untrained: bool = Field(True, description="show the same network with random weights beside it")
    n_permutations: int = Field(999, ge=1, description="random groupings of the elements that the true one is held to")
    seed: int = Field(0, ge=0, description="seed of every draw")
    allow_mixed_scheme: bool = Field(
        False, description="go on although network and phases are of different energy schemes"
    )

    @field_validator("elements")
    @classmethod
    def _among_the_86(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [symbol for symbol in value if symbol not in ELEMENT_INDEX]
        if unknown:
            raise ValueError(f"'{unknown[0]}' is none of the 86 elements")
        return tuple(dict.fromkeys(value))

    @field_validator("systems")
    @classmethod
    def _two_or_three_elements(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        return tuple(dict.fromkeys("-".join(parse_system(text)) for text in value))

    @field_validator("probes")
    @classmethod
    def _readable(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [text for text in value if PROBE.fullmatch(text) is None]
        if wrong:
            raise ValueError(f"'{wrong[0]}' is no property; write halogen, is_magnetic, source=oqmd or band_gap>0.1")
        return tuple(dict.fromkeys(text.strip() for text in value))
