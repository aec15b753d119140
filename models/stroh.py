"""Elastic half-spaces under a wave of displacement at their surface: Stroh's formalism for any anisotropy.

With the surface at x2 = 0 and the wave along x1, displacement u and stress function phi obey

    d/dx2 [u; phi] = N d/dx1 [u; phi],    sigma_i1 = -d phi_i/dx2,    sigma_i2 = d phi_i/dx1

with a real 6x6 matrix N. What decays into the body is the invariant subspace of N whose eigenvalues lie in one half
of the complex plane. It is taken from the sign function of N, which needs neither eigenvectors nor an order of
eigenvalues: isotropic and other degenerate media, whose N has too few eigenvectors, are no case of their own.

Sources
-------
Stroh, Phil. Mag. 3, 625 (1958) and J. Math. Phys. 41, 77 (1962); T. C. T. Ting, Anisotropic Elasticity (Oxford, 1996),
chapters 5 and 7, whose angular mean of N (the Barnett-Lothe tensors S, H, L) equals this sign function; the Newton
iteration with scaling: N. J. Higham, Functions of Matrices (SIAM, 2008), chapter 5.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from models.elasticity import is_positive_definite
from models.errors import InputError

FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]
Side = Literal["above", "below"]

MAX_STEPS = 60
"""Newton steps; each doubles the distance of a nearly real eigenvalue from the real axis, so this covers 1e-16."""
SCALED_STEPS = 6
"""First steps, which are scaled; the last ones are plain, where the iteration converges quadratically."""
MAX_RESIDUAL = 1e-8
"""Largest deviation of the squared sign function from minus one that counts as converged."""
_VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])


@dataclass(frozen=True)
class SurfaceResponse:
    """Stress at the surface of n half-spaces per wavenumber and complex amplitude of the displacement.

    Axes are the wave's direction, the normal, and their cross product. A displacement Re[u exp(i k x1)] at the
    surface makes the stress Re[k (response u) exp(i k x1)] there.

    Attributes
    ----------
    traction : ndarray of complex, shape (n, 3, 3)
        sigma_12, sigma_22 and sigma_32 from the three displacements, GPa.
    in_plane : ndarray of complex, shape (n, 3)
        sigma_11 from the three displacements, GPa.
    """

    traction: ComplexArray
    in_plane: ComplexArray


def surface_response(tensors: ArrayLike, waves: ArrayLike, normals: ArrayLike, side: Side) -> SurfaceResponse:
    """Solve n half-spaces.

    Parameters
    ----------
    tensors : array_like, shape (n, 6, 6) or (6, 6)
        Stiffness in Voigt order (xx, yy, zz, yz, xz, xy), GPa.
    waves, normals : array_like, shape (n, 3) or (3,)
        Direction of the wave and normal x2 of the surface in the tensors' frame; perpendicular, of any length. Every
        argument broadcasts against the others.
    side : str
        ``above``: the body fills x2 > 0; ``below``: x2 < 0. The normal points from below to above.

    Returns
    -------
    SurfaceResponse
        NaN where a tensor is not positive definite, so that its waves need not decay.

    Raises
    ------
    InputError
        Directions of length zero or that are not perpendicular.
    """
    wave, normal = _directions(waves), _directions(normals)
    if np.any(np.abs((wave * normal).sum(-1)) > 1e-8):
        raise InputError("direction of a wave is not in its surface; give one that is perpendicular to the normal")
    given = np.asarray(tensors, dtype=np.float64)
    good = is_positive_definite(given)
    n = np.broadcast_shapes(wave.shape[:1], normal.shape[:1], good.shape)[0]
    rows = np.flatnonzero(np.broadcast_to(good, (n,)))
    stiffness = np.broadcast_to(given.reshape(-1, 6, 6), (n, 6, 6))[rows]
    traction, in_plane = np.full((n, 3, 3), np.nan + 0j), np.full((n, 3), np.nan + 0j)
    if len(rows):
        traction[rows], in_plane[rows] = _solve(
            stiffness, np.broadcast_to(wave, (n, 3))[rows], np.broadcast_to(normal, (n, 3))[rows], side
        )
    return SurfaceResponse(traction, in_plane)


def half_space_sign(matrices: FloatArray) -> FloatArray:
    """Compute i sign(-i N): +i on eigenvectors of eigenvalues above the real axis, -i on those below.

    Parameters
    ----------
    matrices : ndarray, shape (n, m, m)
        Real, without real eigenvalues.

    Returns
    -------
    ndarray, shape (n, m, m)
        Real; its square is minus one. NaN where the iteration does not converge, which means an eigenvalue that is
        real to working precision.
    """
    try:
        sign = _newton(matrices)
    except np.linalg.LinAlgError:
        if len(matrices) == 1:
            return np.full_like(matrices, np.nan)
        return np.concatenate([half_space_sign(one[None]) for one in matrices])
    residual = np.abs(sign @ sign + np.eye(sign.shape[-1])).max(axis=(1, 2), keepdims=True)
    return np.where(residual <= MAX_RESIDUAL * np.maximum(1.0, _norm(sign) ** 2), sign, np.nan)


def _newton(matrices: FloatArray) -> FloatArray:
    now = matrices
    for step in range(MAX_STEPS):
        inverse = np.linalg.inv(now)
        scale = np.sqrt(_norm(inverse) / _norm(now)) if step < SCALED_STEPS else 1.0
        before, now = now, (scale * now - inverse / scale) / 2
        if step >= SCALED_STEPS and np.all(np.abs(now - before) <= 1e-14 * _norm(now)):
            break
    return now


def _solve(
    stiffness: FloatArray, wave: FloatArray, normal: FloatArray, side: Side
) -> tuple[ComplexArray, ComplexArray]:
    """Return traction and in-plane stress of positive definite tensors, in the frame of wave and normal."""
    full = stiffness[:, _VOIGT[:, :, None, None], _VOIGT[None, None, :, :]]
    frame = np.stack([wave, normal, np.cross(wave, normal)], axis=1)
    q, r, t = (
        frame @ np.einsum("nijkl,nj,nl->nik", full, a, b, optimize=True) @ _transposed(frame)
        for a, b in ((wave, wave), (wave, normal), (normal, normal))
    )
    unit = np.abs(q).max(axis=(1, 2), keepdims=True)  # numbers near one, whatever the unit
    q, r, t = q / unit, r / unit, t / unit
    stroh = _stroh_matrix(q, r, t)
    sign = half_space_sign(stroh)
    # N v = p v with v = [u; M u] and sign v = +-i v: the first three rows give S u + H M u = +-i u
    turn = (1j if side == "above" else -1j) * np.eye(3)
    stress_function = np.linalg.solve(sign[:, :3, 3:].astype(complex), turn - sign[:, :3, :3])
    down = stroh[:, 3:, :3] + stroh[:, 3:, 3:] @ stress_function  # d phi/dx2 per i k u
    return 1j * unit * stress_function, -1j * unit[:, 0] * down[:, 0]


def _stroh_matrix(q: FloatArray, r: FloatArray, t: FloatArray) -> FloatArray:
    """N of Q_ik = C_i1k1, R_ik = C_i1k2 and T_ik = C_i2k2; Ting's equation 5.5-5."""
    inverse = np.linalg.inv(t)
    above = np.concatenate([-inverse @ _transposed(r), inverse], axis=2)
    below = np.concatenate([r @ inverse @ _transposed(r) - q, -r @ inverse], axis=2)
    return np.concatenate([above, below], axis=1)


def _directions(vectors: ArrayLike) -> FloatArray:
    """Return vectors of length one, (n, 3)."""
    given = np.atleast_2d(np.asarray(vectors, dtype=np.float64))
    length = np.linalg.norm(given, axis=-1, keepdims=True)
    if given.shape[-1] != 3 or not np.all(length > 0):
        raise InputError("a direction has no length or not three components; give vectors (n, 3)")
    return np.asarray(given / length)


def _norm(matrices: NDArray[Any]) -> FloatArray:
    """Frobenius norms (n, 1, 1)."""
    return np.asarray(np.linalg.norm(matrices, axis=(-2, -1))[:, None, None])


def _transposed(matrices: NDArray[Any]) -> NDArray[Any]:
    return np.swapaxes(matrices, -1, -2)
