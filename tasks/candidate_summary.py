"""What is counted over all candidates of a screen, added up piece by piece."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.best_per_system import best_per_system, group_by_system
from models.categories import category_table
from models.space import Compositions
from tasks.candidate_columns import FLAGS

_BEST = ("index", "formula", "chemsys", "arity", "decomposition_energy", "probability_stable", *FLAGS)


class CandidateSummary:
    """Categories, best candidate of each chemical system, and counts, of candidates that come in pieces.

    Of each candidate the elements and flags stay in memory (about ten bytes), of each system its best.
    """

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self._elements: list[NDArray[np.int16]] = []
        self._flags: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in FLAGS}
        self._systems: list[NDArray[np.int16]] = []
        self._best: list[pa.Table] = []

    def add(self, table: pa.Table, compositions: Compositions) -> None:
        """Count candidates (n,), with all flags, and their compositions."""
        self._elements.append(compositions.elements.astype(np.int16))
        for name in FLAGS:
            self._flags[name].append(table.column(name).to_numpy())
        best = best_per_system(compositions.elements, table.column("decomposition_energy").to_numpy())
        rows = table.select(list(_BEST)).take(pa.array(best.row))
        self._best.append(rows.append_column("n_candidates", pa.array(best.n_candidates)))
        self._systems.append(best.systems)
        for name, n in candidate_counts(table).items():
            self.counts[name] = self.counts.get(name, 0) + n

    def categories(self) -> pa.Table:
        """Return systems and compositions by category and arity, before and after the flags are taken out."""
        flags = {name: np.concatenate(values) for name, values in self._flags.items()}
        return pa.Table.from_pandas(category_table(_stacked(self._elements), flags), preserve_index=False)

    def best(self) -> pa.Table:
        """Return the best candidate of every chemical system, the lowest decomposition energy first."""
        rows, systems = pa.concat_tables(self._best), _stacked(self._systems)
        # a system that was cut has a best row in two pieces
        label = group_by_system(systems).label
        best = best_per_system(systems, rows.column("decomposition_energy").to_numpy())
        n = np.bincount(label, weights=rows.column("n_candidates").to_numpy(), minlength=len(best)).astype(np.int64)
        best = replace(best, n_candidates=n).lowest_first()
        found = rows.drop_columns(["n_candidates"]).take(pa.array(best.row))
        return found.append_column("n_candidates", pa.array(best.n_candidates.astype(np.int32)))


def candidate_counts(table: pa.Table) -> dict[str, int]:
    """Count candidates before and after those known, hull_incomplete and out_of_domain are taken out, in turn."""
    flags = {name: table.column(name).to_numpy() for name in FLAGS}
    counts = {f"flag_{name}": int(flag.sum()) for name, flag in flags.items()}
    left = np.ones(table.num_rows, dtype=bool)
    for name, flag in flags.items():
        left &= ~flag
        counts[f"left_after_{name}"] = int(left.sum())
    return counts | {"unflagged": int(left.sum())}


def _stacked(pieces: list[NDArray[np.int16]]) -> NDArray[np.int16]:
    """Element columns (n, k) of all pieces, padded with -1 to the widest."""
    width = max(piece.shape[1] for piece in pieces)
    stacked = np.full((sum(len(piece) for piece in pieces), width), -1, dtype=np.int16)
    low = 0
    for piece in pieces:
        stacked[low : low + len(piece), : piece.shape[1]] = piece
        low += len(piece)
    return stacked
