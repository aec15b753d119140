"""The composition space on a device: numbers in, dense element fractions out, without a detour over the host."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from models.elements import ELEMENT_INDEX, N_ELEMENTS
from models.space import CompositionSpace


@dataclass(frozen=True)
class _Arity:
    """What a device holds to enumerate the compositions of one number of elements.

    Attributes
    ----------
    n_systems
        Chemical systems.
    shares
        (s, k) float32, atomic fractions of the stoichiometries.
    binomials
        One (f + 1,) int64 per free element of a system: C(v, j) for v = 0..f, j descending.
    """

    n_systems: int
    shares: Tensor
    binomials: tuple[Tensor, ...]


class DeviceSpace:
    """A `models.space.CompositionSpace` that a device enumerates.

    The same bits as the rows that the host makes: fractions are rounded from float64 to float32 once, in a table.

    Parameters
    ----------
    space
        The space.
    device
        ``cpu``, or ``cuda`` with or without a number.
    """

    def __init__(self, space: CompositionSpace, device: torch.device | str) -> None:
        self.space = space
        self.device = torch.device(device)
        required = [ELEMENT_INDEX[e] for e in space.required]
        free = [ELEMENT_INDEX[e] for e in space.elements if e not in space.required]
        self._required = torch.tensor(required, dtype=torch.int64, device=self.device)
        self._free = torch.tensor(free, dtype=torch.int64, device=self.device)
        self._arities = [self._tables(arity) for arity in space.arities]

    def _tables(self, arity: int) -> _Arity:
        counts = self.space.stoichiometries(arity).astype(np.int64)
        shares = (counts / counts.sum(axis=1, keepdims=True)).astype(np.float32)
        n_free, n_chosen = len(self._free), arity - len(self._required)
        binomials = tuple(
            torch.tensor([math.comb(v, j) for v in range(n_free + 1)], dtype=torch.int64, device=self.device)
            for j in range(n_chosen, 0, -1)
        )
        return _Arity(math.comb(n_free, n_chosen), torch.from_numpy(shares).to(self.device), binomials)

    def fractions(self, index: NDArray[np.int64]) -> Tensor:
        """Element fractions of compositions.

        Parameters
        ----------
        index
            (n,) int64, ascending numbers of the space.

        Returns
        -------
        Tensor
            (n, 86) float32, dimensionless, on the device.
        """
        dense = torch.zeros(len(index), N_ELEMENTS, device=self.device)
        if len(index) == 0:
            return dense
        # a range is two numbers; only rows that were picked have to be sent
        whole = int(index[-1]) - int(index[0]) + 1 == len(index)
        bounds = np.searchsorted(index, self.space.offsets)
        for arity, low, start, stop in zip(self._arities, self.space.offsets, bounds, bounds[1:], strict=False):
            if start == stop:
                continue
            if whole:
                first = int(index[start]) - low
                numbers = torch.arange(first, first + int(stop - start), device=self.device)
            else:
                numbers = torch.from_numpy(index[start:stop] - low).to(self.device)
            dense[start:stop].scatter_(1, self._columns(numbers, arity), arity.shares[numbers % len(arity.shares)])
        return dense

    def _columns(self, numbers: Tensor, arity: _Arity) -> Tensor:
        """Ascending element columns (n, k), int64, of compositions numbered within their arity.

        As `models.space` does: the reversed rank is a number in the combinatorial number system, whose digits are found
        greedily, the largest v with C(v, j) <= rest.
        """
        rest = arity.n_systems - 1 - numbers // len(arity.shares)
        chosen = torch.empty(len(numbers), len(arity.binomials), dtype=torch.int64, device=self.device)
        for place, table in enumerate(arity.binomials):
            digit = torch.searchsorted(table, rest, right=True) - 1
            rest = rest - table[digit]
            chosen[:, place] = self._free[len(self._free) - 1 - digit]
        if len(self._required) == 0:
            return chosen
        return torch.cat([self._required.expand(len(numbers), -1), chosen], dim=1).sort(dim=1).values


@dataclass(frozen=True)
class NumberedRows:
    """Compositions by their numbers, which become fractions only where they are needed.

    Stands for an array of rows in `models.cascade.decide`: it has a length, and some of its rows can be picked.

    Attributes
    ----------
    space
        On the device.
    index
        (n,) int64, ascending.
    """

    space: DeviceSpace
    index: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.index)

    def __getitem__(self, rows: NDArray[np.int64]) -> NumberedRows:
        """Pick rows by their ascending positions."""
        return NumberedRows(self.space, self.index[rows])

    def fractions(self) -> Tensor:
        """Element fractions (n, 86), float32, on the device."""
        return self.space.fractions(self.index)
