"""The hull against linear programmes, pymatgen and hand-made systems."""

from __future__ import annotations

from copy import deepcopy

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.optimize import linprog

from models import hull_quaternary, hull_walk
from models.elements import ELEMENT_INDEX, ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.hull import PhaseHull
from models.space import CompositionSpace

TOLERANCE = 1e-9  # eV/atom, against a linear programme


def lp_energy(fractions: NDArray[np.float64], energies: NDArray[np.float64], target: NDArray[np.float64]) -> float:
    """Oracle: the hull as one linear programme over all phases and the elements."""
    columns = np.flatnonzero(target)
    inside = (np.delete(fractions, columns, axis=1) == 0).all(axis=1)
    inside &= np.count_nonzero(fractions, axis=1) > 1
    phases = np.vstack([np.eye(len(columns)), fractions[inside][:, columns]])
    costs = np.concatenate([np.zeros(len(columns)), energies[inside]])
    options = {"primal_feasibility_tolerance": 1e-10, "dual_feasibility_tolerance": 1e-10}
    result = linprog(costs, A_eq=phases.T, b_eq=target[columns], method="highs", options=options)
    assert result.status == 0, result.message
    return float(result.fun)


def lp_decomposition(fractions: NDArray[np.float64], energies: NDArray[np.float64], row: int) -> float:
    """Oracle: energy minus the hull of the rows with another composition."""
    others = np.abs(fractions - fractions[row]).max(axis=1) > 1e-9
    return float(energies[row] - lp_energy(fractions[others], energies[others], fractions[row]))


def dense(formulas: list[str]) -> NDArray[np.float64]:
    return parse_many(formulas).fractions


@st.composite
def phase_sets(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Phases over a few elements: free, tied on a grid, flat, collinear, repeated."""
    k = draw(st.integers(2, 5))
    counts = draw(st.lists(st.lists(st.integers(0, 4), min_size=k, max_size=k).filter(any), min_size=1, max_size=14))
    if draw(st.booleans()):  # points on the line between the first two
        first, last = np.array(counts[0]), np.array(counts[-1])
        counts += [list(a * first + b * last) for a, b in ((1, 1), (1, 2), (3, 1))]
    kind = draw(st.sampled_from(["zero", "flat", "grid", "plane", "free"]))
    n = len(counts)
    fractions = np.zeros((n, 7))
    fractions[:, 1 : k + 1] = np.array(counts, dtype=float)
    fractions /= fractions.sum(axis=1, keepdims=True)
    if kind == "zero":
        energies = np.zeros(n)
    elif kind == "flat":
        energies = np.full(n, -0.3)
    elif kind == "grid":
        energies = 0.2 * np.array(draw(st.lists(st.integers(-4, 1), min_size=n, max_size=n)))
    elif kind == "plane":  # all phases on one hyperplane, so every basis is tied
        energies = fractions @ np.array([0.0, 0.0, *([-1.0] * 5)]) - 0.2
    else:
        energies = np.array(draw(st.lists(st.floats(-5.0, 2.0), min_size=n, max_size=n)))
    return fractions, energies


@settings(max_examples=120, deadline=None)
@given(phase_sets(), st.data())
def test_equals_linear_programme(phases: tuple[NDArray[np.float64], NDArray[np.float64]], data: st.DataObject) -> None:
    fractions, energies = phases
    hull = PhaseHull(fractions, energies)
    arity = data.draw(st.integers(2, 5))
    system = np.arange(1, arity + 1)
    space = CompositionSpace(arities=(arity,), max_atoms=8)
    grid = space.stoichiometries(arity)
    some = grid[data.draw(st.lists(st.integers(0, len(grid) - 1), min_size=1, max_size=6))]
    some = some / some.sum(axis=1, keepdims=True)
    targets = np.zeros((len(some), 7))
    targets[:, system] = some
    expected = np.array([lp_energy(fractions, energies, t) for t in targets])
    np.testing.assert_allclose(hull.energy_system(system, some), expected, atol=TOLERANCE)
    np.testing.assert_allclose(hull.energy_many(targets), expected, atol=TOLERANCE)
    np.testing.assert_allclose((some @ hull.facets(system).T).max(axis=1), expected, atol=TOLERANCE)
    assert (hull.energy_many(fractions) <= np.minimum(energies, 0.0) + TOLERANCE)[fractions.max(axis=1) < 1].all()


@settings(max_examples=120, deadline=None)
@given(phase_sets())
def test_decomposition_equals_linear_programme(phases: tuple[NDArray[np.float64], NDArray[np.float64]]) -> None:
    fractions, energies = phases
    hull = PhaseHull(fractions, energies)
    expected = [lp_decomposition(fractions, energies, row) for row in range(len(energies))]
    np.testing.assert_allclose(hull.decomposition_energy(fractions, energies), expected, atol=TOLERANCE)
    for row in np.unique(fractions[fractions.max(axis=1) < 1.0], axis=0)[:3]:
        columns = np.flatnonzero(row)
        share = row[columns][None]
        excluded = hull.energy_block(columns[None], share, exclude_own=True)[0]
        np.testing.assert_allclose(excluded, hull.without(row[None]).energy_many(row[None]), atol=TOLERANCE)
        np.testing.assert_allclose(excluded, -hull.decomposition_energy(row[None], np.zeros(1)), atol=TOLERANCE)


@pytest.mark.parametrize("kind", ["free", "grid", "plane"])
def test_equals_qhull_on_2000_quaternary_systems(kind: str) -> None:
    """All 205 compositions of each; energies at random, tied on a grid of 0.2 eV, or on one hyperplane."""
    random = np.random.default_rng(0)
    space = CompositionSpace(ELEMENTS[:20], arities=(2, 3))
    fractions = space.fractions(space.unrank(np.sort(random.choice(len(space), 4000, replace=False))), np.float64)
    free = random.normal(-0.6, 0.5, len(fractions))
    energies = {
        "free": free,
        "grid": 0.2 * np.round(free / 0.2),
        "plane": fractions @ -np.linspace(0.0, 2.0, fractions.shape[1]),
    }[kind]
    hull = PhaseHull(fractions, energies)
    grid = CompositionSpace(arities=(4,)).stoichiometries(4)
    points = grid / grid.sum(axis=1, keepdims=True)
    systems = np.sort(np.argsort(random.random((2000, 20)), axis=1)[:, :4], axis=1)
    ours = hull.energy_block(systems, points)
    for system, energy in zip(systems, ours, strict=True):
        expected = (points @ hull.facets(tuple(system.tolist())).T).max(axis=1)
        np.testing.assert_allclose(energy, expected, rtol=0, atol=TOLERANCE)


def test_elements_alone_are_flat() -> None:
    hull = PhaseHull(dense(["Li", "O2"]), np.array([0.5, -0.7]))
    np.testing.assert_array_equal(hull.facets([0, 5]), [[0.0, 0.0]])
    assert hull.energy_system([0, 5], np.array([[0.5, 0.5]])) == 0.0
    assert hull.is_known(dense(["Li", "O2", "Na"])).tolist() == [True, True, False]
    np.testing.assert_array_equal(hull.energy_many(dense(["Li", "LiO"])), [0.0, 0.0])


def test_empty_hull() -> None:
    hull = PhaseHull(np.zeros((0, 86)), np.zeros(0))
    assert hull.energy_many(dense(["NaCl"])) == 0.0
    assert hull.decomposition_energy(dense(["NaCl"]), np.array([-1.0])) == -1.0
    assert not hull.is_known(dense(["NaCl"]))[0]
    assert hull.energy_block(np.array([[0, 1, 2]]), np.full((1, 3), 1 / 3)) == 0.0
    assert hull.energy_many(np.zeros((0, 86))).shape == (0,)


def test_positive_phases_do_not_matter() -> None:
    hull = PhaseHull(dense(["NaCl", "Na2Cl"]), np.array([0.3, 0.0]))
    assert hull.energy_many(dense(["NaCl", "Na2Cl"])).tolist() == [0.0, 0.0]
    assert hull.decomposition_energy(dense(["NaCl"]), np.array([0.3])) == pytest.approx(0.3)


def test_by_hand() -> None:
    # Li2O at -2 eV/atom; Li2O2 lies 0.1 above the tie line Li2O - O (-1.5), LiO2 on the line by chance
    hull = PhaseHull(dense(["Li2O", "Li2O2", "LiO2"]), np.array([-2.0, -1.4, -1.0]))
    np.testing.assert_allclose(hull.energy_many(dense(["Li2O", "Li2O2", "LiO2", "Li4O"])), [-2, -1.5, -1, -1.2])
    facets = hull.facets([ELEMENT_INDEX["Li"], ELEMENT_INDEX["O"]])
    np.testing.assert_allclose(facets[np.argsort(facets[:, 0])], [[-3, 0], [0, -6]], atol=1e-12)


def test_phase_comes_back_when_its_rival_is_left_out() -> None:
    # Na3Cl2 is above the hull only because of NaCl; without NaCl it must compete again
    formulas = ["NaCl", "Na3Cl2", "NaCl3"]
    hull = PhaseHull(dense(formulas), np.array([-2.0, -1.5, -0.9]))
    assert len(hull.stable) == 1
    x = dense(["NaCl"])
    # tie line Na3Cl2 (-1.5 at 0.4 Cl) - NaCl3 (-0.9 at 0.75 Cl), at 0.5 Cl
    expected = -1.5 + (0.5 - 0.4) / (0.75 - 0.4) * 0.6
    assert hull.decomposition_energy(x, np.array([-2.0])) == pytest.approx(-2.0 - expected)
    assert hull.without(x).energy_many(x) == pytest.approx(expected)
    assert len(hull.without(x).stable) == 2
    assert not hull.without(x).is_known(x)[0]


def test_lowest_energy_per_composition_counts() -> None:
    hull = PhaseHull(dense(["NaCl", "Na2Cl2", "NaCl"]), np.array([-1.0, -2.0, -1.5]))
    assert len(hull) == 1
    assert hull.energy_many(dense(["NaCl"])) == pytest.approx(-2.0)
    # the other rows of a composition are no competitors of its own
    assert hull.decomposition_energy(dense(["NaCl"]), np.array([-2.0])) == pytest.approx(-2.0)


def test_reduction_changes_nothing() -> None:
    rng = np.random.default_rng(3)
    counts = rng.integers(0, 4, size=(300, 6)).astype(float)
    counts = counts[counts.sum(axis=1) > 0]
    fractions = counts / counts.sum(axis=1, keepdims=True)
    energies = rng.normal(-0.5, 0.4, len(fractions))
    hull = PhaseHull(fractions, energies)
    assert len(hull.stable) < len(hull.candidates) < len(fractions)
    got = hull.energy_many(fractions)
    for row in range(0, len(fractions), 10):
        if fractions[row].max() < 1:
            assert got[row] == pytest.approx(lp_energy(fractions, energies, fractions[row]), abs=TOLERANCE)


def test_many_elements() -> None:
    """Above eight elements subsets are not enumerated; the answers are the same."""
    rng = np.random.default_rng(5)
    counts = np.vstack([rng.integers(0, 2, size=(150, 11)), np.eye(11)[:9].astype(int), rng.integers(1, 4, (9, 11))])
    counts = counts[counts.sum(axis=1) > 0].astype(float)
    fractions = counts / counts.sum(axis=1, keepdims=True)
    energies = rng.normal(-0.5, 0.3, len(fractions))
    hull = PhaseHull(fractions, energies)
    high = np.flatnonzero(np.count_nonzero(fractions, axis=1) > 8)
    assert len(high) > 9
    expected = [lp_energy(fractions, energies, fractions[row]) for row in high]
    np.testing.assert_allclose(hull.energy_many(fractions[high]), expected, atol=TOLERANCE)
    expected = [lp_decomposition(fractions, energies, row) for row in high]
    np.testing.assert_allclose(hull.decomposition_energy(fractions[high], energies[high]), expected, atol=TOLERANCE)
    block = hull.energy_block(np.arange(10)[None], np.full((2, 10), 0.1))
    target = np.append(np.full(10, 0.1), 0.0)
    np.testing.assert_allclose(block, lp_energy(fractions, energies, target), atol=TOLERANCE)


def test_block_does_not_depend_on_its_company() -> None:
    rng = np.random.default_rng(11)
    counts = rng.integers(0, 3, size=(200, 8)).astype(float)
    counts = counts[counts.sum(axis=1) > 0]
    hull = PhaseHull(counts / counts.sum(axis=1, keepdims=True), rng.normal(-0.5, 0.4, len(counts)))
    systems = np.array([[0, 1, 2, 3], [1, 3, 5, 7], [2, 4, 5, 6]])
    table = CompositionSpace().stoichiometries(4)
    table = table / table.sum(axis=1, keepdims=True)
    block = hull.energy_block(systems, table)
    for i, system in enumerate(systems):
        np.testing.assert_array_equal(block[i], hull.energy_system(system, table))
    np.testing.assert_allclose(block, [[(hull.facets(s) @ x).max() for x in table] for s in systems], atol=TOLERANCE)


def test_travels_to_a_worker() -> None:
    hull = PhaseHull(dense(["Li2O", "Li2O2"]), np.array([-2.0, -1.6]))
    copy = deepcopy(hull)
    np.testing.assert_array_equal(copy.energy_many(dense(["LiO2"])), hull.energy_many(dense(["LiO2"])))


@pytest.mark.parametrize(
    ("fractions", "energies", "message"),
    [
        (np.eye(3), np.zeros(2), "as many energies"),
        (np.full((1, 3), 0.5), np.zeros(1), "sum to 1"),
        (np.array([[1.5, -0.5, 0.0]]), np.zeros(1), "no composition"),
        (np.array([[np.nan, 1.0, 0.0]]), np.zeros(1), "no composition"),
        (np.eye(3), np.array([0.0, np.nan, 0.0]), "not finite"),
        (np.eye(3, dtype=np.float32), np.zeros(3), "float64"),
        (np.zeros(3), np.zeros(3), "shape"),
    ],
)
def test_refuses_bad_phases(fractions: NDArray[np.float64], energies: NDArray[np.float64], message: str) -> None:
    with pytest.raises(InputError, match=message):
        PhaseHull(fractions, energies)


@pytest.mark.parametrize("system", [[1, 0], [0, 0], [0, 3], [-1, 2], []])
def test_refuses_bad_systems(system: list[int]) -> None:
    hull = PhaseHull(np.eye(3), np.zeros(3))
    with pytest.raises(InputError):
        hull.facets(system)
    with pytest.raises(InputError):
        hull.energy_block(np.array([[0, 1]]), np.full((1, 3), 1 / 3))
    with pytest.raises(InputError, match="shape"):
        hull.energy_many(np.eye(4))


@settings(max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(0, 12), st.booleans())
def test_the_unrolled_walk_has_the_bits_of_the_general_one(seed: int, n: int, tied: bool) -> None:
    """Quaternary systems, with flat and tied energies too."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, (n, 4))
    counts[counts.sum(axis=1) == 0] = 1
    fractions = counts / counts.sum(axis=1, keepdims=True)
    energies = rng.choice([-0.4, -0.2, 0.0], n) if tied else rng.normal(-0.5, 0.4, n)
    targets = rng.dirichlet(np.ones(4), 30)
    ranges = (np.array([[0]]), np.array([[n]]), np.arange(4)[None], np.array([4]), fractions, energies, max(n, 1))
    general, unrolled = np.full((1, 30), np.nan), np.full((1, 30), np.nan)
    assert hull_walk.walk_block(*ranges, targets, general) == -1
    assert hull_quaternary.walk_block(*ranges, targets, unrolled) == -1
    assert np.abs(unrolled - general).max() < 1e-12
    assert (unrolled <= 1e-12).all()
