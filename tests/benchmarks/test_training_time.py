from __future__ import annotations

import itertools
from functools import partial
from typing import Any

import numpy as np
import pytest

from benchmarks import training_time
from benchmarks.screen_page import section_of
from benchmarks.training_time import TITLE, Data, Reached, ours, plain, read_data, said, section, until
from models.elemnet import ElemNet


@pytest.fixture(scope="module")
def data() -> Data:
    """Energies that follow one fraction."""
    random = np.random.default_rng(0)
    x = random.dirichlet(np.ones(4), 96).astype(np.float32)
    x = np.pad(x, ((0, 0), (0, 82)))
    y = -2.0 * x[:, 0].astype(float)
    return Data(x[:64], y[:64], x[64:], y[64:])


def test_rows_are_cleaned_and_split(tiny: Any) -> None:
    read = read_data(str(tiny.energies_file))
    assert read.x.shape == (len(read.y), 86)
    assert 0 < len(read.x_test) == len(read.y_test) < len(read.y) < len(tiny.energies)
    known = set(tiny.energies["formation_energy_per_atom"])
    assert set(read.y) | set(read.y_test) <= known


def test_error_is_that_of_what_is_predicted(data: Data) -> None:
    assert data.error(lambda x: -2.0 * x[:, :1] + 0.25) == pytest.approx(0.25, abs=1e-6)


def test_both_learn(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training_time, "ElemNet", partial(ElemNet, widths=(32, 16, 1), dropout_after=(1,)))
    monkeypatch.setattr(training_time, "RATE", 1e-2)
    constant = float(np.abs(data.y_test - data.y.mean()).mean())
    mine = ours(data, 60)
    assert mine.epochs == 60
    assert mine.seconds > 0
    assert mine.error < 0.8 * constant
    curve = until(plain(data, None), 0.5 * constant, 60.0)
    assert curve[-1].error <= 0.5 * constant
    assert [point.epochs for point in curve] == list(range(1, len(curve) + 1))
    assert all(a.seconds < b.seconds for a, b in itertools.pairwise(curve))
    assert next(plain(data, (0.5,))).error != next(plain(data, None)).error


def test_a_plain_loop_is_given_up_after_its_time() -> None:
    points = [Reached(10.0 * k, 0.5 / k, k) for k in range(1, 9)]
    assert until(iter(points), 0.1, 100.0) == points[:5]
    assert until(iter(points), 0.01, 35.0) == points[:4]


def test_ratios_and_what_was_not_reached() -> None:
    curve = [Reached(10.0 * k, 0.5 / k, k) for k in range(1, 5)]
    assert said(Reached(5.0, 0.2, 7), curve) == "30 s (3 epochs), 6.0 times"
    assert said(Reached(5.0, 0.1, 7), curve) == "not in 40 s (4 epochs, best 0.1250), over 8.0 times"


def test_section_is_a_whole_one() -> None:
    curve = [Reached(10.0, 0.5, 1), Reached(20.0, 0.1, 2)]
    text = section([Reached(5.0, 0.2, 7)], {"plain": curve}, 1234, "Load average: 0.")
    assert section_of(f"# Page\n\n{text}\n## Next\n", TITLE) == text
    assert text.endswith("| 0.2000 eV/atom | 5 s (7 epochs) | 20 s (2 epochs), 4.0 times |\n")
