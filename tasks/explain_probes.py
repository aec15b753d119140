"""Properties read off the layers of a network by linear probes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from torch import nn

from models.activations import layer_activations
from models.probe import ProbeResult, held_out_systems, obstacle, probe
from tasks.explain_layers import Networks
from tasks.explain_parameters import ExplainParameters
from tasks.explain_rows import Labels, Rows
from tasks.progress import Progress

INPUT = "input"
"""What is probed for comparison: the element fractions themselves."""


def probe_results(
    networks: Networks, rows: Rows, labels: dict[str, Labels], parameters: ExplainParameters
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table `probe_roc`, and the numbers.

    Returns
    -------
    DataFrame
    dict
        ``probes``: area under each curve, with what it rests on. ``not_probed``: properties that the rows do not let
        be probed, each with the reason.
    """
    tested = held_out_systems(rows.parsed.chemsys, parameters.test_share, parameters.seed)
    reasons = {name: obstacle(one.labels[one.applies], tested[one.applies]) for name, one in labels.items()}
    possible = {name: one for name, one in labels.items() if reasons[name] is None}
    places: list[tuple[str, str]] = [("trained", INPUT)]
    places += [(name, layer) for name in networks.by_name for layer in networks.probed]
    progress = Progress("probe layers", len(places), "layers")
    curves, numbers = [], []
    for done, (name, layer) in enumerate(places, start=1):
        activations = _activations(networks.by_name[name], rows, layer) if possible else np.zeros((0, 0))
        for text, one in possible.items():
            keep = one.applies
            found = probe(activations[keep], one.labels[keep], tested[keep], parameters.penalty)
            where = {"probe": text, "layer": layer, "network": name}
            curves.append(_curve(found, where))
            numbers.append(where | {"meaning": one.meaning} | _numbers(found))
        progress.update(done)
    table = pd.concat(curves, ignore_index=True) if curves else _curve(None, {})
    refused = [
        {"probe": name, "meaning": labels[name].meaning, "reason": reason} for name, reason in reasons.items() if reason
    ]
    order = {name: place for place, name in enumerate(labels)}
    return table, {"probes": sorted(numbers, key=lambda entry: order[entry["probe"]]), "not_probed": refused}


def _activations(network: nn.Module, rows: Rows, layer: str) -> NDArray[np.float32]:
    return rows.fractions if layer == INPUT else layer_activations(network, rows.fractions, layer)


def _curve(found: ProbeResult | None, where: dict[str, str]) -> pd.DataFrame:
    if found is None:
        names = ("probe", "layer", "network", "threshold", "false_positive_rate", "true_positive_rate")
        return pd.DataFrame({name: pd.Series(dtype=object if i < 3 else float) for i, name in enumerate(names)})
    roc = found.roc
    thresholds = np.where(np.isinf(roc.thresholds), np.nan, roc.thresholds)
    return pd.DataFrame(
        where
        | {
            "threshold": thresholds,
            "false_positive_rate": roc.false_positive_rate,
            "true_positive_rate": roc.true_positive_rate,
        }
    )


def _numbers(found: ProbeResult) -> dict[str, Any]:
    names = ("auc", "auc_error", "n_train", "n_test", "train_positives", "test_positives")
    return {name: getattr(found, name) for name in names}
