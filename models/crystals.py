"""Small helpers on crystals: compact JSON, space group, shortest distance."""

from __future__ import annotations

import json
import warnings

import numpy as np
from pymatgen.core import Structure

DECIMALS = 5


def structure_json(structure: Structure, decimals: int = DECIMALS) -> str:
    """Write a crystal as the shortest JSON that `Structure.from_dict` reads.

    Parameters
    ----------
    structure : Structure
        Ordered.
    decimals : int
        Kept of lattice vectors (Angstrom) and fractional coordinates.

    Returns
    -------
    str
        ``{"lattice": {"matrix": ...}, "sites": [{"species": ..., "abc": ...}, ...]}``.
    """

    def short(values: object) -> list[float]:
        return [round(float(v), decimals) + 0.0 for v in values]  # type: ignore[attr-defined]

    sites = []
    for site in structure:
        inside = [value % 1.0 for value in short(np.mod(site.frac_coords, 1.0))]
        sites.append({"species": [{"element": site.specie.symbol, "occu": 1}], "abc": inside})
    data = {"lattice": {"matrix": [short(row) for row in structure.lattice.matrix]}, "sites": sites}
    return json.dumps(data, separators=(",", ":"))


def read_structure(text: str) -> Structure:
    """Read what `structure_json` wrote."""
    return Structure.from_dict(json.loads(text))


def spacegroup_number(structure: Structure, tolerance: float = 0.05) -> int:
    """International number of the space group within ``tolerance`` (A); 0 where spglib finds none."""
    from pymatgen.symmetry.analyzer import SpacegroupAnalyzer  # takes half a second to import

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return int(SpacegroupAnalyzer(structure, symprec=tolerance).get_space_group_number())
        except (TypeError, ValueError, AttributeError):
            return 0
        except Exception as error:  # spglib's own error types differ between releases
            if type(error).__module__.split(".")[0] in {"spglib", "pymatgen"}:
                return 0
            raise


def shortest_ratio(structure: Structure) -> float:
    """Shortest interatomic distance over the sum of the two covalent radii (Cordero et al., Dalton Trans. 2832, 2008).

    Neighbours are looked for within 3.5 A; infinite where there are none.
    """
    from pymatgen.analysis.molecule_structure_comparator import CovalentRadius  # takes half a second

    centres, others, _, distances = structure.get_neighbor_list(3.5)
    if len(distances) == 0:
        return float("inf")
    radius = np.array([CovalentRadius.radius.get(site.specie.symbol, 1.6) for site in structure])
    return float((distances / (radius[centres] + radius[others])).min())
