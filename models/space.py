"""The composition space: a bijection between an integer and a composition.

Layout. Arities ascend; inside an arity, chemical systems stand in lexicographic order of their ascending element
positions; inside a system, stoichiometries stand in lexicographic order of their counts. So
``index = offset(arity) + system_rank * n_stoichiometries(arity) + stoichiometry_rank`` and a range of indices is a
run of whole chemical systems but for its two ends.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.elements import ELEMENT_INDEX, ELEMENTS, N_ELEMENTS
from models.errors import InputError
from models.formula_text import chemsys_array, reduced_formula_array

MAX_ARITY = 8
MAX_ATOMS = 24

F = TypeVar("F", np.float32, np.float64)


@dataclass(frozen=True)
class Compositions:
    """n compositions of a space.

    Attributes
    ----------
    elements : ndarray, shape (n, k), int16
        Indices into `models.elements.ELEMENTS`, ascending, padded with -1; k is the space's largest arity.
    counts : ndarray, shape (n, k), int8
        Coprime atom counts, padded with 0; wider integers where they come from formulas.
    """

    elements: NDArray[np.int16]
    counts: NDArray[Any]

    def __len__(self) -> int:
        return len(self.elements)


@dataclass(frozen=True)
class SystemBlock:
    """Whole chemical systems that cover a run of indices.

    The compositions of the block, shape (m, s), flattened in C order, are ``first - skip, ...``; of these the run
    takes ``[skip:skip + size]``, whose indices are ``first, ..., first + size - 1``.

    Attributes
    ----------
    arity : int
        Number of elements k of each system.
    systems : ndarray, shape (m, k), int16
        Ascending indices into `models.elements.ELEMENTS`.
    stoichiometries : ndarray, shape (s, k), int8
        Coprime atom counts, the same for every system.
    first : int
        Index of the run's first composition in the block.
    skip : int
        Compositions of the first system that lie before the run.
    size : int
        Compositions of the run in this block.
    """

    arity: int
    systems: NDArray[np.int16]
    stoichiometries: NDArray[np.int8]
    first: int
    skip: int
    size: int

    @property
    def fractions(self) -> NDArray[np.float64]:
        """Atomic fractions of the stoichiometries, shape (s, k)."""
        return np.asarray(self.stoichiometries / self.stoichiometries.sum(axis=1, keepdims=True, dtype=np.int64))


@dataclass(frozen=True)
class CompositionSpace:
    """All reduced compositions of given elements, arities and atoms per reduced formula.

    Parameters
    ----------
    elements : sequence of str
        Elements to choose from; kept in the order of `models.elements.ELEMENTS`.
    arities : sequence of int
        Numbers of different elements, 1 to 8.
    max_atoms : int
        Largest number of atoms of a reduced formula, up to 24.
    required : sequence of str
        Elements that every composition contains; systems are then numbered by their other elements.

    Raises
    ------
    InputError
        For an unknown or repeated element, or a bound outside the limits.
    """

    elements: tuple[str, ...] = ELEMENTS
    arities: tuple[int, ...] = (2, 3, 4)
    max_atoms: int = 10
    required: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        elements = tuple(self.elements)
        unknown = [e for e in elements if e not in ELEMENT_INDEX]
        if unknown:
            raise InputError(f"element {unknown[0]} is outside the 86 elements of the space; leave it out")
        if not elements or len(set(elements)) < len(elements):
            raise InputError("the elements of a composition space must be at least one and each given once")
        arities = tuple(sorted(self.arities))
        if not arities or len(set(arities)) < len(arities) or arities[0] < 1 or arities[-1] > MAX_ARITY:
            raise InputError(f"arities must be different numbers from 1 to {MAX_ARITY}, not {self.arities}")
        if not arities[-1] <= self.max_atoms <= MAX_ATOMS:
            raise InputError(
                f"max_atoms must lie between the largest arity {arities[-1]} and {MAX_ATOMS}, not {self.max_atoms}"
            )
        required = tuple(sorted(set(self.required), key=lambda e: ELEMENT_INDEX.get(e, -1)))
        absent = [e for e in required if e not in elements]
        if absent:
            raise InputError(f"the required element {absent[0]} is not among the elements of the space; add it to them")
        if len(required) > arities[0]:
            raise InputError(
                f"{len(required)} required elements do not fit an arity of {arities[0]}; leave that arity out"
            )
        object.__setattr__(self, "required", required)
        object.__setattr__(self, "elements", tuple(sorted(elements, key=ELEMENT_INDEX.__getitem__)))
        object.__setattr__(self, "arities", arities)

    def __len__(self) -> int:
        return self.offsets[-1]

    @property
    def width(self) -> int:
        """Largest arity: the columns of `Compositions`."""
        return self.arities[-1]

    @property
    def n_systems(self) -> int:
        """Number of chemical systems."""
        return sum(self._n_systems(k) for k in self.arities)

    @property
    def offsets(self) -> tuple[int, ...]:
        """First index of each arity, and the size of the space."""
        total = 0
        offsets = [0]
        for arity in self.arities:
            total += self.count(arity)
            offsets.append(total)
        return tuple(offsets)

    def count(self, arity: int) -> int:
        """Compositions with ``arity`` elements; 0 for an arity outside the space."""
        if arity not in self.arities:
            return 0
        return self._n_systems(arity) * len(self.stoichiometries(arity))

    def stoichiometries(self, arity: int) -> NDArray[np.int8]:
        """Coprime counts of ``arity`` elements in lexicographic order.

        Returns
        -------
        ndarray, shape (s, arity), int8, read-only
        """
        return _stoichiometries(arity, self.max_atoms)

    def unrank(self, indices: NDArray[np.integer] | Sequence[int]) -> Compositions:
        """Compositions of the given indices.

        Parameters
        ----------
        indices : ndarray, shape (n,)
            Integers from 0 to ``len(space) - 1``.

        Raises
        ------
        InputError
            For an index outside the space.
        """
        index = np.asarray(indices, dtype=np.int64).ravel()
        if len(index) and (index.min() < 0 or index.max() >= len(self)):
            raise InputError(
                f"an index lies outside the composition space of {len(self):,}; use 0 to {len(self) - 1:,}"
            )
        elements = np.full((len(index), self.width), -1, dtype=np.int16)
        counts = np.zeros((len(index), self.width), dtype=np.int8)
        for arity, low, high in zip(self.arities, self.offsets, self.offsets[1:], strict=False):
            rows = slice(None) if len(self.arities) == 1 else np.flatnonzero((index >= low) & (index < high))
            table = self.stoichiometries(arity)
            system, stoichiometry = np.divmod(index[rows] - low, max(len(table), 1))
            elements[rows, :arity] = self._systems(system, arity)
            counts[rows, :arity] = table[stoichiometry]
        return Compositions(elements, counts)

    def rank(self, elements: NDArray[np.integer], counts: NDArray[np.integer]) -> NDArray[np.int64]:
        """Find the indices of the given compositions, the inverse of `unrank`.

        Parameters
        ----------
        elements : ndarray, shape (n, k)
            Ascending indices into `models.elements.ELEMENTS`, padded with -1 at the end.
        counts : ndarray, shape (n, k)
            Coprime atom counts, padded with 0.

        Returns
        -------
        ndarray, shape (n,), int64
            -1 for a composition outside the space (another element, arity, or too many atoms, or not reduced).
        """
        columns: NDArray[np.int64] = np.asarray(elements, dtype=np.int64)
        amounts: NDArray[np.int64] = np.asarray(counts, dtype=np.int64)
        arity_of = np.count_nonzero(columns >= 0, axis=1)
        result = np.full(len(columns), -1, dtype=np.int64)
        for arity, low in zip(self.arities, self.offsets, strict=False):
            rows = np.flatnonzero(arity_of == arity)
            if arity > columns.shape[1] or len(rows) == 0:
                continue
            system = self._rank_systems(columns[rows, :arity])
            stoichiometry = self._rank_stoichiometries(amounts[rows, :arity])
            sound = (system >= 0) & (stoichiometry >= 0)
            result[rows[sound]] = low + system[sound] * len(self.stoichiometries(arity)) + stoichiometry[sound]
        return result

    def iterate_systems(self, start: int, stop: int, *, block_size: int = 65536) -> Iterator[SystemBlock]:
        """Blocks of whole chemical systems that cover the indices ``start`` to ``stop - 1``.

        Parameters
        ----------
        start, stop : int
            Range of indices; its ends may lie inside a system.
        block_size : int
            Compositions per block, about; no system is split, so a block holds at least one.

        Raises
        ------
        InputError
            For a range outside the space.
        """
        if not 0 <= start <= stop <= len(self):
            raise InputError(f"range {start} to {stop} lies outside the composition space of {len(self):,}")
        for arity, low, high in zip(self.arities, self.offsets, self.offsets[1:], strict=False):
            begin, end = max(start, low) - low, min(stop, high) - low
            table = self.stoichiometries(arity)
            step = max(1, block_size // max(len(table), 1))
            while begin < end:
                first_system = begin // len(table)
                last_system = min(first_system + step, -(-end // len(table)))
                block_end = min(end, last_system * len(table))
                systems = self._systems(np.arange(first_system, last_system), arity)
                skip = begin - first_system * len(table)
                yield SystemBlock(arity, systems, table, low + begin, skip, block_end - begin)
                begin = block_end

    def fractions(self, compositions: Compositions, dtype: type[F] = np.float32) -> NDArray[F]:  # type: ignore[assignment]
        """Atomic fractions over the 86 elements, shape (n, 86), computed in float64 and rounded to ``dtype``."""
        dense = np.zeros((len(compositions), N_ELEMENTS), dtype=dtype)
        share = compositions.counts / compositions.counts.sum(axis=1, keepdims=True, dtype=np.int64)
        for column in range(compositions.elements.shape[1]):
            rows = np.flatnonzero(compositions.elements[:, column] >= 0)
            dense[rows, compositions.elements[rows, column]] = share[rows, column]
        return dense

    def formula_array(self, compositions: Compositions) -> pa.StringArray:
        """Reduced formulas as pymatgen writes them, as an Arrow array (no Python strings)."""
        return reduced_formula_array(compositions.elements, compositions.counts)

    def formulas(self, compositions: Compositions) -> list[str]:
        """Reduced formulas as pymatgen writes them."""
        return list(self.formula_array(compositions).to_pylist())

    def chemsys(self, compositions: Compositions) -> list[str]:
        """Chemical systems such as ``Fe-Li-O``."""
        return list(chemsys_array(compositions.elements).to_pylist())

    def to_dict(self) -> dict[str, Any]:
        """JSON form, the argument of `from_dict`."""
        return {
            "elements": list(self.elements),
            "arities": list(self.arities),
            "max_atoms": self.max_atoms,
            "required": list(self.required),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> CompositionSpace:
        """Space from its JSON form."""
        elements, arities = tuple(data["elements"]), tuple(data["arities"])
        return cls(elements, arities, int(data["max_atoms"]), tuple(data.get("required", ())))

    @property
    def _free(self) -> NDArray[np.int16]:
        """Columns of the elements that are combined, ascending."""
        return _element_columns(tuple(e for e in self.elements if e not in self.required))

    def _n_systems(self, arity: int) -> int:
        return math.comb(len(self._free), arity - len(self.required))

    def _systems(self, rank: NDArray[np.int64], arity: int) -> NDArray[np.int16]:
        """Element columns of systems, shape (m, arity), ascending."""
        free, required = self._free, _element_columns(self.required)
        chosen = free[_unrank_systems(rank, len(free), arity - len(required))]
        if len(required) == 0:
            return chosen
        return np.sort(np.column_stack([np.broadcast_to(required, (len(rank), len(required))), chosen]), axis=1)

    def _rank_systems(self, elements: NDArray[np.int64]) -> NDArray[np.int64]:
        """Rank of each system of ascending element columns (n, arity); -1 for one outside of the space."""
        free, required = self._free, _element_columns(self.required)
        positions = np.full(N_ELEMENTS, -1, dtype=np.int64)
        positions[free] = np.arange(len(free))
        is_required = np.isin(elements, required)
        inside = (elements >= 0) & (is_required | (positions[elements] >= 0))
        sound = (
            inside.all(axis=1)
            & (np.diff(elements, axis=1) > 0).all(axis=1)
            & (is_required.sum(axis=1) == len(required))
        )
        result = np.full(len(elements), -1, dtype=np.int64)
        chosen = positions[elements[sound]][~is_required[sound]].reshape(
            int(sound.sum()), elements.shape[1] - len(required)
        )
        result[sound] = _rank_systems(chosen, len(free))
        return result

    def _rank_stoichiometries(self, counts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Row of each stoichiometry in the table, -1 where there is none."""
        codes = _codes(self.stoichiometries(counts.shape[1]), self.max_atoms)
        wanted = np.where(((counts < 1) | (counts > self.max_atoms)).any(axis=1), -1, _codes(counts, self.max_atoms))
        row = np.minimum(np.searchsorted(codes, wanted), len(codes) - 1)
        return np.where(codes[row] == wanted, row, -1)


def _codes(counts: NDArray[np.integer], max_atoms: int) -> NDArray[np.int64]:
    """One integer per stoichiometry that sorts as its counts do."""
    powers = (max_atoms + 1) ** np.arange(counts.shape[1] - 1, -1, -1, dtype=np.int64)
    return np.asarray(counts.astype(np.int64) @ powers)


@lru_cache(maxsize=64)
def _element_columns(elements: tuple[str, ...]) -> NDArray[np.int16]:
    columns = np.array([ELEMENT_INDEX[e] for e in elements], dtype=np.int16)
    columns.flags.writeable = False
    return columns


@lru_cache(maxsize=64)
def _stoichiometries(arity: int, max_atoms: int) -> NDArray[np.int8]:
    """Coprime positive integers whose sum is at most ``max_atoms``, lexicographic order."""
    rows = np.zeros((1, 0), dtype=np.int8)
    for position in range(arity):
        room = max_atoms - rows.sum(axis=1, dtype=np.int64) - (arity - position - 1)
        rows = np.repeat(rows, room, axis=0)
        following = np.arange(room.sum()) - np.repeat(np.cumsum(room) - room, room) + 1
        rows = np.column_stack([rows, following.astype(np.int8)])
    table = np.ascontiguousarray(rows[np.gcd.reduce(rows, axis=1) == 1])
    table.flags.writeable = False
    return table


@lru_cache(maxsize=64)
def _binomials(n: int, k: int) -> NDArray[np.int64]:
    """C(v, k) for v = 0..n."""
    return np.array([math.comb(v, k) for v in range(n + 1)], dtype=np.int64)


def _unrank_systems(rank: NDArray[np.int64], n: int, arity: int) -> NDArray[np.int16]:
    """Lexicographic combinations of ``arity`` out of n positions; shape (m, arity).

    The reversed rank in the mirrored positions is a number in the combinatorial number system, whose digits are found
    greedily: the largest v with C(v, j) <= rest.
    """
    rest = math.comb(n, arity) - 1 - rank
    result = np.empty((len(rank), arity), dtype=np.int16)
    for position, j in enumerate(range(arity, 0, -1)):
        table = _binomials(n, j)
        digit = np.searchsorted(table, rest, side="right") - 1
        rest = rest - table[digit]
        result[:, position] = n - 1 - digit
    return result


def _rank_systems(systems: NDArray[np.int64], n: int) -> NDArray[np.int64]:
    """Lexicographic rank of ascending positions, the inverse of `_unrank_systems`."""
    arity = systems.shape[1]
    digits: Iterable[NDArray[np.int64]] = (
        _binomials(n, j)[n - 1 - systems[:, position]] for position, j in enumerate(range(arity, 0, -1))
    )
    return np.asarray(math.comb(n, arity) - 1 - sum(digits, start=np.zeros(len(systems), dtype=np.int64)))
