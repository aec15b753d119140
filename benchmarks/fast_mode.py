"""The fast mode against fp32 on the same compositions, all of a screen: a section of docs/benchmarks.md.

elemscreen screen --model M --phases P --required Li --arity 4 --precision fp32 --store STORE
elemscreen screen --model M --phases P --required Li --arity 4 --precision fast --store STORE
python -m benchmarks.fast_mode STORE KEY_OF_THE_FP32_SCREEN KEY_OF_THE_FAST_ONE [--note "what the machine did besides"]
"""

from __future__ import annotations

import argparse
import datetime as dt

from benchmarks.run import machine
from benchmarks.screen import PAGE
from benchmarks.screen_page import table, write_section
from benchmarks.screen_products import instructions
from benchmarks.whole_space import band, parts_of
from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore

TITLE = "Fast mode against fp32"


def require_same_screen(store: ArtifactStore, plain: ArtifactRef, fast: ArtifactRef) -> None:
    """Refuse two screens that differ in more than the precision.

    Raises
    ------
    InputError
        They do, or the first was not computed in fp32 and the second in the fast mode.
    """
    first, second = store.manifest(plain), store.manifest(fast)
    if "precision" in first.inputs or "precision" not in second.inputs:
        raise InputError("give the key of an fp32 screen first, then that of one with --precision fast")
    of_both = [{k: v for k, v in one.parameters.items() if not k.startswith("precision")} for one in (first, second)]
    inputs = [
        {k: v.key for k, v in one.inputs.items() if k in ("network", "phases", "known")} for one in (first, second)
    ]
    if of_both[0] != of_both[1] or inputs[0] != inputs[1]:
        raise InputError("the screens are of other spaces, networks, phases or thresholds: nothing to compare")


def differing_columns(store: ArtifactStore, plain: ArtifactRef, fast: ArtifactRef) -> list[str]:
    """Return the columns of the candidates that are not equal, bit for bit, in the order of the index."""
    ours, theirs = store.read_table(fast), store.read_table(plain)
    names = [name for name in theirs.column_names if name in ours.column_names]
    if ours.num_rows != theirs.num_rows or set(ours.column_names) != set(theirs.column_names):
        return ["rows or names of columns"]
    return [
        name for name in names if not ours.column(name).combine_chunks().equals(theirs.column(name).combine_chunks())
    ]


def line(store: ArtifactStore, ref: ArtifactRef, name: str) -> tuple[str, ...]:
    """Return a row of the table: what was screened, found and decided again, and the time of the workers."""
    counts = store.manifest(ref).counts
    busy = sum(store.run_record(part)["seconds"] for part in parts_of(store, ref))
    return (
        name,
        f"{counts['screened']:,}",
        f"{counts['below']:,}",
        f"{counts['decided_again']:,}",
        f"{counts['decided_at_threshold']:,}",
        f"{counts['screened'] / busy:,.0f}",
    )


def main() -> None:
    """Compare, and write the section."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fast_mode", description=__doc__)
    parser.add_argument("store")
    parser.add_argument("plain", help="key of the fp32 screen")
    parser.add_argument("fast", help="key of the fast screen")
    parser.add_argument("--note", default="", help="what the machine did besides")
    options = parser.parse_args()
    store = ArtifactStore(options.store)
    plain, fast = store.resolve(options.plain), store.resolve(options.fast)
    require_same_screen(store, plain, fast)
    different = differing_columns(store, plain, fast)
    header = (
        "precision",
        "screened",
        "survivors",
        "computed again in fp32",
        "decided in float64",
        "compositions/s and worker",
    )
    rows = [line(store, plain, "fp32"), line(store, fast, "fast")]
    verdict = (
        "**The survivors differ in: " + ", ".join(different) + ".**"
        if different
        else "The survivors are the same compositions, with the same values in every column, to the last bit."
    )
    text = (
        f"## {TITLE}\n\nWritten by `python -m benchmarks.fast_mode STORE FP32 FAST` from two screens by the network "
        f"`{store.manifest(plain).inputs['network'].key}` of every composition of the spaces "
        f"`{store.manifest(plain).parameters['spaces']}`, threshold {store.manifest(plain).parameters['threshold']} "
        f"eV/atom.\n\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}. {instructions()}. {options.note}\n\n"
        f"{table(header, rows)}\n{verdict} {band(store, fast)}\n"
    )
    write_section(PAGE, TITLE, text)
    print(text)


if __name__ == "__main__":
    main()
