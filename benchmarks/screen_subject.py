"""What is screened in the benchmark: a network, a hull and a threshold."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from models.elements import N_ELEMENTS
from models.elemnet import ELEMNET_WIDTHS, ElemNet
from models.errors import InputError
from models.hull import PhaseHull
from models.inference import dense_chain
from models.predictor import Predictor
from models.screening import CHUNK_ROWS, composition_fractions
from models.sieve import _padded, _without_silent_units, largest_activations, units_multiple
from models.space import CompositionSpace
from storage.store import ArtifactStore
from tasks.loading import hull_of, load_hull, load_predictor
from tasks.parameters import ScreenParameters
from tasks.sources.starter import read_starter

N_RANGES = 4
"""Ranges of the space that are screened in turn: how many survive differs from one to the next."""
KEPT_SHARE = 0.01
"""Share that an untrained network's threshold keeps."""
SEED = 0


@dataclass(frozen=True)
class Sizes:
    """How much is measured.

    Attributes
    ----------
    rows
        Compositions of a range: what the kernel holds in memory at a time.
    band_sample
        Compositions on which the fast mode's band is measured.
    memory
        Compositions of the ranges whose memory is measured.
    """

    rows: int = CHUNK_ROWS
    band_sample: int = 100_000
    memory: tuple[int, ...] = (500_000, 2_000_000, 8_000_000)


QUICK = Sizes(4096, 4096, (50_000, 200_000, 800_000))
"""Only to try that everything runs: small pieces waste time at their ends."""


@dataclass(frozen=True)
class Source:
    """Where network and phases come from: keys of a store, or nothing for an untrained network and the starter set."""

    store: str | None = None
    model: str | None = None
    phases: str | None = None
    sizes: Sizes = Sizes()


@dataclass(frozen=True)
class Subject:
    """What is screened.

    Attributes
    ----------
    predictor, hull, space, threshold
        As `models.screening.screen_range` takes them.
    networks
        The members as torch modules.
    description
        One sentence for the page.
    sizes
        How much is measured.
    """

    predictor: Predictor
    hull: PhaseHull
    space: CompositionSpace
    threshold: float
    networks: list[ElemNet]
    description: str
    sizes: Sizes

    @property
    def flop(self) -> int:
        """FLOP per composition and all members: two per weight."""
        return sum(2 * network.n_weights for network in self.networks)

    def starts(self) -> list[int]:
        """Return the first indices of the ranges, spread over the quaternary systems."""
        low, high = self.space.offsets[2], len(self.space) - self.sizes.rows
        drawn = np.random.default_rng(SEED).integers(low, high, N_RANGES)
        return [int(start) for start in np.sort(drawn)]

    def dense(self, start: int, n: int) -> NDArray[np.float32]:
        """Element fractions of a range of the space, (n, 86)."""
        return self.space.fractions(self.space.unrank(np.arange(start, start + n)))

    def computed_share(self, kind: str) -> float:
        """Share of the network's products that a bytes' sieve computes: it leaves silent units out."""
        left = whole = 0
        mean, std = self.predictor.scale
        for network in self.networks:
            chain = dense_chain(network, mean, std)
            pruned, _ = _without_silent_units(chain, largest_activations(chain))
            computed = _padded(pruned, units_multiple(kind))
            left += sum(layer.weight.numel() for layer in computed)
            whole += sum(layer.weight.numel() for layer in chain)
        return left / whole


def load_subject(source: Source) -> Subject:
    """Load network and phases, on one thread."""
    torch.set_num_threads(1)
    if source.store is None:
        return _untrained(source.sizes)
    if source.model is None or source.phases is None:
        raise InputError("A store needs the keys of a network (--model) and of phases (--phases).")
    store = ArtifactStore(source.store)
    model, phases = store.resolve(source.model), store.resolve(source.phases)
    predictor, hull = load_predictor(model, phases), load_hull(phases)
    networks = [network for network in predictor.networks if isinstance(network, ElemNet)]
    if len(networks) != predictor.n_members:
        raise InputError(f"The benchmark counts the FLOP of ElemNet only; {model.key} is another network.")
    threshold = ScreenParameters().threshold
    text = f"Trained network `{model.key}` ({_members(networks)}); phases: `{phases.key}`"
    return Subject(
        predictor, hull, CompositionSpace(), threshold, networks, text + _numbers(hull, threshold), source.sizes
    )


def untrained_predictor(widths: tuple[int, ...] = ELEMNET_WIDTHS) -> Predictor:
    """Return an ElemNet with its initial weights."""
    torch.manual_seed(SEED)
    network = ElemNet(widths=widths)
    state = {name: tensor.detach().numpy() for name, tensor in network.state_dict().items()}
    architecture = {"name": "elemnet", "parameters": {"n_features": N_ELEMENTS, "widths": list(widths)}}
    return Predictor(architecture, {"mean": [0.0], "std": [1.0]}, [state])


def threshold_that_keeps(share: float, predictor: Predictor, hull: PhaseHull, space: CompositionSpace) -> float:
    """Return the threshold at or below which a share of a sample of the space lies, eV/atom."""
    sample = space.unrank(np.sort(np.random.default_rng(SEED).integers(0, len(space), 8 * predictor.batch_size)))
    fractions = composition_fractions(sample.elements, sample.counts)
    prediction, _ = predictor.predict(fractions)
    return float(np.quantile(hull.decomposition_energy(fractions, prediction.astype(np.float64)), share))


def starter_hull() -> PhaseHull:
    """Return the hull of the starter set's phases."""
    return hull_of(read_starter().select(["formula", "formation_energy_per_atom"]))


def _untrained(sizes: Sizes) -> Subject:
    predictor, hull, space = untrained_predictor(), starter_hull(), CompositionSpace()
    threshold = threshold_that_keeps(KEPT_SHARE, predictor, hull, space)
    networks = [network for network in predictor.networks if isinstance(network, ElemNet)]
    text = (
        "Untrained ElemNet of full size with its initial weights (speeds do not depend on weights, except that the "
        f"fast mode leaves silent units out, of which training makes many); the threshold keeps "
        f"{KEPT_SHARE:.0%} of a sample; phases: the starter set"
    )
    return Subject(predictor, hull, space, threshold, networks, text + _numbers(hull, threshold), sizes)


def _numbers(hull: PhaseHull, threshold: float) -> str:
    return (
        f" ({len(hull):,}, {len(hull.stable):,} of them stable in their own system), threshold {threshold:.3f} eV/atom."
    )


def _members(networks: list[ElemNet]) -> str:
    return "one member" if len(networks) == 1 else f"{len(networks)} members"
