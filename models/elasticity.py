"""Elastic tensors and isotropic moduli.

Tensors are 6x6 stiffness matrices in Voigt notation (xx, yy, zz, yz, xz, xy), GPa; every function takes one or a stack.

Sources
-------
Hill, Proc. Phys. Soc. A 65, 349 (1952) for the averages; Mouhat & Coudert, Phys. Rev. B 90, 224104 (2014) for
mechanical stability as positive definiteness; Pugh, Philos. Mag. 45, 823 (1954) for K/G as a measure of ductility.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.errors import InputError

FloatArray = NDArray[np.float64]

MIN_EIGENVALUE = 1e-6
"""Smallest eigenvalue [GPa] of a tensor that counts as positive definite: below it lies the rounding of the sources."""

ROUNDING = 1.0
"""Unit [GPa] to which tensors of whole numbers were rounded."""

MAX_ASYMMETRY = 0.05
"""Largest |C - C^T| as a part of max |C| that is put down to rounding; more means that the matrix is no stiffness."""


@dataclass(frozen=True)
class ElasticAverages:
    """Polycrystal averages of elastic tensors, each of shape (n,) in GPa.

    Attributes
    ----------
    bulk_voigt, bulk_reuss, bulk_vrh : ndarray
        Upper bound, lower bound and their mean (Hill) of the bulk modulus.
    shear_voigt, shear_reuss, shear_vrh : ndarray
        The same of the shear modulus.
    """

    bulk_voigt: FloatArray
    bulk_reuss: FloatArray
    bulk_vrh: FloatArray
    shear_voigt: FloatArray
    shear_reuss: FloatArray
    shear_vrh: FloatArray


def parse_tensor(value: object) -> FloatArray:
    """Read one stiffness matrix from a JSON text, a nested list or a flat list of 36 numbers.

    Parameters
    ----------
    value : str, list or ndarray
        6x6 or 36 numbers, GPa.

    Returns
    -------
    ndarray, shape (6, 6)
        The matrix, symmetrised, GPa.

    Raises
    ------
    InputError
        Not 36 numbers, not finite, or not symmetric within `MAX_ASYMMETRY`.
    """
    try:
        raw: Any = json.loads(value) if isinstance(value, str) else value
        rows = [np.asarray(row, dtype=np.float64).ravel() for row in raw]
        numbers = np.concatenate(rows)
    except (TypeError, ValueError) as error:
        raise InputError(f"elastic tensor cannot be read ({error}); give 6x6 numbers in GPa") from error
    if numbers.size != 36:
        raise InputError(f"elastic tensor has {numbers.size} numbers; give 6x6 numbers in GPa")
    tensor = numbers.reshape(6, 6)
    if not np.isfinite(tensor).all():
        raise InputError("elastic tensor holds a number that is not finite; give 6x6 numbers in GPa")
    if np.abs(tensor - tensor.T).max() > MAX_ASYMMETRY * np.abs(tensor).max():
        raise InputError("elastic tensor is not symmetric; give the 6x6 stiffness matrix in Voigt notation, GPa")
    return (tensor + tensor.T) / 2


def smallest_eigenvalue(tensors: ArrayLike) -> FloatArray:
    """Smallest eigenvalue of each tensor's symmetric part.

    Parameters
    ----------
    tensors : array_like, shape (n, 6, 6) or (6, 6)
        Stiffness, GPa.

    Returns
    -------
    ndarray, shape (n,)
        GPa; NaN where a tensor is not finite.
    """
    stack = _stack(tensors)
    finite = np.isfinite(stack).all(axis=(1, 2))
    values = np.full(len(stack), np.nan)
    symmetric = (stack + stack.transpose(0, 2, 1)) / 2
    if finite.any():
        values[finite] = np.linalg.eigvalsh(symmetric[finite])[:, 0]
    return values


def is_positive_definite(tensors: ArrayLike) -> NDArray[np.bool_]:
    """Tell which crystals are mechanically stable: all eigenvalues of C above `MIN_EIGENVALUE`.

    Parameters
    ----------
    tensors : array_like, shape (n, 6, 6) or (6, 6)
        Stiffness, GPa.

    Returns
    -------
    ndarray of bool, shape (n,)
        False also for a tensor that is not finite.
    """
    return smallest_eigenvalue(tensors) > MIN_EIGENVALUE


def instability_reason(value: object) -> str | None:
    """Say why an elastic tensor disqualifies its crystal, allowing for the rounding of its source.

    Databases round tensors to whole GPa, which can turn a small positive eigenvalue into zero or slightly less
    (softest crystals, the very ones that are looked for). A tensor of whole numbers is therefore refused only where
    its smallest eigenvalue lies below minus half a GPa, or where a diagonal element is negative; a ``-0.0`` there was
    negative before it was rounded. Any other tensor must be positive definite as it stands.

    Parameters
    ----------
    value : str, list, ndarray or None
        Tensor in GPa; None or NaN where there is none, which is no reason.

    Returns
    -------
    str or None
        None for a good or missing tensor.
    """
    if value is None or (isinstance(value, float) and np.isnan(value)):
        return None
    try:
        tensor = parse_tensor(value)
    except InputError as error:
        return str(error)
    smallest = float(smallest_eigenvalue(tensor)[0])
    rounded = bool((tensor == np.round(tensor)).all())
    if np.signbit(np.diagonal(tensor)).any():
        return "elastic tensor is not positive definite (negative diagonal element)"
    if smallest <= (-ROUNDING / 2 if rounded else MIN_EIGENVALUE):
        return f"elastic tensor is not positive definite (smallest eigenvalue {smallest:.3g} GPa)"
    return None


def voigt_reuss_hill(tensors: ArrayLike) -> ElasticAverages:
    """Average elastic tensors over all orientations.

    Parameters
    ----------
    tensors : array_like, shape (n, 6, 6) or (6, 6)
        Stiffness, GPa.

    Returns
    -------
    ElasticAverages
        Arrays of shape (n,), GPa. Reuss and Hill are NaN where a tensor is not finite or not invertible; a tensor
        that is not positive definite gets its formal values, so ask `is_positive_definite` too.
    """
    c = _stack(tensors)
    s = _inverse(c)
    bulk_voigt = (_normal(c) + 2 * _cross(c)) / 9
    shear_voigt = (_normal(c) - _cross(c) + 3 * _shear(c)) / 15
    with np.errstate(divide="ignore", invalid="ignore"):
        bulk_reuss = 1 / (_normal(s) + 2 * _cross(s))
        shear_reuss = 15 / (4 * _normal(s) - 4 * _cross(s) + 3 * _shear(s))
    return ElasticAverages(
        bulk_voigt=bulk_voigt,
        bulk_reuss=bulk_reuss,
        bulk_vrh=(bulk_voigt + bulk_reuss) / 2,
        shear_voigt=shear_voigt,
        shear_reuss=shear_reuss,
        shear_vrh=(shear_voigt + shear_reuss) / 2,
    )


def isotropic_tensor(bulk: float, shear: float) -> FloatArray:
    """Stiffness matrix of an isotropic medium.

    Parameters
    ----------
    bulk, shear : float
        K and G, GPa.

    Returns
    -------
    ndarray, shape (6, 6)
        GPa.
    """
    lame = bulk - 2 * shear / 3
    tensor = np.zeros((6, 6))
    tensor[:3, :3] = lame
    tensor[np.arange(3), np.arange(3)] += 2 * shear
    tensor[np.arange(3, 6), np.arange(3, 6)] = shear
    return tensor


def rescaled_tensor(tensor: ArrayLike, bulk_factor: float, shear_factor: float) -> FloatArray:
    """Make a crystal stiffer or softer against compression and against shear.

    In Mandel's notation C' = S C S with S = sqrt(k) J + sqrt(g) (1 - J), where J projects on changes of volume. That
    keeps the crystal's symmetry and its stability, and multiplies the Voigt and Reuss averages by k and g exactly.

    Parameters
    ----------
    tensor : array_like, shape (6, 6)
        Stiffness, GPa.
    bulk_factor, shear_factor : float
        k and g, positive.

    Returns
    -------
    ndarray, shape (6, 6)
        GPa.
    """
    if not (bulk_factor > 0 and shear_factor > 0):
        raise InputError(f"factors of stiffness are {bulk_factor:g} and {shear_factor:g}; give positive numbers")
    mandel = np.sqrt(np.array([1.0, 1.0, 1.0, 2.0, 2.0, 2.0]))
    volume = np.zeros((6, 6))
    volume[:3, :3] = 1 / 3
    scale = np.sqrt(bulk_factor) * volume + np.sqrt(shear_factor) * (np.eye(6) - volume)
    full = scale @ (np.asarray(tensor, dtype=np.float64) * np.outer(mandel, mandel)) @ scale
    return np.asarray(full / np.outer(mandel, mandel))


def poisson_ratio(bulk: ArrayLike, shear: ArrayLike) -> FloatArray:
    """Poisson ratio (3K - 2G) / (6K + 2G), dimensionless.

    Parameters
    ----------
    bulk, shear : array_like, shape (n,)
        K and G in the same unit.

    Returns
    -------
    ndarray, shape (n,)
        NaN where K or G is not a positive finite number (positive moduli give -1 < nu < 1/2).
    """
    k, g = _positive(bulk, shear)
    return np.asarray((3 * k - 2 * g) / (6 * k + 2 * g))


def pugh_ratio(bulk: ArrayLike, shear: ArrayLike) -> FloatArray:
    """Pugh's ratio K/G, dimensionless: above about 1.75 a material tends to be ductile.

    Parameters
    ----------
    bulk, shear : array_like, shape (n,)
        K and G in the same unit.

    Returns
    -------
    ndarray, shape (n,)
        NaN where K or G is not a positive finite number.
    """
    k, g = _positive(bulk, shear)
    return np.asarray(k / g)


def _positive(bulk: ArrayLike, shear: ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Both moduli as float64, NaN where either is no positive finite number."""
    k, g = np.broadcast_arrays(np.asarray(bulk, dtype=np.float64), np.asarray(shear, dtype=np.float64))
    good = np.isfinite(k) & np.isfinite(g) & (k > 0) & (g > 0)
    return np.where(good, k, np.nan), np.where(good, g, np.nan)


def _stack(tensors: ArrayLike) -> FloatArray:
    """One tensor or many as (n, 6, 6)."""
    array = np.asarray(tensors, dtype=np.float64)
    if array.shape[-2:] != (6, 6) or array.ndim not in (2, 3):
        raise InputError(f"elastic tensors have shape {array.shape}; give (n, 6, 6), GPa")
    return array.reshape(-1, 6, 6)


def _inverse(tensors: FloatArray) -> FloatArray:
    """Compliances, NaN where a tensor is not finite or singular to working precision."""
    inverse = np.full_like(tensors, np.nan)
    finite = np.isfinite(tensors).all(axis=(1, 2))
    good = np.zeros(len(tensors), dtype=bool)
    if finite.any():
        good[finite] = np.linalg.cond(tensors[finite]) < 1e12
    if good.any():
        inverse[good] = np.linalg.inv(tensors[good])
    return inverse


def _normal(m: FloatArray) -> FloatArray:
    """m11 + m22 + m33."""
    return np.asarray(m[:, 0, 0] + m[:, 1, 1] + m[:, 2, 2])


def _cross(m: FloatArray) -> FloatArray:
    """m12 + m23 + m13."""
    return np.asarray(m[:, 0, 1] + m[:, 1, 2] + m[:, 0, 2])


def _shear(m: FloatArray) -> FloatArray:
    """m44 + m55 + m66."""
    return np.asarray(m[:, 3, 3] + m[:, 4, 4] + m[:, 5, 5])
