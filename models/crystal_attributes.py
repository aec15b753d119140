"""Attributes of a crystal that its graph gives: which atoms there are, how densely they lie, and what surrounds them.

They are what moduli are learnt from, beside the graph itself. None depends on the choice of the cell, nor on its
orientation, and all are finite: a free place among the neighbours counts as one at the cutoff. They come from the 22
Magpie properties of the elements (Ward et al., npj Comput. Mater. 2, 16028 (2016)), with the mean over all elements
where one is not known.

A neighbour j of atom i belongs to i's first shell with the weight exp(-((d_ij / d_i1 - 1) / 0.15)^2), d_i1 being the
distance of the nearest one: unlike a count of neighbours, it does not jump when a shell splits. The coordination is the
sum of these weights, 12 at most.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.atom_features import MAX_ATOMIC_NUMBER
from models.crystal_graph import DEFAULT_GRAPH, CrystalGraphs
from models.errors import InputError
from models.magpie_data import PROPERTIES

FloatArray = NDArray[np.float64]

STATISTICS: Final = ("mean", "deviation", "minimum", "maximum")
"""Of a property over the atoms of a crystal; `deviation` is the mean absolute deviation from the mean."""

_DENSITIES: Final = (
    "log10 volume per atom", "density", "packing", "volume over that of the elements",
    "log10 valence electrons per volume", "log10 s and p electrons per volume", "log10 unfilled states per volume",
)  # fmt: skip
_LENGTHS: Final = (
    "mean distance of 1 neighbour", "mean distance of 4 neighbours", "mean distance of 6 neighbours",
    "mean distance of 12 neighbours", "spread of the distances", "largest nearest distance",
    "smallest nearest distance", "spread of the nearest distances",
)  # fmt: skip
_BONDS: Final = (
    "nearest distance over radii", "smallest distance over radii", "mean distance over radii",
    "first shell's distance over radii", "largest first shell's distance over radii",
)  # fmt: skip
_SHELLS: Final = (
    "mean coordination", "smallest coordination", "spread of the coordination", "squared electronegativity difference",
    "squared electronegativity difference over distance",
)  # fmt: skip
CRYSTAL_ATTRIBUTES: Final = (
    *(f"{statistic} {name}" for statistic in STATISTICS for name in PROPERTIES),
    *_DENSITIES, *_LENGTHS, *_BONDS, *_SHELLS,
)  # fmt: skip
"""Names of the attributes, in order; lengths are in A, densities in g/cm^3, numbers per volume in 1/A^3."""

_WIDTH = 0.15
"""Of the first shell, as a share of the nearest distance."""
_GRAM_PER_CM3 = 1.66053907
"""Of 1 u/A^3 (CODATA 2018)."""
_UNFILLED = 0.1
"""Added to the unfilled states per atom, so that their logarithm exists where there are none."""
_FEWEST = 0.1
"""Of s and p electrons per atom, for the same reason: Magpie gives palladium none."""


@lru_cache(maxsize=1)
def _properties() -> FloatArray:
    """Magpie's properties by atomic number, shape (101, 22); row 0 stands for no element."""
    from matminer.utils.data import MagpieData  # seconds to import
    from pymatgen.core import Element

    magpie = MagpieData(impute_nan=True)
    table = np.zeros((MAX_ATOMIC_NUMBER + 1, len(PROPERTIES)))
    for number in range(1, MAX_ATOMIC_NUMBER + 1):
        element = Element.from_Z(number)
        table[number] = [magpie.get_elemental_property(element, name) for name in PROPERTIES]
    table.setflags(write=False)
    return table


def crystal_attributes(graphs: CrystalGraphs) -> FloatArray:
    """Compute the attributes of crystals.

    Parameters
    ----------
    graphs : CrystalGraphs
        n crystals of at least 12 neighbours per atom.

    Returns
    -------
    ndarray, shape (n, 113), float64
        In the order of `CRYSTAL_ATTRIBUTES`, finite; row by row, independent of what else is among the crystals.

    Raises
    ------
    InputError
        Graphs of fewer neighbours.
    """
    if graphs.distances.shape[1] < DEFAULT_GRAPH.n_neighbours:
        raise InputError(
            f"attributes of crystals need {DEFAULT_GRAPH.n_neighbours} neighbours per atom, the graphs have "
            f"{graphs.distances.shape[1]}; build them again with the default"
        )
    if len(graphs) == 0:
        return np.zeros((0, len(CRYSTAL_ATTRIBUTES)))
    atoms = _Atoms(graphs)
    columns = [*atoms.statistics(), *atoms.densities(graphs.volumes_per_atom), *atoms.lengths(), *atoms.shells()]
    return np.column_stack(columns)


class _Atoms:
    """The atoms of all crystals, their properties, and their neighbours."""

    def __init__(self, graphs: CrystalGraphs) -> None:
        self.n, self.starts = graphs.n_atoms, graphs.offsets[:-1]
        self.crystal = np.repeat(np.arange(len(graphs)), self.n)
        self.properties = _properties()[graphs.atomic_numbers]
        self.neighbours = graphs.neighbours + self.starts[self.crystal][:, None]
        free = ~np.isfinite(graphs.distances)
        self.distances = np.where(free, DEFAULT_GRAPH.cutoff, graphs.distances).astype(np.float64)
        free[:, 0] = False  # an atom without any neighbour has itself, at the cutoff
        nearest = self.distances[:, :1]
        self.weights = np.where(free, 0.0, np.exp(-(((self.distances / nearest - 1.0) / _WIDTH) ** 2)))

    def of(self, name: str) -> FloatArray:
        """Return a property of every atom, (N,)."""
        return np.asarray(self.properties[:, PROPERTIES.index(name)])

    def mean(self, values: FloatArray) -> FloatArray:
        """Return means over the atoms of each crystal, (n,)."""
        return np.asarray(np.bincount(self.crystal, values) / self.n)

    def spread(self, values: FloatArray) -> FloatArray:
        """Return standard deviations over the atoms of each crystal, (n,)."""
        return np.sqrt(self.mean((values - self.mean(values)[self.crystal]) ** 2))

    def least(self, values: FloatArray) -> FloatArray:
        """Return the smallest value of each crystal, (n,)."""
        return np.asarray(np.minimum.reduceat(values, self.starts))

    def most(self, values: FloatArray) -> FloatArray:
        """Return the largest value of each crystal, (n,)."""
        return np.asarray(np.maximum.reduceat(values, self.starts))

    def statistics(self) -> list[FloatArray]:
        """Return mean, deviation, minimum and maximum of the 22 properties."""
        columns = list(self.properties.T)
        means = [self.mean(column) for column in columns]
        deviations = [
            self.mean(np.abs(column - mean[self.crystal])) for column, mean in zip(columns, means, strict=True)
        ]
        return [*means, *deviations, *map(self.least, columns), *map(self.most, columns)]

    def densities(self, volumes: FloatArray) -> list[FloatArray]:
        """Return volume, mass, atoms' spheres and electrons per volume; volumes per atom, A^3."""
        radii = self.of("CovalentRadius") / 100.0  # pm -> A
        s_and_p = self.of("NsValence") + self.of("NpValence")
        return [
            np.log10(volumes),
            self.mean(self.of("AtomicWeight")) / volumes * _GRAM_PER_CM3,
            self.mean(4.0 / 3.0 * np.pi * radii**3) / volumes,
            volumes / self.mean(self.of("GSvolume_pa")),
            np.log10(self.mean(self.of("NValence")) / volumes),
            np.log10(np.maximum(self.mean(s_and_p), _FEWEST) / volumes),
            np.log10((self.mean(self.of("NUnfilled")) + _UNFILLED) / volumes),
        ]

    def lengths(self) -> list[FloatArray]:
        """Return distances of the neighbours."""
        nearest = self.distances[:, 0]
        return [
            *(self.mean(self.distances[:, :k].mean(axis=1)) for k in (1, 4, 6, 12)),
            self.mean(self.distances.std(axis=1)),
            self.most(nearest),
            self.least(nearest),
            self.spread(nearest),
        ]

    def shells(self) -> list[FloatArray]:
        """Return distances over the sum of the covalent radii, and what the first shell is made of."""
        radii, electronegativity = self.of("CovalentRadius") / 100.0, self.of("Electronegativity")
        relative = self.distances / (radii[:, None] + radii[self.neighbours])
        coordination = self.weights.sum(axis=1)
        shares = self.weights / coordination[:, None]
        shell = (shares * relative).sum(axis=1)
        polar = shares * (electronegativity[:, None] - electronegativity[self.neighbours]) ** 2
        return [
            self.mean(relative[:, 0]),
            self.least(relative.min(axis=1)),
            self.mean(relative.mean(axis=1)),
            self.mean(shell),
            self.most(shell),
            self.mean(coordination),
            self.least(coordination),
            self.spread(coordination),
            self.mean(polar.sum(axis=1)),
            self.mean((polar / self.distances).sum(axis=1)),
        ]
