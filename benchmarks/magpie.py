"""Formulas to the 145 Magpie attributes, against matminer."""

from __future__ import annotations

import warnings

import numpy as np
from matminer.featurizers.composition import ElementProperty, IonProperty, Stoichiometry, ValenceOrbital
from pymatgen.core import Composition

from benchmarks.case import Case
from models.magpie import magpie_from_formulas
from models.space import CompositionSpace

N = 100_000
N_THEIRS = 300


def cases() -> list[Case]:
    space = CompositionSpace()
    formulas = space.formulas(space.unrank(np.sort(np.random.default_rng(0).integers(0, len(space), N))))
    some = formulas[:: N // N_THEIRS][:N_THEIRS]
    featurizers = [
        Stoichiometry(),
        ElementProperty.from_preset("magpie"),
        ValenceOrbital(props=["avg"]),
        IonProperty(fast=True),
    ]

    def ours() -> int:
        _ = magpie_from_formulas(formulas)
        return N

    def theirs() -> int:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for formula in some:
                composition = Composition(formula)
                _ = [value for featurizer in featurizers for value in featurizer.featurize(composition)]
        return N_THEIRS

    return [Case("formula to the 145 Magpie attributes", "formulas", "matminer's four featurizers", ours, theirs)]
