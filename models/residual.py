"""IRNet and its plain and stacked relatives: deep regression networks on physical attributes of a composition.

Jha et al., "IRNet: A General Purpose Deep Residual Regression Framework for Materials Discovery", KDD 2019,
arXiv:1907.03222; chapter 4 of the thesis. Every layer but the last is a sequence of matrix, batch normalisation and
ReLU, in this order (§4.3.1, §4.4.1.1). The three networks differ in where a skip connection spans the sequences: around
each one (IRNet, §4.3.3), around each stack of up to four of one width (SRNet, §4.3.2), or nowhere (plain, §4.3.1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from models.errors import InputError

RESIDUAL_WIDTHS: Final[dict[int, tuple[int, ...]]] = {
    17: (1024,) * 4 + (512,) * 3 + (256,) * 3 + (128,) * 3 + (64,) * 2 + (32,),
    24: (1024,) * 4 + (512,) * 4 + (256,) * 4 + (128,) * 4 + (64,) * 3 + (32,) * 2 + (16,) * 2,
    48: (1024,) * 8 + (512,) * 8 + (256,) * 8 + (128,) * 8 + (64,) * 8 + (32,) * 4 + (16,) * 3,
}
"""Units of the hidden layers by depth; the linear output is the layer that makes the depth.

Table 4.1 of the thesis (Table 1 of the paper), as spelt out by the architecture strings of the authors' repository,
github.com/NU-CUCIS/IRNet.
"""

SKIPS: Final = ("individual", "stacked", "none")
"""Where skip connections go: around every layer (IRNet), around every stack (SRNet), nowhere (plain)."""

STACK_LAYERS: Final = 4
"""Most layers in a stack: §4.3.3. The 48-layer SRNet has two stacks of four where eight layers share a width."""

INPUT_LIMIT: Final = 10.0
"""Largest magnitude of a standardised input.

An attribute that was constant in training, or nearly so, is no guide to how far it may go: a held-out row in which it
differs can lie hundreds of "standard deviations" out, times weights that no row has ever trained.
"""

_CONSTANT: Final = 1e-6
"""A column whose standard deviation is below this share of its largest magnitude is rounding error: constant."""
_FIT_ROWS: Final = 65_536


class ResidualNet(nn.Module):
    """Fully connected network with batch normalisation and skip connections, on inputs that it standardises itself.

    With 145 inputs the 17-layer network has 4,684,832 weights (matrix entries) without skips and 5,531,680 with
    either kind of skip: both kinds need a projection exactly where the width changes.

    Parameters
    ----------
    n_features
        Number of input columns, 145 attributes by default.
    depth
        Layers, the output included: a key of `RESIDUAL_WIDTHS`.
    skip
        One of `SKIPS`. Output of the spanned layers plus its own input, the latter through a linear projection where
        the widths differ (equation 4.1); no activation follows the sum (Figure 4.1).
    n_outputs
        Columns of the output.
    widths
        Units of the hidden layers instead of those of `depth`, which is then ignored.
    batch_norm
        Normalise each layer's output over the batch before the ReLU.

    Attributes
    ----------
    input_mean, input_scale
        Buffers (n_features,) in the units of the inputs, see `fit_inputs`; 0 and 1 at first.

    Raises
    ------
    InputError
        If an argument is outside what it can be.
    """

    input_mean: Tensor
    input_scale: Tensor

    def __init__(
        self,
        n_features: int = 145,
        depth: int = 17,
        skip: str = "individual",
        n_outputs: int = 1,
        widths: Sequence[int] | None = None,
        batch_norm: bool = True,
    ) -> None:
        super().__init__()
        if widths is None and depth not in RESIDUAL_WIDTHS:
            known = ", ".join(map(str, RESIDUAL_WIDTHS))
            raise InputError(f"ResidualNet has no published widths for depth {depth}: choose {known} or give widths.")
        hidden = RESIDUAL_WIDTHS[depth] if widths is None else tuple(widths)
        _check_architecture(n_features, hidden, skip, n_outputs)
        self.register_buffer("input_mean", torch.zeros(n_features))
        self.register_buffer("input_scale", torch.ones(n_features))
        sizes = _stacks(n_features, hidden, single=skip != "stacked")
        self.stacks = nn.ModuleList(_Stack(stack, skip=skip != "none", batch_norm=batch_norm) for stack in sizes)
        self.output = nn.Linear(hidden[-1], n_outputs)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """He initialisation with zero biases, projections that keep the variance, from torch's generator.

        The output starts with a variance near 1: each skip adds that of one normalised layer to what it spans.
        """
        stacks = [stack for stack in self.stacks if isinstance(stack, _Stack)]
        for stack in stacks:
            stack.reset_parameters(n_stacks=len(stacks))
        n_summed = sum(stack.skip and stack.batch_norm for stack in stacks) or 1
        nn.init.normal_(self.output.weight, std=1.0 / math.sqrt(self.output.in_features * n_summed))
        nn.init.zeros_(self.output.bias)

    @property
    def n_weights(self) -> int:
        """Number of matrix entries, those of projections included, biases and normalisation not counted."""
        return sum(module.weight.numel() for module in self.modules() if isinstance(module, nn.Linear))

    @torch.no_grad()
    def fit_inputs(self, x: Tensor) -> None:
        """Set `input_mean` and `input_scale` to the mean and standard deviation of training rows.

        Parameters
        ----------
        x
            Training rows (n, n_features), in the units of the inputs. A constant column gets scale 1.

        Raises
        ------
        InputError
            If the shape is wrong, there is no row, or a value is not finite.
        """
        if x.ndim != 2 or x.shape[1] != len(self.input_mean) or len(x) == 0:
            raise InputError(f"ResidualNet standardises rows (n, {len(self.input_mean)}), got shape {tuple(x.shape)}.")
        # Parts in float64: raw attributes reach 1e3, and a table of 1e5 rows need not be copied as a whole.
        parts = x.split(_FIT_ROWS)
        mean = sum((part.double().sum(dim=0) for part in parts), torch.zeros(())) / len(x)
        square = sum(((part.double() - mean).square().sum(dim=0) for part in parts), torch.zeros(())) / len(x)
        if not bool(torch.isfinite(square).all()):
            raise InputError("The rows to standardise by hold NaN or infinite values: clean the table.")
        scale = square.sqrt()
        constant = scale <= _CONSTANT * torch.maximum(x.amax(dim=0), -x.amin(dim=0))
        self.input_mean.copy_(mean)
        self.input_scale.copy_(torch.where(constant, 1.0, scale))

    def standardised(self, x: Tensor) -> Tensor:
        """Raw inputs (n, n_features) -> zero mean and unit variance over the training rows, see `INPUT_LIMIT`."""
        return ((x - self.input_mean) / self.input_scale).clamp(-INPUT_LIMIT, INPUT_LIMIT)

    def forward(self, x: Tensor) -> Tensor:
        """Raw inputs (n, n_features) -> outputs (n, n_outputs) in units of the targets."""
        hidden = self.standardised(x)
        for stack in self.stacks:
            hidden = stack(hidden)
        # In full precision under autocast too: the layer costs nothing and carries the last digits.
        with torch.autocast(hidden.device.type, enabled=False):
            result: Tensor = self.output(hidden.to(self.output.weight.dtype))
        return result


class _Stack(nn.Module):
    """Sequences of matrix, normalisation and ReLU from ``sizes[0]`` to ``sizes[-1]``, with or without a skip."""

    def __init__(self, sizes: Sequence[int], *, skip: bool, batch_norm: bool) -> None:
        super().__init__()
        self.skip, self.batch_norm = skip, batch_norm
        layers: list[nn.Module] = []
        for n_in, n_out in itertools.pairwise(sizes):
            # Normalisation takes any bias of the matrix out again.
            layers.append(nn.Linear(n_in, n_out, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm1d(n_out))
            layers.append(nn.ReLU())
        self.layers = nn.Sequential(*layers)
        projects = skip and sizes[0] != sizes[-1]
        self.projection = nn.Linear(sizes[0], sizes[-1], bias=False) if projects else None

    def reset_parameters(self, n_stacks: int) -> None:
        linear = [layer for layer in self.layers if isinstance(layer, nn.Linear)]
        for layer in linear:
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.skip and not self.batch_norm:
            # Each sum doubles the variance of un-normalised activations: 2^47 at the end of 48 layers.
            linear[-1].weight.data /= math.sqrt(n_stacks)
        if self.projection is not None:
            nn.init.normal_(self.projection.weight, std=1.0 / math.sqrt(self.projection.in_features))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        if not self.skip:
            return y
        shortcut: Tensor = x if self.projection is None else self.projection(x)
        # Under autocast the layers give bf16: dozens of sums in it would lose the small differences between rows.
        return shortcut.to(next(self.parameters()).dtype) + y


def _stacks(n_features: int, widths: Sequence[int], *, single: bool) -> list[tuple[int, ...]]:
    """Sizes (input, then each layer) of the stacks: single layers, or up to `STACK_LAYERS` neighbours of one width."""
    stacks: list[tuple[int, ...]] = []
    n_in = n_features
    for width, run in itertools.groupby(widths):
        n_left = len(list(run))
        while n_left:
            n_layers = 1 if single else min(STACK_LAYERS, n_left)
            stacks.append((n_in, *(width,) * n_layers))
            n_in, n_left = width, n_left - n_layers
    return stacks


def _check_architecture(n_features: int, widths: Sequence[int], skip: str, n_outputs: int) -> None:
    if n_features < 1 or n_outputs < 1:
        raise InputError(f"ResidualNet needs at least one input and one output, got {n_features} and {n_outputs}.")
    if not widths or min(widths) < 1:
        raise InputError(f"ResidualNet needs positive widths of its hidden layers, got {tuple(widths)}.")
    if skip not in SKIPS:
        raise InputError(f"Unknown skip {skip!r}: choose one of {', '.join(SKIPS)}.")
