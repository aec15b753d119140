"""What the layers of a network make of elements and compounds: components, similarities, and their groups."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from models.activations import activations_by_layer, layer_activations, n_layers, principal_components
from models.charge_balance import is_neutral
from models.element_similarity import (
    ACTINIDE,
    LANTHANIDE,
    PARTNERS,
    element_groups,
    element_vectors,
    group_agreement,
    neighbours,
    similarity_matrix,
)
from models.elements import ALKALI_METALS, ALKALINE_EARTH_METALS, ELEMENTS
from models.formula import ParsedFormulas, parse_many
from tasks.explain_parameters import ExplainParameters
from tasks.explain_rows import Labels, Rows

#: AB compounds whose activations are compared: of the s block with one anion of each valence (dissertation, Fig. 3.6).
CHALCOGEN, HALOGEN = "S", "Cl"


@dataclass(frozen=True)
class Networks:
    """The trained network, its untrained copy where one is asked for, and its layers.

    Attributes
    ----------
    by_name : dict of str to nn.Module
        ``trained`` and perhaps ``untrained``.
    layers : tuple of str
        Layers that are shown.
    hidden : tuple of str
        All numbered layers but the last.
    """

    by_name: dict[str, nn.Module]
    layers: tuple[str, ...]
    hidden: tuple[str, ...]

    @property
    def trained(self) -> nn.Module:
        """The trained network."""
        return self.by_name["trained"]

    @property
    def probed(self) -> tuple[str, ...]:
        """Layers that are probed: those that are shown, and some from first to last in between."""
        n = len(self.hidden)
        spread = {1, 2, n // 4, n // 2, 3 * n // 4, n}
        wanted = {*self.layers, *(str(number) for number in spread if 1 <= number <= n)}
        return tuple(layer for layer in self.hidden if layer in wanted) + tuple(
            layer for layer in self.layers if layer not in self.hidden
        )


def shown_layers(network: nn.Module, parameters: ExplainParameters) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the layers that are shown and all hidden ones; the dissertation shows the 1st, 2nd and 8th of 17."""
    hidden = tuple(str(number) for number in range(1, n_layers(network)))
    if parameters.layers:
        return parameters.layers, hidden
    usual = dict.fromkeys((1, 2, max(1, len(hidden) // 2)))
    return tuple(str(number) for number in usual if number <= len(hidden)), hidden


def ab_compounds() -> tuple[ParsedFormulas, list[str]]:
    """Return AB compounds of the s block with a chalcogen and a halogen, and the kind of each, such as ``I-VII``."""
    kinds = [
        (f"{metal}{anion}", f"{group}-{valence}")
        for group, metals in (("I", ALKALI_METALS), ("II", ALKALINE_EARTH_METALS))
        for anion, valence in ((CHALCOGEN, "VI"), (HALOGEN, "VII"))
        for metal in metals
    ]
    return parse_many([formula for formula, _ in kinds]), [kind for _, kind in kinds]


def component_rows(
    networks: Networks, rows: Rows, first: Labels | None, parameters: ExplainParameters
) -> tuple[pd.DataFrame, dict[str, dict[str, list[float]]]]:
    """Return the table `layer_components`, and the explained shares by set and layer."""
    compounds, kinds = ab_compounds()
    answers = _answers(first, len(rows.frame))
    sets: dict[str, tuple[list[str], list[str | None]]] = {
        "elements": (list(ELEMENTS), list(element_groups())),
        "compounds": (compounds.reduced, list(kinds)),
        "table": (rows.parsed.reduced, answers),
    }
    frames: list[pd.DataFrame] = []
    explained: dict[str, dict[str, list[float]]] = {name: {} for name in sets}
    elements = element_vectors(networks.trained, networks.layers, _partners(parameters))
    pairs = activations_by_layer(networks.trained, compounds.fractions_as(np.float32), networks.layers)
    for layer in networks.layers:
        activations: dict[str, NDArray[np.floating]] = {
            "elements": elements[layer],
            "compounds": pairs[layer],
            "table": layer_activations(networks.trained, rows.fractions, layer),
        }
        for name, (formulas, labels) in sets.items():
            scores, shares, _ = principal_components(activations[name])
            explained[name][layer] = shares.tolist()
            columns = {"set": name, "layer": layer, "formula": formulas, "label": labels}
            frames.append(pd.DataFrame(columns | {"component_1": scores[:, 0], "component_2": scores[:, 1]}))
    return pd.concat(frames, ignore_index=True), explained


def _answers(first: Labels | None, n: int) -> list[str | None]:
    if first is None:
        return [None] * n
    return [("yes" if has else "no") if known else None for has, known in zip(first.labels, first.applies, strict=True)]


def _partners(parameters: ExplainParameters) -> tuple[str, ...]:
    return PARTNERS if parameters.represent == "compounds" else ()


def similarity_results(networks: Networks, parameters: ExplainParameters) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table `element_similarity` of the shown layers and the mapped one, and the numbers.

    Returns
    -------
    DataFrame
    dict
        ``agreement``: of each hidden layer of each network with the periodic table, f elements left out, and with
        them. ``charge_balance``: see `_balance_contrast`. ``map_layer``, ``neighbours``: the layer whose elements have
        the most nearest neighbours of their own group, the first of equals, and the likes of some elements there.
    """
    agreement: list[dict[str, Any]] = []
    contrast: list[dict[str, Any]] = []
    compounds, kinds = ab_compounds()
    wanted = list(dict.fromkeys((*networks.hidden, *networks.layers)))
    matrices: dict[str, NDArray[np.float64]] = {}
    for name, network in networks.by_name.items():
        elements = element_vectors(network, wanted, _partners(parameters))
        pairs = activations_by_layer(network, compounds.fractions_as(np.float32), wanted)
        for layer in wanted:
            matrix = similarity_matrix(elements[layer], parameters.measure)
            if name == "trained":
                matrices[layer] = matrix
            agreement.append({"layer": layer, "network": name} | _agreement(matrix, parameters))
            value = _balance_contrast(similarity_matrix(pairs[layer], parameters.measure), compounds, kinds)
            contrast.append({"layer": layer, "network": name, "contrast": value})
    candidates = networks.layers if parameters.layers else networks.hidden
    nearest = {entry["layer"]: entry["nearest"] for entry in agreement if entry["network"] == "trained"}
    mapped = max(candidates, key=lambda layer: -1.0 if nearest[layer] is None else nearest[layer])
    table = pd.concat([_matrix_rows(matrices[layer], layer) for layer in dict.fromkeys((*networks.layers, mapped))])
    likes = {element: neighbours(matrices[mapped], element) for element in parameters.elements}
    numbers = {"agreement": agreement, "charge_balance": contrast, "map_layer": mapped, "neighbours": likes}
    return table.reset_index(drop=True), numbers


def _agreement(matrix: NDArray[np.float64], parameters: ExplainParameters) -> dict[str, Any]:
    """Return the agreement with the periodic table in numbers; the 24 f elements would outweigh all other groups."""
    groups = element_groups()
    without = ["" if group in (LANTHANIDE, ACTINIDE) else group for group in groups]
    found = group_agreement(matrix, without, parameters.n_permutations, parameters.seed)
    everything = group_agreement(matrix, groups, 1)
    return {
        "within": found.within,
        "between": found.between,
        "difference": found.difference,
        "p_value": found.p_value,
        "nearest": _number(found.nearest),
        "nearest_by_chance": _number(found.nearest_by_chance),
        "nearest_with_f": _number(everything.nearest),
        "difference_with_f": everything.difference,
    }


def _balance_contrast(similarity: NDArray[np.float64], compounds: ParsedFormulas, kinds: list[str]) -> float | None:
    """Return how much more alike AB compounds of two kinds are when both or neither is charge-balanced.

    Kinds with one group in common (LiCl and MgCl) differ in their balance, kinds with none (LiCl and MgS) agree in it:
    below 0 a layer goes by shared groups of elements, above 0 by charge balance.
    """
    kind = np.array(kinds)
    neutral = is_neutral(compounds.elements, compounds.amounts)
    first, second = np.triu_indices(len(kinds), 1)
    values = similarity[first, second]
    across = (kind[first] != kind[second]) & ~np.isnan(values)
    alike = neutral[first] == neutral[second]
    if not (across & alike).any() or not (across & ~alike).any():
        return None
    return float(values[across & alike].mean() - values[across & ~alike].mean())


def _matrix_rows(matrix: NDArray[np.float64], layer: str) -> pd.DataFrame:
    n = len(ELEMENTS)
    names = np.array(ELEMENTS, dtype=object)
    columns = {"layer": layer, "element": np.repeat(names, n), "other": np.tile(names, n)}
    return pd.DataFrame(columns | {"similarity": matrix.ravel()})


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value
