"""Rank compositions without a structure by the probability that they stop dendrites, in a table of their own."""

from __future__ import annotations

from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field

from models.candidate_filters import FilterOutcome, FilterParameters, apply_filters, split
from models.composition_chi import anion_of, composition_chi, known_ratios
from models.electrodes import electrode
from models.elements import RADIOACTIVE, REDOX_ACTIVE
from models.errors import InputError
from models.formula import parse_many
from models.stability_sampling import SamplingParameters
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.loading import load_card
from tasks.parameters import Parameters
from tasks.predicted_columns import predicted_columns, require_formulas
from tasks.stage import build, stage

STAGE_VERSION = 1
MODULI = {"bulk": "bulk_modulus_vrh", "shear": "shear_modulus_vrh"}
Models = dict[str, ArtifactRef]


class CompositionRankParameters(Parameters):
    """Which compositions are ranked."""

    metal: Literal["Li", "Na", "K", "Mg", "Zn", "Al"] = Field("Li", description="the metal electrode")
    allow_radioactive: bool = Field(False, description="keep radioactive elements")
    forbid_redox_active: bool = Field(False, description="no metals that the electrode reduces, such as Ti, W or Sn")
    wavenumber: float = Field(1e8, gt=0, description="wavenumber k of the interface roughness [1/m]")
    samples: int = Field(1024, ge=64, description="draws of moduli and v for P(chi < 0); a power of two")
    seed: int = Field(0, description="seed of the draws")


@stage("rank-compositions")
def rank_compositions(
    root: str,
    compositions: ArtifactRef,
    ranking: ArtifactRef,
    models: Models,
    parameters: CompositionRankParameters,
) -> ArtifactRef:
    """Rank compositions by the probability that chi is below 0, they are stable, and they insulate.

    Parameters
    ----------
    root
        The store.
    compositions
        `candidates` of a screen, whose probability of lying on the hull counts, or `compounds`.
    ranking
        Ranked known compounds of the same metal: their volume ratios are drawn from.
    models
        ``bulk`` and ``shear``: composition networks that learnt the logarithm of the modulus; and perhaps
        ``insulator``: one that learnt whether the band gap is wide.
    parameters
        Filters and electrode.
    """
    store = ArtifactStore(root)
    check_models(models)
    metal = store.manifest(ranking).parameters["metal"]
    if metal != parameters.metal:
        raise InputError(f"{ranking.key} ranks compounds of {metal}; give a ranking against {parameters.metal}")
    inputs = {"compositions": compositions, "ranking": ranking, **models}
    scheme = store.manifest(compositions).energy_scheme
    request = ArtifactRequest(
        "composition_ranking", "tasks.rank_compositions", STAGE_VERSION, parameters.model_dump(mode="json"), inputs,
        energy_scheme=scheme,
    )  # fmt: skip
    return build(root, request, lambda writer: _write(writer, store, inputs, parameters))


def check_models(models: Models) -> None:
    """Refuse models that do not predict what they are given for.

    Raises
    ------
    InputError
        Another target or no logarithm, classes that are not of band gaps, a network that reads structures, or moduli
        without an error.
    """
    for role, model in models.items():
        require_formulas(model)
        card = load_card(model)
        (target, *more) = card.targets
        wanted, transform = (MODULI[role], "log10") if role in MODULI else ("band_gap", "class")
        if more or (target.name, target.transform) != (wanted, transform):
            how = "--log10" if transform == "log10" else "--above GAP"
            raise InputError(
                f"the model {model.key} does not predict the {role} part of a ranking; train one with --target "
                f"{wanted} {how}"
            )
        if role in MODULI and card.n_members == 1 and "uncertainty" not in (card.calibration or {}):
            raise InputError(
                f"the model {model.key} states no error of its modulus; train several --members, or on more rows"
            )


def _write(
    writer: ArtifactWriter, store: ArtifactStore, inputs: dict[str, ArtifactRef], parameters: CompositionRankParameters
) -> None:
    frame = store.read_table(inputs["compositions"]).to_pandas()
    writer.count("compositions", len(frame))
    # a composition is its formula: rows of one table may have no other name
    kept, *excluded = _filtered(frame.assign(material_id=frame["formula"]), parameters)
    table = _ranked(kept, store.read_table(inputs["ranking"]).to_pandas(), inputs, parameters)
    writer.write_table("composition_ranking", pa.Table.from_pandas(table, preserve_index=False), "composition_ranking")
    left = pd.concat([one.excluded for one in excluded], ignore_index=True)
    columns = {name: pa.array(left[name].astype(str), pa.string()) for name in left.columns}
    writer.write_table("excluded", pa.table(columns), "excluded")
    writer.count("ranked", len(table))
    writer.count("excluded", len(left))
    for name, n in left["stage"].value_counts().items():
        writer.count(f"excluded_{name}", int(n))


def _filtered(frame: pd.DataFrame, p: CompositionRankParameters) -> tuple[pd.DataFrame, FilterOutcome, FilterOutcome]:
    """Return what is left, and what the filters and the reader of formulas took out."""
    filters = FilterParameters(
        metal=p.metal, max_energy_above_hull=None, min_band_gap=None,
        forbidden_elements=() if p.allow_radioactive else tuple(RADIOACTIVE),
        redox_active=tuple(REDOX_ACTIVE) if p.forbid_redox_active else (),
    )  # fmt: skip
    outcome = apply_filters(frame, filters)
    readable = split(outcome.kept, "formula", list(parse_many(outcome.kept["formula"].tolist()).reason))
    return readable.kept, outcome, readable


def _ranked(
    frame: pd.DataFrame, known: pd.DataFrame, inputs: dict[str, ArtifactRef], p: CompositionRankParameters
) -> pd.DataFrame:
    """Return the columns of schema ``composition_ranking``, best first."""
    formulas = frame["formula"].tolist()
    parsed = parse_many(formulas)
    said = {role: predicted_columns(inputs[role], parsed) for role in MODULI}
    moduli = (said["bulk"]["prediction"], said["shear"]["prediction"])
    stds = (said["bulk"]["prediction_log10_std"], said["shear"]["prediction_log10_std"])
    ratios = known_ratios(known["formula"].tolist(), known["volume_ratio"].to_numpy(float))
    median, spread = composition_chi(
        formulas, moduli, stds, ratios, constants=electrode(p.metal, p.wavenumber),
        parameters=SamplingParameters(n_samples=p.samples, seed=p.seed),
    )  # fmt: skip
    nothing = np.full(len(frame), np.nan)
    on_hull = frame["probability_stable"].to_numpy(float) if "probability_stable" in frame else nothing
    insulator = predicted_columns(inputs["insulator"], parsed)["probability"] if "insulator" in inputs else nothing
    table = pd.DataFrame(
        {
            "formula": parsed.reduced,
            "chemsys": parsed.chemsys,
            "anion": [anion_of(formula) for formula in formulas],
            "bulk_modulus_vrh": moduli[0],
            "shear_modulus_vrh": moduli[1],
            "log10_bulk_modulus_std": stds[0],
            "log10_shear_modulus_std": stds[1],
            "applicability": said["shear"]["applicability"],
            "volume_ratio_median": median,
            "chi_q05": spread.q05,
            "chi_q50": spread.q50,
            "chi_q95": spread.q95,
            "probability_chi": spread.probability_stable,
            "probability_on_hull": on_hull,
            "probability_insulator": insulator,
            "probability": _together(spread.probability_stable, on_hull, insulator),
        }
    )
    order = ["probability", "chi_q50", "formula"]
    table = table.sort_values(order, ascending=[False, True, True], kind="stable", ignore_index=True)
    table.insert(0, "rank", np.arange(1, len(table) + 1, dtype=np.int32))
    return table


def _together(*probabilities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Multiply the first with what else is known of each row."""
    return np.asarray(probabilities[0] * np.nanprod(np.stack(probabilities[1:]), axis=0))
