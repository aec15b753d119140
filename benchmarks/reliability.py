"""What the long proofs proved, from the lines that `make soak` left, into docs/reliability.md.

python -m benchmarks.reliability build/reliability.jsonl ["where the lines come from"]
"""

from __future__ import annotations

import ast
import datetime as dt
import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.run import machine

ROOT = Path(__file__).resolve().parents[1]


def table(header: tuple[str, ...], rows: list[tuple[Any, ...]]) -> str:
    lines = [f"| {' | '.join(header)} |", f"|{' --- |' * len(header)}"]
    return "\n".join([*lines, *(f"| {' | '.join(str(cell) for cell in row)} |" for row in rows)])


def proofs(tests: list[dict[str, Any]]) -> str:
    """One row per file of proofs: what it proves (its first line), cases, failures, time."""
    files: dict[str, list[dict[str, Any]]] = {}
    for test in tests:
        files.setdefault(str(test["test"]).partition("::")[0], []).append(test)
    rows = []
    for name, cases in files.items():
        what = (ast.get_docstring(ast.parse((ROOT / name).read_text())) or name).splitlines()[0]
        failed = sum(case["outcome"] == "failed" for case in cases)
        skipped = sum(case["outcome"] == "skipped" for case in cases)
        seconds = sum(case["seconds"] for case in cases)
        rows.append((what, f"`{name}`", len(cases) - skipped, failed, skipped, f"{seconds / 60:.1f} min"))
    return table(("what", "where", "cases", "failed", "skipped", "time"), rows)


def schedules(lines: list[dict[str, Any]]) -> str:
    kinds = list(lines[0]["faults"])
    rows = [
        (line["source"], line["schedules"], line["equal"], f"{line['requests']:,}", *line["faults"].values())
        for line in lines
    ]
    header = ("source", "schedules", "equal, byte for byte", "requests", *(kind.replace("_", " ") for kind in kinds))
    return table(header, rows)


def kills(lines: list[dict[str, Any]]) -> str:
    rows = [(line["source"], line["kills"], line["equal"], line["pages"], line["pages_asked_twice"]) for line in lines]
    return table(("source", "kills", "same artifact", "pages", "pages asked for twice (under way at the kill)"), rows)


def killed_screens(lines: list[dict[str, Any]]) -> str:
    rows = []
    for what in sorted({line["what"] for line in lines}):
        mine = [line for line in lines if line["what"] == what]
        done = [line["parts_done"] for line in mine]
        rows.append((what, len(mine), len(mine), f"{min(done)} to {max(done)} of {mine[0]['parts']}"))
    return table(("killed", "times", "same candidates, byte for byte", "parts that were done"), rows)


def killed_folds(lines: list[dict[str, Any]]) -> str:
    rows = []
    for epochs in sorted({line["epochs"] for line in lines}):
        mine = [line for line in lines if line["epochs"] == epochs]
        before, after = ([line[name] for line in mine] for name in ("before", "after"))
        rows.append((epochs, len(mine), len(mine), f"{min(before)} to {max(before)}", f"{min(after)} to {max(after)}"))
    header = ("epochs of a fold", "workers killed", "same folds, byte for byte", "epochs before", "and after the kill")
    return table(header, rows)


def main(path: Path, note: str = "Written by `make soak`.") -> None:
    """Write the tables; the note tells where the lines come from, when not from one run."""
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    tests = [line for line in lines if "test" in line]
    parts = [
        f"# Long proofs\n\n{note}\n\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}\n",
        proofs(tests),
    ]
    sections = (
        ("fault schedules", "Databases under faults", schedules),
        ("kills of an ingest", "Killed ingests", kills),
        ("screen killed", "Killed screens", killed_screens),
        ("fold killed", "Killed folds", killed_folds),
    )
    for proof, title, written in sections:
        found = [line for line in lines if line.get("proof") == proof]
        if found:
            parts.append(f"\n## {title}\n\n{written(found)}")
    target = ROOT / "docs" / "reliability.md"
    target.write_text("\n".join(parts) + "\n")
    print(target)


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:3])
