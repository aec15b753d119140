"""Trained networks on a GPU: the arithmetic of `models.cascade`, with fp16 for the sieve.

On a GPU fp16 is as fast as bf16 and eight times as fine. Energies come from fp32 in batches of one shape, as on the
host, though not with the host's bits: which sum a matrix library forms first is its own affair.
"""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from models.device_sieve import half_function
from models.device_space import DeviceSpace, NumberedRows
from models.errors import InputError
from models.inference import BatchFunction, eager_function, place_free, precise_function
from models.predictor import Predictor
from models.space import CompositionSpace

FP16: Final = "fp16"
"""The kind of a device's sieve."""
SIEVE_ROWS: Final = 8192
"""Rows of a batch of the sieve to begin with: its activations and the weights stay in the second cache."""
SMALLEST_ROWS: Final = 256
"""Rows below which a batch of the sieve is not halved any more."""
PRECISE_ROWS: Final = 16
"""Rows of a batch in float64; so few need it."""
CHUNK_ROWS: Final = 1_048_576
"""Compositions enumerated at a time (360 MB of dense rows on the device); no part of the result."""

_EXACT: Final = {
    "fp32_precision": "ieee",
    "allow_fp16_reduced_precision_reduction": False,
    "allow_fp16_accumulation": False,
}

Rows = NumberedRows | NDArray[np.floating]


class DevicePredictor:
    """A network on a device, as `models.screening` and `models.cascade` use it; safe to call from several threads.

    Parameters
    ----------
    host
        The network.
    device
        ``cuda``, or ``cpu`` to try the same code where there is no GPU.
    sieve_rows
        Rows of a batch of the sieve; halved where the device's memory does not suffice.

    Attributes
    ----------
    threads
        Chunks that `models.screening.screen_range` has in hand at a time, so that the hull of some is evaluated on the
        processor's cores while the device computes others.
    chunk_rows
        Compositions of such a chunk.

    Raises
    ------
    InputError
        Where there is no such device.
    """

    def __init__(self, host: Predictor, device: str = "cuda", *, sieve_rows: int = SIEVE_ROWS) -> None:
        if device.startswith("cuda") and not torch.cuda.is_available():
            raise InputError("There is no CUDA device here: install the CUDA build of torch, or screen on the CPU.")
        self.device = torch.device(device)
        self.host = host
        self.sieve_rows = sieve_rows
        self.threads = max(1, _n_cores() // max(1, torch.cuda.device_count()))
        self.chunk_rows = CHUNK_ROWS
        self._networks = [copy.deepcopy(network).to(self.device) for network in host.networks]
        mean, std = host.scale
        self._functions = [eager_function(network, mean, std) for network in self._networks]
        self._precise: list[BatchFunction] | None = None
        self._sieves: list[BatchFunction] | None = None
        self._lock = threading.RLock()
        self._space = lru_cache(maxsize=4)(lambda space: DeviceSpace(space, self.device))

    def rows(self, space: CompositionSpace, start: int, stop: int) -> NumberedRows:
        """Compositions ``start`` to ``stop - 1`` of a space, to be enumerated on the device."""
        with self._lock:
            return NumberedRows(self._space(space), np.arange(start, stop, dtype=np.int64))

    @torch.inference_mode()
    def predict(self, fractions: Rows, *, position: int = 0) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mean and standard deviation over the members in fp32 (n,), eV/atom; see `Predictor.predict`."""
        with self._lock, _exact_sums():
            x = self._dense(fractions)
            place, size = position % self.host.batch_size, self.host.batch_size
            values = torch.stack([_in_batches(f, x, size, place) for f in self._functions]).double()
            mean = self._corrected(values, x).float().cpu().numpy()
            if len(values) == 1:
                return mean, None
            spread = (values - values.mean(dim=0)).square().sum(dim=0) / (len(values) - 1)
            return mean, spread.sqrt().float().cpu().numpy()

    @torch.inference_mode()
    def sieve(self, fractions: Rows, kind: str) -> NDArray[np.float32]:
        """Mean over the members in fp16 (n,), eV/atom; NaN where fp16 is not enough, so that fp32 looks again.

        Raises
        ------
        InputError
            For another kind, a network that has no reduced form, where fp32 energies depend on a row's place in its
            batch, or where the device's memory does not suffice for the smallest batch.
        """
        if kind != FP16:
            raise InputError(f"A device has the sieve {FP16}, not {kind!r}: measure the fast mode's precision here.")
        with self._lock, _exact_sums():
            if self._sieves is None:
                self.require_place_free()
                self._sieves, self.sieve_rows = self._fitting_sieves()
            x = self._dense(fractions)
            values = torch.stack([_in_batches(f, x, self.sieve_rows) for f in self._sieves]).double()
            return self._corrected(values, x).float().cpu().numpy()

    @torch.inference_mode()
    def precise(self, fractions: Rows) -> NDArray[np.float64]:
        """Mean over the members in float64 (n,), eV/atom, of float32 fractions."""
        with self._lock:
            if self._precise is None:
                self._precise = [precise_function(network, *self.host.scale) for network in self._networks]
            x = self._dense(fractions)
            values = torch.stack([_in_batches(f, x.double(), PRECISE_ROWS) for f in self._precise])
            return self._corrected(values, x).cpu().numpy()

    def require_place_free(self) -> None:
        """Refuse to go on where fp32 energies depend on a row's place in its batch, see `Predictor`."""

        def on_device(function: BatchFunction) -> BatchFunction:
            return lambda x: function(x.to(self.device)).cpu()

        size = self.host.batch_size
        if not all(place_free(on_device(f), size, self.host.n_features) for f in self._functions):
            raise InputError("This device gives a row other bits at another place of a batch: screen with fp32.")

    def _dense(self, rows: Rows) -> Tensor:
        if isinstance(rows, NumberedRows):
            return rows.fractions()
        return torch.from_numpy(self.host.checked(rows)).to(self.device)

    def _corrected(self, values: Tensor, x: Tensor) -> Tensor:
        """Mean over members (m, n) in float64, with the reference correction taken off column by column."""
        mean = values.mean(dim=0)
        if self.host.correction is not None:
            for column in np.flatnonzero(self.host.correction):
                mean = mean - x[:, column].double() * float(self.host.correction[column])
        return mean

    def _fitting_sieves(self) -> tuple[list[BatchFunction], int]:
        """Compile the sieves for the largest batch that the device has memory for."""
        rows = self.sieve_rows
        while True:
            try:
                return [self._sieve_function(network, rows) for network in self.host.networks], rows
            except torch.OutOfMemoryError as error:
                if rows // 2 < SMALLEST_ROWS:
                    raise InputError(
                        f"The device has no memory for {rows} compositions at a time: free some of it, or screen on "
                        "the CPU."
                    ) from error
                rows //= 2
                torch.cuda.empty_cache()

    def _sieve_function(self, network: nn.Module, rows: int) -> BatchFunction:
        function = half_function(network, *self.host.scale, rows, self.device)
        return _replayed(function, torch.zeros(rows, self.host.n_features, device=self.device))


def _n_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _replayed(function: BatchFunction, batch: Tensor) -> BatchFunction:
    """Record a function of one batch as a CUDA graph: one launch instead of dozens; on the CPU the function itself.

    What the recorded function returns is overwritten by its next call.
    """
    if batch.device.type != "cuda":
        return function
    aside = torch.cuda.Stream(batch.device)
    aside.wait_stream(torch.cuda.current_stream(batch.device))
    with torch.cuda.stream(aside):  # libraries take their workspaces on first use, which a graph must not record
        for _ in range(3):
            function(batch)
    torch.cuda.current_stream(batch.device).wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        output = function(batch)

    def run(x: Tensor) -> Tensor:
        batch.copy_(x)
        graph.replay()
        return output

    return run


def _in_batches(function: BatchFunction, x: Tensor, size: int, place: int = 0) -> Tensor:
    """Run a function of `size` rows over all rows (n, m), the first of which takes a place in its batch; (n,)."""
    n = len(x)
    n_batches = -(-(place + n) // size)
    result = torch.empty(n_batches * size, dtype=x.dtype, device=x.device)
    for number in range(n_batches):
        low, high = number * size - place, (number + 1) * size - place
        inside = x[max(low, 0) : high]
        if len(inside) < size:
            padded = torch.zeros(size, x.shape[1], dtype=x.dtype, device=x.device)
            padded[max(-low, 0) : max(-low, 0) + len(inside)] = inside
            inside = padded
        result[number * size : (number + 1) * size] = function(inside)
    return result[place : place + n]


@contextmanager
def _exact_sums() -> Iterator[None]:
    """Have products of fp32 in fp32 (no TF32), and products of fp16 summed in fp32, inside of the block."""
    products: Any = torch.backends.cuda.matmul
    before = {name: getattr(products, name) for name in _EXACT}
    try:
        for name, value in _EXACT.items():
            setattr(products, name, value)
        yield
    finally:
        for name, value in before.items():
            setattr(products, name, value)
