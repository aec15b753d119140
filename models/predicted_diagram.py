"""The phase diagram of one chemical system as a network predicts it, beside the one of the known phases.

All compositions of the system up to a size are predicted as in a screen, and their lower convex hull is compared with
the reference hull. The dissertation does so for Ti-O and Na-Mn-O, of which its networks had seen nothing (section
3.3.7, Figure 3.5).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import NDArray

from models.elements import ELEMENT_INDEX
from models.errors import InputError
from models.formula import ParsedFormulas, parse_many
from models.hull import TIE, PhaseHull
from models.space import CompositionSpace

ARITIES: Final = (2, 3)
"""Numbers of elements of the systems that have a diagram."""
_ON_FACET: Final = 1e-7
"""A phase this near to a facet (eV/atom) is one of its corners."""

Predict = Callable[[NDArray[np.float32]], NDArray[np.floating]]
"""Element fractions (n, 86) -> formation energies (n,), eV/atom, on the scale of the reference."""


@dataclass(frozen=True)
class HullSide:
    """One of the two hulls of a diagram, at its n compositions.

    Attributes
    ----------
    energies : ndarray, shape (n,)
        Formation energies, eV/atom; NaN where there is none. Elements count as 0 on the hull, whatever stands here.
    hull : ndarray, shape (n,)
        Energy of the hull, eV/atom.
    stable : ndarray of bool, shape (n,)
        Corners of the hull (ties included); the elements are stable by definition.
    tie_lines : ndarray, shape (m, 2)
        Rows that are joined by an edge of the hull, each pair once and ascending.
    """

    energies: NDArray[np.float64]
    hull: NDArray[np.float64]
    stable: NDArray[np.bool_]
    tie_lines: NDArray[np.int64]

    @property
    def above_hull(self) -> NDArray[np.float64]:
        """Energy minus hull (n,), eV/atom; NaN where there is no energy."""
        return self.energies - self.hull


@dataclass(frozen=True)
class PredictedDiagram:
    """A chemical system with two hulls.

    Attributes
    ----------
    elements : tuple of str
        The k elements in the order that was asked for.
    formulas : list of str
        Elements first, then compounds: those of the space in its order, then reference phases outside of it.
    shares : ndarray, shape (n, k)
        Atomic fractions of ``elements``.
    in_space : ndarray of bool, shape (n,)
        Whether a row is an element or a composition of the enumerated space.
    predicted, reference : HullSide
        The hull of all predictions, and that of the reference phases.
    """

    elements: tuple[str, ...]
    formulas: list[str]
    shares: NDArray[np.float64]
    in_space: NDArray[np.bool_]
    predicted: HullSide
    reference: HullSide

    @property
    def compounds(self) -> NDArray[np.bool_]:
        """Rows that are no elements, shape (n,)."""
        return np.arange(len(self.formulas)) >= len(self.elements)


def parse_system(text: str) -> tuple[str, ...]:
    """Read a binary or ternary chemical system such as ``Ti-O``; the order of the elements is kept.

    Raises
    ------
    InputError
        For an unknown or repeated element, or another number of elements.
    """
    symbols = tuple(part.strip() for part in text.split("-"))
    unknown = [symbol for symbol in symbols if symbol not in ELEMENT_INDEX]
    if unknown:
        raise InputError(f"'{unknown[0]}' in the system {text!r} is none of the 86 elements; write systems as Ti-O")
    if len(set(symbols)) < len(symbols) or len(symbols) not in ARITIES:
        raise InputError(f"the system {text!r} is not of two or three different elements; write it as Ti-O or Na-Mn-O")
    return symbols


def predicted_diagram(
    elements: Sequence[str],
    predict: Predict,
    phases: ParsedFormulas,
    energies: NDArray[np.float64],
    max_atoms: int = 12,
) -> PredictedDiagram:
    """Hulls of one system: of the predicted compositions, and of the known phases.

    Parameters
    ----------
    elements : sequence of str
        Two or three elements.
    predict : callable
        The network, see `Predict`.
    phases : ParsedFormulas
        n known phases, of any systems; the lowest of equal compositions counts.
    energies : ndarray, shape (n,)
        Their formation energies, eV/atom.
    max_atoms : int
        Largest number of atoms of an enumerated reduced formula. Known phases with more atoms are predicted as well.

    Returns
    -------
    PredictedDiagram

    Raises
    ------
    InputError
        For another number of elements, a phase that could not be read, or energies that do not fit or are not finite.
    """
    symbols = parse_system("-".join(elements))
    if not phases.valid.all() or np.shape(energies) != (len(phases),) or not np.isfinite(energies).all():
        raise InputError("a phase diagram needs readable phases, each with a finite energy; clean the table first")
    known = _phases_inside(symbols, phases, np.asarray(energies, dtype=np.float64))
    space = CompositionSpace(symbols, tuple(range(2, len(symbols) + 1)), max_atoms)
    listed = space.formulas(space.unrank(np.arange(len(space))))
    beyond = sorted(set(known) - set(listed))
    formulas = [*symbols, *listed, *beyond]

    fractions = parse_many(formulas).fractions
    shares = fractions[:, [ELEMENT_INDEX[symbol] for symbol in symbols]]
    predictions = np.asarray(predict(fractions.astype(np.float32)), dtype=np.float64)
    if predictions.shape != (len(formulas),) or not np.isfinite(predictions).all():
        raise InputError("the network predicts no finite energy for each composition; train it again")
    references = np.array([known.get(formula, np.nan) for formula in formulas])
    in_space = np.arange(len(formulas)) < len(symbols) + len(listed)
    return PredictedDiagram(symbols, formulas, shares, in_space, _side(shares, predictions), _side(shares, references))


def diagram_summary(diagram: PredictedDiagram) -> dict[str, Any]:
    """Numbers of a diagram, all of compounds.

    Returns
    -------
    dict
        ``stable_both, stable_predicted_only, stable_reference_only``: formulas. ``recall, precision``: of the
        predicted stable compositions as finds of the reference's, None without any. ``n_compositions``,
        ``n_phases``: rows, and those with a reference energy. ``energy_mae, energy_bias``: of the predicted energies
        of the phases, eV/atom, None without any. ``hull_mae, hull_bias``: of the predicted hull over the enumerated
        compositions, eV/atom. ``distance``: mean over the reference's stable compounds of the distance to the nearest
        one predicted stable (the share of atoms to be exchanged), None where a side has none.
        ``element_energies``: what the network says of the elements, eV/atom, which count as 0.
    """
    compounds = diagram.compounds
    predicted, reference = diagram.predicted.stable & compounds, diagram.reference.stable & compounds
    both = predicted & reference
    error = (diagram.predicted.energies - diagram.reference.energies)[compounds]
    error = error[~np.isnan(error)]
    shift = (diagram.predicted.hull - diagram.reference.hull)[compounds & diagram.in_space]
    apart = diagram.shares[reference][:, None, :] - diagram.shares[predicted][None, :, :]
    some = apart.size > 0
    return {
        "n_compositions": int(compounds.sum()),
        "n_phases": len(error),
        "stable_both": _names(diagram, both),
        "stable_predicted_only": _names(diagram, predicted & ~reference),
        "stable_reference_only": _names(diagram, reference & ~predicted),
        "recall": float(both.sum() / reference.sum()) if reference.any() else None,
        "precision": float(both.sum() / predicted.sum()) if predicted.any() else None,
        "energy_mae": float(np.abs(error).mean()) if len(error) else None,
        "energy_bias": float(error.mean()) if len(error) else None,
        "hull_mae": float(np.abs(shift).mean()),
        "hull_bias": float(shift.mean()),
        "distance": float(0.5 * np.abs(apart).sum(axis=2).min(axis=1).mean()) if some else None,
        "element_energies": dict(zip(diagram.elements, diagram.predicted.energies[~compounds].tolist(), strict=True)),
    }


def _names(diagram: PredictedDiagram, rows: NDArray[np.bool_]) -> list[str]:
    return [diagram.formulas[i] for i in np.flatnonzero(rows)]


def _phases_inside(symbols: tuple[str, ...], phases: ParsedFormulas, energies: NDArray[np.float64]) -> dict[str, float]:
    """Return the lowest energy of each compound whose elements are all among the symbols."""
    columns = [ELEMENT_INDEX[symbol] for symbol in symbols]
    inside = (np.isin(phases.elements, columns) | (phases.elements < 0)).all(axis=1) & (phases.arity > 1)
    lowest: dict[str, float] = {}
    for row in np.flatnonzero(inside):
        formula = phases.reduced[row]
        lowest[formula] = min(lowest.get(formula, np.inf), float(energies[row]))
    return lowest


def _side(shares: NDArray[np.float64], energies: NDArray[np.float64]) -> HullSide:
    """Hull of the rows that have an energy; the first k rows are the elements."""
    k = shares.shape[1]
    compound = np.arange(len(shares)) >= k
    given = compound & ~np.isnan(energies)
    hull = PhaseHull(shares[given], energies[given])
    at = hull.energy_many(shares)
    stable = ~compound
    stable[given] = (energies[given] < 0.0) & (energies[given] <= at[given] + TIE)
    return HullSide(energies, at, stable, _tie_lines(hull, shares, at, stable))


def _tie_lines(
    hull: PhaseHull, shares: NDArray[np.float64], at: NDArray[np.float64], stable: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Edges of the hull's facets as pairs of rows; a facet with more corners than needed is not cut up."""
    k = shares.shape[1]
    corners = np.flatnonzero(stable)
    pairs: set[tuple[int, int]] = set()
    for potentials in hull.facets(range(k)):
        on = corners[np.abs(at[corners] - shares[corners] @ potentials) <= _ON_FACET]
        if k == 2:
            on = on[np.argsort(shares[on, 1])]
            edges = np.array([[0, len(on) - 1]])
        else:
            edges = scipy.spatial.ConvexHull(shares[on, 1:]).simplices
        pairs |= {(int(a), int(b)) for a, b in np.sort(on[edges], axis=1)}
    return np.array(sorted(pairs), dtype=np.int64).reshape(-1, 2)
