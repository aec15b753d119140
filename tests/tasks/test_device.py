"""Where a screen is computed: what the environment and the profile say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.device_predictor import FP16, DevicePredictor
from models.errors import InputError
from models.predictor import Predictor
from models.sieve import SIEVES, best_sieve, can_sieve
from tasks import arithmetic
from tasks.arithmetic import load_arithmetic, runs_here, sieve_kind
from tasks.cluster import load_profile, usual_block_size
from tasks.device import DEVICE, worker_device
from tasks.screen import screen_block
from tasks.spaces import Block


@pytest.fixture(autouse=True)
def nothing_loaded() -> Any:
    load_arithmetic.cache_clear()
    yield
    load_arithmetic.cache_clear()


def test_cores_are_the_default(monkeypatch: pytest.MonkeyPatch, stages: Any) -> None:
    monkeypatch.delenv(DEVICE, raising=False)
    assert worker_device() == "cpu"
    assert sieve_kind() == best_sieve()
    assert [kind for kind in SIEVES if runs_here(kind)] == [kind for kind in SIEVES if can_sieve(kind)]
    assert not runs_here(FP16)
    assert isinstance(load_arithmetic(stages.network, stages.phases), Predictor)


def test_another_device_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DEVICE, "tpu")
    with pytest.raises(InputError, match="ELEMSCREEN_DEVICE is 'tpu': set it to cpu or cuda"):
        worker_device()


def test_blocks_are_larger_on_gpus(tmp_path: Path) -> None:
    assert load_profile("local-cuda").environment == {DEVICE: "cuda"}
    assert usual_block_size("local-cuda") == 50_000_000
    assert usual_block_size("local") == usual_block_size("tcp://127.0.0.1:8786") == 2_500_000


def test_a_block_is_screened_on_the_device(monkeypatch: pytest.MonkeyPatch, stages: Any) -> None:
    """The device is the processor here; the part has the candidates of the ordinary one."""
    parameters = stages.screening.model_copy(update={"min_training_rows": 7})  # another part than other tests' one
    block = Block(space=0, start=0, stop=150)
    expected = stages.store.read_table(
        stages.run(screen_block, stages.network, stages.phases, None, parameters, block)
    ).to_pandas()
    monkeypatch.setenv(DEVICE, "cuda")
    monkeypatch.setattr(arithmetic, "DevicePredictor", lambda host, name: DevicePredictor(host, "cpu"))
    load_arithmetic.cache_clear()
    assert sieve_kind() == FP16
    assert runs_here(FP16)
    assert not any(runs_here(kind) for kind in SIEVES)
    assert isinstance(load_arithmetic(stages.network, stages.phases), DevicePredictor)
    parameters = parameters.model_copy(update={"min_training_rows": 8})
    found = stages.store.read_table(
        stages.run(screen_block, stages.network, stages.phases, None, parameters, block)
    ).to_pandas()
    assert len(found) > 10
    assert found["formula"].tolist() == expected["formula"].tolist()
    np.testing.assert_allclose(found["formation_energy_per_atom"], expected["formation_energy_per_atom"], atol=1e-5)
    np.testing.assert_array_equal(found["hull_energy_per_atom"], expected["hull_energy_per_atom"])
