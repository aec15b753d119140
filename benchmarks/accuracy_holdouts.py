"""Chemical systems held out whole: errors of networks and forests on them, and the phase diagrams of a network."""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks import accuracy_tables as tables
from benchmarks.accuracy_errors import of_folds, of_model
from benchmarks.screen_page import table
from models.folds import parse_holdout, system_mask
from models.formula import parse_many
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.explain_diagrams import diagram_results
from tasks.explain_parameters import ExplainParameters
from tasks.inputs import as_phases
from tasks.parameters import SourceParameters
from tasks.reporting.figures_diagram import phase_diagram

if TYPE_CHECKING:
    from benchmarks.accuracy import Run

HELD_OUT = ("Ti-O", "Na-Fe-Mn-O")
"""Every compound that contains titanium and oxygen; every compound of at least two of the four elements alone."""
PUBLISHED = (
    "Published, for 561 and 96 entries: ElemNet 0.138 and 0.122, forests 0.198 and 0.179 on Magpie attributes, 0.323 "
    "and 0.405 on fractions (Jha et al., Sci. Rep. 8, 17593 (2018))."
)
"""ElemNet before both forests, on either."""
DIAGRAMS = ("Ti-O", "Na-Mn-O", "Fe-Mn-O", "Na-Fe-O")


def marked(rows: pa.Table, systems: Sequence[str] = HELD_OUT) -> pa.Table:
    """Return rows with the held-out systems as validation rows; those that were validation rows are left out.

    Parameters
    ----------
    rows
        With the columns ``formula`` and ``split``.
    systems
        As `models.folds.parse_holdout` reads them.
    """
    parsed = parse_many(rows.column("formula").to_pylist())
    held = np.logical_or.reduce([system_mask(parsed.elements, *parse_holdout(text)) for text in systems])
    split = np.array(rows.column("split").to_pylist(), dtype=str)
    kept = held | (split == "train")
    place = rows.column_names.index("split")
    return rows.set_column(place, "split", pa.array(np.where(held, "validation", "train"))).filter(pa.array(kept))


def errors(said: pd.DataFrame, systems: Sequence[str] = HELD_OUT) -> dict[str, tuple[int, float]]:
    """Return rows and mean absolute error of each system [eV/atom], from ``formula``, ``truth`` and ``prediction``."""
    elements = parse_many(said["formula"].tolist()).elements
    size = (said["prediction"] - said["truth"]).abs().to_numpy()
    found = {}
    for text in systems:
        held = system_mask(elements, *parse_holdout(text))
        found[text] = (int(held.sum()), float(size[held].mean()))
    return found


def holdouts(run: Run, attention: Mapping[str, Any]) -> str:
    """Hold both systems out at once, train on the rest, and draw."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "held_out.parquet"
        pq.write_table(marked(pq.read_table(run.oqmd)), file)
        rest = type(run)(argparse.Namespace(**vars(run.arguments) | {"oqmd": str(file)}))
        networks = {"ElemNet": rest.train(threads=1), "attention": rest.train(threads=1, epochs=20, **attention)}
        forest = {"network": "random_forest", "threads": 1}
        entries = {"random forest, Magpie": forest | {"representation": "magpie"}, "random forest, fractions": forest}
        forests = rest.compare({name: dict(entry) for name, entry in entries.items()}, {"scheme": "split"})
    said = {name: of_model(ref) for name, ref in networks.items()} | of_folds(forests)
    return page(said) + "\n" + tables.uncertainty(networks) + "\n" + _diagrams(run, networks["ElemNet"])


def page(said: Mapping[str, pd.DataFrame]) -> str:
    """Return the table of errors."""
    by_name = {name: errors(frame) for name, frame in said.items()}
    first = next(iter(by_name.values()))
    header = ("network", *(f"{text}, {n:,} rows" for text, (n, _) in first.items()))
    lines = [(name, *(f"{found[text][1]:.4f}" for text in first)) for name, found in by_name.items()]
    orders = (
        f"{text}: {' < '.join(sorted(by_name, key=lambda name, text=text: by_name[name][text][1]))}" for text in first
    )
    return f"{table(header, lines)}\nIn order of their errors: {'; '.join(orders)}.\n\n{PUBLISHED}\n"


def _diagrams(run: Run, network: ArtifactRef) -> str:
    """Draw the diagrams beside the page; the hull of the known phases has all rows, those held out too."""
    store = ArtifactStore.from_ref(network)
    source = SourceParameters(source=f"file:{run.oqmd}", database="oqmd", functional="pbe")
    phases = as_phases(store.root, run.oqmd, source)
    frame, numbers = diagram_results(store, network, phases, ExplainParameters(systems=DIAGRAMS), False)
    shown = []
    for one in numbers:
        name = f"{one['system'].lower()}.svg"
        rows = frame[frame["system"] == one["system"]].reset_index(drop=True)
        tables.write_figure(name, phase_diagram(rows, one))
        shown.append(f"![{one['system']}, which the network has not seen](accuracy/{name})\n")
    return diagram_table(numbers) + "\n" + "\n".join(shown)


def diagram_table(numbers: Sequence[Mapping[str, Any]]) -> str:
    """Return what the diagrams come to."""
    lines = [
        (
            one["system"], one["training_rows"], one["n_phases"], len(one["stable_both"]),
            len(one["stable_predicted_only"]), len(one["stable_reference_only"]), f"{one['energy_mae']:.4f}",
            f"{one['hull_mae']:.4f}",
        )
        for one in numbers
    ]  # fmt: skip
    header = (
        "system", "compounds learnt", "known phases", "stable in both", "predicted only", "known only",
        "MAE of phases", "MAE of the hull",
    )  # fmt: skip
    return table(header, lines)
