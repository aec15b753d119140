"""The made-up compounds as the Materials Project, OQMD and OPTIMADE providers write them."""

from __future__ import annotations

import math
from typing import Any

from loopback.records import Compound

MP_DATABASE_VERSION = "2025.09.25"
RESTRICTED_BATCH = "gnome_r2scan_statics"

PROVIDER_FIELDS: dict[str, dict[str, str]] = {
    "oqmd": {"energy": "_oqmd_delta_e", "hull": "_oqmd_stability", "gap": "_oqmd_band_gap", "id": "_oqmd_entry_id"},
    "jarvis": {
        "energy": "_jarvis_formation_energy_peratom", "hull": "_jarvis_ehull", "gap": "_jarvis_optb88vdw_bandgap",
        "id": "_jarvis_jid", "bulk": "_jarvis_bulk_modulus_kv", "shear": "_jarvis_shear_modulus_gv",
    },
    "alexandria": {
        "energy": "_alexandria_formation_energy_per_atom", "hull": "_alexandria_hull_distance",
        "gap": "_alexandria_band_gap",
    },
}  # fmt: skip
"""What providers call a quantity; `provider_fields` makes names for the others."""


def provider_fields(prefix: str) -> dict[str, str]:
    """Return the provider's field name of each quantity (`energy`, `hull`, `gap`, ...)."""
    usual = {"energy": "formation_energy_per_atom", "hull": "energy_above_hull", "gap": "band_gap"}
    return PROVIDER_FIELDS.get(prefix) or {key: f"_{prefix}_{name}" for key, name in usual.items()}


def mp_id(one: Compound) -> str:
    """Identifier of a compound in the Materials Project's style."""
    return f"mp-{one.number}"


def _average(pair: tuple[float, float] | None) -> dict[str, float] | None:
    if pair is None:
        return None
    voigt, reuss = pair
    return {"voigt": voigt, "reuss": reuss, "vrh": round((voigt + reuss) / 2, 4)}


def _length(vector: tuple[float, float, float]) -> float:
    return math.sqrt(sum(x * x for x in vector))


def _angle(one: tuple[float, float, float], two: tuple[float, float, float]) -> float:
    cosine = sum(x * y for x, y in zip(one, two, strict=True)) / (_length(one) * _length(two))
    return math.degrees(math.acos(max(-1.0, min(1.0, cosine))))


def structure_dict(one: Compound) -> dict[str, Any]:
    """Return the crystal as pymatgen's `Structure.as_dict` writes it."""
    a, b, c = one.lattice
    return {
        "@module": "pymatgen.core.structure",
        "@class": "Structure",
        "charge": 0,
        "lattice": {
            "matrix": [list(vector) for vector in one.lattice],
            "pbc": [True, True, True],
            "a": _length(a),
            "b": _length(b),
            "c": _length(c),
            "alpha": _angle(b, c),
            "beta": _angle(a, c),
            "gamma": _angle(a, b),
            "volume": one.volume,
        },
        "properties": {},
        "sites": [
            {
                "species": [{"element": symbol, "occu": 1}],
                "abc": list(at),
                "properties": {},
                "label": symbol,
                "xyz": list(position),
            }
            for (symbol, at), position in zip(one.sites, one.cartesian, strict=True)
        ],
    }


def mp_summary(one: Compound) -> dict[str, Any]:
    """Document of `/materials/summary/`."""
    return {
        "material_id": mp_id(one),
        "formula_pretty": one.formula,
        "chemsys": one.chemsys,
        "elements": one.elements,
        "nelements": len(one.elements),
        "nsites": len(one.sites),
        "volume": one.volume,
        "formation_energy_per_atom": one.energy,
        "energy_above_hull": one.hull,
        "is_stable": one.hull == 0.0,
        "band_gap": one.band_gap,
        "bulk_modulus": _average(one.bulk),
        "shear_modulus": _average(one.shear),
        "symmetry": {"symbol": one.spacegroup, "number": one.spacegroup_number},
        "structure": structure_dict(one),
        "builder_meta": {
            "emmet_version": "0.87.0",
            "database_version": MP_DATABASE_VERSION,
            "license": "BY-NC" if one.restricted else "BY-C",
            "batch_id": RESTRICTED_BATCH if one.restricted else None,
        },
        "deprecated": False,
        "last_updated": "2025-09-20T08:30:00Z",
    }


def mp_thermo(one: Compound, thermo_type: str, shift: float) -> dict[str, Any]:
    """Document of `/materials/thermo/`; another kind of calculation has another energy, moved by `shift`."""
    return {
        "material_id": mp_id(one),
        "thermo_id": f"{mp_id(one)}_{thermo_type}",
        "thermo_type": thermo_type,
        "formula_pretty": one.formula,
        "chemsys": one.chemsys,
        "nelements": len(one.elements),
        "formation_energy_per_atom": None if one.energy is None else round(one.energy + shift, 6),
        "energy_above_hull": one.hull,
        "is_stable": one.hull == 0.0,
        "last_updated": "2025-09-20T08:30:00Z",
    }


def mp_elasticity(one: Compound) -> dict[str, Any]:
    """Document of `/materials/elasticity/`; the compound has moduli."""
    assert one.bulk is not None
    assert one.shear is not None
    c44 = one.shear[0]
    c12 = one.bulk[0] - 2 * c44 / 3
    tensor = [[c12 + 2 * c44 if i == j else c12 for j in range(3)] + [0.0] * 3 for i in range(3)]
    tensor += [[c44 if i == j else 0.0 for j in range(6)] for i in range(3, 6)]
    rounded = [[round(value, 2) for value in row] for row in tensor]
    return {
        "material_id": mp_id(one),
        "formula_pretty": one.formula,
        "chemsys": one.chemsys,
        "elastic_tensor": {"raw": tensor, "ieee_format": rounded},
        "bulk_modulus": _average(one.bulk),
        "shear_modulus": _average(one.shear),
        "last_updated": "2025-09-20T08:30:00Z",
    }


def _letters(one: Compound) -> str:
    """Anonymous formula: the most abundant element is A."""
    counts = sorted((n for _, n in one.amounts), reverse=True)
    return "".join(f"{chr(65 + i)}{n if n > 1 else ''}" for i, n in enumerate(counts))


def oqmd_row(one: Compound) -> dict[str, Any]:
    """Row of `/oqmdapi/formationenergy`, in the order in which that service writes its keys."""
    amounts = dict(one.amounts)
    counts = sorted(amounts.values())
    return {
        "name": one.formula,
        "entry_id": one.number,
        "calculation_id": 10 * one.number + 3,
        "icsd_id": 20_000 + one.number if one.number % 3 == 0 else None,
        "formationenergy_id": 4_000_000 + one.number,
        "duplicate_entry_id": one.duplicate_of,
        "composition": " ".join(f"{symbol}{amounts[symbol]}" for symbol in one.elements),
        "composition_generic": "".join(f"{chr(65 + i)}{n if n > 1 else ''}" for i, n in enumerate(counts)),
        "prototype": one.prototype,
        "spacegroup": one.spacegroup,
        "volume": one.volume,
        "ntypes": len(amounts),
        "natoms": len(one.sites),
        "unit_cell": [list(vector) for vector in one.lattice],
        "sites": [f"{symbol} @ {' '.join(f'{x:.6g}' for x in at)}" for symbol, at in one.sites],
        "band_gap": one.band_gap,
        "delta_e": one.energy,
        "stability": one.hull,
        "fit": "standard",
        "calculation_label": "static",
    }


def optimade_id(one: Compound, prefix: str) -> str:
    """Identifier of a compound at an OPTIMADE provider."""
    return f"{prefix}-{one.number}"


def optimade_structure(one: Compound, prefix: str) -> dict[str, Any]:
    """Entry of `/v1/structures` as a line of the reference server's JSONL."""
    amounts, atoms = dict(one.amounts), len(one.sites)
    formula = "".join(f"{symbol}{n if (n := amounts[symbol]) > 1 else ''}" for symbol in one.elements)
    quantities: dict[str, Any] = {
        "energy": one.energy,
        "hull": one.hull,
        "gap": one.band_gap,
        "id": one.number if prefix == "oqmd" else f"JVASP-{one.number}",
        "bulk": None if one.bulk is None else one.bulk[0],
        "shear": None if one.shear is None else one.shear[0],
    }
    attributes: dict[str, Any] = {
        "immutable_id": None,
        "last_modified": "2024-11-05T12:00:00Z",
        "elements": one.elements,
        "nelements": len(one.elements),
        "elements_ratios": [amounts[symbol] / atoms for symbol in one.elements],
        "chemical_formula_descriptive": one.formula,
        "chemical_formula_reduced": formula,
        "chemical_formula_anonymous": _letters(one),
        "dimension_types": [1, 1, 1],
        "nperiodic_dimensions": 3,
        "lattice_vectors": [list(vector) for vector in one.lattice],
        "cartesian_site_positions": [list(position) for position in one.cartesian],
        "nsites": atoms,
        "species": [{"name": symbol, "chemical_symbols": [symbol], "concentration": [1.0]} for symbol in one.elements],
        "species_at_sites": [symbol for symbol, _ in one.sites],
        "structure_features": [],
    }
    attributes |= {name: quantities[key] for key, name in provider_fields(prefix).items()}
    return {"type": "structures", "id": optimade_id(one, prefix), "attributes": attributes}
