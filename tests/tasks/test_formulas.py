"""Lists of formulas as a space: nothing lost on reading, the same answers as an enumerated space, any composition."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from models.charge_balance import is_neutral
from models.errors import InputError
from models.formula import parse_many
from storage.artifact import ArtifactRef
from storage.errors import ForeignPart, StoreError
from storage.schemas import conform
from tasks.candidate_flags import incomplete_systems
from tasks.candidate_order import in_order
from tasks.formulas import read_formulas
from tasks.loading import load_hull
from tasks.merge import merge_candidates, screen_header
from tasks.parameters import ScreenParameters, SpaceParameters
from tasks.precision import measure_precision
from tasks.reporting.tables import best_per_system
from tasks.screen import part_request, screen_block
from tasks.spaces import composition_space, full_space, listed_compositions, plan_blocks

#: Out of order, unreduced, doubled; five and seven elements, more atoms than any space; and what is no compound.
TEXTS = [
    "Na2O", "NaLiMgAlO4", "Li2O", "LiX", "Li4O2", "He2O", "", "Li3AlF6", "Fe", "LiNaMgCaAlOF",
    "Li11Al13O31", "LiF", "Mg0.5AlO2", "LiAlO2", "Na3AlF6",
]  # fmt: skip
GOOD = {
    "Na2O", "NaLiMgAlO4", "Li2O", "Li3AlF6", "LiNaMgCaAlOF", "Li11Al13O31", "LiF", "Mg(AlO2)2", "LiAlO2", "Na3AlF6",
}  # fmt: skip


def reduced(texts: set[str]) -> set[str]:
    return set(parse_many(sorted(texts)).reduced)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("lists") / "mine.csv"
    pd.DataFrame({"formula": TEXTS, "note": range(len(TEXTS))}).to_csv(path, index=False)
    return path


@pytest.fixture(scope="module")
def listed(stages: Any, file: Path) -> ArtifactRef:
    ref = stages.run(read_formulas, str(file))
    assert isinstance(ref, ArtifactRef)
    return ref


def screening(listed: ArtifactRef, **changes: Any) -> ScreenParameters:
    settings = {"spaces": (SpaceParameters(formulas=listed),), "threshold": 100.0, "min_training_rows": 50}
    return ScreenParameters(**settings | changes)


def screened(stages: Any, parameters: ScreenParameters, size: int = 4, precision: ArtifactRef | None = None) -> Any:
    inputs = (stages.network, stages.phases, precision)
    parts = [stages.run(screen_block, *inputs, parameters, block) for block in plan_blocks(parameters, size)]
    return stages.run(merge_candidates, parts, *inputs, stages.calibration, stages.known, parameters)


# Reading


def test_every_row_is_listed_or_rejected_with_its_reason(stages: Any, listed: ArtifactRef) -> None:
    table = stages.store.read_table(listed).to_pandas()
    rejected = stages.store.read_table(listed, "rejected/rejected").to_pandas().set_index("row")
    assert set(table["formula"]) == reduced(GOOD)
    assert sorted([*table["row"], *rejected.index]) == list(range(len(TEXTS)))
    assert table["row"].is_monotonic_increasing
    said = {
        3: "no element",
        4: "the same composition as row 2",
        5: "outside the 86",
        6: "no formula",
        8: "single element",
    }
    assert sorted(rejected.index) == sorted(said)
    for row, words in said.items():
        assert words in rejected.loc[row, "reason"]
        assert (rejected.loc[row, "formula"] or "") == TEXTS[row]
    counts = stages.counts(listed)
    assert (counts["rows_in"], counts["rejected"]) == (15, 5)
    assert {name: n for name, n in counts.items() if name.startswith("compositions")} == {
        "compositions_2": 3, "compositions_3": 5, "compositions_5": 1, "compositions_7": 1,
    }  # fmt: skip
    assert counts["systems_3"] == 4  # two of the five are of Al-Li-O


def test_ranges_of_a_list_are_its_compositions(stages: Any, listed: ArtifactRef) -> None:
    formulas = stages.store.read_table(listed).column("formula").to_pylist()
    for start, stop in ((0, 10), (2, 5), (9, 10), (4, 4)):
        compositions = listed_compositions(listed, start, stop)
        parsed = parse_many(formulas[start:stop])
        width = parsed.elements.shape[1] if stop > start else compositions.elements.shape[1]
        assert compositions.elements[:, :width].tolist() == parsed.elements.tolist()
        assert compositions.counts[:, :width].tolist() == parsed.amounts.tolist()


def test_the_key_is_of_the_content(stages: Any, file: Path, listed: ArtifactRef, tmp_path: Path) -> None:
    copy = tmp_path / "another name.csv"
    copy.write_bytes(file.read_bytes())
    assert stages.run(read_formulas, f"file:{copy}") == listed
    shouting = tmp_path / "NAME.v2.CSV"
    shouting.write_bytes(file.read_bytes())
    assert stages.run(read_formulas, str(shouting)) == listed
    copy.write_text(file.read_text().replace("LiF,", "LiCl,"))
    assert stages.run(read_formulas, str(copy)).digest != listed.digest


def test_any_table_and_plain_text(stages: Any, listed: ArtifactRef, tmp_path: Path) -> None:
    expected = stages.store.read_table(listed)
    frame = pd.DataFrame({"formula": TEXTS})
    frame.to_parquet(tmp_path / "a.parquet")
    frame.to_json(tmp_path / "a.jsonl", orient="records", lines=True)
    (tmp_path / "a.csv.gz").write_bytes(gzip.compress(("formula,n\n" + "\n".join(f"{t},1" for t in TEXTS)).encode()))
    (tmp_path / "a.txt").write_text("\n".join(TEXTS) + "\n\n", encoding="utf-8-sig")
    for name in ("a.parquet", "a.jsonl", "a.csv.gz", "a.txt"):
        assert stages.store.read_table(stages.run(read_formulas, str(tmp_path / name))).equals(expected), name


def test_an_artifact_with_formulas_is_a_list_too(stages: Any, listed: ArtifactRef) -> None:
    ref = stages.run(read_formulas, stages.known.key)
    assert stages.store.read_table(ref).column("formula").to_pylist() == ["Li2O", "Li3AlF6", "NaMgF3"]
    assert stages.store.manifest(ref).inputs["table"].digest == stages.known.digest
    assert stages.run(read_formulas, listed.key) == listed


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.csv", b"name\nLiF\n", "no column 'formula'"),
        ("a.csv", b"formula\nLiX\nFe\n", "no formula in .* can be screened"),
        ("a.txt", b"\n \n", "is empty"),
        ("a.txt", b"\xff\xfe\x00", "not UTF-8"),
        ("a.csv", None, "there is no file"),
        ("a.xlsx", b"x", "no ending of a table"),
    ],
)
def test_lists_of_no_use(stages: Any, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises((InputError, StoreError), match=said) as caught:
        stages.run(read_formulas, str(tmp_path / name))
    assert "\n" not in str(caught.value)


# Parameters


@pytest.mark.parametrize(
    "rule", [{"elements": ("Li", "O")}, {"arities": (2,)}, {"max_atoms": 8}, {"required": ("Li",)}]
)
def test_a_list_has_no_rule(rule: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"leave {next(iter(rule))} out"):
        SpaceParameters(formulas="mine.csv", **rule)


def test_one_wrong_space_is_one_error() -> None:
    with pytest.raises(ValidationError) as caught:
        ScreenParameters.model_validate({"spaces": [{"formulas": "mine.csv", "arities": [4]}]})
    assert caught.value.error_count() == 1
    with pytest.raises(ValidationError, match="at least one space"):
        ScreenParameters(spaces=())


def test_keys_of_enumerated_spaces_know_of_no_lists(stages: Any) -> None:
    """A run that was begun before there were lists goes on with its parts."""
    assert screen_header(ScreenParameters()) == {
        "spaces": [{"elements": None, "excluded": [], "required": [], "arities": [2, 3], "max_atoms": 10}],
        "threshold": -0.2,
        "allow_mixed_scheme": False,
        "min_training_rows": 100,
        "charge_balance": "column",
        "precision": "fp32",
        "precision_sample": 1_000_000,
    }
    inputs = {"network": stages.network, "phases": stages.phases}
    request = part_request(stages.store, inputs, stages.screening, plan_blocks(stages.screening, 60)[0])
    assert set(request.parameters) == {
        "space", "full_space", "start", "stop", "threshold", "precision", "min_training_rows"
    }  # fmt: skip
    assert set(request.parameters["space"]) == {"elements", "arities", "max_atoms", "required"}


def test_parameters_survive_json(listed: ArtifactRef) -> None:
    """Prefect hands them on as JSON; what a list is read into is named by its key."""
    parameters = screening(listed, keep_predictions=True)
    again = ScreenParameters.model_validate_json(parameters.model_dump_json())
    assert again.spaces[0].formulas == listed.key
    assert again.model_copy(update={"spaces": parameters.spaces}) == parameters
    assert ScreenParameters.model_validate_json(ScreenParameters().model_dump_json()) == ScreenParameters()


# Screening


def test_a_system_of_many_elements_may_be_incomplete() -> None:
    systems = pa.chunked_array([["Al-Ca-F-K-Li-Mg-Na-O-S", "Al-Ca-Cl-K-Li-Mg-Na-O-S", "Al-F"]])
    assert incomplete_systems(systems, {"Al-F", "Li"}).tolist() == [True, False, True]
    assert incomplete_systems(systems, {"Al-Cl-Ti"}).tolist() == [False, False, False]


@pytest.fixture(scope="module")
def candidates(stages: Any, listed: ArtifactRef) -> ArtifactRef:
    ref = screened(stages, screening(listed))
    assert isinstance(ref, ArtifactRef)
    return ref


def test_every_listed_composition_is_answered(stages: Any, listed: ArtifactRef, candidates: ArtifactRef) -> None:
    table = stages.store.read_table(candidates).to_pandas()
    assert set(table["formula"]) == reduced(GOOD)
    full = full_space(screening(listed))
    parsed = parse_many(table["formula"].tolist())
    expected = full.rank(parsed.elements, parsed.amounts)
    assert table["index"].fillna(-1).astype(int).tolist() == expected.tolist()
    outside = {"NaLiMgAlO4", "LiNaMgCaAlOF", "Li11Al13O31"}
    assert set(table.loc[table["index"].isna(), "formula"]) == reduced(outside)
    # by index, then those without one by formula
    numbered = table["index"].dropna()
    assert numbered.is_monotonic_increasing
    assert table["formula"].tolist()[len(numbered) :] == sorted(reduced(outside))
    counts = stages.counts(candidates)
    assert (counts["screened"], counts["below"], counts["screened_5"], counts["systems_7"]) == (10, 10, 1, 1)


def test_columns_of_compositions_without_an_index(stages: Any, candidates: ArtifactRef) -> None:
    table = stages.store.read_table(candidates).to_pandas()
    parsed = parse_many(table["formula"].tolist())
    hull = load_hull(stages.phases)
    energies = table["formation_energy_per_atom"].to_numpy()
    np.testing.assert_allclose(table["hull_energy_per_atom"], hull.energy_many(parsed.fractions), atol=1e-9)
    np.testing.assert_allclose(
        table["decomposition_energy"], hull.decomposition_energy(parsed.fractions, energies), atol=1e-9
    )
    assert table["charge_neutral"].tolist() == is_neutral(parsed.elements, parsed.amounts).tolist()
    named = table.set_index("formula")
    assert named.loc["Li3AlF6", "known"]
    assert named.loc["Li3AlF6", "novelty"] == "exact"
    # Li3AlF6 is known without an energy: Al-F-Li is incomplete, and whatever holds these three
    incomplete = {"Li3AlF6"} | reduced({"LiNaMgCaAlOF"})
    assert set(named.index[named["hull_incomplete"]]) == incomplete
    assert named.loc["Li11Al13O31", "arity"] == 3
    best = stages.store.read_table(candidates, "best_per_system").to_pandas()
    assert sorted(best["chemsys"]) == sorted(set(table["chemsys"]))
    assert best["decomposition_energy"].is_monotonic_increasing
    categories = stages.store.read_table(candidates, "categories").to_pandas()
    assert categories.loc[categories["category"] == "all", "compositions"].sum() == len(table)
    assert len(best_per_system(table, 100)) == table["chemsys"].nunique()


def test_the_answers_are_those_of_an_enumerated_space_to_the_bit(stages: Any, tmp_path: Path) -> None:
    space = SpaceParameters(elements=("Li", "Na", "Mg", "Al", "O", "F"), arities=(2, 3))
    rule = ScreenParameters(spaces=(space,), threshold=100.0, min_training_rows=50)
    expected = stages.store.read_table(screened(stages, rule, 700))
    names = expected.column("formula").to_pylist()
    order = np.random.default_rng(0).permutation(len(names))[:400]
    path = tmp_path / "some.txt"
    path.write_text("\n".join(names[i] for i in order))
    by_list = screening(stages.run(read_formulas, str(path)))
    found = stages.store.read_table(screened(stages, by_list, 90))
    # every column, novelty and flags too; equal doubles are equal bits here, since none is NaN or zero
    assert found.equals(expected.take(pa.array(np.sort(order))))
    threshold = float(np.median(expected.column("decomposition_energy").to_numpy()))
    fewer = screened(stages, by_list.model_copy(update={"threshold": threshold}), 90)
    kept = expected.take(pa.array(np.sort(order)))
    kept = kept.filter(pa.compute.less_equal(kept.column("decomposition_energy"), threshold))
    assert 0 < kept.num_rows < 400
    assert stages.store.read_table(fewer).equals(kept)


def test_the_cut_is_no_part_of_the_result(stages: Any, listed: ArtifactRef, candidates: ArtifactRef) -> None:
    assert screened(stages, screening(listed), 3).key == candidates.key
    parts = [
        [
            stages.store.read_table(stages.run(screen_block, stages.network, stages.phases, None, screening(listed), b))
            for b in plan_blocks(screening(listed), size)
        ]
        for size in (1, 3, 10)
    ]
    tables = [pa.concat_tables(some).combine_chunks() for some in parts]
    assert tables[0].equals(tables[1])
    assert tables[0].equals(tables[2])


def test_parts_hang_on_the_content_of_their_list(stages: Any, listed: ArtifactRef, tmp_path: Path) -> None:
    path = tmp_path / "other.txt"
    path.write_text("LiF\nNa2O\n")
    other = screening(stages.run(read_formulas, str(path)))
    mine = screening(listed)
    inputs = (stages.network, stages.phases, None)
    foreign = [stages.run(screen_block, *inputs, other, block) for block in plan_blocks(other, 10)]
    assert stages.store.manifest(foreign[0]).inputs["formulas"].digest == other.spaces[0].formulas.digest
    with pytest.raises(ForeignPart, match=r"is missing|does not have"):
        stages.run(merge_candidates, foreign, *inputs, None, None, mine)


def test_parts_of_an_older_schema_are_merged_with_new_ones(stages: Any, listed: ArtifactRef) -> None:
    """Before there were lists the index could not be null, which Arrow counts as another schema."""
    block = plan_blocks(stages.screening, 60)[0]
    part = stages.store.read_table(
        stages.run(screen_block, stages.network, stages.phases, None, stages.screening, block)
    )
    old = part.cast(pa.schema([part.schema.field("index").with_nullable(False), *list(part.schema)[1:]]))
    assert not old.schema.equals(part.schema)
    half = part.num_rows // 2
    both = pa.concat_tables([conform(some, "candidates_part") for some in (part.slice(half), old.slice(0, half))])
    assert in_order(both).equals(in_order(part))
    with pytest.raises(ForeignPart, match="share compositions"):
        in_order(pa.concat_tables([part, part.slice(3, 1)]))


def test_a_list_beside_a_space(stages: Any, tmp_path: Path) -> None:
    path = tmp_path / "beside.txt"
    path.write_text("Li3AlF6\nLiNaMgAlO4\n")
    ref = stages.run(read_formulas, str(path))
    space = SpaceParameters(elements=("Li", "Na", "O"), arities=(2,), max_atoms=3)
    both = screening(ref, spaces=(space, SpaceParameters(formulas=ref)))
    table = stages.store.read_table(screened(stages, both, 5)).to_pandas()
    assert len(table) == len(composition_space(space)) + 2
    assert set(table["arity"]) == {2, 3, 5}
    path.write_text("Li3AlF6\nLi2O\n")
    ref = stages.run(read_formulas, str(path))
    both = screening(ref, spaces=(space, SpaceParameters(formulas=ref)))
    with pytest.raises(ForeignPart, match="share compositions, Li2O among them"):
        screened(stages, both, 5)
    path.write_text("LiNaMgAlO4\n")
    one = stages.run(read_formulas, str(path))
    path.write_text("LiNaMgAlO4\nLiF\n")
    two = stages.run(read_formulas, str(path))
    both = screening(ref, spaces=(SpaceParameters(formulas=one), SpaceParameters(formulas=two)))
    with pytest.raises(ForeignPart, match="share compositions, NaLiMgAlO4 among them"):
        screened(stages, both, 5)


def test_the_charge_filter_leaves_the_rest_in_order(stages: Any, listed: ArtifactRef, candidates: ArtifactRef) -> None:
    table = stages.store.read_table(candidates).to_pandas()
    strict = screened(stages, screening(listed, charge_balance="filter"))
    kept = stages.store.read_table(strict).to_pandas()
    assert kept["formula"].tolist() == table.loc[table["charge_neutral"], "formula"].tolist()
    assert 0 < stages.counts(strict)["unbalanced"] == len(table) - len(kept)


def test_the_fast_mode_samples_the_list(stages: Any, listed: ArtifactRef, candidates: ArtifactRef) -> None:
    fast = screening(listed, precision="fast", threshold=0.3)
    precision = stages.run(measure_precision, stages.network, fast)
    assert stages.counts(precision)["sample"] in (0, 10)  # 0: a processor without a sieve
    assert stages.store.manifest(precision).inputs["formulas_0"].digest == listed.digest
    found = stages.store.read_table(screened(stages, fast, 4, precision))
    assert found.equals(stages.store.read_table(screened(stages, screening(listed, threshold=0.3))))


def test_a_list_that_was_not_read_is_no_space() -> None:
    parameters = ScreenParameters(spaces=(SpaceParameters(formulas="mine.csv"),))
    with pytest.raises(InputError, match=r"mine\.csv is not in the store yet"):
        plan_blocks(parameters, 10)
