"""How readily one element takes the place of another in a crystal.

Sources
-------
Hautier, Fischer, Ehrlacher, Jain, Ceder, Inorg. Chem. 50, 656 (2011): probabilities mined from the ICSD, as pymatgen
has them (``SubstitutionProbability``).
"""

from __future__ import annotations

from functools import lru_cache
from math import exp, log

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Species

from models.elements import ELEMENTS


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
    from pymatgen.analysis.structure_prediction.substitution_probability import SubstitutionProbability

    mined = SubstitutionProbability()
    charges: dict[str, list[Species]] = {symbol: [] for symbol in ELEMENTS}
    for ion in sorted(mined.species):
        if ion.symbol in charges and ion.oxi_state:
            charges[ion.symbol].append(ion)
    shares = sorted(mined.get_px(ion) for ion in mined.species)
    unknown = mined.alpha - log(shares[len(shares) // 2])  # for elements without an ion: as a usual one
    table = np.full((len(ELEMENTS), len(ELEMENTS)), unknown)
    for at_old, old in enumerate(ELEMENTS):
        total = sum(mined.get_px(ion) for ion in charges[old])
        for at_new, new in enumerate(ELEMENTS if charges[old] else ()):
            # P(ion | element) P(new | ion): the frequency of the ion cancels
            mean = sum(exp(mined.get_lambda(Species(new, ion.oxi_state), ion)) for ion in charges[old]) / total
            table[at_new, at_old] = log(mean)
    np.fill_diagonal(table, 0.0)
    table.flags.writeable = False
    return table
