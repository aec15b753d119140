"""The attention network: what it sees of a compound, and what its value must not depend on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.composition_attention import (
    SLOTS,
    CompositionAttention,
    formula_units,
    spread_shares,
)
from models.element_table import N_PROPERTIES, element_table
from models.elements import ELEMENT_INDEX, ELEMENTS
from models.errors import InputError
from models.features import element_fractions
from models.predictor import Predictor
from models.training import TrainingParameters, train_network

SIZES = {"width": 16, "n_layers": 2, "n_heads": 2, "head_width": 16}
FORMULAS = ["NaCl", "Li2O", "BaTiO3", "Li3PS4", "KAl(SO4)2", "Fe2O3", "CaMgSi2O6", "LiFePO4", "Al", "Cu3Au"]


@pytest.fixture(scope="module")
def network() -> CompositionAttention:
    torch.manual_seed(1)
    made = CompositionAttention(**SIZES)
    for parameter in made.parameters():  # nothing at zero, or layers would be the identity
        torch.nn.init.normal_(parameter, std=0.2)
    made.fit_inputs(torch.zeros(1, 86))
    return made.eval()


def rows(formulas: Sequence[str]) -> torch.Tensor:
    return torch.from_numpy(element_fractions(formulas).astype(np.float32))


def test_training_and_evaluation_see_the_same(network: CompositionAttention) -> None:
    x = rows(FORMULAS)
    with torch.no_grad():
        evaluated = network(x)
        together = network.train()(x)
        network.eval()
    assert evaluated.shape == (len(FORMULAS), 1)
    assert torch.allclose(evaluated, together, atol=1e-6)
    assert evaluated.std() > 1e-3


def test_a_row_does_not_depend_on_its_neighbours(network: CompositionAttention) -> None:
    x = rows(FORMULAS)
    with torch.no_grad():
        whole = network.double()(x.double())
        alone = torch.cat([network(x[i : i + 1].double()) for i in range(len(x))])
        network.float()
    assert torch.allclose(whole, alone, atol=1e-13)


def test_an_element_knows_its_neighbours_and_its_share(network: CompositionAttention) -> None:
    with torch.no_grad():
        values = network(rows(["NaCl", "NaBr", "Na2Cl", "NaCl2"]))[:, 0]
    assert len(set(values.tolist())) == 4


def test_hand_computed_formula_units() -> None:
    shares = rows(["NaCl", "Li2O", "BaTiO3", "Al"]).topk(3, dim=1).values
    unit, atoms = formula_units(shares)
    assert unit.tolist() == [2, 3, 5, 1]
    assert atoms.tolist() == [[1, 1, 0], [2, 1, 0], [3, 1, 1], [1, 0, 0]]
    # no formula unit of up to 60 atoms has these shares
    unit, atoms = formula_units(torch.tensor([[53 / 67, 14 / 67]], dtype=torch.float64))
    assert unit.tolist() == [0]
    assert atoms.tolist() == [[0, 0]]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=4))
def test_formula_units_give_the_reduced_formula_back(counts: list[int]) -> None:
    divisor = int(np.gcd.reduce(counts))
    reduced = [count // divisor for count in counts]
    shares = torch.tensor([counts], dtype=torch.float32) / sum(counts)
    unit, atoms = formula_units(shares)
    assert unit.item() == sum(reduced)
    assert atoms[0].tolist() == reduced


def test_shares_are_spread_around_their_value() -> None:
    spread = spread_shares(torch.tensor([[0.5, 0.25]]))[0]
    assert spread[0].argmax().item() == 20
    assert spread[0, 20].item() == pytest.approx(1.0)
    assert spread[0, 19].item() == pytest.approx(np.exp(-0.5), rel=1e-4)
    assert spread[1, -2].item() == 0.25
    assert spread[1, -1].item() == pytest.approx(0.3 * np.log(0.25))


def test_the_table_of_elements() -> None:
    table = element_table()
    assert table.shape == (len(ELEMENTS), N_PROPERTIES)
    assert np.abs(table[:, :22].mean(axis=0)).max() < 1e-6
    assert table[:, 22:].sum(axis=1).tolist() == [2.0] * 86  # one column and one row each
    assert np.array_equal(table[ELEMENT_INDEX["Li"], 22:41], table[ELEMENT_INDEX["Na"], 22:41])


def test_it_trains_in_the_trainer_and_predicts_the_same_bits_however_cut() -> None:
    formulas = [f"{a}{n}{b}{m}" for a in ("Li", "Na", "K") for b in ("O", "S", "Cl") for n in (1, 2, 3) for m in (1, 2)]
    x = element_fractions(formulas).astype(np.float32)
    y = x @ np.linspace(-1, 1, 86) + 4.0 * x[:, ELEMENT_INDEX["Li"]] * x[:, ELEMENT_INDEX["O"]]
    linear = x @ np.linalg.lstsq(x, y, rcond=None)[0]
    limit = 0.5 * np.abs(linear - y).mean()  # what is left is what elements do together
    parameters = TrainingParameters(
        epochs=60, batch_size=18, learning_rate=1e-2, weight_decay=0.0, precision="fp32", threads=1
    )
    trained = train_network(x, y, None, None, parameters, build=lambda: CompositionAttention(**SIZES))
    assert trained.history[-1]["train_mae"] < limit
    assert np.array_equal(trained.state["element_properties"], element_table())
    predictor = Predictor(
        {"name": "attention", "parameters": SIZES}, trained.normalisation, [trained.state], batch_size=16
    )
    whole, _ = predictor.predict(x)
    assert np.abs(whole - y).mean() < limit
    cut = np.concatenate([predictor.predict(x[:5])[0], predictor.predict(x[5:], position=5)[0]])
    assert np.array_equal(whole, cut)


def test_impossible_sizes_and_compounds_are_refused(network: CompositionAttention) -> None:
    for wrong in ({"n_features": 5}, {"width": 10, "n_heads": 4}, {"n_layers": 0}, {"dropout": 1.0}):
        with pytest.raises(InputError):
            CompositionAttention(**wrong)
    crowd = torch.full((1, 86), 1 / 86)
    with pytest.raises(InputError, match=f"1 to {SLOTS[-1]} elements"):
        network(crowd)
