"""The back-test's stages on the tiny chemistry: what is held out leaves training and hull, and is judged by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from pydantic import ValidationError

from models.errors import InputError
from models.formula import parse_many
from models.stability import probability_stable
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from storage.schemas import SCHEMAS
from storage.store import ArtifactStore
from tasks.backtest import HOLDOUT, RESULT, hold_out, judge_held_out
from tasks.backtest_parameters import HoldoutParameters, JudgeParameters
from tasks.calibrate import calibrate
from tasks.clean import clean_phases, clean_training
from tasks.featurize import featurize_fractions
from tasks.ingest import ingest
from tasks.loading import hull_of, load_hull, load_predictor
from tasks.merge_sources import merge_sources
from tasks.parameters import CleanParameters, SourceParameters
from tasks.references import audit_references
from tasks.stage import reference
from tasks.train import train_network
from tasks.train_parameters import TrainParameters

PAIRS = HoldoutParameters(by="pairs", share=0.2, seed=3)
JUDGING = JudgeParameters(
    thresholds=(-0.2, 0.0, -0.1), min_training_rows=20, canaries=("KF6", "NaF8", "OF9", "F18Se2", "LiF")
)


class Stages:
    """A store with the tiny table, and the parameters of the usual stages; no network is trained here."""

    def __init__(self, root: Path, tiny: Any) -> None:
        campaign = tiny.campaign()
        self.root = str(root)
        self.store = ArtifactStore(root)
        self.tiny = tiny
        self.cleaning = CleanParameters(**campaign["cleaning"])
        self.training = TrainParameters(**(campaign["training"] | {"epochs": 3, "threads": 1}))
        self.energies = self.run(ingest, SourceParameters(**campaign["energies"]))

    def run(self, stage: Any, *arguments: Any) -> ArtifactRef:
        """Run a stage without Prefect and return its artifact."""
        return reference(stage.fn(self.root, *arguments))

    def counts(self, ref: ArtifactRef) -> dict[str, int]:
        """Return the counts in an artifact's manifest."""
        return self.store.manifest(ref).counts


@pytest.fixture(scope="module")
def stages(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Stages:
    """A store of this module's own: the shared one trains networks that are of no use here."""
    return Stages(tmp_path_factory.mktemp("backtest") / "store", tiny)


@dataclass(frozen=True)
class Run:
    """Artifacts of one back-test."""

    training_side: ArtifactRef
    held_out: ArtifactRef
    phases: ArtifactRef
    network: ArtifactRef
    calibration: ArtifactRef
    truth: ArtifactRef
    backtest: ArtifactRef


def run_backtest(stages: Stages, compounds: ArtifactRef, way: HoldoutParameters, known: ArtifactRef | None) -> Run:
    """Do what the flow does, without a server."""
    threads = torch.get_num_threads()
    cleaning, training = stages.cleaning, stages.training
    today = stages.run(audit_references, compounds, cleaning)
    training_side, held_out = (stages.run(hold_out, compounds, way, side) for side in ("training", "held_out"))
    references = stages.run(audit_references, training_side, cleaning)
    phases = stages.run(clean_phases, training_side, references, cleaning)
    rows = stages.run(clean_training, training_side, references, cleaning)
    network = stages.run(train_network, stages.run(featurize_fractions, rows), training)
    torch.set_num_threads(threads)
    calibration = stages.run(calibrate, network, phases)
    truth = stages.run(clean_phases, held_out, today, cleaning)
    judged = stages.run(judge_held_out, network, phases, calibration, held_out, truth, known, JUDGING)
    return Run(training_side, held_out, phases, network, calibration, truth, judged)


def formulas(stages: Stages, ref: ArtifactRef) -> set[str]:
    return set(stages.store.read_table(ref, columns=["formula"]).column("formula").to_pylist())


def note(stages: Stages, ref: ArtifactRef, name: str) -> Any:
    return json.loads(stages.store.read_bytes(ref, name))


@pytest.fixture(scope="module")
def listed(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """Everything in the table, and three compositions without an energy: Al5Cl2, Na9S2 and Mg7CaF."""
    file = tmp_path_factory.mktemp("listed") / "listed.csv"
    file.write_text("\n".join(["formula", *stages.tiny.energies["formula"], "Al5Cl2", "Na9S2", "Mg7CaF"]))
    return stages.run(ingest, SourceParameters(source=f"file:{file}", database="tiny"))


@pytest.fixture(scope="module")
def pairs(stages: Stages, listed: ArtifactRef) -> Run:
    return run_backtest(stages, stages.energies, PAIRS, listed)


@pytest.fixture(scope="module")
def dated(stages: Stages, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """The tiny table in three releases; the last one states the first rows of the first one again."""
    frame = stages.tiny.energies.copy()
    frame["release"] = np.array(["t-1", "t-2", "t-10"])[np.arange(len(frame)) % 3]
    again = frame[frame["release"] == "t-1"].head(4).assign(release="t-10", material_id=["a", "b", "c", "d"])
    again["formation_energy_per_atom"] -= 0.5
    file = tmp_path_factory.mktemp("dated") / "dated.parquet"
    pd.concat([frame, again]).to_parquet(file)
    source = SourceParameters(
        source=f"file:{file}", database="tiny", functional="pbe", columns={"release": "source_version"}
    )
    return stages.run(ingest, source)


@pytest.fixture(scope="module")
def releases(stages: Stages, dated: ArtifactRef) -> Run:
    return run_backtest(stages, dated, HoldoutParameters(by="release"), None)


def test_the_sides_of_a_draw_of_pairs(stages: Stages, pairs: Run) -> None:
    everything = formulas(stages, stages.energies)
    learnt, held = formulas(stages, pairs.training_side), formulas(stages, pairs.held_out)
    assert learnt | held == everything
    assert not learnt & held
    cut = note(stages, pairs.held_out, HOLDOUT)
    held_pairs = {tuple(pair) for pair in cut["pairs"]}
    assert held_pairs
    assert cut == note(stages, pairs.training_side, HOLDOUT) | {"by": "pairs", "share": 0.2, "seed": 3}
    for formula in everything:
        elements = parse_many([formula]).chemsys[0].split("-")
        assert (formula in held) == bool(set(combinations(elements, 2)) & held_pairs)
    counts = stages.counts(pairs.held_out)
    assert counts == stages.counts(pairs.training_side)
    assert counts["training"] + counts["held_out"] == len(stages.tiny.energies)
    assert counts["left_out"] == 0
    schemes = {stages.store.manifest(ref).energy_scheme for ref in (pairs.training_side, stages.energies)}
    assert len(schemes) == 1


def test_nothing_held_out_reaches_network_hull_or_calibration(stages: Stages, pairs: Run) -> None:
    held = formulas(stages, pairs.held_out)
    assert not formulas(stages, pairs.phases) & held
    features = stages.store.find(stages.store.manifest(pairs.network).inputs["features"].key)
    assert not formulas(stages, features) & held
    assert not load_hull(pairs.phases).is_known(parse_many(sorted(held)).fractions).any()
    assert stages.store.manifest(pairs.calibration).inputs["phases"].digest == pairs.phases.digest


def test_held_out_rows_are_judged_as_candidates_are(stages: Stages, pairs: Run) -> None:
    table = stages.store.read_table(pairs.backtest).to_pandas()
    assert set(table["formula"]) == formulas(stages, pairs.truth)
    fractions = parse_many(table["formula"].tolist()).fractions
    prediction = load_predictor(pairs.network, pairs.phases).predict(fractions.astype(np.float32))[0]
    hull = load_hull(pairs.phases)
    np.testing.assert_allclose(table["prediction"], prediction, atol=1e-6)
    np.testing.assert_allclose(table["hull_energy_per_atom"], hull.energy_many(fractions), atol=1e-9)
    np.testing.assert_allclose(
        table["decomposition_energy"], table["prediction"] - table["hull_energy_per_atom"], atol=1e-9
    )
    stated = stages.store.read_table(stages.energies).to_pandas().set_index("formula")["formation_energy_per_atom"]
    truth = stated[table["formula"]].to_numpy()
    np.testing.assert_allclose(table["formation_energy_per_atom"], truth, atol=1e-12)
    np.testing.assert_allclose(table["decomposition_energy_true"], truth - table["hull_energy_per_atom"], atol=1e-9)
    whole = hull_of(stages.store.read_table(stages.energies))
    np.testing.assert_allclose(
        table["decomposition_energy_among_all"],
        whole.decomposition_energy(fractions, truth),
        atol=1e-9,
    )
    fitted = note(stages, pairs.calibration, "calibration.json")["probability"]
    np.testing.assert_allclose(
        table["probability_stable"].astype(float), probability_stable(table["decomposition_energy"], fitted)
    )
    held_pairs = {"-".join(pair) for pair in note(stages, pairs.held_out, HOLDOUT)["pairs"]}
    assert set(table["group"]) <= held_pairs
    assert set(table["anion"]) <= {"oxide", "fluoride", "halide", "chalcogenide"}


def test_novelty_is_that_of_what_is_left(stages: Stages, releases: Run) -> None:
    """Without a list: the distance to the nearest phase of the training side, by hand."""
    table = stages.store.read_table(releases.backtest).to_pandas()
    learnt = parse_many(sorted(formulas(stages, releases.phases))).fractions
    held = parse_many(table["formula"].tolist()).fractions
    nearest = np.linalg.norm(held[:, None] - learnt[None], axis=2).min(axis=1)
    assert table["novelty"].tolist() == [
        "new"
        if distance > 0.1
        else "within_10_percent"
        if distance > 0.01
        else "within_1_percent"
        if distance > 0
        else "exact"
        for distance in nearest
    ]
    by_novelty = note(stages, releases.backtest, RESULT)["before"]["by_novelty"]
    assert {label: group["n"] for label, group in by_novelty.items()} == table["novelty"].value_counts().to_dict()


def test_the_numbers_are_those_of_the_table(stages: Stages, pairs: Run) -> None:
    table = stages.store.read_table(pairs.backtest).to_pandas()
    result = note(stages, pairs.backtest, RESULT)
    below, true = table["decomposition_energy"], table["decomposition_energy_true"]
    assert [entry["threshold"] for entry in result["before"]["thresholds"]] == [0.0, -0.1, -0.2]
    clean = ~(table["known"] | table["hull_incomplete"] | table["out_of_domain"])
    assert 0 < clean.sum() < len(table), "the flags have to divide the rows, or nothing is tested"
    for part, rows in (("before", np.full(len(table), True)), ("after", clean)):
        assert result[part]["n"] == rows.sum()
        for entry in result[part]["thresholds"]:
            selected = rows & (below <= entry["threshold"])
            assert entry["selected"] == selected.sum()
            assert entry["stable"]["precision"]["hits"] == (selected & (true <= 0)).sum()
            assert entry["as_deep"]["recall"]["n"] == (rows & (true <= entry["threshold"])).sum()
            assert entry["stable"]["prevalence"]["hits"] == (rows & (true <= 0)).sum()
            if selected.any():
                assert entry["errors"]["bias"] == pytest.approx((below - true)[selected].mean())
        assert sum(group["n"] for group in result[part]["by_arity"].values()) == rows.sum()
        assert sum(group["n"] for group in result[part]["by_anion"].values()) == rows.sum()
    assert result["before"]["thresholds"][0]["selected"] > 0
    assert [step["taken_out"] for step in result["in_turn"]] == [None, "known", "hull_incomplete", "out_of_domain"]
    assert result["in_turn"][-1]["n"] == clean.sum() == stages.counts(pairs.backtest)["unflagged"]
    assert sum(result["recalibration"]["halves"]) == len(table)


def test_the_list_is_held_out_too(stages: Stages, pairs: Run) -> None:
    """All held-out rows are listed, and unknown; Al5Cl2, Na9S2 and Mg7CaF count unless they have a held-out pair."""
    table = stages.store.read_table(pairs.backtest).to_pandas()
    held_pairs = {tuple(pair) for pair in note(stages, pairs.held_out, HOLDOUT)["pairs"]}
    assert not table["known"].any()
    without = {
        system for system in ("Al-Cl", "Na-S", "Ca-F-Mg") if not set(combinations(system.split("-"), 2)) & held_pairs
    }
    assert without == {"Na-S", "Ca-F-Mg"}  # Al and Cl are a held-out pair
    expected = [any(set(system.split("-")) <= set(own.split("-")) for system in without) for own in table["chemsys"]]
    assert table["hull_incomplete"].tolist() == expected
    assert 0 < sum(expected) < len(table)
    rows = read_model(pairs.network)[0].domain["training_rows"]
    rare = {element for element, n in rows.items() if n < JUDGING.min_training_rows}
    assert table["out_of_domain"].tolist() == [bool(rare & set(own.split("-"))) for own in table["chemsys"]]


def test_canaries_are_listed_whatever_they_say(stages: Stages, pairs: Run, releases: Run) -> None:
    for run in (pairs, releases):
        canaries = {entry["formula"]: entry for entry in note(stages, run.backtest, RESULT)["canaries"]}
        assert set(canaries) == {"KF6", "NaF8", "OF9", "SeF9", "LiF"}
        assert canaries["KF6"]["out_of_domain"]  # no potassium in this chemistry
        assert canaries["SeF9"]["out_of_domain"]
        hull = load_hull(run.phases)
        for name, entry in canaries.items():
            fractions = parse_many([name]).fractions
            expected = hull.decomposition_energy(fractions, np.array([entry["prediction"]]))[0]
            assert entry["decomposition_energy"] == pytest.approx(expected, abs=1e-9)
            assert {"known", "hull_incomplete", "out_of_domain", "probability_stable"} <= set(entry)
        held = "LiF" in formulas(stages, run.truth)
        assert canaries["LiF"]["held_out"] == held
        assert canaries["LiF"]["known"] == (not held)
        assert ("formation_energy_per_atom" in canaries["LiF"]) == held


def test_the_sides_of_a_cut_in_time(stages: Stages, dated: ArtifactRef, releases: Run) -> None:
    sides = {
        ref: stages.store.read_table(ref).to_pandas() for ref in (dated, releases.training_side, releases.held_out)
    }
    whole, learnt, held = sides.values()
    assert set(learnt["source_version"]) == {"t-1", "t-2"}
    assert set(held["source_version"]) == {"t-10"}
    assert not set(learnt["formula"]) & set(held["formula"])
    assert stages.counts(releases.held_out)["left_out"] == 4  # stated again: known by then
    assert len(learnt) + len(held) + 4 == len(whole)
    table = stages.store.read_table(releases.backtest).to_pandas()
    assert (table["group"] == table["chemsys"]).all()
    assert set(table["source_version"]) == {"t-10"}
    assert not table["hull_incomplete"].any()  # without a list nothing is known to be missing
    named = HoldoutParameters(by="release", releases=("t-1", "t-2"))
    assert formulas(stages, stages.run(hold_out, dated, named, "held_out")) == set(held["formula"])


def test_a_table_of_two_sources_can_be_cut(stages: Stages, tmp_path: Path) -> None:
    """Each source's scheme goes along, so that cleaning can still be told which one is meant."""
    file = tmp_path / "other.parquet"
    stages.tiny.energies.assign(material_id=lambda frame: "x-" + frame["material_id"]).to_parquet(file)
    other = stages.run(ingest, SourceParameters(source=f"file:{file}", database="other", functional="r2scan"))
    both = stages.run(merge_sources, [stages.energies, other])
    side = stages.run(hold_out, both, PAIRS, "training")
    assert not formulas(stages, side) & formulas(stages, stages.run(hold_out, both, PAIRS, "held_out"))
    cleaning = stages.cleaning.model_copy(update={"source": "other"})
    phases = stages.run(clean_phases, side, stages.run(audit_references, side, cleaning), cleaning)
    assert stages.store.manifest(phases).energy_scheme.functional == "r2scan"
    assert formulas(stages, phases) == formulas(stages, side)


def test_the_key_knows_what_matters(stages: Stages, pairs: Run) -> None:
    same = PAIRS.model_copy(update={"earliest": 1})
    assert stages.run(hold_out, stages.energies, same, "held_out") == pairs.held_out
    other = stages.run(hold_out, stages.energies, PAIRS.model_copy(update={"seed": 5}), "held_out")
    assert other.key != pairs.held_out.key
    assert JudgeParameters(thresholds=(-0.1, -0.05)) == JudgeParameters(thresholds=(-0.05, -0.1, -0.1))


def test_the_table_has_its_schema(stages: Stages, pairs: Run) -> None:
    table = stages.store.read_table(pairs.backtest)
    assert table.column_names == SCHEMAS["backtest"].arrow.names
    assert SCHEMAS["backtest"].unit("decomposition_energy_true") == "eV/atom"


def test_what_cannot_be_asked_for(stages: Stages, tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="not both"):
        HoldoutParameters(by="release", releases=("a",), earliest=1)
    with pytest.raises(ValidationError, match="Xx in formula 'Xx2' is no element"):
        JudgeParameters(canaries=("Xx2",))
    with pytest.raises(InputError, match="cannot be the early ones"):
        stages.run(hold_out, stages.energies, HoldoutParameters(by="release"), "training")
