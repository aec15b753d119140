"""Elemental reference energies for a universal potential.

Solids: the lowest energy over all elemental prototypes. H, N, O, F, Cl, Br and I: a potential trained on crystals does
not know the isolated molecule, so their reference is fitted to measured formation enthalpies of binaries.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pymatgen.core import Composition, Structure

from models.crystals import shortest_ratio
from models.decoration import guess_volume
from models.oxidation_states import metallic_volume
from models.prototypes import load_prototypes
from models.relaxation import Evaluate, RelaxSettings, relax_structures, scan_volume

EV_PER_KJ_MOL = 1.0 / 96.48533212
"""One kJ/mol in eV (CODATA)."""

SHORTEST_RATIO = 0.66
"""Smallest plausible distance in an element over its covalent diameter (tungsten 0.85, alpha uranium 0.70)."""

FITTED: tuple[str, ...] = ("H", "N", "O", "F", "Cl", "Br", "I")
"""Elements whose reference is fitted."""

# Standard enthalpies of formation at 298.15 K, kJ/mol of formula, and the prototype the solid has.
# CRC Handbook of Chemistry and Physics, section 5; NIST-JANAF Thermochemical Tables, 4th ed., where both list it.
EXPERIMENT: tuple[tuple[str, str, str, float], ...] = (
    ("LiH", "AB_cF8_225_a_b:B1", "H Li", -90.5),
    ("NaH", "AB_cF8_225_a_b:B1", "H Na", -56.3),
    ("KH", "AB_cF8_225_a_b:B1", "H K", -57.7),
    ("RbH", "AB_cF8_225_a_b:B1", "H Rb", -52.3),
    ("CsH", "AB_cF8_225_a_b:B1", "H Cs", -54.2),
    ("CaH2", "A2B_oP12_62_2c_c:C23", "Ca H", -181.5),
    ("SrH2", "A2B_oP12_62_2c_c:C23", "Sr H", -180.3),
    ("BaH2", "A2B_oP12_62_2c_c:C23", "Ba H", -177.0),
    ("MgH2", "A2B_tP6_136_f_a:C4", "Mg H", -75.3),
    ("AlN", "AB_hP4_186_b_b:B4", "Al N", -318.0),
    ("GaN", "AB_hP4_186_b_b:B4", "Ga N", -110.5),
    ("BN", "AB_hP4_194_c_d:B_k", "B N", -254.4),
    ("TiN", "AB_cF8_225_a_b:B1", "N Ti", -337.7),
    ("ZrN", "AB_cF8_225_a_b:B1", "N Zr", -365.3),
    ("VN", "AB_cF8_225_a_b:B1", "N V", -217.1),
    ("HfN", "AB_cF8_225_a_b:B1", "N Hf", -373.6),
    ("ScN", "AB_cF8_225_a_b:B1", "N Sc", -313.8),
    ("Li3N", "A3B_hP4_191_bc_a:", "Li N", -164.6),
    ("Li2O", "AB2_cF12_225_a_c:C1", "O Li", -597.9),
    ("Na2O", "AB2_cF12_225_a_c:C1", "O Na", -414.2),
    ("K2O", "AB2_cF12_225_a_c:C1", "O K", -361.5),
    ("MgO", "AB_cF8_225_a_b:B1", "O Mg", -601.6),
    ("CaO", "AB_cF8_225_a_b:B1", "O Ca", -634.9),
    ("SrO", "AB_cF8_225_a_b:B1", "O Sr", -592.0),
    ("BaO", "AB_cF8_225_a_b:B1", "O Ba", -548.0),
    ("BeO", "AB_hP4_186_b_b:B4", "Be O", -609.4),
    ("ZnO", "AB_hP4_186_b_b:B4", "Zn O", -350.5),
    ("CdO", "AB_cF8_225_a_b:B1", "O Cd", -258.4),
    ("Al2O3", "A2B3_hR10_167_c_e:D5_1", "Al O", -1675.7),
    ("Sc2O3", "A2B3_hR10_167_c_e:D5_1", "Sc O", -1908.8),
    ("La2O3", "A2B3_hP5_164_d_ad:D5_2", "La O", -1793.7),
    ("TiO2", "A2B_tP6_136_f_a:C4", "Ti O", -944.0),
    ("SnO2", "A2B_tP6_136_f_a:C4", "Sn O", -577.6),
    ("ZrO2", "A2B_mP12_14_2e_e:C43", "Zr O", -1100.6),
    ("HfO2", "A2B_mP12_14_2e_e:C43", "Hf O", -1144.7),
    ("ThO2", "AB2_cF12_225_a_c:C1", "Th O", -1226.4),
    ("CeO2", "AB2_cF12_225_a_c:C1", "Ce O", -1088.7),
    ("SiO2", "A2B_hP9_152_c_a:quartz (alpha)", "Si O", -910.7),
    ("LiF", "AB_cF8_225_a_b:B1", "F Li", -616.0),
    ("NaF", "AB_cF8_225_a_b:B1", "F Na", -576.6),
    ("KF", "AB_cF8_225_a_b:B1", "F K", -567.3),
    ("RbF", "AB_cF8_225_a_b:B1", "F Rb", -557.7),
    ("CsF", "AB_cF8_225_a_b:B1", "F Cs", -553.5),
    ("MgF2", "A2B_tP6_136_f_a:C4", "Mg F", -1124.2),
    ("CaF2", "AB2_cF12_225_a_c:C1", "Ca F", -1228.0),
    ("SrF2", "AB2_cF12_225_a_c:C1", "Sr F", -1216.3),
    ("BaF2", "AB2_cF12_225_a_c:C1", "Ba F", -1207.1),
    ("AlF3", "AB3_hR8_155_c_de:D0_14", "Al F", -1510.4),
    ("YF3", "AB3_oP16_62_c_cd:D0_11", "F Y", -1718.8),
    ("ZnF2", "A2B_tP6_136_f_a:C4", "Zn F", -764.4),
    ("CdF2", "AB2_cF12_225_a_c:C1", "Cd F", -700.4),
    ("LiCl", "AB_cF8_225_a_b:B1", "Cl Li", -408.6),
    ("NaCl", "AB_cF8_225_a_b:B1", "Cl Na", -411.2),
    ("KCl", "AB_cF8_225_a_b:B1", "Cl K", -436.5),
    ("RbCl", "AB_cF8_225_a_b:B1", "Cl Rb", -435.4),
    ("CsCl", "AB_cP2_221_b_a:B2", "Cs Cl", -443.0),
    ("MgCl2", "AB2_hR3_166_a_c:C19", "Mg Cl", -641.3),
    ("CaCl2", "AB2_oP6_58_a_g:C35", "Ca Cl", -795.4),
    ("SrCl2", "AB2_cF12_225_a_c:C1", "Sr Cl", -828.9),
    ("BaCl2", "A2B_oP12_62_2c_c:C23", "Ba Cl", -855.0),
    ("CdCl2", "AB2_hR3_166_a_c:C19", "Cd Cl", -391.5),
    ("LaCl3", "AB3_hP8_176_c_h:UCl3", "La Cl", -1072.2),
    ("LiBr", "AB_cF8_225_a_b:B1", "Br Li", -351.2),
    ("NaBr", "AB_cF8_225_a_b:B1", "Br Na", -361.1),
    ("KBr", "AB_cF8_225_a_b:B1", "Br K", -393.8),
    ("RbBr", "AB_cF8_225_a_b:B1", "Br Rb", -394.6),
    ("CsBr", "AB_cP2_221_b_a:B2", "Cs Br", -405.8),
    ("MgBr2", "AB2_hP3_164_a_d:C6", "Mg Br", -524.3),
    ("CaBr2", "AB2_oP6_58_a_g:C35", "Ca Br", -682.8),
    ("CdBr2", "AB2_hR3_166_a_c:C19", "Cd Br", -316.2),
    ("LiI", "AB_cF8_225_a_b:B1", "I Li", -270.4),
    ("NaI", "AB_cF8_225_a_b:B1", "I Na", -287.8),
    ("KI", "AB_cF8_225_a_b:B1", "I K", -327.9),
    ("RbI", "AB_cF8_225_a_b:B1", "I Rb", -333.8),
    ("CsI", "AB_cP2_221_b_a:B2", "Cs I", -346.6),
    ("MgI2", "AB2_hP3_164_a_d:C6", "Mg I", -364.0),
    ("CaI2", "AB2_hP3_164_a_d:C6", "Ca I", -533.5),
    ("CdI2", "AB2_hP3_164_a_d:C6", "Cd I", -203.3),
)
"""(formula, prototype key, elements in slot order, kJ/mol of formula)."""


@dataclass(frozen=True)
class References:
    """Energy of each element in its reference state.

    Attributes
    ----------
    energies : dict of str to float
        eV per atom.
    origins : dict of str to str
        Prototype of the lowest solid, or ``"experiment"`` for a fitted element.
    residuals : dict of str to float
        Formula -> computed minus measured formation enthalpy after the fit, eV per atom.
    """

    energies: dict[str, float]
    origins: dict[str, str]
    residuals: dict[str, float]

    def formation_energy(self, formula: str, energy_per_atom: float) -> float:
        """Compute the formation energy (eV per atom) of a compound with ``energy_per_atom`` (eV)."""
        composition = Composition(formula)
        atoms = composition.num_atoms
        baseline = sum(self.energies[e.symbol] * n for e, n in composition.items()) / atoms
        return energy_per_atom - float(baseline)


def elemental_structures(symbol: str) -> list[tuple[str, Structure]]:
    """Every elemental prototype filled with one element, at its atomic volume."""
    found = []
    for key, prototype in load_prototypes().items():
        if len(prototype.slots) == 1:
            structure = prototype.decorate((symbol,))
            structure.scale_lattice(metallic_volume(symbol) * len(structure))
            found.append((key, structure))
    return found


def elemental_energies(symbols: list[str], evaluate: Evaluate, *, n_relaxed: int = 10) -> pd.DataFrame:
    """Energy of each element over the elemental prototypes.

    Parameters
    ----------
    symbols : list of str
    evaluate : Evaluate
    n_relaxed : int
        How many of the lowest prototypes of the volume scan are relaxed in full.

    Notes
    -----
    Molecular prototypes (nitrogen, oxygen) filled with a metal bring atoms so close that a potential extrapolates to
    absurdly low energies. Crystals whose shortest distance is below `SHORTEST_RATIO` of the covalent diameter, before
    or after relaxation, are no reference states and are left out.

    Returns
    -------
    DataFrame
        ``element, prototype, energy_per_atom`` [eV], ``volume_per_atom`` [A^3]; converged ones, lowest first per
        element.
    """
    rows = []
    for symbol in symbols:
        pairs = elemental_structures(symbol)
        pairs = [pair for pair in pairs if shortest_ratio(pair[1]) >= 0.9 * SHORTEST_RATIO]
        scans = scan_volume([structure for _, structure in pairs], evaluate, max_evaluations=6)
        ranked = sorted(zip(pairs, scans, strict=True), key=lambda item: item[1].energy / len(item[1].structure))
        lowest = [item for item in ranked if shortest_ratio(item[1].structure) >= SHORTEST_RATIO][:n_relaxed]
        relaxed = relax_structures([scan.structure for _, scan in lowest], evaluate, RelaxSettings(max_steps=60))
        for ((key, _), _), result in zip(lowest, relaxed, strict=True):
            if not result.converged or shortest_ratio(result.structure) < SHORTEST_RATIO:
                continue
            atoms = len(result.structure)
            rows.append((symbol, key, result.energy / atoms, result.structure.volume / atoms))
    table = pd.DataFrame(rows, columns=["element", "prototype", "energy_per_atom", "volume_per_atom"])
    return table.sort_values(["element", "energy_per_atom"], ignore_index=True)


def binary_structures() -> list[Structure]:
    """Every binary of `EXPERIMENT` in its prototype at a guessed volume."""
    structures = []
    for formula, key, slots, _ in EXPERIMENT:
        elements = tuple(slots.split())
        structure = load_prototypes()[key].decorate(elements)
        guesses = Composition(formula).oxi_state_guesses()
        charges = {e: round(q) for e, q in guesses[0].items()} if guesses else dict.fromkeys(elements, 0)
        structure.scale_lattice(guess_volume(structure, charges))
        structures.append(structure)
    return structures


def binary_energies(evaluate: Evaluate) -> pd.DataFrame:
    """Relaxed energy of every binary in `EXPERIMENT`.

    Returns
    -------
    DataFrame
        ``formula, energy_per_atom`` [eV], ``enthalpy_per_atom`` [eV, measured], ``converged``.
    """
    scans = scan_volume(binary_structures(), evaluate, max_evaluations=6)
    relaxed = relax_structures([scan.structure for scan in scans], evaluate, RelaxSettings(max_steps=60))
    rows = []
    for (formula, _, _, enthalpy), result in zip(EXPERIMENT, relaxed, strict=True):
        measured = enthalpy * EV_PER_KJ_MOL / Composition(formula).num_atoms
        rows.append((formula, result.energy / len(result.structure), measured, result.converged))
    return pd.DataFrame(rows, columns=["formula", "energy_per_atom", "enthalpy_per_atom", "converged"])


def fit_references(elements: pd.DataFrame, binaries: pd.DataFrame, fitted: tuple[str, ...] = FITTED) -> References:
    """Choose the references: lowest solid, or least squares on measured enthalpies.

    Each fitted element is the median of the values that its own binaries ask for, so that one binary with a wrong
    structure or a badly predicted metal does not move it.

    Parameters
    ----------
    elements : DataFrame
        As `elemental_energies` returns it.
    binaries : DataFrame
        As `binary_energies` returns it; unconverged rows are left out.
    fitted : tuple of str

    Returns
    -------
    references : References
        With the residual of every binary, fitted or not.
    """
    usable = elements.sort_values("energy_per_atom").drop_duplicates("element").set_index("element")
    energies = {str(e): float(v) for e, v in usable["energy_per_atom"].items()}
    origins = {str(e): str(v) for e, v in usable["prototype"].items()}
    rows = [row for row in binaries.to_dict("records") if row["converged"]]
    for symbol in fitted:
        wanted = []
        for row in rows:
            composition = Composition(row["formula"]).fractional_composition
            if composition[symbol] == 0:
                continue
            others = sum(energies[e.symbol] * x for e, x in composition.items() if e.symbol != symbol)
            wanted.append((row["energy_per_atom"] - row["enthalpy_per_atom"] - others) / composition[symbol])
        if wanted:
            energies[symbol] = float(np.median(wanted))
            origins[symbol] = "experiment"
    references = References(energies, origins, {})
    for row in binaries.to_dict("records"):
        error = references.formation_energy(row["formula"], row["energy_per_atom"]) - row["enthalpy_per_atom"]
        references.residuals[str(row["formula"])] = float(error)
    return references
