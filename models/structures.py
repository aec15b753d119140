"""Crystal structures from the texts that people keep them in: CIF, POSCAR, pymatgen JSON."""

from __future__ import annotations

import json
import warnings
from collections.abc import Sequence

import numpy as np
from pymatgen.core import DummySpecies, Structure

from models.errors import InputError

MIN_DISTANCE = 0.5
"""Shortest distance between two atoms [A] that is no overlap; the shortest bond, in H2, measures 0.74 A."""

MAX_SITES = 1000
"""Largest cell that is read; a larger one is rather a wrong file than a candidate."""


def parse_structure(text: str) -> Structure:
    """Read one ordered structure from a CIF, a POSCAR or pymatgen's JSON.

    Parameters
    ----------
    text : str
        The file's content; the format is recognised from it.

    Returns
    -------
    Structure
        As written (no reduction, no symmetrisation), lengths in A.

    Raises
    ------
    InputError
        Empty or unreadable text, partial occupation, overlapping atoms, no volume, more than `MAX_SITES` sites.
    """
    if not isinstance(text, str) or not text.strip():
        raise InputError("structure is missing; give a CIF, a POSCAR or pymatgen JSON")
    kind = _kind(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            structure = _READERS[kind](text)
    except InputError:
        raise
    # pymatgen's readers raise anything from KeyError to LinAlgError on garbage; the cause is kept in the message
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        remedy = "give a CIF, a POSCAR or pymatgen JSON"
        raise InputError(f"structure cannot be read as {kind} ({detail}); {remedy}") from error
    check_structure(structure)
    return structure


def check_structure(structure: Structure) -> None:
    """Refuse a structure that no model of this project can use.

    Parameters
    ----------
    structure : Structure
        Any structure.

    Raises
    ------
    InputError
        No atoms, too many atoms, partial occupation, no finite volume, atoms closer than `MIN_DISTANCE`.
    """
    n = len(structure)
    if n == 0:
        raise InputError("structure has no atoms; check the file")
    if n > MAX_SITES:
        raise InputError(f"structure has {n} sites, more than {MAX_SITES}; give the primitive cell")
    if not structure.is_ordered:
        raise InputError("structure is disordered (partial occupation); give an ordered one")
    # a dummy's atomic number is the hash of its name, so only its type tells
    if any(isinstance(site.specie, DummySpecies) for site in structure):
        raise InputError("structure holds a dummy species; give chemical elements")
    if not np.isfinite(structure.frac_coords).all() or not np.isfinite(structure.volume) or structure.volume < 0.1:
        raise InputError("structure has no finite cell or coordinates; check the lattice")
    shortest = _shortest_distance(structure)
    if shortest < MIN_DISTANCE:
        raise InputError(f"structure has overlapping atoms ({shortest:.2f} A apart); check the coordinates")


def parse_structures(texts: Sequence[str]) -> tuple[list[Structure | None], list[str | None]]:
    """Read many structures and say why a row has none.

    Parameters
    ----------
    texts : sequence of str
        n file contents.

    Returns
    -------
    structures : list of Structure or None
        One per row.
    reasons : list of str or None
        None where there is a structure.
    """
    structures: list[Structure | None] = []
    reasons: list[str | None] = []
    for text in texts:
        try:
            structures.append(parse_structure(text))
            reasons.append(None)
        except InputError as error:
            structures.append(None)
            reasons.append(str(error))
    return structures, reasons


def _kind(text: str) -> str:
    """Format of a text, from the marks that its format demands."""
    if text.lstrip().startswith("{"):
        return "pymatgen JSON"
    return "CIF" if "_cell_length_a" in text else "POSCAR"


def _from_json(text: str) -> Structure:
    """Read pymatgen's `Structure.as_dict` as JSON."""
    record = json.loads(text)
    if "lattice" not in record or "sites" not in record:
        raise InputError("structure JSON has no lattice or no sites; write it with pymatgen's Structure.to_json")
    return Structure.from_dict(record)


def _from_cif(text: str) -> Structure:
    """Read the first structure of a CIF, sites as written."""
    from pymatgen.io.cif import CifParser  # a second to import, and most tables hold JSON

    # two atoms on one place must end as an error and not be merged, so sums of occupation above one are not accepted
    return CifParser.from_str(text, occupancy_tolerance=1.0).parse_structures(primitive=False, on_error="raise")[0]


def _from_poscar(text: str) -> Structure:
    """Read a POSCAR that names its elements."""
    lines = text.splitlines()
    if len(lines) < 8 or not any(part[:1].isalpha() for part in lines[5].split()):
        raise InputError("structure is no CIF, no JSON and no POSCAR with a line of element symbols")
    from pymatgen.io.vasp import Poscar  # a second to import, and most tables hold JSON

    return Poscar.from_str(text).structure


_READERS = {"pymatgen JSON": _from_json, "CIF": _from_cif, "POSCAR": _from_poscar}


def _shortest_distance(structure: Structure) -> float:
    """Shortest distance between two atoms [A], images included; inf if none lie within 1 A."""
    distances = structure.get_neighbor_list(1.0, exclude_self=True)[3]
    return float(distances.min()) if len(distances) else np.inf
