"""The headline numbers of a campaign, each computed from the tables the page shows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from models.electrodes import METAL_NAMES
from tasks.reporting.data import ReportData, by_arity, has_rows
from tasks.reporting.wording import FLAG_LABELS, count, decimal, formula_text, percent, plural, round_count, threshold

HEADLINE_SPLITS = ("validation", "test", "calibration")


@dataclass(frozen=True)
class ScreenNumbers:
    """Counts of a screen; every flag is counted after the flags before it, so that the steps add up.

    Attributes
    ----------
    n_compositions, n_systems : int or None
        Size of the screened space.
    threshold : float or None
        Decomposition energy at or below which a composition is kept (eV/atom).
    n_below, n_remaining : int
        Kept by the screen; left without any flag.
    removed : dict of str to int
        Rows taken out by each flag, in order.
    n_remaining_systems : int or None
        Chemical systems among what remains.
    expected_stable : float or None
        Sum of the calibrated probabilities of what remains.
    screened_by_arity, systems_by_arity, below_by_arity, remaining_by_arity : dict of int to int
        Counts per number of elements.
    """

    n_compositions: int | None
    n_systems: int | None
    threshold: float | None
    n_below: int
    n_remaining: int
    removed: dict[str, int]
    n_remaining_systems: int | None
    expected_stable: float | None
    screened_by_arity: dict[int, int]
    systems_by_arity: dict[int, int]
    below_by_arity: dict[int, int]
    remaining_by_arity: dict[int, int]

    @property
    def limit(self) -> str:
        """The threshold in words."""
        return "the threshold" if self.threshold is None else f"{threshold(self.threshold)} eV/atom"


def flag_category(candidates: pd.DataFrame) -> np.ndarray:
    """Which flag takes a candidate out: the first that applies, counted from 1; 0 for none.

    Parameters
    ----------
    candidates : DataFrame, n rows
        With the columns ``known``, ``hull_incomplete``, ``out_of_domain``.

    Returns
    -------
    ndarray of int8, shape (n,)
    """
    category = np.zeros(len(candidates), np.int8)
    for number, flag in reversed(list(enumerate(FLAG_LABELS, start=1))):
        category[candidates[flag].eq(True).fillna(False).to_numpy(bool)] = number
    return category


def screen_numbers(data: ReportData) -> ScreenNumbers | None:
    """Take the counts of the screen from its table, or from the summary where there is none; None if not run."""
    given = data.screen_summary
    if data.candidates is None and not given:
        return None
    systems, screened = by_arity(given.get("n_systems")), by_arity(given.get("n_compositions_by_arity"))
    size = given.get("n_compositions")
    common: dict[str, Any] = {
        "n_compositions": int(size) if size is not None else (sum(screened.values()) or None),
        "n_systems": sum(systems.values()) or None,
        "threshold": given.get("threshold"),
        "screened_by_arity": screened,
        "systems_by_arity": systems,
    }
    table = data.candidates
    if table is None or table.empty:
        below = by_arity(given.get("n_below")) if table is None else {}
        return ScreenNumbers(
            **common,
            n_below=sum(below.values()),
            n_remaining=int(given.get("n_remaining", 0)) if table is None else 0,
            removed={flag: int(given.get(f"n_{flag}", 0)) if table is None else 0 for flag in FLAG_LABELS},
            n_remaining_systems=None,
            expected_stable=None,
            below_by_arity=below,
            remaining_by_arity={},
        )
    category = flag_category(table)
    remaining = table[category == 0]
    probability = remaining["probability_stable"].dropna() if "probability_stable" in table else pd.Series(dtype=float)
    return ScreenNumbers(
        **common,
        n_below=len(table),
        n_remaining=len(remaining),
        removed={flag: int((category == i).sum()) for i, flag in enumerate(FLAG_LABELS, start=1)},
        n_remaining_systems=int(remaining["chemsys"].nunique()),
        expected_stable=float(probability.sum()) if len(probability) == len(remaining) > 0 else None,
        below_by_arity=by_arity(table["arity"].value_counts().to_dict()),
        remaining_by_arity=by_arity(remaining["arity"].value_counts().to_dict()),
    )


def waterfall_steps(numbers: ScreenNumbers) -> list[tuple[str, int, str]]:
    """Label, count and category of each step from the threshold to what remains."""
    words = {
        "known": "already known",
        "hull_incomplete": "hull incomplete",
        "out_of_domain": "out of domain",
    }
    first = f"decomposition energy ≤ {numbers.limit}"
    steps = [(first, numbers.n_below, "total")]
    steps += [(words[flag], numbers.removed[flag], flag) for flag in FLAG_LABELS]
    return [*steps, ("remaining", numbers.n_remaining, "none")]


def headline_rows(data: ReportData) -> tuple[str, pd.DataFrame] | None:
    """Choose the split whose errors the page quotes, and its rows; training rows only if there are no others."""
    if not has_rows(data.predictions):
        return None
    assert data.predictions is not None
    usable = data.predictions.dropna(subset=["formation_energy_per_atom", "prediction"])
    present = [str(split) for split in usable["split"].dropna().unique()]
    for split in (*HEADLINE_SPLITS, *sorted(set(present) - {"train"}), "train"):
        if split in present:
            return split, usable[usable["split"] == split]
    return None


def headline_mae(data: ReportData) -> tuple[str, float, int | None] | None:
    """Split, MAE (eV/atom) and rows of the network on rows that it was not trained on."""
    chosen = headline_rows(data)
    if chosen is not None:
        split, rows = chosen
        error = (rows["prediction"] - rows["formation_energy_per_atom"]).abs()
        return split, float(error.mean()), len(rows)
    for split in HEADLINE_SPLITS:
        if "mae" in data.metrics.get(split, {}):
            size = data.metrics[split].get("n")
            return split, float(data.metrics[split]["mae"]), int(size) if size is not None else None
    return None


def model_name(card: Mapping[str, Any]) -> str:
    """Say what the page calls the formation-energy network."""
    architecture = card.get("architecture")
    if isinstance(architecture, Mapping):
        architecture = architecture.get("name")
    return str(card.get("name") or architecture or "the network")


def sentences(data: ReportData) -> list[str]:
    """Write the summary in plain words, one paragraph per stage that was run."""
    return [text for text in (_screening(data), _training(data), _electrolytes(data)) if text]


def _training(data: ReportData) -> str:
    error = headline_mae(data)
    if error is None:
        return ""
    split, mae, size = error
    rows = f" of {count(size)} {split} rows" if size is not None else f" of the {split} rows"
    return (
        f"Asked for the formation energies{rows}, none of which it was trained on, "
        f"{model_name(data.model_card)} is off by {decimal(mae)} eV/atom on average."
        if split != "train"
        else f"On its own {count(size)} training rows {model_name(data.model_card)} is off by {decimal(mae)} eV/atom."
    )


def _screening(data: ReportData) -> str:
    numbers = screen_numbers(data)
    if numbers is None:
        return ""
    where = f" in {plural(numbers.n_systems, 'chemical system')}" if numbers.n_systems else ""
    text = f"{count(numbers.n_compositions)} compositions{where} were screened. " if numbers.n_compositions else ""
    text += (
        f"{count(numbers.n_below)} of them {'lies' if numbers.n_below == 1 else 'lie'} at or below "
        f"{numbers.limit} against the convex hull of all other known compositions"
    )
    if not numbers.n_below:
        return text + "."
    taken = [
        (numbers.removed["known"], "already known"),
        (numbers.removed["hull_incomplete"], "in systems with known compounds of unknown energy"),
        (numbers.removed["out_of_domain"], "with an element the network has hardly seen"),
    ]
    reasons = _enumerate([f"{count(number)} {why}" for number, why in taken if number])
    text += f". After taking out {reasons}, {count(numbers.n_remaining)} remain" if reasons else ", none with a flag"
    if numbers.n_remaining and numbers.n_remaining_systems:
        text += f", in {plural(numbers.n_remaining_systems, 'chemical system')}"
    text += "."
    if numbers.expected_stable is not None:
        text += (
            f" Their calibrated probabilities add up to about {round_count(numbers.expected_stable)} stable "
            "compositions, an upper estimate: the calibration does not know that these are the extremes of so many."
        )
    return text


def _enumerate(parts: list[str]) -> str:
    """Parts joined with commas and a last "and"."""
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


def _electrolytes(data: ReportData) -> str:
    if not has_rows(data.ranking):
        return ""
    assert data.ranking is not None
    table = data.ranking.sort_values("rank", kind="stable")
    below = int((table["chi"] < 0).sum())
    best = table.iloc[0]
    metal = METAL_NAMES[data.metal]
    noun = f"{metal} compound was" if len(table) == 1 else f"{metal} compounds were"
    outcome = "none is" if not below else f"{count(below)} {'is' if below == 1 else 'are'}"
    return (
        f"{count(len(table))} {noun} ranked as solid electrolytes against dendrites; {outcome} predicted to "
        f"keep a flat interface with {metal} (χ < 0). First is {formula_text(best['formula'])} with "
        f"χ = {decimal(best['chi'], 2)} kJ mol⁻¹ nm⁻¹ and a probability of {percent(best['probability_stable'])} "
        "that χ is negative."
    )


def tiles(data: ReportData) -> list[tuple[str, str]]:
    """Large number and what it counts, for the top of the page."""
    found: list[tuple[str, str]] = []
    numbers = screen_numbers(data)
    if numbers is not None:
        if numbers.n_compositions is not None:
            found.append((count(numbers.n_compositions), "compositions screened"))
        found.append((count(numbers.n_below), f"at or below {numbers.limit}"))
        found.append((count(numbers.n_remaining), "remain without any flag"))
    error = headline_mae(data)
    if error is not None:
        found.append((decimal(error[1]), f"eV/atom: MAE on {error[0]} rows"))
    if has_rows(data.ranking):
        assert data.ranking is not None
        found.append((count(len(data.ranking)), f"{METAL_NAMES[data.metal]} compounds ranked"))
        found.append((count((data.ranking["chi"] < 0).sum()), "of them with χ < 0"))
    return found
