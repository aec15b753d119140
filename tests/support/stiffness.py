"""Elastic tensors of no symmetry, and turned ones."""

from __future__ import annotations

import numpy as np
import scipy

VOIGT = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Row of a 6x6 tensor for a pair of indices."""


def random_stiffness(seed: int) -> np.ndarray:
    """Return a positive definite 6x6 tensor, GPa, whose eigenvalues lie between 1 and 100 GPa."""
    chance = np.random.default_rng(seed)
    vectors, _ = np.linalg.qr(chance.normal(size=(6, 6)))
    return (vectors * 10 ** chance.uniform(0, 2, 6)) @ vectors.T


def random_rotation(seed: int) -> np.ndarray:
    """Return a proper rotation (3, 3)."""
    return scipy.spatial.transform.Rotation.random(random_state=seed).as_matrix()


def rotated(tensor: np.ndarray, turn: np.ndarray) -> np.ndarray:
    """Return a stiffness as it is after the crystal was turned, index by index."""
    full = tensor[VOIGT[:, :, None, None], VOIGT[None, None]]
    turned = np.einsum("ia,jb,kc,ld,abcd->ijkl", turn, turn, turn, turn, full)
    pairs = [(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]
    return np.array([[turned[i, j, k, m] for k, m in pairs] for i, j in pairs])
