"""Crystal graphs: every atom with its 12 nearest neighbours, as flat arrays.

Neighbours come from pymatgen's compiled `Structure.get_neighbor_list`. Rules, so that a graph does not depend on the
order of the sites in its file:

- Neighbours are ordered by distance (rounded to 1e-4 A, so that equal shells tie), then atomic number, then site.
- An atom with fewer than 12 neighbours within the cutoff keeps those; the free places point at the atom itself, have an
  infinite distance and are masked out of the convolution. An atom with none is an isolated node.

Source: Xie & Grossman, Phys. Rev. Lett. 120, 145301 (2018).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from models.atom_features import MAX_ATOMIC_NUMBER
from models.errors import InputError

IntArray = NDArray[np.int64]

CRYSTAL_FEATURE_VERSION = 2
"""Raised whenever the same structure would give another graph, other atom features or other crystal attributes; part of
every model card."""

_TIE = 4
"""Decimals of a distance [A] within which neighbours count as one shell."""


@dataclass(frozen=True)
class GraphParameters:
    """How a structure becomes a graph.

    Attributes
    ----------
    n_neighbours : int
        Edges per atom.
    cutoff : float
        Largest distance of a neighbour, A.
    gaussian_step : float
        Distance between the centres of the Gaussians (0, step, ... cutoff) and their width, A.
    """

    n_neighbours: int = 12
    cutoff: float = 8.0
    gaussian_step: float = 0.2

    def __post_init__(self) -> None:
        """Refuse settings that have no meaning."""
        if self.n_neighbours < 1 or not self.cutoff > 0 or not 0 < self.gaussian_step <= self.cutoff:
            raise InputError(f"crystal graph parameters {self} are not positive; keep the defaults (12, 8.0, 0.2)")

    @property
    def n_gaussians(self) -> int:
        """Length of an edge's feature vector: 41 by default."""
        return round(self.cutoff / self.gaussian_step) + 1


DEFAULT_GRAPH = GraphParameters()


@dataclass(frozen=True)
class CrystalGraphs:
    """Graphs of n crystals with N atoms in all, concatenated.

    Attributes
    ----------
    atomic_numbers : ndarray, shape (N,), int16
        Z of each atom.
    neighbours : ndarray, shape (N, 12), int32
        Neighbours of each atom as indices within its own crystal.
    distances : ndarray, shape (N, 12), float32
        A; ascending; inf marks a free place.
    offsets : ndarray, shape (n + 1,), int64
        Atoms of crystal i are offsets[i] to offsets[i + 1].
    volumes : ndarray, shape (n,), float64
        Volume of each crystal's cell, A^3.
    """

    atomic_numbers: NDArray[np.int16]
    neighbours: NDArray[np.int32]
    distances: NDArray[np.float32]
    offsets: IntArray
    volumes: NDArray[np.float64]

    def __len__(self) -> int:
        """Count the crystals."""
        return len(self.offsets) - 1

    @property
    def n_atoms(self) -> IntArray:
        """Atoms of each crystal, shape (n,)."""
        return np.diff(self.offsets)

    @property
    def volumes_per_atom(self) -> NDArray[np.float64]:
        """Volume per atom of each crystal, shape (n,), A^3."""
        return np.asarray(self.volumes / self.n_atoms)

    def select(self, rows: Sequence[int] | IntArray) -> CrystalGraphs:
        """Graphs of some crystals in the given order.

        Parameters
        ----------
        rows : sequence of int
            Crystal indices; repetition is allowed.

        Returns
        -------
        CrystalGraphs
            Copies.
        """
        chosen = np.asarray(rows, dtype=np.int64)
        sizes = self.n_atoms[chosen]
        offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        atoms = np.repeat(self.offsets[:-1][chosen] - offsets[:-1], sizes) + np.arange(offsets[-1])
        return CrystalGraphs(
            self.atomic_numbers[atoms], self.neighbours[atoms], self.distances[atoms], offsets, self.volumes[chosen]
        )

    def to_arrays(self) -> dict[str, NDArray[np.generic]]:
        """Arrays by name, ready to be stored.

        Returns
        -------
        dict of str to ndarray
            The five attributes.
        """
        return {name: getattr(self, name) for name in _FIELDS}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[np.generic]]) -> CrystalGraphs:
        """Rebuild graphs from `to_arrays`.

        Parameters
        ----------
        arrays : mapping of str to ndarray
            The five attributes.

        Returns
        -------
        CrystalGraphs
            Checked for consistent shapes and indices.

        Raises
        ------
        InputError
            An array is missing or does not fit the others.
        """
        missing = [name for name in _FIELDS if name not in arrays]
        if missing:
            raise InputError(f"crystal graphs lack the arrays {', '.join(missing)}; build them again")
        graphs = cls(*[np.asarray(arrays[name], dtype=kind) for name, kind in _FIELDS.items()])
        n = len(graphs.atomic_numbers)
        shapes_fit = graphs.neighbours.shape == graphs.distances.shape and len(graphs.neighbours) == n
        if not shapes_fit or len(graphs.offsets) == 0 or graphs.offsets[0] != 0 or graphs.offsets[-1] != n:
            raise InputError("crystal graphs have arrays that do not fit each other; build them again")
        if (graphs.n_atoms < 1).any():
            raise InputError("crystal graphs hold a crystal without atoms; build them again")
        limits = np.repeat(graphs.n_atoms, graphs.n_atoms)[:, None]
        if (graphs.neighbours < 0).any() or (graphs.neighbours >= limits).any():
            raise InputError("crystal graphs point at atoms that do not exist; build them again")
        if graphs.volumes.shape != (len(graphs),) or not ((graphs.volumes > 0) & np.isfinite(graphs.volumes)).all():
            raise InputError("crystal graphs lack the volume of a cell; build them again")
        return graphs

    @staticmethod
    def concatenate(parts: Sequence[CrystalGraphs]) -> CrystalGraphs:
        """Join graphs, for instance of chunks built in parallel.

        Parameters
        ----------
        parts : sequence of CrystalGraphs
            At least one.

        Returns
        -------
        CrystalGraphs
            All crystals in order.
        """
        sizes = np.concatenate([part.n_atoms for part in parts])
        return CrystalGraphs(
            np.concatenate([part.atomic_numbers for part in parts]),
            np.concatenate([part.neighbours for part in parts]),
            np.concatenate([part.distances for part in parts]),
            np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
            np.concatenate([part.volumes for part in parts]),
        )


_FIELDS = {
    "atomic_numbers": np.int16, "neighbours": np.int32, "distances": np.float32, "offsets": np.int64,
    "volumes": np.float64,
}  # fmt: skip


def build_graph(structure: Structure, parameters: GraphParameters = DEFAULT_GRAPH) -> CrystalGraphs:
    """Graph of one crystal.

    Parameters
    ----------
    structure : Structure
        Ordered.
    parameters : GraphParameters
        Neighbours and cutoff.

    Returns
    -------
    CrystalGraphs
        Of one crystal.

    Raises
    ------
    InputError
        Disordered, empty, or with an element beyond the table of atom features.
    """
    if len(structure) == 0 or not structure.is_ordered:
        raise InputError("structure is empty or disordered; give an ordered one")
    numbers = np.array([site.specie.Z for site in structure], dtype=np.int16)
    if numbers.max() > MAX_ATOMIC_NUMBER or numbers.min() < 1:
        raise InputError(f"structure holds an element without atom features (Z = {numbers.max()}); leave the row out")
    neighbours, distances = _nearest(structure, numbers, parameters)
    offsets = np.array([0, len(numbers)], dtype=np.int64)
    return CrystalGraphs(numbers, neighbours, distances, offsets, np.array([structure.volume]))


def build_graphs(
    structures: Sequence[Structure | None],
    parameters: GraphParameters = DEFAULT_GRAPH,
    *,
    progress: Callable[[int], None] | None = None,
) -> tuple[CrystalGraphs, list[str | None]]:
    """Graphs of many crystals; a failure is a reason and the run goes on.

    Parameters
    ----------
    structures : sequence of Structure or None
        n crystals.
    parameters : GraphParameters
        Neighbours and cutoff.
    progress : callable, optional
        Called with the number of structures done, after each.

    Returns
    -------
    graphs : CrystalGraphs
        Of the rows without a reason, in order.
    reasons : list of str or None, length n
        Why a row has no graph.
    """
    shape = (0, parameters.n_neighbours)
    atoms = (np.zeros(0, np.int16), np.zeros(shape, np.int32), np.zeros(shape, np.float32))
    parts = [CrystalGraphs(*atoms, np.zeros(1, np.int64), np.zeros(0))]
    reasons: list[str | None] = []
    for row, structure in enumerate(structures):
        try:
            if structure is None:
                raise InputError("structure is missing")
            parts.append(build_graph(structure, parameters))
            reasons.append(None)
        except InputError as error:
            reasons.append(str(error))
        if progress is not None:
            progress(row + 1)
    return CrystalGraphs.concatenate(parts), reasons


def _nearest(
    structure: Structure, numbers: NDArray[np.int16], parameters: GraphParameters
) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Neighbours (n, k) and distances (n, k) of every atom, free places as the module says."""
    n, k = len(numbers), parameters.n_neighbours
    # 1.5 times the radius that holds k + 1 atoms at the mean density is nearly always enough and much less than 8 A
    radius = min(parameters.cutoff, 1.5 * float((3 * structure.volume * (k + 1) / (4 * np.pi * n)) ** (1 / 3)))
    while True:
        centre, site, _, distance = structure.get_neighbor_list(radius + 10**-_TIE, exclude_self=True)
        counts = np.bincount(centre, minlength=n)
        if radius >= parameters.cutoff or counts.min() >= k:
            break
        radius = min(parameters.cutoff, 1.3 * radius)
    order = np.lexsort((site, numbers[site], np.round(distance, _TIE), centre))
    centre, site, distance = centre[order], site[order], distance[order]
    place = np.arange(len(centre)) - np.repeat(np.cumsum(counts) - counts, counts)
    kept = (place < k) & (distance <= parameters.cutoff)
    neighbours = np.repeat(np.arange(n, dtype=np.int32)[:, None], k, axis=1)
    distances = np.full((n, k), np.inf, dtype=np.float32)
    neighbours[centre[kept], place[kept]] = site[kept]
    distances[centre[kept], place[kept]] = distance[kept]
    return neighbours, distances
