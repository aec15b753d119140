"""The sieve of a GPU: a trained dense chain in fp16, with what it cannot represent marked instead of guessed.

Products are of halves and their sums in fp32, bias and ReLU part of the product's last step. Two things need care.
Fractions in fp16 are another composition's, so the first layer takes them as a high and a low half side by side. And
a half ends at 65,504: infinity times a negative weight is zero after a ReLU, a wrong answer that looks like any other.
So the largest value that each layer can have, whatever the composition, is bounded by its weights, and where the
bound is too weak a row's values are looked at: a row that may come too far has the value NaN, which
`models.cascade.decide` computes again in fp32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from models.elemnet import ElemNet
from models.errors import InputError
from models.inference import BatchFunction, DenseLayer, dense_chain
from models.sieve import WIDE, largest_activations

LARGEST_HALF: Final = 65_504.0
SAFE: Final = LARGEST_HALF / 2
"""Bounds are kept below this: the room is for rounding."""
USUAL: Final = 2.0**-4
"""Size to which the largest value of the calibration rows is brought: far below the end, far above the smallest half.

A power of two, so it changes no bit of what is represented. Values 1,000 times smaller still have all their digits.
"""
MARGIN: Final = 8.0
"""Where a row's values are looked at, they may be so many times the largest on the calibration rows."""
NEVER: Final = -1.0
"""Limit that no row keeps: its weights are beyond the halves."""
ALIGNED: Final = 16
"""Halves in a row of a matrix come in multiples of this: tensor cores load them 16 or 32 bytes at a time."""


@dataclass(frozen=True)
class HalfLayer:
    """One layer in fp16, ReLU included.

    Attributes
    ----------
    weight
        (n_in, n_out) float16, a transposed view.
    bias
        (n_out,) float16.
    limit
        Rows with an input above it may overflow; None: no composition can.
    """

    weight: Tensor
    bias: Tensor
    limit: float | None


def half_function(network: nn.Module, mean: float, std: float, batch: int, device: torch.device) -> BatchFunction:
    """Compile a trained network in fp16, for batches of compositions; a value is NaN where fp16 is not enough.

    Parameters
    ----------
    network
        Trained ElemNet in evaluation mode, on the CPU.
    mean, std
        Output normalisation, in the unit of the target.
    batch
        Rows of every batch.
    device
        Where it runs.

    Raises
    ------
    InputError
        For a network that is no dense chain.
    """
    if not isinstance(network, ElemNet):
        raise InputError("The fast mode knows dense chains (ElemNet) only: screen with precision fp32.")
    chain = dense_chain(network, mean, std)
    n_half = next((i for i in range(1, len(chain)) if chain[i].weight.shape[1] <= WIDE), len(chain) - 1)
    scale, wide = _halves(chain[:n_half], largest_activations(chain)[:n_half])
    layers = [HalfLayer(layer.weight.to(device).t(), layer.bias.to(device), layer.limit) for layer in wide]
    tail = [(layer.weight.to(device), layer.bias.to(device), layer.relu) for layer in chain[n_half:]]
    blank = torch.zeros(batch, -2 * chain[0].weight.shape[1] % ALIGNED, dtype=torch.float16, device=device)

    def run(x: Tensor) -> Tensor:
        sound: Tensor | None = None
        if layers:
            high = x.half()
            x = torch.cat([high, (x - high).half(), blank], dim=1)
        for layer in layers:
            if layer.limit is not None:
                fits = x.amax(dim=1) <= layer.limit  # false for NaN too
                sound = fits if sound is None else sound & fits
            x = torch._addmm_activation(layer.bias, x, layer.weight)
        x = x.float() / scale
        for weight, bias, relu in tail:
            x = torch._addmm_activation(bias, x, weight.t()) if relu else nn.functional.linear(x, weight, bias)
        x = x.reshape(-1)
        return x if sound is None else torch.where(sound, x, torch.nan)

    return run


def _halves(chain: Sequence[DenseLayer], largest: Sequence[Tensor]) -> tuple[float, list[HalfLayer]]:
    """Scale and round the wide layers; weights as they are stored, (n_out, n_in).

    Returns
    -------
    tuple
        The factor on all their values, a power of two, and the layers.
    """
    top = max((float(values.max()) for values in largest), default=0.0)
    scale = 2.0 ** round(math.log2(USUAL / top)) if top > 0 else 1.0
    layers: list[HalfLayer] = []
    bound = math.inf
    for i, layer in enumerate(chain):
        weight, bias = layer.weight * (scale if i == 0 else 1.0), (layer.bias * scale).half()
        if i == 0:
            # high and low halves of the fractions meet the same weights
            weight = nn.functional.pad(torch.cat([weight, weight], dim=1), (0, -2 * weight.shape[1] % ALIGNED))
        weight, limit = weight.half(), None
        gain = float(weight.double().clamp(min=0.0).sum(dim=1).max())
        shift = float(bias.double().clamp(min=0.0).max())
        if i == 0:  # shares sum to 1, so the largest sum is that of a single element
            bound = float((weight.double().amax(dim=1) + bias.double()).max().clamp(min=0.0))
            limit = None if bound <= SAFE else NEVER
        else:
            if not gain * bound + shift <= SAFE:
                limit = max(0.0, min(MARGIN * float(largest[i - 1].max()) * scale, (SAFE - shift) / gain))
                bound = limit
            bound = gain * bound + shift
        if not (weight.isfinite().all() and bias.isfinite().all()):
            limit = NEVER
        layers.append(HalfLayer(weight, bias, limit))
    return scale, layers
