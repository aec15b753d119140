"""Crystal graph convolutional network for the logarithms of the bulk and shear modulus.

Source: Xie & Grossman, Phys. Rev. Lett. 120, 145301 (2018). The first linear map of a convolution, of the atom, its
neighbour and their bond, is split into three: the parts of the atoms are computed once per atom and not once per edge,
which is the same function at a fraction of the work. Atoms of free places (see `models.crystal_graph`) send nothing.

In evaluation mode batch norm uses stored statistics, so a prediction does not depend on what else is in the batch.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.atom_features import N_ATOM_FEATURES, atom_feature_table
from models.crystal_graph import CRYSTAL_FEATURE_VERSION, DEFAULT_GRAPH, CrystalGraphs, GraphParameters
from models.errors import InputError
from models.gaussians import gaussians
from models.kernel_machine import CONSTANT, IGNORED

ARCHITECTURE = "cgcnn"


ATTRIBUTE_DROPOUT = 0.1
"""Share of a crystal's attributes that a network does not see in a step."""
FARTHEST = 4.0
"""Standard deviations from the mean beyond which an attribute counts as so many."""


@dataclass(frozen=True)
class GraphBatch:
    """Crystals that go through the network together.

    Attributes
    ----------
    atomic_numbers : Tensor, shape (N,), int64
        Z.
    neighbours : Tensor, shape (N * k,), int64
        Rows of the batch, atom by atom.
    distances : Tensor, shape (N * k,), float32
        A; inf in free places.
    crystal : Tensor, shape (N,), int64
        Crystal of each atom.
    n_crystals : int
        Crystals.
    attributes : Tensor, shape (n_crystals, n_attributes), or None
        What else is known of each crystal, for networks that read it.
    """

    atomic_numbers: Tensor
    neighbours: Tensor
    distances: Tensor
    crystal: Tensor
    n_crystals: int
    attributes: Tensor | None = None


def make_batch(graphs: CrystalGraphs, attributes: NDArray[np.float64] | None = None) -> GraphBatch:
    """All crystals of `graphs` as one batch.

    Parameters
    ----------
    graphs : CrystalGraphs
        At least one crystal.
    attributes : ndarray, shape (n, n_attributes), optional
        Of each crystal.

    Returns
    -------
    GraphBatch
        On the CPU.
    """
    sizes = graphs.n_atoms
    starts = np.repeat(graphs.offsets[:-1], sizes)
    return GraphBatch(
        atomic_numbers=torch.from_numpy(graphs.atomic_numbers.astype(np.int64)),
        neighbours=torch.from_numpy((graphs.neighbours + starts[:, None]).ravel()),
        distances=torch.from_numpy(graphs.distances.astype(np.float32).ravel()),
        crystal=torch.from_numpy(np.repeat(np.arange(len(graphs)), sizes)),
        n_crystals=len(graphs),
        attributes=None if attributes is None else torch.from_numpy(attributes.astype(np.float32)),
    )


def pack_by_atoms(n_atoms: NDArray[np.int64], order: NDArray[np.int64], max_atoms: int) -> Iterator[NDArray[np.int64]]:
    """Cut an order of crystals into batches of at most `max_atoms` atoms (one crystal at least).

    Parameters
    ----------
    n_atoms : ndarray, shape (n,)
        Atoms of each crystal.
    order : ndarray, shape (m,)
        Crystals in the order to be served.
    max_atoms : int
        Limit.

    Yields
    ------
    ndarray
        Crystals of the next batch.
    """
    start, total = 0, 0
    for position, crystal in enumerate(order):
        if position > start and total + n_atoms[crystal] > max_atoms:
            yield order[start:position]
            start, total = position, 0
        total += int(n_atoms[crystal])
    if start < len(order):
        yield order[start:]


class GatedConvolution(nn.Module):
    """v_i <- softplus(v_i + BN(sum_j sigmoid(gate_ij) * softplus(core_ij))) over the neighbours j of i.

    Parameters
    ----------
    width : int
        Length of an atom's vector.
    n_gaussians : int
        Length of a bond's vector.
    """

    def __init__(self, width: int, n_gaussians: int) -> None:
        super().__init__()
        self.centre = nn.Linear(width, 2 * width)
        self.neighbour = nn.Linear(width, 2 * width, bias=False)
        self.bond = nn.Linear(n_gaussians, 2 * width, bias=False)
        self.edge_norm = nn.BatchNorm1d(2 * width)
        self.atom_norm = nn.BatchNorm1d(width)

    def forward(self, atoms: Tensor, bonds: Tensor, neighbours: Tensor, present: Tensor | None) -> Tensor:
        """Convolve once.

        Parameters
        ----------
        atoms : Tensor, shape (N, width)
            Atom vectors.
        bonds : Tensor, shape (N * k, n_gaussians)
            Bond vectors.
        neighbours : Tensor, shape (N * k,)
            Rows of `atoms`.
        present : Tensor of bool, shape (N * k,), or None
            False in free places; None if there is none.

        Returns
        -------
        Tensor, shape (N, width)
            New atom vectors.
        """
        n, width = atoms.shape
        k = len(neighbours) // n
        # index_select: its backward is index_add_, which is deterministic on the CPU
        edges = self.neighbour(atoms).index_select(0, neighbours) + self.bond(bonds)
        edges = (edges.view(n, k, 2 * width) + self.centre(atoms)[:, None, :]).view(n * k, 2 * width)
        if present is None:
            messages = self._gate(edges)
        else:
            places = torch.nonzero(present).squeeze(1)
            messages = edges.new_zeros(n * k, width).index_add(0, places, self._gate(edges.index_select(0, places)))
        summed = messages.view(n, k, width).sum(dim=1)
        return nn.functional.softplus(atoms + self.atom_norm(summed))

    def _gate(self, edges: Tensor) -> Tensor:
        """Normalise edges (m, 2 width) and gate their core, (m, width)."""
        gate, core = self.edge_norm(edges).chunk(2, dim=1)
        return torch.sigmoid(gate) * nn.functional.softplus(core)


class CGCNN(nn.Module):
    """Embedding, gated convolutions, mean over the atoms, hidden layers, one output per target.

    Parameters
    ----------
    n_convolutions : int
        Gated convolutions.
    atom_width : int
        Length of an atom's vector.
    hidden_width : int
        Width of the layers after pooling.
    n_hidden : int
        Layers after pooling.
    n_outputs : int
        Targets.
    n_attributes, attribute_width : int
        Columns that are known of a crystal beside its graph, none by default, and the width of the layer that reads
        them; its output stands beside the mean over the atoms. See `fit_attributes`.
    n_neighbours : int
        Edges per atom of the graphs that it is fed with.
    cutoff, gaussian_step : float
        Range of the distances and step of the Gaussians, A.
    feature_version : int
        Of atom features and graphs; refuses a model card of another version.

    Raises
    ------
    InputError
        A size below one, or features of another version.
    """

    table: Tensor
    centres: Tensor
    attribute_mean: Tensor
    attribute_scale: Tensor

    def __init__(
        self,
        *,
        n_convolutions: int = 3,
        atom_width: int = 64,
        hidden_width: int = 128,
        n_hidden: int = 1,
        n_outputs: int = 2,
        n_attributes: int = 0,
        attribute_width: int = 64,
        n_neighbours: int = DEFAULT_GRAPH.n_neighbours,
        cutoff: float = DEFAULT_GRAPH.cutoff,
        gaussian_step: float = DEFAULT_GRAPH.gaussian_step,
        feature_version: int = CRYSTAL_FEATURE_VERSION,
    ) -> None:
        super().__init__()
        if min(n_convolutions, atom_width, hidden_width, n_hidden, n_outputs, attribute_width) < 1 or n_attributes < 0:
            raise InputError("a size of the crystal-graph network is below 1; keep the defaults or give larger ones")
        if feature_version != CRYSTAL_FEATURE_VERSION:
            raise InputError(
                f"moduli model has crystal features of version {feature_version}, this release has "
                f"{CRYSTAL_FEATURE_VERSION}; train the model again"
            )
        self.graph = GraphParameters(n_neighbours, cutoff, gaussian_step)
        self.parameters_given = {
            "n_convolutions": n_convolutions,
            "atom_width": atom_width,
            "hidden_width": hidden_width,
            "n_hidden": n_hidden,
            "n_outputs": n_outputs,
            "n_attributes": n_attributes,
            "attribute_width": attribute_width,
            "n_neighbours": n_neighbours,
            "cutoff": cutoff,
            "gaussian_step": gaussian_step,
            "feature_version": feature_version,
        }
        n_gaussians = self.graph.n_gaussians
        self.register_buffer("table", torch.from_numpy(atom_feature_table().copy()), persistent=False)
        centres = torch.arange(n_gaussians, dtype=torch.float32) * gaussian_step
        self.register_buffer("centres", centres, persistent=False)
        self.embedding = nn.Linear(N_ATOM_FEATURES, atom_width)
        self.convolutions = nn.ModuleList(GatedConvolution(atom_width, n_gaussians) for _ in range(n_convolutions))
        if n_attributes:
            self.register_buffer("attribute_mean", torch.zeros(n_attributes))
            self.register_buffer("attribute_scale", torch.ones(n_attributes))
            self.dropout = nn.Dropout(ATTRIBUTE_DROPOUT)
            self.beside = nn.Linear(n_attributes, attribute_width)
        depths = [atom_width + (attribute_width if n_attributes else 0)] + [hidden_width] * n_hidden
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in pairwise(depths))
        self.output = nn.Linear(hidden_width, n_outputs)

    def forward(self, batch: GraphBatch) -> Tensor:
        """Predict all targets of all crystals.

        Parameters
        ----------
        batch : GraphBatch
            B crystals.

        Returns
        -------
        Tensor, shape (B, n_outputs)
            In the normalised unit of training.
        """
        bonds = self.expand(batch.distances)
        present = torch.isfinite(batch.distances)
        mask = None if bool(present.all()) else present
        atoms = self.embedding(self.table.index_select(0, batch.atomic_numbers))
        for convolution in self.convolutions:
            atoms = convolution(atoms, bonds, batch.neighbours, mask)
        counts = torch.bincount(batch.crystal, minlength=batch.n_crystals).to(atoms.dtype)
        pooled = atoms.new_zeros(batch.n_crystals, atoms.shape[1]).index_add(0, batch.crystal, atoms) / counts[:, None]
        pooled = nn.functional.softplus(pooled)
        if self.parameters_given["n_attributes"]:
            pooled = torch.cat([pooled, self.read_attributes(batch.attributes)], dim=1)
        for layer in self.hidden:
            pooled = nn.functional.softplus(layer(pooled))
        outputs: Tensor = self.output(pooled)
        return outputs

    def fit_attributes(self, attributes: NDArray[np.float64]) -> None:
        """Take means and standard deviations of the attributes, (n, n_attributes), of the crystals that are learnt.

        What is constant there counts for nothing later.
        """
        mean, deviation = attributes.mean(axis=0), attributes.std(axis=0)
        scale = np.where(deviation > CONSTANT * np.maximum(np.abs(mean), 1.0), deviation + 1e-6, IGNORED)
        self.attribute_mean.copy_(torch.from_numpy(mean))
        self.attribute_scale.copy_(torch.from_numpy(scale))

    def read_attributes(self, attributes: Tensor | None) -> Tensor:
        """Return the output of the layer that reads attributes, (B, attribute_width); outliers are brought nearer."""
        if attributes is None or attributes.shape[1] != len(self.attribute_mean):
            raise InputError(f"the crystal-graph network reads {len(self.attribute_mean)} attributes of each crystal")
        normal = (attributes - self.attribute_mean) / self.attribute_scale
        return nn.functional.softplus(self.beside(self.dropout(normal.clamp(-FARTHEST, FARTHEST))))

    def expand(self, distances: Tensor) -> Tensor:
        """Gaussians exp(-((d - centre) / step)^2) of distances.

        Parameters
        ----------
        distances : Tensor, shape (m,)
            A; inf gives zeros.

        Returns
        -------
        Tensor, shape (m, n_gaussians)
            Dimensionless.
        """
        return gaussians(-(((distances[:, None] - self.centres) / self.graph.gaussian_step) ** 2))

    def architecture(self) -> dict[str, Any]:
        """Describe the network for a model card.

        Returns
        -------
        dict
            ``{"name": "cgcnn", "parameters": {...}}``, which `models.registry.build` reads.
        """
        return {"name": ARCHITECTURE, "parameters": dict(self.parameters_given)}
