"""Is a compound stable? Networks judged as in Bartel et al. 2020, into docs/accuracy/stability.md.

python -m benchmarks.accuracy_stability --data mp_formation_energy.parquet --store STORE --epochs 100 --entry elemnet

Takes hours for the whole Materials Project set; what the store already has is not trained again.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.run import machine
from benchmarks.screen_page import table
from deployments.commands.run import run_flow
from deployments.commands.validate import read_entries
from flows.stability import StabilityParameters, stability
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.judge_stability import RESULT
from tasks.parameters import SourceParameters

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy" / "stability.md"
LIBRARIES = ("elemscreen", "torch", "numpy", "numba")
TITLES = {
    "all_predicted": "Formation energies, everything predicted",
    "training_competitors": "Formation energies, against what was known",
    "direct": "Decomposition energies learnt directly",
}
SCHEMES = {"random": "random folds of compositions", "grouped": "folds of whole chemical systems"}
MEANINGS = {
    "all_predicted": "Every compound's formation energy is the prediction of the fold that tested it; its predicted "
    "decomposition energy is that prediction minus the hull of the predictions for all other compositions, elements "
    "at 0. This is the published test of formation energies.",
    "training_competitors": "A test compound's prediction minus the hull of the true energies of the fold's training "
    "rows: what a screen can do that knows some systems and predicts others. Competitors of the compound's own system "
    "are then unknown, and *true energies* says what a network without any error would reach.",
    "direct": "Each training part's decomposition energies are computed from its own rows alone, the network learns "
    "them and predicts those of the test rows. The published networks were trained on decomposition "
    "energies as the database states them, for which all of its rows are known.",
}
PUBLISHED = (
    ("ElemNet, trained on decomposition energies", "0.694"),
    ("Roost, trained on decomposition energies", "0.725"),
)
INTRODUCTION = """\
A compound is stable where its decomposition energy, formation energy minus the hull of all other compositions, is
negative (Bartel et al., npj Comput. Mater. 6, 97 (2020)); the truth takes the true energies of all rows. *MAE, E_f* and
*MAE, E_d*: mean absolute errors of formation and decomposition energies [eV/atom]. *F1*: harmonic mean of *precision*
(share of those called stable that are) and *recall* (share of the stable that are called so), with its 95 % interval
over drawing chemical systems again. *FPR*: share of the unstable that are called stable. *Acceleration*: precision over
prevalence, how many times more often a compound called stable is than one taken blindly."""


def share(entry: Mapping[str, Any]) -> str:
    """Return a share as text; a dash where there is none."""
    return "-" if entry["share"] is None else f"{entry['share']:.3f}"


def number(value: float | None, digits: int = 3) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def line(name: str, seed: str, energy_error: float | None, found: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the row of one judgement."""
    interval = found["over_groups"]["f1"]
    bounds = "" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})"
    return (
        name, seed, number(energy_error, 4), number(found["mae"], 4), f"{number(found['f1'])}{bounds}",
        *(share(found[name]) for name in ("precision", "recall", "accuracy", "false_positive_rate")),
        number(found["acceleration"], 2),
        *(f"{found[kind]:,}" for kind in ("true_positives", "false_positives", "false_negatives")),
    )  # fmt: skip


def section(result: Mapping[str, Any]) -> str:
    """Return the part of the page about one setting."""
    judged, entries = result["judged"], result["entries"]
    blind = entries[0]["stability"]
    size = any(entry["size"] is not None for entry in entries)
    names = {entry["entry"]: entry["entry"].partition("@")[0] for entry in entries}
    if len(set(names.values())) < len(names):  # two entries of one network: their settings tell them apart
        names = {name: name for name in names}
    rows = [
        line(
            names[entry["entry"]] + (f", {entry['size'] or 'all'} rows" if size else ""), str(entry["seed"]),
            entry["formation_energy_mae"], entry["stability"],
        )
        for entry in entries
    ]  # fmt: skip
    if "true_energies" in result:
        rows.append(line("*true energies*", "", 0.0, result["true_energies"]))
    always = blind["always_stable"]
    empty = ("", "-", "-")
    n, stable = blind["n"], blind["prevalence"]["hits"]
    precision = number(always["precision"])
    rows.append(
        (
            "*always stable*", *empty, number(always["f1"]), precision, "1.000", precision, "1.000", "1.00",
            f"{stable:,}", f"{n - stable:,}", "0",
        )
    )  # fmt: skip
    if judged == "direct":
        rows += [(f"*published: {name}*", *empty, f1, *["-"] * 8) for name, f1 in PUBLISHED]
    header = (
        "entry", "seed", "MAE, E_f", "MAE, E_d", "F1", "precision", "recall", "accuracy", "FPR", "acceleration",
        "true positives", "false positives", "false negatives",
    )  # fmt: skip
    return (
        f"## {TITLES[judged]}, {SCHEMES[result['scheme']]}\n\n{MEANINGS[judged]}\n\n"
        f"{n:,} compounds, {stable:,} of them stable ({100 * stable / n:.1f} %).\n\n"
        f"{table(header, rows)}"
    )


def page(store: ArtifactStore, refs: Sequence[ArtifactRef], settings: str, note: str = "") -> str:
    """Return the page about some judgements."""
    results = [json.loads(store.read_bytes(ref, RESULT)) for ref in refs]
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return (
        "# Stability\n\n"
        f"Written by `python -m benchmarks.accuracy_stability` on {dt.datetime.now(dt.UTC):%Y-%m-%d} from "
        f"{', '.join(ref.key for ref in refs)}.\n{machine()}; {libraries}.\n{settings} {note}".rstrip()
        + f"\n\n{INTRODUCTION}\n\nPublished mean absolute errors of E_f on these compounds: ElemNet 0.097, Roost 0.056 "
        "eV/atom.\n\n" + "\n".join(section(result) for result in results)
    )


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="file with formula and formation_energy_per_atom")
    parser.add_argument("--store", required=True, help="artifact store: folder or URL")
    parser.add_argument("--entry", action="append", help="NETWORK[@SETTING=VALUE,...]; several when repeated")
    parser.add_argument("--epochs", type=int, required=True, help="passes over the data")
    parser.add_argument("--preset", default="standard", help="standard, or small for some thousand rows")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--seeds", type=int, default=1, help="repeat everything with so many seeds")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of a training")
    parser.add_argument("--dask", default="local", help="Dask profile, or tcp://HOST:PORT of a scheduler")
    parser.add_argument("--page", type=Path, default=PAGE, help="Markdown file to write")
    parser.add_argument("--note", default="", help="what the machine did besides")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    """Run the settings and write the page."""
    said = arguments(given)
    common = {"epochs": said.epochs, "preset": said.preset, "threads": said.threads}
    parameters = StabilityParameters(
        data=said.data,
        energies=SourceParameters(source=f"file:{said.data.removeprefix('file:')}", database="mp"),
        entries=read_entries(said.entry or ["elemnet"], common, n_seeds=said.seeds),
        folds=said.folds,
        store=said.store,
        cluster=said.dask,
    )
    refs = run_flow(stability, parameters)
    said.page.parent.mkdir(parents=True, exist_ok=True)
    settings = f"{said.folds} folds, {said.epochs} epochs unless an entry says otherwise, preset {said.preset}."
    settings += f" Entries: {', '.join(f'`{entry}`' for entry in said.entry or ['elemnet'])}."
    said.page.write_text(page(ArtifactStore.from_ref(refs[0]), refs, settings, said.note))
    print(said.page)


if __name__ == "__main__":
    main()
