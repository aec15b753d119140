"""Structure prototypes of the AFLOW library, as pymatgen ships them.

Only the data file is read (``aflow_prototypes.json.gz``); the matcher beside it is deprecated and not used.

Sources
-------
Mehl et al., Comput. Mater. Sci. 136, S1 (2017); Hicks et al., Comput. Mater. Sci. 161, S1 (2019).
"""

from __future__ import annotations

import gzip
import importlib.util
import json
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from pymatgen.core import Lattice, Structure

_DATA_FILE = Path("analysis", "prototypes", "aflow_prototypes.json.gz")


@dataclass(frozen=True)
class Prototype:
    """A structure type with its sites grouped into element slots.

    Attributes
    ----------
    key : str
        AFLOW label, ``:`` and Strukturbericht symbol (mineral name where there is none); unique.
    aflow, strukturbericht, mineral : str
        The three names; empty where the library gives none.
    spacegroup_number : int
        International number, read from the AFLOW label.
    slots : tuple of str
        Elements of the library's own example; a decoration replaces them one by one.
    counts : tuple of int
        Sites of each slot in the primitive cell.
    structure : Structure
        The library's example, primitive cell, lengths in Angstrom.
    """

    key: str
    aflow: str
    strukturbericht: str
    mineral: str
    spacegroup_number: int
    slots: tuple[str, ...]
    counts: tuple[int, ...]
    structure: Structure

    @property
    def n_sites(self) -> int:
        """Sites in the primitive cell."""
        return sum(self.counts)

    def decorate(self, elements: tuple[str, ...]) -> Structure:
        """Put one element on each slot.

        Parameters
        ----------
        elements : tuple of str
            One symbol per slot, in the order of ``slots``.

        Returns
        -------
        Structure
            The prototype's cell with the new elements, unscaled; sites in the library's order.
        """
        if len(elements) != len(self.slots):
            raise ValueError(f"{self.key} has {len(self.slots)} slots, {len(elements)} elements were given")
        replacement = dict(zip(self.slots, elements, strict=True))
        species = [replacement[site.specie.symbol] for site in self.structure]
        return Structure(self.structure.lattice, species, self.structure.frac_coords)


def _data_path() -> Path:
    """Locate the data file inside whichever distribution provides ``pymatgen.analysis``."""
    spec = importlib.util.find_spec("pymatgen")
    for root in (spec.submodule_search_locations or []) if spec else []:
        path = Path(root) / _DATA_FILE
        if path.is_file():
            return path
    raise FileNotFoundError(f"pymatgen's {_DATA_FILE} is missing; remedy: pip install --force-reinstall pymatgen")


def _clean(text: object) -> str:
    """Write a tag as plain text, empty for the library's spellings of 'none'."""
    value = str(text or "").strip().strip('"')
    return "" if value in {"None", "nan"} else value


# Common types that the library's file lacks or gives only for another filling of the same positions:
# label, Strukturbericht, mineral, Hermann-Mauguin symbol, (a, b, c, alpha, beta, gamma), ((element, x, y, z), ...).
# Positions: Villars and Cenzual, Pearson's Crystal Data; labels follow the AFLOW convention.
_SUPPLEMENT: tuple[tuple[str, str, str, str, tuple[float, ...], tuple[tuple[str, float, float, float], ...]], ...] = (
    (
        *("AB2_hR3_166_a_c", "C19", "Cadmium chloride", "R-3m", (3.85, 3.85, 17.46, 90, 90, 120)),
        (("Cd", 0, 0, 0), ("Cl", 0, 0, 0.252)),
    ),
    (
        *("ABC2_hR4_166_a_b_c", "delafossite", "Delafossite", "R-3m", (3.03, 3.03, 17.1, 90, 90, 120)),
        (("Cu", 0, 0, 0), ("Fe", 0, 0, 0.5), ("O", 0, 0, 0.107)),
    ),
    (
        *("A6B2C_cF36_225_e_c_a", "J1_1", "Potassium hexachloroplatinate", "Fm-3m", (9.75, 9.75, 9.75, 90, 90, 90)),
        (("Pt", 0, 0, 0), ("K", 0.25, 0.25, 0.25), ("Cl", 0.238, 0, 0)),
    ),
    (
        *("AB6C2D_cF40_225_a_e_c_b", "elpasolite", "Elpasolite", "Fm-3m", (8.1, 8.1, 8.1, 90, 90, 90)),
        (("Al", 0, 0, 0), ("Na", 0, 0, 0.5), ("K", 0.25, 0.25, 0.25), ("F", 0.225, 0, 0)),
    ),
    (
        *("AB4C_tI24_88_b_f_a", "H0_4", "Scheelite", "I4_1/a", (5.24, 5.24, 11.38, 90, 90, 90)),
        (("Ca", 0, 0, 0.5), ("W", 0, 0, 0), ("O", 0.15, -0.2412, 0.0856)),
    ),
    (
        *(
            "A2B2C_tI10_139_d_e_a",
            "ThCr2Si2",
            "Thorium dichromium disilicide",
            "I4/mmm",
            (4.04, 4.04, 10.6, 90, 90, 90),
        ),
        (("Th", 0, 0, 0), ("Cr", 0, 0.5, 0.25), ("Si", 0, 0, 0.374)),
    ),
    (
        *("ABC_oP12_62_c_c_c", "E_c", "Titanium nickel silicide", "Pnma", (6.15, 3.67, 7.02, 90, 90, 90)),
        (("Ti", 0.021, 0.25, 0.180), ("Ni", 0.142, 0.25, 0.561), ("Si", 0.765, 0.25, 0.623)),
    ),
    (
        *("ABC_hP9_189_f_bc_g", "ZrNiAl", "Zirconium nickel aluminium", "P-62m", (6.92, 6.92, 3.47, 90, 90, 120)),
        (("Al", 0.25, 0, 0), ("Zr", 0.59, 0, 0.5), ("Ni", 0, 0, 0.5), ("Ni", 1 / 3, 2 / 3, 0)),
    ),
    (
        *("AB3_hP8_176_c_h", "UCl3", "Uranium trichloride", "P6_3/m", (7.44, 7.44, 4.32, 90, 90, 120)),
        (("U", 1 / 3, 2 / 3, 0.25), ("Cl", 0.375, 0.292, 0.25)),
    ),
    (
        *("AB3_hR8_167_b_e", "D0_12", "Iron trifluoride", "R-3c", (5.2, 5.2, 13.32, 90, 90, 120)),
        (("Fe", 0, 0, 0), ("F", 0.412, 0, 0.25)),
    ),
    (
        *("A2B3_hP5_164_d_ad", "D5_2", "Lanthanum oxide", "P-3m1", (3.94, 3.94, 6.13, 90, 90, 120)),
        (("La", 1 / 3, 2 / 3, 0.245), ("O", 0, 0, 0), ("O", 1 / 3, 2 / 3, 0.645)),
    ),
    (
        *(
            "AB2C2_hP5_164_a_d_d",
            "CaAl2Si2",
            "Calcium dialuminium disilicide",
            "P-3m1",
            (4.13, 4.13, 7.15, 90, 90, 120),
        ),
        (("Ca", 0, 0, 0), ("Al", 1 / 3, 2 / 3, 0.63), ("Si", 1 / 3, 2 / 3, 0.27)),
    ),
)


def _from_table() -> list[dict[str, object]]:
    """Bring the supplement into the shape of the library's entries."""
    entries: list[dict[str, object]] = []
    for aflow, symbol, mineral, group, cell, sites in _SUPPLEMENT:
        full = Structure.from_spacegroup(
            group, Lattice.from_parameters(*cell), [site[0] for site in sites], [site[1:] for site in sites]
        )
        primitive = full.get_primitive_structure()
        tags = {"aflow": aflow, "strukturbericht": symbol, "mineral": mineral}
        entries.append({"snl": primitive.as_dict(), "tags": tags})
    return entries


@lru_cache(maxsize=4)
def load_prototypes(max_sites: int = 20) -> dict[str, Prototype]:
    """Read every ordered prototype with at most ``max_sites`` sites in its primitive cell.

    Parameters
    ----------
    max_sites : int
        Largest primitive cell to keep.

    Returns
    -------
    dict of str to Prototype
        By key, in the order of the data file.
    """
    with gzip.open(_data_path(), "rt", encoding="utf-8") as handle:
        entries = [*json.load(handle), *_from_table()]
    found: dict[str, Prototype] = {}
    for entry in entries:
        structure = Structure.from_dict(entry["snl"])
        if not structure.is_ordered or len(structure) > max_sites:
            continue
        tags = entry["tags"]
        aflow, symbol, mineral = (_clean(tags.get(name)) for name in ("aflow", "strukturbericht", "mineral"))
        match = re.match(r"[A-Z0-9]+_[a-z][A-Z]\d+_(\d+)_", aflow)
        if match is None:
            continue
        key = f"{aflow}:{symbol or mineral}"
        if key in found:
            key = f"{key}:{mineral or len(found)}"
        slots = tuple(dict.fromkeys(site.specie.symbol for site in structure))
        species = [site.specie.symbol for site in structure]
        counts = tuple(species.count(slot) for slot in slots)
        plain = Structure(structure.lattice, species, structure.frac_coords)
        found[key] = Prototype(key, aflow, symbol, mineral, int(match.group(1)), slots, counts, plain)
    return found
