"""Members of a moduli model, told apart by a seed: a crystal-graph network, boosted trees and a kernel machine each.

The network reads the crystal's graph and its attributes, the other two its attributes; their errors differ.

All learn log10(M v^(5/3)) for a modulus M in GPa and the volume per atom v in A^3, and predictions take the volume off
again: at equal bonding moduli go as a power of the density of the electrons, for free electrons as its 5/3 (Kittel,
Introduction to Solid State Physics, 8th ed., ch. 6, problem 2, of the volume per electron), and what need not be learnt
cannot be got wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.boosted_trees import BoostedTrees, grow_trees
from models.cgcnn import CGCNN
from models.crystal_attributes import crystal_attributes
from models.crystal_graph import CrystalGraphs
from models.errors import InputError
from models.kernel_machine import KernelMachine, fit_kernel_machine
from models.moduli_calibration import TARGETS
from models.moduli_training import ModuliTraining, evaluate, torch_threads, train_moduli
from models.registry import build
from models.training_state import load_arrays

FloatArray = NDArray[np.float64]
State = Mapping[str, NDArray[Any]]

VOLUME_EXPONENT = 5.0 / 3.0
"""Power of the volume per atom by which moduli are multiplied before they are learnt."""

LEARNT = "log10(M v^(5/3)), M the modulus in GPa and v the volume per atom in A^3"
"""What the networks' normalisation is of."""

_ON_ATTRIBUTES: dict[str, type[BoostedTrees] | type[KernelMachine]] = {"trees.": BoostedTrees, "kernel.": KernelMachine}
"""What reads attributes, by what the names of its arrays begin with among those of the network."""


def mean_of_members(predictions: FloatArray, n_networks: int) -> FloatArray:
    """Return the mean of what `Members.predict_members` says, (n, 2): one half the networks', one half all others'."""
    networks, others = predictions[:n_networks], predictions[n_networks:]
    if len(others) == 0:
        return np.asarray(networks.mean(axis=0))
    return np.asarray(0.5 * (networks.mean(axis=0) + others.mean(axis=0)))


def volume_term(graphs: CrystalGraphs) -> FloatArray:
    """Return log10 of the factor between moduli and what is learnt, shape (n, 1)."""
    return np.asarray(VOLUME_EXPONENT * np.log10(graphs.volumes_per_atom)[:, None])


@dataclass(frozen=True)
class TrainedMembers:
    """Members and what they share.

    Attributes
    ----------
    states : list of dict
        Arrays by name of each member: the weights of its network and, named ``trees.0.``, ``kernel.0.`` and so on by
        target, its trees and its kernel machine.
    normalisation : dict
        ``{"mean": [K, G], "std": [K, G]}`` of the networks' targets.
    histories : list of list of dict
        Learning curves of the networks.
    """

    states: list[dict[str, NDArray[Any]]]
    normalisation: dict[str, list[float]]
    histories: list[list[dict[str, Any]]]


def train_members(
    graphs: CrystalGraphs,
    targets: FloatArray,
    settings: ModuliTraining,
    n_members: int,
    on_member: Callable[[int], dict[str, Any]] | None = None,
) -> TrainedMembers:
    """Train the members of an ensemble.

    Parameters
    ----------
    graphs : CrystalGraphs
        n crystals.
    targets : ndarray, shape (n, 2)
        log10 of K and G in GPa.
    settings : ModuliTraining
        Member m takes seed + m.
    n_members : int
        Members, at least one.
    on_member : callable, optional
        Called with the number of a member before it is trained; returns ``resume`` and ``on_epoch`` for its network.

    Returns
    -------
    TrainedMembers
        All of the same normalisation, that of the targets.

    Raises
    ------
    InputError
        Fewer than two crystals or constant moduli; else as `models.moduli_training.train_moduli`.
    """
    if len(targets) < 2 or (targets.std(axis=0) <= 1e-9).any():
        raise InputError(f"{len(targets)} crystals with constant moduli cannot train a model; give more rows")
    wanted = targets + volume_term(graphs)
    attributes = crystal_attributes(graphs) if settings.n_trees or settings.kernel_rows else None
    states, histories, normalisation = [], [], {}
    for member in range(n_members):
        own = replace(settings, seed=settings.seed + member)
        options = on_member(member) if on_member is not None else {}
        trained = train_moduli(graphs, wanted[:, 0], wanted[:, 1], own, **options)
        states.append(dict(trained.state) | _on_attributes(attributes, wanted, own))
        histories.append(trained.history)
        normalisation = trained.normalisation
    return TrainedMembers(states, normalisation, histories)


def _on_attributes(
    attributes: FloatArray | None, wanted: FloatArray, settings: ModuliTraining
) -> dict[str, NDArray[Any]]:
    """Return the arrays of what reads attributes, one run of trees and one kernel machine per target."""
    arrays: dict[str, NDArray[Any]] = {}
    if attributes is None:
        return arrays
    for k, column in enumerate(wanted.T):
        if settings.n_trees:
            trees = grow_trees(attributes, column, n_trees=settings.n_trees, seed=settings.seed)
            arrays |= trees.to_arrays(f"trees.{k}.")
        if settings.kernel_rows:
            machine = fit_kernel_machine(attributes, column, max_rows=settings.kernel_rows, seed=settings.seed)
            arrays |= machine.to_arrays(f"kernel.{k}.")
    return arrays


class Members:
    """Members ready to predict.

    Parameters
    ----------
    architecture : mapping
        Of the networks.
    normalisation : mapping
        ``{"mean": [K, G], "std": [K, G]}``.
    states : sequence of mapping
        Arrays by name, see `TrainedMembers`.
    threads : int, optional
        Torch's threads while predicting.

    Raises
    ------
    InputError
        No member, another architecture, or arrays that do not fit it.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        normalisation: Mapping[str, Sequence[float]],
        states: Sequence[State],
        threads: int | None = None,
    ) -> None:
        if not states:
            raise InputError("a moduli model needs at least one member; train it again")
        self.centre, self.deviation = (np.asarray(normalisation[key], dtype=np.float64) for key in ("mean", "std"))
        self.threads = threads
        self.networks = [_network(architecture, state) for state in states]
        self.on_attributes = [
            [kind.from_arrays(state, f"{prefix}{k}.") for k in range(len(TARGETS))]
            for prefix, kind in _ON_ATTRIBUTES.items()
            for state in states
            if any(name.startswith(prefix) for name in state)
        ]

    def predict_members(self, graphs: CrystalGraphs) -> FloatArray:
        """Predict crystals by the networks of all members, then by their trees, then by their kernel machines.

        Parameters
        ----------
        graphs : CrystalGraphs
            n crystals.

        Returns
        -------
        ndarray, shape (predictions, n, 2)
            log10(K/GPa), log10(G/GPa).
        """
        with torch_threads(self.threads):
            said = [evaluate(network, graphs) * self.deviation + self.centre for network in self.networks]
        if self.on_attributes:
            x = crystal_attributes(graphs)
            said += [np.stack([target.predict(x) for target in targets], axis=1) for targets in self.on_attributes]
        return np.stack(said) - volume_term(graphs)

    def mean(self, predictions: FloatArray) -> FloatArray:
        """Return the mean of `predict_members`, (n, 2), see `mean_of_members`."""
        return mean_of_members(predictions, len(self.networks))


def _network(architecture: Mapping[str, Any], state: State) -> CGCNN:
    network = build(architecture)
    if not isinstance(network, CGCNN):
        name = architecture.get("name")
        raise InputError(f"network {name!r} does not read crystal graphs; choose a moduli model")
    weights = {name: array for name, array in state.items() if not name.startswith(tuple(_ON_ATTRIBUTES))}
    load_arrays(network, weights, "moduli model")
    return network.eval()
