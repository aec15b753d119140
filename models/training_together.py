"""Several members of an ensemble trained in one batched pass, as `models.training` trains them one after another.

One small network leaves a GPU idle between its many short kernels. Members that differ by their seed alone do the same
arithmetic on other numbers, so their tensors are stacked along a first axis and `torch.func.vmap` maps the network over
it. Every member keeps what makes it that member: initial weights, order of the rows, history and checkpoint; only the
order in which a matrix library sums, and with dropout the random numbers, are others than when it is trained alone.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.func import functional_call, vmap

from models.errors import InputError
from models.losses import evaluate
from models.optimisation import optimiser_of, set_rate
from models.training import OnEpoch, TrainedNetwork, TrainingRun, move_average, torch_settings
from models.training_parameters import TrainingParameters
from models.training_rows import training_rows
from models.training_state import TrainingState

ARCHITECTURES: frozenset[str] = frozenset({"elemnet"})
"""Networks of the registry that are tested here."""


def can_train_together(architecture: Mapping[str, Any], parameters: TrainingParameters) -> bool:
    """Return whether members of an architecture (as a model card holds it) can be trained together."""
    return architecture.get("name") in ARCHITECTURES and parameters.patience is None


def train_together(
    x: NDArray[np.float32],
    y: NDArray[Any],
    x_val: NDArray[np.float32] | None,
    y_val: NDArray[Any] | None,
    parameters: Sequence[TrainingParameters],
    *,
    build: Callable[[], nn.Module],
    resume: Sequence[TrainingState | None] | None = None,
    on_epoch: Sequence[OnEpoch | None] | None = None,
    device: str = "cpu",
) -> list[TrainedNetwork]:
    """Train several networks at once, each as `models.training.train_network` would but for rounding.

    Parameters
    ----------
    x, y, x_val, y_val, build, device
        As `train_network` takes them; `build` is called once per member.
    parameters
        Settings of each member, equal but for the seed.
    resume
        State of each member to continue from, None to begin. States are those of `train_network`, and either goes on
        from the other's. Members that have come less far are trained first, until all are at the same epoch.
    on_epoch
        Called for each member after each of its epochs, in the order of the members.

    Returns
    -------
    list of TrainedNetwork
        One per member.

    Raises
    ------
    InputError
        If the members' parameters differ by more than the seed or stop early, the network keeps running statistics or
        decides by the values of its inputs, or as `train_network`. One member that diverges ends the run of all.

    Notes
    -----
    A run that goes on from states of one epoch ends with the bits of one that was never cut off. Dropout is drawn anew
    for every member from the seeds of all that are trained together: the draws repeat themselves with the same members,
    but are not those of `train_network`, nor those of a run whose members were cut off at different epochs.
    """
    _check_members(parameters, resume, on_epoch)
    rows, held_out = training_rows(x, y, x_val, y_val, parameters[0].loss)
    place = torch.device(device)
    rows, held_out = rows.to(place), None if held_out is None else held_out.to(place)  # once for all members
    started = time.monotonic()
    with torch_settings(parameters[0].threads):
        members = [TrainingRun(rows, held_out, settings, build, place) for settings in parameters]
        for member, state in zip(members, resume or [None] * len(members), strict=True):
            if state:
                member.restore(state)
        _check_network(members[0])
        _train(members, on_epoch or [None] * len(members), started)
        return [member.result() for member in members]


def _train(members: Sequence[TrainingRun], on_epoch: Sequence[OnEpoch | None], started: float) -> None:
    """Train all to the end, those first that have come less far."""
    watchers = dict(zip(members, on_epoch, strict=True))
    stack: _Stack | None = None
    while not all(member.is_over for member in members):
        least = min(member.progress.epoch for member in members)
        behind = [member for member in members if member.progress.epoch == least]
        if stack is None or stack.members != behind:
            stack = _Stack(behind)
        for member, line in zip(behind, stack.epoch(), strict=True):
            if watch := watchers[member]:
                watch(member.report(line, time.monotonic() - started), member.capture)


class _Stack:
    """Members at the same epoch: their tensors along a first axis, of which the members' own become views."""

    def __init__(self, members: Sequence[TrainingRun]) -> None:
        self.members = list(members)
        first = members[0]
        self.parameters, self.rows, self.complete, self.mixed = (
            first.parameters,
            first.rows,
            first.complete,
            first.mixed,
        )
        self.network = _stacked([member.network for member in members])
        self.average = _stacked([member.average for member in members])
        joint = dict(zip(first.network.parameters(), self.network.parameters(), strict=True))
        groups = [
            {**group, "params": [joint[one] for one in group["params"]]} for group in first.optimiser.param_groups
        ]
        self.optimiser = optimiser_of(groups, self.parameters)
        self._join_moments()

    def epoch(self) -> list[dict[str, Any]]:
        """One pass over the rows, each member in its own order; their lines of the history."""
        draws = [member.draw() for member in self.members]
        order = torch.stack([rows for rows, _ in draws])
        seeds = np.random.SeedSequence([seed for _, seed in draws])
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        totals = torch.zeros(len(self.members), 2, dtype=torch.float64, device=order.device)
        first, rate = self.members[0], 0.0
        for rate, places, weight in first.steps():
            set_rate(self.optimiser, rate)
            rows = order[:, places]
            totals += self._step(self.rows.x[rows], self.rows.y[rows])
            if weight is not None:
                move_average(self.average, self.network, weight)
        self._share_moments()
        for member in self.members[1:]:
            member.progress.step, member.progress.n_averaged = first.progress.step, first.progress.n_averaged
        return [member.finish_epoch(rate, total) for member, total in zip(self.members, totals, strict=True)]

    def _step(self, x: Tensor, y: Tensor) -> Tensor:
        """Take a step on rows (m, b, f) and labels (m, b, k) or (m, b); loss and error of each member (m, 2)."""
        self.optimiser.zero_grad(set_to_none=True)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.mixed):
            output = call_stacked(self.network, x)
        losses, errors = self._evaluate(output.reshape(*x.shape[:2], -1), y)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        if self.parameters.clip_norm is not None:
            clip_each(list(self.network.parameters()), self.parameters.clip_norm)
        self.optimiser.step()
        return torch.stack([losses.detach().double(), errors], dim=1)

    def _evaluate(self, output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and error of each member, (m,) each."""

        def one(output: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
            value = evaluate(self.parameters.loss, output, y, self.members[0].weights, complete=self.complete)
            return value.loss, value.error

        if self.complete:
            losses, errors = vmap(one)(output, y)
            return losses, errors
        # which labels are missing is another number of them for every member
        values = [one(*pair) for pair in zip(output, y, strict=True)]
        return torch.stack([loss for loss, _ in values]), torch.stack([error for _, error in values])

    def _join_moments(self) -> None:
        """Take in what the members' optimisers remember."""
        for joint, own in self._parameters():
            slots = [member.optimiser.state.get(one, {}) for member, one in zip(self.members, own, strict=True)]
            for key, value in slots[0].items():
                # steps are counted alike
                joined = value.clone() if key == "step" else torch.stack([slot[key] for slot in slots])
                self.optimiser.state[joint][key] = joined

    def _share_moments(self) -> None:
        """Let the members' optimisers have what this one remembers, for their checkpoints."""
        for joint, own in self._parameters():
            slot = self.optimiser.state.get(joint, {})
            for number, (member, one) in enumerate(zip(self.members, own, strict=True)):
                member.optimiser.state[one] = {k: v if k == "step" else v[number] for k, v in slot.items()}

    def _parameters(self) -> list[tuple[nn.Parameter, tuple[nn.Parameter, ...]]]:
        """Every stacked parameter, with the members' own."""
        own = zip(*(member.network.parameters() for member in self.members), strict=True)
        return list(zip(self.network.parameters(), own, strict=True))


def call_stacked(network: nn.Module, x: Tensor) -> Tensor:
    """Return the outputs (m, n, ...) of stacked networks, each for its own rows (m, n, f)."""

    def one(parameters: dict[str, Tensor], buffers: dict[str, Tensor], rows: Tensor) -> Tensor:
        output: Tensor = functional_call(network, (parameters, buffers), (rows,))
        return output

    outputs: Tensor = vmap(one, randomness="different")(
        dict(network.named_parameters()), dict(network.named_buffers()), x
    )
    return outputs


def clip_each(parameters: Sequence[Tensor], limit: float) -> None:
    """Scale the gradients of stacked parameters (m, ...) so that no member's norm over all of them exceeds a limit.

    As `torch.nn.utils.clip_grad_norm_` does for one network.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norms = torch.stack([gradient.reshape(len(gradient), -1).norm(dim=1) for gradient in gradients]).norm(dim=0)
    factors = (limit / (norms + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))


def _stacked(networks: Sequence[nn.Module]) -> nn.Module:
    """Return a network with the tensors of several along a first axis, and make theirs views of it."""
    joint = copy.deepcopy(networks[0])
    for whole, *parts in zip(*([*one.parameters(), *one.buffers()] for one in (joint, *networks)), strict=True):
        whole.data = torch.stack([part.data for part in parts])
        for part, view in zip(parts, whole.data, strict=True):
            part.data = view
    return joint


def _check_members(
    parameters: Sequence[TrainingParameters],
    resume: Sequence[TrainingState | None] | None,
    on_epoch: Sequence[OnEpoch | None] | None,
) -> None:
    if not parameters:
        raise InputError("There is no member to train: give the parameters of at least one.")
    for name, given in (("resume", resume), ("on_epoch", on_epoch)):
        if given is not None and len(given) != len(parameters):
            raise InputError(f"{len(parameters)} members have {len(given)} entries of {name}: give one per member.")
    names = [field.name for field in fields(TrainingParameters) if field.name != "seed"]
    different = [name for name in names if len({getattr(one, name) for one in parameters}) > 1]
    if different:
        raise InputError(f"Members trained together differ by their seed alone, these by {', '.join(different)}.")
    if parameters[0].patience is not None:
        raise InputError(
            "Members trained together end at the same epoch: leave patience out, or train them one by one."
        )


def _check_network(member: TrainingRun) -> None:
    """Refuse networks that cannot be mapped over members."""
    name, x = type(member.network).__name__, member.rows.x[:2]
    if any(getattr(module, "running_mean", None) is not None for module in member.network.modules()):
        raise InputError(
            f"{name} keeps running statistics over its batches, which cannot be stacked: train its members one by one, "
            "or build it without batch normalisation."
        )
    with torch.no_grad():
        single = copy.deepcopy(member.network)
        single(x)  # an error of its own is no matter of stacking
        try:
            call_stacked(_stacked([single]), x[None])
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
            raise InputError(
                f"{name} cannot be computed for several members at once: train them one by one ({reason})."
            ) from error
