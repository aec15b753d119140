"""Sieves: a trained dense chain in reduced arithmetic, several times as fast as fp32 and a little off.

What a sieve says is never an answer: `models.cascade` measures how far it may be off and computes whatever lies that
near to the threshold again. Three kinds: ``int8`` where the processor multiplies bytes and sums them in 32 bits (VNNI:
four times the products of fp32 in an instruction), ``bf16`` where it only multiplies halves, and ``int8-avx2`` where it
multiplies bytes but sums each two of them in 16 bits (about twice the products of fp32), with weights so small that no
two of them overflow.
"""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache
from typing import Final

import numba
import numpy as np
import torch
from torch import Tensor, nn

from models.elemnet import ElemNet
from models.errors import InputError
from models.inference import X86, BatchFunction, DenseLayer, chained, dense_chain, packed

logger = logging.getLogger(__name__)

SIEVES: Final = ("int8", "int8-avx2", "bf16")

WIDE: Final = 64
"""Layers that take at most this many values stay in fp32: they cost nothing and carry the last digits."""
EQUALISATION: Final = 0.7
"""Share of a unit's range that its scale takes over, the rest staying with the weights that it meets.

SmoothQuant's exponent (Xiao et al., arXiv:2211.10438). On a trained ElemNet 0.5 had larger deviations on the whole,
1.0 a larger largest one.
"""
HEADROOM: Final = 1.05
"""Values up to so many times the largest on the calibration rows are representable; larger ones are cut off."""
CALIBRATION_ROWS: Final = 16_384
"""Random compositions from which the ranges of the units are taken."""
PAIRS: Final = 32
"""Units of a layer are a multiple of it for the ``int8-avx2`` sieve: of other numbers the library pairs others."""
TILE: Final = 64
"""Units of a layer are a multiple of it for the ``int8`` sieve on processors that multiply whole tiles of bytes (AMX).

A tile holds 64 bytes a row. On one core of an Intel Xeon layers of 640 units ran at 2,500 GFLOP/s, of 700 at 1,500 to
1,900.
"""
VECTOR: Final = 16
"""Values of fp32 that an instruction takes at most (AVX-512)."""
_LEVELS: Final = 255
_WEIGHT_LEVELS: Final = 127


def best_sieve() -> str | None:
    """Return the fastest sieve that this processor has instructions for; None: fp32 is as fast as any."""
    if torch.cpu._is_vnni_supported():
        return "int8"
    if torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported():
        return "bf16"
    return "int8-avx2" if can_sieve("int8-avx2") else None


def second_sieve(kind: str) -> str | None:
    """Return the finer sieve for what another leaves; None where fp32 is about as fast.

    Where the processor multiplies whole tiles (AMX) halves are seven times as fast as fp32, and deviate five to seven
    times less than bytes (docs/whole-space.md, docs/benchmarks.md).
    """
    return "bf16" if kind == "int8" and torch.cpu._is_amx_tile_supported() else None


def can_sieve(kind: str) -> bool:
    """Tell whether this processor multiplies so.

    Sums of two products of bytes saturate at 16 bits without VNNI, and oneDNN, which multiplies halves, needs AVX-512
    even where it emulates bf16.
    """
    if kind == "int8":
        return bool(torch.cpu._is_vnni_supported())
    if kind == "int8-avx2":
        is_able = platform.machine().lower() in X86 and bool(torch.cpu._is_avx2_supported())
        return is_able and _library_is_exact()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def sieve_function(network: nn.Module, mean: float, std: float, batch: int, kind: str) -> BatchFunction:
    """Compile a trained network in reduced arithmetic, for batches of a fixed number of rows.

    Parameters
    ----------
    network
        Trained ElemNet in evaluation mode.
    mean, std
        Output normalisation, in the unit of the target.
    batch
        Rows of every batch.
    kind
        ``int8``, ``int8-avx2`` or ``bf16``.

    Raises
    ------
    InputError
        For a network that is no dense chain, an unknown kind, or one that this processor cannot multiply.
    """
    if kind not in SIEVES:
        raise InputError(f"Unknown sieve {kind!r}: choose one of {', '.join(SIEVES)}.")
    if not isinstance(network, ElemNet):
        raise InputError("The fast mode knows dense chains (ElemNet) only: screen with precision fp32.")
    if not can_sieve(kind):
        raise InputError(f"This processor has no instructions for the sieve {kind}: screen with precision fp32.")
    chain = dense_chain(network, mean, std)
    return _halves_function(chain, batch) if kind == "bf16" else _bytes_function(chain, batch, kind)


def _halves_function(chain: list[DenseLayer], batch: int) -> BatchFunction:
    """Multiply in bf16, sum in fp32; first and last layer in fp32: fractions in bf16 are another composition's."""
    outer = {0, len(chain) - 1}
    kinds = [torch.float32 if position in outer else torch.bfloat16 for position in range(len(chain))]
    layers = [packed(layer, batch, kind) for layer, kind in zip(chain, kinds, strict=True)]

    def run(x: Tensor) -> Tensor:
        for layer, kind in zip(layers, kinds, strict=True):
            x = layer(x.to(kind))
        return x.reshape(-1)

    return run


def units_multiple(kind: str) -> int:
    """Return the number of which the units of a bytes' sieve's layers are a multiple."""
    if kind == "int8-avx2":
        return PAIRS
    return TILE if torch.cpu._is_amx_tile_supported() else 1


def _bytes_function(chain: list[DenseLayer], batch: int, kind: str) -> BatchFunction:
    """Multiply bytes, sum in int32, with scales that are fixed beforehand: a row's value is its own at any place.

    The first layer sums in fp32 and writes bytes; wide layers read and write bytes; the narrow ones at the end are in
    fp32.
    """
    chain, ranges = _equalised(*_without_silent_units(chain, largest_activations(chain)))
    chain, in_pairs = _padded(chain, units_multiple(kind)), kind == "int8-avx2"
    n_wide = next((i for i in range(1, len(chain) - 1) if chain[i].weight.shape[1] <= WIDE), len(chain) - 1)
    tail = [packed(layer, batch) for layer in chain[n_wide:]]
    if n_wide <= 1:
        return chained([packed(chain[0], batch), *tail])
    steps = [HEADROOM * float(largest.max()) / _LEVELS for largest in ranges]
    into_bytes = _first_layer(chain[0], steps[0])
    wide = [
        _wide_layer(chain[i], batch, steps[i - 1], None if i == n_wide - 1 else steps[i], in_pairs)
        for i in range(1, n_wide)
    ]
    rest = chained([*wide, *tail])
    return lambda x: rest(into_bytes(x))


def _first_layer(layer: DenseLayer, step: float) -> Callable[[Tensor], Tensor]:
    """Fractions -> bytes in steps: a few rows of the weights are added up, since most fractions are zero."""
    weight = np.ascontiguousarray((layer.weight / step).float().numpy().T)
    # half a step more, so that cutting off the fraction rounds
    bias = (layer.bias / step + 0.5).float().numpy()

    def run(x: Tensor) -> Tensor:
        output = np.empty((len(x), len(bias)), dtype=np.uint8)
        _add_up(x.numpy(), weight, bias, output)
        return torch.from_numpy(output)

    return run


# Sums may be contracted to fused multiply-adds: a sieve's last bits do not matter.
@numba.njit(cache=True, nogil=True, fastmath={"contract", "nsz"})  # pragma: no cover - compiled, so never traced
def _add_up(x, weight, bias, output):  # type: ignore[no-untyped-def]
    """Fill ``output`` (n, n_out), uint8, with ``x @ weight + bias`` between 0 and 255.

    Four rows of weights are added at a time, as most compositions have four elements: the sums pass through once.
    """
    width, n_features = len(bias), x.shape[1]
    total = np.empty(width, dtype=np.float32)
    present, share = np.empty(n_features, dtype=np.int64), np.empty(n_features, dtype=np.float32)
    for row in range(len(x)):
        n = 0
        for feature in range(n_features):
            if x[row, feature] != np.float32(0.0):
                present[n], share[n] = feature, x[row, feature]
                n += 1
        for unit in range(width):
            total[unit] = bias[unit]
        whole = n - n % 4
        # indices, not rows of the weights: of rows the compiler cannot tell that they are not what it writes
        for k in range(0, whole, 4):
            i, j, m, o = present[k], present[k + 1], present[k + 2], present[k + 3]
            a, b, c, d = share[k], share[k + 1], share[k + 2], share[k + 3]
            for unit in range(width):
                total[unit] += a * weight[i, unit] + b * weight[j, unit] + c * weight[m, unit] + d * weight[o, unit]
        for k in range(whole, n):
            i, a = present[k], share[k]
            for unit in range(width):
                total[unit] += a * weight[i, unit]
        for unit in range(width):
            output[row, unit] = np.uint8(np.int32(min(max(total[unit], np.float32(0.0)), np.float32(255.0))))


def _wide_layer(
    layer: DenseLayer, batch: int, step_in: float, step_out: float | None, in_pairs: bool
) -> Callable[[Tensor], Tensor]:
    """Bytes in steps of `step_in` -> bytes in steps of `step_out`, or fp32 at the end of the wide layers."""
    quantised, scale = _quantised(layer.weight, in_pairs)
    weight = torch.ops.onednn.qlinear_prepack(quantised.contiguous(), [batch, quantised.shape[1]])
    if in_pairs and not _is_exact(quantised, weight, batch):
        raise InputError("Products of bytes overflow in this machine's library: screen with precision fp32.")
    zeros, bias, scale = torch.zeros(len(scale), dtype=torch.int32), layer.bias.float(), scale.float()
    size, kind = (1.0, torch.float32) if step_out is None else (step_out, torch.uint8)

    def run(x: Tensor) -> Tensor:
        output: Tensor = torch.ops.onednn.qlinear_pointwise(
            x, step_in, 0, weight, scale, zeros, bias, size, 0, kind, "relu" if layer.relu else "none", [], ""
        )
        return output

    return run


def _quantised(weight: Tensor, in_pairs: bool) -> tuple[Tensor, Tensor]:
    """Weights (n_out, n_in) as bytes, and the step of each row; `in_pairs` none of two neighbours overflow 16 bits."""
    largest = weight.abs().amax(dim=1)
    if in_pairs:
        largest = torch.maximum(largest, _largest_pair(weight))
    scale = (largest / _WEIGHT_LEVELS).clamp(min=torch.finfo(torch.float32).tiny)
    return (weight / scale[:, None]).round().to(torch.int8), scale


def _largest_pair(weight: Tensor) -> Tensor:
    """Largest sum, without its sign, of two neighbouring weights that pull the same way, (n_out,).

    Scaled to 127 and rounded it is 128 at most, and 255 * 128 still fits in 16 bits.
    """
    two = weight.reshape(len(weight), -1, 2)
    up, down = two.clamp(min=0).sum(dim=2), (-two).clamp(min=0).sum(dim=2)
    return torch.maximum(up, down).amax(dim=1)


@lru_cache(maxsize=1)
def _library_is_exact() -> bool:
    """Whether sums of two products that just fit in 16 bits come out right, in a small layer."""
    largest = torch.full((PAIRS, 2 * PAIRS), (_WEIGHT_LEVELS + 1) // 2, dtype=torch.int8)
    largest[::2] *= -1
    try:
        return _is_exact(largest, torch.ops.onednn.qlinear_prepack(largest, [PAIRS, 2 * PAIRS]), PAIRS)
    except (RuntimeError, NotImplementedError, AttributeError) as error:  # a build of torch without oneDNN
        logger.info("no products of bytes here: %s", str(error).splitlines()[0])
        return False


def _is_exact(quantised: Tensor, weight: Tensor, batch: int) -> bool:
    """Whether the library multiplies each row of the weights exactly with the bytes that sum highest and lowest."""
    n_out, ones = len(quantised), torch.ones(len(quantised))
    none, no_zeros = torch.zeros(n_out), torch.zeros(n_out, dtype=torch.int32)
    for sign in (1, -1):
        worst = (quantised * sign > 0).to(torch.uint8) * _LEVELS
        exact = (worst.double() * quantised.double()).sum(dim=1).float()  # rounded as the library's integers are
        for low in range(0, n_out, batch):
            rows = torch.zeros((batch, quantised.shape[1]), dtype=torch.uint8)
            here = worst[low : low + batch]
            rows[: len(here)] = here
            said = torch.ops.onednn.qlinear_pointwise(
                rows, 1.0, 0, weight, ones, no_zeros, none, 1.0, 0, torch.float32, "none", [], ""
            )
            if not torch.equal(said[: len(here), low : low + batch].diagonal(), exact[low : low + batch]):
                return False
    return True


def _padded(chain: list[DenseLayer], multiple: int) -> list[DenseLayer]:
    """Add units of zeros until each layer but the last has a multiple of so many; the same function.

    What follows a narrow layer stays in fp32, whose instructions take `VECTOR` values at most.
    """
    layers = list(chain)
    is_narrow = False
    for i in range(len(chain) - 1):
        more = -len(layers[i].weight) % (min(multiple, VECTOR) if is_narrow else multiple)
        is_narrow = is_narrow or len(layers[i].weight) + more <= WIDE
        layers[i] = replace(
            layers[i],
            weight=nn.functional.pad(layers[i].weight, (0, 0, 0, more)),
            bias=nn.functional.pad(layers[i].bias, (0, more)),
        )
        layers[i + 1] = replace(layers[i + 1], weight=nn.functional.pad(layers[i + 1].weight, (0, more)))
    return layers


def largest_activations(chain: list[DenseLayer]) -> list[Tensor]:
    """Largest output of every unit on random compositions, (n_out,) for each layer."""
    generator = torch.Generator().manual_seed(0)
    n_features = chain[0].weight.shape[1]
    columns = torch.rand(CALIBRATION_ROWS, n_features, generator=generator).argsort(dim=1)[:, :4]
    counts = torch.randint(0, 8, columns.shape, generator=generator).float()
    counts[:, 0] += 1  # one to four elements
    rows = torch.zeros(CALIBRATION_ROWS, n_features).scatter_(1, columns, counts / counts.sum(dim=1, keepdim=True))
    largest = []
    with torch.inference_mode():
        for layer in chain:
            rows = nn.functional.linear(rows, layer.weight, layer.bias)
            rows = rows.relu_() if layer.relu else rows
            largest.append(rows.amax(dim=0).double())
    return largest


def _without_silent_units(chain: list[DenseLayer], largest: list[Tensor]) -> tuple[list[DenseLayer], list[Tensor]]:
    """Leave out units that gave zero on every calibration row: training with weight decay leaves many of them."""
    layers, ranges = list(chain), list(largest)
    for i in range(len(chain) - 1):
        live = ranges[i] > 0
        live[0] = True  # a layer of none cannot be multiplied with
        layers[i] = replace(layers[i], weight=layers[i].weight[live], bias=layers[i].bias[live])
        layers[i + 1] = replace(layers[i + 1], weight=layers[i + 1].weight[:, live])
        ranges[i] = ranges[i][live]
    return layers, ranges


def _equalised(chain: list[DenseLayer], largest: list[Tensor]) -> tuple[list[DenseLayer], list[Tensor]]:
    """Scale units so that one step size suits all of a layer; exact, since ``relu(x / s) = relu(x) / s``.

    The next layer's weights take the factor (Nagel et al., arXiv:1906.04721); in float64.
    """
    layers = [replace(layer, weight=layer.weight.double(), bias=layer.bias.double()) for layer in chain]
    ranges = list(largest)
    tiny = 1e-6
    for i in range(len(layers) - 1):
        met = layers[i + 1].weight.abs().amax(dim=0).clamp(min=tiny)
        factor = ranges[i].clamp(min=tiny) ** EQUALISATION / met ** (1 - EQUALISATION)
        layers[i] = replace(layers[i], weight=layers[i].weight / factor[:, None], bias=layers[i].bias / factor)
        layers[i + 1] = replace(layers[i + 1], weight=layers[i + 1].weight * factor)
        ranges[i] = ranges[i].clamp(min=tiny) / factor
    return layers, ranges
