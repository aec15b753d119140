"""Several properties from one network: a shared trunk, and a small head for each property.

Proposed as future work in §8.2.4 of the thesis: training and prediction cost about as much as for one property, and
properties with few labels can learn from those with many.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor, nn

from models.elemnet import ELEMNET_WIDTHS
from models.errors import InputError
from models.registry import build

ELEMNET_TRUNK: Final[dict[str, Any]] = {"name": "elemnet", "parameters": {"widths": list(ELEMNET_WIDTHS[:13])}}
"""ElemNet down to its 128 units (thesis Table 3.1); its narrower layers belong to the heads."""

HEAD_WIDTHS: Final = (64, 32)
"""Hidden units of a head: the widths that end ElemNet, each once."""


class MultiPropertyNet(nn.Module):
    """A shared trunk and a fully connected head per property, each ending in one linear output.

    Missing labels are the trainer's business: a head without a label in a batch gets no gradient from the loss.

    Parameters
    ----------
    n_features
        Number of input columns.
    trunk
        Architecture (name and parameters, see `models.registry.build`) of a network (n, n_features) -> (n, width) with
        a width above 1: `ELEMNET_TRUNK`, or for example a ``residual`` with ``n_outputs``. Its ``n_features`` are
        those of this network and may be left out. ReLU follows its output.
    n_properties
        Number of heads.
    head_widths
        Hidden units of each head; none for a linear head.

    Raises
    ------
    InputError
        If the trunk cannot be built or gives no vector per row, or a number is outside what it can be.
    """

    def __init__(
        self,
        n_features: int,
        trunk: Mapping[str, Any],
        n_properties: int,
        head_widths: Sequence[int] = HEAD_WIDTHS,
    ) -> None:
        super().__init__()
        if n_features < 1 or n_properties < 1:
            raise InputError(f"MultiPropertyNet needs inputs and properties, got {n_features} and {n_properties}.")
        if any(width < 1 for width in head_widths):
            raise InputError(f"MultiPropertyNet's head_widths must be positive, got {tuple(head_widths)}.")
        self.trunk = _build_trunk(n_features, trunk)
        width = _width(self.trunk, n_features, trunk)
        self.heads = nn.ModuleList(_head((width, *head_widths, 1)) for _ in range(n_properties))

    @property
    def n_weights(self) -> int:
        """Number of matrix entries of trunk and heads, biases not counted."""
        return sum(parameter.numel() for parameter in self.parameters() if parameter.ndim > 1)

    def fit_inputs(self, x: Tensor) -> None:
        """Let the trunk take the scale of its inputs from training rows (n, n_features), if it is one that does."""
        fit = getattr(self.trunk, "fit_inputs", None)
        if fit is not None:
            fit(x)

    def forward(self, x: Tensor) -> Tensor:
        """Map inputs (n, n_features) to outputs (n, n_properties) in units of the targets."""
        shared: Tensor = self.trunk(x).relu()
        # Narrow layers in full precision under autocast too: they cost nothing and carry the last digits.
        with torch.autocast(shared.device.type, enabled=False):
            shared = shared.to(next(self.heads.parameters()).dtype)
            return torch.cat([head(shared) for head in self.heads], dim=1)


def _build_trunk(n_features: int, trunk: Mapping[str, Any]) -> nn.Module:
    parameters = {"n_features": n_features, **trunk.get("parameters", {})}
    if parameters["n_features"] != n_features:
        raise InputError(
            f"The trunk takes {parameters['n_features']} inputs and the network {n_features}: leave the trunk's out."
        )
    return build({**trunk, "parameters": parameters})


@torch.no_grad()
def _width(network: nn.Module, n_features: int, trunk: Mapping[str, Any]) -> int:
    """Columns of a trunk's output, by asking it: architectures name theirs differently."""
    network.eval()
    output = network(torch.zeros(1, n_features))
    network.train()
    if output.ndim != 2 or output.shape[1] < 2:
        raise InputError(
            f"Trunk {trunk['name']!r} gives {tuple(output.shape)} for one row: leave out its last layers (widths) or "
            "set n_outputs, so that the heads have a vector to share."
        )
    return int(output.shape[1])


def _head(sizes: Sequence[int]) -> nn.Sequential:
    """Fully connected layers with ReLU between them: He initialisation, an output of unit variance, zero biases."""
    layers: list[nn.Module] = []
    for n_in, n_out in itertools.pairwise(sizes):
        layer = nn.Linear(n_in, n_out)
        is_last = len(layers) == 2 * (len(sizes) - 2)
        nn.init.normal_(layer.weight, std=math.sqrt((1.0 if is_last else 2.0) / n_in))
        nn.init.zeros_(layer.bias)
        layers += [layer] if is_last else [layer, nn.ReLU()]
    return nn.Sequential(*layers)
