"""How alike a network finds the elements, and whether that is the likeness of the periodic table.

No network of compositions is told of groups or periods. Whatever likeness of elements its layers show was learned from
energies (Jha et al., Sci. Rep. 8, 17593 (2018); dissertation, section 3.3.8).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Element
from torch import nn

from models.activations import Layer, activations_by_layer
from models.elements import ACTINIDES, ELEMENT_INDEX, ELEMENTS, LANTHANIDES, N_ELEMENTS
from models.errors import InputError

PARTNERS: Final[tuple[str, ...]] = ("F", "Cl", "O", "S")
"""Anions X of the compounds AX that an element is averaged over, one pair of each of the two valences."""
MEASURES: Final = ("centred", "correlation", "cosine")
Measure = Literal["centred", "correlation", "cosine"]
LANTHANIDE, ACTINIDE = "La-Lu", "Ac-Pu"


@dataclass(frozen=True)
class Agreement:
    """How far a similarity keeps to given groups.

    Attributes
    ----------
    within, between : float
        Mean similarity of pairs of one group, and of pairs of two.
    p_value : float
        Share of random assignments to groups of the same sizes whose ``within - between`` is at least as large, the
        observed one counted in (Phipson & Smyth, Stat. Appl. Genet. Mol. Biol. 9, 39, 2010).
    n_within, n_between : int
        Pairs with a similarity.
    nearest, nearest_by_chance : float
        Share of the members of groups of two and more whose most similar one is of their group; and that of a random
        choice.
    """

    within: float
    between: float
    p_value: float
    n_within: int
    n_between: int
    nearest: float
    nearest_by_chance: float

    @property
    def difference(self) -> float:
        """Mean similarity within groups minus that between them."""
        return self.within - self.between


@lru_cache(maxsize=1)
def element_groups() -> tuple[str, ...]:
    """Group of each of the 86 elements: ``1`` to ``18``, and `LANTHANIDE` and `ACTINIDE` for the f elements."""
    named = dict.fromkeys(LANTHANIDES, LANTHANIDE) | dict.fromkeys(ACTINIDES, ACTINIDE)
    return tuple(named.get(symbol) or str(Element(symbol).group) for symbol in ELEMENTS)


def element_vectors(
    network: nn.Module, layers: Sequence[Layer], partners: Sequence[str] = ()
) -> dict[Layer, NDArray[np.float64]]:
    """Activations that stand for the 86 elements.

    Parameters
    ----------
    network : nn.Module
        A network of element fractions.
    layers : sequence of str or int
        See `models.activations.layer_activations`. The name of a dense layer gives its response before the ReLU.
    partners : sequence of str
        None: the pure elements. Else the mean over the compounds AX with each X of these, without X itself.

    Returns
    -------
    dict of ndarray, shape (86, w)
        By layer.

    Raises
    ------
    InputError
        For an unknown layer or element, or one partner alone, which leaves nothing for itself.
    """
    if not partners:
        pure = activations_by_layer(network, np.eye(N_ELEMENTS, dtype=np.float32), layers)
        return {layer: table.astype(np.float64) for layer, table in pure.items()}
    unknown = [symbol for symbol in partners if symbol not in ELEMENT_INDEX]
    if unknown:
        raise InputError(f"element {unknown[0]} is outside the 86 elements; take another partner")
    if len(set(partners)) < 2:
        raise InputError("elements need at least two partners: a partner makes no compound with itself")
    columns = sorted({ELEMENT_INDEX[symbol] for symbol in partners})
    compounds = [(a, x) for a in range(N_ELEMENTS) for x in columns if a != x]
    first, second = np.array(compounds).T
    inputs = np.zeros((len(compounds), N_ELEMENTS), dtype=np.float32)
    inputs[np.arange(len(compounds)), first] = inputs[np.arange(len(compounds)), second] = 0.5
    found = activations_by_layer(network, inputs, layers)
    return {layer: _means(table, first) for layer, table in found.items()}


def _means(activations: NDArray[np.float32], element: NDArray[np.integer]) -> NDArray[np.float64]:
    """Mean (86, w) of the rows of each element."""
    totals = np.zeros((N_ELEMENTS, activations.shape[1]))
    np.add.at(totals, element, activations.astype(np.float64))
    return totals / np.bincount(element, minlength=N_ELEMENTS)[:, None]


def similarity_matrix(vectors: NDArray[np.floating], measure: Measure = "centred") -> NDArray[np.float64]:
    """Similarity of every pair of rows.

    Parameters
    ----------
    vectors : ndarray, shape (n, w)
    measure : str
        ``cosine`` of the angle between two rows; Pearson's ``correlation`` of two rows, which is the cosine after each
        row's own mean was taken off; or ``centred``, the cosine after the mean of all rows was taken off. Activations
        after a ReLU all point into one corner, and deep layers have much in common whatever the input: only the last
        measure shows how rows differ from each other there, and it depends on which rows there are.

    Returns
    -------
    ndarray, shape (n, n)
        -1 to 1, symmetric, 1 on the diagonal; NaN for rows without a direction (all zero, all equal for the
        correlation, or at the mean of all rows).

    Raises
    ------
    InputError
        For an unknown measure, or a table that is not finite.
    """
    table = np.asarray(vectors, dtype=np.float64)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise InputError(f"similarities need a finite table (n, w), got shape {table.shape}")
    if measure not in MEASURES:
        raise InputError(f"unknown similarity {measure!r}; take one of {', '.join(MEASURES)}")
    size = np.abs(table).max(axis=1, initial=0.0)
    if measure == "correlation":
        table = table - table.mean(axis=1, keepdims=True)
    if measure == "centred":
        table = table - table.mean(axis=0)
    length = np.linalg.norm(table, axis=1)
    # what equals the mean is left with rounding errors when the mean goes
    length[length <= 1e-12 * size * np.sqrt(table.shape[1])] = np.nan
    unit = table / length[:, None]
    similarity: NDArray[np.float64] = np.clip(unit @ unit.T, -1.0, 1.0)
    similarity = 0.5 * (similarity + similarity.T)
    np.fill_diagonal(similarity, np.where(np.isnan(length), np.nan, 1.0))
    return similarity


def neighbours(similarity: NDArray[np.float64], element: str, n: int = 5) -> list[tuple[str, float]]:
    """Return the elements most similar to one, with their similarity; of equals the lighter first.

    Raises
    ------
    InputError
        For an unknown element, or a matrix that is not (86, 86).
    """
    if element not in ELEMENT_INDEX:
        raise InputError(f"element {element} is outside the 86 elements; take another")
    if np.shape(similarity) != (N_ELEMENTS, N_ELEMENTS):
        raise InputError(f"neighbours need the similarity of all 86 elements, got shape {np.shape(similarity)}")
    row = similarity[ELEMENT_INDEX[element]]
    order = [i for i in np.argsort(-row, kind="stable") if i != ELEMENT_INDEX[element] and not np.isnan(row[i])]
    return [(ELEMENTS[i], float(row[i])) for i in order[:n]]


def group_agreement(
    similarity: NDArray[np.float64], groups: Sequence[str], n_permutations: int = 999, seed: int = 0
) -> Agreement:
    """Compare similarities within groups with those between them.

    Parameters
    ----------
    similarity : ndarray, shape (n, n)
        Symmetric; pairs without one (NaN) are left out.
    groups : sequence of str, length n
        Group of each row; rows with an empty name take no part.
    n_permutations : int
        Random assignments for the p-value.
    seed : int
        Of these.

    Raises
    ------
    InputError
        When lengths do not fit, or there are no two pairs to compare.
    """
    if np.shape(similarity) != (len(groups), len(groups)) or n_permutations < 1:
        raise InputError(f"{len(groups)} groups and a similarity {np.shape(similarity)} do not fit; give one per row")
    part = np.flatnonzero([bool(group) for group in groups])
    codes = np.unique(np.asarray(groups, dtype=str)[part], return_inverse=True)[1]
    first, second = np.triu_indices(len(part), 1)
    values = similarity[np.ix_(part, part)][first, second]
    known = ~np.isnan(values)
    first, second, values = first[known], second[known], values[known]
    same = codes[first] == codes[second]
    if same.all() or not same.any():
        raise InputError("there are no pairs both within and between groups to compare; give other groups")

    rng = np.random.default_rng(seed)
    observed = _difference(values, same)
    n_above = 0
    for _ in range(n_permutations):
        shuffled = rng.permutation(codes)
        drawn = shuffled[first] == shuffled[second]
        # with missing pairs a draw may leave one side empty: it says nothing against the observed one
        n_above += drawn.any() and not drawn.all() and _difference(values, drawn) >= observed - 1e-12
    nearest, by_chance = _nearest(similarity[np.ix_(part, part)], codes)
    return Agreement(
        float(values[same].mean()),
        float(values[~same].mean()),
        (1 + int(n_above)) / (1 + n_permutations),
        int(same.sum()),
        int((~same).sum()),
        nearest,
        by_chance,
    )


def _difference(values: NDArray[np.float64], same: NDArray[np.bool_]) -> float:
    return float(values[same].mean() - values[~same].mean())


def _nearest(similarity: NDArray[np.float64], codes: NDArray[np.integer]) -> tuple[float, float]:
    """Share of rows whose most similar row is of their group, and of a random choice; NaN where no row has one."""
    others = np.where(np.eye(len(codes), dtype=np.bool_) | np.isnan(similarity), -np.inf, similarity)
    size = np.bincount(codes)[codes]
    rows = np.flatnonzero((size > 1) & (others > -np.inf).any(axis=1))
    if len(rows) == 0:
        return float("nan"), float("nan")
    hit = codes[others[rows].argmax(axis=1)] == codes[rows]
    return float(hit.mean()), float(((size[rows] - 1) / (len(codes) - 1)).mean())
