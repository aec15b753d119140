"""Which candidates are worth a relaxation, and which relaxed compounds an elastic tensor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from models.reference_energies import References

LARGEST_PRESSURE = 12.0
"""Pressure (GPa) up to which a volume scan counts as having found its equilibrium."""

BENCHMARKS: frozenset[str] = frozenset(
    """
    Al2O3 AlAs AlCo AlFe AlN AlNi AlNi3 AlP AlSb AlV2C As2Ru BN BP BW BaF2 BaGeO3 BaO BaSe Be2C BeO CaF2 CaO CaS
    CaSe CdS CdTe CeO2 CeSF CoAs2 CoSi CrO3 CrPd3 CsCl CsI CuO DyGa2 DyN Er(SiOs)2 FeSe FeSi GaAs GaN GaP GaSb GdAs
    Hf2Si HfC HoAs HoB6 HoInPt InAs InP InSb K3P KCl KF KMgF3 KYbO2 LaB6 Li(CuP)2 Li2CoO2 Li2FeF4 Li2NiO2 Li2O Li2S
    Li2Se Li3As Li3Mg Li3N Li3NbS4 Li3P Li3VS4 LiAl LiAlCu2 LiAlTe2 LiAu3 LiBC LiBr LiCl LiCoO2 LiCu3 LiCuF2 LiCuF3
    LiF LiH LiI LiMg2 LiMgP LiNO3 LiNbO3 LiNiF3 LiPd LiPd3 LiPt2 LiRhO2 LiScPt2 LiTaO3 LiTiO2 LiTl LiVF3 LiVS2 LiZn
    LiZnAs LuAl2 Mg2Si MgAg MgB2 MgO MgS MgSc MnIr MnN MoC Na3Bi Na3ClO NaAgO NaBr NaCl NaF NaMnCl3 NaYbS2 NbC
    NdTeCl NdZn5 Ni2Ge Ni3Sb NiAs NiAs2 NiBi NiF3 PbO PbO2 PrClO PrP RbCl RbH ScN ScSb SiO2 SmAs SmLu3 SnO2 Sr2SnO4
    Sr3BiN SrF2 SrO SrTe SrTiO3 Ta3Ru TbB6 TbSF Ti2Sn Ti2SnC TiAl TiB2 TiC TiN TiNi TiO2 TlBr Tm2AgPt VN YCd YIr YSb
    YbClF ZnCu ZnO ZnS ZnSe ZnTe ZrC ZrCu ZrN ZrSe2
    """.split()  # noqa: SIM905
)
"""Compounds whose elastic tensor is published in the same prototype (de Jong et al., Scientific Data 2, 150009, 2015)
or is textbook knowledge: their tensors measure the bias of the potential."""

_EXOTIC = frozenset({"Tc", "Pm", "Ac", "Th", "Pa", "U", "Np", "Pu", "Kr", "Xe"})
_ANIONS = frozenset({"F", "Cl", "Br", "I", "O", "S", "Se", "Te", "N", "P", "As", "H"})


def formation_energies(table: pd.DataFrame, references: References) -> np.ndarray:
    """(n,) formation energies (eV/atom) of rows with ``formula`` and ``energy_per_atom``."""
    fractions = {f: Composition(f).fractional_composition for f in table["formula"].unique()}
    baseline = {f: sum(references.energies[e.symbol] * x for e, x in c.items()) for f, c in fractions.items()}
    energies: np.ndarray = table["energy_per_atom"].to_numpy(float) - table["formula"].map(baseline).to_numpy(float)
    return energies


def energies_above_hull(table: pd.DataFrame) -> np.ndarray:
    """Energy above the convex hull of the table itself.

    Parameters
    ----------
    table : DataFrame
        ``formula, chemsys, formation_energy_per_atom`` [eV/atom]; rows that are not a number stay so.

    Returns
    -------
    (n,) array
        eV/atom, at least 0; elements stand at 0 eV/atom.
    """
    usable = table[np.isfinite(table["formation_energy_per_atom"])]
    lowest = usable.groupby("formula").agg(energy=("formation_energy_per_atom", "min"), chemsys=("chemsys", "first"))
    by_system: dict[frozenset[str], list[PDEntry]] = {}
    for formula, row in lowest.iterrows():
        composition = Composition(str(formula))
        entry = PDEntry(composition, float(row["energy"]) * composition.num_atoms)
        by_system.setdefault(frozenset(str(row["chemsys"]).split("-")), []).append(entry)
    hull: dict[str, float] = {}
    for system, members in by_system.items():
        entries = [PDEntry(Composition(e), 0.0) for e in system]
        for other, phases in by_system.items() if len(system) > 3 else _subsystems(system, by_system):
            if other <= system:
                entries.extend(phases)
        diagram = PhaseDiagram(entries, elements=sorted(Element(e) for e in system))
        for entry in members:
            height = diagram.get_hull_energy_per_atom(entry.composition)
            hull[entry.composition.reduced_formula] = float(height)
    return (table["formation_energy_per_atom"] - table["formula"].map(hull)).to_numpy(float)


def _subsystems(
    system: frozenset[str], by_system: dict[frozenset[str], list[PDEntry]]
) -> list[tuple[frozenset[str], list[PDEntry]]]:
    """Systems inside ``system`` that have entries, itself included; at most three elements."""
    members = sorted(system)
    subsets = [frozenset({a, b}) for i, a in enumerate(members) for b in members[i + 1 :]]
    if len(members) == 3:
        subsets.append(system)
    return [(subset, by_system[subset]) for subset in subsets if subset in by_system]


@dataclass(frozen=True)
class RelaxationChoice:
    """How many candidates are relaxed.

    Attributes
    ----------
    fraction : float
        Part of each prototype, lowest static energy above the static hull first.
    polymorphs : int
        Prototypes of one formula at most, lowest static energy first.
    near_hull : float
        A formula's lowest prototype is relaxed in any case when it is at most this far above the hull, eV/atom.
    largest_pressure : float
        GPa; a scan that ends further from equilibrium says too little about its candidate.
    limit : int, optional
        Rows at most; the lowest prototype of every formula comes first, lithium compounds and binaries leading.
    """

    fraction: float = 1.0 / 3.0
    polymorphs: int = 3
    near_hull: float = 0.3
    largest_pressure: float = LARGEST_PRESSURE
    limit: int | None = None


def select_for_relaxation(
    candidates: pd.DataFrame,
    static: pd.DataFrame,
    references: References,
    choice: RelaxationChoice | None = None,
) -> pd.DataFrame:
    """Choose the lowest part of every prototype, and every lithium compound.

    A lithium formula keeps its two lowest prototypes wherever they stand.

    Parameters
    ----------
    candidates, static : DataFrame
        As `models.decoration.candidates` and `models.selfbuilt.evaluate_static` return them.
    references : References
    choice : RelaxationChoice, optional

    Returns
    -------
    DataFrame
        Rows of ``candidates``, most wanted first, with ``static_volume_per_atom`` [A^3] and ``static_above_hull``
        [eV/atom].
    """
    choice = choice or RelaxationChoice()
    usable = static[np.isfinite(static["energy_per_atom"]) & (static["pressure"].abs() <= choice.largest_pressure)]
    table = candidates.merge(usable, on="candidate_id", validate="one_to_one")
    table["formation_energy_per_atom"] = formation_energies(table, references)
    table["static_above_hull"] = energies_above_hull(table)
    place = table.groupby("prototype")["static_above_hull"].rank(method="first")
    size = table.groupby("prototype")["static_above_hull"].transform("size")
    polymorph = table.groupby("formula")["static_above_hull"].rank(method="first")
    lowest_part = (place <= np.ceil(choice.fraction * size)) & (polymorph <= choice.polymorphs)
    near = (polymorph == 1) & (table["static_above_hull"] <= choice.near_hull)
    chosen = lowest_part | near | (table["lithium"] & (polymorph <= 2))
    early = table["lithium"] | (table["chemsys"].str.count("-") == 1)
    table["turn"] = 2 * (polymorph > 1).astype(int) + (~early).astype(int)
    table = table.rename(columns={"volume_per_atom": "static_volume_per_atom"})
    ordered = table[chosen].sort_values(["turn", "candidate_id"], kind="stable", ignore_index=True)
    columns = [*candidates.columns, "static_volume_per_atom", "static_above_hull"]
    return pd.DataFrame(ordered[columns].head(choice.limit if choice.limit is not None else len(ordered)))


def is_insulator_like(formula: str) -> bool:
    """Whether a formula has an anion-former and an electropositive partner: a guess, for ordering only."""
    symbols = {e.symbol for e in Composition(formula)}
    return bool(symbols & _ANIONS) and bool(symbols - _ANIONS)


def select_for_tensors(
    compounds: pd.DataFrame, *, lithium: int = 280, insulators: int = 170, others: int = 110, largest: int = 10
) -> pd.DataFrame:
    """Compounds for elastic tensors: `BENCHMARKS`, then lithium insulators, other insulators, intermetallics.

    Inside each group compounds near the hull, of few elements and in small cells come first, and each further
    compound of one prototype waits a little longer, so that many structure types are seen. Radioactive elements and
    noble gases are left out.

    Parameters
    ----------
    compounds : DataFrame
        ``candidate_id, formula, prototype, nsites, energy_above_hull`` [eV/atom], ``structure`` (JSON).
    lithium, insulators, others : int
        How many of each group.
    largest : int
        Largest cell.

    Returns
    -------
    DataFrame
        Selected rows; one per formula, the lowest.
    """
    table = compounds[compounds["nsites"] <= largest].sort_values("energy_above_hull", kind="stable")
    table = table.drop_duplicates("formula")
    symbols = table["formula"].map(lambda f: frozenset(e.symbol for e in Composition(f)))
    table = table[symbols.map(_EXOTIC.isdisjoint)]
    symbols = symbols[table.index]
    salt, has_lithium = table["formula"].map(is_insulator_like), symbols.map(lambda s: "Li" in s)
    known = table["formula"].isin(BENCHMARKS)
    score = table["energy_above_hull"].clip(lower=0) + 0.01 * table["nsites"] + 0.03 * (symbols.map(len) - 2)
    keys = [table["prototype"], salt, has_lithium]
    score = score + 0.0005 * score.groupby(keys).rank(method="first")
    table = table.assign(score=score)
    groups = ((salt & has_lithium, lithium), (salt & ~has_lithium, insulators), (~salt, others))
    parts = [table[known], *(table[mask & ~known].nsmallest(count, "score", keep="first") for mask, count in groups)]
    return pd.concat(parts).drop(columns="score").reset_index(drop=True)
