"""Families of compounds in the starter set: a stoichiometry, its competing prototypes, how many formulas to draw."""

from __future__ import annotations

from dataclasses import dataclass

ALLOY_ELEMENTS: tuple[str, ...] = (
    *("Li", "Na", "K", "Rb", "Cs", "Be", "Mg", "Ca", "Sr", "Ba", "Sc", "Y", "La", "Ce", "Pr", "Nd", "Pm", "Sm", "Eu"),
    *("Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Ac", "Th", "Pa", "U", "Np", "Pu", "Ti", "Zr", "Hf", "V", "Nb"),
    *("Ta", "Cr", "Mo", "W", "Mn", "Tc", "Re", "Fe", "Ru", "Os", "Co", "Rh", "Ir", "Ni", "Pd", "Pt", "Cu", "Ag", "Au"),
    *("Zn", "Cd", "Hg", "Al", "Ga", "In", "Tl", "Si", "Ge", "Sn", "Pb", "Sb", "Bi", "As"),
)
"""Elements of the free intermetallic families."""

_TRANSITION = (
    *("Ti", "Zr", "Hf", "V", "Nb", "Ta", "Cr", "Mo", "W", "Mn", "Tc", "Re", "Fe", "Ru", "Os", "Co", "Rh", "Ir"),
    *("Ni", "Pd", "Pt", "Cu", "Ag", "Au", "Zn"),
)
_ELECTROPOSITIVE = (
    *("Li", "Na", "K", "Rb", "Cs", "Mg", "Ca", "Sr", "Ba", "Sc", "Y", "La", "Ce", "Pr", "Nd", "Sm", "Eu", "Gd", "Tb"),
    *("Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Th", "U", "Np", "Pu", "Zr", "Hf", "Ti"),
)
_MAIN = ("Al", "Ga", "In", "Si", "Ge", "Sn", "Pb", "As", "Sb", "Bi", "P", "Zn", "Cd")
_INTERSTITIAL = ("C", "N", "B")


@dataclass(frozen=True)
class Family:
    """A stoichiometry and what competes for it.

    Attributes
    ----------
    name : str
        Unique.
    template : tuple of int
        Atoms of each position per formula; cations first.
    n_anions : int
        How many of the last positions are anions; 0 for an intermetallic, which needs no charge balance.
    prototypes : tuple of str
        Keys of `load_prototypes`.
    cap, lithium_cap : int
        Formulas without and with lithium.
    allowed : tuple of tuple of str
        Elements per position; empty means all.
    ordered : bool
        Anions only where the prototype's example has its most electronegative elements.
    sized : bool
        The larger of the first two cations takes the first of their slots in `roles`, never the other way round.
    roles : tuple of (key, slot orders)
        For a prototype where that rule is wrong: the slots that the template's positions take, one crystal per order.
    """

    name: str
    template: tuple[int, ...]
    n_anions: int
    prototypes: tuple[str, ...]
    cap: int
    lithium_cap: int = 400
    allowed: tuple[tuple[str, ...], ...] = ()
    ordered: bool = True
    sized: bool = False
    roles: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] = ()

    def __post_init__(self) -> None:
        if not self.allowed:
            object.__setattr__(self, "allowed", ((),) * len(self.template))


_AX = (
    *("AB_cF8_225_a_b:B1", "AB_cP2_221_b_a:B2", "AB_cF8_216_c_a:B3", "AB_hP4_186_b_b:B4", "AB_hP4_194_c_a:B8_1"),
    *("AB_tP4_129_a_c:B10", "AB_oC8_63_c_c:B33", "AB_tP4_131_c_e:B17", "AB_oP8_62_c_c:B16"),
)
_AX2 = (
    *("AB2_cF12_225_a_c:C1", "AB2_hP3_164_a_d:C6", "AB2_hR3_166_a_c:C19", "A2B_tP6_136_f_a:C4"),
    *("A2B_cP6_224_b_a:C3", "AB2_hP6_194_c_f:C7", "A2B_oP12_62_2c_c:C23", "A2B_oI12_72_j_a:C42"),
    *("A2B_mP12_14_2e_e:C43", "AB2_tI6_139_a_e:C11_b"),
)
_A2X3 = ("A2B3_hR10_167_c_e:D5_1", "A2B3_hR5_166_c_ac:C33", "A2B3_hP5_164_d_ad:D5_2")
_AX3 = (
    *("A3B_cP4_221_d_a:D0_9", "AB3_cF16_225_a_bc:D0_3", "AB3_hR8_148_c_f:D0_5", "AB3_mC16_12_g_ij:D0_15"),
    *("AB3_hR8_155_c_de:D0_14", "AB3_hP8_194_c_bf:D0_18", "A3B_hP4_191_bc_a:", "AB3_oP16_62_c_cd:D0_11"),
    *("AB3_hP8_176_c_h:UCl3", "AB3_hR8_167_b_e:D0_12"),
)
_ALLOY_AB = (
    *("AB_cP2_221_b_a:B2", "AB_tP2_123_a_d:L1_0", "AB_oC8_63_c_c:B33", "AB_oP4_51_e_f:B19", "AB_cF16_227_a_b:B32"),
)
_ALLOY_AB2 = (
    *("A2B_cF24_227_d_a:C15", "AB2_hP12_194_f_ah:C14", "AB2_tI6_139_a_e:C11_b", "AB2_hP3_191_a_d:C32"),
    *("A2B_tI12_140_h_a:C16", "AB2_hP6_194_c_ad:B8_2", "A2B_tP6_129_ac_c:C38"),
)
_ALLOY_AB3 = (
    *("AB3_cP4_221_a_c:L1_2", "A3B_hP8_194_h_c:D0_19", "A3B_tI8_139_bd_a:D0_22", "A3B_cP8_223_c_a:A15"),
    "AB3_cF16_225_a_bc:D0_3",
)
_PEROVSKITE = "AB3C_cP5_221_a_c_b:E2_1"

_GDFEO3 = "AB3C_oP20_62_c_cd_a:Orthorhombic Perovskite"
_ILMENITE = "AB3C_hR10_148_c_f_c:Ilmenite"
_LINBO3 = "ABC3_hR10_161_a_a_b:"
_ABX3_ROLES = (
    (_PEROVSKITE, (("Ca", "Ti", "O"),)),
    (_GDFEO3, (("Ca", "Ti", "O"),)),
    (_ILMENITE, (("Fe", "Ti", "O"),)),
    (_LINBO3, (("Li", "Nb", "O"),)),
)
_TINISI = "ABC_oP12_62_c_c_c:E_c"
_HALF_HEUSLER = "ABC_cF12_216_b_c_a:C1_b"
_ZRNIAL = "ABC_hP9_189_f_bc_g:ZrNiAl"
_HEXAGONAL_ABC = "ABC_hP6_194_c_d_a:"
_PBFCL = "ABC_tP6_129_c_a_c:E0_1"
_ABX_ROLES = (
    (_TINISI, (("Ti", "Ni", "Si"), ("Ni", "Ti", "Si"))),
    (_HALF_HEUSLER, (("Mg", "As", "Ag"), ("As", "Mg", "Ag"), ("Mg", "Ag", "As"))),
    (_PBFCL, (("Pb", "F", "Cl"), ("F", "Pb", "Cl"))),
    (_HEXAGONAL_ABC, (("Li", "B", "C"), ("B", "Li", "C"))),
)
_ABC_ROLES = (
    (_TINISI, (("Ti", "Ni", "Si"),)),
    (_HALF_HEUSLER, (("Mg", "As", "Ag"),)),
    (_ZRNIAL, (("Zr", "Ni", "Al"),)),
    (_HEXAGONAL_ABC, (("Li", "B", "C"),)),
)
_ZIRCON = "A4BC_tI24_141_h_b_a:Zircon"
_SCHEELITE = "AB4C_tI24_88_b_f_a:H0_4"
_122 = "A2B2C_tI10_139_d_e_a:ThCr2Si2"

FAMILIES: tuple[Family, ...] = (
    Family("AX", (1, 1), 1, _AX, 600),
    Family("AX2", (1, 2), 1, _AX2, 600, roles=(("AB2_tI6_139_a_e:C11_b", (("Mo", "Si"),)),)),
    Family(
        "A2X",
        (2, 1),
        1,
        (
            "AB2_cF12_225_a_c:C1",
            "AB2_hP3_164_a_d:C6",
            "A2B_cP6_224_b_a:C3",
            "AB2_hR3_166_a_c:C19",
            "A2B_oP12_62_2c_c:C37",
            "AB2_hP6_194_c_ad:B8_2",
        ),
        300,
        ordered=False,
    ),
    Family("A2X3", (2, 3), 1, _A2X3, 400),
    Family("A3X2", (3, 2), 1, (*_A2X3, "A2B3_tP10_127_g_ah:D5_a"), 200, ordered=False),
    Family("AX3", (1, 3), 1, _AX3, 450, roles=(("AB3_oP16_62_c_cd:D0_11", (("C", "Fe"),)),)),
    Family(
        "A3X",
        (3, 1),
        1,
        ("AB3_cF16_225_a_bc:D0_3", "AB3_hP8_194_c_bf:D0_18", "A3B_hP4_191_bc_a:", "A3B_cP4_221_d_a:D0_9"),
        150,
        ordered=False,
    ),
    Family("AX4", (1, 4), 1, ("A4B_cI10_217_c_a:Silicon tetrafluoride", "A4B_tI10_139_de_a:D1_3"), 60),
    Family(
        "ABX2",
        (1, 1, 2),
        1,
        ("ABC2_hR4_166_a_b_c:F5_1", "ABC2_tI16_122_a_b_d:E1_1", "ABC2_hR4_166_a_b_c:delafossite"),
        600,
        260,
    ),
    Family("ABX3", (1, 1, 3), 1, (_PEROVSKITE, _GDFEO3, _ILMENITE, _LINBO3), 270, 110, sized=True, roles=_ABX3_ROLES),
    Family(
        "quartz",
        (1, 2),
        1,
        ("A2B_hP9_152_c_a:quartz (alpha)", "A2B_cF24_227_c_a:C9"),
        10,
        1,
        (("Si", "Ge", "C", "Be", "Zn", "Ti"), ("O", "S", "F", "Cl")),
    ),
    Family("carbonate", (1, 1, 3), 1, ("ABC3_hR10_167_a_b_e:G0_1",), 60, 60, ((), ("C", "N", "B"), ("O",))),
    Family("A3BX", (3, 1, 1), 2, (_PEROVSKITE,), 160, 120, ordered=False),
    Family(
        "AB2X4",
        (1, 2, 4),
        1,
        ("A2BC4_cF56_227_d_a_e:H1_1", "A2BC4_tI14_82_bc_a_g:E3", "AB2C4_tI14_139_a_e_ce:(La,Ba)CuO4"),
        330,
        140,
    ),
    Family(
        "ABX4",
        (1, 1, 4),
        1,
        (_ZIRCON, "AB4C_tI12_82_c_g_a:H0_7", _SCHEELITE),
        170,
        50,
        sized=True,
        roles=((_ZIRCON, (("Zr", "Si", "O"),)), (_SCHEELITE, (("Ca", "W", "O"),))),
    ),
    Family("A3BX4", (3, 1, 4), 1, ("A3B4C_cP8_215_d_e_a:H2_4", "AB3C4_cP8_215_a_c_e:Lavarevi\\'{c}ite"), 160, 100),
    Family("A2BX6", (2, 1, 6), 1, ("A6B2C_cF36_225_e_c_a:J1_1",), 240, 80),
    Family("A2BCX6", (2, 1, 1, 6), 1, ("AB6C2D_cF40_225_a_e_c_b:elpasolite",), 420, 120),
    Family("A2BCX4", (2, 1, 1, 4), 1, ("A2BC4D_tI16_121_d_a_i_b:H2_6",), 320, 120),
    Family("ABX", (1, 1, 1), 1, (_HALF_HEUSLER, _PBFCL, _HEXAGONAL_ABC, _TINISI), 220, 140, roles=_ABX_ROLES),
    Family("AXY", (1, 1, 1), 2, (_PBFCL,), 300, 30, roles=((_PBFCL, (("Pb", "F", "Cl"), ("Pb", "Cl", "F"))),)),
    Family("ABXY", (1, 1, 1, 1), 2, ("ABCD_tP8_129_c_b_a_c:Parent of FeAs superconductors",), 220, 60),
    Family(
        "AB2X2",
        (1, 2, 2),
        1,
        ("AB2C2_hP5_164_a_d_d:CaAl2Si2", _122),
        260,
        80,
        roles=((_122, (("Th", "Cr", "Si"),)), ("AB2C2_hP5_164_a_d_d:CaAl2Si2", (("Ca", "Al", "Si"),))),
    ),
    Family("alloy AB", (1, 1), 0, _ALLOY_AB, 680, 60),
    Family("alloy AB2", (1, 2), 0, _ALLOY_AB2, 480, 60),
    Family("alloy AB3", (1, 3), 0, _ALLOY_AB3, 680, 60),
    Family(
        "alloy AB5",
        (1, 5),
        0,
        ("AB5_hP6_191_a_cg:D2_d", "AB5_cF24_216_a_ce:C15_b"),
        220,
        20,
        (_ELECTROPOSITIVE, _TRANSITION),
    ),
    Family(
        "alloy AB4",
        (1, 4),
        0,
        ("A4B_tI10_139_de_a:D1_3", "AB4_tI10_87_a_h:D1_a"),
        220,
        20,
        (_ELECTROPOSITIVE, (*_TRANSITION, *_MAIN)),
    ),
    Family("boride", (1, 6), 0, ("A6B_cP7_221_f_a:D2_1",), 35, 1, (_ELECTROPOSITIVE, ("B",))),
    Family(
        "boride2",
        (1, 2),
        0,
        ("AB2_hP3_191_a_d:C32", "AB2_hP6_194_b_f:"),
        60,
        1,
        ((*_ELECTROPOSITIVE, *_TRANSITION), ("B",)),
    ),
    Family(
        "interstitial",
        (1, 1),
        0,
        ("AB_cF8_225_a_b:B1", "AB_hP2_187_d_a:B_h", "AB_oP8_62_c_c:B27", "AB_oC8_63_c_c:B33"),
        150,
        3,
        ((*_ELECTROPOSITIVE, *_TRANSITION), _INTERSTITIAL),
        roles=(("AB_oP8_62_c_c:B27", (("Fe", "B"),)), ("AB_oC8_63_c_c:B33", (("Cr", "B"),))),
    ),
    Family(
        "silicide",
        (1, 1),
        0,
        (
            "AB_cP8_198_a_a:B20",
            "AB_oP8_62_c_c:B27",
            "AB_oC8_63_c_c:B33",
            "AB_oP8_62_c_c:B31",
            "AB_hP4_194_c_a:B8_1",
            "AB_cF8_225_a_b:B1",
        ),
        280,
        20,
        ((*_ELECTROPOSITIVE, *_TRANSITION), (*_MAIN, "S", "Se", "Te")),
        roles=(
            ("AB_cP8_198_a_a:B20", (("Fe", "Si"),)),
            ("AB_oP8_62_c_c:B27", (("Fe", "B"),)),
            ("AB_oC8_63_c_c:B33", (("Cr", "B"),)),
            ("AB_oP8_62_c_c:B31", (("Mn", "P"),)),
            ("AB_hP4_194_c_a:B8_1", (("Ni", "As"),)),
        ),
    ),
    Family(
        "pyrite",
        (1, 2),
        0,
        ("AB2_cP12_205_a_c:C2", "AB2_oP6_58_a_g:C18", "AB2_hP3_164_a_d:C6", "AB2_hP6_194_c_f:C7", "AB2_mC6_12_a_i:C34"),
        110,
        0,
        (_TRANSITION, ("S", "Se", "Te", "P", "As", "Sb")),
    ),
    Family("Heusler", (2, 1, 1), 0, ("AB2C_cF16_225_a_c_b:L2_1",), 1100, 150),
    Family(
        "ABC",
        (1, 1, 1),
        0,
        (_HALF_HEUSLER, _HEXAGONAL_ABC, _TINISI, _ZRNIAL),
        330,
        60,
        (_ELECTROPOSITIVE, _TRANSITION, _MAIN),
        roles=_ABC_ROLES,
    ),
    Family(
        "122",
        (1, 2, 2),
        0,
        (_122,),
        420,
        40,
        (_ELECTROPOSITIVE, _TRANSITION, _MAIN),
        roles=((_122, (("Th", "Cr", "Si"),)),),
    ),
    Family(
        "antiperovskite",
        (3, 1, 1),
        0,
        (_PEROVSKITE,),
        260,
        20,
        ((*_ELECTROPOSITIVE, *_TRANSITION), _MAIN, _INTERSTITIAL),
        roles=((_PEROVSKITE, (("O", "Ca", "Ti"),)),),
    ),
    Family(
        "MAX",
        (2, 1, 1),
        0,
        ("ABC2_hP8_194_d_a_f:H-Phase",),
        110,
        2,
        (("Ti", "Zr", "Hf", "V", "Nb", "Ta", "Cr", "Sc", "Mo"), _MAIN, ("C", "N")),
    ),
)
"""Every family of the starter set. A few minutes to two hours of one core per hundred to thousand formulas."""
