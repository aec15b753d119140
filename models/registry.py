"""Networks by name: an architecture (name and parameters, as a model card holds it) -> a `torch.nn.Module`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from models.errors import InputError

if TYPE_CHECKING:  # names alone are asked for where nothing is trained, and torch takes seconds to import
    from torch import nn

ARCHITECTURES: dict[str, str] = {
    "elemnet": "models.elemnet:ElemNet",
    "attention": "models.composition_attention:CompositionAttention",
    "cgcnn": "models.cgcnn:CGCNN",
    "multi_property": "models.multi_property:MultiPropertyNet",
    "residual": "models.residual:ResidualNet",
}
"""Name -> `module:class`, imported on use."""

NETWORKS: tuple[str, ...] = ("elemnet", "attention", "residual", "multi_property")
"""Networks that read one row of numbers per compound, as the trainer takes them."""

BASELINE_NAMES: tuple[str, ...] = (
    "linear", "ridge", "random_forest", "gradient_boosting", "svr", "logistic",
)  # fmt: skip
"""Names of `models.baselines.BASELINES`, which takes seconds to import."""


def build(architecture: Mapping[str, Any]) -> nn.Module:
    """Build the network that an architecture describes, freshly initialised from torch's generator.

    Parameters
    ----------
    architecture
        ``{"name": "elemnet", "parameters": {...}}``, the parameters being keyword arguments of the network.

    Raises
    ------
    InputError
        If the name is unknown, or a parameter is not one of the network's.
    """
    from torch import nn

    name = architecture.get("name")
    if name not in ARCHITECTURES:
        raise InputError(f"Unknown network {name!r}: choose one of {', '.join(sorted(ARCHITECTURES))}.")
    module_name, class_name = ARCHITECTURES[name].split(":")
    builder = getattr(importlib.import_module(module_name), class_name)
    parameters = architecture.get("parameters", {})
    try:
        network = builder(**parameters)
    except TypeError as error:
        raise InputError(f"Network {name!r} cannot be built with parameters {dict(parameters)}: {error}.") from error
    if not isinstance(network, nn.Module):
        raise TypeError(f"{ARCHITECTURES[name]} is no torch.nn.Module")
    return network
