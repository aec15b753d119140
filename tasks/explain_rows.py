"""The rows of a table that a network is explained on, and the properties that are read off it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.errors import InputError
from models.formula import ParsedFormulas, parse_many
from models.probe import PROPERTIES, property_labels
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.explain_parameters import PROBE, ExplainParameters
from tasks.further_columns import YES_AND_NO, read_frame

_ENERGY = "formation_energy_per_atom"


@dataclass(frozen=True)
class Rows:
    """Different compositions of a table.

    Attributes
    ----------
    frame : DataFrame
        One row per composition.
    parsed : ParsedFormulas
        Its compositions.
    n_table : int
        Different compositions in the table, before any were drawn.
    """

    frame: pd.DataFrame
    parsed: ParsedFormulas
    n_table: int

    @property
    def fractions(self) -> NDArray[np.float32]:
        """Element fractions, shape (n, 86)."""
        return self.parsed.fractions_as(np.float32)


@dataclass(frozen=True)
class Labels:
    """A property of n rows.

    Attributes
    ----------
    meaning : str
        What it says, in words.
    labels, applies : ndarray of bool, shape (n,)
        Which rows have it, and to which it applies or is known.
    """

    meaning: str
    labels: NDArray[np.bool_]
    applies: NDArray[np.bool_]


def read_rows(store: ArtifactStore, ref: ArtifactRef, parameters: ExplainParameters) -> Rows:
    """Read the compositions of a table, the row of lowest energy each; of more than `max_rows` as many are drawn.

    Neither what is kept nor its order depends on the order of the table.
    """
    frame = read_frame(store, ref)
    if "formula" not in frame:
        raise InputError(f"the table {ref.key} has no column 'formula'; give phases, features or compounds")
    order = [column for column in ("formula", _ENERGY, "material_id") if column in frame]
    frame = frame.sort_values(order, kind="stable").drop_duplicates("formula")
    parsed = parse_many(frame["formula"])
    frame, parsed = frame[parsed.valid], parsed.select(parsed.valid)
    n_table = len(frame)
    if n_table == 0:
        raise InputError(f"the table {ref.key} has no composition of the 86 elements; give another")
    if n_table > parameters.max_rows:
        drawn = np.sort(np.random.default_rng(parameters.seed).choice(n_table, parameters.max_rows, replace=False))
        frame, parsed = frame.iloc[drawn], parsed.select(drawn)
    return Rows(frame.reset_index(drop=True), parsed, n_table)


def _number(text: str) -> float | None:
    """Return a number, or the one that stands for yes or no; None for other words."""
    word = text.strip().lower()
    if word in YES_AND_NO:
        return YES_AND_NO[word]
    try:
        return float(word)
    except ValueError:
        return None


def labels_of(text: str, rows: Rows) -> Labels:
    """Find out a property of a composition, or a condition on a column.

    Raises
    ------
    InputError
        When the property is neither known nor a column, or the column does not fit the condition.
    """
    if text in PROPERTIES:
        labels, applies = property_labels(text, rows.parsed)
        return Labels(PROPERTIES[text], labels, applies)
    match = PROBE.fullmatch(text)
    column = match["column"] if match else text
    if match is None or column not in rows.frame:
        raise InputError(
            f"'{column}' is neither a property ({', '.join(PROPERTIES)}) nor a column of the table "
            f"({', '.join(map(str, rows.frame.columns))}); give another --probe or another --table"
        )
    values = rows.frame[column]
    known = values.notna().to_numpy(dtype=np.bool_)
    if match["sign"] is None:
        distinct = set(values[known].unique().tolist())
        if not distinct <= {True, False}:
            raise InputError(f"the column '{column}' is not of yes and no; give a condition such as {column}>0")
        labels = np.array([known[i] and bool(value) for i, value in enumerate(values)], dtype=np.bool_)
        return Labels(f"column {column}", labels, known)
    if match["sign"] == "=" and values.dtype.kind == "f":
        wanted = _number(match["value"])
        if wanted is None:
            raise InputError(f"the column '{column}' holds numbers: write {column}=NUMBER, {column}=yes or {column}>0")
        return Labels(f"{column} is {match['value']}", (values == wanted).to_numpy(dtype=np.bool_) & known, known)
    if match["sign"] == "=":
        labels = (values.astype(str) == match["value"]).to_numpy(dtype=np.bool_) & known
        return Labels(f"{column} is {match['value']}", labels, known)
    try:
        limit, numbers = float(match["value"]), values.to_numpy(dtype=np.float64, na_value=np.nan)
    except (TypeError, ValueError):
        raise InputError(f"'{text}' compares what is no number; write {column}=VALUE for text") from None
    above = numbers > limit if match["sign"] == ">" else numbers < limit
    words = "above" if match["sign"] == ">" else "below"
    return Labels(f"{column} {words} {limit:g}", np.asarray(above & known, dtype=np.bool_), known)
