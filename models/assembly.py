"""From relaxed crystals and tensors to the table of the starter set, with a reason for every row left out."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pymatgen.core import Composition

from models.lattice_response import is_positive_definite, voigt_reuss_hill
from models.prototypes import load_prototypes
from models.reference_energies import References
from models.selection import LARGEST_PRESSURE, formation_energies

BULK_MAP = (0.860, 0.306)
SHEAR_MAP = (0.635, 0.800)
"""Slope and intercept of log10(corrected / GPa) against log10(raw / GPa): the potential softens crystals, shear above
all. Least squares over the compounds of `models.selection.BENCHMARKS` with a published tensor; docs/starter-set.md has
the scatter around the lines."""


@dataclass(frozen=True)
class AssemblyRules:
    """What a relaxed crystal must satisfy.

    Attributes
    ----------
    volume_change : float
        Largest relative change against the volume where the unrelaxed prototype's pressure vanishes.
    shortest_ratio : float
        Shortest distance over the sum of covalent radii; below it atoms overlap and a potential extrapolates.
    energy_range : tuple of float
        Formation energy, eV/atom.
    same_energy, same_volume : float
        Two rows of one formula and space group closer than this (eV/atom; relative) are one crystal.
    """

    volume_change: float = 0.40
    shortest_ratio: float = 0.70
    energy_range: tuple[float, float] = (-6.0, 2.0)
    same_energy: float = 0.001
    same_volume: float = 0.01


@dataclass(frozen=True)
class Assembled:
    """The starter set.

    Attributes
    ----------
    compounds : DataFrame
        One row per relaxed crystal.
    rejected : DataFrame
        ``stage, prototype, formula, elements, reason`` (a sentence) and ``rule`` (a word to count by).
    counts : dict
        Rows in and out of every step.
    """

    compounds: pd.DataFrame
    rejected: pd.DataFrame
    counts: dict[str, int]


def _verdict(row: pd.Series, rules: AssemblyRules) -> tuple[str, str]:
    """Rule broken by a relaxed row and the sentence for it; two empty strings for a good one."""
    change = row["volume_per_atom"] / row["static_volume_per_atom"] - 1.0
    energy = row["formation_energy_per_atom"]
    if not row["converged"]:
        left = f"{row['max_force']:.2f} eV/A and {row['max_stress']:.1f} GPa left"
        return "not converged", f"not converged after {row['n_evaluations']} evaluations: {left}"
    if abs(change) > rules.volume_change:
        return "volume", f"volume changed by {100 * change:+.0f} % against the unrelaxed prototype at zero pressure"
    if row["spacegroup_end"] != row["spacegroup_start"]:
        return "left prototype", f"left the prototype: space group {row['spacegroup_start']} -> {row['spacegroup_end']}"
    if row["shortest_ratio"] < rules.shortest_ratio:
        return "overlap", f"atoms overlap: shortest distance is {row['shortest_ratio']:.2f} of the covalent radii"
    if not rules.energy_range[0] <= energy <= rules.energy_range[1]:
        return "energy", f"formation energy {energy:.2f} eV/atom outside the physical range"
    return "", ""


def _mark_twins(table: pd.DataFrame, rules: AssemblyRules) -> pd.Series:
    """For each row the prototype of a lower row of the same formula that is the same crystal, else ''."""
    twin: dict[object, str] = {}
    for _, group in table.groupby(["formula", "spacegroup_end"]):
        kept: list[pd.Series] = []
        for index, row in group.sort_values("energy_per_atom").iterrows():
            for other in kept:
                near = abs(row["energy_per_atom"] - other["energy_per_atom"]) < rules.same_energy
                same = abs(row["volume_per_atom"] / other["volume_per_atom"] - 1.0) < rules.same_volume
                if near and same:
                    twin[index] = str(other["prototype"])
                    break
            else:
                kept.append(row)
    return table.index.to_series().map(twin).fillna("")


def judge(table: pd.DataFrame, rules: AssemblyRules) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Split relaxed rows into good ones and rejected ones.

    Parameters
    ----------
    table : DataFrame
        Selected candidates joined with their relaxations and ``formation_energy_per_atom``.
    rules : AssemblyRules

    Returns
    -------
    good, rejected : DataFrame
    """
    verdicts = [_verdict(row, rules) for _, row in table.iterrows()]
    table = table.assign(rule=[v[0] for v in verdicts], reason=[v[1] for v in verdicts])
    good = table[table["rule"] == ""]
    twin = _mark_twins(good, rules)
    doubled = good[twin != ""].assign(rule="duplicate")
    doubled["reason"] = "same crystal as the lower one that started from " + twin[twin != ""]
    rejected = pd.concat([table[table["rule"] != ""], doubled]).sort_values("candidate_id")
    return good[twin == ""].drop(columns=["rule", "reason"]), rejected


def moduli(tensors: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Raw averages of the usable tensors, and the unusable ones with a reason.

    Parameters
    ----------
    tensors : DataFrame
        As `models.selfbuilt.tensors` returns it.

    Returns
    -------
    usable : DataFrame
        ``candidate_id, elastic_tensor, bulk_modulus_vrh_raw, shear_modulus_vrh_raw`` [GPa].
    rejected : DataFrame
        ``candidate_id, rule, reason``.
    """
    usable, rejected = [], []
    for row in tensors.to_dict("records"):
        tensor = np.asarray(row["elastic_tensor"], float).reshape(6, 6)
        if not row["converged"]:
            rejected.append(
                (row["candidate_id"], "ions not at rest", "ions did not come to rest in every strained cell")
            )
        elif not is_positive_definite(tensor):
            lowest = float(np.linalg.eigvalsh(tensor).min()) if np.all(np.isfinite(tensor)) else float("nan")
            text = f"elastic tensor not positive definite: lowest eigenvalue {lowest:.1f} GPa"
            rejected.append((row["candidate_id"], "not positive definite", text))
        else:
            bulk, shear = voigt_reuss_hill(tensor)
            usable.append((row["candidate_id"], [float(v) for v in row["elastic_tensor"]], bulk, shear))
    names = ["candidate_id", "elastic_tensor", "bulk_modulus_vrh_raw", "shear_modulus_vrh_raw"]
    return pd.DataFrame(usable, columns=names), pd.DataFrame(rejected, columns=["candidate_id", "rule", "reason"])


def corrected(moduli: pd.Series, line: tuple[float, float]) -> pd.Series:
    """Undo the potential's softening with a straight line in log10.

    Parameters
    ----------
    moduli : Series
        GPa, positive or not-a-number.
    line : tuple of float
        Slope and intercept, as `BULK_MAP`.

    Returns
    -------
    Series
        GPa.
    """
    slope, intercept = line
    return pd.Series(10.0 ** (slope * np.log10(moduli) + intercept), index=moduli.index)


def _table(good: pd.DataFrame, usable: pd.DataFrame, version: str) -> pd.DataFrame:
    """Put the published columns together, lowest candidate first."""
    library = load_prototypes()
    table = good.merge(usable, on="candidate_id", how="left").sort_values("candidate_id", ignore_index=True)
    names = [
        " ".join(filter(None, (library[key].aflow, library[key].strukturbericht or library[key].mineral)))
        for key in table["prototype"]
    ]
    bulk, shear = (table[f"{name}_modulus_vrh_raw"].astype(float) for name in ("bulk", "shear"))
    return pd.DataFrame(
        {
            "material_id": [f"sb-{number + 1:06d}" for number in range(len(table))],
            "formula": table["formula"],
            "chemsys": table["chemsys"],
            "prototype": names,
            "spacegroup_number": table["spacegroup_end"].astype("int16"),
            "nsites": table["nsites"].astype("int16"),
            "structure": table["structure"],
            "volume_per_atom": table["volume_per_atom"].round(4),
            "energy_per_atom": table["energy_per_atom"].round(5),
            "formation_energy_per_atom": table["formation_energy_per_atom"].round(5),
            "elastic_tensor": [value if isinstance(value, list) else None for value in table["elastic_tensor"]],
            "bulk_modulus_vrh": corrected(bulk, BULK_MAP).round(3),
            "shear_modulus_vrh": corrected(shear, SHEAR_MAP).round(3),
            "bulk_modulus_vrh_raw": bulk.round(3),
            "shear_modulus_vrh_raw": shear.round(3),
            "source": "selfbuilt",
            "source_id": [
                f"{p}|{e.replace(' ', '-')}" for p, e in zip(table["prototype"], table["elements"], strict=True)
            ],
            "source_version": version,
            "functional": "chgnet",
            "temperature": pd.Series([None] * len(table), dtype="float64"),
        }
    )


def _unusable_scans(candidates: pd.DataFrame, static: pd.DataFrame) -> pd.DataFrame:
    """List the candidates whose volume scan says too little, with the rule and the reason."""
    lonely = ~np.isfinite(static["energy_per_atom"].to_numpy(float))
    far = ~lonely & (static["pressure"].abs().to_numpy(float) > LARGEST_PRESSURE)
    isolated = "the potential cannot describe it: an atom without a neighbour within 6 A"
    rows = static[lonely | far].merge(candidates, on="candidate_id")
    alone = ~np.isfinite(rows["energy_per_atom"].to_numpy(float))
    left = [f"{pressure:.0f} GPa left after the volume scan" for pressure in rows["pressure"].fillna(0.0)]
    rules = np.where(alone, "isolated atom", "pressure")
    return pd.DataFrame(rows.assign(stage="static", rule=rules, reason=np.where(alone, isolated, left)))


def assemble(
    candidates: pd.DataFrame,
    static: pd.DataFrame,
    selected: pd.DataFrame,
    relaxed: pd.DataFrame,
    tensors: pd.DataFrame,
    references: References,
    version: str,
    rules: AssemblyRules | None = None,
) -> Assembled:
    """Put the starter set together.

    Parameters
    ----------
    candidates, static, selected, relaxed, tensors : DataFrame
        What the earlier steps returned, chunks concatenated.
    references : References
    version : str
        Version of the potential.
    rules : AssemblyRules, optional

    Returns
    -------
    Assembled
    """
    rules = rules or AssemblyRules()
    table = selected.merge(relaxed, on="candidate_id", validate="one_to_one")
    table["formation_energy_per_atom"] = formation_energies(table, references)
    good, bad = judge(table, rules)
    usable, tensor_bad = moduli(tensors[tensors["candidate_id"].isin(good["candidate_id"])])
    compounds = _table(good, usable, version)
    named = tensor_bad.merge(good[["candidate_id", "prototype", "formula", "elements"]], on="candidate_id")
    columns = ["stage", "prototype", "formula", "elements", "rule", "reason"]
    rejected = pd.concat(
        [
            _unusable_scans(candidates, static)[columns],
            bad.assign(stage="relax")[columns],
            named.assign(stage="tensor")[columns],
        ],
        ignore_index=True,
    )
    return Assembled(compounds, rejected, _counts(candidates, static, selected, relaxed, tensors, compounds, rejected))


def _counts(
    candidates: pd.DataFrame,
    static: pd.DataFrame,
    selected: pd.DataFrame,
    relaxed: pd.DataFrame,
    tensors: pd.DataFrame,
    compounds: pd.DataFrame,
    rejected: pd.DataFrame,
) -> dict[str, int]:
    """Rows per step, elements, and rejections by rule."""
    formulas = pd.Series(compounds["formula"].unique())
    with_tensor = compounds["bulk_modulus_vrh_raw"].notna()
    lithium = compounds["chemsys"].map(lambda system: "Li" in system.split("-"))
    counts = {
        "candidates": len(candidates),
        "candidate_formulas": int(candidates["formula"].nunique()),
        "evaluated_statically": len(static),
        "selected_for_relaxation": len(selected),
        "relaxed": len(relaxed),
        "compounds": len(compounds),
        "distinct_formulas": len(formulas),
        "distinct_lithium_formulas": int(compounds.loc[lithium, "formula"].nunique()),
        "elements": len({e.symbol for f in formulas for e in Composition(f)}),
        "tensors_computed": len(tensors),
        "compounds_with_tensor": int(with_tensor.sum()),
        "lithium_compounds_with_tensor": int((with_tensor & lithium).sum()),
    }
    for (stage, rule), rows in rejected.groupby(["stage", "rule"]):
        counts[f"rejected, {stage}: {rule}"] = len(rows)
    return counts
