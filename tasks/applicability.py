"""The domain of a model: what its training rows say of other compositions, as long as the store has them."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.applicability import Applicability
from models.formula import ParsedFormulas, parse_many
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.loading import input_of


@lru_cache(maxsize=2)
def load_applicability(model: ArtifactRef) -> Applicability | None:
    """Return the domain of a model's training rows; None where the store no longer has them."""
    store = ArtifactStore.from_ref(model)
    rows = input_of(store, model, "features")
    if rows is None:
        return None
    table = store.read_table(rows, columns=["formula", "split"])
    learned = table.filter(pc.equal(table.column("split"), "train"))
    parsed = parse_many(learned.column("formula").to_pylist())
    return Applicability.fit(parsed.elements, parsed.amounts)


def applicability_column(model: ArtifactRef, parsed: ParsedFormulas) -> NDArray[np.float64]:
    """Return the score (n,) of compositions, 0 (an element that was never seen) to 1; NaN without the training rows."""
    domain = load_applicability(model)
    if domain is None:
        return np.full(len(parsed), np.nan)
    return domain.score(parsed.elements, parsed.amounts)["score"].to_numpy(dtype=np.float64)
