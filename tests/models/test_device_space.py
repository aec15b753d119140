"""The composition space on a device: the rows that the host makes, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.device_space import DeviceSpace, NumberedRows
from models.elements import ELEMENTS
from models.screening import composition_fractions
from models.space import CompositionSpace

SPACES = (
    CompositionSpace(),
    CompositionSpace(("Li", "O", "Fe", "F"), (2, 3), 6),
    CompositionSpace(ELEMENTS[:30], (3, 4, 5), 12, required=("O", "Li")),
    CompositionSpace(("Li", "O"), (2,), 10, required=("O", "Li")),
    CompositionSpace(("Na", "Cl", "S"), (1, 3), 24),
)


def on_host(space: CompositionSpace, index: np.ndarray) -> np.ndarray:
    compositions = space.unrank(index)
    return composition_fractions(compositions.elements, compositions.counts).astype(np.float32)


@settings(max_examples=80)
@given(st.sampled_from(SPACES), st.data())
def test_picked_rows_are_those_of_the_host(space: CompositionSpace, data: st.DataObject) -> None:
    index = np.unique(data.draw(st.lists(st.integers(0, len(space) - 1), max_size=60))).astype(np.int64)
    found = DeviceSpace(space, "cpu").fractions(index)
    assert found.dtype == torch.float32
    assert found.numpy().tobytes() == on_host(space, index).tobytes()


@pytest.mark.parametrize("space", SPACES)
def test_ranges_are_those_of_the_host_across_arities(space: CompositionSpace) -> None:
    device = DeviceSpace(space, "cpu")
    for edge in (0, *space.offsets[1:-1], len(space)):
        index = np.arange(max(0, edge - 300), min(len(space), edge + 300))
        np.testing.assert_array_equal(device.fractions(index).numpy(), on_host(space, index))


def test_rows_can_be_picked_from_rows() -> None:
    space = SPACES[1]
    rows = NumberedRows(DeviceSpace(space, "cpu"), np.arange(10, 60))
    some = rows[np.array([0, 7, 49])]
    assert (len(rows), len(some)) == (50, 3)
    np.testing.assert_array_equal(some.fractions().numpy(), on_host(space, np.array([10, 17, 59])))
    assert rows[np.array([], dtype=np.int64)].fractions().shape == (0, 86)
