"""The columns of the tables of electrolytes: rankings, interfaces, and structures by substitution."""

from __future__ import annotations

import pyarrow as pa

from storage.fields import (
    ABOVE_HULL,
    CHEMSYS,
    EV,
    FORMULA,
    ID,
    LIST_F64,
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

RANKING_TABLES: dict[str, tuple[int, list[pa.Field]]] = {
    "ranking": (
        3,  # 3: hypothetical
        [
            i32("rank", "place in the ranking, from 1"),
            ID,
            FORMULA,
            CHEMSYS,
            flag("hypothetical", "its structure was made by substitution and nobody has relaxed it"),
            ABOVE_HULL.with_nullable(True),
            f64("band_gap", "eV", "electronic band gap", null=True),
            *MODULI,
            *MODULI_ERRORS,
            f64("reduction_potential", "V", "potential against the metal below which it is reduced", null=True),
            f64("oxidation_potential", "V", "potential against the metal above which it is oxidised", null=True),
            f64("reaction_energy", EV, "energy of its reaction with an excess of the metal; 0: none", null=True),
            f64("volume_ratio", NONE, "molar volume of the metal's ion in the compound over that of the metal"),
            f64("poisson_ratio", NONE, "Poisson's ratio"),
            f64("chi", "kJ/mol/nm", "stability parameter of the interface with the metal; below 0 is stable"),
            f64("chi_q05", "kJ/mol/nm", "5 % quantile of chi under the errors of the moduli", null=True),
            f64("chi_q95", "kJ/mol/nm", "95 % quantile of chi under the errors of the moduli", null=True),
            f64("lambda_crit_nm", "nm", "wavelength below which surface tension stabilises the interface", null=True),
            f64("probability_stable", NONE, "probability that chi is below 0"),
            f64("pugh_ratio", NONE, "bulk modulus over shear modulus"),
            f64("superionic_likelihood", NONE, "likelihood of over 1e-4 S/cm, from the structure", null=True),
            flag("pareto", "none has a lower chi, a lower energy above hull and a wider gap at once"),
            i32("n_interfaces", "interfaces with lithium that its elastic tensor was judged on").with_nullable(True),
            i32("n_stable_interfaces", "of these, stable in all directions").with_nullable(True),
            f64("chi_interface", "kJ/mol/nm", "lowest chi of an interface in its worst directions", null=True),
            MIXED,
        ],
    ),
    "composition_ranking": (
        1,
        [
            i32("rank", "place in the ranking, from 1"),
            FORMULA,
            CHEMSYS,
            text("anion", "element whose known compounds volume ratios are drawn from; null: of all", null=True),
            *MODULI_NULL,
            *MODULI_ERRORS[:2],
            f64("applicability", NONE, "how well the training rows support the shear modulus, 0 to 1", null=True),
            f64("volume_ratio_median", NONE, "median of the volume ratios that are drawn from"),
            f64("chi_q05", "kJ/mol/nm", "5 % quantile of chi", null=True),
            f64("chi_q50", "kJ/mol/nm", "median of chi", null=True),
            f64("chi_q95", "kJ/mol/nm", "95 % quantile of chi", null=True),
            f64("probability_chi", NONE, "probability that chi is below 0", null=True),
            f64("probability_on_hull", NONE, "probability of lying on or below the hull, of a screen", null=True),
            f64("probability_insulator", NONE, "probability of a wide band gap", null=True),
            f64("probability", NONE, "product of those of the three that are known", null=True),
        ],
    ),
    "interfaces": (
        2,  # 2: convention
        [
            text("material_id", "identifier, where the row has one", null=True),
            text("formula", "formula as given, where the row has one", null=True),
            f64("volume_ratio", NONE, "molar volume of Li+ in the compound over that of lithium", null=True),
            text("frame", "axes that the tensor can be stated in: cell, ieee, standard or stated", null=True),
            text("facet", "Miller indices of lithium's facet", null=True),
            text("plane", "plane (h k l) of the crystal's conventional cell; published: direction [u v w]", null=True),
            f64("chi", "kJ/mol/nm", "stability parameter in the least stable directions; published: of one", null=True),
            f64("chi_best_direction", "kJ/mol/nm", "stability parameter in the most stable directions", null=True),
            f64("probability_stable", NONE, "part of the stiffnesses within the error for which chi is < 0", null=True),
            flag("stable", "chi is below 0 in all directions, with the probability that is asked for", null=True),
            text("convention", "worst_direction, or published: to compare with published values", null=True),
            field("electrolyte_wave", LIST_F64, NONE, "worst direction in the tensor's frame", null=True),
            field("electrode_wave", LIST_F64, NONE, "worst direction in lithium's cubic axes", null=True),
            field("chi_by_direction", LIST_F64, "kJ/mol/nm", "largest chi for each direction in the plane", null=True),
            text("reason", "why the crystal could not be judged", null=True),
        ],
    ),
    "substitutions": (
        1,
        [
            text("material_id", "identifier of the structure: formula, @ and template"),
            FORMULA,
            text("template", "identifier of the structure whose elements were exchanged"),
            text("kind", "compound (of the known ones) or prototype (of the AFLOW library)"),
            text("exchanged", "template's elements to new ones, as JSON"),
            f64("log10_probability", NONE, "how likely the exchange is, mined from the ICSD"),
        ],
    ),
}
