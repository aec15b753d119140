"""ElemNet: formation energy from the element fractions of a composition, by a fully connected network."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from models.element_table import element_table
from models.elements import N_ELEMENTS
from models.errors import InputError

ELEMNET_WIDTHS: tuple[int, ...] = (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32, 1)
"""Units of the 17 fully connected layers, as published: Jha et al., Sci. Rep. 8, 17593 (2018), thesis Table 3.1."""

ELEMNET_DROPOUT_KEEP: tuple[float, ...] = (0.8, 0.9, 0.7, 0.8)
"""Share of the inputs that the published dropout layers keep."""

ELEMNET_DROPOUT_AFTER: tuple[int, ...] = (4, 7, 10, 13)
"""Layers (counted from 1) that the published dropout layers follow."""

INPUT_SCALE = 16.0
"""Factor on the element fractions before the first layer.

The fractions of real compositions have a root mean square of about 1/15, so that an initialisation that expects
inputs of unit variance would start 15 times too small. A power of two, so that folding it into the first layer's
weights is exact.
"""

FIRST_LAYERS: tuple[str, ...] = ("random", "periodic")
OWN_SHARE = 0.1
"""Share of the variance of a ``periodic`` first weight that is its element's own."""

_FULL_PRECISION_WIDTH = 64
"""Layers of at most this width stay in fp32 under mixed precision: they cost nothing and carry the last digits."""


class ElemNet(nn.Module):
    """The fully connected network of the thesis: 17 layers, ReLU between them, one linear output.

    With the default widths and 86 inputs it has 4,624,416 weights (matrix entries) and 6,945 biases.

    Parameters
    ----------
    n_features
        Number of input columns, 86 element fractions by default.
    widths
        Units of each layer, the last one being the number of outputs.
    dropout
        Shares of the inputs *kept* by the dropout layers, ``ELEMNET_DROPOUT_KEEP`` for the published ones; off by
        default, because dropout that is switched off at inference shifts the variance of a ReLU regression.
    dropout_after
        The layer (counted from 1) that each dropout layer follows.
    input_scale
        Factor on the inputs, see `INPUT_SCALE`.
    first_layer
        How its weights start: ``random``, each by itself, or ``periodic``: elements whose tabulated properties are
        alike start with weights that are, see `fit_inputs`. Training may take them anywhere.

    Raises
    ------
    InputError
        If a width, a share or a position is outside what it can be.
    """

    def __init__(
        self,
        n_features: int = 86,
        widths: Sequence[int] = ELEMNET_WIDTHS,
        dropout: Sequence[float] | None = None,
        dropout_after: Sequence[int] = ELEMNET_DROPOUT_AFTER,
        input_scale: float = INPUT_SCALE,
        first_layer: str = "random",
    ) -> None:
        super().__init__()
        _check_architecture(n_features, widths, dropout, dropout_after, input_scale)
        if first_layer not in FIRST_LAYERS or (first_layer == "periodic" and n_features != N_ELEMENTS):
            raise InputError(
                f"ElemNet's first_layer is {' or '.join(FIRST_LAYERS)}, the latter with {N_ELEMENTS} element "
                f"fractions; got {first_layer!r} with {n_features} inputs."
            )
        self.input_scale = float(input_scale)
        self.first_layer = first_layer
        sizes = (n_features, *widths)
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        keep = dict(zip(dropout_after, dropout, strict=True)) if dropout is not None else {}
        self.drops = nn.ModuleDict({str(k): nn.Dropout(1.0 - share) for k, share in keep.items()})
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation with zero biases, the last layer for an output of unit variance, from torch's generator."""
        for layer in self.dense_layers[:-1]:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        last = self.dense_layers[-1]
        nn.init.normal_(last.weight, std=1.0 / math.sqrt(last.in_features))
        nn.init.zeros_(last.bias)

    @torch.no_grad()
    def fit_inputs(self, fractions: Tensor) -> None:
        """Let the first layer start as `first_layer` says; the trainer calls it before it trains from scratch.

        Of ``periodic`` the weights of elements i and j correlate with (1 - `OWN_SHARE`) times the cosine of their
        standardised properties (`models.element_table`), and have the variance of He's initialisation. The fractions
        are of no account.
        """
        if self.first_layer == "random":
            return
        first = self.dense_layers[0]
        table = torch.from_numpy(element_table())
        table = table / table.norm(dim=1, keepdim=True)
        alike = torch.randn(first.out_features, table.shape[1]) @ table.T
        own = torch.randn(first.out_features, first.in_features)
        weight = math.sqrt(1.0 - OWN_SHARE) * alike + math.sqrt(OWN_SHARE) * own
        first.weight.copy_(weight * math.sqrt(2.0 / first.in_features))

    @property
    def dense_layers(self) -> list[nn.Linear]:
        """The fully connected layers in order: ReLU follows each but the last (dropout aside)."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]

    @property
    def n_weights(self) -> int:
        """Number of matrix entries, biases not counted: 4,624,416 as published."""
        return sum(layer.weight.numel() for layer in self.dense_layers)

    def forward(self, fractions: Tensor) -> Tensor:
        """Element fractions (n, n_features), dimensionless -> outputs (n, widths[-1]) in units of the targets."""
        layers = self.dense_layers
        hidden = fractions * self.input_scale
        for position, layer in enumerate(layers, start=1):
            if layer.in_features <= _FULL_PRECISION_WIDTH:
                with torch.autocast(hidden.device.type, enabled=False):
                    hidden = layer(hidden.float())
            else:
                hidden = layer(hidden)
            if position < len(layers):
                hidden = hidden.relu()
            if str(position) in self.drops:
                hidden = self.drops[str(position)](hidden)
        return hidden


def _check_architecture(
    n_features: int,
    widths: Sequence[int],
    dropout: Sequence[float] | None,
    dropout_after: Sequence[int],
    input_scale: float,
) -> None:
    if n_features < 1 or not widths or min(widths) < 1:
        raise InputError(f"ElemNet needs at least one input and positive widths, got {n_features} and {tuple(widths)}.")
    if not (math.isfinite(input_scale) and input_scale > 0):
        raise InputError(f"ElemNet's input_scale must be a positive number, got {input_scale}.")
    if dropout is None:
        return
    if len(dropout) != len(dropout_after):
        raise InputError(
            f"ElemNet got {len(dropout)} dropout shares for {len(dropout_after)} positions: give one per entry of "
            f"dropout_after {tuple(dropout_after)}."
        )
    if not all(0.0 < share <= 1.0 for share in dropout):
        raise InputError(f"ElemNet's dropout is the share of inputs kept, above 0 and at most 1, got {tuple(dropout)}.")
    if any(not 1 <= position < len(widths) for position in dropout_after):
        raise InputError(
            f"ElemNet's dropout_after must name layers 1 to {len(widths) - 1}, got {tuple(dropout_after)}."
        )
