"""ElemNet on compositions: the screening kernel's path against torch as one would call it."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.case import Case
from models.elemnet import ElemNet
from models.predictor import Predictor
from models.screening import screen_range
from models.space import CompositionSpace

ROWS = 8192


class _NoPhases:
    """A hull without phases: 0 eV/atom everywhere."""

    def energy_block(self, systems: np.ndarray, fractions: np.ndarray, *, exclude_own: bool = False) -> np.ndarray:
        return np.zeros((len(systems), len(fractions)))

    def is_known(self, fractions: np.ndarray) -> np.ndarray:
        return np.zeros(len(fractions), dtype=bool)


def cases() -> list[Case]:
    torch.manual_seed(0)
    network = ElemNet().eval().requires_grad_(False)
    state = {name: tensor.numpy() for name, tensor in network.state_dict().items()}
    architecture = {"name": "elemnet", "parameters": {"n_features": 86}}
    predictor = Predictor(architecture, {"mean": [0.0], "std": [1.0]}, [state])
    space = CompositionSpace()
    start = space.offsets[2]
    x = space.fractions(space.unrank(np.arange(start, start + ROWS)))

    def ours() -> int:
        predictor.predict(x, position=start)
        return ROWS

    @torch.inference_mode()
    def eager() -> int:
        network(torch.from_numpy(x))
        return ROWS

    def screen() -> int:
        screen_range(start, start + ROWS, space, predictor, _NoPhases(), -100.0)
        return ROWS

    return [
        Case(f"ElemNet fp32, {predictor.engine}", "compositions", "torch eager", ours, eager),
        Case(
            "screening kernel, all stages but the phases", "compositions", "torch eager, network alone", screen, eager
        ),
    ]
