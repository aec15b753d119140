"""The screen of all 446,597,140 compositions, from its artifacts, into docs/whole-space.md.

Network, phases and the list of known compositions are those of benchmarks/campaigns/first-campaign.yaml:

elemscreen screen --model M --phases P --known K --arity 2,3,4 --precision fast --store STORE
elemscreen screen --model M --phases P ... --precision fp32 --store STORE       (a part of it, to compare with)
python -m benchmarks.whole_space STORE [--note "what the machine did besides"] [--against KEY_OF_AN_FP32_SCREEN]
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.first_campaign import canaries, table
from benchmarks.run import machine
from models.cascade import Band
from models.categories import ALL, CATEGORIES, F_ELEMENTS, TABLE_3_3
from models.errors import InputError
from models.space import CompositionSpace
from storage.artifact import ArtifactRef
from storage.catalog import catalog
from storage.store import ArtifactStore
from tasks.loading import load_card
from tasks.parameters import SpaceParameters
from tasks.screen import STAGE_VERSION
from tasks.spaces import composition_space

#: Jha, dissertation: chemical systems with a candidate, by number of elements, and compositions.
PUBLISHED_SYSTEMS = {2: 232, 3: 14_366, 4: 353_352}
PUBLISHED_COMPOSITIONS = "4.3 million"
FLOP_PER_COMPOSITION = 2 * 4_624_416
PAGE = Path("docs/whole-space.md")
DIFFERENCES = """Same rule and threshold, other data. The published network
learned from 256,622 compounds of the OQMD and its candidates were held against the OQMD's whole hull; this one learned
from 133,340, and its hull lacks the energies of some 150,000 compositions that the OQMD has, so that in most systems
there is more room below it. Both lists are led by what a network cannot know: the dissertation says of its own KF6,
NaF8, OF9 and SeF9 that they are unlikely, and that compounds rich in fluorine come out too low. Of its systems over a
fifth hold a lanthanide or actinide; here it is more. What the candidates are made of:"""


def whole_screen(store: ArtifactStore) -> ArtifactRef:
    """Return the newest candidates of all compositions."""
    for row in catalog(store, "candidates"):
        found = store.resolve(row.key)
        if store.manifest(found).counts.get("screened") == len(CompositionSpace()):
            return found
    raise SystemExit(f"{store.root} holds no screen of all {len(CompositionSpace()):,} compositions; run it first")


def network(store: ArtifactStore, candidates: ArtifactRef) -> str:
    card = load_card(store.resolve(store.manifest(candidates).inputs["network"].key))
    return f"validation MAE {card.metrics['validation']['mae']:.4f} eV/atom on {card.split['validation']:,} rows"


def parts_of(store: ArtifactStore, candidates: ArtifactRef) -> list[ArtifactRef]:
    """Return the parts of a screen: those of its network, phases, precision and threshold."""
    manifest = store.manifest(candidates)
    spaces = [composition_space(SpaceParameters(**space)).to_dict() for space in manifest.parameters["spaces"]]
    found = []
    for row in catalog(store, "candidates_part"):
        part = store.resolve(row.key)
        header = store.manifest(part)
        same = header.parameters["threshold"] == manifest.parameters["threshold"]
        same &= header.parameters.get("precision") == manifest.parameters["precision"]
        same &= header.parameters["space"] in spaces and header.stage_version == STAGE_VERSION
        same &= set(header.inputs) <= set(manifest.inputs)  # no student, where the screen had none
        same &= all(
            header.inputs[role].digest == record.digest
            for role, record in manifest.inputs.items()
            if role in header.inputs
        )
        if same:
            found.append(part)
    counts = [store.manifest(part).counts for part in found]
    screened = sum(n for one in counts for name, n in one.items() if name.startswith("screened_"))
    if screened != manifest.counts["screened"]:
        raise InputError(
            f"the parts in the store hold {screened:,} compositions, the screen {manifest.counts['screened']:,}: parts "
            "of other blocks lie beside them, or some are gone; screen into a store of its own"
        )
    return found


def by_arity(store: ArtifactStore, candidates: ArtifactRef) -> str:
    counts = store.manifest(candidates).counts
    groups = store.read_table(candidates, "categories").to_pandas()
    groups = groups[groups["category"] == ALL].set_index("arity")
    rows: list[tuple[Any, ...]] = []
    for k in (2, 3, 4):
        found = groups.loc[k]
        rows.append(
            (k, f"{counts[f'systems_{k}']:,}", f"{counts[f'screened_{k}']:,}", f"{found['compositions']:,}",
             f"{found['systems']:,}", f"{PUBLISHED_SYSTEMS[k]:,}", f"{found['compositions_after']:,}",
             f"{found['systems_after']:,}")
        )  # fmt: skip
    rows.append(
        ("all", f"{counts['systems']:,}", f"{counts['screened']:,}", f"{counts['below']:,}",
         f"{groups['systems'].sum():,}", f"{sum(PUBLISHED_SYSTEMS.values()):,}",
         f"{groups['compositions_after'].sum():,}", f"{groups['systems_after'].sum():,}")
    )  # fmt: skip
    header = ("elements", "systems", "compositions", "at or below the threshold", "in systems", "published: systems",
              "left without flags", "in systems")  # fmt: skip
    return table(rows, header)


def by_category(store: ArtifactStore, candidates: ArtifactRef) -> str:
    frame = store.read_table(candidates, "categories").to_pandas().set_index(["category", "arity"])
    rows = []
    for category in CATEGORIES:
        for place, k in enumerate((2, 3, 4)):
            if (category, k) in frame.index:
                found, published = frame.loc[(category, k)], TABLE_3_3[category][place]
                rows.append(
                    (category, k, f"{found['systems']:,}", f"{found['compositions']:,}", f"{found['systems_after']:,}",
                     "" if published is None else f"{published:,}")
                )  # fmt: skip
    header = ("category", "elements", "systems", "compositions", "systems without flags", "published: systems")
    return table(rows, header)


def flags(store: ArtifactStore, candidates: ArtifactRef) -> str:
    counts = store.manifest(candidates).counts
    rows = [("at or below the threshold", f"{counts['below']:,}")]
    rows += [
        (f"after {name.replace('_', ' ')}", f"{counts[f'left_after_{name}']:,}")
        for name in ("known", "hull_incomplete", "out_of_domain")
    ]
    return table(rows, ("taken out in turn", "left"))


def shares(store: ArtifactStore, candidates: ArtifactRef) -> str:
    """Say what the candidates are made of, which is what explains their number."""
    rows = store.read_table(candidates, columns=["chemsys", "hull_incomplete", "charge_neutral"])
    systems = rows.column("chemsys").combine_chunks().dictionary_encode()
    system = systems.indices.to_numpy()

    def holding(*elements: str) -> tuple[float, float]:
        pattern = rf"(^|-)({'|'.join(elements)})(-|$)"
        matches = pc.match_substring_regex(systems.dictionary, pattern).to_numpy(zero_copy_only=False)
        return float(matches[system].mean()), float(matches.mean())

    neutral = rows.column("charge_neutral").drop_null()
    found: list[tuple[Any, ...]] = [
        (name, *(f"{share:.1%}" for share in holding(*elements)))
        for name, elements in (
            ("with fluorine", ("F",)),
            ("with another halogen", ("Cl", "Br", "I")),
            ("with oxygen", ("O",)),
            ("with a lanthanide or actinide", F_ELEMENTS),
        )
    ]
    incomplete, unbalanced = pc.mean(rows.column("hull_incomplete")).as_py(), 1 - pc.mean(neutral).as_py()
    found.append(("in a system whose hull is incomplete", f"{incomplete:.1%}", ""))
    found.append(("not to be balanced by integer charges, of those where it is asked", f"{unbalanced:.1%}", ""))
    return table(found, ("candidates", "of compositions", "of systems"))


def effort(store: ArtifactStore, candidates: ArtifactRef) -> str:
    parts = parts_of(store, candidates)
    records = sorted((store.run_record(part) for part in parts), key=lambda record: record["started"])
    tenth = max(1, len(records) // 10)
    first, last = (max(r["peak_rss_bytes"] for r in some) / 1e9 for some in (records[:tenth], records[-tenth:]))
    counts = store.manifest(candidates).counts
    busy = sum(record["seconds"] for record in records)
    started = min(dt.datetime.fromisoformat(record["started"]) for record in records)
    finished = max(dt.datetime.fromisoformat(record["finished"]) for record in records)
    n = counts["screened"]
    rows = [
        ("blocks", f"{len(parts):,}"),
        ("from the first block's start to the last one's end", f"{(finished - started).total_seconds() / 60:.0f} min"),
        ("seconds of workers", f"{busy:,.0f}"),
        ("compositions/s and worker", f"{n / busy:,.0f}"),
        ("fp32 operations that they stand for", f"{n * FLOP_PER_COMPOSITION / busy / 1e9:,.0f} GFLOP/s and worker"),
        ("largest memory of a worker", f"{max(r['peak_rss_bytes'] for r in records) / 1e9:.2f} GB "
                                       f"({first:.2f} GB in the first tenth of the blocks, {last:.2f} GB in the last)"),
        ("merge", f"{store.run_record(candidates)['seconds']:,.0f} s, "
                  f"{store.run_record(candidates)['peak_rss_bytes'] / 1e9:.2f} GB"),
        ("computed again in fp32", f"{counts['decided_again']:,} ({counts['decided_again'] / n:.2%})"),
        ("decided in float64", f"{counts['decided_at_threshold']:,}"),
    ]  # fmt: skip
    return table(rows, ("what", "how much"))


def band(store: ArtifactStore, candidates: ArtifactRef) -> str:
    record = store.manifest(candidates).inputs.get("precision")
    if record is None:
        return "Every composition was computed in fp32."
    measured = json.loads(store.read_bytes(store.resolve(record.key), "precision.json"))
    said = [
        f"The {name} sieve computes in {one.kind}. On {one.n_sample:,} random compositions it deviated from "
        f"fp32 by {one.mean * 1e3:.1f} meV on average and {one.largest * 1e3:.1f} meV at most; it leaves what it puts "
        f"within {one.width * 1e3:.1f} meV above the threshold, or below it."
        for name, one in zip(("first", "second"), Band.from_dict(measured).sieves, strict=False)
    ]
    return " ".join([*said, "What is left was computed again in fp32."])


def same_as(store: ArtifactStore, candidates: ArtifactRef, key: str) -> str:
    """Compare with an fp32 screen of a part of the space, row by row."""
    other = store.resolve(key)
    columns = ["index", "formation_energy_per_atom", "decomposition_energy"]
    spaces = store.manifest(other).parameters["spaces"]
    theirs = store.read_table(other, columns=columns)
    ours = _inside(store.read_table(candidates, columns=[*columns, "formula", "arity"]), spaces)
    equal = all(ours.column(name).equals(theirs.column(name)) for name in columns)
    return (
        f"An fp32 screen of {store.manifest(other).counts['screened']:,} of these compositions ({key}) found "
        f"{theirs.num_rows:,} of them at or below the threshold; this one finds {ours.num_rows:,} there: "
        + ("the same ones, with the same energies to the last bit." if equal else "**not the same ones.**")
    )


def _inside(rows: pa.Table, spaces: list[dict[str, Any]]) -> pa.Table:
    """Return the rows that belong to one of the spaces."""
    from tasks.candidate_columns import compositions_of

    whole = composition_space(SpaceParameters(arities=(2, 3, 4)))
    found = compositions_of(rows, whole)
    wanted = np.zeros(rows.num_rows, dtype=bool)
    for parameters in spaces:
        wanted |= composition_space(SpaceParameters(**parameters)).rank(found.elements, found.counts) >= 0
    return rows.filter(pa.array(wanted)).combine_chunks()


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("store")
    parser.add_argument("--note", default="")
    parser.add_argument("--against")
    options = parser.parse_args()
    store = ArtifactStore(options.store)
    candidates = whole_screen(store)
    text = f"""# All 446,597,140 compositions

Written by `python -m benchmarks.whole_space STORE` on {dt.datetime.now(dt.UTC):%Y-%m-%d} from the artifacts of
`elemscreen screen --arity 2,3,4 --precision fast`: every binary, ternary and quaternary composition of 86 elements with
at most ten atoms, by an ElemNet trained on the OQMD's formation energies ({network(store, candidates)}), against the
hull of the same data; threshold {store.manifest(candidates).parameters["threshold"]} eV/atom.

{machine()}. {options.note}

## What was found

{by_arity(store, candidates)}

Published: Jha's dissertation, which also states {PUBLISHED_COMPOSITIONS} compositions. {DIFFERENCES}

{shares(store, candidates)}

Flags:

{flags(store, candidates)}

{by_category(store, candidates)}

Categories of the dissertation's Table 3.3, lanthanides and actinides left out.

## Compositions that no chemist believes

{canaries(store, {"candidates": candidates})}

## What it took

{effort(store, candidates)}

{band(store, candidates)}

{same_as(store, candidates, options.against) if options.against else ""}
"""
    PAGE.write_text(text.rstrip() + "\n")
    print(PAGE)


if __name__ == "__main__":
    main()
