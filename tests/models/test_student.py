"""The student: what it learns, what it may lose, and that a bad one costs time and not survivors."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from models.cascade import BAND_FACTOR, Band, decide
from models.elemnet import ElemNet
from models.errors import InputError
from models.predictor import Predictor
from models.space import CompositionSpace
from models.student import (
    STUDENT_WIDTHS,
    Distillation,
    Student,
    count_weights,
    distil,
    distillation_loss,
    draw,
    fractions_at,
)
from models.student_recall import Sample, assess, choose_margin, clopper_pearson, draw_sample

SPACES = [
    CompositionSpace(("Li", "Na", "O", "Fe", "F", "S"), (2, 3), 8),
    CompositionSpace(("Li", "Mg", "Cl", "O"), (4,), 8),
]
ALL = np.arange(sum(len(space) for space in SPACES))
THRESHOLD = -0.4
WIDTHS = (64, 32, 1)
QUICK = Distillation(widths=WIDTHS, labelled=4000, steps=500, batch=128, average=50, seed=7)


class Hull:
    """Other phases at half the first share: something that differs from row to row and is known exactly."""

    def decomposition_energy(
        self, fractions: NDArray[np.float64], energies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        return energies + 0.5 * fractions[:, 2]


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Any:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def teacher() -> Predictor:
    torch.manual_seed(3)
    widths = [128, 128, 64, 1]
    member = {name: value.numpy() for name, value in ElemNet(widths=widths).state_dict().items()}
    architecture = {"name": "elemnet", "parameters": {"widths": widths}}
    return Predictor(architecture, {"mean": [0.1], "std": [0.5]}, [member], batch_size=256)


@pytest.fixture(scope="module")
def student(teacher: Predictor) -> Student:
    return distil(teacher, Hull(), SPACES, THRESHOLD, QUICK)


@pytest.fixture(scope="module")
def truth(teacher: Predictor) -> tuple[NDArray[np.float32], NDArray[np.float64], NDArray[np.bool_]]:
    """Fractions, hull of the others, and which survive, of every composition of both spaces."""
    fractions = fractions_at(SPACES, ALL)
    others = -0.5 * fractions[:, 2]
    single = fractions.astype(np.float32)
    survivor = np.zeros(len(ALL), dtype=bool)
    survivor[decide(teacher, single, others, THRESHOLD).rows] = True
    assert 0.02 < survivor.mean() < 0.4, "the threshold has to divide this space, or nothing is tested"
    return single, others, survivor


def wrong_student(scale: float = 1.0) -> Student:
    torch.manual_seed(11)
    weights = {name: value.numpy() for name, value in ElemNet(widths=WIDTHS).state_dict().items()}
    return Student(
        {"name": "elemnet", "parameters": {"widths": list(WIDTHS)}}, {"mean": [0.0], "std": [scale]}, weights
    )


def samples(student: Student, teacher: Predictor, n: int = 6000) -> tuple[Sample, Sample]:
    one, two = (draw_sample(student, teacher, Hull(), SPACES, THRESHOLD, n, (5, number)) for number in (0, 1))
    return one, two


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [
        (10, 10, 0.025 ** (1 / 10), 1.0),  # by hand: p^10 = 0.025
        (0, 10, 0.0, 1 - 0.025 ** (1 / 10)),
        (1, 1, 0.025, 1.0),
        (5, 10, 0.187086, 0.812914),  # the textbook's table
        (36888, 36888, 1 - 1e-4, 1.0),  # so many without a miss make 99.99 %
    ],
)
def test_the_interval_is_exact(successes: int, n: int, low: float, high: float) -> None:
    assert clopper_pearson(successes, n) == (pytest.approx(low, abs=1e-6), pytest.approx(high, abs=1e-6))


def test_the_interval_holds_as_often_as_it_says() -> None:
    """All outcomes of 30 draws with their probabilities: at least 95 %, whatever the proportion."""
    from scipy.stats import binom

    for p in (0.5, 0.9, 0.99, 0.999):
        holds = [k for k in range(31) if clopper_pearson(k, 30)[0] <= p <= clopper_pearson(k, 30)[1]]
        assert binom.pmf(holds, 30, p).sum() >= 0.95


def test_an_interval_needs_draws() -> None:
    for successes, n in ((0, 0), (3, 2), (-1, 2)):
        with pytest.raises(InputError, match="an interval needs"):
            clopper_pearson(successes, n)


@pytest.mark.parametrize(
    ("wanted", "margin"), [(1.0, 0.5), (0.9999, 0.5), (0.8, 0.2), (0.79, 0.2), (0.6, 0.0), (0.01, -0.3)]
)
def test_the_margin_lets_the_wanted_share_pass(wanted: float, margin: float) -> None:
    excess = np.array([0.0, 0.5, -0.3, 0.2, -0.1])
    chosen = choose_margin(excess, wanted)
    assert chosen == pytest.approx(margin, abs=1e-5)
    assert (excess <= chosen).mean() >= wanted


def test_a_margin_is_rounded_up() -> None:
    for value in (0.1234567891, -0.1234567891):
        assert 0 <= choose_margin(np.array([value]), 1.0) - value <= 1.1e-6


def test_a_margin_needs_survivors() -> None:
    with pytest.raises(InputError, match="screen without a student"):
        choose_margin(np.zeros(0), 0.99)
    with pytest.raises(InputError, match="above 0 and at most at 1"):
        choose_margin(np.zeros(3), 1.5)


def test_the_loss_by_hand() -> None:
    """Inside the window the square; beyond it nothing on the right side; a survivor put too high counts fourfold."""
    label = torch.tensor([0.1, 0.9, 0.9, -0.9, -0.9, -0.1, -0.1])
    value = torch.tensor([0.3, 0.7, 0.2, -0.6, -0.3, 0.1, -0.3])
    expected = [0.04, 0.0, 0.09, 0.0, 4 * 0.04, 4 * 0.04, 0.04]
    assert float(distillation_loss(value, label, 0.5, 4.0)) == pytest.approx(sum(expected) / 7, rel=1e-5)


def test_the_size_of_the_default() -> None:
    network = ElemNet(widths=STUDENT_WIDTHS)
    assert network.n_weights == 194_112 <= ElemNet().n_weights / 20
    assert count_weights([{k: v.numpy() for k, v in network.state_dict().items()}] * 2) == 2 * 194_112


def test_compositions_are_numbered_through_the_spaces() -> None:
    rows = fractions_at(SPACES, ALL)
    np.testing.assert_allclose(rows.sum(axis=1), 1.0)
    one, two = (space.fractions(space.unrank(np.arange(len(space))), np.float64) for space in SPACES)
    np.testing.assert_array_equal(rows, np.concatenate([one, two]))
    drawn = draw(SPACES, 200_000, np.random.default_rng(0))
    assert (drawn.min(), drawn.max()) == (0, len(ALL) - 1)
    expected = 200_000 * len(SPACES[1]) / len(ALL)
    assert np.count_nonzero(drawn >= len(SPACES[0])) == pytest.approx(expected, abs=5 * expected**0.5)
    with pytest.raises(InputError, match="the spaces are empty"):
        draw([], 3, np.random.default_rng(0))


def test_the_student_knows_the_neighbourhood_of_the_threshold(
    student: Student, teacher: Predictor, truth: tuple[Any, Any, Any]
) -> None:
    single, others, survivor = truth
    assert student.n_weights == 86 * 64 + 64 * 32 + 32
    error = student.predict(single) - teacher.predict(single)[0]
    near = np.abs(teacher.predict(single)[0] - others - THRESHOLD) < QUICK.window / 2
    spread = (teacher.predict(single)[0] - others)[near].std()
    assert np.sqrt(np.mean(error[near] ** 2)) < spread / 3
    value = student.predict(single) - others
    best = np.argsort(value)[: survivor.sum()]
    assert survivor[best].mean() > 0.8


def test_distillation_is_deterministic(student: Student, teacher: Predictor, monkeypatch: pytest.MonkeyPatch) -> None:
    import models.student

    calls: list[tuple[int, int]] = []
    monkeypatch.setattr(models.student, "CHUNK_ROWS", 999)
    state = torch.get_rng_state()
    again = distil(
        teacher, Hull(), SPACES, THRESHOLD, QUICK, on_progress=lambda done, total: calls.append((done, total))
    )
    assert torch.equal(state, torch.get_rng_state()), "the caller's generator is left alone"
    assert again.normalisation == student.normalisation
    assert all(again.weights[name].tobytes() == student.weights[name].tobytes() for name in student.weights)
    total = 4000 + 500 * 128
    assert calls[0] == (999, total)
    assert calls[-1] == (total, total)
    assert all(a[0] < b[0] for a, b in itertools.pairwise(calls))
    other = distil(teacher, Hull(), SPACES, THRESHOLD, replace(QUICK, seed=8, steps=5))
    assert any(not np.array_equal(other.weights[name], student.weights[name]) for name in student.weights)


def test_labels_of_a_sieve(teacher: Predictor) -> None:
    class Counting:
        kinds: list[str] = []  # noqa: RUF012

        def predict(self, fractions: NDArray[np.floating], *, position: int = 0) -> Any:
            raise AssertionError("labels were to come from the sieve")

        def sieve(self, fractions: NDArray[np.floating], kind: str) -> NDArray[np.float32]:
            self.kinds.append(kind)
            return teacher.predict(fractions)[0]

        precise = teacher.precise

    quick = replace(QUICK, labelled=500, steps=3)
    sieved = distil(Counting(), Hull(), SPACES, THRESHOLD, quick, kind="int8")
    plain = distil(teacher, Hull(), SPACES, THRESHOLD, quick)
    assert Counting.kinds == ["int8"]
    assert all(np.array_equal(sieved.weights[name], plain.weights[name]) for name in plain.weights)


def test_a_row_has_one_value_however_rows_are_cut(student: Student, truth: tuple[Any, Any, Any]) -> None:
    single = truth[0]
    whole = student.predict(single)
    assert whole.dtype == np.float32
    for step in (1, 7, 1000):
        parts = [student.predict(single[i : i + step]) for i in range(0, min(len(single), 40 * step), step)]
        assert np.concatenate(parts).tobytes() == whole[: min(len(single), 40 * step)].tobytes()


def test_recall_is_measured_honestly(student: Student, teacher: Predictor, truth: tuple[Any, Any, Any]) -> None:
    """The interval holds the recall on the whole space, which is known here; so does the share that passes."""
    single, others, survivor = truth
    choice, measured = samples(student, teacher)
    assert not np.array_equal(choice.excess, measured.excess)
    ready, record = assess(student, choice, measured, THRESHOLD, 0.97, full_weights=10 * student.n_weights)
    assert (choice.excess[choice.survivor] <= ready.margin).mean() >= 0.97
    passes = ready.predict(single).astype(np.float64) - others <= THRESHOLD + ready.margin
    true_recall = passes[survivor].mean()
    assert record.low <= true_recall <= record.high
    assert record.recall == pytest.approx(1 - record.n_missed / record.n_survivors)
    assert record.n_survivors == measured.survivor.sum() == pytest.approx(6000 * survivor.mean(), rel=0.15)
    assert record.passed == pytest.approx(passes.mean(), abs=0.03)
    assert record.flops == pytest.approx(0.1 + record.passed)
    assert record.passed < 0.6, "a student that clears nothing is of no use"
    assert record.to_dict()["margin"] == ready.margin


def test_a_wrong_student_gets_a_wide_margin(teacher: Predictor, truth: tuple[Any, Any, Any], student: Student) -> None:
    single, others, survivor = truth
    wrong = wrong_student(3.0)
    ready, record = assess(wrong, *samples(wrong, teacher), THRESHOLD, 0.999, full_weights=10**6)
    good = assess(student, *samples(student, teacher), THRESHOLD, 0.999, full_weights=10**6)[1]
    assert record.margin > 4 * good.margin
    assert record.passed > 0.9 > good.passed
    found = decide(teacher, single, others, THRESHOLD, student=ready)
    assert survivor[found.rows].all()
    assert record.low <= len(found.rows) / survivor.sum() <= record.high


def test_a_sample_without_survivors_is_refused(student: Student, teacher: Predictor) -> None:
    choice, measured = samples(student, teacher, 2000)
    nothing = Sample(measured.excess, np.zeros(2000, dtype=bool))
    with pytest.raises(InputError, match="second sample"):
        assess(student, choice, nothing, THRESHOLD, 0.99, 1)
    with pytest.raises(InputError, match="no margin can be chosen"):
        assess(student, nothing, measured, THRESHOLD, 0.99, 1)


@pytest.mark.parametrize("band", [None, Band("int8", 0.2, 1, 0.2 / BAND_FACTOR, 0.0)])
def test_the_cascade_with_a_student(
    band: Band | None, teacher: Predictor, truth: tuple[Any, Any, Any], student: Student
) -> None:
    """What the student leaves is decided as ever, with the same bits; what it drops is all that is lost."""
    single, others, _ = truth
    plain = decide(teacher, single, others, THRESHOLD)
    arithmetic: Any = teacher
    if band is not None:

        class Sieved:
            predict, precise = teacher.predict, teacher.precise

            def sieve(self, fractions: NDArray[np.floating], kind: str) -> NDArray[np.float32]:
                return teacher.predict(fractions)[0] + np.float32(0.1)

        arithmetic = Sieved()
    assert plain.n_after_student is decide(arithmetic, single, others, THRESHOLD, band).n_after_student is None
    ready = student.with_margin(0.0)
    left = np.flatnonzero(ready.predict(single).astype(np.float64) - others <= THRESHOLD)
    found = decide(arithmetic, single, others, THRESHOLD, band, 77, ready)
    assert found.n_after_student == len(left) < len(single)
    expected = np.isin(plain.rows, left)
    assert 0 < expected.sum() < len(plain.rows)
    assert found.rows.dtype == np.int64
    assert found.rows.tolist() == plain.rows[expected].tolist()
    assert found.prediction.tobytes() == plain.prediction[expected].tobytes()
    if band is not None:
        assert len(found.rows) <= found.n_again <= found.n_after_student
    everything = decide(arithmetic, single, others, THRESHOLD, band, 0, student)  # its margin is infinite
    assert everything.n_after_student == len(single)
    assert everything.rows.tolist() == plain.rows.tolist()
    nothing = decide(arithmetic, single, others, THRESHOLD, band, 0, student.with_margin(-np.inf))
    assert (nothing.n_after_student, nothing.rows.tolist()) == (0, [])


def test_a_student_from_its_arrays_is_the_same(student: Student, truth: tuple[Any, Any, Any]) -> None:
    again = Student(student.architecture, student.normalisation, dict(student.weights), margin=0.25)
    assert again.margin == 0.25
    assert student.margin == np.inf
    assert again.predict(truth[0]).tobytes() == student.predict(truth[0]).tobytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"labelled": 0}, "at least one labelled composition"),
        ({"steps": 0}, "at least one labelled composition"),
        ({"seed": -1}, "at least one labelled composition"),
        ({"widths": (8, 2)}, "must be 1, its energy"),
        ({"widths": ()}, "must be 1, its energy"),
        ({"window": 0.0}, "must be positive"),
        ({"far_share": 1.5}, "must be positive"),
    ],
)
def test_settings_that_mean_nothing(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        replace(QUICK, **change)


def test_a_training_that_diverges_says_so(teacher: Predictor) -> None:
    with pytest.raises(InputError, match="lower its learning_rate"):
        distil(teacher, Hull(), SPACES, THRESHOLD, replace(QUICK, learning_rate=1e30, steps=40, labelled=500))
