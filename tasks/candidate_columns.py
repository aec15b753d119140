"""What is said of every candidate beside its energies: charge balance, novelty, category, place in its system."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa

from models.best_per_system import best_per_system
from models.categories import category_table, counts_by_kind
from models.charge_balance import applies, is_neutral
from models.formula import parse_many
from models.novelty import LEVELS, Novelty, level_of
from models.space import Compositions

FLAGS = ("known", "hull_incomplete", "out_of_domain")


def with_charge_balance(table: pa.Table, compositions: Compositions) -> pa.Table:
    """Add `charge_neutral`: whether integer oxidation states can balance; null where the rule is no fair demand."""
    neutral = is_neutral(compositions.elements, compositions.counts)
    asked = applies(compositions.elements)
    return table.append_column("charge_neutral", pa.array(neutral, pa.bool_(), mask=~asked))


def unbalanced(table: pa.Table, compositions: Compositions) -> tuple[np.ndarray, dict[str, int]]:
    """Return which candidates the charge-balance filter removes, and how many of each kind of compound."""
    failed = ~table.column("charge_neutral").to_pandas().astype("boolean").fillna(True).to_numpy(bool)
    counts = {f"unbalanced_{kind}": n for kind, n in counts_by_kind(compositions.elements, failed).items() if n}
    return failed, counts | {"unbalanced": int(failed.sum())}


def with_novelty(table: pa.Table, compositions: Compositions, formulas: list[str]) -> pa.Table:
    """Add `novelty` and `nearest_known`: how far the nearest composition of a list is.

    Parameters
    ----------
    table, compositions
        The candidates.
    formulas
        Every known composition, with an energy or without.
    """
    listed = parse_many(formulas)
    rows = np.flatnonzero(listed.valid)
    novelty = Novelty.of_compositions(listed.elements[rows], listed.amounts[rows])
    distance, _ = novelty.nearest(compositions.elements, compositions.counts)
    levels = np.array(LEVELS, dtype=object)[level_of(distance)]
    table = table.append_column("novelty", pa.array(levels, pa.string()))
    return table.append_column("nearest_known", pa.array(distance, pa.float64(), mask=~np.isfinite(distance)))


def categories_of(table: pa.Table, compositions: Compositions) -> pa.Table:
    """Return systems and compositions by category and arity, before and after the flags are taken out."""
    flags = {name: table.column(name).to_numpy() for name in FLAGS}
    return pa.Table.from_pandas(category_table(compositions.elements, flags), preserve_index=False)


def best_of(table: pa.Table, compositions: Compositions) -> pa.Table:
    """Return the best candidate of every chemical system, the lowest decomposition energy first."""
    best = best_per_system(compositions.elements, table.column("decomposition_energy").to_numpy()).lowest_first()
    rows = table.select(["index", "formula", "chemsys", "arity", "decomposition_energy", "probability_stable", *FLAGS])
    found: pd.DataFrame = rows.take(pa.array(best.row)).to_pandas()
    found.insert(4, "n_candidates", best.n_candidates.astype(np.int32))
    return pa.Table.from_pandas(found, preserve_index=False)
