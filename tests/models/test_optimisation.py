"""Optimisers: what decays and what is frozen, first steps by hand; schedules at known steps."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.errors import InputError
from models.optimisation import learning_rate_at, make_optimiser, set_rate
from models.training_parameters import OPTIMISERS, SCHEDULES, TrainingParameters


class Toy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.element_embedding = nn.Embedding(3, 2)
        self.first = nn.Linear(2, 2)
        self.last = nn.Linear(2, 1)
        for parameter in self.parameters():
            nn.init.constant_(parameter, 2.0)


def settings(**changes: Any) -> TrainingParameters:
    return TrainingParameters(**({"learning_rate": 0.1, "weight_decay": 0.5} | changes))


def groups_of(network: nn.Module, optimiser: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """Factor and weight decay of every parameter that is trained."""
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    return {
        names[id(parameter)]: (group["rate_factor"], group["weight_decay"])
        for group in optimiser.param_groups
        for parameter in group["params"]
    }


@pytest.mark.parametrize("name", OPTIMISERS)
def test_only_matrices_decay(name: str) -> None:
    network = Toy()
    optimiser = make_optimiser(network, settings(optimiser=name))
    assert type(optimiser).__name__.lower() == name
    assert groups_of(network, optimiser) == {
        "element_embedding.weight": (1.0, 0.0),  # looked up, not multiplied
        "first.weight": (1.0, 0.5),
        "first.bias": (1.0, 0.0),
        "last.weight": (1.0, 0.5),
        "last.bias": (1.0, 0.0),
    }


def test_settings_reach_the_optimiser() -> None:
    sgd = make_optimiser(Toy(), settings(optimiser="sgd", momentum=0.8))
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.8, True)
    assert not make_optimiser(Toy(), settings(optimiser="sgd", momentum=0.0)).defaults["nesterov"]
    assert make_optimiser(Toy(), settings(beta2=0.95)).defaults["betas"] == (0.9, 0.95)


@pytest.mark.parametrize(
    ("optimiser", "matrix", "vector"),
    [
        # gradient 4 everywhere, rate 0.1, decay 0.5 of weights at 2
        ("sgd", 2.0 - 0.1 * (4.0 + 0.5 * 2.0), 2.0 - 0.1 * 4.0),
        ("adam", 2.0 - 0.1, 2.0 - 0.1),  # the first step of Adam has the length of the rate
        ("adamw", 2.0 * (1.0 - 0.1 * 0.5) - 0.1, 2.0 - 0.1),  # decay beside it
    ],
)
def test_a_step_by_hand(optimiser: str, matrix: float, vector: float) -> None:
    network = Toy()
    made = make_optimiser(network, settings(optimiser=optimiser, momentum=0.0))
    for parameter in network.parameters():
        parameter.grad = torch.full_like(parameter, 4.0)
    made.step()
    assert network.first.weight.flatten().tolist() == pytest.approx([matrix] * 4, rel=1e-6)
    assert network.first.bias.tolist() == pytest.approx([vector] * 2, rel=1e-6)
    assert network.element_embedding.weight.flatten().tolist() == pytest.approx([vector] * 6, rel=1e-6)


def test_layers_are_frozen_and_slowed() -> None:
    network = Toy()
    factors = {"element_embedding.weight": 0.0, "first.weight": 0.25, "first.bias": 0.25}
    optimiser = make_optimiser(network, settings(optimiser="sgd", momentum=0.0, weight_decay=0.0), factors)
    assert groups_of(network, optimiser) == {
        "first.weight": (0.25, 0.0),
        "first.bias": (0.25, 0.0),
        "last.weight": (1.0, 0.0),
        "last.bias": (1.0, 0.0),
    }
    assert [name for name, p in network.named_parameters() if not p.requires_grad] == ["element_embedding.weight"]
    set_rate(optimiser, 0.2)
    assert sorted({group["lr"] for group in optimiser.param_groups}) == pytest.approx([0.05, 0.2])
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimiser.step()
    assert network.element_embedding.weight.flatten().tolist() == [2.0] * 6
    assert network.first.bias.tolist() == pytest.approx([1.95] * 2)
    assert network.last.bias.tolist() == pytest.approx([1.8])


def test_impossible_factors_are_refused() -> None:
    with pytest.raises(InputError, match=r"'second\.weight' is no parameter .* element_embedding\.weight"):
        make_optimiser(Toy(), settings(), {"second.weight": 0.5})
    network = Toy()
    with pytest.raises(InputError, match="Every layer is frozen"):
        make_optimiser(network, settings(), dict.fromkeys(dict(network.named_parameters()), 0.0))


@pytest.mark.parametrize(
    ("schedule", "rates"),
    [
        # of 100 steps, 20 of them warm-up: at 20, 40, 60, 80
        ("one_cycle", [1.0, 0.5 + 0.5 * 2**-0.5, 0.5, 0.5 - 0.5 * 2**-0.5]),
        ("linear", [1.0, 0.75, 0.5, 0.25]),
        ("step", [1.0, 1.0, 0.1, 0.01]),
        ("constant", [1.0, 1.0, 1.0, 1.0]),
    ],
)
def test_schedules_at_known_steps(schedule: str, rates: list[float]) -> None:
    parameters = settings(schedule=schedule, warmup=0.2, learning_rate=3.0)
    found = [learning_rate_at(step, 100, parameters) / 3.0 for step in (20, 40, 60, 80)]
    assert found == pytest.approx(rates)
    # 1/25 of the peak, then half way up the cosine
    assert learning_rate_at(0, 100, parameters) / 3.0 == pytest.approx(0.04)
    assert learning_rate_at(10, 100, parameters) / 3.0 == pytest.approx(0.52)


def test_where_the_steps_of_a_schedule_lie() -> None:
    parameters = settings(schedule="step", warmup=0.0, learning_rate=1.0)
    rates = [learning_rate_at(step, 8, parameters) for step in range(8)]
    assert rates == [1.0] * 4 + [0.1] * 2 + [0.01] * 2


@given(st.sampled_from(SCHEDULES), st.integers(1, 60), st.floats(0, 0.99))
def test_rates_rise_to_the_peak_and_never_rise_again(schedule: str, n_steps: int, warmup: float) -> None:
    parameters = settings(schedule=schedule, warmup=warmup, learning_rate=2.0)
    rates = [learning_rate_at(step, n_steps, parameters) for step in range(n_steps)]
    assert all(0.0 <= rate <= 2.0 for rate in rates)
    turn = sum(step < warmup * n_steps for step in range(n_steps))
    assert rates[:turn] == sorted(rates[:turn])
    assert rates[turn:] == sorted(rates[turn:], reverse=True)
    flat = settings(schedule="constant", warmup=warmup, learning_rate=2.0)
    assert rates[:turn] == [learning_rate_at(step, n_steps, flat) for step in range(turn)]  # all warm up alike
