"""Report: the artifacts of a campaign -> one HTML page that stands alone."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from models.formula import parse_many
from storage.artifact import ArtifactRef, ArtifactRequest, Manifest
from storage.model_files import read_model
from storage.store import ArtifactStore, ArtifactWriter
from tasks.loading import load_hull
from tasks.reporting.data import CleaningCounts, ReportData
from tasks.stage import build, stage

STAGE_VERSION = 2

#: Stable salts that the 5-sigma rule takes out of the training rows; without them the hull would "discover" them again.
CANARIES = ("CaF2", "LaF3", "HoF3", "ThF4", "ThO2")

#: Order of the pipeline, for the provenance table.
ROLES = (
    "energies",
    "known",
    "structures",
    "electrolytes",
    "references",
    "phases",
    "training",
    "features",
    "network",
    "predictions",
    "calibration",
    "candidates",
    "moduli_network",
    "moduli",
    "ranking",
)


@stage("report")
def report(root: str, title: str, parameters: dict[str, Any], inputs: Mapping[str, ArtifactRef | None]) -> ArtifactRef:
    """Write `report.html`.

    Parameters
    ----------
    root
        The store.
    title
        Title of the page.
    parameters
        The campaign's parameters, shown on the page; folders are left out, so that the page is the same everywhere.
    inputs
        Artifacts by role (`ROLES`); None, or no entry, for a stage that was not run.
    """
    shown = {"title": title, "parameters": _without_folders(parameters)}
    made = {role: ref for role, ref in inputs.items() if ref is not None}
    request = ArtifactRequest("report", "tasks.report", STAGE_VERSION, shown, made)
    return build(root, request, lambda writer: _write(writer, ArtifactStore(root), shown, made))


def _without_folders(value: Any) -> Any:
    """Return parameters with files by name only."""
    if isinstance(value, dict):
        return {name: _without_folders(item) for name, item in value.items() if name not in ("store", "cluster")}
    if isinstance(value, list | tuple):
        return [_without_folders(item) for item in value]
    if isinstance(value, str) and value.startswith("file:"):
        return f"file:{PurePath(value.removeprefix('file:')).name}"
    return value


def _write(writer: ArtifactWriter, store: ArtifactStore, shown: dict[str, Any], inputs: dict[str, ArtifactRef]) -> None:
    from tasks.reporting.render import render_report  # matplotlib takes half a second to import

    data = report_data(store, shown["title"], shown["parameters"], inputs)
    writer.write_bytes("report.html", render_report(data).encode())


def report_data(
    store: ArtifactStore, title: str, parameters: dict[str, Any], inputs: Mapping[str, ArtifactRef]
) -> ReportData:
    """Read what the page shows from the artifacts of a campaign."""
    manifests = {role: store.manifest(ref) for role, ref in inputs.items()}

    def frame(role: str, table: str | None = None) -> pd.DataFrame | None:
        return store.read_table(inputs[role], table).to_pandas() if role in inputs else None

    card = read_model(inputs["network"])[0].model_dump() if "network" in inputs else {}
    moduli_card = read_model(inputs["moduli_network"])[0] if "moduli_network" in inputs else None
    parity = frame("moduli_network", "parity")
    return ReportData(
        title=title,
        subtitle=_subtitle(manifests),
        parameters=parameters,
        banners=_banners(manifests),
        cleaning=[_cleaning(manifests[role]) for role in ("phases", "training") if role in manifests],
        references=frame("references"),
        learning_curve=frame("network", "learning_curve"),
        predictions=frame("predictions"),
        metrics=card.get("metrics", {}),
        screen_summary=_screen_summary(manifests.get("candidates")),
        candidates=frame("candidates"),
        calibration=_calibration(store, inputs.get("calibration")),
        canaries=_canaries(store, inputs.get("phases")),
        moduli_metrics=moduli_card.metrics if moduli_card else {},
        moduli_predictions=None if parity is None else parity[parity["split"] == "calibration"],
        moduli_data_source=", ".join(moduli_card.domain.get("source", [])) if moduli_card else "",
        ranking=frame("ranking"),
        interfaces=frame("ranking", "interfaces"),
        metal=manifests["ranking"].parameters["metal"] if "ranking" in manifests else "Li",
        excluded=frame("ranking", "excluded"),
        provenance=_provenance(manifests),
        model_card={name: value for name, value in card.items() if name != "domain"},
    )


def _subtitle(manifests: Mapping[str, Manifest]) -> str:
    scheme = manifests["phases"].energy_scheme if "phases" in manifests else None
    if scheme is None:
        return ""
    text = f"Formation energies: {scheme.label}"
    return f"{text}, computed with a universal potential, not DFT" if scheme.functional == "chgnet" else text


def _banners(manifests: Mapping[str, Manifest]) -> list[tuple[str, str]]:
    banners = []
    scheme = manifests["phases"].energy_scheme if "phases" in manifests else None
    if scheme is not None and scheme.functional == "chgnet":
        banners.append(
            (
                "warning",
                "Formation energies and hull come from a universal potential (CHGNet) and the starter set's prototypes "
                "alone: they show how a campaign works and are no evidence for a material.",
            )
        )
    return banners


def _cleaning(manifest: Manifest) -> CleaningCounts:
    counts = manifest.counts
    rules = [(name.replace("_", " "), n) for name, n in counts.items() if name.startswith(("rejected_", "dropped_"))]
    return CleaningCounts(
        table=manifest.kind,
        rows_in=counts["rows_in"],
        rows_kept=counts["kept"],
        rows_rejected=sum(n for _, n in rules),
        rows_merged=counts["merged"],
        rules=rules,
    )


def _screen_summary(manifest: Manifest | None) -> dict[str, Any]:
    if manifest is None:
        return {}
    counts = manifest.counts

    def by_arity(prefix: str) -> dict[int, int]:
        return {
            int(n.rpartition("_")[2]): v for n, v in counts.items() if n.startswith(f"{prefix}_") and n[-1].isdigit()
        }

    return {
        "n_compositions": counts["screened"],
        "n_compositions_by_arity": by_arity("screened"),
        "n_systems": by_arity("systems"),
        "n_below": by_arity("below"),
        "threshold": manifest.parameters["threshold"],
    }


def _calibration(store: ArtifactStore, ref: ArtifactRef | None) -> dict[str, Any]:
    if ref is None:
        return {}
    data = json.loads(store.read_bytes(ref, "calibration.json"))
    result: dict[str, Any] = dict(data["probability"])
    if "residuals" in data:
        result["out_of_system_mae"] = data["residuals"]["mae"]
    return result


def _canaries(store: ArtifactStore, phases: ArtifactRef | None) -> dict[str, dict[str, Any]]:
    """Say for each salt whether the phases hold it and how far above their hull it lies."""
    if phases is None:
        return {}
    table = store.read_table(phases, columns=["formula", "formation_energy_per_atom"])
    parsed = parse_many(list(CANARIES))
    energies = dict(
        zip(table.column("formula").to_pylist(), table.column("formation_energy_per_atom").to_numpy(), strict=True)
    )
    hull = load_hull(phases).energy_many(parsed.fractions)
    found = [energies.get(formula) for formula in parsed.reduced]
    return {
        name: {"in_phases": energy is not None, "energy_above_hull": None if energy is None else float(energy - at)}
        for name, energy, at in zip(CANARIES, found, np.asarray(hull), strict=True)
    }


def _provenance(manifests: Mapping[str, Manifest]) -> list[dict[str, Any]]:
    rows = []
    for role in ROLES:
        if role not in manifests:
            continue
        manifest = manifests[role]
        source = manifest.parameters.get("file") or manifest.parameters.get("source") or ""
        rows.append(
            {
                "stage": manifest.stage.removeprefix("tasks."),
                "kind": manifest.kind,
                "key": manifest.key,
                "digest": manifest.digest,
                "rows": manifest.rows,
                "source": source if isinstance(source, str) else "",
            }
        )
    return rows
