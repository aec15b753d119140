"""The cascade: whatever the sieve is, the answer is that of fp32, and at the threshold that of float64."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.cascade import BAND_FACTOR, SMALLEST_BAND, UNDECIDED, Band, decide, measure_band, widest
from models.elemnet import ElemNet
from models.errors import InputError
from models.inference import precise_function
from models.predictor import Predictor
from models.screening import composition_fractions
from models.sieve import SIEVES, can_sieve, sieve_function
from models.space import CompositionSpace

SPACE = CompositionSpace(("Li", "O", "Fe", "F", "S"), (2, 3, 4), 8)


@dataclass
class Scripted:
    """Arithmetic whose energies stand in the first column; the sieve is off by what stands in the second."""

    std: bool = False
    precise_shift: float = 0.0
    asked: dict[str, int] = field(default_factory=lambda: {"predict": 0, "sieve": 0, "precise": 0})

    def predict(
        self, fractions: NDArray[np.floating], *, position: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        self.asked["predict"] += len(fractions)
        values = fractions[:, 0].astype(np.float32)
        return values, values + 1 if self.std else None

    def sieve(self, fractions: NDArray[np.floating], kind: str) -> NDArray[np.float32]:
        """The finer sieve is off by a tenth of what the other is off by."""
        self.asked["sieve"] += len(fractions)
        return (fractions[:, 0] + fractions[:, 1] * {"scripted": 1.0, "finer": 0.1}[kind]).astype(np.float32)

    def precise(self, fractions: NDArray[np.floating]) -> NDArray[np.float64]:
        self.asked["precise"] += len(fractions)
        return fractions[:, 0].astype(np.float64) + self.precise_shift


def band(width: float) -> Band:
    return Band("scripted", width, 1, width / BAND_FACTOR, 0.0)


energies = st.floats(-2.0, 2.0, width=32)


TWO_SIEVES = Band("scripted", 0.051, 1, 0.034, 0.0, Band("finer", 0.0051, 1, 0.0034, 0.0))


@pytest.mark.parametrize("sieves", [band(0.051), TWO_SIEVES], ids=["one", "two"])
@settings(max_examples=200)
@given(st.lists(st.tuples(energies, st.floats(-0.05, 0.05), energies), max_size=40), st.floats(-1.0, 1.0))
def test_sieves_within_their_bands_change_nothing(
    sieves: Band, rows: list[tuple[float, float, float]], threshold: float
) -> None:
    table = np.array([(e, off) for e, off, _ in rows], dtype=np.float64).reshape(len(rows), 2)
    others = np.array([hull for _, _, hull in rows], dtype=np.float64)
    plain = decide(Scripted(), table, others, threshold)
    sieved = decide(Scripted(), table, others, threshold, sieves)
    assert sieved.rows.tolist() == plain.rows.tolist()
    assert sieved.prediction.tobytes() == plain.prediction.tobytes()
    assert sieved.n_precise == plain.n_precise
    assert sieved.n_again <= decide(Scripted(), table, others, threshold, band(0.051)).n_again <= len(rows)


def test_a_finer_sieve_is_asked_only_about_what_the_first_leaves() -> None:
    table = np.array([[-1.0, 0.02], [-0.19, 0.02], [-0.16, -0.02], [0.5, 0.0]])
    arithmetic = Scripted()
    decision = decide(arithmetic, table, np.zeros(4), -0.2, TWO_SIEVES)
    # the first leaves three; the second says -0.188 and -0.162 of two of them, both out of its band
    assert arithmetic.asked == {"predict": 1, "sieve": 4 + 3, "precise": 0}
    assert (decision.rows.tolist(), decision.n_again) == ([0], 1)


def test_bands_are_written_and_read_back() -> None:
    assert Band.from_dict(TWO_SIEVES.to_dict()) == TWO_SIEVES
    assert Band.from_dict({k: v for k, v in band(0.1).to_dict().items() if k != "second"}) == band(0.1)
    assert [one.kind for one in TWO_SIEVES.sieves] == ["scripted", "finer"]


def test_the_widest_band_is_so_for_each_sieve() -> None:
    other = Band("scripted", 0.02, 1, 0.01, 0.0, Band("finer", 0.007, 1, 0.004, 0.0))
    both = widest([TWO_SIEVES, other])
    assert (both.width, both.second.width if both.second else None) == (0.051, 0.007)
    assert widest([band(0.1), band(0.3)]) == band(0.3)


def test_both_sieves_are_measured_on_the_same_sample() -> None:
    def dense(elements: NDArray[np.int16], counts: NDArray[np.int8]) -> NDArray[np.float64]:
        return np.stack([np.zeros(len(counts)), 0.01 * counts[:, 0]], axis=1)

    both = measure_band(Scripted(), SPACE, dense, "scripted", n_sample=10**9, second="finer", chunk=13)
    assert both.second is not None
    assert both.second.largest == pytest.approx(0.1 * both.largest, rel=1e-5)
    assert both.second.mean == pytest.approx(0.1 * both.mean, rel=1e-5)
    alone = measure_band(Scripted(), SPACE, dense, "scripted", n_sample=10**9)
    assert replace(both, second=None, mean=alone.mean) == alone
    assert both.mean == pytest.approx(alone.mean, rel=1e-12)


def test_only_what_the_sieve_leaves_is_computed_again() -> None:
    table = np.array([[-1.0, 0.02], [-0.19, -0.02], [0.5, 0.0], [0.6, 0.0]])
    arithmetic = Scripted(std=True)
    decision = decide(arithmetic, table, np.zeros(4), -0.2, band(0.05))
    assert decision.rows.tolist() == [0]
    assert decision.prediction.tolist() == [-1.0]
    assert decision.prediction_std is not None
    assert decision.prediction_std.tolist() == [0.0]
    assert arithmetic.asked == {"predict": 2, "sieve": 4, "precise": 0}
    assert decision.n_again == 2


@pytest.mark.parametrize(("shift", "kept"), [(-5e-6, [0, 1]), (0.0, [0]), (5e-6, [0])])
def test_float64_decides_at_the_threshold(shift: float, kept: list[int]) -> None:
    """The second row lies 2 microelectronvolts above the threshold in fp32, the third 0.1 meV: that one is clear."""
    table = np.array([[-0.3, 0.0], [-0.2 + 2e-6, 0.0], [-0.2 + 1e-4, 0.0]])
    arithmetic = Scripted(precise_shift=shift)
    decision = decide(arithmetic, table, np.zeros(3), -0.2)
    assert decision.rows.tolist() == kept
    assert decision.n_precise == arithmetic.asked["precise"] == 1
    assert UNDECIDED == 1e-5


def test_the_band_is_a_multiple_of_the_largest_deviation() -> None:
    def dense(elements: NDArray[np.int16], counts: NDArray[np.int8]) -> NDArray[np.float64]:
        n = np.arange(len(elements))
        return np.stack([np.zeros(len(n)), np.where(elements[:, 0] == elements.max(), 0.04, -0.01)], axis=1)

    measured = measure_band(Scripted(), SPACE, dense, "scripted", n_sample=10**9)
    assert measured.n_sample == len(SPACE)
    assert measured.largest in (pytest.approx(0.01), pytest.approx(0.04))
    assert measured.width == pytest.approx(BAND_FACTOR * measured.largest)
    still = measure_band(Scripted(), SPACE, lambda e, c: np.zeros((len(e), 2)), "scripted", n_sample=50, chunk=7)
    assert (still.width, still.largest, still.n_sample) == (SMALLEST_BAND, 0.0, 50)
    with pytest.raises(InputError, match="at least one composition"):
        measure_band(Scripted(), SPACE, dense, "scripted", n_sample=0)


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    widths = [96, 64, 32, 1]
    torch.manual_seed(3)
    member = {k: v.numpy() for k, v in ElemNet(widths=tuple(widths)).state_dict().items()}
    correction = np.zeros(86)
    correction[7] = 0.66
    return Predictor(
        {"name": "elemnet", "parameters": {"widths": widths}},
        {"mean": [-0.5], "std": [0.9]},
        [member],
        reference_correction=correction,
        batch_size=64,
    )


@pytest.mark.parametrize("kind", SIEVES)
def test_a_real_network_and_its_sieves(predictor: Predictor, kind: str) -> None:
    if not can_sieve(kind):
        pytest.skip(f"this processor has no instructions for {kind}")
    index = np.arange(0, len(SPACE), 3)
    compositions = SPACE.unrank(index)
    fractions = composition_fractions(compositions.elements, compositions.counts).astype(np.float32)
    single, _ = predictor.predict(fractions)
    double, reduced = predictor.precise(fractions), predictor.sieve(fractions, kind)
    assert np.abs(single - double).max() < UNDECIDED / 4
    assert 1e-5 < np.abs(reduced - double).max() < 0.05
    measured = measure_band(predictor, SPACE, composition_fractions, kind)
    assert measured.largest < measured.width < 0.1
    others = np.zeros(len(fractions))
    for threshold in np.quantile(single, [0.0, 0.01, 0.2, 0.5, 1.0], method="lower"):
        plain = decide(predictor, fractions, others, float(threshold))
        fast = decide(predictor, fractions, others, float(threshold), measured)
        assert plain.rows.tolist() == fast.rows.tolist()
        assert plain.prediction.tobytes() == fast.prediction.tobytes()  # whatever rows came with them
        assert plain.n_precise >= 1


def test_a_network_without_a_reduced_form_says_so() -> None:
    class Sum(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.sum(dim=1, keepdim=True)

    with pytest.raises(InputError, match="screen with precision fp32"):
        sieve_function(Sum(), 0.0, 1.0, 8, "int8")
    with pytest.raises(InputError, match="Unknown sieve 'fp8'"):
        sieve_function(ElemNet(widths=(1,)), 0.0, 1.0, 8, "fp8")
    assert precise_function(Sum(), 1.0, 2.0)(torch.ones(3, 2, dtype=torch.float64)).tolist() == [5.0, 5.0, 5.0]


def test_no_sieve_where_places_count(predictor: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    def by_place(x: torch.Tensor) -> torch.Tensor:
        return x.sum(dim=1) + torch.arange(len(x))

    monkeypatch.setattr(predictor, "_functions", [by_place])
    monkeypatch.setattr(predictor, "_sieves", {})
    with pytest.raises(InputError, match="same bits at any place"):
        predictor.sieve(np.zeros((2, 86), dtype=np.float32), "int8")
