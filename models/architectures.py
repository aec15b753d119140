"""Architectures for a training: a network's name and what it has to read and put out -> what a model card holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.elemnet import ELEMNET_DROPOUT_AFTER, ELEMNET_DROPOUT_KEEP, ELEMNET_WIDTHS
from models.errors import InputError
from models.multi_property import ELEMNET_TRUNK
from models.registry import NETWORKS


def architecture(name: str, n_features: int, n_outputs: int, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the architecture of a network.

    Parameters
    ----------
    name
        One of `models.registry.NETWORKS`.
    n_features
        Columns that it reads.
    n_outputs
        Numbers that it puts out.
    changes
        Parameters of the network that differ from its defaults. ElemNet also takes ``depth`` (layers, see
        `elemnet_widths`) and ``dropout: "published"``. Whatever number of outputs they state, it is `n_outputs`: those
        of a model card may be for another loss.

    Raises
    ------
    InputError
        If the name is unknown, the inputs are not those of the rows, or ElemNet is given both widths and a depth or is
        too short for the published dropout.
    """
    parameters: dict[str, Any] = {"n_features": n_features} | dict(changes)
    if parameters["n_features"] != n_features:
        raise InputError(f"The rows have {n_features} columns, not {parameters['n_features']}: leave n_features out.")
    if name == "elemnet":
        parameters = _elemnet(parameters, n_outputs)
    elif name in ("attention", "residual"):
        if n_outputs != 1 or "n_outputs" in parameters:
            parameters["n_outputs"] = n_outputs
    elif name == "multi_property":
        parameters = {"trunk": ELEMNET_TRUNK} | parameters | {"n_properties": n_outputs}
    else:
        raise InputError(f"'{name}' is no network that can be trained; choose one of {', '.join(NETWORKS)}")
    return {"name": name, "parameters": parameters}


def n_outputs(described: Mapping[str, Any]) -> int:
    """Return how many numbers a network of an architecture puts out."""
    parameters = described.get("parameters", {})
    if described["name"] == "elemnet":
        return int(tuple(parameters.get("widths", ELEMNET_WIDTHS))[-1])
    return int(parameters.get("n_properties" if described["name"] == "multi_property" else "n_outputs", 1))


def elemnet_widths(depth: int) -> tuple[int, ...]:
    """Return the widths of an ElemNet of another depth, falling from 1,024 to 32 along the published profile.

    Layer k of d hidden ones has the width of the published one that lies at the same place from the first to the last;
    17 layers give the published network.

    Raises
    ------
    InputError
        For fewer than two layers.
    """
    if not isinstance(depth, int) or depth < 2:
        raise InputError(f"ElemNet's depth is a whole number of layers, at least two, not {depth!r}.")
    hidden = ELEMNET_WIDTHS[:-1]
    n = depth - 1
    places = [round(k * (len(hidden) - 1) / (n - 1)) if n > 1 else 0 for k in range(n)]
    return (*(hidden[place] for place in places), 1)


def _elemnet(parameters: dict[str, Any], n_outputs: int) -> dict[str, Any]:
    depth = parameters.pop("depth", None)
    if depth is not None:
        if "widths" in parameters:
            raise InputError("ElemNet takes widths or a depth, not both: leave one out.")
        parameters["widths"] = list(elemnet_widths(depth))
    if parameters.get("dropout") == "published":
        widths = tuple(parameters.get("widths", ELEMNET_WIDTHS))
        last = len(widths) - 1
        places = zip(ELEMNET_DROPOUT_AFTER, ELEMNET_DROPOUT_KEEP, strict=True)
        kept = [(after, keep) for after, keep in places if after <= last]
        if not kept:
            raise InputError(
                f"ElemNet of {len(widths)} layers has no place for the published dropout, which follows layers "
                f"{', '.join(map(str, ELEMNET_DROPOUT_AFTER))}: give the shares and dropout_after."
            )
        parameters["dropout"] = [keep for _, keep in kept]
        parameters["dropout_after"] = [after for after, _ in kept]
    if n_outputs != 1 or "widths" in parameters:
        parameters["widths"] = [*parameters.get("widths", ELEMNET_WIDTHS)[:-1], n_outputs]
    return parameters
