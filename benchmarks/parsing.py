"""Formulas to element fractions, against pymatgen."""

from __future__ import annotations

import numpy as np
from pymatgen.core import Composition

from benchmarks.case import Case
from models.formula import parse_many
from models.space import CompositionSpace

N = 20_000


def cases() -> list[Case]:
    space = CompositionSpace()
    formulas = space.formulas(space.unrank(np.sort(np.random.default_rng(0).integers(0, len(space), N))))

    def ours() -> int:
        _ = parse_many(formulas).fractions
        return N

    def theirs() -> int:
        for formula in formulas[:2000]:
            composition = Composition(formula)
            _ = composition.reduced_formula, composition.fractional_composition
        return 2000

    return [Case("formula to reduced formula and fractions", "formulas", "pymatgen Composition", ours, theirs)]
