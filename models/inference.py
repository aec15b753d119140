"""Fully connected networks at the speed of the machine's matrix library, in exact fp32, one batch shape throughout.

A chain of dense layers runs through oneDNN with weights reordered once for the batch shape where the processor has
AVX-512 (about twice torch's default path on those that are not Intel's), or through torch's own layers where that is
faster, or oneDNN is not available or does not agree. Both take batches of one fixed number of rows: a matrix library
chooses its kernels by shape, and a row's last bits must not depend on how many rows came with it.
"""

from __future__ import annotations

import copy
import logging
import platform
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from models.elemnet import ElemNet
from models.errors import InputError

logger = logging.getLogger(__name__)

ENGINES: tuple[str, ...] = ("auto", "onednn", "eager")

X86: tuple[str, ...] = ("x86_64", "amd64")
"""What `platform.machine` calls such processors, in lower case."""

AGREEMENT = 2e-5
"""Largest accepted difference between the engines on the probe rows, relative to the largest output (at least 1).

fp32 sums of 1,024 terms in another order differ by about 1e-6; a wrong kernel or reduced precision by 1e-3 and more.
"""

_PLACE_FREE: dict[tuple[tuple[tuple[int, int], ...], int, int], bool] = {}
"""What was found for networks of some shapes, a batch and threads: several networks of an ensemble ask the same."""

BatchFunction = Callable[[Tensor], Tensor]
"""(batch, n_features) float32 -> (batch,) float32, for one fixed batch."""


@dataclass(frozen=True)
class DenseLayer:
    """One layer: ``relu(x @ weight.T + bias)``, without the ReLU in the last.

    Attributes
    ----------
    weight
        (n_out, n_in) float32.
    bias
        (n_out,) float32.
    relu
        Whether ReLU follows.
    """

    weight: Tensor
    bias: Tensor
    relu: bool


def dense_chain(network: ElemNet, mean: float, std: float) -> list[DenseLayer]:
    """Fold input scale and normalisation of a trained ElemNet into its first and last layer.

    Folding is done in fp64: ``(h @ w + b) * std + mean`` becomes ``h @ (w std) + (b std + mean)``.
    """
    layers = network.dense_layers
    chain = []
    for position, layer in enumerate(layers):
        weight, bias = layer.weight.detach().double(), layer.bias.detach().double()
        if position == 0:
            weight = weight * network.input_scale
        if position == len(layers) - 1:
            # a network that predicts its own uncertainty has a second output, which has no place in an energy
            weight, bias = weight[:1] * std, bias[:1] * std + mean
        chain.append(DenseLayer(weight.float().contiguous(), bias.float().contiguous(), position < len(layers) - 1))
    return chain


def batch_function(network: nn.Module, mean: float, std: float, batch: int, engine: str) -> tuple[BatchFunction, str]:
    """Compile a trained network for batches of a fixed number of rows.

    Parameters
    ----------
    network
        Trained network in evaluation mode; dense chains (ElemNet) can take the fast engine, others run as they are.
    mean, std
        Output normalisation, in the unit of the target.
    batch
        Rows of every batch.
    engine
        ``auto`` takes oneDNN where it works and agrees with torch, and torch's own layers where these are faster and
        give a row the same bits anywhere in a batch; ``onednn`` and ``eager`` force one.

    Returns
    -------
    tuple
        The function, and the engine it uses.

    Raises
    ------
    InputError
        For an unknown engine, or oneDNN forced where it is not available.
    """
    if engine not in ENGINES:
        raise InputError(f"Unknown inference engine {engine!r}: choose one of {', '.join(ENGINES)}.")
    eager = eager_function(network, mean, std)
    if not isinstance(network, ElemNet):
        return eager, "eager"
    chain = dense_chain(network, mean, std)
    if engine == "eager" or (engine == "auto" and not _onednn_is_faster() and _eager_is_place_free(network, batch)):
        return eager, "eager"
    try:
        fast = _prepacked_function(chain, batch)
        deviation = _deviation(fast, eager, batch, chain[0].weight.shape[1])
    except (RuntimeError, NotImplementedError, AttributeError) as error:
        # Every reason for which an optional kernel may be missing; what is forced must not fall back silently.
        if engine == "onednn":
            raise InputError(
                f"oneDNN is not available here ({str(error).splitlines()[0]}): use engine eager."
            ) from error
        logger.info("oneDNN is not available, torch's own layers are used: %s", str(error).splitlines()[0])
        return eager, "eager"
    if not deviation <= AGREEMENT:
        if engine == "onednn":
            raise InputError(f"oneDNN deviates from torch by {deviation:.1e} (relative) here: use engine eager.")
        logger.warning("oneDNN deviates from torch by %.1e (relative); torch's own layers are used", deviation)
        return eager, "eager"
    return fast, "onednn"


def _onednn_is_faster() -> bool:
    """Tell by the processor, not by a stopwatch: all workers of a machine must take the same engine.

    With AVX-512 oneDNN reached the matrix library's limit where torch's default took narrower instructions (AMD, about
    twice as fast); with AVX2 alone it fell short of the default by a tenth to a fifth (AMD, docs/benchmarks.md).
    """
    return platform.machine().lower() not in X86 or bool(torch.cpu._is_avx512_supported())


def _eager_is_place_free(network: ElemNet, batch: int) -> bool:
    """Whether torch's own layers give a row the same bits anywhere in a batch; a matter of shapes, not of weights."""
    shapes = tuple((layer.out_features, layer.in_features) for layer in network.dense_layers)
    asked = (shapes, batch, torch.get_num_threads())
    if asked not in _PLACE_FREE:
        eager = eager_function(network, 0.0, 1.0)
        _PLACE_FREE[asked] = place_free(eager, batch, network.dense_layers[0].in_features)
    return _PLACE_FREE[asked]


def precise_function(network: nn.Module, mean: float, std: float) -> BatchFunction:
    """Return the network in float64, (n, n_features) -> (n,), for the few rows that fp32 cannot decide."""
    if isinstance(network, ElemNet):
        layers = [(layer.weight.double(), layer.bias.double(), layer.relu) for layer in dense_chain(network, mean, std)]

        def run(x: Tensor) -> Tensor:
            for weight, bias, relu in layers:
                x = nn.functional.linear(x, weight, bias)
                x = x.relu_() if relu else x
            return x.reshape(-1)

        return run
    return _module_function(copy.deepcopy(network).double(), mean, std)


def packed(layer: DenseLayer, batch: int, kind: torch.dtype = torch.float32) -> Callable[[Tensor], Tensor]:
    """Compile one layer for batches of a fixed number of rows of a type, ReLU included, through oneDNN."""
    weight = torch.ops.mkldnn._reorder_linear_weight(layer.weight.to(kind).contiguous(), batch)
    bias, activation = layer.bias.to(kind), "relu" if layer.relu else "none"

    def run(x: Tensor) -> Tensor:
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, activation, [], "")
        return output

    return run


def chained(layers: Sequence[Callable[[Tensor], Tensor]]) -> BatchFunction:
    """Return the function that runs the layers one after the other, with one output per row."""

    def run(x: Tensor) -> Tensor:
        for layer in layers:
            x = layer(x)
        return x.reshape(-1)

    return run


def eager_function(network: nn.Module, mean: float, std: float) -> BatchFunction:
    """Return the network through torch's own layers, (n, n_features) -> (n,), on the device that it is on."""
    if not isinstance(network, ElemNet):
        return _module_function(network, mean, std)
    chain = dense_chain(network, mean, std)

    def run(x: Tensor) -> Tensor:
        for layer in chain:
            x = nn.functional.linear(x, layer.weight, layer.bias)
            if layer.relu:
                x = x.relu_()
        return x.reshape(-1)

    return run


def _prepacked_function(chain: list[DenseLayer], batch: int) -> BatchFunction:
    return chained([packed(layer, batch) for layer in chain])


def _module_function(network: nn.Module, mean: float, std: float) -> BatchFunction:
    def run(x: Tensor) -> Tensor:
        output: Tensor = network(x)
        return output[:, :1].reshape(-1) * std + mean

    return run


def place_free(function: BatchFunction, batch: int, n_features: int) -> bool:
    """Whether rows get the same bits wherever in the batch they stand, on random compositions moved about."""
    probe = _probe(batch, n_features)
    with torch.inference_mode():
        expected = function(probe)
        return all(torch.equal(function(probe.roll(by, 0)), expected.roll(by, 0)) for by in (1, 7, batch // 2))


def _deviation(fast: BatchFunction, reference: BatchFunction, batch: int, n_features: int) -> float:
    """Largest difference on random compositions, relative to the largest output (at least 1)."""
    probe = _probe(batch, n_features)
    with torch.inference_mode():
        expected, got = reference(probe), fast(probe)
    return float((got - expected).abs().max() / expected.abs().max().clamp(min=1.0))


def _probe(batch: int, n_features: int) -> Tensor:
    """Return random compositions of four elements, (batch, n_features)."""
    generator = torch.Generator().manual_seed(0)
    columns = torch.rand(batch, n_features, generator=generator).argsort(dim=1)[:, :4]
    shares = torch.rand(columns.shape, generator=generator) + 0.1
    return torch.zeros(batch, n_features).scatter_(1, columns, shares / shares.sum(dim=1, keepdim=True))
