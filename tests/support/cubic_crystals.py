"""Cubic crystals site by site: pymatgen takes most of a second to generate the operations of Fm-3m."""

from __future__ import annotations

from pymatgen.core import Lattice, Structure

FACE_CENTRED = ((0.0, 0.0, 0.0), (0.0, 0.5, 0.5), (0.5, 0.0, 0.5), (0.5, 0.5, 0.0))


def face_centred(a: float, *sites: tuple[str, tuple[float, float, float]]) -> Structure:
    """Return the cubic cell, a in A, of elements that each start from a place and are repeated by the centring."""
    species = [element for element, _ in sites for _ in FACE_CENTRED]
    places = [
        [(x + shift) % 1.0 for x, shift in zip(at, centre, strict=True)] for _, at in sites for centre in FACE_CENTRED
    ]
    return Structure(Lattice.cubic(a), species, places)


def copper(a: float, element: str = "Cu") -> Structure:
    """Return the face-centred cubic metal."""
    return face_centred(a, (element, (0.0, 0.0, 0.0)))


def rocksalt(a: float, cation: str, anion: str) -> Structure:
    """Return the structure of NaCl."""
    return face_centred(a, (cation, (0.0, 0.0, 0.0)), (anion, (0.5, 0.5, 0.5)))


def antifluorite(a: float, metal: str, anion: str) -> Structure:
    """Return the structure of Li2O."""
    return face_centred(a, (metal, (0.25, 0.25, 0.25)), (metal, (0.75, 0.75, 0.75)), (anion, (0.0, 0.0, 0.0)))
