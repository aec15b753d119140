"""The discovery back-test's numbers, from its artifacts, into docs/backtest.md.

    elemscreen backtest --source file:energies.parquet --by pairs --by release --known known.parquet --store STORE
    python -m benchmarks.backtest STORE ["what the machine did besides"]

The newest back-test of each way of holding out is taken.
"""

from __future__ import annotations

import datetime as dt
import json
import sys
from collections.abc import Callable, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.run import machine
from benchmarks.screen_page import table
from models.backtest import ANION_CLASSES
from models.novelty import LEVELS
from storage.artifact import ArtifactRef
from storage.catalog import catalog
from storage.store import ArtifactStore
from tasks.backtest import RESULT

PAGE = Path(__file__).resolve().parents[1] / "docs" / "backtest.md"
LIBRARIES = ("elemscreen", "torch", "numpy", "numba", "pyarrow")
TITLES = {"pairs": "Held-out pairs of elements", "release": "Early releases against later ones"}
CALIBRATIONS = {
    "stated": "as stated (training side)",
    "held_out_rows": "refitted on held-out rows",
}

INTRODUCTION = """\
Speed without precision is worth nothing: what are a screen's finds worth? Compounds are held out of the training rows
and of the hull, a network is trained and calibrated on the rest by the ordinary stages, and the held-out compounds are
judged the way candidates are. What the numbers mean:

- *selected*: predicted energy minus the hull of the training side's phases is at or below the threshold.
- *precision*: share of the selected that is stable, its true energy lying on or below the same hull. *As deep*: share
  that truly lies at or below the threshold, as the prediction said. *Among all*: share that is also on or below the
  hull of everything else, the other held-out compounds among it, so that of finds that exclude each other one counts.
- *prevalence*: share of stable compounds among all that were held out; it is high because databases hold compounds
  that people chose to compute, and because a hull without a pair's compounds is shallow there. In the space of a
  screen it is far lower, so the precision there is lower too: carry over the acceleration with care, never the
  precision.
- *acceleration*: precision over prevalence (discovery acceleration factor; Riebesell et al., Matbench Discovery,
  arXiv:2308.14920). *recall*: share of all stable compounds that was selected. *F1*: their harmonic mean.
- Brackets hold 95 % Wilson intervals. They take rows for independent, which compounds of one system are not quite.
  *Over groups*: 95 % interval of the precision when whole groups (held-out pairs, or chemical systems) are drawn again
  (bootstrap); where it is the wider one, believe it.
- *without flags*: after compositions that are known, whose hull is incomplete, or with an element out of domain are
  taken out. The list of what is known was held out like the table: a held-out compound, or one with a held-out pair,
  is not on it, so no held-out compound is flagged known. The list has no dates: for later releases it marks hulls
  incomplete by what became known at any time."""


def percent(entry: Mapping[str, Any], interval: bool = True) -> str:
    """Return a share in percent, with its interval; a dash where there is none."""
    if entry["share"] is None:
        return "-"
    bounds = f" ({100 * entry['low']:.1f} to {100 * entry['high']:.1f})" if interval else ""
    return f"{100 * entry['share']:.1f}{bounds}"


def number(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def over_groups(entry: Mapping[str, Any]) -> str:
    """Return the precision's interval over groups in percent; a dash where there are too few."""
    found = entry["over_groups"]
    return "-" if found["low"] is None else f"{100 * found['low']:.1f} to {100 * found['high']:.1f}"


def newest(store: ArtifactStore) -> dict[str, ArtifactRef]:
    """Return the newest back-test of each way of holding out."""
    found: dict[str, ArtifactRef] = {}
    for row in catalog(store, "backtest"):
        ref = store.resolve(row.key)
        by = json.loads(store.read_bytes(ref, RESULT))["holdout"]["by"]
        found.setdefault(by, ref)
    return {by: found[by] for by in TITLES if by in found}


def by_threshold(part: Mapping[str, Any]) -> str:
    rows = []
    for entry in part["thresholds"]:
        stable = entry["stable"]
        rows.append(
            (
                f"{entry['threshold']:g}", f"{entry['selected']:,}", percent(stable["precision"]), over_groups(entry),
                percent(entry["as_deep"]["precision"]), percent(entry["stable_among_all"]["precision"]),
                percent(stable["prevalence"]), number(stable["acceleration"]), percent(stable["recall"]),
                percent(entry["as_deep"]["recall"]), number(stable["f1"]),
            )
        )  # fmt: skip
    header = (
        "threshold [eV/atom]", "selected", "precision [%]", "over groups [%]", "as deep [%]", "among all [%]",
        "prevalence [%]", "acceleration", "recall [%]", "recall, as deep [%]", "F1",
    )  # fmt: skip
    return table(header, rows)


def by_group(
    result: Mapping[str, Any], name: str, title: str, order: Callable[[str], Any], labels: Mapping[str, str]
) -> str:
    """Return one row per group, threshold and population with something selected."""
    rows = []
    for label in sorted(result["before"][name], key=order):
        for part, what in labels.items():
            group = result[part][name].get(label)
            for entry in group["thresholds"] if group else []:
                stable = entry["stable"]
                rows.append(
                    (
                        label.replace("_", " "), what, f"{group['n']:,}",
                        f"{entry['threshold']:g}", f"{entry['selected']:,}",
                        percent(stable["precision"]), percent(entry["as_deep"]["precision"]),
                        percent(stable["prevalence"], interval=False), number(stable["acceleration"]),
                        percent(stable["recall"]), number(entry["reliability"]["stated"]),
                    )
                )  # fmt: skip
    header = (
        title, "rows", "held out", "threshold", "selected", "precision [%]", "as deep [%]", "prevalence [%]",
        "acceleration", "recall [%]", "mean stated probability",
    )  # fmt: skip
    return table(header, rows)


def in_turn(result: Mapping[str, Any]) -> str:
    steps = result["in_turn"]
    header = ["taken out in turn", "left", "stable"]
    header += [f"selected at {t['threshold']:g}, stable of them" for t in steps[0]["thresholds"]]
    rows = []
    for step in steps:
        cells = [(step["taken_out"] or "nothing").replace("_", " "), f"{step['n']:,}", f"{step['stable']:,}"]
        for entry in step["thresholds"]:
            cells.append(f"{entry['selected']:,}: {entry['stable_selected']['hits']:,}")
        rows.append(cells)
    return table(header, rows)


def errors(result: Mapping[str, Any]) -> str:
    rows = []
    for part, label in (("before", "all"), ("after", "without flags")):
        some = result[part]
        entries = [("all held out", some["errors"])]
        entries += [(f"selected at {entry['threshold']:g}", entry["errors"]) for entry in some["thresholds"]]
        for what, error in entries:
            rows.append(
                (label, what, f"{error['n']:,}", *(number(error[name], 4) for name in ("mae", "bias", "median")))
            )
    return table(("rows", "which", "n", "MAE [eV/atom]", "bias", "median error"), rows)


def reliability(result: Mapping[str, Any]) -> tuple[str, str]:
    """Return the summary of the stated probability, and its bins for all rows and the selected ones."""
    rows, bins = [], []
    for part, label in (("before", "all"), ("after", "without flags")):
        some = result[part]
        entries = [("all held out", some["reliability"])]
        entries += [(f"selected at {entry['threshold']:g}", entry["reliability"]) for entry in some["thresholds"]]
        for what, said in entries:
            rows.append(
                (
                    label, what, f"{said['n']:,}", number(said["stated"], 3), percent(said["observed"]),
                    number(said["calibration_error"], 3), number(said["brier"], 3), number(said["log_loss"], 3),
                )
            )  # fmt: skip
            for one in said["bins"]:
                bins.append(
                    (
                        label, what, f"{one['low']:.1f} to {one['high']:.1f}", f"{one['observed']['n']:,}",
                        f"{one['stated']:.3f}", percent(one["observed"]),
                    )
                )  # fmt: skip
    header = ("rows", "which", "n", "mean stated", "observed [%]", "calibration error", "Brier", "log loss")
    return table(header, rows), table(("rows", "which", "stated", "n", "mean stated", "observed [%]"), bins)


def recalibration(result: Mapping[str, Any]) -> str:
    rows = []
    for entry in result["recalibration"]["thresholds"]:
        for name, label in CALIBRATIONS.items():
            said = entry[name]
            rows.append(
                (
                    f"{entry['threshold']:g}", label, f"{said['n']:,}", number(said["stated"], 3),
                    percent(said["observed"]), number(said["log_loss"], 3), number(said["calibration_error"], 3),
                    number(said["brier"], 3),
                )
            )  # fmt: skip
    header = (
        "selected at",
        "calibration",
        "n",
        "mean stated",
        "observed [%]",
        "log loss",
        "calibration error",
        "Brier",
    )
    return table(header, rows)


def canaries(results: Mapping[str, Mapping[str, Any]]) -> str:
    rows = []
    for by, result in results.items():
        for entry in result["canaries"]:
            flags = [flag for flag in ("known", "hull_incomplete", "out_of_domain", "held_out") if entry[flag]]
            rows.append(
                (
                    entry["formula"], TITLES[by].lower(), f"{entry['prediction']:.3f}",
                    f"{entry['decomposition_energy']:.3f}", number(entry["probability_stable"]),
                    entry["novelty"].replace("_", " "), ", ".join(flags).replace("_", " ") or "none",
                )
            )  # fmt: skip
    header = (
        "formula",
        "network of",
        "predicted [eV/atom]",
        "minus the hull",
        "stated probability",
        "nearest known",
        "flags",
    )
    return table(header, rows)


def held_out(result: Mapping[str, Any]) -> str:
    """Say in a sentence or two what was held out and what was left."""
    cut, n = result["holdout"], result["parts"]
    if cut["by"] == "pairs":
        pairs = ", ".join("-".join(pair) for pair in cut["pairs"])
        what = f"{len(cut['pairs'])} pairs of elements (seed {cut['seed']}) and every superset of them: {pairs}."
    else:
        what = (
            f"Learnt from {', '.join(cut['releases'])}; held out is what first appears in later releases. "
            f"{n['left_out']:,} later rows of known compositions and elements are neither."
        )
    learnt = result["training_rows"]
    return (
        f"{what}\n\n{n['held_out']:,} rows held out, {result['before']['n']:,} of them judged (physical energies, the "
        f"lowest of each composition); {learnt['train']:,} training and {learnt['calibration']:,} calibration rows, "
        f"a hull of {result['phases']:,} phases. Flags among the judged: "
        + ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in result["flags"].items())
        + f"; none {result['after']['n']:,}."
    )


def section(by: str, result: Mapping[str, Any], seconds: float) -> str:
    both = {"before": "all", "after": "without flags"}
    summary, bins = reliability(result)
    return f"""## {TITLES[by]}

{held_out(result)} Judging took {seconds:,.0f} s.

### By threshold, all held-out compounds

{by_threshold(result["before"])}
### By threshold, without flags

{by_threshold(result["after"])}
### What the flags take out

{in_turn(result)}
### By number of elements

{by_group(result, "by_arity", "elements", int, both)}
### By anion

{by_group(result, "by_anion", "class", ANION_CLASSES.index, both)}
### By distance to the nearest known composition

Euclidean distance of the atomic fractions to the nearest phase or listed composition that was not held out.

{by_group(result, "by_novelty", "nearest", LEVELS.index, both)}
### Errors: the winner's curse

Prediction minus truth. A prediction is selected for being low, so that those that are too low have better chances: what
the bias loses from all rows to the selected ones is the winner's curse.

{errors(result)}
### Reliability of the stated probability

Calibration error: mean distance of observed from stated share over bins of 0.1, weighted with their rows. Brier: mean
squared distance. Log loss in nats.

{summary}
{bins}
### The best that a calibration could state

A calibration of the same form, fitted on one half of the held-out groups
({"pairs" if by == "pairs" else "chemical systems"}) and measured on the other, both ways round: what the stated one,
fitted on the training side, falls short of. The product's own is not changed by this.

{recalibration(result)}"""


def main(root: str, note: str = "") -> None:
    """Write the page; the note tells what the machine did besides."""
    store = ArtifactStore(root)
    refs = newest(store)
    if not refs:
        raise SystemExit(f"{root} holds no back-test; run elemscreen backtest --store {root} first")
    results = {by: json.loads(store.read_bytes(ref, RESULT)) for by, ref in refs.items()}
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    sections = [section(by, result, store.run_record(refs[by])["seconds"]) for by, result in results.items()]
    made = ", ".join(ref.key for ref in refs.values())
    PAGE.write_text(
        "# Discovery back-test\n\n"
        f"Written by `python -m benchmarks.backtest STORE` on {dt.datetime.now(dt.UTC):%Y-%m-%d} from {made}.\n"
        f"{machine()}; {libraries}. {note}\n\n{INTRODUCTION}\n\n"
        "## Canaries\n\nCompositions that no chemist believes, and what each network says of them:\n\n"
        f"{canaries(results)}\n" + "\n".join(sections)
    )
    print(PAGE)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
