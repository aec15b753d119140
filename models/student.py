"""A student: a small network that says which compositions a large one need not look at.

It learns the large network's energies on compositions of the space that will be screened, drawn at random. All that
is asked of it is on which side of the threshold a composition lies and, near it, how far: what is far above or far
below only has to stay there. So its few weights go where the decision is, and most of what is far above is not even
learned from. What it says is never an answer: `models.student_recall` chooses how much of what it puts above the
threshold is kept, and measures what is lost all the same.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.cascade import Arithmetic
from models.elements import N_ELEMENTS
from models.elemnet import ElemNet
from models.errors import InputError
from models.optimisation import learning_rate_at
from models.predictor import BATCH_ROWS, Predictor
from models.screening import composition_fractions
from models.space import Compositions
from models.training import torch_settings
from models.training_parameters import TrainingParameters

STUDENT_WIDTHS: Final = (256, 256, 256, 128, 64, 1)
"""Units of the student's layers: 194,112 weights, 1/24 of the thesis's network."""

CHUNK_ROWS: Final = 16_384
"""Compositions drawn and labelled at a time; no part of the result."""

OnProgress = Callable[[int, int], None]
"""Called with the rows done and in all; may raise to stop."""


class Sampled(Protocol):
    """What is sampled: a `models.space.CompositionSpace`, or anything else that numbers its compositions."""

    def __len__(self) -> int: ...

    def unrank(self, indices: NDArray[np.integer]) -> Compositions:
        """Compositions of the given numbers."""
        ...


class OtherPhases(Protocol):
    """What is needed of a hull (`models.hull.PhaseHull`)."""

    def decomposition_energy(
        self, fractions: NDArray[np.float64], energies: NDArray[np.float64]
    ) -> NDArray[np.float64]:
        """Energies (n,) minus the hull of all other compositions at rows (n, 86), eV/atom."""
        ...


@dataclass(frozen=True)
class Distillation:
    """How a student is made; with the network, the hull and the spaces it decides the weights, on one type of machine.

    Attributes
    ----------
    widths
        Units of its layers, the last of which is the energy.
    labelled
        Compositions that the large network labels. More of them narrow the worst errors, which set the margin, where
        more steps on the same ones do not: at a wanted recall of 99.99 % on all compositions of two to four elements
        the cascade took 4.2 and 5.1 times fewer operations with 1.5M of them (two draws), 6.1 times with 4M (one).
    steps, batch
        Steps of the training, and rows of each, drawn anew from those kept.
    learning_rate, warmup
        Peak of the one-cycle rate, and the share of the steps over which it rises.
    window
        eV/atom from the threshold beyond which a row must only lie as far off, on its own side. It has to be wider
        than the margin that will be needed: rows beyond it are not told apart.
    far_share
        Share that is kept of the rows that lie further above the threshold than the window, two thirds of all: learning
        from fewer of them leaves more steps for the rest.
    over_weight
        Weight of an error that puts a survivor too high, against 1 for any other: that error loses it. The margin
        follows the worst survivors, and with 1, 4 and 20 the share that passed at equal recall fell each time.
    average
        Time constant of the exponential average of the weights, in steps.
    seed
        Of the compositions, their order and the first weights.
    """

    widths: tuple[int, ...] = STUDENT_WIDTHS
    labelled: int = 4_000_000
    steps: int = 8_000
    batch: int = 1024
    learning_rate: float = 6e-3
    warmup: float = 0.1
    window: float = 0.5
    far_share: float = 0.1
    over_weight: float = 20.0
    average: int = 200
    seed: int = 0

    def __post_init__(self) -> None:
        if min(self.labelled, self.steps, self.batch, self.average) < 1 or self.seed < 0:
            raise InputError("a student needs at least one labelled composition, one step and one row in each")
        if not self.widths or self.widths[-1] != 1:
            raise InputError(f"the last of a student's widths must be 1, its energy, got {tuple(self.widths)}")
        if not (self.window > 0 and 0 < self.far_share <= 1 and self.over_weight > 0 and self.learning_rate > 0):
            raise InputError("window, far_share, over_weight and learning_rate of a distillation must be positive")

    def to_dict(self) -> dict[str, Any]:
        """Return the settings as a JSON-able dictionary."""
        return asdict(self) | {"widths": list(self.widths)}


class Student:
    """A distilled network and the margin within which its word is not taken.

    Parameters
    ----------
    architecture, normalisation, weights
        As of a network with one member, see `models.predictor.Predictor`.
    margin
        Compositions pass whose energy by the student, minus the hull of all others, is at most the threshold plus
        this, eV/atom; infinite until it has been chosen.
    batch_size
        Rows per batch of the matrix library.

    Raises
    ------
    InputError
        If the weights do not fit, or where a row's bits depend on its place in a batch: what passes would depend on
        how a range is cut.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        normalisation: Mapping[str, Sequence[float]],
        weights: Mapping[str, NDArray[Any]],
        *,
        margin: float = np.inf,
        batch_size: int = BATCH_ROWS,
    ) -> None:
        self.architecture, self.normalisation, self.weights = architecture, normalisation, dict(weights)
        self.margin = float(margin)
        self._predictor = Predictor(architecture, normalisation, [self.weights], batch_size=batch_size)
        self._predictor.require_place_free()

    @property
    def n_weights(self) -> int:
        """Matrix entries, each of which is a multiplication and an addition per composition."""
        return count_weights([self.weights])

    def predict(self, fractions: NDArray[np.floating]) -> NDArray[np.float32]:
        """Energies (n,) of element fractions (n, 86), eV/atom: the same bits whatever rows come together."""
        return self._predictor.predict(fractions)[0]

    def with_margin(self, margin: float) -> Student:
        """Return the same network with another margin, eV/atom."""
        batch_size = self._predictor.batch_size
        return Student(self.architecture, self.normalisation, self.weights, margin=margin, batch_size=batch_size)


def count_weights(members: Sequence[Mapping[str, NDArray[Any]]]) -> int:
    """Matrix entries of a network's members, biases not counted."""
    return sum(array.size for member in members for array in member.values() if array.ndim == 2)


def distil(
    arithmetic: Arithmetic,
    hull: OtherPhases,
    spaces: Sequence[Sampled],
    threshold: float,
    settings: Distillation,
    *,
    kind: str | None = None,
    on_progress: OnProgress | None = None,
) -> Student:
    """Make a student of a network; deterministic for one type of machine and number of torch's threads.

    Parameters
    ----------
    arithmetic
        The network to learn from.
    hull
        The known phases.
    spaces
        What will be screened; larger ones are drawn from more often.
    threshold
        Of the screen, eV/atom.
    settings
        See `Distillation`.
    kind
        Sieve that labels (`models.sieve.SIEVES`): its few meV are no matter to a student, which is off by more, and it
        is up to four times as fast. None labels in fp32.
    on_progress
        Called with the rows labelled and trained on, and both in all.

    Raises
    ------
    InputError
        For spaces without a composition, or a training that diverges.
    """
    n, trained = settings.labelled, settings.steps * settings.batch
    report = on_progress or (lambda done, total: None)
    rows = _labelled(arithmetic, hull, spaces, threshold, settings, kind, lambda done, _: report(done, n + trained))
    with torch_settings(None):
        torch.manual_seed(settings.seed)
        network = ElemNet(N_ELEMENTS, settings.widths)
        mean, std = float(rows.energy.mean()), max(float(rows.energy.std()), 1e-3)
        average = _train(network, rows, (mean, std), settings, lambda done, _: report(n + done, n + trained))
    return Student(
        {"name": "elemnet", "parameters": {"n_features": N_ELEMENTS, "widths": list(settings.widths)}},
        {"mean": [mean], "std": [std]},
        {name: tensor.numpy().copy() for name, tensor in average.state_dict().items()},
    )


def draw(spaces: Sequence[Sampled], n: int, generator: np.random.Generator) -> NDArray[np.int64]:
    """Draw numbers (n,) of compositions at random, with replacement, all compositions of all spaces alike."""
    total = sum(len(space) for space in spaces)
    if total < 1:
        raise InputError("a student needs compositions to learn from: the spaces are empty")
    return generator.integers(0, total, n)


def fractions_at(spaces: Sequence[Sampled], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """Element fractions (n, 86) of compositions, numbered through the spaces one after the other."""
    rows = np.zeros((len(numbers), N_ELEMENTS))
    low = 0
    for space in spaces:
        mine = np.flatnonzero((numbers >= low) & (numbers < low + len(space)))
        compositions = space.unrank(numbers[mine] - low)
        rows[mine] = composition_fractions(compositions.elements, compositions.counts)
        low += len(space)
    return rows


@dataclass(frozen=True)
class _Rows:
    """Compositions by number, their label and the threshold's place, (n,) each; dense rows would be 30 times that."""

    spaces: Sequence[Sampled]
    number: NDArray[np.int64]
    energy: NDArray[np.float32]
    limit: NDArray[np.float32]


def _labelled(
    arithmetic: Arithmetic,
    hull: OtherPhases,
    spaces: Sequence[Sampled],
    threshold: float,
    settings: Distillation,
    kind: str | None,
    report: OnProgress,
) -> _Rows:
    """Draw and label compositions; most of what is far above the threshold is dropped at once."""
    drawn = draw(spaces, settings.labelled, np.random.default_rng((settings.seed, 0)))
    stays = np.random.default_rng((settings.seed, 1)).random(settings.labelled) < settings.far_share
    numbers, energies, limits = [], [], []
    for start in range(0, settings.labelled, CHUNK_ROWS):
        part = drawn[start : start + CHUNK_ROWS]
        fractions = fractions_at(spaces, part)
        limit = threshold - hull.decomposition_energy(fractions, np.zeros(len(part)))
        single = fractions.astype(np.float32)
        energy = arithmetic.predict(single)[0] if kind is None else arithmetic.sieve(single, kind)
        kept = (energy - limit <= settings.window) | stays[start : start + CHUNK_ROWS]
        numbers.append(part[kept])
        energies.append(energy[kept])
        limits.append(limit[kept].astype(np.float32))
        report(start + len(part), settings.labelled)
    rows = _Rows(spaces, np.concatenate(numbers), np.concatenate(energies), np.concatenate(limits))
    if len(rows.number) == 0:
        raise InputError("no labelled composition is left to learn from: label more of them for the student")
    return rows


def _train(
    network: ElemNet, rows: _Rows, scale: tuple[float, float], settings: Distillation, report: OnProgress
) -> nn.Module:
    """Train on rows drawn anew at every step; return the averaged weights."""
    generator = np.random.default_rng((settings.seed, 2))
    average = copy.deepcopy(network).requires_grad_(False)
    optimiser = torch.optim.AdamW(network.parameters(), weight_decay=0.0, fused=True)
    cycle = TrainingParameters(learning_rate=settings.learning_rate, warmup=settings.warmup)
    mean, std = scale
    for step in range(settings.steps):
        optimiser.param_groups[0]["lr"] = learning_rate_at(step, settings.steps, cycle)
        chosen = generator.integers(0, len(rows.number), settings.batch)
        x = torch.from_numpy(fractions_at(rows.spaces, rows.number[chosen]).astype(np.float32))
        limit = torch.from_numpy(rows.limit[chosen])
        label = torch.from_numpy(rows.energy[chosen]) - limit
        value = network(x).reshape(-1) * std + mean - limit
        loss = distillation_loss(value, label, settings.window, settings.over_weight) / std**2
        optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        # a plain mean at first, exponential once it spans its time constant
        weight = max(1.0 / (step + 1), 1.0 / settings.average)
        torch._foreach_lerp_(list(average.parameters()), [p.detach() for p in network.parameters()], weight)
        report((step + 1) * settings.batch, settings.steps * settings.batch)
    if not all(bool(p.isfinite().all()) for p in average.parameters()):
        raise InputError("the student's training diverged: lower its learning_rate")
    return average


def distillation_loss(value: Tensor, label: Tensor, window: float, over_weight: float) -> Tensor:
    """Mean weighted square of what is wrong with values, eV^2.

    Parameters
    ----------
    value, label
        Energies by student and network above the threshold (n,), eV/atom.
    window
        Beyond it a value need only lie beyond it too, on the same side.
    over_weight
        Weight of an error that puts a survivor higher than it is.
    """
    error = torch.where(label > window, (value - window).clamp(max=0.0), value - label)
    error = torch.where(label < -window, (value + window).clamp(min=0.0), error)
    lost = (label <= 0) & (error > 0)
    return (torch.where(lost, over_weight, 1.0) * error.square()).mean()
