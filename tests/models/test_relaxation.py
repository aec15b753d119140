"""Relaxation against an analytic pair potential."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from cubic_crystals import copper
from pymatgen.core import Lattice, Structure

from models.relaxation import RelaxSettings, Response, batches, relax_structures, scan_volume

_spec = importlib.util.spec_from_file_location("toy_potential", Path(__file__).with_name("toy_potential.py"))
assert _spec is not None
assert _spec.loader is not None
toy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(toy)


def _fcc(a: float) -> Structure:
    return copper(a).get_primitive_structure()


def _distorted() -> Structure:
    crystal = Structure(Lattice.from_parameters(3.6, 3.75, 3.9, 88, 91, 93), ["Cu"] * 4, _corners())
    # drawn here: pymatgen's `perturb` draws anew each time, and now and then a pair lies right at the cutoff
    shifts = np.random.default_rng(3).normal(size=(4, 3))
    for site, shift in enumerate(0.08 * shifts / np.linalg.norm(shifts, axis=1, keepdims=True)):
        crystal.translate_sites([site], shift, frac_coords=False)
    return crystal


def _corners() -> list[list[float]]:
    return [[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5]]


def test_toy_forces_and_stress_are_derivatives_of_its_energy() -> None:
    crystal = _distorted()
    response = toy.evaluate([crystal])[0]
    step = 1e-4
    moved = crystal.copy()
    moved.translate_sites([1], [step, 0, 0], frac_coords=False)
    back = crystal.copy()
    back.translate_sites([1], [-step, 0, 0], frac_coords=False)
    up, down = toy.evaluate([moved, back])
    assert -(up.energy - down.energy) / (2 * step) == pytest.approx(response.forces[1, 0], abs=1e-5)
    strain = np.zeros((3, 3))
    strain[0, 1] = strain[1, 0] = step
    cells = [
        Structure(crystal.lattice.matrix @ (np.eye(3) + sign * strain), crystal.species, crystal.frac_coords)
        for sign in (1, -1)
    ]
    up, down = toy.evaluate(cells)
    slope = (up.energy - down.energy) / (2 * step) / crystal.volume
    assert slope == pytest.approx(2 * response.stress[0, 1], abs=1e-5)


def test_volume_scan_finds_zero_pressure_from_far_away() -> None:
    small, large = scan_volume([_fcc(3.2), _fcc(4.2)], toy.evaluate, max_evaluations=12, pressure_tolerance=0.01)
    assert small.structure.volume == pytest.approx(large.structure.volume, rel=0.02)
    assert small.energy == pytest.approx(large.energy, abs=2e-3)
    assert small.bulk_modulus > 50


def test_distorted_crystal_comes_back_to_fcc() -> None:
    reference = relax_structures([_fcc(3.6)], toy.evaluate)[0]
    result = relax_structures([_distorted()], toy.evaluate, RelaxSettings(max_steps=100))[0]
    assert result.converged
    assert result.max_force <= 0.05
    assert result.max_stress <= 0.5
    assert result.energy / 4 == pytest.approx(reference.energy, abs=2e-3)


def test_fixed_cell_keeps_the_cell() -> None:
    start = _distorted()
    result = relax_structures([start], toy.evaluate, RelaxSettings(fixed_cell=True))[0]
    assert result.converged
    np.testing.assert_array_equal(result.structure.lattice.matrix, start.lattice.matrix)


def test_unconverged_is_said_so_and_order_is_kept() -> None:
    crystals = [_distorted(), _fcc(3.6), _distorted()]
    results = relax_structures(crystals, toy.evaluate, RelaxSettings(max_steps=2))
    assert [len(r.structure) for r in results] == [4, 1, 4]
    assert not results[0].converged
    assert results[0].n_evaluations == 2


def test_result_does_not_depend_on_the_company() -> None:
    crystals = [_distorted(), _distorted(), _fcc(3.5)]
    together = relax_structures(crystals, toy.evaluate)
    alone = [relax_structures([crystal], toy.evaluate)[0] for crystal in crystals]
    for one, other in zip(together, alone, strict=True):
        assert one.energy == pytest.approx(other.energy, abs=1e-12)


def test_not_a_number_ends_a_relaxation() -> None:
    def broken(structures: list[Structure]) -> list[Response]:
        return [Response(np.nan, np.full((len(s), 3), np.nan), np.full((3, 3), np.nan)) for s in structures]

    result = relax_structures([_fcc(3.6)], broken)[0]
    assert not result.converged
    assert result.n_evaluations == 1
    assert np.isnan(scan_volume([_fcc(3.6)], broken)[0].energy)


def test_batches_respect_the_limit_unless_one_crystal_is_larger() -> None:
    crystals = [_distorted(), _distorted(), _fcc(3.6), _distorted()]
    assert batches(crystals, 8) == [[0, 1], [2, 3]]
    assert batches(crystals, 3) == [[0], [1], [2], [3]]
