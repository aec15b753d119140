"""Which elements go on which prototype: charge-balanced salts, free intermetallics, drawn by a seed.

A *family* is a stoichiometry with the prototypes that compete for it. Formulas are drawn per family and every formula
gets all prototypes of its family, so that a formula's lowest polymorph has a chance to be in the set.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import pandas as pd
from pymatgen.analysis.structure_matcher import StructureMatcher
from pymatgen.core import Composition, Element, Structure

from models.families import ALLOY_ELEMENTS, FAMILIES, Family
from models.oxidation_states import ANIONS, CATIONS, ionic_radius, metallic_volume, weight
from models.prototypes import Prototype, load_prototypes


@dataclass(frozen=True)
class Filling:
    """Elements on the positions of a family's template, with their charges (0 in an intermetallic)."""

    elements: tuple[str, ...]
    charges: tuple[int, ...]


def charge_patterns(template: tuple[int, ...], n_anions: int) -> Iterator[tuple[int, ...]]:
    """Charges per template position that sum to zero; the last ``n_anions`` positions are negative."""
    n_cations = len(template) - n_anions
    choices = [sorted(CATIONS)] * n_cations + [sorted(ANIONS)] * n_anions
    for charges in itertools.product(*choices):
        if sum(count * charge for count, charge in zip(template, charges, strict=True)) == 0:
            yield charges


def _is_salt(elements: tuple[str, ...], charges: tuple[int, ...]) -> bool:
    """Distinct elements, every anion more electronegative than every cation."""
    if len(set(elements)) < len(elements):
        return False
    anions = [Element(e).X for e, q in zip(elements, charges, strict=True) if q < 0]
    cations = [Element(e).X for e, q in zip(elements, charges, strict=True) if q > 0 and e not in {"Kr", "Xe"}]
    if not cations:
        return {"F"} == {e for e, q in zip(elements, charges, strict=True) if q < 0}
    return min(anions) > max(cations) + 0.05 or ("H" in elements and min(anions) > max(cations) - 0.1)


def _salts(family: Family) -> list[Filling]:
    """Every charge-balanced filling of a family."""
    found: dict[tuple[str, ...], Filling] = {}
    for charges in charge_patterns(family.template, family.n_anions):
        pools = [CATIONS[q] if q > 0 else ANIONS[q] for q in charges]
        pools = [
            tuple(e for e in pool if e in allowed) if allowed else pool
            for pool, allowed in zip(pools, family.allowed, strict=True)
        ]
        for elements in itertools.product(*pools):
            if _is_salt(elements, charges):
                found.setdefault(elements, Filling(elements, charges))
    return list(found.values())


def _drawn_salts(family: Family, count: int, generator: np.random.Generator) -> list[Filling]:
    """Charge-balanced fillings of a large family, drawn one by one."""
    patterns = list(charge_patterns(family.template, family.n_anions))
    found: dict[tuple[str, ...], Filling] = {}
    for _ in range(400 * count):
        if len(found) >= count:
            break
        charges = patterns[int(generator.integers(len(patterns)))]
        pools = [CATIONS[q] if q > 0 else ANIONS[q] for q in charges]
        pools = [
            tuple(e for e in pool if e in allowed) if allowed else pool
            for pool, allowed in zip(pools, family.allowed, strict=True)
        ]
        if not all(pools):
            continue
        elements = tuple(pool[int(generator.integers(len(pool)))] for pool in pools)
        if _is_salt(elements, charges) and generator.random() < min(1.0, weight(elements) / 4.0):
            found.setdefault(elements, Filling(elements, charges))
    return list(found.values())


def _alloys(family: Family, count: int, generator: np.random.Generator) -> list[Filling]:
    """List fillings of an intermetallic family: all of a binary one, draws from a ternary one."""
    pools = [allowed or ALLOY_ELEMENTS for allowed in family.allowed]
    zero = (0,) * len(family.template)
    if math.prod(len(pool) for pool in pools) <= 20_000:
        combinations = [c for c in itertools.product(*pools) if len(set(c)) == len(c)]
        return [Filling(elements, zero) for elements in combinations]
    found: dict[tuple[str, ...], Filling] = {}
    for _ in range(50 * count):
        if len(found) >= 2 * count:
            break
        elements = tuple(pool[int(generator.integers(len(pool)))] for pool in pools)
        if len(set(elements)) == len(elements):
            found.setdefault(elements, Filling(elements, zero))
    return list(found.values())


def draw_fillings(family: Family, seed: int) -> list[Filling]:
    """Formulas of one family: lithium first (up to its own cap), then a weighted draw up to the cap.

    Parameters
    ----------
    family : Family
    seed : int
        Same seed, same list.

    Returns
    -------
    list of Filling
        One per reduced formula.
    """
    generator = np.random.default_rng([seed, *family.name.encode()])
    if not family.n_anions:
        fillings = _alloys(family, family.cap, generator)
    elif len(family.template) <= 3:
        fillings = _salts(family)
    else:
        fillings = _drawn_salts(family, 3 * family.cap, generator)
    unique: dict[str, Filling] = {}
    for filling in fillings:
        unique.setdefault(_formula(family.template, filling.elements), filling)
    weights = np.array([weight(filling.elements) for filling in unique.values()])
    keys = np.log(generator.random(len(unique))) / weights
    order = [list(unique.values())[i] for i in np.argsort(-keys, kind="stable")]
    lithium = [filling for filling in order if "Li" in filling.elements][: family.lithium_cap]
    others = [filling for filling in order if "Li" not in filling.elements][: family.cap]
    return lithium + others


def _formula(template: tuple[int, ...], elements: tuple[str, ...]) -> str:
    """Reduced formula in pymatgen's spelling."""
    return str(Composition(dict(zip(elements, template, strict=True))).reduced_formula)


@lru_cache(maxsize=256)
def _distinct_orders(key: str) -> tuple[tuple[int, ...], ...]:
    """Permutations of slots with equal counts that give different crystals of prototype ``key``."""
    prototype = load_prototypes()[key]
    symbols = ("Na", "Cl", "Fe", "W")[: len(prototype.slots)]
    matcher = StructureMatcher(ltol=0.02, stol=0.05, angle_tol=1.0, primitive_cell=False)
    kept: list[tuple[int, ...]] = []
    seen: list[Structure] = []
    for order in itertools.permutations(range(len(symbols))):
        if any(prototype.counts[i] != prototype.counts[j] for i, j in enumerate(order)):
            continue
        structure = prototype.decorate(tuple(symbols[i] for i in order))
        if not any(matcher.fit(structure, other) for other in seen):
            kept.append(order)
            seen.append(structure)
    return tuple(kept)


def _sized(family: Family, filling: Filling) -> tuple[str, ...]:
    """Put the filling's elements in order, the larger of the first two cations first where the family asks for it."""
    first, second, *rest = filling.elements
    if family.sized and ionic_radius(first, filling.charges[0]) < ionic_radius(second, filling.charges[1]):
        return (second, first, *rest)
    return filling.elements


def _by_role(prototype: Prototype, order: tuple[str, ...], elements: tuple[str, ...]) -> tuple[str, ...]:
    """Elements in slot order when the template's positions take the slots named in ``order``."""
    placed = dict(zip(order, elements, strict=True))
    return tuple(placed[slot] for slot in prototype.slots)


def assignments(prototype: Prototype, family: Family, filling: Filling) -> list[tuple[str, ...]]:
    """Ways to put a filling on a prototype's slots, one per different crystal.

    A prototype whose slots all have different counts has one; equal counts may be exchanged. With ``family.ordered``
    anions stay where the library's example has its most electronegative elements.
    """
    for key, orders in family.roles:
        if key == prototype.key:
            return [_by_role(prototype, order, _sized(family, filling)) for order in orders]
    divisor = math.gcd(*prototype.counts)
    counts = [count // divisor for count in prototype.counts]
    first: list[str] = []
    remaining = list(zip(filling.elements, family.template, filling.charges, strict=True))
    electronegative = sorted(range(len(counts)), key=lambda i: -Element(prototype.slots[i]).X)
    anion_slots = set(electronegative[: family.n_anions]) if family.ordered else set()
    for slot, count in enumerate(counts):
        for item in remaining:
            if item[1] == count and (not family.ordered or (item[2] < 0) == (slot in anion_slots)):
                first.append(item[0])
                remaining.remove(item)
                break
        else:
            return []
    charge = dict(zip(filling.elements, filling.charges, strict=True))
    results = [tuple(first[i] for i in order) for order in _distinct_orders(prototype.key)]
    if family.ordered:
        results = [r for r in results if all((charge[e] < 0) == (i in anion_slots) for i, e in enumerate(r))]
    return results


def guess_volume(structure: Structure, charges: dict[str, int]) -> float:
    """Guess the volume of a decorated cell, A^3.

    Salts: the shortest cation-anion distance equals the sum of the ionic radii. Intermetallics: the sum of the
    elements' atomic volumes.
    """
    symbols = [site.specie.symbol for site in structure]
    if not any(charges.values()):
        return float(sum(metallic_volume(symbol) for symbol in symbols))
    radii = np.array([ionic_radius(symbol, charges[symbol]) for symbol in symbols])
    sign = np.array([charges[symbol] for symbol in symbols]) > 0
    distances = structure.distance_matrix
    np.fill_diagonal(distances, np.inf)
    wanted = radii[:, None] + radii[None, :]
    ratio = np.where(sign[:, None] != sign[None, :], wanted / distances, 0.0)
    return float(structure.volume * ratio.max() ** 3)


def candidates(seed: int = 2026, families: tuple[Family, ...] = FAMILIES) -> pd.DataFrame:
    """List every decorated prototype of the starter set.

    Parameters
    ----------
    seed : int
        Same seed and families, same table.
    families : tuple of Family

    Returns
    -------
    DataFrame
        ``candidate_id, family, prototype, elements`` (space-separated, in slot order), ``charges`` (space-separated),
        ``formula, chemsys, nsites, lithium``.
    """
    library = load_prototypes()
    rows: list[dict[str, object]] = []
    seen: set[tuple[str, tuple[str, ...]]] = set()
    for family in families:
        for filling in draw_fillings(family, seed):
            charge = dict(zip(filling.elements, filling.charges, strict=True))
            formula = _formula(family.template, filling.elements)
            for key in family.prototypes:
                for elements in assignments(library[key], family, filling):
                    if (key, elements) in seen:
                        continue
                    seen.add((key, elements))
                    rows.append(
                        {
                            "family": family.name,
                            "prototype": key,
                            "elements": " ".join(elements),
                            "charges": " ".join(str(charge[symbol]) for symbol in elements),
                            "formula": formula,
                            "chemsys": "-".join(sorted(elements)),
                            "nsites": library[key].n_sites,
                            "lithium": "Li" in elements,
                        }
                    )
    return _shuffled(pd.DataFrame(rows), seed)


def _shuffled(table: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Order by formula, polymorphs together, so that any leading part of the table is a fair sample.

    Lithium compounds and binaries come early: the first are wanted, the second span the hulls.
    """
    formulas = np.array(sorted(set(table["formula"])))
    early = [("Li" in Composition(f)) or len(Composition(f)) == 2 for f in formulas]
    keys = np.random.default_rng([seed, 1]).random(len(formulas)) * np.where(early, 0.45, 1.0)
    rank = dict(zip(formulas[np.argsort(keys, kind="stable")], range(len(formulas)), strict=True))
    order = np.argsort(table["formula"].map(rank).to_numpy(), kind="stable")
    table = table.iloc[order].reset_index(drop=True)
    table.insert(0, "candidate_id", np.arange(len(table)))
    return table


def build(row: pd.Series) -> Structure:
    """Crystal of one candidate row at its guessed volume, lengths in Angstrom."""
    elements = tuple(str(row["elements"]).split())
    charges = dict(zip(elements, (int(q) for q in str(row["charges"]).split()), strict=True))
    structure = load_prototypes()[str(row["prototype"])].decorate(elements)
    structure.scale_lattice(guess_volume(structure, charges))
    return structure
