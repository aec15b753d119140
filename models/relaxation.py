"""Relaxation of small crystals: quasi-Newton steps on cell strain and positions, many crystals at a time.

The potential is a function (`Evaluate`), so everything here can be tested with an analytic one. Steps keep the
symmetry of the start as far as the potential's forces and stress have it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

GPA_PER_EV_A3 = 160.21766208
"""One eV/A^3 in GPa (CODATA)."""

SOFTEST = 30.0
"""Smallest bulk modulus (GPa) with which a volume scan extrapolates its energy to zero pressure."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Response:
    """What a potential says about one crystal.

    Attributes
    ----------
    energy : float
        eV per cell.
    forces : (n, 3) array
        eV/A.
    stress : (3, 3) array
        dE/d(strain)/volume in eV/A^3; positive when the crystal wants to shrink.
    """

    energy: float
    forces: Array
    stress: Array


Evaluate = Callable[[Sequence[Structure]], list[Response]]


@dataclass(frozen=True)
class RelaxSettings:
    """When to stop and how far to step.

    Attributes
    ----------
    force_tolerance : float
        Largest force component left, eV/A.
    stress_tolerance : float
        Largest stress component left, GPa; ignored with a fixed cell.
    max_steps : int
        Evaluations per crystal.
    fixed_cell : bool
        Move positions only.
    max_strain, max_move : float
        Largest strain component and displacement (A) of one step.
    atoms_per_batch : int
        Atoms evaluated together; larger batches are slower per atom on a CPU core.
    position_stiffness : float
        First guess of the curvature per coordinate, eV/A^2.
    cell_stiffness : float
        First guess of the elastic constants, GPa.
    """

    force_tolerance: float = 0.05
    stress_tolerance: float = 0.5
    max_steps: int = 40
    fixed_cell: bool = False
    max_strain: float = 0.05
    max_move: float = 0.15
    atoms_per_batch: int = 20
    position_stiffness: float = 8.0
    cell_stiffness: float = 120.0


@dataclass
class Relaxed:
    """Where a relaxation ended.

    Attributes
    ----------
    structure : Structure
        The last crystal evaluated.
    energy : float
        eV per cell.
    stress : (3, 3) array
        eV/A^3, sign as in `Response`.
    max_force, max_stress : float
        Largest component left, eV/A and GPa.
    n_evaluations : int
    converged : bool
    """

    structure: Structure
    energy: float
    stress: Array
    max_force: float
    max_stress: float
    n_evaluations: int
    converged: bool


# Symmetric strains as six numbers whose dot product is the tensor product (off-diagonals times sqrt 2).
_PAIRS = ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))
_WEIGHTS = np.array([1.0, 1.0, 1.0, np.sqrt(2.0), np.sqrt(2.0), np.sqrt(2.0)])


def _to_six(tensor: Array) -> Array:
    """(3, 3) symmetric -> (6,), norm kept."""
    six: Array = np.array([0.5 * (tensor[i, j] + tensor[j, i]) for i, j in _PAIRS]) * _WEIGHTS
    return six


def _from_six(six: Array) -> Array:
    """(6,) -> (3, 3) symmetric."""
    tensor = np.zeros((3, 3))
    for (i, j), value in zip(_PAIRS, six / _WEIGHTS, strict=True):
        tensor[i, j] = tensor[j, i] = value
    return tensor


@dataclass
class _Walker:
    """One crystal on its way down: BFGS on the inverse Hessian of (strain, positions)."""

    structure: Structure
    settings: RelaxSettings
    inverse_hessian: Array = field(init=False)
    gradient: Array | None = None
    step: Array | None = None
    best: Relaxed | None = None
    n_evaluations: int = 0

    def __post_init__(self) -> None:
        n_cell = 0 if self.settings.fixed_cell else 6
        stiffness = self.structure.volume * self.settings.cell_stiffness / GPA_PER_EV_A3
        diagonal = np.full(n_cell + 3 * len(self.structure), 1.0 / self.settings.position_stiffness)
        diagonal[:n_cell] = 1.0 / stiffness
        self.inverse_hessian = np.diag(diagonal)

    def absorb(self, response: Response) -> bool:
        """Take one evaluation in; True when the walk is over."""
        self.n_evaluations += 1
        forces = response.forces - response.forces.mean(axis=0)
        cell = [] if self.settings.fixed_cell else [_to_six(response.stress) * self.structure.volume]
        gradient = np.concatenate([*cell, -forces.ravel()])
        max_force = float(np.abs(forces).max())
        max_stress = float(np.abs(response.stress).max()) * GPA_PER_EV_A3
        done = max_force <= self.settings.force_tolerance and (
            self.settings.fixed_cell or max_stress <= self.settings.stress_tolerance
        )
        self.best = Relaxed(
            self.structure, response.energy, response.stress, max_force, max_stress, self.n_evaluations, done
        )
        if not np.all(np.isfinite(gradient)):
            return True
        if self.gradient is not None and self.step is not None:
            self._update(gradient - self.gradient)
        self.gradient = gradient
        return done or self.n_evaluations >= self.settings.max_steps

    def _update(self, change: Array) -> None:
        """BFGS update of the inverse Hessian; skipped where the curvature along the step is not positive."""
        step = self.step
        assert step is not None
        curvature = float(step @ change)
        if curvature <= 1e-8 * float(np.linalg.norm(step) * np.linalg.norm(change)) or curvature <= 0:
            return
        moved = self.inverse_hessian @ change
        self.inverse_hessian += (curvature + change @ moved) / curvature**2 * np.outer(step, step) - (
            np.outer(moved, step) + np.outer(step, moved)
        ) / curvature

    def advance(self) -> None:
        """Move to the next trial crystal."""
        assert self.gradient is not None
        step = -self.inverse_hessian @ self.gradient
        n_cell = 0 if self.settings.fixed_cell else 6
        largest = float(np.abs(step[n_cell:]).max()) / self.settings.max_move
        if n_cell:
            largest = max(largest, float(np.abs(step[:6]).max()) / self.settings.max_strain)
        self.step = step / max(1.0, largest)
        matrix = self.structure.lattice.matrix
        moves = self.step[n_cell:].reshape(-1, 3)
        fractional = self.structure.frac_coords + moves @ np.linalg.inv(matrix)
        if n_cell:
            matrix = matrix @ (np.eye(3) + _from_six(self.step[:6]))
        self.structure = Structure(matrix, self.structure.species, fractional)


def relax_structures(
    structures: Sequence[Structure], evaluate: Evaluate, settings: RelaxSettings | None = None
) -> list[Relaxed]:
    """Relax crystals in batches that are refilled as members finish.

    Parameters
    ----------
    structures : sequence of Structure
    evaluate : Evaluate
        Energy, forces and stress of a batch.
    settings : RelaxSettings, optional

    Returns
    -------
    list of Relaxed
        In the order given; `converged` says honestly whether the tolerances were met.
    """
    settings = settings or RelaxSettings()
    walkers = [_Walker(structure, settings) for structure in structures]
    waiting = list(reversed(walkers))
    active: list[_Walker] = []
    while waiting or active:
        n_atoms = sum(len(walker.structure) for walker in active)
        while waiting and (not active or n_atoms + len(waiting[-1].structure) <= settings.atoms_per_batch):
            active.append(waiting.pop())
            n_atoms += len(active[-1].structure)
        responses = evaluate([walker.structure for walker in active])
        still = []
        for walker, response in zip(active, responses, strict=True):
            if not walker.absorb(response):
                walker.advance()
                still.append(walker)
        active = still
    results = [walker.best for walker in walkers]
    assert all(result is not None for result in results)
    return [result for result in results if result is not None]


def batches(structures: Sequence[Structure], atoms_per_batch: int) -> list[list[int]]:
    """Group consecutive crystals so that their atoms together stay at or below ``atoms_per_batch``."""
    groups: list[list[int]] = []
    n_atoms = 0
    for index, structure in enumerate(structures):
        if not groups or n_atoms + len(structure) > atoms_per_batch:
            groups.append([])
            n_atoms = 0
        groups[-1].append(index)
        n_atoms += len(structure)
    return groups


@dataclass(frozen=True)
class VolumeScan:
    """A crystal scaled, shape and fractional positions fixed, to where its pressure vanishes.

    Attributes
    ----------
    structure : Structure
        The scaled crystal.
    energy : float
        eV per cell, corrected to zero pressure to second order.
    pressure : float
        GPa left at ``structure``.
    bulk_modulus : float
        Secant estimate along the scan, GPa.
    n_evaluations : int
    """

    structure: Structure
    energy: float
    pressure: float
    bulk_modulus: float
    n_evaluations: int


def scan_volume(
    structures: Sequence[Structure],
    evaluate: Evaluate,
    *,
    max_evaluations: int = 4,
    pressure_tolerance: float = 3.0,
    atoms_per_batch: int = 20,
) -> list[VolumeScan]:
    """Find the volume of zero pressure by secant steps in ln V.

    Parameters
    ----------
    structures : sequence of Structure
        Crystals at a guessed volume.
    evaluate : Evaluate
    max_evaluations : int
        Evaluations per crystal.
    pressure_tolerance : float
        GPa; small against the bulk modulus, since the energy is corrected to second order.
    atoms_per_batch : int

    Returns
    -------
    list of VolumeScan
        In the order given.
    """
    results: list[VolumeScan | None] = [None] * len(structures)
    for group in batches(structures, atoms_per_batch):
        current = {index: structures[index] for index in group}
        modulus = dict.fromkeys(group, 80.0)
        before: dict[int, tuple[float, float]] = {}
        for count in range(1, max_evaluations + 1):
            responses = evaluate(list(current.values()))
            following: dict[int, Structure] = {}
            for (index, structure), response in zip(current.items(), responses, strict=True):
                pressure = -float(np.trace(response.stress)) / 3.0 * GPA_PER_EV_A3
                log_volume = float(np.log(structure.volume))
                if index in before and abs(log_volume - before[index][0]) > 1e-9:
                    slope = -(pressure - before[index][1]) / (log_volume - before[index][0])
                    modulus[index] = float(np.clip(slope, 5.0, 600.0))
                before[index] = (log_volume, pressure)
                stiffness = max(modulus[index], SOFTEST)
                gain = 0.5 * pressure**2 / stiffness * structure.volume / GPA_PER_EV_A3
                results[index] = VolumeScan(structure, response.energy - gain, pressure, modulus[index], count)
                if abs(pressure) > max(pressure_tolerance, 0.03 * modulus[index]):
                    change = float(np.clip(pressure / modulus[index], -0.25, 0.25))
                    scaled = structure.copy()
                    scaled.scale_lattice(structure.volume * float(np.exp(change)))
                    following[index] = scaled
            current = following
            if not current:
                break
    return [result for result in results if result is not None]
