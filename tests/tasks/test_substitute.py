"""Structures by substitution: what is made, what is refused, and that a ranking says which they are."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from models.errors import InputError
from models.structures import parse_structure
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.featurize import featurize_graphs
from tasks.ingest import ingest
from tasks.moduli import predict_moduli
from tasks.parameters import RankParameters, SourceParameters
from tasks.rank import rank
from tasks.substitute import TABLE, SubstituteParameters, substitute

FORMULAS = ["LiI", "Li2O2", "LiF", "RbF", "Li7P3S11", "LiI"]


@pytest.fixture(scope="module")
def wanted(stages: Any, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    path: Path = tmp_path_factory.mktemp("wanted") / "formulas.csv"
    above = [0.05, 0.01, 0.02, 0.03, 0.04, 0.0]
    pd.DataFrame({"formula": FORMULAS, "energy_above_hull": above, "id": range(len(FORMULAS))}).to_csv(
        path, index=False
    )
    return stages.run(ingest, SourceParameters(source=f"file:{path}", columns={"id": "material_id"}))


@pytest.fixture(scope="module")
def made(stages: Any, wanted: ArtifactRef) -> ArtifactRef:
    return stages.run(substitute, wanted, stages.structures, SubstituteParameters(prototypes=False))


def test_every_composition_has_structures_or_a_reason(stages: Any, made: ArtifactRef) -> None:
    store: ArtifactStore = stages.store
    table = store.read_table(made).to_pandas()
    reasons = {row["formula"]: row["reason"] for row in store.read_table(made, "rejected").to_pylist()}
    assert set(table["formula"]) == {"LiI", "RbF"}
    assert set(reasons) == {"LiF", "Li2O2", "Li7P3S11"}
    assert reasons["LiF"].startswith("its structure is known: ")
    assert reasons["Li7P3S11"] == "no known structure has its stoichiometry"
    # CsCl structures of the tiny table lie 0.2 eV/atom above the hull
    assert table["prototype"].str.contains("rocksalt|ZnS").all()
    assert (table.groupby("formula").size() == 3).all()
    assert set(table["source"]) == {"substitution"}
    assert set(table["source_version"]) == {stages.structures.key}
    assert table.loc[table["formula"] == "LiI", "energy_above_hull"].eq(0.0).all()  # the lower of the two rows
    for row in table.to_dict("records"):
        assert parse_structure(row["structure"]).composition.reduced_formula == row["formula"]
    counts = store.manifest(made).counts
    assert (counts["compositions"], counts["structures"], counts["compositions_with_structure"]) == (5, 6, 2)


def test_what_was_exchanged_is_stated(stages: Any, made: ArtifactRef) -> None:
    store: ArtifactStore = stages.store
    ways = store.read_table(made, TABLE).to_pandas()
    table = store.read_table(made).to_pandas()
    assert ways["material_id"].tolist() == table["material_id"].tolist()
    assert (ways["log10_probability"] <= 0).all()
    for formula, part in ways.groupby("formula"):
        assert (part["log10_probability"].diff().dropna() <= 1e-12).all()
        elements = {"LiI": {"Li", "I"}, "RbF": {"Rb", "F"}}[str(formula)]
        assert all(set(json.loads(text).values()) == elements for text in part["exchanged"])


def test_a_ranking_says_which_structures_are_hypothetical(stages: Any, made: ArtifactRef) -> None:
    graphs = stages.run(featurize_graphs, made)
    moduli = stages.run(predict_moduli, stages.moduli_network, graphs)
    ranked = stages.store.read_table(stages.run(rank, made, moduli, RankParameters(min_band_gap=None))).to_pandas()
    assert set(ranked["formula"]) == {"LiI"}
    assert ranked["hypothetical"].all()
    known = stages.run(rank, stages.structures, stages.moduli, RankParameters(min_band_gap=None))
    assert not stages.store.read_table(known).to_pandas()["hypothetical"].any()


def test_hypothetical_structures_are_no_templates(stages: Any, made: ArtifactRef, wanted: ArtifactRef) -> None:
    with pytest.raises(InputError, match="no composition got a structure: no known structure has its stoichiometry"):
        stages.run(substitute, wanted, made, SubstituteParameters(prototypes=False))


def test_prototypes_serve_where_no_compound_does(stages: Any, wanted: ArtifactRef) -> None:
    ref = stages.run(substitute, wanted, stages.structures, SubstituteParameters(per_composition=20))
    ways = stages.store.read_table(ref, TABLE).to_pandas()
    assert set(ways["kind"]) == {"compound", "prototype"}
