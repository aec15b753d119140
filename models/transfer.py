"""Transfer learning: weights of a trained network as the start of another, layers frozen or slowed.

The practice of D. Jha et al., Nat. Commun. 10, 5316 (2019): a network that has learned many computed energies is
fine-tuned on few measured ones. Element sets of source and target need not be the same: the columns are fixed, an
element that the source never saw starts untrained, and the report says which those are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from torch import nn

from models.errors import InputError

_PARALLEL: Final = ("heads",)
"""Lists whose entries lie side by side, not one behind the other: they are one group."""


@dataclass(frozen=True)
class TransferReport:
    """How the elements of source and target go together.

    Attributes
    ----------
    shared, only_source, only_target
        Symbols. What only the target has was never trained: its rows are predicted from untrained weights at first.
    target_rows_with_new
        Target rows that contain one of `only_target`.
    """

    shared: tuple[str, ...]
    only_source: tuple[str, ...]
    only_target: tuple[str, ...]
    target_rows_with_new: int

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {
            "shared": list(self.shared),
            "only_source": list(self.only_source),
            "only_target": list(self.only_target),
            "target_rows_with_new": self.target_rows_with_new,
        }


def compare_elements(
    source_rows: Mapping[str, int], fractions: NDArray[np.floating], elements: Sequence[str]
) -> TransferReport:
    """Compare the elements of a source's training rows with those of the target's rows.

    Parameters
    ----------
    source_rows
        Training rows of the source by element, as a model card's domain holds them.
    fractions
        Element fractions (n, len(elements)) of the target's rows.
    elements
        Symbols of the columns.
    """
    present = np.asarray(fractions) > 0
    in_target = present.any(axis=0)
    in_source = np.array([source_rows.get(element, 0) > 0 for element in elements])
    new = in_target & ~in_source

    def names(which: NDArray[np.bool_]) -> tuple[str, ...]:
        return tuple(element for element, yes in zip(elements, which, strict=True) if yes)

    return TransferReport(
        names(in_target & in_source), names(in_source & ~in_target), names(new), int(present[:, new].any(axis=1).sum())
    )


def layer_groups(network: nn.Module) -> list[list[str]]:
    """Return the names of a network's parameters in groups, from the input to the output.

    A group is what the entries of a list of layers are (``layers.3``, ``stacks.0``), or a direct part of the network
    (``output``, all ``heads`` together); in the order in which the network holds them. Parts that lie side by side at
    the input, which a network lists as ``input_parts``, are one group.
    """
    groups: dict[str, list[str]] = {}
    inputs = getattr(network, "input_parts", ())
    for name, _ in network.named_parameters():
        parts = name.split(".")
        if parts[0] in inputs:
            groups.setdefault("inputs", []).append(name)
            continue
        depth = 2 if len(parts) > 2 and parts[1].isdigit() and parts[0] not in _PARALLEL else 1
        groups.setdefault(".".join(parts[:depth]), []).append(name)
    return list(groups.values())


def rate_factors(network: nn.Module, frozen: int, rate_decay: float) -> dict[str, float]:
    """Factor on the learning rate of every parameter: 0 in frozen groups, falling from the output to the input.

    Parameters
    ----------
    network
        The network.
    frozen
        Groups (see `layer_groups`) that keep their weights, counted from the input.
    rate_decay
        Factor from one group to the one before it (J. Howard and S. Ruder, arXiv:1801.06146, section 3.2).

    Raises
    ------
    InputError
        If nothing would be left to train.
    """
    groups = layer_groups(network)
    if frozen >= len(groups):
        raise InputError(f"The network has {len(groups)} groups of layers and {frozen} are frozen: leave one to train.")
    return {
        name: 0.0 if number < frozen else rate_decay ** (len(groups) - 1 - number)
        for number, group in enumerate(groups)
        for name in group
    }


def initial_weights(
    network: nn.Module, source: Mapping[str, NDArray[Any]], what: str
) -> tuple[dict[str, NDArray[Any]], list[str]]:
    """Return the weights to start from, and the names of those that the source has no place for.

    All weights of the source are taken; where only the last layer differs (another number of outputs), the network's
    own initial one stays. Of heads, those that both have are taken.

    Raises
    ------
    InputError
        If more than the last layer differs: the source is of another architecture.
    """
    own = {name: tensor.detach().cpu().numpy() for name, tensor in network.state_dict().items()}
    fitting = {name: array for name, array in source.items() if name in own and own[name].shape == np.shape(array)}
    missing = sorted(set(own) - set(fitting))
    foreign = {name for name in set(source) - set(own) if name.split(".")[0] not in _PARALLEL}
    if wrong := sorted((set(missing) - set(layer_groups(network)[-1])) | foreign):
        raise InputError(
            f"The model {what} is of another architecture ({wrong[0]} does not fit): train the same network."
        )
    return own | fitting, missing
