"""Constants of metal electrodes, against others' numbers of the same metals."""

from __future__ import annotations

import pytest
from pymatgen.core import Element

from models.elasticity import is_positive_definite
from models.electrodeposition import LITHIUM, stability_parameter
from models.electrodes import METALS, electrode
from models.errors import InputError
from models.volume_ratio import SHANNON_RADII, shannon_fit

#: Young's modulus [GPa] and Poisson's ratio of the polycrystals, ASM Handbook vol. 2 and Smithells, 8th ed.
POLYCRYSTALS = {"Mg": (44.7, 0.29), "Zn": (104.5, 0.25), "Al": (70.6, 0.345)}


@pytest.mark.parametrize("metal", METALS)
def test_densities_and_charges_are_those_of_the_element(metal: str) -> None:
    constants, element = electrode(metal), Element(metal)
    assert constants.molar_volume * 1e6 == pytest.approx(float(element.molar_volume), rel=0.002)
    assert constants.charge == max(element.common_oxidation_states)
    assert constants.metal == metal


@pytest.mark.parametrize("metal", POLYCRYSTALS)
def test_averages_are_near_the_measured_polycrystals(metal: str) -> None:
    constants = electrode(metal)
    young = 2 * constants.shear_modulus * (1 + constants.poisson_ratio)
    assert young == pytest.approx(POLYCRYSTALS[metal][0], rel=0.05)
    assert constants.poisson_ratio == pytest.approx(POLYCRYSTALS[metal][1], abs=0.03)


def test_alkali_metals_get_softer_down_the_group() -> None:
    shear = [electrode(metal).shear_modulus for metal in ("Li", "Na", "K")]
    assert shear == sorted(shear, reverse=True)
    assert electrode("Na").shear_modulus == pytest.approx(1.98, abs=0.02)  # (2.746 + 1.206) / 2


def test_hexagonal_tensors_are_whole() -> None:
    from models.electrodes import _METALS

    for metal in ("Mg", "Zn"):
        tensor = _METALS[metal].tensor()
        assert is_positive_definite(tensor)[0]
        assert tensor[5, 5] == pytest.approx((tensor[0, 0] - tensor[0, 1]) / 2)
        assert (tensor == tensor.T).all()


def test_lithium_is_the_published_screens() -> None:
    assert electrode("Li") == LITHIUM
    assert electrode("Li", 5e7).wavenumber == 5e7


@pytest.mark.parametrize("metal", METALS)
def test_a_stiff_salt_is_unstable_against_every_metal_and_a_soft_one_stable(metal: str) -> None:
    constants = electrode(metal)
    stiff, soft = 3 * constants.shear_modulus, constants.shear_modulus / 10
    assert stability_parameter(2 * stiff, stiff, 0.1, constants).chi > 0
    assert stability_parameter(2 * soft, soft, 0.1, constants).chi < 0


@pytest.mark.parametrize("metal", METALS)
def test_radii_are_pymatgens_copy_of_shannons_table(metal: str) -> None:
    numerals = {"IV": 4, "V": 5, "VI": 6, "VII": 7, "VIII": 8, "IX": 9, "X": 10, "XII": 12}
    table = Element(metal).data["Shannon radii"][str(int(electrode(metal).charge))]
    known = {numerals[name]: next(iter(spins.values()))["ionic_radius"] for name, spins in table.items()}
    assert SHANNON_RADII[metal] == known
    slope, _ = shannon_fit(metal)
    assert slope > 0


def test_a_metal_without_constants() -> None:
    with pytest.raises(InputError, match="choose one of Li, Na"):
        electrode("Fe")
