"""The hull of quaternary systems against pymatgen, Qhull and a linear program."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from benchmarks import hull
from benchmarks.case import Case
from benchmarks.run import pair
from benchmarks.screen_byhand import random_systems
from benchmarks.screen_page import table
from benchmarks.screen_subject import Subject

N_SYSTEMS = 400
N_PROGRAMS = 2
"""Systems that the linear programs solve in a round; the speed is scaled from them."""


def measure_hull(subject: Subject, rounds: int) -> str:
    """Measure all comparisons, in turns; the page's text."""
    rows = []
    deviation, program = _program(subject)
    for case in [*hull.cases(), program]:
        ours, theirs, ratio = pair(case.ours, case.theirs, rounds)
        rows.append((case.name, f"{ours:,.0f}", case.against, f"{theirs:,.1f}", f"{ratio:,.0f}"))
        print("hull:", *rows[-1], sep=" | ", flush=True)
    header = ("one core", "systems/s", "against", "systems/s", "ratio")
    text = (
        f"The linear program is on the screen's own phases, {N_PROGRAMS} systems measured per round (one program per "
        f"composition); the largest difference from ours there is {deviation:.1e} eV/atom.\n"
    )
    print(text, flush=True)
    return table(header, rows) + "\n" + text


def _program(subject: Subject) -> tuple[float, Case]:
    """Return the largest deviation on the measured systems, and the comparison."""
    systems = random_systems(N_SYSTEMS)
    stoichiometries = subject.space.stoichiometries(4)
    points = stoichiometries / stoichiometries.sum(axis=1, keepdims=True)
    problems = [_problem(subject, system) for system in systems[:N_PROGRAMS]]

    def ours() -> int:
        subject.hull.energy_block(systems, points)
        return N_SYSTEMS

    def programs() -> int:
        for matrix, energies in problems:
            _solve(matrix, energies, points)
        return N_PROGRAMS

    expected = subject.hull.energy_block(systems[:N_PROGRAMS], points)
    found = np.stack([_solve(matrix, energies, points) for matrix, energies in problems])
    name = "hull of a quaternary system, 205 compositions, the screen's phases"
    case = Case(name, "systems", "scipy linprog (HiGHS), composition by composition", ours, programs)
    return float(np.abs(found - expected).max()), case


def _problem(subject: Subject, system: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the fractions (k, n) and energies (n,) of all phases of a system, its elements first."""
    table_of_phases = subject.hull.candidates
    rows = table_of_phases.inside(system)
    fractions = np.vstack([np.eye(len(system)), table_of_phases.dense(rows, system)])
    return fractions.T, np.concatenate([np.zeros(len(system)), table_of_phases.energies[rows]])


def _solve(
    matrix: NDArray[np.float64], energies: NDArray[np.float64], points: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Lowest energy of a mixture of phases at each composition, eV/atom."""
    return np.array([linprog(energies, A_eq=matrix, b_eq=point, method="highs").fun for point in points])
