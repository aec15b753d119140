"""The 126 structural attributes of Ward et al., Phys. Rev. B 96, 024104 (2017), from Voronoi tessellations.

They are matminer's. Its five featurizers of that paper give 128 numbers: 9 of the heterogeneity of bond lengths and
cell volumes, 3 ordering parameters, the packing efficiency, 110 local differences in element properties and 5 of the
effective coordination number. The paper takes the range only of the local differences; without the ranges of the
neighbour distance variation and of the coordination number (differences of two other columns) 126 are left.
"""

from __future__ import annotations

import warnings
from functools import lru_cache
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Lattice, Structure

from models.errors import InputError
from models.magpie_data import PROPERTIES
from models.structures import check_structure, parse_structure

STATISTICS: Final = ("minimum", "maximum", "range", "mean", "avg_dev")
_LEFT_OUT: Final = ("range neighbor distance variation", "range CN_VoronoiNN")
_ALL_NAMES: Final = (
    "mean absolute deviation in relative bond length",
    "max relative bond length",
    "min relative bond length",
    *(f"{statistic} neighbor distance variation" for statistic in STATISTICS),
    "mean absolute deviation in relative cell size",
    *(f"mean ordering parameter shell {shell}" for shell in (1, 2, 3)),
    "max packing efficiency",
    *(f"{statistic} local difference in {name}" for name in PROPERTIES for statistic in STATISTICS),
    *(f"{statistic} CN_VoronoiNN" for statistic in STATISTICS),
)
STRUCTURAL_NAMES: Final[tuple[str, ...]] = tuple(name for name in _ALL_NAMES if name not in _LEFT_OUT)
"""Names of the attributes, in order; pure numbers but for the local differences, which have their property's unit."""

_KEPT = np.array([i for i, name in enumerate(_ALL_NAMES) if name not in _LEFT_OUT])


def structural_attributes(structure: Structure) -> NDArray[np.float64]:
    """Structural attributes of one crystal, on one core.

    Parameters
    ----------
    structure : Structure
        Ordered; oxidation states are ignored, gaps in the element data filled with means (matminer's default).

    Returns
    -------
    ndarray, shape (126,), float64
        In the order of `STRUCTURAL_NAMES`, finite. The same for the same structure, whatever was computed before.

    Raises
    ------
    InputError
        For a structure that `models.structures.check_structure` refuses, that cannot be tessellated, or whose
        attributes are not all finite numbers.
    """
    from matminer.utils import caching

    check_structure(structure)
    crystal = structure.copy()
    crystal.remove_oxidation_states()
    # matminer keeps the neighbours of the last structure and finds them by pymatgen's equality, which has a tolerance:
    # left alone, a crystal would get those of an almost equal one that happened to come before it
    caching._get_all_nearest_neighbors.cache_clear()
    values: list[float] = []
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            for featurizer in _featurizers():
                values += [float(value) for value in featurizer.featurize(crystal)]
    # pymatgen and qhull raise anything from KeyError to RuntimeError on a tessellation that does not close
    except Exception as error:
        detail = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(f"structure has no Voronoi attributes ({detail}); check cell and coordinates") from error
    attributes: NDArray[np.float64] = np.array(values)[_KEPT]
    if not np.isfinite(attributes).all():
        name = STRUCTURAL_NAMES[int(np.flatnonzero(~np.isfinite(attributes))[0])]
        raise InputError(f"structure has no finite '{name}'; check the cell and the coordinates")
    return attributes


def attributes_of_text(text: str) -> list[float]:
    """Structural attributes of a CIF, a POSCAR or pymatgen JSON, as a list; see `structural_attributes`."""
    return [float(value) for value in structural_attributes(parse_structure(text))]


def prepare() -> None:
    """Load what the first call needs, so that its seconds do not count for the first structure."""
    structural_attributes(Structure(Lattice.cubic(3.0), ["Cs", "Cl"], [[0.0] * 3, [0.5] * 3]))


@lru_cache(maxsize=1)
def _featurizers() -> tuple[Any, ...]:
    """Matminer's featurizers, in the order of the names; seconds to import, so only where they are needed."""
    from matminer.featurizers.structure import (
        ChemicalOrdering,
        MaximumPackingEfficiency,
        SiteStatsFingerprint,
        StructuralHeterogeneity,
    )

    featurizers = (
        StructuralHeterogeneity(),
        ChemicalOrdering(),
        MaximumPackingEfficiency(),
        SiteStatsFingerprint.from_preset("LocalPropertyDifference_ward-prb-2017"),
        SiteStatsFingerprint.from_preset("CoordinationNumber_ward-prb-2017"),
    )
    for featurizer in featurizers:
        featurizer.set_n_jobs(1)
    names = tuple(name for featurizer in featurizers for name in featurizer.feature_labels())
    if names != _ALL_NAMES:
        raise RuntimeError("this release of matminer orders Ward's structural attributes differently")
    return featurizers
