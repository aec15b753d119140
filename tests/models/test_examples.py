"""Rows to learn from: which are kept, which row stands for a composition, which label and split it gets."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.cleaning import SPLITS, system_draw
from models.errors import InputError
from models.examples import examples_table

FORMULAS = ["NaCl", "KCl", "Li2O", "Na2O", "K2S", "MgO", "CaO", "CaS", "LiF", "NaF", "KF", "MgF2", "CaF2", "AlF3"]


def table(**columns: Any) -> pd.DataFrame:
    n = len(columns["formula"])
    return pd.DataFrame({"material_id": [f"m-{k}" for k in range(n)], **columns})


def labels_of(kept: pd.DataFrame) -> dict[str, list[float]]:
    return {formula: labels.tolist() for formula, labels in zip(kept["formula"], kept["labels"], strict=True)}


# --- which rows


def test_every_row_is_kept_merged_or_refused_with_a_reason() -> None:
    rows = table(
        formula=["NaCl", "Na2Cl2", "Qq2", "Li2O", "K2S", "Al", "MgO"],
        band_gap=[5.0, 7.0, 1.0, np.nan, np.inf, 0.0, "wide"],
    )
    kept, rejected, counts = examples_table(rows, ["band_gap"])
    assert counts == {"rows": 7, "rejected": 5, "merged": 1, "kept": 1}
    assert kept[["material_id", "formula", "chemsys"]].to_numpy().tolist() == [["m-0", "NaCl", "Cl-Na"]]
    assert labels_of(kept) == {"NaCl": [5.0]}
    assert rejected["row"].tolist() == [2, 3, 4, 5, 6]
    assert rejected["material_id"].tolist() == ["m-2", "m-3", "m-4", "m-5", "m-6"]
    assert rejected["formula"].tolist() == ["Qq2", "Li2O", "K2S", "Al", "MgO"]
    assert rejected["reason"].tolist()[1:] == ["no band_gap", "no band_gap", "a single element", "no band_gap"]
    assert "Qq" in rejected["reason"][0]
    assert labels_of(examples_table(rows, ["band_gap"], keep_elements=True)[0])["Al"] == [0.0]


def test_a_range_is_in_the_unit_of_the_target() -> None:
    rows = table(formula=["NaCl", "KCl", "Li2O", "Na2O"], band_gap=[-1.0, 0.0, 9.0, 9.1])
    kept, rejected, _ = examples_table(rows, ["band_gap"], physical_range=(0.0, 9.0))
    assert labels_of(kept) == {"KCl": [0.0], "Li2O": [9.0]}
    assert rejected["reason"].tolist() == ["outside the accepted range, 0 to 9"] * 2
    # of classes too, whose numbers 0 and 1 say nothing of it
    classes, rejected, _ = examples_table(rows, ["band_gap"], above=5.0, physical_range=(5.5, 9.05))
    assert labels_of(classes) == {"Li2O": [1.0]}
    assert len(rejected) == 3


def test_classes_are_above_a_number() -> None:
    rows = table(formula=["NaCl", "KCl", "Li2O", "Na2O"], band_gap=[0.9, 1.0, 1.1, np.nan])
    kept, rejected, _ = examples_table(rows, ["band_gap"], above=1.0)
    assert labels_of(kept) == {"NaCl": [0.0], "KCl": [0.0], "Li2O": [1.0]}
    assert rejected["reason"].tolist() == ["no band_gap"]


def test_logarithms_of_positive_numbers() -> None:
    rows = table(formula=["NaCl", "KCl", "Li2O", "Na2O"], band_gap=[100.0, 0.0, -1.0, np.nan])
    kept, rejected, _ = examples_table(rows, ["band_gap"], log10=True)
    assert labels_of(kept) == {"NaCl": [2.0]}
    assert rejected["reason"].tolist() == ["not positive: it has no logarithm"] * 2 + ["no band_gap"]
    both = table(formula=["NaCl", "KCl"], band_gap=[10.0, np.nan], volume_per_atom=[np.nan, -30.0])
    kept, rejected, _ = examples_table(both, ["band_gap", "volume_per_atom"], log10=True)
    np.testing.assert_array_equal(np.stack(kept["labels"].to_list()), [[1.0, np.nan]])
    assert len(rejected) == 1


def test_one_of_several_labels_is_enough() -> None:
    rows = table(
        formula=["NaCl", "KCl", "Li2O"], band_gap=[5.0, np.nan, np.nan], volume_per_atom=[np.nan, 30.0, np.nan]
    )
    kept, rejected, _ = examples_table(rows, ["band_gap", "volume_per_atom"])
    np.testing.assert_array_equal(np.stack(kept["labels"].to_list()), [[5.0, np.nan], [np.nan, 30.0]])
    assert rejected["reason"].tolist() == ["no band_gap and no volume_per_atom"]


def test_the_most_stable_row_stands_for_its_composition() -> None:
    rows = table(
        formula=["NaCl", "Na2Cl2", "ClNa", "KCl", "K3Cl3"],
        band_gap=[1.0, 2.0, 3.0, 4.0, 5.0],
        formation_energy_per_atom=[-1.0, -2.0, np.nan, np.nan, np.nan],
    )
    kept, _, counts = examples_table(rows, ["band_gap"])
    assert labels_of(kept) == {"NaCl": [2.0], "KCl": [4.0]}  # without energies the first
    assert kept["material_id"].tolist() == ["m-1", "m-3"]
    assert counts["merged"] == 3
    first, _, _ = examples_table(rows.drop(columns="formation_energy_per_atom"), ["band_gap"])
    assert labels_of(first) == {"NaCl": [1.0], "KCl": [4.0]}
    # the most stable row has no label: it is refused, and the next one stands
    rows.loc[1, "band_gap"] = np.nan
    assert labels_of(examples_table(rows, ["band_gap"])[0])["NaCl"] == [1.0]


def test_the_index_of_a_table_has_no_say() -> None:
    rows = table(formula=["NaCl", "KCl", "Li2O"], band_gap=[1.0, np.nan, 3.0])
    other = rows.set_index(pd.Index([7, 7, 1]))
    for one, same in zip(examples_table(rows, ["band_gap"])[:2], examples_table(other, ["band_gap"])[:2], strict=True):
        pd.testing.assert_frame_equal(one, same)


# --- splits


@given(
    st.lists(st.tuples(st.sampled_from(FORMULAS), st.floats(-3, 3)), min_size=3, max_size=25),
    st.floats(0, 0.49),
    st.floats(0, 0.49),
    st.integers(0, 5),
    st.randoms(use_true_random=False),
)
def test_splits_follow_the_chemical_system(
    rows: list[tuple[str, float]], calibration: float, validation: float, seed: int, random: Any
) -> None:
    def split_of(order: list[tuple[str, float]]) -> dict[str, str]:
        frame = table(formula=[formula for formula, _ in order], band_gap=[value for _, value in order])
        kept, _, counts = examples_table(
            frame, ["band_gap"], calibration_fraction=calibration, validation_fraction=validation, seed=seed
        )
        assert counts["rows"] == counts["rejected"] + counts["merged"] + counts["kept"] == len(order)
        assert kept["formula"].is_unique
        for name, split in zip(kept["chemsys"], kept["split"], strict=True):
            if system_draw(name, seed, "validation") < validation:
                assert split == "validation"
            else:
                held = system_draw(name, seed, "calibration") < calibration
                assert split == ("calibration" if held else "train")
        return dict(zip(kept["formula"], kept["split"], strict=True))

    shuffled = list(rows)
    random.shuffle(shuffled)
    assert split_of(rows) == split_of(shuffled)


def test_a_stated_split_is_kept_and_the_strictest_row_decides() -> None:
    rows = table(
        formula=["NaCl", "Na2Cl2", "KCl", "KCl", "Li2O", "MgO", "CaO"],
        band_gap=[1.0] * 7,
        split=["train", "validation", "calibration", "train", None, "train", "calibration"],
    )
    kept, _, _ = examples_table(rows, ["band_gap"], calibration_fraction=0.0, validation_fraction=0.49)
    assert dict(zip(kept["formula"], kept["split"], strict=True)) == {
        "NaCl": "validation", "KCl": "calibration", "Li2O": "train", "MgO": "train", "CaO": "calibration",
    }  # fmt: skip
    # calibration rows are taken out of training alone
    everything, _, _ = examples_table(rows, ["band_gap"], calibration_fraction=1.0)
    assert set(everything["split"]) == {"calibration", "validation"}
    rows["split"] = pd.Categorical(rows["split"], categories=SPLITS)
    categorical, _, _ = examples_table(rows, ["band_gap"], calibration_fraction=0.0)
    assert categorical["split"].tolist() == kept["split"].tolist()
    rows["split"] = None  # a column without a word is no split
    drawn, _, _ = examples_table(rows, ["band_gap"], validation_fraction=1.0)
    assert set(drawn["split"]) == {"validation"}


# --- what cannot be learnt from


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"targets": ["gap"]}, "no column 'gap'; it has material_id, formula, band_gap, empty"),
        ({"targets": ["empty"]}, "'empty' holds no number; map the column that does with --map COLUMN=empty"),
        ({"targets": ["band_gap", "band_gap"], "above": 1.0}, "one column, not of 2"),
        ({"physical_range": (50.0, 60.0)}, "no row is left to learn band_gap from; .* outside the accepted range"),
        ({"split": ["train", "test"]}, "split 'test' is not one of train, calibration, validation"),
    ],
)
def test_unusable_tables_are_refused(change: dict[str, Any], message: str) -> None:
    change = dict(change)
    rows = table(formula=["NaCl", "KCl"], band_gap=[1.0, 2.0], empty=["a", "b"])
    if "split" in change:
        rows["split"] = change.pop("split")
    with pytest.raises(InputError, match=message):
        examples_table(rows, change.pop("targets", ["band_gap"]), **change)


def test_no_row_left_of_a_table_with_a_split() -> None:
    rows = table(formula=["Al", "Na"], band_gap=[1.0, 2.0], split=["train", "validation"])
    with pytest.raises(InputError, match="the first was refused as: a single element"):
        examples_table(rows, ["band_gap"])
