"""Is a compound stable? Predicted decomposition energies against true ones.

The test of C. J. Bartel et al., npj Comput. Mater. 6, 97 (2020): a compound is stable where its decomposition energy,
formation energy minus the hull of all other compositions, is negative. Errors of formation energies do not cancel
between a compound and its competitors, so that a small error per atom can go with a poor judgement of stability.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.backtest import discovery, share
from models.errors import InputError
from models.hull import PhaseHull

_DRAWS: Final = 1000
_INTERVAL: Final = (0.025, 0.975)


def all_predicted_decomposition(
    fractions: NDArray[np.float64], predicted_energies: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Decomposition energies within one table: each energy minus the hull of all other compositions of the table.

    With predictions this is Bartel's test of a network, compound and competitors alike being predicted; with true
    energies it is the truth. Elements are at 0.

    Parameters
    ----------
    fractions : ndarray, shape (n, c), float64
        Atomic fractions.
    predicted_energies : ndarray, shape (n,)
        Formation energies, eV/atom.

    Returns
    -------
    ndarray, shape (n,)
        eV/atom; negative for what is stable.

    Raises
    ------
    InputError
        When a row is no composition, an energy is not finite, or there is not one per composition.
    """
    return PhaseHull(fractions, predicted_energies).decomposition_energy(fractions, predicted_energies)


def decomposition_against(
    fractions: NDArray[np.float64],
    energies: NDArray[np.float64],
    competitors_fractions: NDArray[np.float64],
    competitors_energies: NDArray[np.float64],
) -> NDArray[np.float64]:
    """Decomposition energies against given competitors: each energy minus their hull.

    Parameters
    ----------
    fractions : ndarray, shape (n, c), float64
        Atomic fractions of what is judged.
    energies : ndarray, shape (n,)
        Its formation energies, eV/atom.
    competitors_fractions : ndarray, shape (m, c), float64
        Atomic fractions of the competitors. One of a compound's own composition does not compete with it.
    competitors_energies : ndarray, shape (m,)
        Their formation energies, eV/atom; elements are at 0.

    Returns
    -------
    ndarray, shape (n,)
        eV/atom; negative for what would be stable.

    Raises
    ------
    InputError
        When a row is no composition, an energy is not finite, or there is not one per composition.
    """
    energies = np.asarray(energies, dtype=np.float64)
    if energies.shape != (len(fractions),):
        raise InputError(f"{len(fractions)} compositions need as many energies, not {energies.shape}")
    if not np.isfinite(energies).all():
        raise InputError("an energy to be judged is NaN or infinite; leave those rows out")
    return PhaseHull(competitors_fractions, competitors_energies).decomposition_energy(fractions, energies)


def judge_stability(
    predicted: ArrayLike, true: ArrayLike, groups: ArrayLike | None = None, seed: int = 0
) -> dict[str, Any]:
    """How well predicted decomposition energies tell what is stable (below 0).

    Parameters
    ----------
    predicted, true : array_like, shape (n,)
        Decomposition energies, eV/atom.
    groups : array_like, shape (n,), optional
        What goes together, such as the chemical system; without it every row is taken for independent.
    seed : int
        Of the bootstrap.

    Returns
    -------
    dict
        ``n``; ``mae`` of the decomposition energy, eV/atom; ``true_positives``, ``false_positives``,
        ``false_negatives``, ``true_negatives``; ``precision``, ``recall``, ``accuracy``, ``false_positive_rate`` and
        ``prevalence`` with 95 % Wilson intervals (`models.backtest.share`); ``f1``, the harmonic mean of precision and
        recall, and ``acceleration``, precision over prevalence (discovery acceleration factor; Riebesell et al.,
        arXiv:2308.14920), None where they have no meaning; ``over_groups``: number of ``groups`` and 95 % intervals
        (a pair, or None) of ``f1``, ``precision``, ``recall`` and ``mae`` over drawing the groups again;
        ``always_stable``: ``f1`` and ``precision`` of calling everything stable.

    Raises
    ------
    InputError
        When lengths differ, nothing is given, or a value is not finite.
    """
    p, t = _energies(predicted, "predicted"), _energies(true, "true")
    if len(p) != len(t):
        raise InputError(f"{len(p)} predicted decomposition energies came with {len(t)} true ones; give one of each")
    said, stable = p < 0.0, t < 0.0
    table = _counts(said, stable)
    found = discovery(said, stable)
    shares = {name: found[name] for name in ("precision", "recall", "prevalence")}
    right = table["true_positives"] + table["true_negatives"]
    unstable = table["false_positives"] + table["true_negatives"]
    blind = discovery(np.ones(len(t), dtype=np.bool_), stable)
    return {
        "n": len(t),
        "mae": float(np.abs(p - t).mean()),
        **table,
        **shares,
        "accuracy": share(right, len(t)),
        "false_positive_rate": share(table["false_positives"], unstable),
        "f1": found["f1"],
        "acceleration": found["acceleration"],
        "over_groups": _over_groups(said, stable, np.abs(p - t), groups, seed),
        "always_stable": {"f1": blind["f1"], "precision": blind["precision"]["share"]},
    }


def _counts(said: NDArray[np.bool_], stable: NDArray[np.bool_]) -> dict[str, int]:
    return {
        "true_positives": int((said & stable).sum()),
        "false_positives": int((said & ~stable).sum()),
        "false_negatives": int((~said & stable).sum()),
        "true_negatives": int((~said & ~stable).sum()),
    }


def _over_groups(
    said: NDArray[np.bool_],
    stable: NDArray[np.bool_],
    error: NDArray[np.float64],
    groups: ArrayLike | None,
    seed: int,
) -> dict[str, Any]:
    """Percentile bootstrap over groups (B. Efron, Ann. Stat. 7, 1 (1979))."""
    labels = np.arange(len(said)) if groups is None else np.asarray(groups)
    if labels.shape != said.shape:
        raise InputError(f"{len(said)} compounds came with groups of shape {labels.shape}; give one group per compound")
    if groups is None:
        order = np.lexsort((stable, said, error))
        code = np.arange(len(said))
    else:
        _, numbers = np.unique(labels, return_inverse=True)
        order = np.lexsort((error, numbers))  # sums of floats depend on the order of their terms
        code = numbers[order]
    n_groups = int(code[-1]) + 1
    names = ("f1", "precision", "recall", "mae")
    if n_groups < 2:
        return {"groups": n_groups} | dict.fromkeys(names)
    said, stable, error = said[order], stable[order], error[order]
    columns = (said & stable, said, stable, error, np.ones(len(said)))
    sums = np.column_stack([np.bincount(code, weights=column) for column in columns])
    rng = np.random.default_rng(seed)
    draws = (np.bincount(rng.integers(0, n_groups, n_groups), minlength=n_groups) for _ in range(_DRAWS))
    both, n_said, n_stable, errors, n = np.array([draw @ sums for draw in draws]).T
    ratios = ((2.0 * both, n_said + n_stable), (both, n_said), (both, n_stable), (errors, n))
    return {"groups": n_groups} | {name: _interval(*ratio) for name, ratio in zip(names, ratios, strict=True)}


def _interval(over: NDArray[np.float64], under: NDArray[np.float64]) -> list[float] | None:
    """Return the middle 95 % of the drawn ratios; None where a draw has none."""
    if (under == 0.0).any():
        return None
    return [float(value) for value in np.quantile(over / under, _INTERVAL)]


def _energies(values: ArrayLike, what: str) -> NDArray[np.float64]:
    x = np.asarray(values, dtype=np.float64)
    if x.ndim != 1 or len(x) == 0:
        raise InputError(f"{what} decomposition energies of shape {x.shape} are no list of numbers; give at least one")
    if not np.isfinite(x).all():
        raise InputError(f"{what} decomposition energies hold NaN or infinite values; leave those rows out")
    return x
