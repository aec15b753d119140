"""Structures for compositions that have none: those of known compounds, or of prototypes, with other elements on them.

A structure that comes out of this is a guess about where atoms might sit: nobody has relaxed it, and another one may
lie lower. It lets a composition be read by networks of crystal graphs; it proves nothing.

Sources
-------
Hautier et al., Inorg. Chem. 50, 656 (2011), for which exchanges are likely; Chu et al., Comput. Mater. Sci. 146, 184
(2018), for volumes that follow from the template's and the radii (pymatgen's ``RLSVolumePredictor``).
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pymatgen.core import Structure

from models.crystals import structure_json
from models.element_exchange import exchange_log_probabilities
from models.elements import ELEMENTS
from models.errors import InputError
from models.formula import ParsedFormulas, parse_many
from models.prototypes import load_prototypes
from models.structures import parse_structure

COMPOUND: Final = "compound"
PROTOTYPE: Final = "prototype"


@dataclass(frozen=True)
class Templates:
    """Structures whose elements may be exchanged.

    Attributes
    ----------
    identifiers : sequence of str
        Of the n structures.
    kinds : sequence of str
        `COMPOUND` or `PROTOTYPE`.
    structures : sequence of str
        CIF, POSCAR or pymatgen JSON.
    compositions : ParsedFormulas
        Of the structures.
    preference : ndarray, shape (n,)
        Which of equally likely templates comes first: the one with the lower number, such as an energy above hull;
        NaN comes last, and is below every limit.
    limit : float
        Of the preference: what has a higher one is known, but no template.
    """

    identifiers: Sequence[str]
    kinds: Sequence[str]
    structures: Sequence[str]
    compositions: ParsedFormulas
    preference: NDArray[np.float64]
    limit: float = float("inf")

    @classmethod
    def of_compounds(
        cls,
        identifiers: Sequence[str],
        formulas: Sequence[str],
        structures: Sequence[str],
        preference: NDArray[np.float64],
        limit: float = float("inf"),
    ) -> Templates:
        """Take known compounds; those whose formula cannot be read are of no use and never found."""
        kinds = [COMPOUND] * len(identifiers)
        return cls(identifiers, kinds, structures, parse_many(list(formulas)), preference, limit)

    @classmethod
    def of_prototypes(cls) -> Templates:
        """Take the prototypes of the AFLOW library, with the elements of the library's own examples."""
        found = list(load_prototypes().values())
        formulas = [one.structure.composition.formula.replace(" ", "") for one in found]
        texts = [structure_json(one.structure) for one in found]
        nothing = np.full(len(found), np.nan)
        return cls([one.key for one in found], [PROTOTYPE] * len(found), texts, parse_many(formulas), nothing)

    @cached_property
    def by_stoichiometry(self) -> dict[tuple[int, ...], tuple[NDArray[np.int64], NDArray[np.int64]]]:
        """Rows (m,) of each stoichiometry, coprime amounts in ascending order, and their elements (m, k)."""
        rows: dict[tuple[int, ...], list[int]] = {}
        for row in np.flatnonzero(self.compositions.valid & ~(self.preference > self.limit)):
            amounts = _by_amount(self.compositions, int(row))[1]
            rows.setdefault(tuple(amounts.tolist()), []).append(int(row))
        return {
            key: (np.array(found), np.stack([_by_amount(self.compositions, row)[0] for row in found]))
            for key, found in rows.items()
        }

    @cached_property
    def reduced(self) -> dict[str, str]:
        """Identifier of a compound by its reduced formula."""
        names = zip(self.compositions.reduced, self.identifiers, self.kinds, strict=True)
        return {formula: name for formula, name, kind in names if kind == COMPOUND and formula}


@dataclass(frozen=True)
class Substitution:
    """A template and what replaces its elements.

    Attributes
    ----------
    identifier, kind, structure : str
        Of the template.
    formula : str
        Reduced formula of the composition that gets the structure.
    exchanged : dict of str to str
        Template's element to the new one, all of them.
    log10_probability : float
        How likely the exchange is.
    """

    identifier: str
    kind: str
    structure: str
    formula: str
    exchanged: dict[str, str]
    log10_probability: float


def substitutions(composition: ParsedFormulas, templates: Sequence[Templates], n: int) -> list[Substitution]:
    """Find the templates of a composition's stoichiometry whose elements are exchanged most readily for its own.

    Parameters
    ----------
    composition : ParsedFormulas
        One formula.
    templates : sequence of Templates
        Where to look; of equally likely ones the first come first.
    n : int
        How many are wanted.

    Returns
    -------
    list of Substitution
        At most n, the most likely first; a template occurs once, with the likeliest way to put the elements on it.

    Raises
    ------
    InputError
        If the formula cannot be read, is that of a compound among the templates, or has a stoichiometry that none has.
    """
    if composition.reason[0] is not None:
        raise InputError(composition.reason[0])
    for known in templates:
        if identifier := known.reduced.get(composition.reduced[0]):
            raise InputError(f"its structure is known: {identifier}")
    ways = [way for at, one in enumerate(templates) for way in _ways(composition, one, at, n)]
    if not ways:
        raise InputError("no known structure has its stoichiometry")
    ways.sort(key=lambda way: way[:4])
    return [_substitution(composition, templates[at], row, placed, -cost) for cost, at, _, row, placed in ways[:n]]


Way = tuple[float, int, float, int, NDArray[np.int64]]


def _ways(composition: ParsedFormulas, templates: Templates, at: int, n: int) -> Iterator[Way]:
    """Yield, for each template that may be among the first n, what sorts it, its row, and what goes on its elements."""
    elements, amounts = _by_amount(composition, 0)
    found = templates.by_stoichiometry.get(tuple(amounts.tolist()))
    if found is None:
        return
    rows, old = found
    orders = np.array(list(_orders(amounts)))
    # (orders, templates): the sum over the elements
    likely = exchange_log_probabilities()[elements[orders][:, None, :], old[None, :, :]].sum(axis=2)
    best = likely.argmax(axis=0)
    highest = likely.max(axis=0)
    enough = np.partition(highest, -n)[-n] if n < len(rows) else -np.inf
    for column in np.flatnonzero(highest >= enough):
        row = int(rows[column])
        preference = float(np.nan_to_num(templates.preference[row], nan=np.inf))
        yield -float(highest[column]), at, preference, row, elements[orders[best[column]]]


def _orders(amounts: NDArray[np.int64]) -> Iterator[list[int]]:
    """Yield the orders of elements in which each still has its amount; amounts ascend."""
    blocks = [np.flatnonzero(amounts == amount).tolist() for amount in np.unique(amounts)]
    for orders in itertools.product(*(itertools.permutations(block) for block in blocks)):
        yield list(itertools.chain.from_iterable(orders))


def _by_amount(parsed: ParsedFormulas, row: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return a composition's elements and amounts, the smallest amount first."""
    arity = int(parsed.arity[row])
    elements, amounts = (one[row, :arity].astype(np.int64) for one in (parsed.elements, parsed.amounts))
    order = np.argsort(amounts, kind="stable")
    return elements[order], amounts[order]


def _substitution(
    composition: ParsedFormulas, templates: Templates, row: int, placed: NDArray[np.int64], likely: float
) -> Substitution:
    old = _by_amount(templates.compositions, row)[0]
    exchanged = {ELEMENTS[before]: ELEMENTS[after] for before, after in zip(old, placed, strict=True)}
    return Substitution(
        templates.identifiers[row], templates.kinds[row], templates.structures[row], composition.reduced[0], exchanged,
        likely / np.log(10),
    )  # fmt: skip


def hypothetical_structure(substitution: Substitution, max_sites: int = 100) -> Structure:
    """Put the new elements on a template and scale its cell by their radii, ionic ones where it has such.

    Parameters
    ----------
    substitution : Substitution
        From `substitutions`.
    max_sites : int
        Largest cell to work on.

    Returns
    -------
    Structure
        Cell and positions of the template, scaled; not relaxed.

    Raises
    ------
    InputError
        If the template cannot be read, is not of its formula, has too many sites, or an element has no radius.
    """
    from pymatgen.analysis.structure_prediction.volume_predictor import RLSVolumePredictor

    try:
        template = parse_structure(substitution.structure)
    except InputError as error:
        raise InputError(f"the structure of {substitution.identifier} cannot be used: {error}") from error
    if len(template) > max_sites:
        raise InputError(f"{substitution.identifier} has {len(template)} sites, more than {max_sites}")
    species = [substitution.exchanged.get(site.specie.symbol, "X") for site in template]
    structure = Structure(template.lattice, species, template.frac_coords)
    if structure.composition.reduced_formula != substitution.formula:
        raise InputError(f"the structure of {substitution.identifier} is not of its formula")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # where no charges are found and atomic radii serve
        try:
            volume = float(RLSVolumePredictor(check_isostructural=False).predict(structure, template))
        except (ValueError, TypeError) as error:
            raise InputError(f"an element of it or of {substitution.identifier} has no radius ({error})") from error
    structure.scale_lattice(volume)
    return structure
