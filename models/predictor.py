"""Trained networks at work: element fractions -> energies, the same bits however the rows are cut into calls."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import nn

from models.errors import InputError
from models.inference import BatchFunction, batch_function, place_free, precise_function
from models.registry import build
from models.sieve import sieve_function
from models.training_state import load_arrays

BATCH_ROWS = 1024
"""Rows of every batch: activations and the weights of one layer stay in cache."""
SIEVE_ROWS = 4096
"""Rows of a sieve's batches: bytes take a quarter of the room. No part of what a sieve says."""


class Predictor:
    """One network, or the mean of an ensemble, from the contents of a model card and its members.

    Every batch has the same number of rows, the last one being filled up, so that a row's value never depends on its
    neighbours; `predict` can also be told a row's place in the batch, which makes a value independent of how a range
    is cut on any matrix library.

    Parameters
    ----------
    architecture
        ``{"name": ..., "parameters": {...}}``, see `models.registry.build`.
    normalisation
        ``{"mean": [m], "std": [s]}``: output times s plus m, eV/atom.
    members
        Weights by name, one dictionary per member.
    reference_correction
        Correction of each element's reference (n_features,), eV per atom of that element, for networks trained on raw
        values: the predicted energy is lowered by fractions @ correction. None for none.
    batch_size
        Rows per batch.
    engine
        ``auto``, ``onednn`` or ``eager``, see `models.inference.batch_function`.

    Raises
    ------
    InputError
        If the members do not fit the architecture, or the normalisation or correction is not usable.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        normalisation: Mapping[str, Sequence[float]],
        members: Sequence[Mapping[str, NDArray[Any]]],
        *,
        reference_correction: ArrayLike | None = None,
        batch_size: int = BATCH_ROWS,
        engine: str = "auto",
    ) -> None:
        if not members:
            raise InputError("The model has no members: train it again.")
        if batch_size < 1:
            raise InputError(f"A predictor's batch_size must be at least 1, got {batch_size}.")
        mean, std = _checked_normalisation(normalisation)
        self.batch_size = int(batch_size)
        self.n_features = int(architecture.get("parameters", {}).get("n_features", 86))
        self.correction = _checked_correction(reference_correction, self.n_features)
        self.networks = networks = [_load(architecture, member) for member in members]
        self.scale = (mean, std)
        compiled = [batch_function(network, mean, std, self.batch_size, engine) for network in networks]
        if len({used for _, used in compiled}) > 1:  # all members take one path, so that their spread is the networks'
            compiled = [batch_function(network, mean, std, self.batch_size, "eager") for network in networks]
        self._functions: list[BatchFunction] = [function for function, _ in compiled]
        self.engine: str = compiled[0][1]
        self._sieves: dict[str, list[BatchFunction]] = {}
        self._precise: list[BatchFunction] | None = None

    @property
    def n_members(self) -> int:
        """Members of the ensemble."""
        return len(self._functions)

    def predict(
        self, fractions: NDArray[np.floating], *, position: int = 0
    ) -> tuple[NDArray[np.float32], NDArray[np.float32] | None]:
        """Mean and standard deviation over the members.

        Parameters
        ----------
        fractions
            Element fractions (n, n_features), dimensionless; computed in float32.
        position
            Place of the first row: row i is computed at place (position + i) modulo the batch size. Callers that cut
            one range into calls pass the index of their first row.

        Returns
        -------
        tuple
            Mean (n,) and sample standard deviation (n,) over the members, eV/atom; the latter None for one member.

        Raises
        ------
        InputError
            If the shape is wrong or a fraction is not finite.
        """
        x = self.checked(fractions)
        place = position % self.batch_size
        single = [self._run(function, x, place, self.batch_size) for function in self._functions]
        values = np.stack(single).astype(np.float64)
        std = values.std(axis=0, ddof=1).astype(np.float32) if len(values) > 1 else None
        return self._corrected(values, x).astype(np.float32), std

    def require_place_free(self) -> None:
        """Refuse to go on where fp32 energies depend on a row's place in its batch.

        Rows that are picked from a range, by a sieve or by a student, have no places that follow from the range.

        Raises
        ------
        InputError
            If they do.
        """
        if not all(place_free(function, self.batch_size, self.n_features) for function in self._functions):
            raise InputError(
                "The fast mode and students need a matrix library that gives a row the same bits at any place of a "
                "batch: screen with precision fp32 and without a student."
            )

    def sieve(self, fractions: NDArray[np.floating], kind: str) -> NDArray[np.float32]:
        """Mean over the members in reduced arithmetic (n,), eV/atom: good for telling what need not be looked at.

        Parameters
        ----------
        fractions
            Element fractions (n, n_features), dimensionless.
        kind
            One of `models.sieve.SIEVES`.

        Raises
        ------
        InputError
            For a network that has no reduced form, or where fp32 energies depend on a row's place in its batch: what
            the sieve leaves could not be computed again with the same bits.
        """
        if kind not in self._sieves:
            self.require_place_free()
            mean, std = self.scale
            self._sieves[kind] = [sieve_function(network, mean, std, SIEVE_ROWS, kind) for network in self.networks]
        x = self.checked(fractions)
        single = [self._run(function, x, 0, SIEVE_ROWS) for function in self._sieves[kind]]
        values = np.stack(single).astype(np.float64)
        return self._corrected(values, x).astype(np.float32)

    @torch.inference_mode()
    def precise(self, fractions: NDArray[np.floating]) -> NDArray[np.float64]:
        """Mean over the members in float64 (n,), eV/atom, of float32 fractions: for rows that fp32 cannot decide."""
        if self._precise is None:
            mean, std = self.scale
            self._precise = [precise_function(network, mean, std) for network in self.networks]
        x = self.checked(fractions)
        rows = torch.from_numpy(x.astype(np.float64))
        # row by row: the bits must not depend on how many rows came together
        values = np.array([[float(f(rows[i : i + 1])) for i in range(len(x))] for f in self._precise])
        return self._corrected(values.reshape(len(self._precise), len(x)), x)

    def checked(self, fractions: NDArray[np.floating]) -> NDArray[np.float32]:
        """Rows (n, n_features) as float32, or an InputError that says what is wrong with them."""
        x = np.ascontiguousarray(fractions, dtype=np.float32)
        if x.ndim != 2 or x.shape[1] != self.n_features:
            raise InputError(f"The model takes element fractions (n, {self.n_features}), got shape {x.shape}.")
        if not np.isfinite(x).all():
            raise InputError("The element fractions hold NaN or infinite values: clean the table.")
        # torch warns of arrays that it could write to by mistake
        return x if x.flags.writeable else x.copy()

    def _corrected(self, values: NDArray[np.float64], x: NDArray[np.float32]) -> NDArray[np.float64]:
        """Mean over members (m, n), with the reference correction taken off."""
        mean: NDArray[np.float64] = values.mean(axis=0)
        return mean if self.correction is None else mean - _weighted_sum(x, self.correction)

    @torch.inference_mode()
    def _run(self, function: BatchFunction, x: NDArray[np.float32], place: int, size: int) -> NDArray[np.float32]:
        """One member over the rows in batches of a size, the first row at the given place of its batch."""
        result = np.empty(len(x), dtype=np.float32)
        start = 0
        while start < len(x):
            stop = min(len(x), start + size - place)
            if stop - start == size:
                result[start:stop] = function(torch.from_numpy(x[start:stop])).numpy()
            else:
                batch = np.zeros((size, self.n_features), dtype=np.float32)
                batch[place : place + stop - start] = x[start:stop]
                result[start:stop] = function(torch.from_numpy(batch)).numpy()[place : place + stop - start]
            start, place = stop, 0
        return result


def _load(architecture: Mapping[str, Any], member: Mapping[str, NDArray[Any]]) -> nn.Module:
    with torch.random.fork_rng(devices=[]):  # building draws initial weights that are thrown away
        network = build(architecture).eval().requires_grad_(False)
    load_arrays(network, member, "model")
    return network


def _weighted_sum(x: NDArray[np.float32], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows times weights, summed column by column: a matrix product's order of summation depends on the shape."""
    total = np.zeros(len(x))
    for column in np.flatnonzero(weights):
        total += x[:, column].astype(np.float64) * weights[column]
    return total


def _checked_normalisation(normalisation: Mapping[str, Sequence[float]]) -> tuple[float, float]:
    try:
        (mean,), (std,) = normalisation["mean"], normalisation["std"]
    except (KeyError, ValueError, TypeError) as error:
        raise InputError("The model's normalisation must hold one mean and one std: train it again.") from error
    if not (math.isfinite(mean) and math.isfinite(std) and std > 0):
        raise InputError(f"The model's normalisation is not usable (mean {mean}, std {std}): train it again.")
    return float(mean), float(std)


def _checked_correction(correction: ArrayLike | None, n_features: int) -> NDArray[np.float64] | None:
    if correction is None:
        return None
    values = np.asarray(correction, dtype=np.float64)
    if values.shape != (n_features,) or not np.isfinite(values).all():
        raise InputError(
            f"A reference correction needs {n_features} finite values, one per element; run the audit again."
        )
    return values if values.any() else None
