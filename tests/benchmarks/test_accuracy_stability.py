"""The page of the stability benchmark, from results made up by hand."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.accuracy_stability import arguments, section
from models.stability_judgement import judge_stability

FOUND = judge_stability([0.05, -0.25, -0.05, 0.1], [-0.1, -0.55, 0.2, 0.3])


def result(judged: str, **more: Any) -> dict[str, Any]:
    entry = {"entry": "elemnet", "seed": 0, "size": None, "formation_energy_mae": 0.125, "stability": FOUND}
    return {"judged": judged, "scheme": "random", "rows": 4, "entries": [entry]} | more


def lines(text: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if line.startswith("|")]


@pytest.mark.parametrize("judged", ["all_predicted", "training_competitors", "direct"])
def test_every_row_has_every_cell(judged: str) -> None:
    more = {"true_energies": FOUND} if judged == "training_competitors" else {}
    text = section(result(judged, **more))
    header, _, first, *others = lines(text)
    assert {len(row) for row in (header, first, *others)} == {13}
    said = dict(zip(header, first, strict=True))
    assert said["entry"] == "elemnet"
    assert said["MAE, E_f"] == "0.1250"
    assert said["F1"].startswith("0.500")
    assert (said["true positives"], said["false positives"], said["false negatives"]) == ("1", "1", "1")
    names = [row[0] for row in others]
    assert ("*true energies*" in names) == bool(more)
    always = dict(zip(header, next(row for row in others if row[0] == "*always stable*"), strict=True))
    assert (always["F1"], always["precision"], always["recall"], always["accuracy"]) == (
        "0.667", "0.500", "1.000", "0.500",
    )  # fmt: skip
    assert any("0.725" in row for row in others) == (judged == "direct")
    assert "4 compounds, 2 of them stable (50.0 %)" in text


def test_sizes_are_named() -> None:
    some = result("all_predicted")
    some["entries"].append(some["entries"][0] | {"size": 1000})
    names = [row[0] for row in lines(section(some))]
    assert names[2:4] == ["elemnet, all rows", "elemnet, 1000 rows"]


def test_what_has_no_value_is_a_dash() -> None:
    nothing = judge_stability([0.1, 0.2], [0.3, 0.4])
    some = result("direct")
    some["entries"][0] |= {"formation_energy_mae": None, "stability": nothing}
    row = lines(section(some))[2]
    assert row[2] == row[4] == row[5] == "-"


def test_arguments() -> None:
    said = arguments(["--data", "x", "--store", "s", "--epochs", "3", "--entry", "a", "--entry", "b"])
    assert (said.entry, said.epochs, said.folds) == (["a", "b"], 3, 5)
    with pytest.raises(SystemExit):
        arguments(["--data", "x", "--store", "s"])
