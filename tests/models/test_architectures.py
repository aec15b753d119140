"""Architectures of trainings: every one builds, with the inputs and outputs that were asked for."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.architectures import architecture, elemnet_widths, n_outputs
from models.elemnet import ELEMNET_DROPOUT_AFTER, ELEMNET_DROPOUT_KEEP, ELEMNET_WIDTHS
from models.errors import InputError
from models.multi_property import ELEMNET_TRUNK
from models.registry import NETWORKS, build

SMALL: dict[str, dict[str, Any]] = {
    "elemnet": {"widths": [8, 4, 1]},
    "attention": {"width": 8, "n_layers": 1, "n_heads": 2, "head_width": 8},
    "residual": {"widths": [8, 8]},
    "multi_property": {"trunk": {"name": "elemnet", "parameters": {"widths": [8, 4]}}, "head_widths": [4]},
}


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("outputs", [1, 2, 3])
def test_every_network_builds(name: str, outputs: int) -> None:
    changes = copy.deepcopy(SMALL[name])
    made = architecture(name, 86, outputs, changes)
    assert changes == SMALL[name]
    assert n_outputs(made) == outputs
    x = torch.zeros(2, 86)
    x[:, :2] = 0.5
    assert build(made).eval()(x).shape == (2, outputs)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_outputs_are_the_trainings(name: str) -> None:
    """The architecture of a card, trained again with another loss."""
    robust = architecture(name, 86, 2, SMALL[name])
    again = architecture(name, 86, 1, robust["parameters"])
    assert n_outputs(again) == 1
    assert build(again)(torch.eye(2, 86)).shape == (2, 1)


def test_defaults_are_left_to_the_network() -> None:
    for name in ("elemnet", "attention", "residual"):
        assert architecture(name, 86, 1, {}) == {"name": name, "parameters": {"n_features": 86}}
    assert n_outputs(architecture("elemnet", 86, 1, {})) == 1
    assert n_outputs({"name": "residual"}) == 1
    assert architecture("elemnet", 86, 2, {})["parameters"]["widths"] == [*ELEMNET_WIDTHS[:-1], 2]
    assert architecture("multi_property", 145, 3, {})["parameters"] == {
        "trunk": ELEMNET_TRUNK,
        "n_features": 145,
        "n_properties": 3,
    }


def test_depths_of_elemnet() -> None:
    assert elemnet_widths(17) == ELEMNET_WIDTHS
    assert elemnet_widths(2) == (1024, 1)
    assert elemnet_widths(3) == (1024, 32, 1)
    # places 0, 5, 10, 15 of 1024 1024 1024 1024 512 512 512 256 256 256 128 128 128 64 64 32
    assert elemnet_widths(5) == (1024, 512, 128, 32, 1)
    made = architecture("elemnet", 86, 1, {"depth": 5})
    assert made["parameters"] == {"n_features": 86, "widths": [1024, 512, 128, 32, 1]}


@given(st.integers(3, 60))
def test_widths_fall_along_the_published_profile(depth: int) -> None:
    widths = elemnet_widths(depth)
    assert len(widths) == depth
    assert (widths[0], widths[-2:]) == (1024, (32, 1))
    assert list(widths) == sorted(widths, reverse=True)
    assert set(widths) <= set(ELEMNET_WIDTHS)


def test_published_dropout() -> None:
    parameters = architecture("elemnet", 86, 1, {"dropout": "published"})["parameters"]
    assert parameters["dropout"] == list(ELEMNET_DROPOUT_KEEP)
    assert parameters["dropout_after"] == list(ELEMNET_DROPOUT_AFTER)
    shorter = architecture("elemnet", 86, 1, {"dropout": "published", "depth": 9})
    assert shorter["parameters"]["dropout"] == [0.8, 0.9]
    assert shorter["parameters"]["dropout_after"] == [4, 7]
    build(shorter)
    own = {"widths": [8, 4, 1], "dropout": [0.5], "dropout_after": [1]}
    assert architecture("elemnet", 86, 1, own)["parameters"] == {"n_features": 86, **own}


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("cgcnn", {}, "no network that can be trained; choose one of elemnet"),
        ("elemnet", {"widths": [8, 1], "depth": 3}, "not both"),
        ("elemnet", {"depth": 1}, "at least two, not 1"),
        ("elemnet", {"depth": "deep"}, "whole number of layers"),
        ("elemnet", {"depth": 4, "dropout": "published"}, "4 layers has no place for the published dropout"),
        ("attention", {"n_features": 145}, "86 columns, not 145"),
    ],
)
def test_what_cannot_be_is_refused(name: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        architecture(name, 86, 1, changes)
