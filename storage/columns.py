"""The columns of every kind of table, with types, units and descriptions; `storage.schemas` makes schemas of them."""

from __future__ import annotations

import pyarrow as pa

from storage.fields import (
    ABOVE_HULL,
    CHEMSYS,
    EV,
    FORMULA,
    ID,
    LIST_F32,
    LIST_F64,
    LIST_I16,
    MIXED,
    MODULI,
    MODULI_ERRORS,
    MODULI_NULL,
    NONE,
    f64,
    field,
    flag,
    i32,
    text,
)

N_ELEMENTS = 86
"""Width of ``element_fraction``: H..Pu without He, Ne, Ar, Po, At, Rn, Fr and Ra."""

_FRACTIONS = pa.list_(pa.field("element", pa.float32()), N_ELEMENTS)

_INDEX = field(
    "index", pa.int64(), NONE, "number of the composition in the full composition space; null: not in it", null=True
)
_SPLIT = text("split", "part of the data the row belongs to: train, calibration or validation")
_SOURCE = [
    text("source", "where the row comes from: oqmd, mp, jarvis, optimade:<provider>, file, selfbuilt"),
    text("source_id", "identifier of the row in its source"),
    text("source_version", "release, database version or file digest of the source"),
    text("functional", "pbe, pbe+u, r2scan, mixed, chgnet or experiment", null=True),
    field("temperature", pa.float64(), "K", "temperature of a measured value; null for a computed one", null=True),
]
_PHASE = [
    ID,
    FORMULA,
    CHEMSYS,
    f64("formation_energy_per_atom", EV, "formation energy with the elemental reference correction"),
    f64("formation_energy_raw", EV, "formation energy as the source states it"),
    f64("reference_correction", EV, "what was taken off the raw formation energy: raw minus corrected"),
    i32("n_rows", "how many accepted rows had this composition; the lowest is kept"),
    *_SOURCE,
]
_DOUBTS = [
    flag("hull_incomplete", "its chemical system has compositions known without an energy"),
    flag("out_of_domain", "it has an element with fewer than 100 training rows"),
]

_LAYER = text("layer", "layer of the network: a number, a submodule's name, or input")
_EXPLANATION: dict[str, tuple[int, list[pa.Field]]] = {
    "layer_components": (1, [
        text("set", "elements, compounds (of two s-block and two anion groups), or table (the rows that were given)"),
        _LAYER, FORMULA, text("label", "group of an element, kind of a compound, or yes/no for a row", null=True),
        f64("component_1", NONE, "first principal component of the activations"),
        f64("component_2", NONE, "second principal component of the activations")]),
    "element_similarity": (1, [
        _LAYER, text("element", "element symbol"), text("other", "element that it is compared with"),
        f64("similarity", NONE, "similarity of the two, -1 to 1; null: undefined", null=True)]),
    "probe_roc": (1, [
        text("probe", "property that is read off the layer"), _LAYER,
        text("network", "trained, or untrained: the same network with random weights"),
        f64("threshold", NONE, "log odds from which on a row counts as positive; null: above all", null=True),
        f64("false_positive_rate", NONE, "share of the negatives at or above it"),
        f64("true_positive_rate", NONE, "share of the positives at or above it")]),
    "predicted_diagram": (1, [
        text("system", "chemical system as it was asked for"), FORMULA,
        field("shares", LIST_F64, NONE, "atomic fractions in the order of the system's elements"),
        f64("prediction", EV, "predicted formation energy"),
        f64("predicted_hull", EV, "hull of all predictions of the system, elements at 0"),
        f64("formation_energy_per_atom", EV, "formation energy of the known phase", null=True),
        f64("hull_energy_per_atom", EV, "hull of the known phases"),
        flag("predicted_stable", "on the predicted hull"), flag("stable", "on the hull of the known phases"),
        flag("in_space", "an element or a composition of the enumerated space, not only a known phase"), MIXED]),
}  # fmt: skip

TABLES: dict[str, tuple[int, list[pa.Field]]] = {
    "compounds": (
        2,
        [
            ID,
            FORMULA,
            CHEMSYS,
            f64("formation_energy_per_atom", EV, "formation energy as the source states it", null=True),
            ABOVE_HULL.with_nullable(True),
            f64("band_gap", "eV", "electronic band gap", null=True),
            f64("volume_per_atom", "A^3/atom", "cell volume per atom", null=True),
            *MODULI_NULL,
            f64("bulk_modulus_vrh_raw", "GPa", "bulk modulus before a bias correction of the source", null=True),
            f64("shear_modulus_vrh_raw", "GPa", "shear modulus before a bias correction of the source", null=True),
            field(
                "elastic_tensor",
                LIST_F64,
                "GPa",
                "6x6 stiffness matrix in Voigt order, row by row",
                null=True,
                length="36",
            ),
            text("structure", "pymatgen JSON or CIF", null=True),
            text("prototype", "structure prototype", null=True),
            f64("volume_ratio", NONE, "molar volume of Li+ in the compound over that of Li in the metal", null=True),
            _SPLIT.with_nullable(True),
            text("license", "licence of the row, where its source states one", null=True),
            text("reference", "where a measured value was published", null=True),
            *_SOURCE,
        ],
    ),
    "phases": (1, _PHASE),
    "training": (1, [*_PHASE, _SPLIT]),
    "references": (
        1,
        [
            text("element", "element symbol"),
            f64(
                "reference_correction",
                "eV/atom of element",
                "taken off a formation energy per atom of this element in it",
            ),
            i32("n_compounds", "compounds that the shift was measured on"),
            f64("shift", "eV/atom of element", "measured shift against compounds of the neighbours"),
            f64("shift_error", "eV/atom of element", "standard error of the shift"),
            text("neighbours", "elements that it was compared with", null=True),
            text("release", "release of the source; null for all", null=True),
        ],
    ),
    "features": (
        1,
        [
            ID,
            FORMULA,
            CHEMSYS,
            _SPLIT,
            f64("formation_energy_per_atom", EV, "formation energy the model is to learn"),
            field("element_fraction", _FRACTIONS, NONE, "atomic fractions in the order of the 86 elements"),
        ],
    ),
    "drift": (
        1,
        [
            text("measure", "rows, filled, minimum, maximum, vanished, appeared, shared_energy or reference"),
            text("subject", "column or element"),
            f64("previous", "that of the measure", "value in the earlier snapshot", null=True),
            f64("current", "that of the measure", "value in this snapshot", null=True),
            f64("change", "that of the measure", "change; relative for rows, volumes and moduli", null=True),
            f64("limit", "that of the measure", "largest change that is tolerated"),
            flag("exceeded", "the change is larger than the limit"),
            text("note", "what it rests on", null=True),
        ],
    ),
    "attributes": (
        1,
        [
            ID,
            FORMULA,
            CHEMSYS,
            _SPLIT.with_nullable(True),
            f64("formation_energy_per_atom", EV, "formation energy as the source states it", null=True),
            field(
                "attributes",
                LIST_F32,
                "that of each attribute",
                "145 attributes of the composition (magpie) or 126 of the structure (voronoi), named in names.json",
            ),
        ],
    ),
    "attributes_part": (
        1,
        [
            field("row", pa.int64(), NONE, "index of the row in the input, from 0"),
            field("attributes", LIST_F32, "that of each attribute", "attributes of the structure", null=True),
            text("reason", "why there are none", null=True),
        ],
    ),
    "predictions": (
        1,
        [
            ID,
            FORMULA,
            _SPLIT,
            f64("formation_energy_per_atom", EV, "formation energy in the data"),
            f64("prediction", EV, "predicted formation energy"),
            f64("prediction_std", EV, "standard deviation over the ensemble; null for a single network", null=True),
            MIXED,
        ],
    ),
    "candidates": (
        3,  # 3: index is null for compositions of lists that no space holds
        [
            _INDEX,
            FORMULA,
            CHEMSYS,
            field("arity", pa.int8(), NONE, "number of elements"),
            f64("formation_energy_per_atom", EV, "predicted formation energy"),
            f64("prediction_std", EV, "standard deviation over the ensemble; null for a single network", null=True),
            f64("hull_energy_per_atom", EV, "hull of all phases at this composition"),
            ABOVE_HULL,
            f64("decomposition_energy", EV, "predicted energy minus the hull of all other compositions"),
            f64("probability_stable", NONE, "calibrated probability of lying on or below the hull", null=True),
            flag("known", "the composition is among the known phases or formulas: a rediscovery"),
            *_DOUBTS,
            flag("charge_neutral", "integer oxidation states can balance; null: the rule does not apply", null=True),
            text("novelty", "how near the nearest known composition is: exact, within_1_percent, ... or new"),
            f64("nearest_known", NONE, "distance to it, of atomic fractions; null: further than 0.1", null=True),
            MIXED,
        ],
    ),
    "categories": (
        1,
        [
            text("category", "category of compounds; all of them in the first rows"),
            field("arity", pa.int8(), NONE, "number of elements"),
            i32("systems", "chemical systems with a candidate"),
            i32("compositions", "candidates"),
            i32("compositions_known", "candidates that are known"),
            i32("compositions_hull_incomplete", "candidates of systems with an incomplete hull"),
            i32("compositions_out_of_domain", "candidates with an element out of domain"),
            i32("systems_after", "chemical systems with a candidate that has none of these flags"),
            i32("compositions_after", "candidates without any of these flags"),
        ],
    ),
    "best_per_system": (
        2,  # 2: see candidates
        [
            _INDEX,
            FORMULA,
            CHEMSYS,
            field("arity", pa.int8(), NONE, "number of elements"),
            i32("n_candidates", "candidates of the chemical system"),
            f64("decomposition_energy", EV, "lowest of the system: prediction minus the hull of all others"),
            f64("probability_stable", NONE, "calibrated probability of lying on or below the hull", null=True),
            flag("known", "the composition is among the known phases or formulas: a rediscovery"),
            *_DOUBTS,
        ],
    ),
    "candidates_part": (
        2,  # 2: see candidates
        [
            _INDEX,
            FORMULA,
            CHEMSYS,
            field("arity", pa.int8(), NONE, "number of elements"),
            f64("formation_energy_per_atom", EV, "predicted formation energy"),
            f64("prediction_std", EV, "standard deviation over the ensemble; null for a single network", null=True),
            f64("hull_energy_per_atom", EV, "hull of all phases at this composition"),
            ABOVE_HULL,
            f64("decomposition_energy", EV, "predicted energy minus the hull of all other compositions"),
            flag("known", "the composition is among the known phases"),
            flag("out_of_domain", "it has an element with fewer than 100 training rows"),
            MIXED,
        ],
    ),
    "all_predictions": (
        1,
        [field("formation_energy_per_atom", pa.float32(), EV, "predicted formation energy, in the order of the index")],
    ),
    "formula_list": (
        1,
        [
            field("row", pa.int64(), NONE, "index of the first row of the input with this composition, from 0"),
            FORMULA,
            CHEMSYS,
            field("arity", pa.int8(), NONE, "number of elements"),
            field("elements", LIST_I16, NONE, "ascending places of the elements among the 86, from 0"),
            field("counts", LIST_I16, NONE, "atoms of each element in the reduced formula"),
        ],
    ),
    "backtest": (
        1,
        [
            FORMULA,
            CHEMSYS,
            field("arity", pa.int8(), NONE, "number of elements"),
            text("anion", "anion class, such as oxide or fluoride"),
            text("group", "held-out pair of elements, or chemical system, that the row stands for"),
            text("source_version", "release that the row is from"),
            f64("formation_energy_per_atom", EV, "true formation energy with the elemental reference correction"),
            f64("prediction", EV, "predicted formation energy"),
            f64("prediction_std", EV, "standard deviation over the ensemble; null for a single network", null=True),
            f64("hull_energy_per_atom", EV, "hull of the training side's phases at this composition"),
            f64("decomposition_energy", EV, "predicted energy minus the hull of the training side's phases"),
            f64("decomposition_energy_true", EV, "true energy minus the same hull"),
            f64("decomposition_energy_among_all", EV, "true energy minus the hull of all others, held-out ones too"),
            f64("probability_stable", NONE, "probability that the training side's calibration states", null=True),
            flag("known", "the composition is among the phases or formulas known without the held-out ones"),
            *_DOUBTS,
            text("novelty", "how near the nearest composition known without the held-out ones is"),
        ],
    ),
    "moduli": (1, [ID, FORMULA, *MODULI, *MODULI_ERRORS]),
    "moduli_parity": (
        1,
        [
            ID,
            FORMULA,
            _SPLIT,
            *MODULI,
            f64("bulk_modulus_prediction", "GPa", "predicted bulk modulus"),
            f64("shear_modulus_prediction", "GPa", "predicted shear modulus"),
        ],
    ),
    "excluded": (
        1,
        [ID, FORMULA, text("stage", "stage that took the row out"), text("reason", "why it was taken out")],
    ),
    "rejected": (
        1,
        [
            field("row", pa.int64(), NONE, "index of the row in the input, from 0"),
            text("material_id", "identifier, where the row has one", null=True),
            text("formula", "formula as given, where the row has one", null=True),
            text("reason", "why the row was rejected"),
            text("record", "the row as JSON", null=True),
        ],
    ),
    "formulas": (
        1,
        [
            FORMULA,
            CHEMSYS,
            text("source", "where the formula is known from"),
            text("source_id", "identifier of the row in its source", null=True),
        ],
    ),
    **_EXPLANATION,
}
"""Version and columns of each table, by its name."""
