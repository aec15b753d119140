"""Categories of compounds: one kind for each composition, and the groups of the published screen's Table 3.3.

All rest on the elements of a composition alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.best_per_system import Systems, group_by_system
from models.elements import (
    ACTINIDES,
    CHALCOGENS,
    ELEMENT_INDEX,
    ELEMENTS,
    HALOGENS,
    LANTHANIDES,
    METALS,
    N_ELEMENTS,
    TRANSITION_METALS_3D,
)
from models.errors import InputError

KINDS: Final = (
    "oxyhalide",
    "oxide",
    "chalcohalide",
    "chalcogenide",
    "halide",
    "pnictide",
    "hydride",
    "intermetallic",
    "other",
)
"""Names of the codes of `kind`; the first that fits holds, so each composition has one."""

CATEGORIES: Final = ("li_na_k", "chalco_oxyhalide", "metal_oxide", "oxide_3d", "intermetallic")
"""Categories of `categories`, which overlap."""

ALL: Final = "all"
"""Row of `category_table` that counts everything, the f elements too."""

TABLE_3_3: Final[dict[str, tuple[int | None, int | None, int | None]]] = {
    "li_na_k": (4, 207, 18446),
    "chalco_oxyhalide": (None, 522, 17184),
    "metal_oxide": (1, 81, 501),
    "oxide_3d": (1, None, 1),
    "intermetallic": (11, 123, 425),
}
"""Binary, ternary and quaternary systems of the published screen (Jha, dissertation, Table 3.3; the threshold is
-0.2 eV/atom, lanthanides and actinides are left out, and its caption names Cu2O the only new binary oxide). None where
the text recognised from the scan is not legible; a sixth row, with NaMn2AlAu6 alone, has no legible name."""

F_ELEMENTS: Final[tuple[str, ...]] = (*LANTHANIDES, *ACTINIDES)
"""Elements that the categories leave out, as the published table does; La and Ac are counted among them."""


def holds(elements: NDArray[np.integer], symbols: Iterable[str]) -> NDArray[np.bool_]:
    """Whether compositions hold at least one of some elements.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.
    symbols : iterable of str
        The elements.

    Returns
    -------
    ndarray, shape (n,), bool

    Raises
    ------
    InputError
        For an unknown symbol.
    """
    wanted = np.zeros(N_ELEMENTS + 1, dtype=np.bool_)  # the last place is that of the padding, -1
    for symbol in symbols:
        if symbol not in ELEMENT_INDEX:
            raise InputError(f"element {symbol} is outside the 86 elements of the space; leave it out")
        wanted[ELEMENT_INDEX[symbol]] = True
    found = np.zeros(len(elements), dtype=np.bool_)
    for column in np.asarray(elements).T:
        found |= wanted[column]
    return found


def consists_of(elements: NDArray[np.integer], symbols: Iterable[str]) -> NDArray[np.bool_]:
    """Whether compositions (n, k) hold no other elements than the given ones, shape (n,)."""
    return ~holds(elements, sorted(set(ELEMENTS) - set(symbols)))


def kind(elements: NDArray[np.integer]) -> NDArray[np.int8]:
    """Kind of compound, for counting what a filter removes.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.

    Returns
    -------
    ndarray, shape (n,), int8
        Index into `KINDS`: the first that holds of oxyhalide (O and a halogen), oxide (O; oxysulfides too),
        chalcohalide (S, Se or Te and a halogen), chalcogenide, halide, pnictide (N, P, As or Sb), hydride,
        intermetallic (metals only), other (carbides, borides, silicides, germanides, noble gases).
    """
    oxygen, halogen, chalcogen = holds(elements, ("O",)), holds(elements, HALOGENS), holds(elements, CHALCOGENS)
    conditions = [
        oxygen & halogen,
        oxygen,
        chalcogen & halogen,
        chalcogen,
        halogen,
        holds(elements, ("N", "P", "As", "Sb")),
        holds(elements, ("H",)),
        consists_of(elements, METALS),
    ]
    codes = [np.int8(code) for code in range(len(conditions))]
    return np.asarray(np.select(conditions, codes, default=np.int8(len(conditions))), dtype=np.int8)


def counts_by_kind(elements: NDArray[np.integer], chosen: NDArray[np.bool_]) -> dict[str, int]:
    """Count chosen compositions, such as those that a filter removes, by kind.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.
    chosen : ndarray, shape (n,), bool
        Compositions to count.

    Returns
    -------
    dict of str to int
        One entry for each of `KINDS`, zeros too, so that the dicts of several blocks can be added.
    """
    counted = np.bincount(kind(np.asarray(elements)[chosen]), minlength=len(KINDS))
    return {name: int(n) for name, n in zip(KINDS, counted, strict=True)}


def categories(elements: NDArray[np.integer], exclude: Iterable[str] = F_ELEMENTS) -> dict[str, NDArray[np.bool_]]:
    """Categories of the published screen's Table 3.3, which may overlap.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Indices into `models.elements.ELEMENTS`, padded with -1.
    exclude : iterable of str
        Compositions with one of these elements are in no category.

    Returns
    -------
    dict of str to ndarray, shape (n,), bool
        ``li_na_k``: Li, Na or K is present. ``chalco_oxyhalide``: a chalcogen (O too) and a halogen are present; the
        table's examples OF9 and SeF9 need no metal. ``metal_oxide``: O and otherwise metals, at least one.
        ``oxide_3d``: O and otherwise 3d metals (Sc to Zn), at least one. ``intermetallic``: metals only; metalloids
        (B, Si, Ge, As, Sb, Te) are not counted as such.

    Notes
    -----
    The table states no definitions; these follow its examples (CsNa2CdF4, Zr6RhIO, Y4FeBi2O6, TiZnCrO5, ZrAl5Os).
    """
    elements = np.asarray(elements)
    allowed = ~holds(elements, exclude)
    oxide = holds(elements, ("O",)) & holds(elements, METALS)
    masks = (
        holds(elements, ("Li", "Na", "K")),
        holds(elements, CHALCOGENS) & holds(elements, HALOGENS),
        oxide & consists_of(elements, (*METALS, "O")),
        oxide & consists_of(elements, (*TRANSITION_METALS_3D, "O")),
        consists_of(elements, METALS),
    )
    return {name: mask & allowed for name, mask in zip(CATEGORIES, masks, strict=True)}


def category_table(
    elements: NDArray[np.integer],
    flags: Mapping[str, NDArray[np.bool_]] | None = None,
    *,
    exclude: Iterable[str] = F_ELEMENTS,
) -> pd.DataFrame:
    """Count systems and compositions by category and arity, before and after flagged compositions are taken out.

    Parameters
    ----------
    elements : ndarray, shape (n, k)
        Ascending indices into `models.elements.ELEMENTS`, padded with -1 at the end.
    flags : mapping of str to ndarray, shape (n,), bool
        Flags such as ``known``, ``hull_incomplete`` and ``out_of_domain``.
    exclude : iterable of str
        Elements that the categories leave out; the row `ALL` counts them.

    Returns
    -------
    DataFrame
        category, arity, systems, compositions; ``compositions_<flag>`` for each flag: compositions that have it;
        systems_after, compositions_after: without any flag. One row for `ALL` and each category at each arity that
        occurs, zeros too.

    Raises
    ------
    InputError
        For a flag of another length, or elements that do not ascend.
    """
    elements = np.asarray(elements)
    flags = {name: np.asarray(flag, dtype=np.bool_) for name, flag in (flags or {}).items()}
    for name, flag in flags.items():
        if flag.shape != (len(elements),):
            raise InputError(f"flag {name} has shape {flag.shape}; it needs one value for each of {len(elements):,}")
    groups = group_by_system(elements)
    clean = ~np.logical_or.reduce(list(flags.values())) if flags else np.ones(len(elements), dtype=np.bool_)
    masks = {ALL: np.ones(len(elements), dtype=np.bool_), **categories(elements, exclude)}
    parts = [_counts(groups, name, mask, flags, clean) for name, mask in masks.items()]
    return pd.concat(parts, ignore_index=True)


def _counts(
    groups: Systems,
    name: str,
    mask: NDArray[np.bool_],
    flags: Mapping[str, NDArray[np.bool_]],
    clean: NDArray[np.bool_],
) -> pd.DataFrame:
    """Rows of one category in the table."""
    arities, place = np.unique(groups.arity, return_inverse=True)

    def by_arity(chosen: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        compositions = groups.count(chosen)
        systems = np.bincount(place[compositions > 0], minlength=len(arities))
        total = np.zeros(len(arities), dtype=np.int64)
        np.add.at(total, place, compositions)
        return systems.astype(np.int64), total

    systems, compositions = by_arity(mask)
    systems_after, compositions_after = by_arity(mask & clean)
    return pd.DataFrame(
        {
            "category": name,
            "arity": arities,
            "systems": systems,
            "compositions": compositions,
            **{f"compositions_{flag}": by_arity(mask & values)[1] for flag, values in flags.items()},
            "systems_after": systems_after,
            "compositions_after": compositions_after,
        }
    )
