"""What a layer of a trained network says of its inputs: activations by a forward hook, and their principal components.

The analysis is that of Jha et al., Sci. Rep. 8, 17593 (2018), and of the dissertation's section 3.3.8 (Figure 3.6): the
activations of a layer, projected on their first two principal components.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.elemnet import ElemNet
from models.errors import InputError
from models.registry import build

BATCH_ROWS: Final = 256
"""Rows that go through the network at a time; the last batch is filled up, so that a row keeps its bits."""
MAX_BYTES: Final = 2 * 2**30
"""Largest table of activations that is made."""
_CHUNK_ROWS: Final = 8192

Layer = str | int


def layer_names(network: nn.Module) -> list[str]:
    """Names of the submodules that a hook can listen to, in the order of their definition; lists of them have none."""
    return [
        name
        for name, module in network.named_modules()
        if name and not isinstance(module, nn.ModuleList | nn.ModuleDict)
    ]


def n_layers(network: nn.Module) -> int:
    """Count the layers that have a number: the dense ones of an ElemNet, the blocks of other networks."""
    return len(_blocks(network))


def untrained_copy(network: nn.Module, architecture: Mapping[str, Any], seed: int = 0) -> nn.Module:
    """Build the network again with random weights, as a control: what its layers show, no training put there.

    Parameters
    ----------
    network : nn.Module
        The trained one; what it holds of its inputs' scale (its own buffers) is taken over.
    architecture : mapping
        See `models.registry.build`.
    seed : int
        Of the weights.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        fresh = build(architecture).eval().requires_grad_(False)
    for name, values in network.named_buffers(recurse=False):
        fresh.get_buffer(name).copy_(values)
    return fresh


def layer_activations(
    network: nn.Module,
    x: NDArray[np.floating] | Iterable[Any],
    layer: Layer,
    *,
    batch_rows: int = BATCH_ROWS,
    max_bytes: int = MAX_BYTES,
) -> NDArray[np.float32]:
    """Output of one layer for every row.

    Parameters
    ----------
    network : nn.Module
        Any network of `models.registry`; it is run in evaluation mode and left as it was.
    x : ndarray, shape (n, f), or iterable
        Inputs, computed in float32; or ready batches in the form that the network takes, such as
        `models.cgcnn.GraphBatch`.
    layer : str or int
        Name of a submodule (see `layer_names`), or a number from 1: for ElemNet that of a dense layer, whose output is
        taken after the ReLU that follows all but the last; for other networks that of a block, which is a direct
        submodule or an entry of a list of them, in the order of their definition.
    batch_rows : int
        Rows of an array that are computed at a time.
    max_bytes : int
        Size that the result may have.

    Returns
    -------
    ndarray, shape (n, w), float32
        Dimensionless; outputs with more axes are flattened. For ready batches n counts the rows that the layer gives:
        a layer that sees atoms gives one per atom.

    Raises
    ------
    InputError
        For an unknown layer, inputs that are no finite table, a layer that does not run once per batch or gives no
        table, or a result above ``max_bytes``.
    """
    return activations_by_layer(network, x, (layer,), batch_rows=batch_rows, max_bytes=max_bytes)[layer]


def activations_by_layer(
    network: nn.Module,
    x: NDArray[np.floating] | Iterable[Any],
    layers: Sequence[Layer],
    *,
    batch_rows: int = BATCH_ROWS,
    max_bytes: int = MAX_BYTES,
) -> dict[Layer, NDArray[np.float32]]:
    """Compute the outputs of several layers, which the rows pass once; see `layer_activations`, also for the errors.

    The tables of all layers together have to stay below ``max_bytes``.
    """
    found = {layer: _find(network, layer) for layer in layers}
    batches = _array_batches(network, x, batch_rows) if isinstance(x, np.ndarray) else ((b, None) for b in x)
    n_rows = len(x) if isinstance(x, np.ndarray) else 0
    parts: dict[Layer, list[NDArray[np.float32]]] = {layer: [] for layer in found}
    size = 0
    with _evaluating(network), torch.inference_mode():
        for inputs, rows in batches:
            outputs = _outputs(network, {layer: module for layer, (module, _) in found.items()}, inputs)
            width = 0
            for layer, output in outputs.items():
                if rows is not None and len(output) != batch_rows:
                    raise InputError(
                        f"layer {layer} gives {len(output)} rows for {batch_rows} inputs; take another layer"
                    )
                parts[layer].append(_as_table(output.relu() if found[layer][1] else output, rows))
                size += parts[layer][-1].nbytes
                width += parts[layer][-1].shape[1]
            if max(size, n_rows * width * 4) > max_bytes:
                said = ", ".join(str(layer) for layer in layers)
                raise InputError(
                    f"the activations of layer {said} take more than {max_bytes / 2**30:.2g} GiB; give fewer rows"
                )
    if not size:
        raise InputError("there are no rows to compute activations of; give at least one")
    return {layer: np.concatenate(tables) for layer, tables in parts.items()}


def principal_components(
    activations: NDArray[np.floating], k: int = 2
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Project rows on the directions of largest variance.

    Parameters
    ----------
    activations : ndarray, shape (n, w)
        One row per material.
    k : int
        Number of components.

    Returns
    -------
    scores : ndarray, shape (n, k)
        Coordinates of the rows, their mean at 0; in the unit of the activations.
    explained : ndarray, shape (k,)
        Share of the total variance, descending; zeros where nothing varies.
    components : ndarray, shape (k, w)
        Orthonormal directions. Their sign is fixed: the entry of largest size (the first of equals) is positive.

    Raises
    ------
    InputError
        For a table that is not finite, or more components than rows or columns.
    """
    table = np.asarray(activations)
    if table.ndim != 2 or not np.isfinite(table).all():
        raise InputError(f"principal components need a finite table (n, w), got shape {table.shape}")
    n, width = table.shape
    if not 1 <= k <= min(n, width):
        raise InputError(f"{n} rows of {width} activations have no {k} principal components; take 1 to {min(n, width)}")
    mean = table.mean(axis=0, dtype=np.float64)
    chunks = [slice(start, start + _CHUNK_ROWS) for start in range(0, n, _CHUNK_ROWS)]
    covariance = np.zeros((width, width))
    for rows in chunks:  # in pieces: a float64 copy of everything would double the memory
        centred = table[rows] - mean
        covariance += centred.T @ centred
    values, vectors = scipy.linalg.eigh(covariance, subset_by_index=[width - k, width - 1])
    components = np.ascontiguousarray(vectors[:, ::-1].T)
    components *= _signs(components)[:, None]
    scores = np.concatenate([(table[rows] - mean) @ components.T for rows in chunks])
    total = float(np.trace(covariance))
    explained = np.maximum(values[::-1], 0.0) / total if total > 0.0 else np.zeros(k)
    return scores, explained, components


def _signs(components: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sign of each row's largest entry; of entries equal up to rounding the first counts."""
    size = np.abs(components)
    leading = (size >= size.max(axis=1, keepdims=True) * (1.0 - 1e-9)).argmax(axis=1)
    return np.where(components[np.arange(len(components)), leading] < 0.0, -1.0, 1.0)


def _blocks(network: nn.Module) -> list[str]:
    """Names of the modules that a number means."""
    if isinstance(network, ElemNet):
        return [f"layers.{i}" for i in range(len(network.dense_layers))]
    blocks: list[str] = []
    for name, child in network.named_children():
        is_list = isinstance(child, nn.ModuleList)
        blocks += [f"{name}.{part}" for part, _ in child.named_children()] if is_list else [name]
    return blocks


def _find(network: nn.Module, layer: Layer) -> tuple[nn.Module, bool]:
    """Return the module that a layer's name or number means, and whether ReLU follows it outside of the module."""
    names, blocks = layer_names(network), _blocks(network)
    if isinstance(layer, str) and layer in names:
        return network.get_submodule(layer), False
    number = int(layer) if not isinstance(layer, bool) and (isinstance(layer, int) or layer.isdecimal()) else 0
    if not 1 <= number <= len(blocks):
        raise InputError(
            f"the network has no layer {layer!r}; take a number from 1 to {len(blocks)} or one of {', '.join(names)}"
        )
    return network.get_submodule(blocks[number - 1]), isinstance(network, ElemNet) and number < len(blocks)


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Keep evaluation mode for the time of the block; each module goes back to its own mode."""
    training = [module for module in network.modules() if module.training]
    network.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True


def _outputs(network: nn.Module, modules: Mapping[Layer, nn.Module], inputs: Any) -> dict[Layer, Tensor]:
    """Run the network on one batch and return what each module gave."""
    outputs: dict[Layer, list[Any]] = {layer: [] for layer in modules}

    def listener(heard: list[Any]) -> Callable[[nn.Module, Any, Any], None]:
        return lambda _module, _inputs, output: heard.append(output)

    handles = [module.register_forward_hook(listener(outputs[layer])) for layer, module in modules.items()]
    try:
        network(inputs)
    finally:
        for handle in handles:
            handle.remove()
    for layer, heard in outputs.items():
        if len(heard) != 1:
            raise InputError(f"layer {layer} runs {len(heard)} times per batch, not once; take another layer")
        if not isinstance(heard[0], Tensor) or heard[0].ndim == 0:
            raise InputError(
                f"layer {layer} gives no table of numbers but {type(heard[0]).__name__}; take another layer"
            )
    return {layer: heard[0] for layer, heard in outputs.items()}


def _as_table(output: Tensor, rows: int | None) -> NDArray[np.float32]:
    """Return the true rows of an output, flattened; a copy, which does not keep the rest of the batch alive."""
    kept = output[:rows]
    return kept.float().reshape(len(kept), -1).cpu().numpy().copy()


def _array_batches(network: nn.Module, x: NDArray[np.floating], batch_rows: int) -> Iterator[tuple[Tensor, int]]:
    """Batches of equal size on the network's device, each with its number of true rows."""
    if x.ndim != 2 or not np.isfinite(x).all():
        raise InputError(f"activations need a finite table of inputs (n, f), got shape {x.shape}")
    if batch_rows < 1:
        raise InputError(f"batch_rows must be at least 1, got {batch_rows}")
    weight = next(network.parameters(), None)
    for start in range(0, len(x), batch_rows):
        rows = x[start : start + batch_rows]
        batch = np.zeros((batch_rows, x.shape[1]), dtype=np.float32)
        batch[: len(rows)] = rows
        yield torch.from_numpy(batch).to("cpu" if weight is None else weight.device), len(rows)
