"""The predictor: the network's values, whatever the engine and however the rows are cut."""

from __future__ import annotations

import itertools
import logging
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models import inference
from models.elemnet import ElemNet
from models.errors import InputError
from models.inference import DenseLayer, dense_chain
from models.predictor import Predictor
from models.registry import ARCHITECTURES

ARCHITECTURE: dict[str, Any] = {"name": "elemnet", "parameters": {"n_features": 7, "widths": [96, 64, 33, 1]}}
NORMALISATION = {"mean": [-0.4], "std": [0.8]}


def engines_here() -> list[str]:
    """All engines that this machine has."""
    with_onednn = ["auto", "onednn", "eager"]
    try:
        Predictor(ARCHITECTURE, NORMALISATION, [member(0)], engine="onednn")
    except InputError:
        with_onednn.remove("onednn")
    return with_onednn


class Doubling(torch.nn.Module):
    """A network that is no dense chain."""

    def __init__(self, n_features: int = 86) -> None:
        super().__init__()
        self.factor = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.factor * x.sum(dim=1, keepdim=True)


def member(seed: int, architecture: dict[str, Any] = ARCHITECTURE) -> dict[str, NDArray[Any]]:
    torch.manual_seed(seed)
    return {k: v.numpy() for k, v in ElemNet(**architecture["parameters"]).state_dict().items()}


ENGINES_HERE = engines_here()


def raw(weights: dict[str, NDArray[Any]], x: NDArray[np.float32]) -> NDArray[np.float64]:
    """The network itself, in fp64, normalisation undone."""
    network = ElemNet(**ARCHITECTURE["parameters"])
    network.load_state_dict({k: torch.tensor(v) for k, v in weights.items()})
    h = torch.from_numpy(x).double() * network.input_scale
    layers = network.double().dense_layers
    with torch.no_grad():
        for layer in layers[:-1]:
            h = layer(h).relu()
        return (layers[-1](h)[:, 0] * 0.8 - 0.4).numpy()


@pytest.fixture(scope="module")
def x() -> NDArray[np.float32]:
    return np.random.default_rng(1).dirichlet(np.full(7, 0.3), size=333).astype(np.float32)


@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_gives_the_networks_values_in_the_targets_unit(x: NDArray[np.float32], engine: str) -> None:
    predictor = Predictor(ARCHITECTURE, NORMALISATION, [member(0)], batch_size=64, engine=engine)
    mean, std = predictor.predict(x)
    assert mean.dtype == np.float32
    assert std is None
    assert mean == pytest.approx(raw(member(0), x), abs=2e-6)


def test_ensemble_mean_and_standard_deviation(x: NDArray[np.float32]) -> None:
    members = [member(seed) for seed in range(3)]
    predictor = Predictor(ARCHITECTURE, NORMALISATION, members, batch_size=64)
    mean, std = predictor.predict(x)
    values = np.stack([raw(m, x) for m in members])
    assert predictor.n_members == 3
    assert mean == pytest.approx(values.mean(axis=0), abs=2e-6)
    assert std is not None
    assert std == pytest.approx(values.std(axis=0, ddof=1), abs=2e-6)


def test_reference_correction_lowers_the_energy_by_fraction_times_correction(x: NDArray[np.float32]) -> None:
    correction = np.array([0.0, 0.66, 0.0, 0.0, 0.08, 0.0, 0.0])
    plain = Predictor(ARCHITECTURE, NORMALISATION, [member(0)]).predict(x)[0]
    corrected = Predictor(ARCHITECTURE, NORMALISATION, [member(0)], reference_correction=correction).predict(x)[0]
    assert corrected == pytest.approx(plain - x.astype(np.float64) @ correction, abs=1e-6)
    untouched = Predictor(ARCHITECTURE, NORMALISATION, [member(0)], reference_correction=np.zeros(7)).predict(x)[0]
    assert untouched.tobytes() == plain.tobytes()


ALL = np.random.default_rng(2).dirichlet(np.full(7, 0.3), size=200).astype(np.float32)
ENSEMBLE = {
    engine: Predictor(
        ARCHITECTURE,
        NORMALISATION,
        [member(0), member(1)],
        batch_size=48,
        engine=engine,
        reference_correction=np.linspace(0, 1, 7),
    )
    for engine in ENGINES_HERE
}


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 200), max_size=6), st.sampled_from(ENGINES_HERE))
def test_values_do_not_depend_on_how_a_range_is_cut(cuts: list[int], engine: str) -> None:
    predictor = ENSEMBLE[engine]
    whole_mean, whole_std = predictor.predict(ALL)
    assert whole_std is not None
    bounds = [0, *sorted(cuts), 200]
    parts = [predictor.predict(ALL[a:b], position=a) for a, b in itertools.pairwise(bounds)]
    assert np.concatenate([mean for mean, _ in parts]).tobytes() == whole_mean.tobytes()
    assert np.concatenate([std for _, std in parts if std is not None]).tobytes() == whole_std.tobytes()


@pytest.mark.parametrize("engine", ENGINES_HERE)
def test_values_do_not_depend_on_the_other_rows_of_a_batch(engine: str) -> None:
    predictor = ENSEMBLE[engine]
    whole = predictor.predict(ALL)[0]
    for row in (0, 47, 48, 113, 199):
        assert predictor.predict(ALL[row : row + 1], position=row)[0][0] == whole[row]


def test_published_network_gives_the_same_bits_for_any_cut() -> None:
    architecture: dict[str, Any] = {"name": "elemnet", "parameters": {}}
    predictor = Predictor(architecture, NORMALISATION, [member(0, architecture)])
    rng = np.random.default_rng(3)
    x = np.zeros((2500, 86), dtype=np.float32)
    for row in x:
        row[rng.choice(86, 4, replace=False)] = rng.dirichlet(np.ones(4))
    whole = predictor.predict(x, position=700)[0]
    bounds = [0, 1, 324, 1000, 1348, 2500]
    parts = [predictor.predict(x[a:b], position=700 + a)[0] for a, b in itertools.pairwise(bounds)]
    assert np.concatenate(parts).tobytes() == whole.tobytes()


def test_no_rows_give_no_values() -> None:
    mean, std = ENSEMBLE["eager"].predict(np.zeros((0, 7)))
    assert mean.shape == (0,)
    assert std is not None
    assert std.shape == (0,)


def test_the_input_is_left_alone_and_may_be_fp64() -> None:
    rows = ALL.astype(np.float64)
    before = rows.copy()
    assert ENSEMBLE["auto"].predict(rows)[0].tobytes() == ENSEMBLE["auto"].predict(ALL)[0].tobytes()
    assert np.array_equal(rows, before)


def test_folding_is_exact_for_a_power_of_two() -> None:
    network = ElemNet(2, (2, 1), input_scale=4.0)
    chain = dense_chain(network, mean=0.5, std=2.0)
    assert torch.equal(chain[0].weight, network.dense_layers[0].weight * 4.0)
    assert torch.equal(chain[1].weight, network.dense_layers[1].weight * 2.0)
    assert chain[1].bias.item() == 0.5
    assert [layer.relu for layer in chain] == [True, False]


def test_other_networks_run_as_they_are(monkeypatch: pytest.MonkeyPatch, x: NDArray[np.float32]) -> None:
    monkeypatch.setattr("models.registry.ARCHITECTURES", {**ARCHITECTURES, "doubling": f"{__name__}:Doubling"})
    monkeypatch.setattr("importlib.import_module", lambda name: __import__("types").SimpleNamespace(Doubling=Doubling))
    architecture = {"name": "doubling", "parameters": {"n_features": 7}}
    predictor = Predictor(architecture, NORMALISATION, [{"factor": np.array(2.0, dtype=np.float32)}], batch_size=50)
    assert predictor.engine == "eager"
    assert predictor.predict(x)[0] == pytest.approx(2.0 * 0.8 - 0.4, abs=1e-6)


def unavailable(chain: list[DenseLayer], batch: int) -> Any:
    raise NotImplementedError("no such operator\nwith a long explanation")


def wrong(chain: list[DenseLayer], batch: int) -> Any:
    return lambda x: torch.zeros(len(x))


def not_a_number(chain: list[DenseLayer], batch: int) -> Any:
    return lambda x: torch.full((len(x),), torch.nan)


@pytest.mark.parametrize("kernel", [unavailable, wrong, not_a_number])
def test_falls_back_to_torch_where_onednn_fails_or_disagrees(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, x: NDArray[np.float32], kernel: Any
) -> None:
    expected = Predictor(ARCHITECTURE, NORMALISATION, [member(0)], engine="eager").predict(x)[0]
    monkeypatch.setattr(inference, "_prepacked_function", kernel)
    monkeypatch.setattr(inference, "_onednn_is_faster", lambda: True)
    with caplog.at_level(logging.INFO):
        predictor = Predictor(ARCHITECTURE, NORMALISATION, [member(0)])
    assert predictor.engine == "eager"
    assert "torch's own layers are used" in caplog.text
    assert predictor.predict(x)[0].tobytes() == expected.tobytes()
    with pytest.raises(InputError, match="use engine eager"):
        Predictor(ARCHITECTURE, NORMALISATION, [member(0)], engine="onednn")


def test_all_members_take_one_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = inference._prepacked_function

    def second_fails(chain: list[DenseLayer], batch: int) -> Any:
        calls.append(batch)
        if len(calls) == 2:
            raise RuntimeError("out of memory")
        return real(chain, batch)

    monkeypatch.setattr(inference, "_prepacked_function", second_fails)
    monkeypatch.setattr(inference, "_onednn_is_faster", lambda: True)
    assert Predictor(ARCHITECTURE, NORMALISATION, [member(0), member(1)]).engine == "eager"
    assert calls == [1024, 1024]


@pytest.mark.parametrize(
    ("machine", "avx512", "engine"),
    [("x86_64", True, "onednn"), ("AMD64", False, "eager"), ("aarch64", False, "onednn")],
)
def test_the_processor_and_not_the_clock_chooses_the_engine(
    monkeypatch: pytest.MonkeyPatch, machine: str, avx512: bool, engine: str
) -> None:
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.cpu._is_avx512_supported", lambda: avx512)
    assert inference._onednn_is_faster() is (engine == "onednn")
    layers = [lambda x: x[:, :1]]  # in place of the kernel, which not every machine has
    monkeypatch.setattr(inference, "_prepacked_function", lambda chain, batch: inference.chained(layers))
    monkeypatch.setattr(inference, "_deviation", lambda *arguments: 0.0)
    assert Predictor(ARCHITECTURE, NORMALISATION, [member(0)]).engine == engine


def test_torchs_layers_are_not_taken_where_places_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inference, "_onednn_is_faster", lambda: False)
    monkeypatch.setattr(inference, "_PLACE_FREE", {})
    monkeypatch.setattr(inference, "place_free", lambda function, batch, n_features: batch != 40)
    monkeypatch.setattr(inference, "_prepacked_function", lambda chain, batch: lambda x: x[:, 0])
    monkeypatch.setattr(inference, "_deviation", lambda *arguments: 0.0)
    engines = [Predictor(ARCHITECTURE, NORMALISATION, [member(0)], batch_size=n).engine for n in (40, 48)]
    assert engines == ["onednn", "eager"]


def test_building_leaves_the_callers_random_numbers_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(2)
    weights = member(0)
    torch.manual_seed(5)
    Predictor(ARCHITECTURE, NORMALISATION, [weights])
    assert torch.equal(torch.rand(2), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": []}, "no members"),
        ({"members": [{"layers.0.weight": np.zeros((2, 7))}]}, "another architecture"),
        ({"normalisation": {"mean": [0.0]}}, "one mean and one std"),
        ({"normalisation": {"mean": [0.0, 1.0], "std": [1.0, 1.0]}}, "one mean and one std"),
        ({"normalisation": {"mean": [0.0], "std": [0.0]}}, "not usable"),
        ({"reference_correction": np.zeros(86)}, "7 finite values"),
        ({"reference_correction": np.full(7, np.nan)}, "7 finite values"),
        ({"batch_size": 0}, "batch_size"),
        ({"engine": "mkl"}, "auto, onednn, eager"),
    ],
)
def test_unusable_models_are_refused(arguments: dict[str, Any], message: str) -> None:
    arguments = {"architecture": ARCHITECTURE, "normalisation": NORMALISATION, "members": [member(0)], **arguments}
    with pytest.raises(InputError, match=message):
        Predictor(**arguments)


def test_unusable_rows_are_refused() -> None:
    with pytest.raises(InputError, match=r"\(n, 7\)"):
        ENSEMBLE["auto"].predict(np.zeros((3, 86)))
    with pytest.raises(InputError, match="NaN"):
        ENSEMBLE["auto"].predict(np.full((3, 7), np.nan))
