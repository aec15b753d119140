"""The hull on real data: pymatgen, linear programmes and the stated decomposition energies of `mp_formation_energy`."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition
from scipy.optimize import linprog

from models.elements import ELEMENTS
from models.formula import parse_many
from models.hull import PhaseHull
from models.space import CompositionSpace

FILE = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", Path(__file__).parents[3] / "shared" / "data"))
FILE = FILE / "mp_formation_energy.parquet"
pytestmark = [
    pytest.mark.reference_data,
    pytest.mark.skipif(not FILE.exists(), reason=f"needs {FILE.name}; set ELEMSCREEN_REFERENCE_DATA to its folder"),
]
AGREEMENT = 1e-6  # eV/atom


class Table:
    """The file, its fractions and its hull."""

    def __init__(self) -> None:
        frame = pd.read_parquet(FILE)
        parsed = parse_many(frame["formula"])
        assert parsed.valid.all()
        self.fractions = parsed.fractions
        self.arity = parsed.arity
        self.support = np.asfortranarray(self.fractions > 0)
        self.energies = frame["formation_energy_per_atom"].to_numpy()
        self.stated = frame["decomposition_energy"].to_numpy()
        self.hull = PhaseHull(self.fractions, self.energies)

    def inside(self, system: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rows whose elements all belong to the system."""
        return np.flatnonzero(self.support[:, system].sum(axis=1) == self.arity)

    def others_energy(self, row: int, left_out: bool) -> float:
        """Oracle: one linear programme over all phases of the row's system."""
        system = np.flatnonzero(self.fractions[row])
        rows = self.inside(system)
        rows = rows[self.arity[rows] > 1]
        if left_out:
            rows = rows[np.abs(self.fractions[rows] - self.fractions[row]).max(axis=1) > 1e-9]
        phases = np.vstack([np.eye(len(system)), self.fractions[rows][:, system]])
        costs = np.concatenate([np.zeros(len(system)), self.energies[rows]])
        options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
        b = self.fractions[row][system]
        return float(linprog(costs, A_eq=phases.T, b_eq=b, method="highs", options=options).fun)


@pytest.fixture(scope="module")
def table() -> Table:
    return Table()


def check_pymatgen(table: Table, n_systems: int, seed: int) -> float:
    """Largest difference over random chemical systems of the file, at their phases and at eight more compositions."""
    rng = np.random.default_rng(seed)
    compounds = np.flatnonzero(table.arity > 1)
    worst = 0.0
    for row in rng.choice(compounds, n_systems, replace=False):
        system = np.flatnonzero(table.fractions[row])
        rows = table.inside(system)
        entries = [PDEntry(Composition(ELEMENTS[e]), 0.0) for e in system]
        compositions = [composition(table.fractions[r]) for r in rows[table.arity[rows] > 1]]
        energies = table.energies[rows[table.arity[rows] > 1]]
        entries += [PDEntry(c, e * c.num_atoms) for c, e in zip(compositions, energies, strict=True)]
        diagram = PhaseDiagram(entries)
        grid = CompositionSpace(arities=(len(system),), max_atoms=max(10, len(system) + 2)).stoichiometries(len(system))
        grid = rng.choice(grid, min(8, len(grid)), replace=False)
        own = table.hull.energy_many(table.fractions[rows[table.arity[rows] > 1]])
        more = table.hull.energy_system(system, grid / grid.sum(axis=1, keepdims=True))
        extra = [Composition({ELEMENTS[e]: int(n) for e, n in zip(system, g, strict=True)}) for g in grid]
        expected = [diagram.get_hull_energy_per_atom(c) for c in compositions + extra]
        worst = max(worst, float(np.abs(np.concatenate([own, more]) - expected).max()))
    return worst


def composition(fractions: NDArray[np.float64]) -> Composition:
    """pymatgen's composition of a row of fractions."""
    return Composition({ELEMENTS[e]: float(fractions[e]) for e in np.flatnonzero(fractions)})


def check_linear_programme(table: Table, n_rows: int, seed: int) -> float:
    """Largest difference over random rows: the hull and the hull of all other compositions."""
    rows = np.random.default_rng(seed).choice(np.flatnonzero(table.arity > 1), n_rows, replace=False)
    hull = table.hull.energy_many(table.fractions[rows])
    decomposition = table.hull.decomposition_energy(table.fractions[rows], table.energies[rows])
    worst = 0.0
    for i, row in enumerate(rows):
        worst = max(worst, abs(hull[i] - table.others_energy(row, left_out=False)))
        worst = max(worst, abs(decomposition[i] - (table.energies[row] - table.others_energy(row, left_out=True))))
    return worst


def test_pymatgen_60_systems(table: Table) -> None:
    assert check_pymatgen(table, 60, seed=0) < AGREEMENT


def test_linear_programme_sample(table: Table) -> None:
    assert check_linear_programme(table, 100, seed=1) < AGREEMENT


def test_stated_decomposition_energies(table: Table) -> None:
    rows = np.flatnonzero(np.isfinite(table.stated))
    assert len(rows) > 42_000
    ours = table.hull.decomposition_energy(table.fractions[rows], table.energies[rows])
    assert (np.abs(ours - table.stated[rows]) <= 0.003).mean() >= 0.999
    # the stated ones come from an iterative solver, which can only stop above the true hull
    assert (ours - table.stated[rows]).min() > -0.001
    assert np.abs(ours - table.stated[rows]).max() < 0.01


def test_facets_agree_with_the_walk(table: Table) -> None:
    rng = np.random.default_rng(4)
    grid = CompositionSpace().stoichiometries(4)
    grid = grid / grid.sum(axis=1, keepdims=True)
    systems = np.sort(np.array([rng.choice(86, 4, replace=False) for _ in range(300)]), axis=1)
    walked = table.hull.energy_block(systems, grid)
    facets = np.array([(grid @ table.hull.facets(s).T).max(axis=1) for s in systems])
    np.testing.assert_allclose(walked, facets, atol=1e-9)


def test_excluding_own_phases_changes_only_them(table: Table) -> None:
    stable = table.hull.stable
    rows = np.flatnonzero(stable.compositions.arity == 3)[::40]
    systems = np.unique(stable.compositions.elements[rows, :3], axis=0)
    grid = CompositionSpace().stoichiometries(3)
    grid = grid / grid.sum(axis=1, keepdims=True)
    all_phases = table.hull.energy_block(systems, grid)
    others = table.hull.energy_block(systems, grid, exclude_own=True)
    assert (others >= all_phases - 1e-12).all()
    changed = np.argwhere(others > all_phases + 1e-6)
    assert len(changed) > 100
    dense = np.zeros((len(changed), 86))
    dense[np.arange(len(changed))[:, None], systems[changed[:, 0]]] = grid[changed[:, 1]]
    assert table.hull.is_known(dense).all()
    expected = -table.hull.decomposition_energy(dense, np.zeros(len(dense)))
    np.testing.assert_allclose(others[changed[:, 0], changed[:, 1]], expected, atol=1e-9)


@pytest.mark.soak
def test_pymatgen_200_systems(table: Table) -> None:
    assert check_pymatgen(table, 200, seed=1) < AGREEMENT


@pytest.mark.soak
def test_linear_programme_2000_rows(table: Table) -> None:
    assert check_linear_programme(table, 2000, seed=0) < AGREEMENT
