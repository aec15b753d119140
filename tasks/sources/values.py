"""Values in the answers of services: what is proper, and how it becomes one of ours."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any


def number(value: Any) -> float | None:
    """Return a number that came as one or as text; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        result = float(value)
    except ValueError:
        return None
    return result if math.isfinite(result) else None


def odd_fields(
    row: Mapping[str, Any],
    numbers: Sequence[str] = (),
    texts: Sequence[str] = (),
    lists: Sequence[str] = (),
    objects: Sequence[str] = (),
) -> set[str]:
    """Return the names of fields that a row lacks altogether or has in a type that they cannot have.

    An empty value (null) is proper: the service knows nothing. A number may come as text.

    Parameters
    ----------
    row
        One row as it came.
    numbers, texts, lists, objects
        Fields that were asked for, by their type.
    """
    odd = {name for name in (*numbers, *texts, *lists, *objects) if name not in row}
    odd |= {name for name in numbers if row.get(name) is not None and number(row[name]) is None}
    for kind, names in ((str, texts), (list, lists), (dict, objects)):
        odd |= {name for name in names if row.get(name) is not None and not isinstance(row[name], kind)}
    return odd


def rows_of(document: Any) -> list[dict[str, Any]]:
    """Return the list of objects under `data`; ValueError where there is none."""
    rows = document["data"]
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise ValueError("'data' is no list of objects")
    return rows


def count_of(value: Any) -> int:
    """Return a count that a service states; ValueError for what is none."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"'{value}' is no count")
    return value


def crystal_text(matrix: Any, symbols: Sequence[Any], places: Any) -> str:
    """Return a cell [A] and fractional coordinates as pymatgen JSON.

    What is no crystal becomes text that no reader takes, so that the row is rejected with the reader's reason.
    """
    try:
        lattice = [[float(x) for x in row] for row in matrix]
        sites = [
            {"species": [{"element": str(symbol), "occu": 1}], "abc": [float(x) for x in place]}
            for symbol, place in zip(symbols, places, strict=True)
        ]
    except (TypeError, ValueError):
        return "a crystal that cannot be read"
    return json.dumps({"@class": "Structure", "lattice": {"matrix": lattice}, "sites": sites})
