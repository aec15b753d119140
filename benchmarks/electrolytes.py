"""Stability of electrolytes: chi of a million rows, interfaces of crystals, electrochemical windows.

    python -m benchmarks.electrolytes

One thread; against what one would write first, both in turns. Two minutes; the section Electrolytes of
docs/benchmarks.md is written at the end.
"""

from __future__ import annotations

import datetime as dt

import numpy as np
import scipy
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from benchmarks.case import Case
from benchmarks.run import machine, pair
from benchmarks.screen import PAGE
from benchmarks.screen_page import table, write_section
from models.anisotropic_stability import LITHIUM_CRYSTAL, LITHIUM_FACETS, directions_in_plane, interface_stability
from models.electrochemical_window import electrochemical_window
from models.electrodeposition import LITHIUM, stability_parameter
from models.elements import ELEMENTS
from models.hull import PhaseHull
from models.space import CompositionSpace
from models.stroh import surface_response

TITLE = "Electrolytes"
SEED = 0
N_ROWS = 1_000_000
N_BY_HAND = 20_000
N_CRYSTALS, N_ORIENTATIONS = 482, 28
N_SCHUR = 400
N_PHASES, N_WINDOWS, N_PROFILES = 40_000, 2_000, 8


def chi_case() -> Case:
    """Chi of many rows, against the formula written for one."""
    chance = np.random.default_rng(SEED)
    shear, ratio = 10 ** chance.uniform(0, 2, N_ROWS), chance.uniform(0.03, 0.7, N_ROWS)
    bulk = shear * chance.uniform(1, 3, N_ROWS)

    def ours() -> int:
        stability_parameter(bulk, shear, ratio)
        return N_ROWS

    def by_hand() -> int:
        for k, g, v in zip(bulk[:N_BY_HAND].tolist(), shear.tolist(), ratio.tolist(), strict=False):
            nu, nu_e, g_e = (3 * k - 2 * g) / (6 * k + 2 * g), LITHIUM.poisson_ratio, LITHIUM.shear_modulus
            d = g_e * (nu_e - 1) * (4 * nu - 3) + g * (4 * nu_e - 3) * (nu - 1)
            c = nu_e * (4 * nu - 3) - 3 * nu + 2
            unit = LITHIUM.wavenumber * LITHIUM.molar_volume * 1e-3
            surface = -LITHIUM.surface_energy * LITHIUM.wavenumber * unit * 1e-9 * (1 + v) / 2
            shift = (1 - v) * (g * g * (3 - 4 * nu_e) - g_e * g_e * (3 - 4 * nu)) / 2
            _ = surface + unit * (2 * g_e * g * (1 + v) * c + shift) / d
        return N_BY_HAND

    return Case("chi, isotropic", "rows", "the formula in a loop", ours, by_hand)


def tensors(n: int) -> np.ndarray:
    """Return positive definite stiffnesses (n, 6, 6), GPa, of no symmetry."""
    chance = np.random.default_rng(SEED)
    vectors, _ = np.linalg.qr(chance.normal(size=(n, 6, 6)))
    return np.asarray((vectors * 10 ** chance.uniform(0.5, 2, (n, 1, 6))) @ np.swapaxes(vectors, 1, 2))


def stroh_case() -> Case:
    """Interfaces of crystals with lithium, against an ordered Schur decomposition of each half-space."""
    n = N_CRYSTALS * N_ORIENTATIONS
    chance = np.random.default_rng(SEED)
    stiffness = np.repeat(tensors(N_CRYSTALS), N_ORIENTATIONS, axis=0)
    normals = chance.normal(size=(n, 3))
    waves = np.concatenate([directions_in_plane(normal, 1) for normal in normals])
    facets = list(LITHIUM_FACETS.items())
    below = np.array([facets[row % len(facets)][0] for row in range(n)], dtype=float)
    gamma = np.array([facets[row % len(facets)][1] for row in range(n)])
    along = np.concatenate([directions_in_plane(facet, 1) for facet in below])

    def ours() -> int:
        electrode = surface_response(LITHIUM_CRYSTAL, along, below, "below")
        interface_stability(electrode, surface_response(stiffness, waves, normals, "above"), 0.1, gamma)
        return n

    voigt = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])

    def schur() -> int:
        for row in range(N_SCHUR):
            sides = ((LITHIUM_CRYSTAL, along[row], below[row], -1), (stiffness[row], waves[row], normals[row], 1))
            for tensor, wave, normal, side in sides:
                full = tensor[voigt[:, :, None, None], voigt[None, None]]
                up = normal / np.linalg.norm(normal)
                frame = np.stack([wave, up, np.cross(wave, up)])
                turned = np.einsum("ia,jb,kc,ld,abcd->ijkl", frame, frame, frame, frame, full, optimize=True)
                q, r, t = turned[:, 0, :, 0], turned[:, 0, :, 1], turned[:, 1, :, 1]
                inverse = np.linalg.inv(t)
                matrix = np.block([[-inverse @ r.T, inverse], [r @ inverse @ r.T - q, -r @ inverse]])
                scipy.linalg.schur(matrix, output="complex", sort=lambda p, side=side: side * p.imag > 0)
        return N_SCHUR

    return Case("chi, anisotropic (Stroh)", "interfaces", "scipy, an ordered Schur form each", ours, schur)


def window_case() -> Case:
    """Electrochemical windows, against pymatgen's element profiles."""
    rng = np.random.default_rng(SEED)
    space = CompositionSpace(elements=ELEMENTS[:40], arities=(2, 3))
    known = space.unrank(np.sort(rng.choice(len(space), N_PHASES, replace=False)))
    fractions, formulas = space.fractions(known, np.float64), space.formulas(known)
    energies = rng.normal(-0.6, 0.5, N_PHASES)
    hull = PhaseHull(fractions, energies)
    lithium = ELEMENTS.index("Li")
    rows = np.flatnonzero(fractions[:, lithium] > 0)[:N_WINDOWS]

    def ours() -> int:
        electrochemical_window(hull, fractions[rows], lithium, 1.0)
        return len(rows)

    def profiles() -> int:
        for row in rows[:N_PROFILES]:
            outside = (fractions[:, fractions[row] == 0] > 0).any(axis=1)
            entries = [PDEntry(Composition(ELEMENTS[e]), 0.0) for e in np.flatnonzero(fractions[row])]
            for other in np.flatnonzero(~outside):
                composition = Composition(formulas[other])
                entries.append(PDEntry(composition, energies[other] * composition.num_atoms))
            PhaseDiagram(entries).get_element_profile(Element("Li"), Composition(formulas[row]))
        return N_PROFILES

    return Case("electrochemical window", "electrolytes", "pymatgen's element profile", ours, profiles)


def main() -> None:
    """Measure and write the section."""
    lines = []
    for case in (chi_case(), stroh_case(), window_case()):
        a, b, ratio = pair(case.ours, case.theirs)
        lines.append((case.name, f"{a:,.0f} {case.unit}/s", f"{case.against}: {b:,.0f} {case.unit}/s", f"{ratio:,.0f}"))
        print(lines[-1], flush=True)
    whole = f"{N_CRYSTALS} crystals in {N_ORIENTATIONS} orientations are {N_CRYSTALS * N_ORIENTATIONS:,} interfaces"
    text = (
        f"## {TITLE}\n\nWritten by `python -m benchmarks.electrolytes`. One thread; medians of five rounds. "
        f"{whole}, two half-spaces each.\n\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}\n\n"
        + table(("what", "elemscreen", "against", "ratio"), lines)
    )
    write_section(PAGE, TITLE, text)
    print(PAGE)


if __name__ == "__main__":
    main()
