"""What one would write first: formula strings, matminer, torch, and pymatgen's phase diagram of each system."""

from __future__ import annotations

import warnings
from collections import defaultdict
from itertools import combinations

import numpy as np
import torch
from matminer.featurizers.composition import ElementFraction
from numpy.typing import NDArray
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition

from benchmarks.screen_page import Work
from benchmarks.screen_subject import SEED, Subject
from models.elements import ELEMENTS
from models.hull import PhaseHull

N_SYSTEMS = 8
AGREEMENT = 1e-6
"""eV/atom; pymatgen's own rounding stays below."""

Entries = dict[frozenset[str], list[PDEntry]]


def by_hand(subject: Subject) -> Work:
    """Return the work: all compositions of a few quaternary systems, energies minus hull.

    What is not counted, in its favour: the phases as pymatgen's entries, sorted by chemical system, and only those
    of negative energy.
    """
    systems = random_systems(N_SYSTEMS)
    stoichiometries = subject.space.stoichiometries(4)
    entries = _entries(subject.hull)
    featurizer = ElementFraction()
    columns = [featurizer.feature_labels().index(symbol) for symbol in ELEMENTS]

    def predicted(compositions: list[Composition]) -> NDArray[np.float64]:
        rows = np.array([featurizer.featurize(composition) for composition in compositions])[:, columns]
        with torch.inference_mode():
            x = torch.from_numpy(rows.astype(np.float32))
            return np.asarray(np.mean([network(x).numpy()[:, 0] for network in subject.networks], axis=0))

    def run() -> float:
        for system in systems:
            symbols = [ELEMENTS[int(column)] for column in system]
            formulas = ["".join(f"{s}{n}" for s, n in zip(symbols, counts, strict=True)) for counts in stoichiometries]
            compositions = [Composition(formula) for formula in formulas]
            difference = predicted(compositions) - hull_energies(symbols, compositions, entries)
            [formula for formula, below in zip(formulas, difference <= subject.threshold, strict=True) if below]
        return float(len(systems) * len(stoichiometries))

    _check(subject, systems, stoichiometries, entries)
    return run


def random_systems(n: int) -> NDArray[np.int64]:
    """Return quaternary systems as ascending columns, (n, 4)."""
    rng = np.random.default_rng(SEED)
    return np.sort(np.stack([rng.choice(len(ELEMENTS), 4, replace=False) for _ in range(n)]), axis=1)


def hull_energies(symbols: list[str], compositions: list[Composition], entries: Entries) -> NDArray[np.float64]:
    """Hull energies from a phase diagram of the system, eV/atom."""
    inside = [PDEntry(Composition(symbol), 0.0) for symbol in symbols]
    for size in range(2, len(symbols) + 1):
        for subset in combinations(symbols, size):
            inside += entries.get(frozenset(subset), [])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # noble gases have no electronegativity to sort by
        diagram = PhaseDiagram(inside)
        return np.array([diagram.get_hull_energy_per_atom(composition) for composition in compositions])


def _entries(hull: PhaseHull) -> Entries:
    """Return the phases of negative energy as pymatgen's entries, by chemical system."""
    table = hull.candidates
    found: Entries = defaultdict(list)
    compositions = table.compositions
    for elements, fractions, arity, energy in zip(
        compositions.elements, compositions.fractions, compositions.arity, table.energies, strict=True
    ):
        amounts = {ELEMENTS[int(e)]: float(f) for e, f in zip(elements[:arity], fractions[:arity], strict=True)}
        found[frozenset(amounts)].append(PDEntry(Composition(amounts), float(energy)))
    return found


def _check(subject: Subject, systems: NDArray[np.int64], stoichiometries: NDArray[np.int8], entries: Entries) -> None:
    """Refuse to compare speeds of different answers."""
    symbols = [ELEMENTS[int(column)] for column in systems[0]]
    compositions = [
        Composition(dict(zip(symbols, (int(n) for n in counts), strict=True))) for counts in stoichiometries
    ]
    ours = subject.hull.energy_block(systems[:1], stoichiometries / stoichiometries.sum(axis=1, keepdims=True))[0]
    deviation = float(np.abs(hull_energies(symbols, compositions, entries) - ours).max())
    if not deviation <= AGREEMENT:
        raise RuntimeError(f"pymatgen's hull of {'-'.join(symbols)} differs by {deviation:.1e} eV/atom")
