"""Tables of the accuracy page from a cross-validation's artifacts."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from benchmarks import accuracy_tables
from benchmarks.accuracy_summary import Claim, anchor, summary, value
from benchmarks.accuracy_tables import comparison, minutes, minutes_side_by_side, out_of_order, restarts, summary_of
from benchmarks.screen_page import section_of
from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.cross_validation import FoldRun, summarise_folds
from tasks.fold import plan_folds, run_fold
from tasks.inputs import as_features
from tasks.parameters import CleanParameters, SourceParameters
from tasks.stage import reference
from tasks.train import train_network
from tasks.train_parameters import TrainParameters
from tasks.validation_parameters import ValidationParameters

ENTRIES = {name: TrainParameters(network=name, threads=1) for name in ("linear", "ridge")}


@pytest.fixture(scope="module")
def rows(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    root = str(tmp_path_factory.mktemp("tables") / "store")
    source = SourceParameters(source=f"file:{tiny.energies_file}", database="tiny", functional="pbe")
    return as_features(root, str(tiny.energies_file), CleanParameters(calibration_fraction=0.2), source)


def compared(rows: ArtifactRef, **validation: Any) -> ArtifactRef:
    root, parameters = ArtifactStore.from_ref(rows).root, ValidationParameters(folds=2, **validation)
    runs = [
        FoldRun(name, 0, plan.name, plan.size, reference(run_fold.fn(root, rows, plan, parameters, training)))
        for name, training in ENTRIES.items()
        for plan in plan_folds.fn(root, rows, parameters)
    ]
    return reference(summarise_folds.fn(root, rows, runs, parameters))


def cells(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")]


def test_entries_their_differences_and_their_times(rows: ArtifactRef) -> None:
    ref = compared(rows)
    lines = cells(comparison(ref, {"ridge": "0.123"}))
    assert lines[0] == ["entry", "rows", "folds", "seeds", "MAE", "interval", "published", "time"]
    assert [(row[0], row[2], row[6]) for row in lines[2:4]] == [("linear", "2", ""), ("ridge", "2", "0.123")]
    assert all(row[7].endswith(" min") for row in lines[2:4])
    assert (lines[4][:3], lines[6][:2]) == (["first", "second", "first minus second"], ["linear", "ridge"])
    took = minutes(ref)
    assert set(took) == {("linear", None), ("ridge", None)}
    assert all(0 < value < 5 for value in took.values())


def test_one_size_has_differences_and_several_have_crossings(rows: ArtifactRef) -> None:
    one = cells(comparison(compared(rows, sizes=(30,))))
    assert one[4][:3] == ["first", "second", "first minus second"]
    several = cells(comparison(compared(rows, sizes=(20, 40))))
    assert [row[:2] for row in several[2:6]] == [["linear", "20"], ["linear", "40"], ["ridge", "20"], ["ridge", "40"]]
    assert several[6] == ["learning curve", "and", "cross at rows"]
    assert several[8][:2] == ["linear", "ridge"]


def test_networks_of_an_ensemble_seed_by_seed(rows: ArtifactRef) -> None:
    store = ArtifactStore.from_ref(rows)
    once = TrainParameters(preset="small", epochs=2, threads=1, architecture={"widths": [8, 1]})
    going_on = once.model_copy(update={"members": 2, "restarts": 1})
    one, four = (reference(train_network.fn(store.root, rows, training)) for training in (once, going_on))
    errors = [each["validation"]["mae"] for each in json.loads(store.read_bytes(four, "members.json"))]
    assert len(set(errors)) == 4
    said = restarts(four, 2).partition(": ")[2].rstrip(".\n")
    assert [part.split(", ") for part in said.split("; ")] == [
        [f"{error:.4f}" for error in errors[:2]],
        [f"{error:.4f}" for error in errors[2:]],
    ]
    took = {ref: store.run_record(ref)["seconds"] for ref in (one, four)}
    assert minutes_side_by_side([[one], [one, four]], one) == pytest.approx((2 * took[one] + took[four]) / 60)


def test_entries_that_stand_the_other_way_round_than_published(rows: ArtifactRef) -> None:
    ref = compared(rows)
    errors = {line["entry"]: line["mae"] for line in summary_of(ref)["entries"]}
    better, worse = sorted(errors, key=lambda name: errors[name])
    as_published = out_of_order(ref, {better: "0.1", worse: "0.2"})
    assert as_published.startswith(f"In order of their errors: {better} < {worse}. The published order holds.")
    turned = out_of_order(ref, {better: "0.2", worse: "0.1"})
    assert f"does not hold for {better} ({errors[better]:.4f}; published 0.2) before {worse}" in turned
    assert "holds" in out_of_order(ref, {better: "0.1"})  # what was not published stands nowhere


PAGE = """# Accuracy

Words.

## Metals and insulators

| model | rows |
| --- | --- |
| attention | 7 |

| model | auc | f1 |
| --- | --- | --- |
| attention | 0.98 | 0.5 |

## The rest
"""


def test_the_summary_reads_the_pages_own_numbers() -> None:
    claim = Claim("classes", "Metals and insulators", "attention", "auc")
    assert value(PAGE, claim) == "0.98"
    assert value(PAGE, replace(claim, section="Not there yet")) is None
    with pytest.raises(InputError, match="has no mae of 'attention'"):
        value(PAGE, replace(claim, column="mae"))
    assert anchor("ElemNet, taught by the attention network") == "elemnet-taught-by-the-attention-network"
    assert "| metals and insulators, area under the curve | 0.98 |" in summary(PAGE)
    assert summary(PAGE).count("\n| ") == 3  # heads, rule and one row: other sections are not there


def test_the_documented_summary_is_that_of_its_page() -> None:
    page = accuracy_tables.PAGE.read_text()
    assert section_of(page, "In short").strip() == summary(page).strip()
