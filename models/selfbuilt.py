"""The self-built starter set: CHGNet applied to chunks of decorated prototypes.

The order of work is `candidates` (models.decoration), `evaluate_static`, `select_for_relaxation` (models.selection),
`relax`, `select_for_tensors`, `tensors`, `assemble` (models.assembly). Every function here takes a table and returns a
table, and depends on nothing else; chunks may be run in any order and any number of times.

CHGNet (Deng et al., Nature Machine Intelligence 5, 1031, 2023) was trained on energies of the Materials Project after
its GGA/GGA+U mixing and anion corrections, so its energies carry them. This is the only file that imports it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import io
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import torch
from pymatgen.core import Structure

from models.crystals import read_structure, shortest_ratio, spacegroup_number, structure_json
from models.decoration import build
from models.lattice_response import elastic_response
from models.relaxation import RelaxSettings, Response, relax_structures, scan_volume

MODEL_NAME = "0.3.0"


class MissingPotentialError(ImportError):
    """chgnet is not installed."""


@lru_cache(maxsize=1)
def _load() -> Any:
    """Load the potential, once per process, with its parameters frozen."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            from chgnet.model import CHGNet

            model = CHGNet.load(model_name=MODEL_NAME, use_device="cpu", verbose=False)
    except ImportError as error:
        raise MissingPotentialError(
            "chgnet is needed to rebuild the starter set; remedy: pip install 'elemscreen[selfbuilt]'"
        ) from error
    model.eval()
    model.requires_grad_(False)
    return model


def _graph(structure: Structure) -> Any | None:
    """Turn a crystal into CHGNet's graph; None where an atom has no neighbour, which it cannot describe."""
    try:
        return _load().graph_converter(structure)
    except ValueError:
        return None


def evaluate(structures: Sequence[Structure]) -> list[Response]:
    """Energy, forces and stress of a batch in one backward pass.

    Parameters
    ----------
    structures : sequence of Structure

    Returns
    -------
    list of Response
        In the order given; not-a-number where the potential cannot describe a crystal (an isolated atom).
    """
    results = [Response(float("nan"), np.full((len(s), 3), np.nan), np.full((3, 3), np.nan)) for s in structures]
    graphs = {index: graph for index, s in enumerate(structures) if (graph := _graph(s)) is not None}
    if not graphs:
        return results
    from chgnet.model.model import BatchedGraph

    model = _load()
    members = list(graphs.values())
    batch = BatchedGraph.from_graphs(
        members,
        bond_basis_expansion=model.bond_basis_expansion,
        angle_basis_expansion=model.angle_basis_expansion,
        compute_stress=True,
    )
    n_atoms = torch.tensor([len(structures[index]) for index in graphs])
    energies = model._compute(batch)["e"] * n_atoms
    shifts = model.composition_model(members) * n_atoms
    gradients = torch.autograd.grad(energies.sum(), [*batch.atom_positions, *batch.strains])
    totals = (energies.detach() + shifts.detach()).double().numpy()
    for place, index in enumerate(graphs):
        stress = gradients[len(graphs) + place].double().numpy() / structures[index].volume
        forces = -gradients[place].double().numpy()
        results[index] = Response(float(totals[place]), forces, 0.5 * (stress + stress.T))
    return results


def potential_version() -> str:
    """Name the versions of package and weights, e.g. ``chgnet 0.4.2, model 0.3.0``."""
    _load()
    return f"chgnet {importlib.metadata.version('chgnet')}, model {MODEL_NAME}"


def evaluate_static(chunk: pd.DataFrame) -> pd.DataFrame:
    """Volume scan of unrelaxed candidates.

    Parameters
    ----------
    chunk : DataFrame
        Rows of `models.decoration.candidates`.

    Returns
    -------
    DataFrame
        ``candidate_id, energy_per_atom`` [eV, at zero pressure], ``volume_per_atom`` [A^3], ``pressure,
        bulk_modulus`` [GPa], ``n_evaluations``; not-a-number where the potential cannot describe the crystal.
    """
    structures = [build(row) for _, row in chunk.iterrows()]
    scans = scan_volume(structures, evaluate, max_evaluations=3)
    rows = []
    for identifier, scan in zip(chunk["candidate_id"], scans, strict=True):
        n_atoms = len(scan.structure)
        energy, volume = scan.energy / n_atoms, scan.structure.volume / n_atoms
        rows.append((identifier, energy, volume, scan.pressure, scan.bulk_modulus, scan.n_evaluations))
    columns = ["candidate_id", "energy_per_atom", "volume_per_atom", "pressure", "bulk_modulus", "n_evaluations"]
    return pd.DataFrame(rows, columns=columns)


def relax(chunk: pd.DataFrame, settings: RelaxSettings | None = None) -> pd.DataFrame:
    """Relax cell and positions of selected candidates.

    Parameters
    ----------
    chunk : DataFrame
        Rows of `candidates` with ``static_volume_per_atom`` [A^3], where the relaxation starts.
    settings : RelaxSettings, optional

    Returns
    -------
    DataFrame
        ``candidate_id, converged, n_evaluations, max_force`` [eV/A], ``max_stress`` [GPa], ``energy_per_atom`` [eV],
        ``volume_per_atom`` [A^3], ``spacegroup_start, spacegroup_end, shortest_ratio`` (shortest distance over the sum
        of the covalent radii) and ``structure`` (JSON).
    """
    structures = []
    for _, row in chunk.iterrows():
        structure = build(row)
        structure.scale_lattice(float(row["static_volume_per_atom"]) * len(structure))
        structures.append(structure)
    results = relax_structures(structures, evaluate, settings or RelaxSettings())
    rows = []
    for identifier, start, result in zip(chunk["candidate_id"], structures, results, strict=True):
        end, n_atoms = result.structure, len(start)
        rows.append(
            {
                "candidate_id": identifier,
                "converged": result.converged,
                "n_evaluations": result.n_evaluations,
                "max_force": result.max_force,
                "max_stress": result.max_stress,
                "energy_per_atom": result.energy / n_atoms,
                "volume_per_atom": end.volume / n_atoms,
                "spacegroup_start": spacegroup_number(start),
                "spacegroup_end": spacegroup_number(end),
                "shortest_ratio": shortest_ratio(end),
                "structure": structure_json(end),
            }
        )
    return pd.DataFrame(rows)


def tensors(chunk: pd.DataFrame) -> pd.DataFrame:
    """Elastic tensors of relaxed compounds.

    Parameters
    ----------
    chunk : DataFrame
        With ``candidate_id`` and ``structure`` (JSON).

    Returns
    -------
    DataFrame
        ``candidate_id, elastic_tensor`` (36 numbers, row-major, GPa, frame of ``structure``), ``asymmetry, residual``
        [GPa], ``converged, n_evaluations``.
    """
    rows = []
    for identifier, text in zip(chunk["candidate_id"], chunk["structure"], strict=True):
        response = elastic_response(read_structure(text), evaluate)
        rows.append(
            {
                "candidate_id": identifier,
                "elastic_tensor": [round(float(value), 3) for value in response.tensor.ravel()],
                "asymmetry": response.asymmetry,
                "residual": response.residual,
                "converged": response.converged,
                "n_evaluations": response.n_evaluations,
            }
        )
    return pd.DataFrame(rows)
