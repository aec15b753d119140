"""Screen and merge: the same candidates however the space is cut, flags by hand, and no foreign part."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from benchmarks.fast_mode import differing_columns, require_same_screen
from models.cascade import Band
from models.charge_balance import is_neutral
from models.errors import InputError
from models.formula import parse_many
from models.hull import PhaseHull
from models.stability import probability_stable
from storage.artifact import ArtifactRef
from storage.errors import ForeignPart, SchemeMismatch
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks.arithmetic import sieve_kind
from tasks.calibrate import calibrate
from tasks.candidate_flags import incomplete_systems
from tasks.clean import clean_training
from tasks.featurize import featurize_fractions
from tasks.ingest import ingest
from tasks.loading import load_hull, load_predictor
from tasks.merge import STAGE_VERSION as merge_version
from tasks.merge import merge_candidates
from tasks.parameters import ScreenParameters, SourceParameters, SpaceParameters
from tasks.precision import measure_precision, read_band
from tasks.screen import STAGE_VERSION as screen_version
from tasks.screen import screen_block
from tasks.spaces import composition_space, plan_blocks
from tasks.train import train_network


def parts_of(
    stages: Any, parameters: ScreenParameters, size: int, precision: ArtifactRef | None = None
) -> list[ArtifactRef]:
    return [
        stages.run(screen_block, stages.network, stages.phases, precision, parameters, block)
        for block in plan_blocks(parameters, size)
    ]


def single(formula: str) -> tuple[np.ndarray, np.ndarray]:
    """Elements and amounts of one formula."""
    parsed = parse_many([formula])
    return parsed.elements, parsed.amounts


def merge(
    stages: Any,
    parts: Sequence[ArtifactRef],
    parameters: ScreenParameters,
    known: ArtifactRef | None = None,
    precision: ArtifactRef | None = None,
) -> ArtifactRef:
    inputs = (stages.network, stages.phases, precision, stages.calibration, known)
    return stages.run(merge_candidates, parts, *inputs, parameters)


@pytest.fixture(scope="module")
def parts(stages: Any) -> list[ArtifactRef]:
    return parts_of(stages, stages.screening, 60)


@pytest.fixture(scope="module")
def candidates(stages: Any, parts: list[ArtifactRef]) -> ArtifactRef:
    return merge(stages, parts, stages.screening, stages.known)


def test_blocks_cover_the_spaces(stages: Any) -> None:
    blocks = plan_blocks(stages.screening, 60)
    for number, space in enumerate(stages.screening.spaces):
        mine = [block for block in blocks if block.space == number]
        assert mine[0].start == 0
        assert [block.start for block in mine[1:]] == [block.stop for block in mine[:-1]]
        assert mine[-1].stop == len(composition_space(space))
        assert all(block.stop - block.start <= 60 for block in mine)
    assert len(blocks) > 4


def test_excluded_elements_leave_the_space() -> None:
    space = composition_space(SpaceParameters(elements=("Li", "Na", "O", "F"), excluded=("Na",), arities=(2,)))
    assert space == composition_space(SpaceParameters(elements=("Li", "O", "F"), arities=(2,)))
    assert len(composition_space(SpaceParameters(excluded=("U", "Pu"), arities=(2,))).elements) == 84
    with pytest.raises(InputError, match="element He is outside the 86 elements"):
        composition_space(SpaceParameters(excluded=("He",)))


def test_the_cut_is_no_part_of_the_result(stages: Any, candidates: ArtifactRef, tmp_path: Path) -> None:
    """Other blocks ask for the same key; built anew, elsewhere, it has the same content."""
    from tasks.stage import reference

    others = parts_of(stages, stages.screening, 97)
    again = merge(stages, others, stages.screening, stages.known)
    assert again.key == candidates.key
    root = str(tmp_path / "store")
    inputs = (stages.network, stages.phases, None, stages.calibration, stages.known, stages.screening)
    with pytest.MonkeyPatch.context() as patch:
        # the parts and inputs stay where they are; only the look-up of the finished table goes to an empty store
        import tasks.merge

        patch.setattr(tasks.merge, "build", lambda _, request, write: reference(_build(root, request, write)))
        elsewhere = merge_candidates.fn(stages.root, others, *inputs)
    assert elsewhere.uri != candidates.uri
    assert (elsewhere.key, elsewhere.digest) == (candidates.key, candidates.digest)


def test_the_merge_is_of_the_version_of_its_parts() -> None:
    """The parts are no inputs of the merge, so only its version tells that they are others."""
    assert merge_version == screen_version


def _build(root: str, request: Any, write: Any) -> Any:
    from tasks.stage import build

    return build(root, request, write)


def test_the_fast_mode_gives_the_same_candidates(stages: Any, candidates: ArtifactRef) -> None:
    fast = stages.screening.model_copy(update={"precision": "fast", "precision_sample": 500})
    precision = stages.run(measure_precision, stages.network, fast)
    band = read_band(precision)
    if sieve_kind() is None:  # this processor's fast mode is fp32
        assert band is None
    else:
        assert band is not None
        assert band.width >= 1.5 * band.largest > 0
        assert stages.counts(precision)["sample"] == sum(min(500, len(composition_space(s))) for s in fast.spaces)
    found = merge(stages, parts_of(stages, fast, 60, precision), fast, stages.known, precision)
    assert found.key != candidates.key
    assert stages.store.read_table(found).equals(stages.store.read_table(candidates))
    counts = stages.counts(found)
    if band is None:
        assert counts["decided_again"] == 0
    else:
        assert counts["below"] <= counts["decided_again"] <= counts["screened"]
    assert stages.counts(candidates)["decided_again"] == 0
    require_same_screen(stages.store, candidates, found)
    assert differing_columns(stages.store, candidates, found) == []
    with pytest.raises(InputError, match="give the key of an fp32 screen first"):
        require_same_screen(stages.store, found, candidates)
    lower = merge(stages, parts_of(stages, lowered := fast.model_copy(update={"threshold": 0.1}), 60, precision),
                  lowered, stages.known, precision)  # fmt: skip
    with pytest.raises(InputError, match="of other spaces, networks, phases or thresholds"):
        require_same_screen(stages.store, candidates, lower)
    assert differing_columns(stages.store, candidates, lower) == ["rows or names of columns"]


@pytest.mark.parametrize(
    ("here", "kinds"), [({"int8", "bf16"}, ["int8", "bf16"]), ({"int8"}, ["int8"]), ({"bf16"}, None)]
)
def test_a_worker_takes_the_sieves_that_it_has(
    monkeypatch: pytest.MonkeyPatch, here: set[str], kinds: list[str] | None
) -> None:
    """Without the second sieve the first is as sound; without the first nothing was measured."""
    written = json.dumps(Band("int8", 0.1, 1, 0.06, 0.0, Band("bf16", 0.01, 1, 0.006, 0.0)).to_dict())
    store = SimpleNamespace(from_ref=lambda ref: SimpleNamespace(read_bytes=lambda ref, name: written))
    monkeypatch.setattr("tasks.precision.ArtifactStore", store)
    monkeypatch.setattr("tasks.precision.runs_here", here.__contains__)
    band = read_band(cast(Any, object()))
    assert (None if band is None else [one.kind for one in band.sieves]) == kinds


def test_a_part_of_another_precision_is_refused(stages: Any, parts: list[ArtifactRef], tmp_path: Path) -> None:
    fast = stages.screening.model_copy(update={"precision": "fast", "precision_sample": 500})
    precision = stages.run(measure_precision, stages.network, fast)
    foreign = stages.run(screen_block, stages.network, stages.phases, precision, fast, plan_blocks(fast, 60)[0])
    with pytest.raises(ForeignPart, match="belongs to another screen"):
        merge_fresh(stages, [foreign, *parts[1:]], tmp_path)


def test_charge_balance_as_a_column_and_as_a_filter(stages: Any, candidates: ArtifactRef) -> None:
    table = stages.store.read_table(candidates).to_pandas().set_index("formula")
    balance = table["charge_neutral"]
    for name, neutral in balance.dropna().items():
        assert neutral == bool(is_neutral(*single(str(name)))[0])
    assert 0 < (balance == False).sum() < len(table)  # noqa: E712 - null is neither
    strict = stages.screening.model_copy(update={"charge_balance": "filter"})
    kept = merge(stages, parts_of(stages, strict, 60), strict, stages.known)
    names = stages.store.read_table(kept).column("formula").to_pylist()
    assert sorted(names) == sorted(table.index[balance != False])  # noqa: E712
    counts = stages.counts(kept)
    assert counts["unbalanced"] == len(table) - len(names)
    assert counts["unbalanced"] == sum(n for name, n in counts.items() if name.startswith("unbalanced_"))


def test_novelty_against_everything_known(stages: Any, candidates: ArtifactRef) -> None:
    table = stages.store.read_table(candidates).to_pandas()
    assert (table["novelty"] == "exact").tolist() == table["known"].tolist()
    assert (table.loc[table["novelty"] == "exact", "nearest_known"] < 1e-6).all()
    assert table.loc[table["novelty"] == "new", "nearest_known"].isna().all()


def test_categories_and_the_best_of_each_system(stages: Any, candidates: ArtifactRef) -> None:
    table = stages.store.read_table(candidates).to_pandas()
    best = stages.store.read_table(candidates, "best_per_system").to_pandas()
    lowest = table.sort_values("decomposition_energy", kind="stable").drop_duplicates("chemsys")
    assert sorted(best["formula"]) == sorted(lowest["formula"])
    assert best["decomposition_energy"].is_monotonic_increasing
    assert best["n_candidates"].sum() == len(table)
    categories = stages.store.read_table(candidates, "categories").to_pandas()
    every = categories[categories["category"] == categories["category"].iloc[0]]
    assert every["compositions"].sum() == len(table)
    assert every["systems"].sum() == table["chemsys"].nunique()
    clean = ~(table["known"] | table["hull_incomplete"] | table["out_of_domain"])
    assert every["compositions_after"].sum() == clean.sum()


def test_counts_add_up(stages: Any, candidates: ArtifactRef) -> None:
    counts = stages.counts(candidates)
    sizes = [len(composition_space(space)) for space in stages.screening.spaces]
    assert [counts["screened_2"], counts["screened_3"]] == list(sizes)
    assert counts["screened"] == sum(sizes)
    assert counts["systems_2"] == 21
    assert counts["systems_3"] == 10  # C(5, 2) beside lithium
    table = stages.store.read_table(candidates).to_pandas()
    assert counts["below"] == counts["below_2"] + counts["below_3"] == len(table)
    assert counts["flag_known"] == table["known"].sum()
    assert counts["unflagged"] == (~(table["known"] | table["hull_incomplete"] | table["out_of_domain"])).sum()
    assert 10 < len(table) < counts["screened"], "the threshold has to divide this space, or nothing is tested"


def test_energies_are_those_of_network_and_hull(stages: Any, candidates: ArtifactRef) -> None:
    table = stages.store.read_table(candidates).to_pandas()
    fractions = parse_many(table["formula"].tolist()).fractions
    prediction = load_predictor(stages.network, stages.phases).predict(fractions.astype(np.float32))[0]
    hull = load_hull(stages.phases)
    np.testing.assert_allclose(table["formation_energy_per_atom"], prediction, atol=1e-5)
    np.testing.assert_allclose(table["hull_energy_per_atom"], hull.energy_many(fractions), atol=1e-9)
    np.testing.assert_allclose(
        table["decomposition_energy"],
        hull.decomposition_energy(fractions, table["formation_energy_per_atom"].to_numpy()),
        atol=1e-9,
    )
    np.testing.assert_allclose(
        table["energy_above_hull"], table["formation_energy_per_atom"] - table["hull_energy_per_atom"], atol=1e-12
    )
    assert (table["decomposition_energy"] <= stages.screening.threshold).all()
    assert (np.diff(table["index"]) > 0).all()
    assert table["formula"].is_unique


@pytest.fixture(scope="module")
def calibrated(stages: Any) -> tuple[ArtifactRef, ArtifactRef, ArtifactRef]:
    """Features, network and calibration with enough calibration rows of both classes."""
    cleaning = stages.cleaning.model_copy(update={"calibration_fraction": 0.6})
    training = stages.run(clean_training, stages.energies, stages.references, cleaning)
    features = stages.run(featurize_fractions, training)
    network = stages.run(train_network, features, stages.training_parameters)
    return features, network, stages.run(calibrate, network, stages.phases)


def test_the_probability_comes_from_the_calibration(
    stages: Any, parts: list[ArtifactRef], calibrated: tuple[ArtifactRef, ArtifactRef, ArtifactRef]
) -> None:
    _, _, ref = calibrated
    inputs = (stages.network, stages.phases, None, ref, stages.known, stages.screening)
    table = stages.store.read_table(stages.run(merge_candidates, parts, *inputs)).to_pandas()
    calibration = json.loads(stages.store.read_bytes(ref, "calibration.json"))["probability"]
    assert calibration["method"] == "platt"
    np.testing.assert_allclose(
        table["probability_stable"], probability_stable(table["decomposition_energy"], calibration), rtol=1e-12
    )


def test_without_a_calibration_no_probability_is_stated(stages: Any, candidates: ArtifactRef) -> None:
    calibration = json.loads(stages.store.read_bytes(stages.calibration, "calibration.json"))["probability"]
    assert calibration["method"] == "none"
    assert "unstable calibration rows" in calibration["reason"]
    assert (
        stages.store.read_table(candidates).column("probability_stable").null_count
        == stages.store.manifest(candidates).rows
    )


def test_calibration_rows_are_judged_as_if_nothing_were_known_in_their_systems(
    stages: Any, calibrated: tuple[ArtifactRef, ArtifactRef, ArtifactRef]
) -> None:
    features, network, ref = calibrated
    rows = stages.store.read_table(features).to_pandas().query("split == 'calibration'")
    parsed = parse_many(rows["formula"].tolist())
    phases = stages.store.read_table(stages.phases).to_pandas()
    left = phases[~phases["chemsys"].isin(set(rows["chemsys"]))]
    assert 0 < len(left) < len(phases)
    hull = PhaseHull(parse_many(left["formula"].tolist()).fractions, left["formation_energy_per_atom"].to_numpy())
    prediction = load_predictor(network, stages.phases).predict(parsed.fractions.astype(np.float32))[0]
    below = hull.decomposition_energy(parsed.fractions, prediction.astype(np.float64))
    fitted = json.loads(stages.store.read_bytes(ref, "calibration.json"))["probability"]
    truth = hull.decomposition_energy(parsed.fractions, rows["formation_energy_per_atom"].to_numpy())
    assert (fitted["n"], fitted["n_stable"]) == (len(rows), (truth <= 0).sum())
    assert fitted["range"] == pytest.approx([below.min(), below.max()], abs=1e-9)


def test_flags_by_hand(stages: Any, candidates: ArtifactRef) -> None:
    """Listed: Li2O (a phase), Li3AlF6 and NaMgF3 (no energies), so Al-F-Li is incomplete and Li-O is not."""
    table = stages.store.read_table(candidates).to_pandas().set_index("formula")
    phases = set(stages.store.read_table(stages.phases).column("formula").to_pylist())
    assert set(table.index[table["known"]]) == set(table.index) & (phases | {"Li3AlF6", "NaMgF3", "Li2O"})
    assert table["known"].any()
    assert not table["known"].all()
    assert set(table.loc[table["hull_incomplete"], "chemsys"]) <= {"Al-F-Li", "F-Mg-Na"}
    assert table.loc[table["chemsys"] == "Al-F-Li", "hull_incomplete"].all()
    assert not table.loc[table["chemsys"] == "Li-O", "hull_incomplete"].any()
    rows = read_model(stages.network)[0].domain["training_rows"]
    rare = {element for element, n in rows.items() if n < stages.screening.min_training_rows}
    expected = [bool(rare & set(system.split("-"))) for system in table["chemsys"]]
    assert table["out_of_domain"].tolist() == expected


def test_a_rare_element_is_out_of_domain(stages: Any) -> None:
    rows = read_model(stages.network)[0].domain["training_rows"]
    space = SpaceParameters(elements=("Li", "Na", "O"), arities=(2,), max_atoms=3)
    least = min(rows["Li"], rows["Na"], rows["O"])
    rare = {name for name in ("Li", "Na", "O") if rows[name] == least}
    for bound, expected in ((least, set()), (least + 1, rare)):
        parameters = ScreenParameters(spaces=(space,), threshold=100.0, min_training_rows=bound)
        table = stages.store.read_table(merge(stages, parts_of(stages, parameters, 100), parameters)).to_pandas()
        assert len(table) == len(composition_space(space))
        flagged = set(table.loc[table["out_of_domain"], "chemsys"])
        assert flagged == {system for system in table["chemsys"] if expected & set(system.split("-"))}


def test_without_a_list_nothing_is_incomplete(stages: Any, parts: list[ArtifactRef], candidates: ArtifactRef) -> None:
    plain = merge(stages, parts, stages.screening)
    assert plain.key != candidates.key
    assert stages.counts(plain)["flag_hull_incomplete"] == 0


def test_subsystems_make_a_system_incomplete() -> None:
    import pyarrow as pa

    systems = pa.chunked_array([["Li-O", "Fe-Li-O", "Fe-Li", "Fe-Li-O-P"], ["Li-O"]])
    assert incomplete_systems(systems, {"Fe-O"}).tolist() == [False, True, False, True, False]
    assert incomplete_systems(systems, {"Fe-Li-O"}).tolist() == [False, True, False, True, False]
    assert incomplete_systems(systems, {"Li", "O"}).tolist() == [False] * 5
    assert incomplete_systems(pa.chunked_array([[]], pa.string()), {"Fe-O"}).tolist() == []


def test_a_missing_part_is_refused(stages: Any, parts: list[ArtifactRef], tmp_path: Path) -> None:
    for left_out in (0, 1, len(parts) - 1):
        some = [part for number, part in enumerate(parts) if number != left_out]
        with pytest.raises(ForeignPart, match="is missing"):
            merge_fresh(stages, some, tmp_path)


def test_a_doubled_part_is_refused(stages: Any, parts: list[ArtifactRef], tmp_path: Path) -> None:
    with pytest.raises(ForeignPart, match="is doubled"):
        merge_fresh(stages, [*parts, parts[1]], tmp_path)
    overlapping = parts_of(stages, stages.screening, 97)[0]
    with pytest.raises(ForeignPart, match="is doubled"):
        merge_fresh(stages, [overlapping, *parts[1:]], tmp_path)


@pytest.mark.parametrize("change", [{"threshold": 0.25}, {"min_training_rows": 7}])
def test_a_part_of_another_screen_is_refused(
    stages: Any, parts: list[ArtifactRef], tmp_path: Path, change: dict[str, Any]
) -> None:
    other = stages.screening.model_copy(update=change)
    foreign = stages.run(screen_block, stages.network, stages.phases, None, other, plan_blocks(other, 60)[0])
    with pytest.raises(ForeignPart, match="belongs to another screen"):
        merge_fresh(stages, [foreign, *parts[1:]], tmp_path)


def test_a_part_of_another_space_is_refused(stages: Any, parts: list[ArtifactRef], tmp_path: Path) -> None:
    other = ScreenParameters(
        **stages.screening.model_dump(exclude={"spaces"}),
        spaces=(SpaceParameters(elements=("Na", "Cl"), arities=(2,), max_atoms=4),),
    )
    foreign = stages.run(screen_block, stages.network, stages.phases, None, other, plan_blocks(other, 60)[0])
    with pytest.raises(ForeignPart, match=r"space that this screen does not have|another screen"):
        merge_fresh(stages, [*parts, foreign], tmp_path)


def test_spaces_that_overlap_are_refused(stages: Any) -> None:
    space = SpaceParameters(elements=("Li", "Na", "O"), arities=(2,), max_atoms=3)
    wider = space.model_copy(update={"elements": ("Li", "Na", "O", "F")})
    parameters = ScreenParameters(spaces=(space, wider), threshold=100.0)
    with pytest.raises(ForeignPart, match="share compositions"):
        merge(stages, parts_of(stages, parameters, 100), parameters)


def merge_fresh(stages: Any, parts: Sequence[ArtifactRef], folder: Path) -> ArtifactRef:
    """Check the parts although the finished table may be in the store already."""
    from tasks.merge import check_parts

    check_parts(stages.store, list(parts), {"network": stages.network, "phases": stages.phases}, stages.screening)
    raise AssertionError("the parts were taken")


def test_network_and_phases_of_two_schemes(stages: Any, tmp_path: Path) -> None:
    from tasks.clean import clean_phases
    from tasks.references import audit_references

    source = stages.energies_source.model_copy(update={"functional": "r2scan"})
    energies = stages.run(ingest, source)
    references = stages.run(audit_references, energies, stages.cleaning)
    phases = stages.run(clean_phases, energies, references, stages.cleaning)
    space = SpaceParameters(elements=("Li", "O"), arities=(2,), max_atoms=3)
    parameters = ScreenParameters(spaces=(space,), threshold=100.0)
    block = plan_blocks(parameters, 100)[0]
    with pytest.raises(SchemeMismatch, match="--allow-mixed-scheme") as caught:
        stages.run(screen_block, stages.network, phases, None, parameters, block)
    assert "\n" not in str(caught.value)
    allowed = parameters.model_copy(update={"allow_mixed_scheme": True})
    part = stages.run(screen_block, stages.network, phases, None, allowed, block)
    candidates = stages.run(merge_candidates, [part], stages.network, phases, None, None, None, allowed)
    assert all(stages.store.read_table(candidates).column("mixed_scheme").to_pylist())


def test_an_empty_screen_is_a_table_without_rows(stages: Any) -> None:
    space = SpaceParameters(elements=("Li", "O"), arities=(2,), max_atoms=3)
    parameters = ScreenParameters(spaces=(space,), threshold=-100.0)
    ref = merge(stages, parts_of(stages, parameters, 100), parameters, stages.known)
    assert stages.store.read_table(ref).num_rows == 0
    assert stages.counts(ref)["screened"] == 3
    assert stages.counts(ref)["below"] == 0


def test_a_list_is_a_table_of_its_own(stages: Any) -> None:
    """The novelty list needs no energies; it is an ingest like any other."""
    assert ArtifactStore(stages.root).read_table(stages.known).column("formula").to_pylist() == [
        "Li2O",
        "Li3AlF6",
        "NaMgF3",
    ]
    assert SourceParameters(source="file:x.csv").functional is None
