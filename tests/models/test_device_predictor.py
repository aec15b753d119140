"""Networks on a device: the host's energies, and survivors that no sieve and no cut of the range changes.

The device is the processor here; one test asks for a GPU.
"""

from __future__ import annotations

import dataclasses
import threading
from functools import cache

import numpy as np
import pytest
import torch

from models import device_predictor
from models.cascade import Band, measure_band
from models.device_predictor import FP16, DevicePredictor
from models.elemnet import ElemNet
from models.errors import InputError
from models.hull import PhaseHull
from models.predictor import Predictor
from models.screening import ScreenBlock, composition_fractions, screen_range
from models.space import CompositionSpace

SPACE = CompositionSpace(("Li", "O", "Fe", "F", "S"), (2, 3), 7)
WIDTHS = (128, 96, 32, 1)
CORRECTION = np.zeros(86)
CORRECTION[[2, 7]] = 0.3, -0.1


@cache
def network(seed: int) -> ElemNet:
    torch.manual_seed(seed)
    return ElemNet(widths=WIDTHS).eval()


def host(n_members: int = 1) -> Predictor:
    members = [{k: v.numpy().copy() for k, v in network(seed).state_dict().items()} for seed in range(n_members)]
    return Predictor(
        {"name": "elemnet", "parameters": {"widths": list(WIDTHS)}},
        {"mean": [-1.2], "std": [0.8]},
        members,
        reference_correction=CORRECTION,
        batch_size=32,
        engine="eager",
    )


def device(n_members: int = 1, **options: int) -> DevicePredictor:
    return DevicePredictor(host(n_members), "cpu", sieve_rows=options.get("sieve_rows", 64))


@cache
def hull() -> PhaseHull:
    known = SPACE.unrank(np.arange(0, len(SPACE), 7))
    energies = np.random.default_rng(0).normal(-1.5, 0.5, len(known))
    return PhaseHull(composition_fractions(known.elements, known.counts), energies)


def dense(index: np.ndarray) -> np.ndarray:
    found = SPACE.unrank(index)
    return composition_fractions(found.elements, found.counts).astype(np.float32)


def columns(block: ScreenBlock) -> dict[str, bytes | None]:
    values = {f.name: getattr(block, f.name) for f in dataclasses.fields(block)}
    return {k: v.tobytes() if isinstance(v, np.ndarray) else repr(v).encode() for k, v in values.items()}


def band(predictor: DevicePredictor) -> Band:
    return measure_band(predictor, SPACE, composition_fractions, FP16)


@pytest.mark.parametrize("n_members", [1, 3])
def test_energies_are_those_of_the_host(n_members: int) -> None:
    index = np.arange(5, 140)
    ours, theirs = device(n_members), host(n_members)
    mean, std = ours.predict(ours.rows(SPACE, 5, 140), position=5)
    expected, expected_std = theirs.predict(dense(index))
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    if n_members == 1:
        assert std is None
        assert expected_std is None
    else:
        np.testing.assert_allclose(std, expected_std, atol=1e-5)
    np.testing.assert_allclose(ours.precise(dense(index)), theirs.precise(dense(index)), atol=1e-12)
    # numbers and rows mean the same, and so do all cuts
    np.testing.assert_array_equal(mean, ours.predict(dense(index))[0])
    pieces = [ours.predict(ours.rows(SPACE, a, b), position=a)[0] for a, b in ((5, 6), (6, 77), (77, 140))]
    np.testing.assert_array_equal(np.concatenate(pieces), mean)


def test_the_sieve_is_near() -> None:
    found = band(device())
    assert found.kind == FP16
    assert 0 < found.largest < 0.02


@pytest.mark.parametrize("n_members", [1, 2])
def test_survivors_are_those_of_fp32_however_the_range_is_cut(n_members: int) -> None:
    predictor = device(n_members)
    expected = screen_range(0, len(SPACE), SPACE, predictor, hull(), 0.4)
    assert 10 < len(expected) < len(SPACE) - 10
    for threads, batch in ((1, 10_000), (1, 50), (3, 50), (4, 33)):
        predictor.threads = threads
        found = screen_range(0, len(SPACE), SPACE, predictor, hull(), 0.4, band=band(predictor), batch=batch)
        again = found.n_decided["again"]
        assert len(found) <= again < len(SPACE)
        assert columns(dataclasses.replace(found, n_decided=expected.n_decided)) == columns(expected)


def test_the_host_finds_the_same_compositions() -> None:
    predictor = device()
    found = screen_range(3, 400, SPACE, predictor, hull(), 0.05, band=band(predictor))
    theirs = screen_range(3, 400, SPACE, host(), hull(), 0.05)
    np.testing.assert_array_equal(found.index, theirs.index)
    np.testing.assert_allclose(found.prediction, theirs.prediction, atol=1e-5)
    np.testing.assert_array_equal(found.hull_energy, theirs.hull_energy)


def test_what_fp16_cannot_hold_is_looked_at_again() -> None:
    predictor = host()
    with torch.no_grad():
        predictor.networks[0].dense_layers[1].weight[0, 0] = 1e6
    steep = DevicePredictor(predictor, "cpu", sieve_rows=64)
    assert np.isnan(steep.sieve(dense(np.arange(50)), FP16)).all()
    expected = screen_range(0, len(SPACE), SPACE, steep, hull(), 0.05)
    found = screen_range(0, len(SPACE), SPACE, steep, hull(), 0.05, band=band(steep))
    assert len(expected) > 0
    assert found.n_decided["again"] == len(SPACE)
    np.testing.assert_array_equal(found.index, expected.index)


def test_a_screen_can_be_stopped_between_chunks() -> None:
    predictor = device()
    predictor.threads = 3
    done: list[int] = []

    def stop(so_far: int, total: int) -> None:
        done.append(so_far)
        if so_far >= 100:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        screen_range(0, len(SPACE), SPACE, predictor, hull(), 0.05, on_progress=stop, batch=50)
    assert done == [50, 100]
    assert not [t for t in threading.enumerate() if "ThreadPoolExecutor" in t.name]


def test_batches_shrink_to_what_the_memory_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def scarce(function: object, batch: torch.Tensor) -> object:
        asked.append(len(batch))
        if len(batch) > 300:
            raise torch.OutOfMemoryError
        return function

    monkeypatch.setattr(device_predictor, "_replayed", scarce)
    predictor = device(2, sieve_rows=2048)
    predictor.sieve(dense(np.arange(40)), FP16)
    assert asked == [2048, 1024, 512, 256, 256]
    monkeypatch.setattr(device_predictor, "SMALLEST_ROWS", 512)
    with pytest.raises(InputError, match="no memory for 512 compositions"):
        device(sieve_rows=2048).sieve(dense(np.arange(40)), FP16)


def test_only_its_own_sieve_and_only_where_there_is_a_device() -> None:
    with pytest.raises(InputError, match="has the sieve fp16, not 'int8'"):
        device().sieve(dense(np.arange(3)), "int8")
    with pytest.raises(InputError, match="NaN"):
        device().predict(np.full((2, 86), np.nan))
    if not torch.cuda.is_available():
        with pytest.raises(InputError, match="no CUDA device"):
            DevicePredictor(host())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device here")
def test_a_gpu_gives_the_survivors_of_its_fp32() -> None:
    predictor = DevicePredictor(host(2))
    expected = screen_range(0, len(SPACE), SPACE, predictor, hull(), 0.05)
    found = screen_range(0, len(SPACE), SPACE, predictor, hull(), 0.05, band=band(predictor), batch=100)
    assert columns(dataclasses.replace(found, n_decided=expected.n_decided)) == columns(expected)
    theirs = screen_range(0, len(SPACE), SPACE, host(2), hull(), 0.05)
    np.testing.assert_array_equal(found.index, theirs.index)
    np.testing.assert_allclose(found.prediction, theirs.prediction, atol=1e-5)
