"""The columns of every kind of table, with types, units and descriptions; `storage.schemas` makes schemas of them."""

from __future__ import annotations

import pyarrow as pa

N_ELEMENTS = 86
"""Width of ``element_fraction``: H..Pu without He, Ne, Ar, Po, At, Rn, Fr and Ra."""

EV = "eV/atom"
NONE = "1"
TEXT = "text"


def _field(name: str, type_: pa.DataType, unit: str, description: str, *, null: bool = False, **more: str) -> pa.Field:
    return pa.field(name, type_, nullable=null, metadata={"unit": unit, "description": description, **more})


def _f64(name: str, unit: str, description: str, *, null: bool = False) -> pa.Field:
    return _field(name, pa.float64(), unit, description, null=null)


def _text(name: str, description: str, *, null: bool = False) -> pa.Field:
    return _field(name, pa.string(), TEXT, description, null=null)


def _i32(name: str, description: str) -> pa.Field:
    return _field(name, pa.int32(), NONE, description)


def _flag(name: str, description: str, *, null: bool = False) -> pa.Field:
    return _field(name, pa.bool_(), NONE, description, null=null)


_LIST_F32 = pa.list_(pa.field("element", pa.float32()))
_LIST_F64 = pa.list_(pa.field("element", pa.float64()))
_LIST_I16 = pa.list_(pa.field("element", pa.int16()))
_FRACTIONS = pa.list_(pa.field("element", pa.float32()), N_ELEMENTS)

_ID = _text("material_id", "identifier, unique within its source")
_FORMULA = _text("formula", "reduced formula")
_CHEMSYS = _text("chemsys", "chemical system: element symbols in alphabetical order, joined by '-'")
_INDEX = _field(
    "index", pa.int64(), NONE, "number of the composition in the full composition space; null: not in it", null=True
)
_SPLIT = _text("split", "part of the data the row belongs to: train, calibration or validation")
_SOURCE = [
    _text("source", "where the row comes from: oqmd, mp, jarvis, optimade:<provider>, file, selfbuilt"),
    _text("source_id", "identifier of the row in its source"),
    _text("source_version", "release, database version or file digest of the source"),
    _text("functional", "pbe, pbe+u, r2scan, mixed, chgnet or experiment", null=True),
    _field("temperature", pa.float64(), "K", "temperature of a measured value; null for a computed one", null=True),
]
_PHASE = [
    _ID,
    _FORMULA,
    _CHEMSYS,
    _f64("formation_energy_per_atom", EV, "formation energy with the elemental reference correction"),
    _f64("formation_energy_raw", EV, "formation energy as the source states it"),
    _f64("reference_correction", EV, "what was taken off the raw formation energy: raw minus corrected"),
    _i32("n_rows", "how many accepted rows had this composition; the lowest is kept"),
    *_SOURCE,
]
_MODULI = [
    _f64("bulk_modulus_vrh", "GPa", "bulk modulus, Voigt-Reuss-Hill mean"),
    _f64("shear_modulus_vrh", "GPa", "shear modulus, Voigt-Reuss-Hill mean"),
]
_MODULI_NULL = [field.with_nullable(True) for field in _MODULI]
_MODULI_ERRORS = [
    _f64("log10_bulk_modulus_std", NONE, "standard deviation of log10(bulk modulus / GPa)", null=True),
    _f64("log10_shear_modulus_std", NONE, "standard deviation of log10(shear modulus / GPa)", null=True),
    _text("moduli_source", "stated (by the source) or predicted (by a model)"),
]
_MIXED = _flag("mixed_scheme", "true when energies of two schemes were compared on request", null=True)
_DOUBTS = [
    _flag("hull_incomplete", "its chemical system has compositions known without an energy"),
    _flag("out_of_domain", "it has an element with fewer than 100 training rows"),
]
_ABOVE_HULL = _f64("energy_above_hull", EV, "energy minus the hull of all phases; below 0 only for a prediction")

_LAYER = _text("layer", "layer of the network: a number, a submodule's name, or input")
_EXPLANATION: dict[str, tuple[int, list[pa.Field]]] = {
    "layer_components": (1, [
        _text("set", "elements, compounds (of two s-block and two anion groups), or table (the rows that were given)"),
        _LAYER, _FORMULA, _text("label", "group of an element, kind of a compound, or yes/no for a row", null=True),
        _f64("component_1", NONE, "first principal component of the activations"),
        _f64("component_2", NONE, "second principal component of the activations")]),
    "element_similarity": (1, [
        _LAYER, _text("element", "element symbol"), _text("other", "element that it is compared with"),
        _f64("similarity", NONE, "similarity of the two, -1 to 1; null: undefined", null=True)]),
    "probe_roc": (1, [
        _text("probe", "property that is read off the layer"), _LAYER,
        _text("network", "trained, or untrained: the same network with random weights"),
        _f64("threshold", NONE, "log odds from which on a row counts as positive; null: above all", null=True),
        _f64("false_positive_rate", NONE, "share of the negatives at or above it"),
        _f64("true_positive_rate", NONE, "share of the positives at or above it")]),
    "predicted_diagram": (1, [
        _text("system", "chemical system as it was asked for"), _FORMULA,
        _field("shares", _LIST_F64, NONE, "atomic fractions in the order of the system's elements"),
        _f64("prediction", EV, "predicted formation energy"),
        _f64("predicted_hull", EV, "hull of all predictions of the system, elements at 0"),
        _f64("formation_energy_per_atom", EV, "formation energy of the known phase", null=True),
        _f64("hull_energy_per_atom", EV, "hull of the known phases"),
        _flag("predicted_stable", "on the predicted hull"), _flag("stable", "on the hull of the known phases"),
        _flag("in_space", "an element or a composition of the enumerated space, not only a known phase"), _MIXED]),
}  # fmt: skip

TABLES: dict[str, tuple[int, list[pa.Field]]] = {
    "compounds": (
        2,
        [
            _ID,
            _FORMULA,
            _CHEMSYS,
            _f64("formation_energy_per_atom", EV, "formation energy as the source states it", null=True),
            _ABOVE_HULL.with_nullable(True),
            _f64("band_gap", "eV", "electronic band gap", null=True),
            _f64("volume_per_atom", "A^3/atom", "cell volume per atom", null=True),
            *_MODULI_NULL,
            _f64("bulk_modulus_vrh_raw", "GPa", "bulk modulus before a bias correction of the source", null=True),
            _f64("shear_modulus_vrh_raw", "GPa", "shear modulus before a bias correction of the source", null=True),
            _field(
                "elastic_tensor",
                _LIST_F64,
                "GPa",
                "6x6 stiffness matrix in Voigt order, row by row",
                null=True,
                length="36",
            ),
            _text("structure", "pymatgen JSON or CIF", null=True),
            _text("prototype", "structure prototype", null=True),
            _f64("volume_ratio", NONE, "molar volume of Li+ in the compound over that of Li in the metal", null=True),
            _SPLIT.with_nullable(True),
            _text("license", "licence of the row, where its source states one", null=True),
            _text("reference", "where a measured value was published", null=True),
            *_SOURCE,
        ],
    ),
    "phases": (1, _PHASE),
    "training": (1, [*_PHASE, _SPLIT]),
    "references": (
        1,
        [
            _text("element", "element symbol"),
            _f64(
                "reference_correction",
                "eV/atom of element",
                "taken off a formation energy per atom of this element in it",
            ),
            _i32("n_compounds", "compounds that the shift was measured on"),
            _f64("shift", "eV/atom of element", "measured shift against compounds of the neighbours"),
            _f64("shift_error", "eV/atom of element", "standard error of the shift"),
            _text("neighbours", "elements that it was compared with", null=True),
            _text("release", "release of the source; null for all", null=True),
        ],
    ),
    "features": (
        1,
        [
            _ID,
            _FORMULA,
            _CHEMSYS,
            _SPLIT,
            _f64("formation_energy_per_atom", EV, "formation energy the model is to learn"),
            _field("element_fraction", _FRACTIONS, NONE, "atomic fractions in the order of the 86 elements"),
        ],
    ),
    "drift": (
        1,
        [
            _text("measure", "rows, filled, minimum, maximum, vanished, appeared, shared_energy or reference"),
            _text("subject", "column or element"),
            _f64("previous", "that of the measure", "value in the earlier snapshot", null=True),
            _f64("current", "that of the measure", "value in this snapshot", null=True),
            _f64("change", "that of the measure", "change; relative for rows, volumes and moduli", null=True),
            _f64("limit", "that of the measure", "largest change that is tolerated"),
            _flag("exceeded", "the change is larger than the limit"),
            _text("note", "what it rests on", null=True),
        ],
    ),
    "attributes": (
        1,
        [
            _ID,
            _FORMULA,
            _CHEMSYS,
            _SPLIT.with_nullable(True),
            _f64("formation_energy_per_atom", EV, "formation energy as the source states it", null=True),
            _field(
                "attributes",
                _LIST_F32,
                "that of each attribute",
                "145 attributes of the composition (magpie) or 126 of the structure (voronoi), named in names.json",
            ),
        ],
    ),
    "attributes_part": (
        1,
        [
            _field("row", pa.int64(), NONE, "index of the row in the input, from 0"),
            _field("attributes", _LIST_F32, "that of each attribute", "attributes of the structure", null=True),
            _text("reason", "why there are none", null=True),
        ],
    ),
    "predictions": (
        1,
        [
            _ID,
            _FORMULA,
            _SPLIT,
            _f64("formation_energy_per_atom", EV, "formation energy in the data"),
            _f64("prediction", EV, "predicted formation energy"),
            _f64("prediction_std", EV, "standard deviation over the ensemble; null for a single network", null=True),
            _MIXED,
        ],
    ),
    "candidates": (
        3,  # 3: index is null for compositions of lists that no space holds
        [
            _INDEX,
            _FORMULA,
            _CHEMSYS,
            _field("arity", pa.int8(), NONE, "number of elements"),
            _f64("formation_energy_per_atom", EV, "predicted formation energy"),
            _f64("prediction_std", EV, "standard deviation over the ensemble; null for a single network", null=True),
            _f64("hull_energy_per_atom", EV, "hull of all phases at this composition"),
            _ABOVE_HULL,
            _f64("decomposition_energy", EV, "predicted energy minus the hull of all other compositions"),
            _f64("probability_stable", NONE, "calibrated probability of lying on or below the hull", null=True),
            _flag("known", "the composition is among the known phases or formulas: a rediscovery"),
            *_DOUBTS,
            _flag("charge_neutral", "integer oxidation states can balance; null: the rule does not apply", null=True),
            _text("novelty", "how near the nearest known composition is: exact, within_1_percent, ... or new"),
            _f64("nearest_known", NONE, "distance to it, of atomic fractions; null: further than 0.1", null=True),
            _MIXED,
        ],
    ),
    "categories": (
        1,
        [
            _text("category", "category of compounds; all of them in the first rows"),
            _field("arity", pa.int8(), NONE, "number of elements"),
            _i32("systems", "chemical systems with a candidate"),
            _i32("compositions", "candidates"),
            _i32("compositions_known", "candidates that are known"),
            _i32("compositions_hull_incomplete", "candidates of systems with an incomplete hull"),
            _i32("compositions_out_of_domain", "candidates with an element out of domain"),
            _i32("systems_after", "chemical systems with a candidate that has none of these flags"),
            _i32("compositions_after", "candidates without any of these flags"),
        ],
    ),
    "best_per_system": (
        2,  # 2: see candidates
        [
            _INDEX,
            _FORMULA,
            _CHEMSYS,
            _field("arity", pa.int8(), NONE, "number of elements"),
            _i32("n_candidates", "candidates of the chemical system"),
            _f64("decomposition_energy", EV, "lowest of the system: prediction minus the hull of all others"),
            _f64("probability_stable", NONE, "calibrated probability of lying on or below the hull", null=True),
            _flag("known", "the composition is among the known phases or formulas: a rediscovery"),
            *_DOUBTS,
        ],
    ),
    "candidates_part": (
        2,  # 2: see candidates
        [
            _INDEX,
            _FORMULA,
            _CHEMSYS,
            _field("arity", pa.int8(), NONE, "number of elements"),
            _f64("formation_energy_per_atom", EV, "predicted formation energy"),
            _f64("prediction_std", EV, "standard deviation over the ensemble; null for a single network", null=True),
            _f64("hull_energy_per_atom", EV, "hull of all phases at this composition"),
            _ABOVE_HULL,
            _f64("decomposition_energy", EV, "predicted energy minus the hull of all other compositions"),
            _flag("known", "the composition is among the known phases"),
            _flag("out_of_domain", "it has an element with fewer than 100 training rows"),
            _MIXED,
        ],
    ),
    "all_predictions": (
        1,
        [
            _field(
                "formation_energy_per_atom", pa.float32(), EV, "predicted formation energy, in the order of the index"
            )
        ],
    ),
    "formula_list": (
        1,
        [
            _field("row", pa.int64(), NONE, "index of the first row of the input with this composition, from 0"),
            _FORMULA,
            _CHEMSYS,
            _field("arity", pa.int8(), NONE, "number of elements"),
            _field("elements", _LIST_I16, NONE, "ascending places of the elements among the 86, from 0"),
            _field("counts", _LIST_I16, NONE, "atoms of each element in the reduced formula"),
        ],
    ),
    "backtest": (
        1,
        [
            _FORMULA,
            _CHEMSYS,
            _field("arity", pa.int8(), NONE, "number of elements"),
            _text("anion", "anion class, such as oxide or fluoride"),
            _text("group", "held-out pair of elements, or chemical system, that the row stands for"),
            _text("source_version", "release that the row is from"),
            _f64("formation_energy_per_atom", EV, "true formation energy with the elemental reference correction"),
            _f64("prediction", EV, "predicted formation energy"),
            _f64("prediction_std", EV, "standard deviation over the ensemble; null for a single network", null=True),
            _f64("hull_energy_per_atom", EV, "hull of the training side's phases at this composition"),
            _f64("decomposition_energy", EV, "predicted energy minus the hull of the training side's phases"),
            _f64("decomposition_energy_true", EV, "true energy minus the same hull"),
            _f64("decomposition_energy_among_all", EV, "true energy minus the hull of all others, held-out ones too"),
            _f64("probability_stable", NONE, "probability that the training side's calibration states", null=True),
            _flag("known", "the composition is among the phases or formulas known without the held-out ones"),
            *_DOUBTS,
            _text("novelty", "how near the nearest composition known without the held-out ones is"),
        ],
    ),
    "moduli": (1, [_ID, _FORMULA, *_MODULI, *_MODULI_ERRORS]),
    "moduli_parity": (
        1,
        [
            _ID,
            _FORMULA,
            _SPLIT,
            *_MODULI,
            _f64("bulk_modulus_prediction", "GPa", "predicted bulk modulus"),
            _f64("shear_modulus_prediction", "GPa", "predicted shear modulus"),
        ],
    ),
    "ranking": (
        1,
        [
            _i32("rank", "place in the ranking, from 1"),
            _ID,
            _FORMULA,
            _CHEMSYS,
            _ABOVE_HULL.with_nullable(True),
            _f64("band_gap", "eV", "electronic band gap", null=True),
            *_MODULI,
            *_MODULI_ERRORS,
            _f64("volume_ratio", NONE, "molar volume of Li+ in the compound over that of Li in the metal"),
            _f64("poisson_ratio", NONE, "Poisson's ratio"),
            _f64("chi", "kJ/mol/nm", "stability parameter of the interface with the metal; below 0 is stable"),
            _f64("chi_q05", "kJ/mol/nm", "5 % quantile of chi under the errors of the moduli", null=True),
            _f64("chi_q95", "kJ/mol/nm", "95 % quantile of chi under the errors of the moduli", null=True),
            _f64("lambda_crit_nm", "nm", "wavelength below which surface tension stabilises the interface", null=True),
            _f64("probability_stable", NONE, "probability that chi is below 0"),
            _f64("pugh_ratio", NONE, "shear modulus over bulk modulus"),
            _MIXED,
        ],
    ),
    "excluded": (
        1,
        [_ID, _FORMULA, _text("stage", "stage that took the row out"), _text("reason", "why it was taken out")],
    ),
    "rejected": (
        1,
        [
            _field("row", pa.int64(), NONE, "index of the row in the input, from 0"),
            _text("material_id", "identifier, where the row has one", null=True),
            _text("formula", "formula as given, where the row has one", null=True),
            _text("reason", "why the row was rejected"),
            _text("record", "the row as JSON", null=True),
        ],
    ),
    "formulas": (
        1,
        [
            _FORMULA,
            _CHEMSYS,
            _text("source", "where the formula is known from"),
            _text("source_id", "identifier of the row in its source", null=True),
        ],
    ),
    **_EXPLANATION,
}
"""Version and columns of each table, by its name."""
