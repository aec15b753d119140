"""Made-up compounds of real-looking chemistry, the same for every server and every run.

One generator (`compounds`) feeds the three wire formats of `loopback.wire`, so a test can compare what a client made of
a database with what the database holds.
"""

from __future__ import annotations

import functools
import itertools
import math
import random
import warnings
from collections.abc import Iterator
from dataclasses import dataclass

from pymatgen.core import Composition, Element

Vector = tuple[float, float, float]

CATIONS = {
    "Li": 1, "Na": 1, "K": 1, "Rb": 1, "Cs": 1, "Ag": 1, "Cu": 1, "Mg": 2, "Ca": 2, "Sr": 2, "Ba": 2, "Zn": 2, "Cd": 2,
    "Mn": 2, "Fe": 2, "Co": 2, "Ni": 2, "Pb": 2, "Sn": 2, "Al": 3, "Ga": 3, "In": 3, "Sc": 3, "Y": 3, "La": 3, "Cr": 3,
    "Bi": 3, "Ti": 4, "Zr": 4, "Hf": 4, "V": 5, "Nb": 5,
}  # fmt: skip
ANIONS = {"O": 2, "S": 2, "Se": 2, "Te": 2, "F": 1, "Cl": 1, "Br": 1, "I": 1, "N": 3}
OUTSIDE = ("Na2He", "CaPo", "MgPo", "PbPo", "ZnPo", "PoO2", "PoCl2", "NiAr", "K2Po", "SrPo")
"""Compounds with an element that the composition space lacks."""


@dataclass(frozen=True)
class Prototype:
    """A simple crystal: letters of the sites, their fractional coordinates, and a cell of edge 1."""

    name: str
    spacegroup: str
    number: int
    cell: tuple[Vector, Vector, Vector]
    sites: tuple[tuple[str, Vector], ...]
    spread: float
    """Edge over the sum of the two largest radii."""
    offset: float
    """Energy above the best polymorph [eV/atom], before the noise."""


_FACE: tuple[Vector, Vector, Vector] = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_CUBE: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
_HEXAGON: tuple[Vector, Vector, Vector] = ((1.0, 0.0, 0.0), (-0.5, 0.75**0.5, 0.0), (0.0, 0.0, 1.55))
_ORIGIN, _CENTRE, _QUARTER = (0.0, 0.0, 0.0), (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
_EDGES: tuple[Vector, ...] = ((0.5, 0.0, 0.0), (0.0, 0.5, 0.0), (0.0, 0.0, 0.5))
_FACES: tuple[Vector, ...] = ((0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))
_FLUORITE: tuple[Vector, ...] = (_QUARTER, (0.75, 0.75, 0.75))

PROTOTYPES: dict[str, tuple[Prototype, ...]] = {
    "AB": (
        Prototype("NaCl", "Fm-3m", 225, _FACE, (("A", _ORIGIN), ("B", _CENTRE)), 2.0, 0.0),
        Prototype("CsCl", "Pm-3m", 221, _CUBE, (("A", _ORIGIN), ("B", _CENTRE)), 1.16, 0.11),
        Prototype("ZnS", "F-43m", 216, _FACE, (("A", _ORIGIN), ("B", _QUARTER)), 2.31, 0.04),
    ),
    "AB2": (
        Prototype("CaF2", "Fm-3m", 225, _FACE, (("A", _ORIGIN), *(("B", at) for at in _FLUORITE)), 2.31, 0.0),
    ),
    "A2B": (
        Prototype("Li2O", "Fm-3m", 225, _FACE, (("B", _ORIGIN), *(("A", at) for at in _FLUORITE)), 2.31, 0.0),
    ),
    "AB3": (
        Prototype("ReO3", "Pm-3m", 221, _CUBE, (("A", _ORIGIN), *(("B", at) for at in _EDGES)), 2.0, 0.02),
        Prototype(
            "BiF3", "Fm-3m", 225, _FACE, (("A", _ORIGIN), *(("B", at) for at in (*_FLUORITE, _CENTRE))), 2.4, 0.0,
        ),
    ),
    "A2B3": (
        Prototype(
            "La2O3", "P-3m1", 164, _HEXAGON,
            (("A", (1 / 3, 2 / 3, 0.24)), ("A", (2 / 3, 1 / 3, 0.76)), ("B", _ORIGIN),
             ("B", (1 / 3, 2 / 3, 0.65)), ("B", (2 / 3, 1 / 3, 0.35))),
            1.6, 0.0,
        ),
    ),
    "ABX3": (
        Prototype(
            "CaTiO3", "Pm-3m", 221, _CUBE, (("A", _CENTRE), ("B", _ORIGIN), *(("X", at) for at in _EDGES)), 1.6, 0.0,
        ),
        Prototype(
            "SrTiO3-faces", "Pm-3m", 221, _CUBE, (("A", _ORIGIN), ("B", _CENTRE), *(("X", at) for at in _FACES)),
            1.63, 0.03,
        ),
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Compound:
    """One entry of the made-up database.

    Attributes
    ----------
    number : int
        Distinct; every server derives its own identifier from it.
    formula : str
        Reduced, in pymatgen's order.
    energy, hull : float or None
        Formation energy and distance to the hull [eV/atom]; both None where the calculation failed.
    bulk, shear : tuple of float, or None
        Voigt and Reuss averages [GPa], where known.
    duplicate_of : int
        Number of the compound this one repeats, its own number otherwise.
    """

    number: int
    formula: str
    amounts: tuple[tuple[str, int], ...]
    prototype: str
    spacegroup: str
    spacegroup_number: int
    lattice: tuple[Vector, Vector, Vector]
    sites: tuple[tuple[str, Vector], ...]
    volume: float
    energy: float | None
    hull: float | None
    band_gap: float
    bulk: tuple[float, float] | None
    shear: tuple[float, float] | None
    restricted: bool
    duplicate_of: int

    @property
    def elements(self) -> list[str]:
        """Symbols, alphabetical."""
        return sorted(symbol for symbol, _ in self.amounts)

    @property
    def chemsys(self) -> str:
        """Symbols, alphabetical, joined by hyphens."""
        return "-".join(self.elements)

    @property
    def cartesian(self) -> list[Vector]:
        """Positions of the sites [Å]."""
        return [_cartesian(at, self.lattice) for _, at in self.sites]


def _cartesian(at: Vector, lattice: tuple[Vector, Vector, Vector]) -> Vector:
    x, y, z = (sum(share * vector[axis] for share, vector in zip(at, lattice, strict=True)) for axis in range(3))
    return (x, y, z)


def _volume(lattice: tuple[Vector, Vector, Vector]) -> float:
    (a, b, c), (d, e, f), (g, h, i) = lattice
    return abs(a * (e * i - f * h) - b * (d * i - f * g) + c * (d * h - e * g))


def _stoichiometry(cation: int, anion: int) -> str | None:
    common = math.gcd(cation, anion)
    letters = "".join(
        f"{letter}{n if n > 1 else ''}" for letter, n in (("A", anion // common), ("B", cation // common))
    )
    return letters if letters in PROTOTYPES else None


def _candidates() -> Iterator[tuple[Prototype, dict[str, str]]]:
    """Yield prototypes with the elements on their letters, binaries first, then perovskites."""
    for (metal, charge), (anion, taken) in itertools.product(CATIONS.items(), ANIONS.items()):
        kind = _stoichiometry(charge, taken)
        for prototype in PROTOTYPES[kind] if kind else ():
            yield prototype, {"A": metal, "B": anion}
    for (one, a), (two, b), (anion, taken) in itertools.product(CATIONS.items(), CATIONS.items(), ANIONS.items()):
        if one != two and a + b == 3 * taken and a < b:
            for prototype in PROTOTYPES["ABX3"]:
                yield prototype, {"A": one, "B": two, "X": anion}


def _radius(symbol: str) -> float:
    radius = Element(symbol).atomic_radius
    return float(radius) if radius else 1.4


def _electronegativity(symbol: str) -> float:
    if symbol in ("He", "Ne", "Ar"):  # pymatgen warns and has none
        return 1.0
    return float(Element(symbol).X)


class _Maker:
    """Physics of the made-up kind: energies follow charge transfer, moduli follow energy over volume."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def crystal(self, prototype: Prototype, on: dict[str, str]) -> dict[str, object]:
        radii = sorted((_radius(symbol) for symbol in on.values()), reverse=True)
        edge = prototype.spread * sum(radii[:2]) * self.random.uniform(0.97, 1.03)
        a, b, c = ((round(edge * x, 6), round(edge * y, 6), round(edge * z, 6)) for x, y, z in prototype.cell)
        lattice = (a, b, c)
        return {
            "prototype": prototype.name,
            "spacegroup": prototype.spacegroup,
            "spacegroup_number": prototype.number,
            "lattice": lattice,
            "sites": tuple((on[letter], at) for letter, at in prototype.sites),
            "volume": round(_volume(lattice), 6),
        }

    def energy(self, amounts: dict[str, int], offset: float) -> float:
        total = sum(amounts.values())
        mean = sum(n * _electronegativity(symbol) for symbol, n in amounts.items()) / total
        transfer = sum(n * abs(_electronegativity(symbol) - mean) for symbol, n in amounts.items()) / total
        return round(0.25 - 1.9 * transfer + offset + self.random.gauss(0.0, 0.04), 6)

    def moduli(self, energy: float, volume_per_atom: float) -> tuple[tuple[float, float], tuple[float, float]]:
        bulk = 1500.0 * (0.4 + abs(energy)) / volume_per_atom * self.random.uniform(0.8, 1.2)
        shear = bulk * self.random.uniform(0.3, 0.8)
        return (
            (round(bulk, 3), round(bulk * self.random.uniform(0.97, 1.0), 3)),
            (round(shear, 3), round(shear * self.random.uniform(0.85, 1.0), 3)),
        )

    def compound(self, number: int, prototype: Prototype, on: dict[str, str]) -> Compound:
        crystal = self.crystal(prototype, on)
        sites: tuple[tuple[str, Vector], ...] = crystal["sites"]  # type: ignore[assignment]
        symbols = [symbol for symbol, _ in sites]
        amounts = {symbol: symbols.count(symbol) for symbol in dict.fromkeys(symbols)}
        energy = self.energy(amounts, prototype.offset)
        has_moduli = self.random.random() < 0.35
        bulk, shear = self.moduli(energy, crystal["volume"] / len(symbols))  # type: ignore[operator]
        wide = max(0.0, 2.2 * (max(map(_electronegativity, amounts)) - 1.9) + self.random.gauss(0.0, 0.8))
        return Compound(
            number=number,
            formula=Composition(amounts).reduced_formula,
            amounts=tuple(amounts.items()),
            energy=energy,
            hull=None,
            band_gap=round(wide, 4),
            bulk=bulk if has_moduli else None,
            shear=shear if has_moduli else None,
            restricted=self.random.random() < 0.04,
            duplicate_of=number,
            **crystal,  # type: ignore[arg-type]
        )

    def above_hull(self, made: list[Compound]) -> list[Compound]:
        """Give every compound its distance to the hull: zero for the best polymorph of most formulas."""
        lowest: dict[str, float] = {}
        for one in made:
            if one.energy is not None:
                lowest[one.formula] = min(one.energy, lowest.get(one.formula, math.inf))
        hull = {formula: at - self.random.choice((0.0, 0.0, 0.0, 0.02, 0.08)) for formula, at in lowest.items()}
        return [
            one if one.energy is None else _replaced(one, hull=round(one.energy - hull[one.formula], 6)) for one in made
        ]


def _outside() -> Iterator[tuple[Prototype, dict[str, str]]]:
    for formula in OUTSIDE:
        (one, a), (two, b) = ((element.symbol, int(n)) for element, n in Composition(formula).items())
        kind = f"A{a if a > 1 else ''}B{b if b > 1 else ''}"
        yield PROTOTYPES[kind][0], {"A": one, "B": two}


@functools.cache
def compounds(count: int = 600, seed: int = 11) -> tuple[Compound, ...]:
    """Return the made-up database, in the order of its numbers.

    Ten compounds hold an element that the composition space lacks, two have no energy, and every polymorph of a formula
    is a compound of its own.

    Parameters
    ----------
    count : int
        Number of compounds, at most some 1500.
    seed : int
        Another seed gives other compounds.

    Returns
    -------
    tuple of Compound
    """
    maker = _Maker(seed)
    usual = list(_candidates())
    binaries = [pair for pair in usual if "X" not in pair[1]]
    ternaries = [pair for pair in usual if "X" in pair[1]]
    wanted = count - len(OUTSIDE)
    if wanted > len(usual):
        raise ValueError(f"only {len(usual) + len(OUTSIDE)} compounds, not {count}")
    few = min(len(ternaries), max(wanted // 3, wanted - len(binaries)))
    # whole formulas stay together where they can, so that polymorphs survive the cut
    chosen = [*binaries[: wanted - few], *ternaries[:few], *_outside()]
    maker.random.shuffle(chosen)
    numbers = sorted(maker.random.sample(range(100, 100 * count), count))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "No Pauling electronegativity")  # of a noble gas, as pymatgen orders symbols
        made = [maker.compound(n, prototype, on) for n, (prototype, on) in zip(numbers, chosen, strict=True)]
    for at in (count // 4, count // 2):  # calculations that never ended
        made[at] = _replaced(made[at], energy=None)
    return tuple(maker.above_hull(made))


def duplicates(made: tuple[Compound, ...], every: int = 25) -> tuple[Compound, ...]:
    """Return repeats of every n-th compound: another number, nearly the same energy, the same crystal."""
    last = made[-1].number
    return tuple(
        _replaced(
            one,
            number=last + position,
            energy=None if one.energy is None else round(one.energy + 0.0004, 6),
            duplicate_of=one.number,
        )
        for position, one in enumerate(made[::every], 1)
    )


def _replaced(one: Compound, **changes: object) -> Compound:
    return Compound(**(one.__dict__ | changes))
