"""What a model of structures reads of a table: attributes of the structure that each row brings."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.errors import InputError
from models.representation import N_STRUCTURAL
from tasks.attributes import VORONOI
from tasks.child import Child
from tasks.progress import Progress
from tasks.sources.file import STRUCTURE_COLUMNS

SECONDS_PER_STRUCTURE = 60.0
"""A structure that takes longer is given up."""


def structures_of(table: pa.Table) -> list[str]:
    """Return the texts of a table's structures, empty where one is missing.

    Raises
    ------
    InputError
        If the table has none.
    """
    for name in STRUCTURE_COLUMNS:
        if name in table.column_names:
            values = table.column(name).to_pylist()
            return [json.dumps(value) if isinstance(value, dict) else str(value or "") for value in values]
    raise InputError(
        f"the model reads structures and the table has none; give a column {' or '.join(STRUCTURE_COLUMNS)} with CIF, "
        "POSCAR or pymatgen JSON"
    )


def attributes_of(texts: Sequence[str]) -> tuple[NDArray[np.float32], list[str | None]]:
    """Return structural attributes (n, 126), zero where there are none, and why there are none."""
    values = np.zeros((len(texts), N_STRUCTURAL), dtype=np.float32)
    reasons: list[str | None] = []
    progress = Progress("structures", len(texts), "rows")
    with Child(VORONOI, SECONDS_PER_STRUCTURE) as child:
        for row, text in enumerate(texts):
            found, reason = child.ask(text) if text else (None, "there is no structure")
            if reason is None:
                values[row] = found
            reasons.append(reason)
            progress.update(row + 1)
    return values, reasons
