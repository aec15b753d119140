"""Networks at work: their mean, their spread, their classes, against hand-computed values and the fast predictor."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.errors import InputError
from models.network_ensemble import BATCH_ROWS, NetworkEnsemble
from models.predictor import Predictor
from models.registry import build
from models.training_state import to_array

ROWS = np.random.default_rng(0).dirichlet(np.ones(5), size=40).astype(np.float32)
ONE_SCALE = {"mean": [-2.0], "std": [0.5]}


def elemnet(*widths: int, **parameters: Any) -> dict[str, Any]:
    return {"name": "elemnet", "parameters": {"n_features": 5, "widths": list(widths), **parameters}}


def weights(architecture: dict[str, Any], seed: int = 0) -> dict[str, NDArray[Any]]:
    torch.manual_seed(seed)
    return {name: to_array(tensor) for name, tensor in build(architecture).state_dict().items()}


def constant(*values: float) -> dict[str, NDArray[np.float32]]:
    """Weights of a network whose outputs are these, whatever it reads."""
    return {
        "layers.0.weight": np.zeros((len(values), 5), np.float32),
        "layers.0.bias": np.array(values, dtype=np.float32),
    }


# --- means and spreads


def test_outputs_are_scaled_by_hand() -> None:
    ensemble = NetworkEnsemble(elemnet(2), {"mean": [10.0, -1.0], "std": [2.0, 0.5]}, [constant(3.0, 4.0)])
    said = ensemble.predict(ROWS[:2])
    assert said.mean.tolist() == [[16.0, 1.0]] * 2
    assert said.std is None  # one network that states no uncertainty


def test_a_predicted_scale_is_in_the_targets_unit() -> None:
    said = NetworkEnsemble(elemnet(2), ONE_SCALE, [constant(1.0, math.log(3.0))]).predict(ROWS[:3])
    assert said.mean[:, 0] == pytest.approx([-1.5] * 3)
    assert said.std is not None
    assert said.std[:, 0] == pytest.approx([1.5] * 3)


def test_variances_of_members_and_scales_add_up() -> None:
    """Means 0, 0.5 and 1 after scaling, their variance 0.25; scales 0.5, 0.5 and 1, their mean square 0.5."""
    members = [constant(0.0, 0.0), constant(1.0, 0.0), constant(2.0, math.log(2.0))]
    said = NetworkEnsemble(elemnet(2), {"mean": [0.0], "std": [0.5]}, members).predict(ROWS[:1])
    assert said.std is not None
    assert said.mean[0, 0] == pytest.approx(0.5)
    assert said.std[0, 0] == pytest.approx(math.sqrt(0.25 + 0.5))


def test_an_ensemble_spreads_as_its_members_do() -> None:
    architecture = elemnet(8, 2)
    scale = {"mean": [1.0, -3.0], "std": [2.0, 0.1]}
    members = [weights(architecture, seed) for seed in range(4)]
    single = np.stack([NetworkEnsemble(architecture, scale, [member]).predict(ROWS).mean for member in members])
    said = NetworkEnsemble(architecture, scale, members).predict(ROWS)
    assert said.std is not None
    assert said.mean.shape == said.std.shape == (len(ROWS), 2)
    np.testing.assert_allclose(said.mean, single.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(said.std, single.std(axis=0, ddof=1), rtol=1e-12)
    assert said.std.min() > 0


@pytest.mark.parametrize("outputs", [1, 2])
@pytest.mark.parametrize("engine", ["auto", "eager"])
def test_the_predictor_says_the_same_of_the_energy(outputs: int, engine: str) -> None:
    """A second output, the logarithm of a scale, has no place in an energy."""
    architecture = elemnet(16, 8, outputs)
    members = [weights(architecture, seed) for seed in range(2)]
    said = NetworkEnsemble(architecture, ONE_SCALE, members).predict(ROWS)
    predictor = Predictor(architecture, ONE_SCALE, members, batch_size=16, engine=engine)
    mean, spread = predictor.predict(ROWS)
    np.testing.assert_allclose(said.mean[:, 0], mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(said.mean[:, 0], predictor.precise(ROWS), rtol=1e-5, atol=1e-6)
    assert spread is not None
    if outputs == 1:
        assert said.std is not None
        np.testing.assert_allclose(said.std[:, 0], spread, rtol=1e-3, atol=1e-6)


def test_every_module_is_trimmed_by_the_predictor() -> None:
    architecture = {"name": "residual", "parameters": {"n_features": 5, "widths": [8, 8], "n_outputs": 2}}
    member = weights(architecture)
    said = NetworkEnsemble(architecture, ONE_SCALE, [member]).predict(ROWS)
    predictor = Predictor(architecture, ONE_SCALE, [member], batch_size=16)
    np.testing.assert_allclose(said.mean[:, 0], predictor.predict(ROWS)[0], rtol=1e-5, atol=1e-6)


def test_bits_do_not_depend_on_how_many_rows_come_together() -> None:
    architecture = elemnet(16, 1)
    ensemble = NetworkEnsemble(architecture, ONE_SCALE, [weights(architecture)])
    x = np.tile(ROWS, (BATCH_ROWS // len(ROWS) + 1, 1))
    whole = ensemble.predict(x).mean
    assert len(x) > BATCH_ROWS
    assert np.array_equal(whole[:BATCH_ROWS], ensemble.predict(x[:BATCH_ROWS]).mean)
    assert np.array_equal(whole[BATCH_ROWS:], ensemble.predict(x[BATCH_ROWS:]).mean)
    assert np.array_equal(whole[:3], ensemble.predict(x[:3]).mean)


def test_no_rows_are_no_predictions() -> None:
    assert NetworkEnsemble(elemnet(1), ONE_SCALE, [constant(1.0)]).predict(ROWS[:0]).mean.shape == (0, 1)


# --- classes


def test_probabilities_are_averaged() -> None:
    members = [constant(0.0, math.log(3.0)), constant(math.log(4.0), 0.0)]  # probabilities 0.75 and 0.2 of class 1
    said = NetworkEnsemble(elemnet(2), {"mean": [], "std": []}, members).predict(ROWS[:4])
    assert said.std is None
    np.testing.assert_allclose(said.mean, [[1 - 0.475, 0.475]] * 4, rtol=1e-6)


# --- dropout that stays on

DROPPING = elemnet(64, 1, dropout=[0.8], dropout_after=[1])
"""One hidden layer whose units are kept with 0.8: mean and variance of the output follow by hand."""


def dropping(passes: int, seed: int = 0, member: int = 0) -> NetworkEnsemble:
    return NetworkEnsemble(DROPPING, ONE_SCALE, [weights(DROPPING, member)], passes=passes, seed=seed)


def test_dropout_averages_to_the_network_and_spreads_as_it_should() -> None:
    passes = 600
    said, plain = dropping(passes).predict(ROWS), dropping(0).predict(ROWS)
    assert plain.std is None
    assert said.std is not None
    member = weights(DROPPING)
    hidden = np.maximum(ROWS * 16.0 @ member["layers.0.weight"].T + member["layers.0.bias"], 0.0)
    # a kept unit is divided by 0.8, so that its variance is that of a coin times (1 - 0.8) / 0.8
    variance = (hidden * member["layers.1.weight"]) ** 2 @ np.full(64, 0.2 / 0.8)
    expected = 0.5 * np.sqrt(variance)
    np.testing.assert_allclose(said.std[:, 0], expected, rtol=0.15)
    distance = np.abs(said.mean - plain.mean)[:, 0] / (expected / math.sqrt(passes))
    assert distance.max() < 5.0
    few = np.abs(dropping(2).predict(ROWS).mean - plain.mean).mean()
    assert np.abs(said.mean - plain.mean).mean() < 0.3 * few


def test_dropout_follows_its_seed_alone() -> None:
    ensemble = dropping(3)
    torch.manual_seed(11)
    expected = torch.rand(2)
    torch.manual_seed(11)
    first = ensemble.outputs(ROWS)
    assert torch.equal(torch.rand(2), expected)  # the caller's random numbers are left alone
    assert first.shape == (3, len(ROWS), 1)
    assert np.array_equal(first, ensemble.outputs(ROWS))
    assert np.array_equal(first, dropping(3).outputs(ROWS))
    assert not np.array_equal(first, dropping(3, seed=1).outputs(ROWS))
    assert not np.array_equal(first[0], first[1])


def test_what_is_dropped_does_not_depend_on_the_rows_that_follow() -> None:
    x = np.tile(ROWS, (BATCH_ROWS // len(ROWS) + 1, 1))
    ensemble = dropping(2)
    whole = ensemble.outputs(x)
    assert np.array_equal(whole[:, :7], ensemble.outputs(x[:7]))
    assert np.array_equal(whole[:, :BATCH_ROWS], ensemble.outputs(x[:BATCH_ROWS]))
    assert not np.array_equal(whole[:, : len(x) - BATCH_ROWS], whole[:, BATCH_ROWS:])  # batches drop something else


def test_members_and_passes_are_pooled() -> None:
    members = [weights(DROPPING, seed) for seed in range(2)]
    ensemble = NetworkEnsemble(DROPPING, ONE_SCALE, members, passes=3)
    outputs = ensemble.outputs(ROWS)
    assert outputs.shape == (6, len(ROWS), 1)
    said = ensemble.predict(ROWS)
    assert said.std is not None
    values = outputs[:, :, 0].astype(np.float64) * 0.5 - 2.0
    np.testing.assert_allclose(said.mean[:, 0], values.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(said.std[:, 0], values.std(axis=0, ddof=1), rtol=1e-9)


def test_attention_drops_too() -> None:
    parameters = {"width": 8, "n_layers": 1, "n_heads": 2, "head_width": 8}
    x = np.zeros((3, 86), dtype=np.float32)
    x[:, [2, 7]] = 0.5
    made = {"name": "attention", "parameters": parameters}
    with pytest.raises(InputError, match="no dropout"):  # its layers of dropout drop nothing by default
        NetworkEnsemble(made, ONE_SCALE, [weights(made)], passes=2)
    dropped = {"name": "attention", "parameters": parameters | {"dropout": 0.5}}
    member = {name: array + 0.1 for name, array in weights(dropped).items()}  # no layer is the identity
    said = NetworkEnsemble(dropped, ONE_SCALE, [member], passes=4).predict(x)
    assert said.std is not None
    assert said.std.min() > 0


@pytest.mark.parametrize("architecture", [elemnet(8, 1), elemnet(8, 1, dropout=[1.0], dropout_after=[1])])
def test_without_dropout_there_are_no_passes(architecture: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="leave the number of passes at 0"):
        NetworkEnsemble(architecture, ONE_SCALE, [weights(architecture)], passes=5)


# --- what does not fit


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(InputError, match="no members"):
        NetworkEnsemble(elemnet(1), ONE_SCALE, [])
    with pytest.raises(InputError, match="another architecture"):
        NetworkEnsemble(elemnet(8, 1), ONE_SCALE, [constant(1.0)])
    with pytest.raises(InputError, match="3 outputs does not fit 1 target"):
        NetworkEnsemble(elemnet(3), ONE_SCALE, [constant(1.0, 2.0, 3.0)]).predict(ROWS)
    ensemble = NetworkEnsemble(elemnet(1), ONE_SCALE, [constant(1.0)])
    with pytest.raises(InputError, match=r"rows \(n, 5\), got shape \(40, 4\)"):
        ensemble.predict(ROWS[:, :4])
    with pytest.raises(InputError, match=r"got shape \(5,\)"):
        ensemble.predict(ROWS[0])
    with pytest.raises(InputError, match="NaN or infinite"):
        ensemble.predict(ROWS * np.nan)


def test_columns_that_the_card_does_not_state_are_the_networks() -> None:
    architecture = {"name": "residual", "parameters": {"widths": [4]}}
    ensemble = NetworkEnsemble(architecture, ONE_SCALE, [weights(architecture)])
    assert ensemble.n_features == 145
