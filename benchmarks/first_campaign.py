"""Headline numbers of the first campaign on real data, from its artifacts, into docs/first-campaign.md.

ELEMSCREEN_REFERENCE_DATA=... elemscreen campaign run benchmarks/campaigns/first-campaign.yaml --store STORE
python -m benchmarks.first_campaign STORE ["what the machine did besides"]
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

import pandas as pd

from storage.artifact import ArtifactRef
from storage.catalog import catalog
from storage.model_files import read_model
from storage.store import ArtifactStore

FLUORIDES = ("KF6", "NaF8", "OF9", "SeF9")


def newest_report(store: ArtifactStore) -> dict[str, ArtifactRef]:
    """Return the artifacts by role that the newest report was made from, and the report itself."""
    page = store.resolve(catalog(store, "report")[0].key)
    made = {role: store.resolve(record.key) for role, record in store.manifest(page).inputs.items()}
    return made | {"report": page}


def table(rows: list[tuple[Any, ...]], header: tuple[str, ...]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)])


def cleaning(store: ArtifactStore, made: dict[str, ArtifactRef]) -> str:
    rows = []
    for role in ("phases", "training"):
        rows += [(role, name.replace("_", " "), f"{n:,}") for name, n in store.manifest(made[role]).counts.items()]
    return table(rows, ("table", "rule", "rows"))


def screen(store: ArtifactStore, made: dict[str, ArtifactRef]) -> str:
    counts = store.manifest(made["candidates"]).counts
    rows = [
        (k, f"{counts[f'systems_{k}']:,}", f"{counts[f'screened_{k}']:,}", f"{counts[f'below_{k}']:,}")
        for k in (2, 3, 4)
    ]
    rows.append(("all", f"{counts['systems']:,}", f"{counts['screened']:,}", f"{counts['below']:,}"))
    left = [
        ("at or below the threshold", f"{counts['below']:,}"),
        ("after known compositions", f"{counts['left_after_known']:,}"),
        ("after systems with an incomplete hull", f"{counts['left_after_hull_incomplete']:,}"),
        ("after elements out of domain", f"{counts['left_after_out_of_domain']:,}"),
    ]
    return (
        table(rows, ("elements", "systems", "compositions", "at or below the threshold"))
        + "\n\n"
        + table(left, ("taken out in turn", "left"))
    )


def canaries(store: ArtifactStore, made: dict[str, ArtifactRef]) -> str:
    frame = store.read_table(made["candidates"]).to_pandas().set_index("formula")
    rows = []
    for formula in FLUORIDES:
        if formula in frame.index:
            row = frame.loc[formula]
            rows.append(
                (formula, f"{row['decomposition_energy']:.3f}", f"{row['probability_stable']:.2f}", _flags(row))
            )
        else:
            rows.append((formula, "above the threshold", "", ""))
    return table(rows, ("formula", "decomposition energy [eV/atom]", "probability", "flags"))


def _flags(row: pd.Series) -> str:
    return ", ".join(name for name in ("known", "hull_incomplete", "out_of_domain") if row[name]) or "none"


def ranking(store: ArtifactStore, made: dict[str, ArtifactRef]) -> str:
    frame = store.read_table(made["ranking"]).to_pandas().head(10)
    rows = [
        (
            row.rank,
            row.formula,
            row.material_id,
            f"{row.shear_modulus_vrh:.1f}",
            row.moduli_source,
            f"{row.chi:.2f}",
            f"{row.lambda_crit_nm:.2f}",
            f"{row.probability_stable:.2f}",
        )
        for row in frame.itertuples()
    ]
    return table(rows, ("rank", "formula", "id", "G [GPa]", "moduli", "chi", "lambda_crit [nm]", "P(chi < 0)"))


def times(store: ArtifactStore, made: dict[str, ArtifactRef]) -> str:
    rows = []
    for role, ref in made.items():
        seconds = store.run_record(ref)["seconds"]
        rows.append((role, f"{seconds:,.0f}"))
    parts = [store.run_record(store.resolve(row.key)) for row in catalog(store, "candidates_part")]
    rows.append((f"screen, {len(parts)} blocks", f"{sum(part['seconds'] for part in parts):,.0f} core-seconds"))
    return table(rows, ("stage", "seconds"))


def wall(store: ArtifactStore, made: dict[str, ArtifactRef]) -> str:
    records = [store.run_record(ref) for ref in made.values()]
    started = min(dt.datetime.fromisoformat(record["started"]) for record in records)
    return f"{(max(dt.datetime.fromisoformat(r['finished']) for r in records) - started).total_seconds() / 60:.0f}"


def references(store: ArtifactStore, made: dict[str, ArtifactRef]) -> str:
    frame = store.read_table(made["references"]).to_pandas()
    frame = frame[frame["reference_correction"] != 0]
    rows = [
        (r.element, r.release, f"{r.reference_correction:+.4f}", f"{r.shift:+.4f}", r.n_compounds)
        for r in frame.itertuples()
    ]
    return table(rows, ("element", "release", "correction [eV/atom]", "measured shift", "compounds"))


def measured(metrics: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    """One row per part of the data, or per target: its rows and errors."""
    return [(part, f"{m['n']:,}", *(f"{m[name]:.4f}" for name in names)) for part, m in metrics.items()]


def main(root: str, note: str = "") -> None:
    """Write the page; the note tells what the machine did besides."""
    store = ArtifactStore(root)
    made = newest_report(store)
    card, _ = read_model(made["network"])
    moduli, _ = read_model(made["moduli_network"])
    manifest = store.manifest(made["candidates"])
    calibration = json.loads(store.read_bytes(made["calibration"], "calibration.json"))
    metrics = measured(card.metrics, "mae", "rmse", "r2")
    elastic = measured(moduli.metrics, "mae", "rmse")
    ranked = store.manifest(made["ranking"]).counts
    text = f"""# The first campaign

Written by `python -m benchmarks.first_campaign STORE` on {dt.datetime.now(dt.UTC):%Y-%m-%d} from the artifacts of
`benchmarks/campaigns/first-campaign.yaml`: the OQMD's formation energies as redistributed with their train and
validation rows, its list of compositions as the list of what is known, and lithium compounds of the Materials Project.

## Cleaning

{cleaning(store, made)}

Elemental references that the audit corrected:

{references(store, made)}

## Network

{table(metrics, ("rows", "n", "MAE [eV/atom]", "RMSE", "R2"))}

The calibration rows are whole chemical systems that the network has not seen; of
{calibration["probability"]["n"]:,} such rows {calibration["probability"]["n_stable"]:,} are stable.

## Screen

Threshold {manifest.parameters["threshold"]} eV/atom, hull of {store.manifest(made["phases"]).counts["kept"]:,} phases;
every binary and ternary composition of the 86 elements and every quaternary with lithium.

{screen(store, made)}

Compositions that no chemist believes, and what the screen says of them:

{canaries(store, made)}

Their probabilities are wrong, and show what the calibration cannot do: it was fitted on rows that nobody selected,
in systems that resemble the training data, and fluorine-rich alkali compounds resemble nothing there. Read the
probability as an upper estimate and trust the flags first.

## Electrolytes

Learnt from {moduli.split["train"]:,} crystals, measured on {moduli.split["calibration"]:,} of other formulas
(log10 of GPa), which also calibrated its error bars:

{table(elastic, ("target", "n", "MAE", "RMSE"))}

{ranked["candidates"]:,} candidates, {ranked["ranked"]:,} ranked, {ranked["excluded"]:,} excluded with a reason.

{ranking(store, made)}

## Time

Seconds from each stage's start to its end, on two cores that also ran other work at the time; the whole took
{wall(store, made)} minutes from the first stage's start to the report. {note}

{times(store, made)}
"""
    path = Path(__file__).resolve().parents[1] / "docs" / "first-campaign.md"
    path.write_text(text)
    print(path)


if __name__ == "__main__":
    main(*sys.argv[1:3])
