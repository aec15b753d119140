"""Support-vector regression as arrays: fitted by scikit-learn, kept and evaluated without it.

The prediction is a sum over the rows that the fit kept, f(x) = b + sum_i w_i exp(-gamma |z(x) - z_i|^2), z being the
columns brought to mean 0 and variance 1. It is as smooth as trees are stepped, which is why a mean of both is better
than either.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from models.errors import InputError
from models.stored_arrays import StoredArrays

FloatArray = NDArray[np.float64]

_AT_ONCE = 2**22
"""Values of the kernel that are in memory at once."""
CONSTANT = 1e-6
"""Standard deviation up to which a column is constant, as a share of its mean (of 1 at least): distances are fp32."""
IGNORED = 1e30
"""Scale of a column that was constant where it was learnt: whatever it holds later counts for nothing."""


@dataclass(frozen=True)
class KernelMachine(StoredArrays):
    """A fitted regression of one target.

    Attributes
    ----------
    mean, scale : ndarray, shape (k,), float64
        Of the columns; a column that was constant has the scale `IGNORED`.
    support : ndarray, shape (m, k), float64
        The rows that were kept, brought to mean 0 and variance 1.
    weights : ndarray, shape (m,), float64
        Their weights, in the target's unit.
    intercept : ndarray, shape (1,), float64
        In the target's unit.
    gamma : ndarray, shape (1,), float64
        1 / (2 sigma^2) of the kernel, in standard deviations of the columns.
    """

    KINDS: ClassVar = dict.fromkeys(("mean", "scale", "support", "weights", "intercept", "gamma"), np.float64)
    WHAT: ClassVar = "kernel machine"

    mean: FloatArray
    scale: FloatArray
    support: FloatArray
    weights: FloatArray
    intercept: FloatArray
    gamma: FloatArray

    def predict(self, x: FloatArray) -> FloatArray:
        """Predict rows.

        Parameters
        ----------
        x : ndarray, shape (n, k)
            Finite.

        Returns
        -------
        ndarray, shape (n,), float64

        Raises
        ------
        InputError
            Another number of columns.
        """
        rows = np.asarray(x, dtype=np.float64)
        if rows.ndim != 2 or rows.shape[1] != len(self.mean):
            raise InputError(f"the kernel machine was fitted to {len(self.mean)} columns, got an array {rows.shape}")
        parts = [np.zeros(0)]
        at_once = max(1, _AT_ONCE // max(1, len(self.support)))
        for start in range(0, len(rows), at_once):
            z = (rows[start : start + at_once] - self.mean) / self.scale
            squares = (z**2).sum(axis=1)[:, None] + (self.support**2).sum(axis=1) - 2.0 * z @ self.support.T
            parts.append(np.exp(-self.gamma[0] * np.maximum(squares, 0.0)) @ self.weights + self.intercept[0])
        return np.concatenate(parts)

    def fits(self) -> bool:
        """Whether shapes fit and all numbers are finite, widths positive."""
        rows, columns = self.weights.shape, self.mean.shape
        if len(rows) != 1 or len(columns) != 1 or self.support.shape != rows + columns or self.scale.shape != columns:
            return False
        if self.intercept.shape != (1,) or self.gamma.shape != (1,):
            return False
        finite = all(bool(np.isfinite(getattr(self, name)).all()) for name in self.KINDS)
        return finite and bool((self.scale > 0).all() and self.gamma[0] > 0)


def fit_kernel_machine(
    x: FloatArray,
    y: FloatArray,
    *,
    cost: float = 10.0,
    tolerance: float = 0.07,
    width: float = 3.0,
    share: float = 0.8,
    max_rows: int = 10_000,
    seed: int = 0,
) -> KernelMachine:
    """Fit to a share of the rows: Drucker et al., NIPS 1996.

    Parameters
    ----------
    x : ndarray, shape (n, k)
        Finite.
    y : ndarray, shape (n,)
        Target, any unit, not constant.
    cost, tolerance
        What an error costs, and the error that costs nothing, both in the target's standard deviations.
    width
        gamma is 1 / (width k): squared distances of rows grow with the number of columns.
    share, max_rows
        The rows that are learnt from: a share, drawn without replacement, and never more than so many, since libsvm
        takes more than quadratic time in them. Machines of different seeds differ, as members of an ensemble should.
    seed : int
        Of the draw.

    Returns
    -------
    KernelMachine
        Its predictions are scikit-learn's.

    Raises
    ------
    InputError
        A value is not finite, or the target is constant.
    """
    from sklearn.svm import SVR  # half a second to import

    rows, target = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    if not (np.isfinite(rows).all() and np.isfinite(target).all()):
        raise InputError("a kernel machine is fitted to finite numbers; clean the table")
    n_drawn = min(math.ceil(share * len(rows)), max_rows)
    drawn = np.random.default_rng(seed).permutation(len(rows))[:n_drawn]
    rows, target = rows[drawn], target[drawn]
    if n_drawn == 0 or not (target != target[0]).any():
        raise InputError(f"the target of {n_drawn} rows is constant: there is nothing to learn; give more rows")
    mean, deviation = rows.mean(axis=0), rows.std(axis=0)
    scale = np.where(deviation > CONSTANT * np.maximum(np.abs(mean), 1.0), deviation, IGNORED)
    centre, spread, gamma = target.mean(), target.std(), 1.0 / (width * rows.shape[1])
    model = SVR(C=cost, epsilon=tolerance, gamma=gamma).fit((rows - mean) / scale, (target - centre) / spread)
    return KernelMachine(
        mean, scale, np.asarray(model.support_vectors_), model.dual_coef_[0] * spread,
        model.intercept_ * spread + centre, np.array([gamma]),
    )  # fmt: skip
