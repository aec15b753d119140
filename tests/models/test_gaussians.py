"""Gaussians: values, and no number that processors are slow at."""

from __future__ import annotations

import math

import numpy as np
import torch

from models.cgcnn import CGCNN
from models.composition_attention import spread_shares
from models.gaussians import NOTHING, gaussians


def test_values_and_where_they_end() -> None:
    exponents = torch.tensor([0.0, -0.5, -64.0, -65.0, -100.0, -math.inf], dtype=torch.float32)
    expected = [1.0, math.exp(-0.5), math.exp(-64.0), 0.0, 0.0, 0.0]
    assert math.exp(-65.0) < NOTHING < math.exp(-64.0)
    np.testing.assert_allclose(gaussians(exponents).numpy(), expected, rtol=1e-6)


def test_what_networks_read_has_no_denormal_numbers() -> None:
    """Multiplied with one of them a processor is many times slower; exp gives such numbers, which this test needs."""
    tiny = torch.finfo(torch.float32).tiny
    distances = torch.linspace(0.5, 8.0, 2_000)
    plain = torch.exp(-(((distances[:, None] - CGCNN().centres) / 0.2) ** 2))
    assert bool(((plain > 0) & (plain < tiny)).any())
    for values in (CGCNN().expand(distances), spread_shares(torch.linspace(0.0, 1.0, 2_001)[:, None])):
        assert not bool(((values.abs() > 0) & (values.abs() < tiny)).any())
