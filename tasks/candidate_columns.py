"""What is said of every candidate beside its energies, from its composition: charge balance, novelty."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from models.categories import counts_by_kind
from models.charge_balance import applies, is_neutral
from models.formula import parse_many
from models.novelty import LEVELS, Novelty, level_of
from models.space import Compositions, CompositionSpace

FLAGS = ("known", "hull_incomplete", "out_of_domain")


def compositions_of(table: pa.Table, full: CompositionSpace) -> Compositions:
    """Return the compositions of candidates: from the index, and from the formula of the last ones, which have none.

    Parameters
    ----------
    table
        Candidates (n,), those with an index first.
    full
        The space whose index it is.
    """
    index = table.column("index")
    n = table.num_rows - index.null_count
    ranked = full.unrank(index.slice(0, n).to_numpy())
    if n == table.num_rows:
        return ranked
    parsed = parse_many(table.column("formula").slice(n).to_pylist())
    width = max(ranked.elements.shape[1], parsed.elements.shape[1])
    elements = np.full((table.num_rows, width), -1, dtype=np.int16)
    counts = np.zeros((table.num_rows, width), dtype=np.int32)
    for rows, some, amounts in (
        (slice(0, n), ranked.elements, ranked.counts),
        (slice(n, None), parsed.elements, parsed.amounts),
    ):
        elements[rows, : some.shape[1]] = some
        counts[rows, : some.shape[1]] = amounts
    return Compositions(elements, counts)


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


def with_novelty(table: pa.Table, compositions: Compositions, novelty: Novelty) -> pa.Table:
    """Add `novelty` and `nearest_known`: how far the nearest composition of a list is.

    Parameters
    ----------
    table, compositions
        The candidates.
    novelty
        Every known composition, with an energy or without.
    """
    distance, _ = novelty.nearest(compositions.elements, compositions.counts)
    levels = np.array(LEVELS, dtype=object)[level_of(distance)]
    table = table.append_column("novelty", pa.array(levels, pa.string()))
    return table.append_column("nearest_known", pa.array(distance, pa.float64(), mask=~np.isfinite(distance)))
