"""Tables of docs/accuracy.md, from the artifacts of trainings and cross-validations."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.screen_page import table, with_section
from models.significance import mean_interval
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks.cross_validation import SUMMARY
from tasks.fold import RESULT
from tasks.reporting.style import standalone

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy.md"
INTRODUCTION = """\
# Accuracy

Every section names the command that wrote it, the day and the machine. Errors are mean absolute errors in eV/atom on
rows that no weight was learned from; intervals are 95 %: Student's t over seeds or folds for a mean, resampled chemical
systems for a difference, whose p values are adjusted for the number of pairs (Holm). Published figures are from the
papers named beside them; their splits are not always ours, which is said where it matters."""

CROSSINGS = "Where one learning curve passes another:"
DIFFERENCES = "What the differences are worth:"
FOLD_BY_FOLD = "Fold by fold:"


def write_section(title: str, text: str) -> None:
    """Put a section into the page, in place of the one of the same title."""
    page = PAGE.read_text() if PAGE.is_file() else INTRODUCTION + "\n"
    PAGE.write_text(with_section(page, title, f"## {title}\n\n{text.strip()}\n"))
    print(PAGE)


def write_figure(name: str, svg: str) -> None:
    """Write a figure beside the page, as `accuracy/NAME`."""
    folder = PAGE.parent / "accuracy"
    folder.mkdir(exist_ok=True)
    (folder / name).write_bytes(standalone(svg))


def calibration_figure(ref: ArtifactRef, name: str, what: str) -> str:
    """Copy a model's calibration plot beside the page; the line that shows it there."""
    (PAGE.parent / "accuracy" / name).write_bytes(ArtifactStore.from_ref(ref).read_bytes(ref, "uncertainty.svg"))
    return f"![Calibration of {what}](accuracy/{name})\n"


def models(refs: Mapping[str, ArtifactRef], notes: Mapping[str, str] | None = None) -> str:
    """One row per model: errors on the validation rows, and what its training took."""
    rows = []
    for name, ref in refs.items():
        store = ArtifactStore.from_ref(ref)
        card, _ = read_model(ref)
        measured = card.metrics["validation"]
        record = store.run_record(ref)
        rows.append(
            (
                name, card.n_members, f"{card.split['train']:,}", _four(measured["mae"]), _four(measured["rmse"]),
                f"{measured['r2']:.4f}", *(_four(measured[f"p{q}"]) for q in (50, 75, 90, 95, 99)),
                f"{record['seconds'] / 60:.0f} min", (notes or {}).get(name, ""),
            )
        )  # fmt: skip
    header = ("network", "members", "rows", "MAE", "RMSE", "R2", "50 %", "75 %", "90 %", "95 %", "99 %", "time", "")
    return table(header, rows)


def learnt(refs: Mapping[str, ArtifactRef]) -> str:
    """Return the errors on the rows that were learnt from: they say what is overfitted, and what lacks steps."""
    listed = (f"{name} {_four(read_model(ref)[0].metrics['train']['mae'])}" for name, ref in refs.items())
    return f"On the rows that they learnt from: {', '.join(listed)}.\n"


def members(ref: ArtifactRef) -> str:
    """Return what the members of an ensemble reach alone."""
    errors = _each_alone(ref)
    mean, low, high = mean_interval(errors)
    listed = ", ".join(_four(error) for error in errors)
    return f"One network: {_four(mean)} ({_four(low)} to {_four(high)}) over {len(errors)} seeds: {listed}.\n"


def restarts(ref: ArtifactRef, per_seed: int) -> str:
    """Return what the networks of an ensemble reach alone, those of a seed in the order of its restarts."""
    errors = [_four(error) for error in _each_alone(ref)]
    seeds = [", ".join(errors[start : start + per_seed]) for start in range(0, len(errors), per_seed)]
    return f"Each network alone, seed by seed, at its end and after each restart: {'; '.join(seeds)}.\n"


def _each_alone(ref: ArtifactRef) -> list[float]:
    each = json.loads(ArtifactStore.from_ref(ref).read_bytes(ref, "members.json"))
    return [one["validation"]["mae"] for one in each]


def minutes_side_by_side(seeds: Sequence[Sequence[ArtifactRef]], together: ArtifactRef) -> float:
    """Return the minutes of trainings that ran side by side, seed by seed, and of putting them together."""

    def seconds(ref: ArtifactRef) -> float:
        return float(ArtifactStore.from_ref(ref).run_record(ref)["seconds"])

    return (max(sum(seconds(ref) for ref in trained) for trained in seeds) + seconds(together)) / 60.0


def uncertainty(refs: Mapping[str, ArtifactRef]) -> str:
    """One row per model or fold with a calibrated uncertainty: how true it is on rows it never saw."""
    rows = []
    for name, report in _uncertainty_reports(refs):
        ninety_five = report["coverage"]["0.95"]
        rows.append(
            (
                name, f"{report['n']:,}", f"{report['calibration_error']:.4f}",
                f"{100 * ninety_five['share']:.1f} % [{100 * ninety_five['low']:.1f}, {100 * ninety_five['high']:.1f}]",
                _four(report["sharpness"]), _four(report["rmse"]), _four(report["crps"]),
                "-" if report["spearman"] is None else f"{report['spearman']:.2f}",
            )
        )  # fmt: skip
    header = ("model", "rows", "calibration error", "95 % intervals hold", "stated", "RMSE", "CRPS", "Spearman")
    return table(header, rows)


def _uncertainty_reports(refs: Mapping[str, ArtifactRef]) -> Iterable[tuple[str, dict[str, Any]]]:
    for name, ref in refs.items():
        store = ArtifactStore.from_ref(ref)
        if ref.kind == "model":
            yield name, json.loads(store.read_bytes(ref, "uncertainty.json"))
            continue
        result = json.loads(store.read_bytes(ref, RESULT))
        if "uncertainty" in result:
            yield name, result["uncertainty"]


def classes(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """One row per model that tells two classes apart."""
    names = ("accuracy", "balanced_accuracy", "precision", "recall", "f1", "auc")
    rows = [
        (name, f"{metrics['n']:,}", f"{metrics['n_positive']:,}", *(f"{metrics[key]:.4f}" for key in names))
        for name, metrics in measured.items()
    ]
    return table(("model", "rows", "of class 1", *(name.replace("_", " ") for name in names)), rows)


def summary_of(ref: ArtifactRef) -> dict[str, Any]:
    """Return the numbers of a cross-validation."""
    summary: dict[str, Any] = json.loads(ArtifactStore.from_ref(ref).read_bytes(ref, SUMMARY))
    return summary


def comparison(ref: ArtifactRef, published: Mapping[str, str] | None = None) -> str:
    """Return the entries of a cross-validation and what their differences are worth."""
    summary = summary_of(ref)
    sizes = {line["size"] for line in summary["entries"]}
    took = minutes(ref)
    rows = [
        (
            line["entry"], f"{line['n_train']:,}", line["n_folds"], line["n_seeds"], _four(line["mae"]),
            "-" if line["low"] is None else f"{_four(line['low'])} to {_four(line['high'])}",
            (published or {}).get(line["entry"], ""), f"{took[line['entry'], line['size']]:.1f} min",
        )
        for line in summary["entries"]
    ]  # fmt: skip
    parts = [table(("entry", "rows", "folds", "seeds", "MAE", "interval", "published", "time"), rows)]
    if len(sizes) > 1:
        crossings = [
            (pair["first"], pair["second"], ", ".join(f"{size:,.0f}" for size in pair["sizes"]) or "no crossing")
            for pair in summary["crossings"]
        ]
        parts.append(f"{CROSSINGS}\n\n{table(('learning curve', 'and', 'cross at rows'), crossings)}")
    elif summary["comparisons"]:
        parts.append(f"{DIFFERENCES}\n\n{_differences(summary['comparisons'])}")
    return "\n".join(parts)


def out_of_order(ref: ArtifactRef, published: Mapping[str, str]) -> str:
    """Say which entries stand the other way round than published; equal errors stand neither way."""
    ours = {line["entry"]: float(line["mae"]) for line in summary_of(ref)["entries"] if line["entry"] in published}
    turned = [
        f"{first} ({_four(ours[first])}; published {published[first]}) before {second} ({_four(ours[second])}; "
        f"{published[second]})"
        for first in sorted(ours, key=lambda name: ours[name])
        for second in sorted(ours, key=lambda name: ours[name])
        if ours[first] < ours[second] and float(published[first]) > float(published[second])
    ]
    order = " < ".join(sorted(ours, key=lambda name: ours[name]))
    where = f"The published order does not hold for {'; '.join(turned)}" if turned else "The published order holds"
    return f"In order of their errors: {order}. {where}.\n"


def minutes(ref: ArtifactRef) -> dict[tuple[str, int | None], float]:
    """Return what the folds of each entry and size took together [min]; 0 for those that were not timed."""
    store = ArtifactStore.from_ref(ref)
    manifest = store.manifest(ref)
    took: dict[tuple[str, int | None], float] = {}
    for number, run in enumerate(manifest.parameters["runs"]):
        fold = store.find(manifest.inputs[f"run_{number:04d}"].key)
        seconds = 0.0 if fold is None else float(store.run_record(fold)["seconds"])
        where = (run["entry"], run["size"])
        took[where] = took.get(where, 0.0) + seconds / 60.0
    return took


def _differences(pairs: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (
            pair["first"], pair["second"], f"{pair['difference']:+.4f}", f"{pair['low']:+.4f} to {pair['high']:+.4f}",
            f"{pair['p_adjusted']:.3g}", f"{pair['better_folds']} of {pair['n_folds']}",
            "-" if "spearman" not in pair else f"{pair['spearman']:.2f}",
        )
        for pair in pairs
    ]  # fmt: skip
    header = ("first", "second", "first minus second", "interval", "p", "folds better", "errors by element, Spearman")
    return table(header, rows)


def folds(ref: ArtifactRef) -> str:
    """Return the error of every entry on every fold, side by side."""
    summary = summary_of(ref)
    names = list(dict.fromkeys(run["fold"] for line in summary["entries"] for run in line["runs"]))
    rows = []
    for line in summary["entries"]:
        by_fold = {run["fold"]: run["mae"] for run in line["runs"]}
        rows.append((line["entry"], *(_four(by_fold[name]) if name in by_fold else "-" for name in names)))
    return f"{FOLD_BY_FOLD}\n\n{table(('entry', *names), rows)}"


def _four(value: float) -> str:
    return f"{value:.4f}"
