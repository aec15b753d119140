"""Stroh's half-spaces: the closed form, an ordered Schur decomposition, symmetry and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import scipy
from hypothesis import given, settings
from hypothesis import strategies as st

from models.elasticity import isotropic_tensor
from models.errors import InputError
from models.stroh import half_space_sign, surface_response
from stiffness import VOIGT, random_rotation, random_stiffness, rotated

X, Y, Z = np.eye(3)


def by_schur(tensor: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Traction and in-plane stress for a wave along x and a normal y, from the ordered invariant subspace."""
    full = tensor[VOIGT[:, :, None, None], VOIGT[None, None]]
    q, r, t = full[:, 0, :, 0], full[:, 0, :, 1], full[:, 1, :, 1]
    inverse = np.linalg.inv(t)
    n = np.block([[-inverse @ r.T, inverse], [r @ inverse @ r.T - q, -r @ inverse]])
    _, vectors, found = scipy.linalg.schur(
        n, output="complex", sort=(lambda p: p.imag > 0) if side == "above" else (lambda p: p.imag < 0)
    )
    assert found == 3
    subspace = vectors[:, :3]
    function = subspace[3:] @ np.linalg.inv(subspace[:3])
    return 1j * function, -1j * (n[3:, :3] + n[3:, 3:] @ function)[0]


@given(st.integers(0, 10_000))
@settings(max_examples=40)
def test_is_the_ordered_schur_decomposition(seed: int) -> None:
    tensor = random_stiffness(seed)
    for side in ("above", "below"):
        response = surface_response(tensor, X, Y, side)
        traction, in_plane = by_schur(tensor, side)
        unit = np.abs(traction).max()
        np.testing.assert_allclose(response.traction[0] / unit, traction / unit, atol=1e-9)
        np.testing.assert_allclose(response.in_plane[0] / unit, in_plane / unit, atol=1e-9)


def test_isotropic_surface_is_the_textbook_one() -> None:
    """Pressing a half-space: sigma_22 = -k 2 G (2-2nu)/(3-4nu) u2 with u1 held at zero (plane strain)."""
    shear, nu = 5.0, 0.3
    bulk = 2 * shear * (1 + nu) / (3 * (1 - 2 * nu))
    above = surface_response(isotropic_tensor(bulk, shear), X, Y, "above")
    assert above.traction[0, 1, 1] == pytest.approx(-4 * shear * (1 - nu) / (3 - 4 * nu), rel=1e-10)
    below = surface_response(isotropic_tensor(bulk, shear), X, Y, "below")
    assert below.traction[0, 1, 1] == pytest.approx(4 * shear * (1 - nu) / (3 - 4 * nu), rel=1e-10)
    # out of the plane it is a wave of shear alone
    assert above.traction[0, 2, 2] == pytest.approx(-shear, rel=1e-10)
    assert np.abs(above.traction[0, 2, :2]).max() < 1e-12


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_work_of_the_surface_is_positive(seed: int) -> None:
    """-traction of a body above its surface is Hermitian and positive definite: any wave costs energy."""
    work = -surface_response(random_stiffness(seed), X, Y, "above").traction[0]
    np.testing.assert_allclose(work, work.conj().T, atol=1e-9 * np.abs(work).max())
    assert np.linalg.eigvalsh(work).min() > 0


@given(st.integers(0, 10_000))
@settings(max_examples=30)
def test_turning_crystal_and_directions_together_changes_nothing(seed: int) -> None:
    tensor, turn = random_stiffness(seed), random_rotation(seed)
    wave, normal = random_rotation(seed + 1)[:2]
    one = surface_response(tensor, wave, normal, "above")
    other = surface_response(rotated(tensor, turn), turn @ wave, turn @ normal, "above")
    np.testing.assert_allclose(one.traction, other.traction, atol=1e-9 * np.abs(one.traction).max())
    np.testing.assert_allclose(one.in_plane, other.in_plane, atol=1e-9 * np.abs(one.traction).max())


def test_rows_do_not_know_of_each_other_and_bad_ones_are_nan() -> None:
    tensors = np.stack([random_stiffness(1), -random_stiffness(2), np.full((6, 6), np.nan), isotropic_tensor(40, 33)])
    together = surface_response(tensors, X, Y, "above")
    assert np.isnan(together.traction[1:3]).all()
    assert np.isnan(together.in_plane[1:3]).all()
    for row in (0, 3):
        alone = surface_response(tensors[row], X, Y, "above")
        np.testing.assert_allclose(together.traction[row], alone.traction[0], rtol=1e-9, atol=1e-11)


def test_very_different_stiffnesses_converge() -> None:
    """A layered crystal, a thousand times softer across its layers."""
    tensor = np.diag([400.0, 400.0, 0.4, 0.4, 0.4, 150.0])
    tensor[0, 1] = tensor[1, 0] = 100.0
    for wave, normal in ((X, Z), (X, Y), (Z, X)):
        response = surface_response(tensor, wave, normal, "above")
        assert np.isfinite(response.traction).all()
        assert np.linalg.eigvalsh(-response.traction[0]).min() > 0


@pytest.mark.parametrize(
    ("wave", "normal", "said"),
    [(X, X, "perpendicular"), (X, X + Y, "perpendicular"), (X, np.zeros(3), "no length"), ([1.0, 0.0], Y, "three")],
)
def test_directions_of_no_use(wave: np.ndarray, normal: np.ndarray, said: str) -> None:
    with pytest.raises(InputError, match=said):
        surface_response(isotropic_tensor(40, 33), wave, normal, "above")


def test_a_real_eigenvalue_has_no_side() -> None:
    """And it costs the other matrices nothing."""
    turn = np.array([[0.0, -2.0], [0.5, 0.0]])
    said = half_space_sign(np.stack([turn, np.diag([1.0, 2.0]), np.eye(2)]))
    np.testing.assert_allclose(said[0], turn, rtol=1e-12)
    assert np.isnan(said[1:]).all()
