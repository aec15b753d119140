"""How readily one element takes the place of another in a crystal.

Sources
-------
Hautier, Fischer, Ehrlacher, Jain, Ceder, Inorg. Chem. 50, 656 (2011): probabilities mined from the ICSD, as pymatgen
has them (``SubstitutionProbability``).
"""

from __future__ import annotations

import json
import sys
from functools import lru_cache
from math import log
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Species

from models.elements import ELEMENTS

_UNOBSERVED = -5.0
"""Weight lambda of a pair of ions that was never observed, as pymatgen has it."""


@lru_cache(maxsize=1)
def exchange_log_probabilities() -> NDArray[np.float64]:
    """Return the logarithm of the probability that an element is exchanged for another.

    The published numbers are for ions. Here they are means over the oxidation states of the element that leaves, as
    often as each occurs, for an ion of the same charge that comes. Pairs that were never observed have the published
    weight of such pairs, and an element that stays costs nothing.

    Returns
    -------
    ndarray, shape (86, 86)
        Natural logarithm for ``[new, old]``, elements as in `models.elements.ELEMENTS`; 0 on the diagonal.
    """
    place, weights = _mined()
    frequencies = np.exp(weights).sum(axis=1)  # of the ions
    # for elements without an ion: as a usual one
    unknown = _UNOBSERVED - log(np.sort(frequencies)[len(frequencies) // 2])
    table = np.full((len(ELEMENTS), len(ELEMENTS)), unknown)
    for at_old, old in enumerate(ELEMENTS):
        charges = [charge for symbol, charge in place if symbol == old and charge]
        leaving = [place[old, charge] for charge in charges]
        for at_new, new in enumerate(ELEMENTS if charges else ()):
            # P(ion | element) P(new | ion): the frequency of the ion cancels
            pairs = [
                weights[place[new, charge], ion] if (new, charge) in place else _UNOBSERVED
                for charge, ion in zip(charges, leaving, strict=True)
            ]
            table[at_new, at_old] = log(np.exp(pairs).sum() / frequencies[leaving].sum())
    np.fill_diagonal(table, 0.0)
    table.flags.writeable = False
    return table


def _mined() -> tuple[dict[tuple[str, float | None], int], NDArray[np.float64]]:
    """Return the place of each ion by element and charge, and the weights lambda of all pairs (n, n).

    From pymatgen's table: its ``SubstitutionProbability`` takes seconds to sum what is a row of this matrix.
    """
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    # the table lies beside the class, which newer releases import here from elsewhere
    home = Path(str(sys.modules[SubstitutionProbability.__module__].__file__)).parent
    file = home / "data" / "lambda.json"
    rows = [row for row in json.loads(file.read_text()) if "D1+" not in row]  # deuterium is no element of its own
    at = {name: place for place, name in enumerate(sorted({name for row in rows for name in row[:2]}))}
    weights = np.full((len(at), len(at)), _UNOBSERVED)
    for one, other, weight in rows:
        weights[at[one], at[other]] = weights[at[other], at[one]] = weight
    ions = [Species.from_str(name) for name in at]
    return {(ion.symbol, ion.oxi_state): place for place, ion in enumerate(ions)}, weights
