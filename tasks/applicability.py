"""The domain of a model: what its training rows say of other compositions, and how wrong it is to be expected there."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.applicability import MIN_ROWS, Applicability, ExpectedError, fit_error, worth_of_expectation
from models.formula import ParsedFormulas, parse_many
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.examples import Examples
from tasks.loading import input_of, load_card
from tasks.preset import with_structures

MOST_ROWS = 4000
"""Rows that an expected error is fitted to, and measured on, at most: a row takes 0.2 ms in a table of 130,000."""


@lru_cache(maxsize=2)
def load_applicability(model: ArtifactRef) -> Applicability | None:
    """Return the domain of a model's training rows; None where the store no longer has them."""
    store = ArtifactStore.from_ref(model)
    rows = input_of(store, model, "features")
    if rows is None:
        return None
    table = store.read_table(rows, columns=["material_id", "formula", "split"])
    learned = table.filter(pc.equal(table.column("split"), "train"))
    if "attributes" in store.manifest(model).inputs:  # rows without structures were not learnt
        attributes = input_of(store, model, "attributes")
        if attributes is None:
            return None
        learned = learned.filter(pc.is_in(learned.column("material_id"), value_set=with_structures(attributes)))
    parsed = parse_many(learned.column("formula").to_pylist())
    return Applicability.fit(parsed.elements, parsed.amounts)


def applicability_columns(model: ArtifactRef, parsed: ParsedFormulas) -> dict[str, NDArray[np.float64]]:
    """Return what the training rows say of compositions (n,).

    Returns
    -------
    dict
        ``applicability``, 0 (an element that was never seen) to 1, NaN without the training rows; with a model that
        was calibrated also ``expected_error``, the absolute error to be expected from that, in the unit of the target.
    """
    domain = load_applicability(model)
    if domain is None:
        return {"applicability": np.full(len(parsed), np.nan)}
    scored = domain.score(parsed.elements, parsed.amounts)
    columns = {"applicability": scored["score"].to_numpy(dtype=np.float64)}
    fitted = (load_card(model).calibration or {}).get("expected_error")
    if fitted is not None:
        columns["expected_error"] = ExpectedError.from_dict(fitted).expected(scored)
    return columns


def described_rows(
    examples: Examples, train: NDArray[np.int64], parts: dict[str, NDArray[np.int64]]
) -> dict[str, tuple[NDArray[np.int64], pd.DataFrame]]:
    """Return how well training rows support others: for each part at most `MOST_ROWS` of its rows, drawn, and scores.

    Parameters
    ----------
    examples
        The table.
    train
        Rows that were learnt from.
    parts
        Rows to describe, by name.
    """
    learnt = parse_many([examples.formula[row] for row in train])
    domain = Applicability.fit(learnt.elements, learnt.amounts)
    described = {}
    for name, rows in parts.items():
        drawn = rows
        if len(rows) > MOST_ROWS:
            drawn = np.sort(np.random.default_rng(0).choice(rows, MOST_ROWS, replace=False))
        parsed = parse_many([examples.formula[row] for row in drawn])
        described[name] = drawn, domain.score(parsed.elements, parsed.amounts)
    return described


def fit_expected_error(scores: pd.DataFrame, error: NDArray[np.float64]) -> dict[str, Any] | None:
    """Return the expected error of calibration rows (n,), as a model card holds it; None for too few rows."""
    size = np.abs(error)
    return fit_error(scores, size).to_dict() if len(size) >= MIN_ROWS and size.max() > 0 else None


def expectation_report(fitted: dict[str, Any], scores: pd.DataFrame, error: NDArray[np.float64]) -> dict[str, Any]:
    """Return what an expected error is worth on rows (n,) that neither trained nor calibrated it."""
    return worth_of_expectation(ExpectedError.from_dict(fitted).expected(scores), scores["score"], np.abs(error))
