"""The ranking of lithium compounds, end to end, with what it says of compounds whose answer is known.

    python -m benchmarks.accuracy_ranking --store STORE [--dask PROFILE]

Candidates are `lithium_structures` of `ELEMSCREEN_REFERENCE_DATA`, moduli and tensors those of `elastic_structures`,
the hull for the windows `mp_formation_energy`. docs/accuracy/ranking.md is written at the end.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from pymatgen.analysis.structure_matcher import StructureMatcher
from scipy.stats import spearmanr

from benchmarks.run import machine
from benchmarks.screen_page import table
from deployments.commands.electrolytes import PRESETS
from deployments.commands.run import run_flow
from flows.parameters import RankFlowParameters
from flows.rank import rank
from models.candidate_filters import not_metallic
from models.crystal_stability import InterfaceParameters
from models.errors import InputError
from models.formula import parse_many
from models.hypothetical import Templates, hypothetical_structure, substitutions
from models.structures import parse_structure
from storage.root import store_root
from storage.store import ArtifactStore
from tasks.interface_table import interface_table
from tasks.parameters import RankParameters

PAGE = Path(__file__).resolve().parents[1] / "docs" / "accuracy" / "ranking.md"
NAMED = {
    "mp-867695": "Li2WS4", "mp-753195": "Li2WS4", "mp-30209": "LiBH4", "mp-135": "Li", "mp-976982": "Li2Mg",
    "mp-1021323": "LiC12", "mp-625998": "LiOH",
}  # fmt: skip
"""Compounds that are asked after by name."""
SOFTEST = 0.05
N_SUBSTITUTED = 300
SHOWN = ("rank", "material_id", "formula", "chi", "lambda_crit_nm", "probability_stable", "shear_modulus_vrh",
         "bulk_modulus_vrh", "volume_ratio", "moduli_source")  # fmt: skip
Outcome = tuple[pd.DataFrame, pd.DataFrame, float]


def data() -> Path:
    """Return the folder of the reference data."""
    return Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", "../shared/data"))


def ranked(where: dict[str, Any], **given: Any) -> Outcome:
    """Return the ranking, what was left out of it, and the time it took [s]."""
    began = time.perf_counter()
    ref = run_flow(rank, RankFlowParameters(electrolytes=str(data() / "lithium_structures.parquet"), **given, **where))
    seconds = time.perf_counter() - began
    held = ArtifactStore.from_ref(ref)
    return held.read_table(ref).to_pandas(), held.read_table(ref, "excluded").to_pandas(), seconds


def without_candidates(folder: Path) -> Path:
    """Write the crystals with moduli whose formula none of the candidates has."""
    names = pd.read_parquet(data() / "lithium_structures.parquet", columns=["formula"])["formula"].tolist()
    crystals = pd.read_parquet(data() / "elastic_structures.parquet")
    reduced = pd.Series(parse_many(crystals["formula"].tolist()).reduced, index=crystals.index)
    file = folder / "unseen.parquet"
    crystals[~reduced.isin(parse_many(names).reduced)].to_parquet(file)
    return file


def first_rows(rows: pd.DataFrame, n: int = 10) -> str:
    """Return the first rows of a ranking as a table."""
    lines = [
        [f"{value:.3g}" if isinstance(value, float) else value for value in row]
        for row in rows.head(n)[list(SHOWN)].itertuples(index=False)
    ]
    return table(SHOWN, lines)


def fates(outcome: Outcome) -> str:
    """Say what became of the compounds that are asked after."""
    rows, left = outcome[0].set_index("material_id"), outcome[1].set_index("material_id")
    lines = []
    for identifier, name in NAMED.items():
        if identifier in rows.index:
            row = rows.loc[identifier]
            fate = f"rank {row['rank']}, chi {row['chi']:.3f} kJ/mol/nm, moduli {row['moduli_source']}"
        elif identifier in left.index:
            fate = f"left out, {left.loc[identifier, 'stage']}: {left.loc[identifier, 'reason']}"
        else:
            fate = "no candidate"
        lines.append((name, identifier, fate))
    return table(("compound", "identifier", "what became of it"), lines)


def against_stated(unseen: pd.DataFrame, stated: pd.DataFrame) -> str:
    """Compare predictions that never saw a candidate's formula with the stated moduli."""
    known = stated[stated["moduli_source"] == "stated"]
    both = known.merge(unseen, on="material_id", suffixes=("", "_predicted"))
    n = max(round(SOFTEST * len(both)), 1)
    softest = set(both.nsmallest(n, "shear_modulus_vrh")["material_id"])
    found = len(softest & set(both.nsmallest(n, "shear_modulus_vrh_predicted")["material_id"]))
    errors = np.log10(both["shear_modulus_vrh_predicted"] / both["shear_modulus_vrh"])
    lines = [
        ("compounds with stated moduli", f"{len(both)}"),
        (f"of the {n} softest ({SOFTEST:.0%}) among the {n} softest predicted", f"{found} ({found / n:.0%})"),
        ("Spearman, chi", f"{spearmanr(both['chi'], both['chi_predicted']).statistic:.3f}"),
        ("Spearman, G", f"{spearmanr(both['shear_modulus_vrh'], both['shear_modulus_vrh_predicted']).statistic:.3f}"),
        ("RMSE of log10 G", f"{np.sqrt((errors**2).mean()):.3f}"),
        ("stated chi below 0: predicted P(chi < 0)", ", ".join(
            f"{row.formula} {row.probability_stable_predicted:.2f}" for row in both[both["chi"] < 0].itertuples()
        ) or "none"),
    ]  # fmt: skip
    return table(("what", "value"), lines)


def interfaces(root: str, folder: Path) -> str:
    """Judge the crystals of the published screen on all facets of lithium and all planes, and by its convention."""
    rows = pd.read_parquet(data() / "electrodeposition_tensors.parquet")
    kept = not_metallic(rows).kept
    file = folder / "tensors.parquet"
    kept.rename(columns={"conventional_lattice": "lattice"}).to_parquet(file)
    usual, compared = InterfaceParameters(), InterfaceParameters(convention="published")
    judged, published = (interface_table(root, str(file), one).table.to_pandas() for one in (usual, compared))
    gaps = pd.read_parquet(data() / "lithium_structures.parquet").set_index("material_id")["band_gap"]
    found = []
    for name, ours in judged.groupby("material_id"):
        theirs = published[published["material_id"] == name]
        claimed, negative = int(ours["stable"].eq(True).sum()), int((theirs["chi"] < 0).sum())
        if claimed or negative:
            gap = f"{gaps[name]:.1f} eV" if name in gaps else ""
            of = (f"{claimed} of {ours['chi'].notna().sum()}", f"{negative} of {len(theirs)}")
            lowest = [f"{part['chi'].min():.2f}" for part in (ours, theirs)]
            line = (ours["formula"].iloc[0], name, gap, of[0], lowest[0], of[1], lowest[1])
            found.append(((-claimed, name), line))
    header = ("compound", "identifier", "gap", "stable", "lowest chi", "chi < 0, published", "lowest chi, published")
    lines = [line for _, line in sorted(found)]
    return (
        f"Of {len(rows)} crystals {len(kept)} hold an anion former. Those with an interface that is stable in all "
        f"directions, with P of {usual.min_probability:g} at least, or that has a chi below 0 by the convention of the "
        "published screen (`--convention published`). chi in kJ/mol/nm; gaps where `lithium_structures` has them.\n\n"
        f"{table(header, lines)}\nPublished: after conductors and alloys were dropped, 21 interfaces of two Li2WS4, "
        "LiBH4 and LiOH (Ahmad et al., ACS Cent. Sci. 4, 996, 2018).\n"
    )


def substituted() -> str:
    """Say how far substitution finds known structures again when every row of the formula is left out."""
    frame = pd.read_parquet(data() / "lithium_structures.parquet")
    frame = frame[frame["energy_above_hull"] <= 0.05].reset_index(drop=True)
    lowest = frame.loc[frame.groupby("formula")["energy_above_hull"].idxmin()]
    chosen = lowest.sample(min(N_SUBSTITUTED, len(lowest)), random_state=0)
    matcher = StructureMatcher(attempt_supercell=False)
    found: list[tuple[bool, bool, float, float]] = []
    for row in chosen.itertuples():
        rest = frame[frame["formula"] != row.formula]
        identifiers, formulas, texts = (rest[name].tolist() for name in ("material_id", "formula", "cif"))
        known = Templates.of_compounds(identifiers, formulas, texts, rest["energy_above_hull"].to_numpy(float))
        made, template = [], None
        try:
            for way in substitutions(parse_many([row.formula]), [known], 3):
                made.append(hypothetical_structure(way))
                template = template or parse_structure(way.structure)
        except InputError:  # none of its stoichiometry, or one that cannot be scaled
            pass
        if template is None:
            continue
        true = parse_structure(row.cif)
        fits = [bool(matcher.fit(true, one)) for one in made]
        scaled, copied = (abs(np.log(one.volume / len(one) * len(true) / true.volume)) for one in (made[0], template))
        found.append((fits[0], any(fits), scaled, copied))
    first, any_of, volume, copied = (np.mean([one[place] for one in found]) for place in range(4))
    lines = [
        ("compounds, a formula each", len(chosen)),
        ("of them with a template", len(found)),
        ("of these, the likeliest structure is the true one (pymatgen's StructureMatcher)", f"{first:.0%}"),
        ("of these, one of the three likeliest is", f"{any_of:.0%}"),
        ("mean error of the logarithm of the volume, of the likeliest", f"{volume:.3f}"),
        ("the same with the template's volume per atom, unscaled", f"{copied:.3f}"),
    ]
    return table(("what", "value"), lines) + (
        "\nFar better than it would be for compounds that nobody has made: databases hold many structures that were "
        "made by just such exchanges, and the probabilities were mined from measured structures, some of these among "
        "them.\n"
    )


def main() -> None:
    """Rank, compare, and write the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.accuracy_ranking", description=__doc__)
    parser.add_argument("--store")
    parser.add_argument("--dask", default="local")
    arguments = parser.parse_args()
    where = {"store": arguments.store, "cluster": arguments.dask}
    crystals, phases = str(data() / "elastic_structures.parquet"), str(data() / "mp_formation_energy.parquet")
    with tempfile.TemporaryDirectory() as folder:
        mechanical = ranked(where, structures=crystals, stated=crystals)
        unseen = ranked(where, structures=str(without_candidates(Path(folder))))
        full = ranked(
            where, structures=crystals, stated=crystals, phases=phases,
            ranking=RankParameters.model_validate(PRESETS["full"]),
        )  # fmt: skip
        oriented = interfaces(store_root(arguments.store), Path(folder))
    text = (
        "# Ranking of lithium compounds\n\nWritten by `python -m benchmarks.accuracy_ranking --store STORE`. The 2,291 "
        "rows of `lithium_structures`; stated moduli are those of `elastic_structures`, from which the "
        f"models learn, too.\n\n{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}\n\n"
        "## Mechanical preset\n\nEnergy above hull at most 0.05 eV/atom, gap at least 1 eV. "
        f"{len(mechanical[0]):,} ranked, {len(mechanical[1]):,} left out with a reason; "
        f"{mechanical[2] / 60:.1f} minutes, with what the store did not have yet of graphs and networks.\n\n"
        f"{first_rows(mechanical[0])}\n{fates(mechanical)}\n"
        "## With every candidate's formula left out of the training\n\nNo stated moduli; "
        f"{len(unseen[0]):,} ranked.\n\n{first_rows(unseen[0])}\n{fates(unseen)}\n"
        f"{against_stated(unseen[0], mechanical[0])}\n"
        "## Full preset\n\nAlso a window from 1 to 2 V against lithium at least, and no metal that lithium reduces. "
        f"{len(full[0]):,} ranked; {full[2] / 60:.1f} minutes with networks from the store.\n\n{first_rows(full[0])}\n"
        f"{fates(full)}\n## Interfaces, from full tensors\n\n{oriented}\n## Structures by substitution\n\n"
        "Known compounds of lithium within 0.05 eV/atom of the hull, "
        "each made from the others with every row of its formula left out.\n\n"
        f"{substituted()}"
    )
    PAGE.write_text(text)
    print(text, PAGE, sep="\n")


if __name__ == "__main__":
    main()
