"""Training, ensembles, calibration and cross-validation of the moduli networks, on tiny crystals."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from pymatgen.core import Lattice, Structure
from sklearn.ensemble import HistGradientBoostingRegressor

from models.crystal_attributes import crystal_attributes
from models.crystal_graph import CrystalGraphs, build_graphs
from models.errors import InputError
from models.folds import grouped_folds
from models.kernel_machine import fit_kernel_machine
from models.moduli import ModuliPredictor, train_ensemble, training_rows
from models.moduli_calibration import calibrated_std, ensemble_spread, fit_calibration
from models.moduli_members import train_members
from models.moduli_training import ModuliTraining, train_moduli
from models.moduli_validation import fold_metrics, run_fold

TINY = ModuliTraining(
    epochs=4, batch_size=40, n_convolutions=1, atom_width=8, hidden_width=8, threads=1, learning_rate=1e-2, n_trees=9
)
CATIONS = ["Li", "Na", "K", "Mg", "Ca", "Sr", "Ba", "Zn", "Al", "Ti"]
ANIONS = ["F", "Cl", "O", "S", "N", "H"]


@pytest.fixture(scope="module")
def data() -> tuple[CrystalGraphs, np.ndarray, list[str]]:
    structures, formulas, targets = [], [], []
    for i, cation in enumerate(CATIONS):
        for j, anion in enumerate(ANIONS):
            a = 2.6 + 0.12 * i + 0.15 * j
            structures.append(Structure(Lattice.cubic(a), [cation, anion], [[0, 0, 0], [0.5, 0.5, 0.5]]))
            formulas.append(cation + anion)
            targets.append([3.2 - 0.4 * a, 3.1 - 0.45 * a])
    graphs, _ = build_graphs(structures)
    return graphs, np.array(targets), formulas


def states_equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[k], b[k]) for k in a)


# --- one member


def test_training_learns(data):
    graphs, y, _ = data
    trained = train_members(graphs, y, replace(TINY, epochs=40, n_trees=0, kernel_rows=0), 1)
    history = trained.histories[0]
    assert history[-1]["train_mae"] < 0.25 * history[0]["train_mae"]
    predictor = ModuliPredictor(TINY.network().architecture(), trained.normalisation, trained.states, threads=1)
    prediction = predictor.predict(graphs)
    assert np.abs(prediction.log10_bulk - y[:, 0]).mean() < 0.3 * y[:, 0].std()
    assert prediction.log10_bulk_std is None
    frame = prediction.to_frame()
    assert frame["bulk_modulus_vrh"].to_numpy() == pytest.approx(10**prediction.log10_bulk)
    assert frame["log10_shear_modulus_std"].isna().all()


def test_training_is_deterministic_and_the_seed_matters(data):
    graphs, y, _ = data
    a, b = (train_moduli(graphs, *y.T, TINY) for _ in range(2))
    assert states_equal(a.state, b.state)
    assert a.history == b.history
    other = train_moduli(graphs, *y.T, replace(TINY, seed=1))
    assert not states_equal(a.state, other.state)


@pytest.mark.parametrize("stop", [1, 3])
def test_resumed_run_ends_with_the_same_weights(data, stop):
    graphs, y, _ = data

    class Killed(Exception):
        pass

    kept = []

    def on_epoch(report, capture):
        if report.epoch == stop:
            kept.append(capture())
            raise Killed

    whole = train_moduli(graphs, *y.T, TINY)
    with pytest.raises(Killed):
        train_moduli(graphs, *y.T, TINY, on_epoch=on_epoch)
    assert kept[0].meta["epoch"] == stop
    assert all(isinstance(array, np.ndarray) for array in kept[0].tensors.values())
    resumed = train_moduli(graphs, *y.T, TINY, resume=kept[0])
    assert states_equal(whole.state, resumed.state)
    assert whole.history == resumed.history
    with pytest.raises(InputError, match="other seed"):
        train_moduli(graphs, *y.T, replace(TINY, seed=9), resume=kept[0])
    with pytest.raises(InputError, match="other training rows"):
        train_moduli(graphs, *(y + 0.1).T, TINY, resume=kept[0])


def test_reports_and_loss(data):
    graphs, y, _ = data
    reports = []
    train_moduli(graphs, *y.T, replace(TINY, loss="mse", epochs=2), on_epoch=lambda report, _: reports.append(report))
    assert [r.epoch for r in reports] == [1, 2]
    assert reports[0].validation_error is None
    assert reports[0].train_error > 0


@pytest.mark.parametrize("settings", [{"optimiser": "sgd", "learning_rate": 0.05}, {"optimiser": "adam"}])
def test_another_optimiser_learns_and_resumes(data, settings):
    graphs, y, _ = data
    parameters = replace(TINY, epochs=30, **settings)
    kept = []
    whole = train_moduli(
        graphs, *y.T, parameters, on_epoch=lambda report, capture: kept.append(capture()) if report.epoch == 7 else None
    )
    assert whole.history[-1]["train_mae"] < 0.5 * whole.history[0]["train_mae"]
    assert states_equal(whole.state, train_moduli(graphs, *y.T, parameters, resume=kept[0]).state)
    usual = train_moduli(graphs, *y.T, replace(parameters, optimiser="adamw"))
    assert not states_equal(whole.state, usual.state)


def test_steps_are_as_long_as_they_may_be(data):
    graphs, y, _ = data
    clipped, free = (train_moduli(graphs, *y.T, replace(TINY, clip_norm=norm)).state for norm in (1e-3, None))
    assert not states_equal(clipped, free)
    assert states_equal(free, train_moduli(graphs, *y.T, replace(TINY, clip_norm=1e9)).state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"patience": 5}, "leave patience as it is"),
        ({"precision": "bf16"}, "leave precision as it is"),
        ({"min_steps": 100}, "leave min_steps as it is"),
        ({"n_convolutions": 0}, "at least 1 as n_convolutions"),
        ({"atom_width": 2.5}, "at least 1 as atom_width"),
    ],
)
def test_settings_without_a_meaning_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        replace(TINY, **change)


def test_bad_targets_are_refused(data):
    graphs, y, _ = data
    with pytest.raises(InputError, match="as many moduli"):
        train_moduli(graphs, y[:5, 0], y[:5, 1], TINY)
    with pytest.raises(InputError, match="without a logarithm"):
        train_moduli(graphs, y[:, 0], np.full(len(y), np.nan), TINY)
    with pytest.raises(InputError, match="constant"):
        train_moduli(graphs, y[:, 0], np.ones(len(y)), TINY)
    with pytest.raises(InputError, match="one of mae"):
        replace(TINY, loss="huber")


def test_divergence_ends_with_a_remedy(data):
    graphs, y, _ = data
    with pytest.raises(InputError, match="lower learning_rate"):
        train_moduli(graphs, *y.T, replace(TINY, learning_rate=1e30, warmup=0.0))


# --- ensembles


@pytest.fixture(scope="module")
def ensemble(data):
    graphs, y, formulas = data
    called = []
    trained = train_ensemble(
        graphs, *y.T, formulas, TINY, n_members=2, calibration_folds=3, on_member=lambda m: called.append(m) or {}
    )
    assert called == [0, 1]
    return trained


def test_ensemble_has_members_that_differ_and_a_calibration(ensemble, data):
    graphs, *_ = data
    assert len(ensemble.members) == len(ensemble.histories) == 2
    assert not states_equal(*ensemble.members)
    assert ensemble.calibration["n"] == 20
    predictor = ensemble.predictor(threads=1)
    members = predictor.predict_members(graphs)
    assert members.shape == (6, 60, 2)  # networks, trees and kernel machines of two members
    prediction = predictor.predict(graphs)
    mean = 0.5 * (members[:2].mean(axis=0) + members[2:].mean(axis=0))
    assert prediction.log10_bulk == pytest.approx(mean[:, 0])
    expected = calibrated_std(ensemble_spread(members), ensemble.calibration, (60, 2))
    assert prediction.log10_shear_std == pytest.approx(expected[:, 1])
    assert (prediction.log10_bulk_std >= ensemble.calibration["floor"][0]).all()


def test_prediction_is_independent_of_the_other_rows(ensemble, data):
    graphs, *_ = data
    predictor = ensemble.predictor(threads=1)
    whole, part = predictor.predict(graphs), predictor.predict(graphs.select([7, 3]))
    assert part.log10_bulk == pytest.approx(whole.log10_bulk[[7, 3]], abs=1e-5)
    assert part.log10_shear_std == pytest.approx(whole.log10_shear_std[[7, 3]], abs=1e-5)
    assert len(predictor.predict(graphs.select([])).log10_bulk) == 0


def test_trees_learn_moduli_times_a_power_of_the_volume(ensemble, data):
    """Their predictions are those of scikit-learn's trees, less the volume."""
    graphs, y, formulas = data
    learned = np.flatnonzero(grouped_folds(formulas, 3) != 0)
    term = 5 / 3 * np.log10([structure_volume / 2 for structure_volume in graphs.volumes])
    said = ensemble.predictor(threads=1).predict_members(graphs)
    x = crystal_attributes(graphs)
    for member, target in itertools.product(range(2), range(2)):
        wanted = y[learned, target] + term[learned]
        oracle = HistGradientBoostingRegressor(
            max_iter=9, learning_rate=0.02, max_leaf_nodes=12, min_samples_leaf=8, l2_regularization=1.0,
            max_features=0.3, early_stopping=False, random_state=member,
        ).fit(x[learned], wanted)  # fmt: skip
        assert said[2 + member, :, target] == pytest.approx(oracle.predict(x) - term, abs=1e-12)
        machine = fit_kernel_machine(x[learned], wanted, seed=member)
        assert said[4 + member, :, target] == pytest.approx(machine.predict(x) - term, abs=1e-12)


def test_networks_alone(data):
    graphs, y, _ = data
    alone, both = (train_members(graphs, y, replace(TINY, n_trees=n, kernel_rows=n), 1) for n in (0, 30))
    assert {name for name in both.states[0] if not name.startswith(("trees.", "kernel."))} == set(alone.states[0])
    assert states_equal(alone.states[0], {name: both.states[0][name] for name in alone.states[0]})
    predictor = ModuliPredictor(TINY.network().architecture(), alone.normalisation, alone.states, threads=1)
    assert predictor.predict_members(graphs).shape == (1, 60, 2)
    with pytest.raises(InputError, match="at least 0 as n_trees"):
        replace(TINY, n_trees=-1)
    with pytest.raises(InputError, match="nothing from one row"):
        replace(TINY, kernel_rows=1)


def test_constant_moduli(data):
    """Times the volume they would not be constant."""
    graphs, y, _ = data
    with pytest.raises(InputError, match="constant moduli"):
        train_members(graphs, np.column_stack([y[:, 0], np.full(60, 1.5)]), TINY, 1)


def test_uncalibrated_ensemble_reports_its_spread(ensemble, data):
    predictor = ModuliPredictor(ensemble.architecture, ensemble.normalisation, ensemble.members, threads=1)
    spread = ensemble_spread(predictor.predict_members(data[0]))
    assert predictor.predict(data[0]).log10_bulk_std == pytest.approx(spread[:, 0])


def test_predictor_refuses_foreign_models(ensemble):
    with pytest.raises(InputError, match="at least one member"):
        ModuliPredictor(ensemble.architecture, ensemble.normalisation, [])
    with pytest.raises(InputError, match="another architecture"):
        ModuliPredictor(TINY.network().architecture(), ensemble.normalisation, [{"x": np.zeros(2)}])
    for prefix in ("trees.1.", "kernel.0."):
        state = {
            name: array
            for name, array in ensemble.members[0].items()
            if name != f"{prefix}{'roots' if 'trees' in prefix else 'gamma'}"
        }
        with pytest.raises(InputError, match="lacks the arrays"):
            ModuliPredictor(ensemble.architecture, ensemble.normalisation, [state])
    elemnet = {"name": "elemnet", "parameters": {"widths": [4, 1]}}
    with pytest.raises(InputError, match="does not read crystal graphs"):
        ModuliPredictor(elemnet, ensemble.normalisation, ensemble.members)


# --- calibration


def test_calibration_recovers_floor_and_scale():
    rng = np.random.default_rng(0)
    n = 6000
    spread = rng.gamma(2, 0.05, (n, 2))
    std = np.sqrt(np.array([0.08, 0.15]) ** 2 + (np.array([2.0, 1.0]) * spread) ** 2)
    targets = rng.normal(0, 1, (n, 2))
    calibration = fit_calibration(targets + std * rng.normal(0, 1, (n, 2)), spread, targets)
    assert calibration["floor"] == pytest.approx([0.08, 0.15], rel=0.12)
    assert calibration["scale"] == pytest.approx([2.0, 1.0], rel=0.12)
    assert calibration["coverage_90"] == pytest.approx([0.9, 0.9], abs=0.02)
    assert calibration["correlation"] == pytest.approx(0, abs=0.05)


def test_calibration_of_a_single_member_is_the_residual():
    rng = np.random.default_rng(0)
    common = rng.normal(0, 0.1, 500)
    residual = np.stack([common, 2 * common], axis=1)
    calibration = fit_calibration(residual, None, np.zeros((500, 2)))
    assert calibration["floor"] == pytest.approx([0.1, 0.2], rel=0.1)
    assert calibration["scale"] == [0, 0]
    assert calibration["correlation"] == pytest.approx(1)
    assert ensemble_spread(np.zeros((1, 3, 2))) is None
    assert (calibrated_std(None, calibration, (3, 2)) == np.array(calibration["floor"])).all()


def test_too_few_rows_cannot_calibrate():
    with pytest.raises(InputError, match="19 rows cannot calibrate"):
        fit_calibration(np.zeros((19, 2)), None, np.zeros((19, 2)))


# --- folds and cross-validation


def test_folds_never_split_a_formula_and_do_not_depend_on_the_order():
    rng = np.random.default_rng(0)
    groups = np.array([f"A{i}" for i in rng.integers(0, 150, 600)])
    folds = grouped_folds(groups.tolist(), 5, seed=3)
    assert (pd.Series(folds).groupby(groups).nunique() == 1).all()
    assert np.ptp(np.bincount(folds)) <= 2
    order = rng.permutation(600)
    assert np.array_equal(grouped_folds(groups[order].tolist(), 5, seed=3), folds[order])
    assert not np.array_equal(grouped_folds(groups.tolist(), 5, seed=4), folds)
    with pytest.raises(InputError, match="2 formulas cannot make 3 folds"):
        grouped_folds(["a", "b", "a"], 3)
    with pytest.raises(InputError, match="folds"):
        grouped_folds(["a", "b"], 1)


def test_cross_validation(data):
    graphs, y, formulas = data
    folds = grouped_folds(formulas, 2)
    trainable = np.ones(60, dtype=bool)
    trainable[:5] = False
    results = [
        run_fold(
            graphs,
            y,
            folds,
            fold,
            replace(TINY, epochs=2, n_trees=3 - 3 * fold, kernel_rows=30 - 30 * fold),
            n_members=2 - fold,
            trainable=trainable,
        )
        for fold in range(2)
    ]
    assert np.array_equal(np.sort(np.concatenate([r.rows for r in results])), np.arange(60))
    assert (results[0].spread > 0).all()
    assert (results[1].spread == 0).all()
    report = fold_metrics(results, y)
    bulk = report["log10_bulk_modulus"]
    assert bulk["rmse"] == pytest.approx(np.mean([fold["rmse"] for fold in bulk["folds"]]))
    residual = np.concatenate([y[r.rows, 0] - r.mean[:, 0] for r in results])
    assert bulk["out_of_fold_residual_std"] == pytest.approx(np.sqrt(np.mean(residual**2)))


# --- rows to train on


def test_training_rows():
    unstable = np.diag([10.0, 10, 10, -3, 3, 3]).tolist()
    table = pd.DataFrame(
        {
            "bulk_modulus_vrh": [50, -1, 50, 50, np.nan],
            "shear_modulus_vrh": [20, 20, 20, 20, 20],
            "elastic_tensor": [np.eye(6).tolist(), None, unstable, None, None],
        }
    )
    reasons = training_rows(table)
    assert [r is None for r in reasons] == [True, False, False, True, False]
    assert "positive definite" in reasons[2]
    assert training_rows(table, require_positive_definite=False)[2] is None
    assert training_rows(table.drop(columns="elastic_tensor"))[2] is None
