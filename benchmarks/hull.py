"""Hull energies at all 205 compositions of quaternary systems, against pymatgen and Qhull."""

from __future__ import annotations

import numpy as np
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from benchmarks.case import Case
from models.elements import ELEMENTS
from models.hull import PhaseHull
from models.space import CompositionSpace

SEED = 0
N_PHASES = 40_000
N_SYSTEMS = 400


def cases() -> list[Case]:
    rng = np.random.default_rng(SEED)
    space = CompositionSpace(elements=ELEMENTS[:40], arities=(2, 3))
    known = space.unrank(np.sort(rng.choice(len(space), N_PHASES, replace=False)))
    fractions = space.fractions(known, np.float64)
    energies = rng.normal(-0.6, 0.5, N_PHASES)
    hull = PhaseHull(fractions, energies)
    formulas = space.formulas(known)
    stoichiometries = CompositionSpace(arities=(4,)).stoichiometries(4)
    points = stoichiometries / stoichiometries.sum(axis=1, keepdims=True)
    systems = np.sort(np.stack([rng.choice(40, 4, replace=False) for _ in range(N_SYSTEMS)]), axis=1)
    few = systems[:6]

    def ours() -> int:
        hull.energy_block(systems, points)
        return N_SYSTEMS

    def qhull() -> int:
        for system in systems[:60]:
            (points @ hull.facets(tuple(int(e) for e in system)).T).max(axis=1)
        hull._facets.clear()
        return 60

    def pymatgen() -> int:
        for system in few:
            allowed = np.zeros(86, dtype=bool)
            allowed[system] = True
            rows = np.flatnonzero((fractions[:, ~allowed] == 0).all(axis=1))
            symbols = [ELEMENTS[int(e)] for e in system]
            entries = [PDEntry(Composition(s), 0.0) for s in symbols]
            for row in rows:
                composition = Composition(formulas[row])
                entries.append(PDEntry(composition, energies[row] * composition.num_atoms))
            diagram = PhaseDiagram(entries)
            for counts in stoichiometries:
                diagram.get_hull_energy_per_atom(Composition(dict(zip(symbols, map(int, counts), strict=True))))
        return len(few)

    return [
        Case("hull of a quaternary system, 205 compositions", "systems", "pymatgen PhaseDiagram", ours, pymatgen),
        Case("hull of a quaternary system, 205 compositions", "systems", "scipy Qhull, facet by facet", ours, qhull),
    ]
