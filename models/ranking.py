"""Ranked solid electrolytes: moduli and volume ratio -> chi with its uncertainty, best first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from models.candidate_filters import FilterOutcome, FilterParameters, apply_filters, chain, numbers, split
from models.elasticity import instability_reason, poisson_ratio, pugh_ratio
from models.electrodeposition import LITHIUM, StabilityConstants, invalid_reasons, moduli_reasons, stability_parameter
from models.errors import InputError
from models.formula import parse_many
from models.pareto import pareto_front
from models.stability_sampling import SamplingParameters, chi_distribution
from models.volume_ratio import VolumeRatios

FloatArray = NDArray[np.float64]

MODULI_COLUMNS = (
    "bulk_modulus_vrh",
    "shear_modulus_vrh",
    "log10_bulk_modulus_std",
    "log10_shear_modulus_std",
    "moduli_source",
)

WINDOW_COLUMNS = ("reduction_potential", "oxidation_potential", "reaction_energy")

RANKING_COLUMNS = (
    "rank",
    "material_id",
    "formula",
    "chemsys",
    "hypothetical",
    "energy_above_hull",
    "band_gap",
    *MODULI_COLUMNS,
    *WINDOW_COLUMNS,
    "volume_ratio",
    "poisson_ratio",
    "chi",
    "chi_q05",
    "chi_q95",
    "lambda_crit_nm",
    "probability_stable",
    "pugh_ratio",
    "superionic_likelihood",
    "pareto",
)
"""Columns of the ranking, in order; units as in the `ranking` table."""

HYPOTHETICAL_SOURCE = "substitution"
"""The column `source` of structures that were made by substitution."""

SORT_KEYS = {
    "chi": (["chi", "probability_stable", "material_id"], [True, False, True]),
    "probability_stable": (["probability_stable", "chi", "material_id"], [False, True, True]),
}


@dataclass(frozen=True)
class RankingParameters:
    """How candidates are ranked.

    Attributes
    ----------
    filters : FilterParameters
        What a candidate has to be.
    constants : StabilityConstants
        The electrode; its metal must be the one that the filters ask for.
    sampling : SamplingParameters
        How errors of the moduli are carried into chi.
    bad_stated : str
        ``exclude`` rejects a crystal whose stated moduli or tensor are bad (a source says it is mechanically unstable);
        ``predict`` ranks it by the network's moduli.
    stated_log10_std : tuple of float
        Standard deviations of log10 K and log10 G that stated moduli are given; 0 takes them as exact, so that their
        P(chi < 0) is 0 or 1.
    sort_by : str
        ``chi`` (ascending) or ``probability_stable`` (descending, then chi).
    """

    filters: FilterParameters = field(default_factory=FilterParameters)
    constants: StabilityConstants = LITHIUM
    sampling: SamplingParameters = field(default_factory=SamplingParameters)
    bad_stated: str = "exclude"
    stated_log10_std: tuple[float, float] = (0.0, 0.0)
    sort_by: str = "chi"

    def __post_init__(self) -> None:
        """Refuse settings that contradict each other."""
        if self.constants.metal != self.filters.metal:
            raise InputError(
                f"electrode is {self.constants.metal} but candidates must contain {self.filters.metal}; use one metal"
            )
        if self.bad_stated not in ("exclude", "predict"):
            raise InputError(f"bad_stated is {self.bad_stated!r}; choose exclude or predict")
        if self.sort_by not in SORT_KEYS:
            raise InputError(f"sort_by is {self.sort_by!r}; choose one of {', '.join(SORT_KEYS)}")
        if min(self.stated_log10_std) < 0:
            raise InputError("stated_log10_std holds a negative number; give zero or more")


@dataclass(frozen=True)
class Ranking:
    """Ranked candidates and all that were left out.

    Attributes
    ----------
    ranked : DataFrame
        `RANKING_COLUMNS`.
    excluded : DataFrame
        material_id, formula, stage, reason.
    counts : dict of str to int
        ``candidates``, ``ranked`` and ``excluded_<stage>``; the last two add up to the first.
    """

    ranked: pd.DataFrame
    excluded: pd.DataFrame
    counts: dict[str, int]


def choose_moduli(
    frame: pd.DataFrame,
    stated: pd.DataFrame | None = None,
    predicted: pd.DataFrame | None = None,
    *,
    bad_stated: str = "exclude",
) -> FilterOutcome:
    """Give every candidate its moduli: the stated ones if there are any, else the predicted ones.

    Parameters
    ----------
    frame : DataFrame
        material_id, formula.
    stated : DataFrame, optional
        material_id, bulk_modulus_vrh, shear_modulus_vrh [GPa], and perhaps elastic_tensor [GPa]; the first row of an
        identifier counts, a row with neither modulus counts as none. None takes the candidates' own columns.
    predicted : DataFrame, optional
        material_id, bulk_modulus_vrh, shear_modulus_vrh [GPa], log10_bulk_modulus_std, log10_shear_modulus_std.
    bad_stated : str
        ``exclude`` or ``predict``, see `RankingParameters`.

    Returns
    -------
    FilterOutcome
        Kept rows with `MODULI_COLUMNS`; stage ``moduli``.
    """
    own = stated if stated is not None else frame
    stated_rows, predicted_rows = _stated_lookup(own), _lookup(predicted)
    values: list[dict[str, Any]] = []
    reasons: list[str | None] = []
    for identifier in frame["material_id"]:
        row, reason = _choose(stated_rows.get(identifier), predicted_rows.get(identifier), bad_stated)
        values.append(row)
        reasons.append(reason)
    chosen = pd.DataFrame(values, columns=list(MODULI_COLUMNS), index=frame.index)
    plain = frame.drop(columns=[c for c in (*MODULI_COLUMNS, "elastic_tensor") if c in frame])
    return split(pd.concat([plain, chosen], axis=1), "moduli", reasons)


def with_volume_ratio(frame: pd.DataFrame, ratios: VolumeRatios) -> FilterOutcome:
    """Give every candidate its volume ratio: a stated one if there is any, else the computed one.

    Parameters
    ----------
    frame : DataFrame
        n rows; a column volume_ratio may state some.
    ratios : VolumeRatios
        Of n rows.

    Returns
    -------
    FilterOutcome
        Kept rows with volume_ratio; stage ``volume_ratio``.
    """
    if len(ratios.values) != len(frame):
        raise InputError(f"{len(ratios.values)} volume ratios for {len(frame)} candidates; give one per row")
    own = numbers(frame, "volume_ratio")
    stated = np.isfinite(own)
    reasons = [None if has else reason for has, reason in zip(stated, ratios.reasons, strict=True)]
    return split(frame.assign(volume_ratio=np.where(stated, own, ratios.values)), "volume_ratio", reasons)


def rank_table(frame: pd.DataFrame, parameters: RankingParameters | None = None) -> FilterOutcome:
    """Compute chi and what belongs to it, and sort.

    Parameters
    ----------
    frame : DataFrame
        material_id, formula, `MODULI_COLUMNS`, volume_ratio; energy_above_hull, band_gap and `WINDOW_COLUMNS` where
        known.
    parameters : RankingParameters, optional
        Electrode, sampling, order.

    Returns
    -------
    FilterOutcome
        ``kept`` is the ranking with `RANKING_COLUMNS`; stage ``stability`` for rows without a chi.
    """
    p = parameters or RankingParameters()
    inputs = [numbers(frame, name) for name in ("bulk_modulus_vrh", "shear_modulus_vrh", "volume_ratio")]
    outcome = split(frame, "stability", invalid_reasons(*inputs))
    kept = outcome.kept
    bulk, shear, ratio = (numbers(kept, name) for name in ("bulk_modulus_vrh", "shear_modulus_vrh", "volume_ratio"))
    stds = [numbers(kept, name) for name in ("log10_bulk_modulus_std", "log10_shear_modulus_std")]
    is_stated = (kept["moduli_source"] == "stated").to_numpy(dtype=bool)
    used = [np.where(is_stated & np.isnan(s), given, s) for s, given in zip(stds, p.stated_log10_std, strict=True)]
    nominal = stability_parameter(bulk, shear, ratio, p.constants)
    spread = chi_distribution(bulk, shear, ratio, *used, constants=p.constants, parameters=p.sampling)
    table = pd.DataFrame(
        {
            "material_id": kept["material_id"].astype(str),
            "formula": kept["formula"].astype(str),
            "chemsys": parse_many([str(f) for f in kept["formula"]]).chemsys,
            "hypothetical": kept["source"].eq(HYPOTHETICAL_SOURCE) if "source" in kept else False,
            "energy_above_hull": numbers(kept, "energy_above_hull"),
            "band_gap": numbers(kept, "band_gap"),
            "bulk_modulus_vrh": bulk,
            "shear_modulus_vrh": shear,
            "log10_bulk_modulus_std": stds[0],
            "log10_shear_modulus_std": stds[1],
            "moduli_source": kept["moduli_source"],
            **{name: numbers(kept, name) for name in WINDOW_COLUMNS},
            "volume_ratio": ratio,
            "poisson_ratio": poisson_ratio(bulk, shear),
            "chi": nominal.chi,
            "chi_q05": spread.q05,
            "chi_q95": spread.q95,
            "lambda_crit_nm": nominal.lambda_crit_nm,
            "probability_stable": spread.probability_stable,
            "pugh_ratio": pugh_ratio(bulk, shear),
            "superionic_likelihood": numbers(kept, "superionic_likelihood"),
        }
    )
    wanted = (table["chi"], table["energy_above_hull"].clip(lower=0.0), -table["band_gap"])
    table["pareto"] = pareto_front(np.stack([column.to_numpy(float) for column in wanted], axis=1))
    columns, ascending = SORT_KEYS[p.sort_by]
    table = table.sort_values(columns, ascending=ascending, kind="stable", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1, dtype=np.int32))
    return FilterOutcome(table[list(RANKING_COLUMNS)], outcome.excluded)


def rank_candidates(
    candidates: pd.DataFrame,
    *,
    stated: pd.DataFrame | None = None,
    predicted: pd.DataFrame | None = None,
    ratios: Mapping[str, tuple[float, str | None]] | None = None,
    parameters: RankingParameters | None = None,
) -> Ranking:
    """Go the whole way for tables that are complete: filters, moduli, volume ratios, chi.

    A workflow that computes moduli and volume ratios of the survivors only calls `apply_filters`, `choose_moduli`,
    `with_volume_ratio` and `rank_table` itself.

    Parameters
    ----------
    candidates : DataFrame
        material_id, formula, energy_above_hull [eV/atom], band_gap [eV].
    stated, predicted : DataFrame, optional
        As `choose_moduli`.
    ratios : mapping of str to (float, str or None), optional
        v and reason by material_id; None takes the column volume_ratio.
    parameters : RankingParameters, optional
        All settings.

    Returns
    -------
    Ranking
        Ranked, excluded and counts.
    """
    p = parameters or RankingParameters()

    def volume(frame: pd.DataFrame) -> FilterOutcome:
        missing = (np.nan, "volume ratio is missing")
        found = [(ratios or {}).get(identifier, missing) for identifier in frame["material_id"]]
        return with_volume_ratio(frame, VolumeRatios(np.array([v for v, _ in found]), [why for _, why in found]))

    outcome = chain(
        candidates,
        [
            lambda t: apply_filters(t, p.filters),
            lambda t: choose_moduli(t, stated, predicted, bad_stated=p.bad_stated),
            volume,
            lambda t: rank_table(t, p),
        ],
    )
    counts = outcome.counts()
    ranked = counts.pop("kept")
    return Ranking(outcome.kept, outcome.excluded, {"candidates": len(candidates), "ranked": ranked, **counts})


def with_metal(parameters: RankingParameters, constants: StabilityConstants) -> RankingParameters:
    """Ask for the same ranking against another metal.

    Parameters
    ----------
    parameters : RankingParameters
        Settings.
    constants : StabilityConstants
        The other electrode.

    Returns
    -------
    RankingParameters
        Filters ask for the new metal.
    """
    return replace(parameters, constants=constants, filters=replace(parameters.filters, metal=constants.metal))


def _choose(
    stated: Mapping[str, Any] | None, predicted: Mapping[str, Any] | None, bad_stated: str
) -> tuple[dict[str, Any], str | None]:
    """Moduli of one candidate, or the reason why it has none."""
    if stated is not None:
        reason = moduli_reasons(stated["bulk_modulus_vrh"], stated["shear_modulus_vrh"])[0]
        reason = reason or instability_reason(stated.get("elastic_tensor"))
        if reason is None:
            # a stated value carries no network's error bar, whatever columns its table has
            values = {name: stated[name] for name in MODULI_COLUMNS[:2]}
            return {**values, "moduli_source": "stated"}, None
        if bad_stated == "exclude":
            return {}, f"stated: {reason}"
    if predicted is None:
        return {}, "no stated moduli and no prediction"
    reason = moduli_reasons(predicted["bulk_modulus_vrh"], predicted["shear_modulus_vrh"])[0]
    if reason is not None:
        return {}, f"predicted: {reason}"
    return {**{name: predicted.get(name) for name in MODULI_COLUMNS[:4]}, "moduli_source": "predicted"}, None


def _lookup(table: pd.DataFrame | None) -> dict[str, dict[str, Any]]:
    """Rows by material_id; the first of a repeated identifier counts."""
    if table is None:
        return {}
    unique = table.drop_duplicates("material_id")
    records: list[dict[Any, Any]] = unique.to_dict("records")
    return {str(row["material_id"]): row for row in records}


def _stated_lookup(table: pd.DataFrame) -> dict[str, dict[str, Any]]:
    """Rows that state moduli, by material_id; none if the table has no such columns."""
    names = [c for c in ("material_id", "bulk_modulus_vrh", "shear_modulus_vrh", "elastic_tensor") if c in table]
    if "bulk_modulus_vrh" not in names or "shear_modulus_vrh" not in names:
        return {}
    return _lookup(table.loc[table["bulk_modulus_vrh"].notna() | table["shear_modulus_vrh"].notna(), names])
