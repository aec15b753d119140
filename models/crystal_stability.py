"""Which interfaces of a crystal with a metal electrode are stable: facets of the metal times planes of the crystal.

Every interface is judged by its least stable directions. It is called stable where that chi lies below zero with a
stated probability, the error of the stiffness considered, in every frame that the tensor can be stated in.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import scipy
from numpy.typing import ArrayLike

from models.anisotropic_stability import CRYSTAL_CONSTANTS, LITHIUM_CRYSTAL, LITHIUM_FACETS, plane_normal
from models.elasticity import instability_reason, is_positive_definite
from models.electrodeposition import MAX_VOLUME_RATIO, StabilityConstants
from models.errors import InputError
from models.published_convention import published_interfaces
from models.stroh import FloatArray
from models.tensor_frame import OrientedTensor
from models.worst_direction import (
    Waves,
    WorstDirection,
    finer_worst_direction,
    waves_at,
    worst_chi_by_scale,
    worst_direction,
)

CORRECTED_STD = 0.26
"""Scatter of log10 of shear moduli of a universal potential around those of density functional theory, after their bias
was taken out (docs/starter-set.md): the error of a stiffness that rests on such moduli."""

CONVENTIONS = ("worst_direction", "published")
"""By which directions an interface is judged: its least stable ones, or those of the published screen."""

INTERFACE_COLUMNS = (
    "frame",
    "facet",
    "plane",
    "chi",
    "chi_best_direction",
    "probability_stable",
    "stable",
    "convention",
    "electrolyte_wave",
    "electrode_wave",
    "chi_by_direction",
)


@dataclass(frozen=True)
class CrystalElectrode:
    """A metal electrode as a crystal.

    Attributes
    ----------
    tensor : ndarray, shape (6, 6)
        Stiffness along the cubic axes, GPa.
    facets : mapping
        Surface energy [J/m^2] by Miller indices of the cubic cell.
    constants : StabilityConstants
        Molar volume, charge, wavenumber.
    """

    tensor: FloatArray = field(default_factory=lambda: LITHIUM_CRYSTAL)
    facets: Mapping[tuple[int, int, int], float] = field(default_factory=lambda: LITHIUM_FACETS)
    constants: StabilityConstants = CRYSTAL_CONSTANTS


@dataclass(frozen=True)
class InterfaceParameters:
    """Which interfaces are looked at, and what is called stable.

    Attributes
    ----------
    max_index : int
        Largest Miller index of the electrolyte's planes.
    log10_stiffness_std : float
        Standard deviation of log10 of the electrolyte's stiffness as a whole. Computed constants lie within about
        15 % of measured ones (de Jong et al., Sci. Data 2, 150009 (2015)), which is 0.06.
    min_probability : float
        Least P(chi < 0) of an interface that is called stable.
    n_draws : int
        Stiffnesses that P is counted over: midpoints of as many equal parts of the distribution.
    convention : str
        One of `CONVENTIONS`; of ``published`` see `models.published_convention`: its interfaces are compared, and
        never called stable.
    """

    max_index: int = 1
    log10_stiffness_std: float = 0.06
    min_probability: float = 0.95
    n_draws: int = 64
    convention: str = CONVENTIONS[0]

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        if not 1 <= self.max_index <= 5:
            raise InputError(f"max_index is {self.max_index}; give a whole number from 1 to 5")
        if not self.log10_stiffness_std >= 0:
            raise InputError(f"log10_stiffness_std is {self.log10_stiffness_std}; give zero or more")
        if not 0 < self.min_probability <= 1:
            raise InputError(f"min_probability is {self.min_probability}; give a number in (0, 1]")
        if self.convention not in CONVENTIONS:
            raise InputError(f"convention is {self.convention!r}; choose {' or '.join(CONVENTIONS)}")
        if self.n_draws < 1:
            raise InputError(f"n_draws is {self.n_draws}; give one or more")

    def scales(self) -> FloatArray:
        """Return the factors of the stiffness that P is counted over, (n_draws,)."""
        middles = (np.arange(self.n_draws) + 0.5) / self.n_draws
        return np.asarray(10 ** (self.log10_stiffness_std * scipy.stats.norm.ppf(middles)))


def planes(max_index: int) -> list[tuple[int, int, int]]:
    """List planes (hkl), of a plane and its back only one, and no multiples of another.

    Parameters
    ----------
    max_index : int
        Largest Miller index.
    """
    indices = range(max_index, -max_index - 1, -1)
    every = ((h, k, m) for h, k, m in itertools.product(indices, repeat=3))
    return [hkl for hkl in every if hkl > (0, 0, 0) and math.gcd(*hkl) == 1]


def crystal_reason(tensor: ArrayLike, volume_ratio: float) -> str | None:
    """Say why a crystal cannot be judged; None where it can.

    Parameters
    ----------
    tensor : array_like, shape (6, 6)
        Stiffness, GPa.
    volume_ratio : float
        v, dimensionless.
    """
    reason = instability_reason(np.asarray(tensor, dtype=np.float64))
    if reason is not None:
        return reason
    if not is_positive_definite(tensor)[0]:
        return "elastic tensor is not positive definite as it is rounded; state it with more digits"
    if not 0 < volume_ratio < MAX_VOLUME_RATIO:
        return f"volume ratio {volume_ratio:g} is outside (0, {MAX_VOLUME_RATIO:g})"
    return None


def crystal_stability(
    tensor: ArrayLike,
    cells: Sequence[OrientedTensor],
    volume_ratio: float,
    electrode: CrystalElectrode | None = None,
    parameters: InterfaceParameters | None = None,
) -> pd.DataFrame:
    """Judge every interface of a crystal with the electrode.

    Parameters
    ----------
    tensor : array_like, shape (6, 6)
        Stiffness in Voigt order, GPa.
    cells : sequence of OrientedTensor
        Frames that it can be stated in, from `models.tensor_frame.oriented_tensors`.
    volume_ratio : float
        v = V_M+ / V_M, dimensionless.
    electrode : CrystalElectrode, optional
        Lithium by default.
    parameters : InterfaceParameters, optional
        Planes, error of the stiffness, what is called stable.

    Returns
    -------
    DataFrame
        `INTERFACE_COLUMNS`, one row per facet and plane, of the frame in which it is least stable: ``chi`` of the worst
        and ``chi_best_direction`` of the best pair of directions [kJ/mol/nm], the worst directions (unit vectors in
        the frames of the tensors), and the largest chi for each direction of the wave in the electrolyte, 5 degrees
        apart. By the published convention there is a row per facet, lattice direction (as ``plane``) and frame, chi is
        that of the one wave, and what has no meaning there is None.

    Raises
    ------
    InputError
        The tensor is not positive definite, or the volume ratio has no meaning.
    """
    metal, p = electrode or CrystalElectrode(), parameters or InterfaceParameters()
    stiffness = np.asarray(tensor, dtype=np.float64)
    reason = crystal_reason(stiffness, volume_ratio)
    if reason is not None:
        raise InputError(reason)
    if p.convention == "published":
        return _by_published_convention(metal, stiffness, cells, volume_ratio)
    hkl = planes(p.max_index)
    scales = p.scales()
    below = {facet: waves_at(metal.tensor, facet, "below")[0] for facet in metal.facets}
    rows = []
    for cell in cells:
        normals = [plane_normal(cell.lattice, indices) for indices in hkl]
        for indices, normal, above in zip(hkl, normals, waves_at(stiffness, normals, "above"), strict=True):
            for facet, surface_energy in metal.facets.items():
                pair = _Interface(below[facet], above, volume_ratio, surface_energy, metal.constants)
                rows.append(
                    {"facet": _text(facet), "plane": _text(indices)}
                    | pair.judged(
                        scales, p.min_probability, (metal.tensor, np.array(facet, float)), (stiffness, normal)
                    )
                )
    return _in_every_frame(pd.DataFrame(rows), "+".join(cell.frame for cell in cells))


def _by_published_convention(
    metal: CrystalElectrode, stiffness: FloatArray, cells: Sequence[OrientedTensor], volume_ratio: float
) -> pd.DataFrame:
    """Return the interfaces of the published screen, of every frame."""
    parts = []
    for cell in cells:
        part = published_interfaces(metal.tensor, metal.facets, stiffness, cell.lattice, volume_ratio, metal.constants)
        named = {"facet": part["facet"].map(_text), "plane": part["direction"].map(_direction)}
        parts.append(part.assign(frame=cell.frame, convention="published", **named))
    table = pd.concat(parts, ignore_index=True)
    for column in INTERFACE_COLUMNS:
        if column not in table:
            table[column] = None
    return table[list(INTERFACE_COLUMNS)]


def _in_every_frame(table: pd.DataFrame, frames: str) -> pd.DataFrame:
    """Keep of each facet and plane the row of the frame in which it is least stable, and what all frames allow."""
    interfaces = table.groupby(["facet", "plane"], sort=False)
    sure = interfaces[["probability_stable", "stable"]].transform("min").astype({"stable": bool})
    table = table.assign(frame=frames, convention=CONVENTIONS[0])
    table[["probability_stable", "stable"]] = sure
    return table.loc[interfaces["chi"].idxmax(), list(INTERFACE_COLUMNS)].reset_index(drop=True)


@dataclass(frozen=True)
class _Interface:
    """One facet of the metal on one plane of the electrolyte."""

    below: Waves
    above: Waves
    volume_ratio: float
    surface_energy: float
    constants: StabilityConstants

    def judged(
        self,
        scales: FloatArray,
        min_probability: float,
        electrode: tuple[FloatArray, FloatArray],
        electrolyte: tuple[FloatArray, FloatArray],
    ) -> dict[str, object]:
        """Return chi of the worst and best directions and what is claimed."""
        rest = (self.volume_ratio, self.surface_energy)
        worst: WorstDirection = worst_direction(self.below, self.above, *rest, self.constants)
        if worst.chi < 0:  # a claim is looked at more closely
            worst = finer_worst_direction(worst, electrode, electrolyte, *rest, self.constants)
        by_scale = worst_chi_by_scale(self.below, self.above, *rest, scales, self.constants)
        probability = float((by_scale < 0).mean())
        return {
            "chi": worst.chi,
            "chi_best_direction": worst.best,
            "probability_stable": probability,
            "stable": worst.chi < 0 and probability >= min_probability,
            "electrolyte_wave": worst.electrolyte_wave.tolist(),
            "electrode_wave": worst.electrode_wave.tolist(),
            "chi_by_direction": worst.by_direction.tolist(),
        }


def _text(indices: Sequence[int]) -> str:
    """Miller indices as they are written: (1 -1 0)."""
    return f"({' '.join(str(index) for index in indices)})"


def _direction(indices: Sequence[int]) -> str:
    """Return a lattice direction as it is written: [1 0 0]."""
    return f"[{' '.join(str(index) for index in indices)}]"
