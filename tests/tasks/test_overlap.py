"""Rows without another table's compositions, and the domain of a model's training rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.errors import InputError
from models.formula import parse_many
from tasks.applicability import applicability_columns, load_applicability
from tasks.examples import ExampleParameters, choose_examples
from tasks.overlap import remove_overlap


def test_shared_formulas_leave_the_rows(stages: Any) -> None:
    oxides = stages.run(choose_examples, stages.energies, ExampleParameters())
    rows = stages.store.read_table(stages.features).to_pandas()
    theirs = set(stages.store.read_table(oxides)["formula"].to_pylist())
    with pytest.raises(InputError, match="nothing is left"):
        stages.run(remove_overlap, stages.features, oxides)  # the same compounds
    assert set(rows["formula"]) <= theirs
    few = stages.run(choose_examples, stages.energies, ExampleParameters(highest=-2.0))
    shared = set(stages.store.read_table(few)["formula"].to_pylist())
    ref = stages.run(remove_overlap, stages.features, few)
    left = stages.store.read_table(ref).to_pandas()
    pd.testing.assert_frame_equal(left, rows[~rows["formula"].isin(shared)].reset_index(drop=True))
    assert 0 < len(left) < len(rows)
    assert stages.counts(ref) == {"rows": len(left), "removed": len(rows) - len(left)}
    with pytest.raises(InputError, match="give one of kind"):
        remove_overlap.fn(stages.root, stages.features, stages.energies)


def test_the_domain_is_that_of_the_training_rows(stages: Any) -> None:
    table = stages.store.read_table(stages.features).to_pandas()
    domain = load_applicability(stages.network)
    assert domain is not None
    assert domain.n == (table["split"] == "train").sum()
    learnt = table.loc[table["split"] == "train", "formula"].iloc[0]
    scores = applicability_columns(stages.network, parse_many([learnt, "XeF2"]))["applicability"]
    assert scores[1] == 0.0  # xenon was never seen
    assert 0.0 < scores[0] <= 1.0
    assert np.isfinite(scores).all()
