"""The stage `explain` on the tiny chemistry: its tables against independent calls, its page, and what it refuses."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pydantic import ValidationError

from models.activations import layer_activations, principal_components
from models.errors import InputError
from models.formula import parse_many
from models.probe import held_out_systems, probe, property_labels
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.errors import SchemeMismatch
from storage.schemas import SCHEMAS
from storage.scheme import EnergyScheme
from storage.store import ArtifactStore
from tasks.explain import PAGE, RESULT, explain, resolve_table
from tasks.explain_layers import Networks, ab_compounds
from tasks.explain_parameters import ExplainParameters
from tasks.explain_rows import Rows, labels_of, read_rows
from tasks.loading import load_hull, load_predictor
from tasks.train import train_network

PARAMETERS = ExplainParameters(
    layers=("1", "3"),
    elements=("Na", "O"),
    probes=("halogen", "magnetic_3d", "formation_energy_per_atom<-1.5"),
    systems=("Li-O", "Li-Al-F"),
    max_atoms=6,
    n_permutations=19,
    test_share=0.4,
)


@dataclass(frozen=True)
class Explained:
    """An explanation and what it says."""

    ref: ArtifactRef
    result: dict[str, Any]
    page: str

    def table(self, store: ArtifactStore, name: str) -> pd.DataFrame:
        return store.read_table(self.ref, name).to_pandas()


def deep(stages: Any) -> ArtifactRef:
    """Return a network with the published number of layers, of fewer units; trained once."""
    training = stages.training_parameters.model_copy(update={"architecture": {"widths": [32] * 16 + [1]}})
    return stages.run(train_network, stages.features, training)


@pytest.fixture(scope="module")
def explained(stages: Any) -> Explained:
    ref = stages.run(explain, deep(stages), stages.phases, None, PARAMETERS)
    result = json.loads(stages.store.read_bytes(ref, RESULT))
    return Explained(ref, result, stages.store.read_bytes(ref, PAGE).decode())


@pytest.fixture(scope="module")
def formulas(stages: Any) -> list[str]:
    return sorted(stages.store.read_table(stages.phases).column("formula").to_pylist())


def test_tables_have_their_schemas(stages: Any, explained: Explained) -> None:
    for name in ("layer_components", "element_similarity", "probe_roc", "predicted_diagram"):
        assert stages.store.read_table(explained.ref, name).column_names == SCHEMAS[name].arrow.names
    assert explained.ref.kind == "explanation"
    assert stages.counts(explained.ref) == {"rows": explained.result["rows"], "systems": 2, "not_probed": 1}
    again = stages.run(explain, deep(stages), stages.phases, None, PARAMETERS)
    assert again == explained.ref


def test_components_are_those_of_the_layer(stages: Any, explained: Explained, formulas: list[str]) -> None:
    table = explained.table(stages.store, "layer_components")
    assert table.groupby(["set", "layer"]).size().to_dict() == {
        (name, layer): n
        for layer in ("1", "3")
        for name, n in (("elements", 86), ("compounds", 20), ("table", len(formulas)))
    }
    network = load_predictor(deep(stages)).networks[0]
    x = parse_many(formulas).fractions_as(np.float32)
    scores, shares, _ = principal_components(layer_activations(network, x, 3))
    own = table[(table["set"] == "table") & (table["layer"] == "3")]
    assert own["formula"].tolist() == formulas
    assert own[["component_1", "component_2"]].to_numpy() == pytest.approx(scores)
    assert explained.result["explained"]["table"]["3"] == pytest.approx(shares.tolist())
    # coloured by the first probe
    halogens = property_labels("halogen", parse_many(formulas))[0]
    assert own["label"].tolist() == ["yes" if has else "no" for has in halogens]


def test_similarity_and_its_numbers(stages: Any, explained: Explained) -> None:
    table, result = explained.table(stages.store, "element_similarity"), explained.result
    assert set(table["layer"]) == {"1", "3"}
    matrix = table[table["layer"] == "3"]["similarity"].to_numpy().reshape(86, 86)
    x = np.eye(86, dtype=np.float32)
    vectors = layer_activations(load_predictor(deep(stages)).networks[0], x, 3).astype(np.float64)
    vectors -= vectors.mean(axis=0)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert matrix == pytest.approx(unit @ unit.T, abs=1e-6)
    agreement = {(entry["network"], entry["layer"]): entry for entry in result["agreement"]}
    assert set(agreement) == {(name, str(k)) for name in ("trained", "untrained") for k in range(1, 17)}
    nearest = {layer: agreement["trained", layer]["nearest"] for layer in ("1", "3")}
    assert result["map_layer"] in nearest
    assert nearest[result["map_layer"]] == max(nearest.values())
    mapped = table[table["layer"] == result["map_layer"]].set_index(["element", "other"])["similarity"]
    for element in ("Na", "O"):
        likes = result["neighbours"][element]
        assert len(likes) == 5
        others = mapped[element].drop(element)
        assert [value for _, value in likes] == pytest.approx(others.nlargest(5).tolist())
        assert all(mapped[element][symbol] == pytest.approx(value) for symbol, value in likes)


def test_probes_are_those_of_the_model(stages: Any, explained: Explained, formulas: list[str]) -> None:
    result = explained.result
    areas = {(e["probe"], e["network"], e["layer"]): e for e in result["probes"]}
    layers = ["1", "2", "3", "4", "8", "12", "16"]
    assert {layer for _, network, layer in areas if network == "untrained"} == set(layers)
    assert [e["layer"] for e in result["probes"] if e["probe"] == "halogen" and e["network"] == "trained"] == [
        "input", *layers,
    ]  # fmt: skip
    assert result["not_probed"] == [
        {
            "probe": "magnetic_3d",
            "meaning": "contains Cr, Mn, Fe, Co or Ni",
            "reason": result["not_probed"][0]["reason"],
        }
    ]
    assert "0 have it" in result["not_probed"][0]["reason"]
    parsed = parse_many(formulas)
    tested = held_out_systems(parsed.chemsys, 0.4, 0)
    labels, _ = property_labels("halogen", parsed)
    network = load_predictor(deep(stages)).networks[0]
    expected = probe(layer_activations(network, parsed.fractions_as(np.float32), 3), labels, tested, PARAMETERS.penalty)
    found = areas["halogen", "trained", "3"]
    assert found["auc"] == pytest.approx(expected.auc)
    assert (found["n_train"], found["n_test"]) == (expected.n_train, expected.n_test)
    # the column's condition is found in the table's own column
    energies = stages.store.read_table(stages.phases).to_pandas().set_index("formula")["formation_energy_per_atom"]
    low = areas["formation_energy_per_atom<-1.5", "trained", "1"]
    assert low["train_positives"] + low["test_positives"] == int((energies < -1.5).sum())

    curves = explained.table(stages.store, "probe_roc")
    own = curves[(curves["probe"] == "halogen") & (curves["network"] == "trained") & (curves["layer"] == "3")]
    assert own["threshold"].isna().tolist() == [True] + [False] * (len(own) - 1)
    area = np.trapezoid(own["true_positive_rate"], own["false_positive_rate"])
    assert area == pytest.approx(found["auc"])
    assert not (curves["probe"] == "magnetic_3d").any()


def test_diagrams_are_predictions_and_known_phases(stages: Any, explained: Explained) -> None:
    table = explained.table(stages.store, "predicted_diagram")
    assert table.groupby("system").size().index.tolist() == ["Li-Al-F", "Li-O"]
    assert not table["mixed_scheme"].any()
    parsed = parse_many(table["formula"])
    mean, _ = load_predictor(deep(stages), stages.phases).predict(parsed.fractions_as(np.float32))
    assert table["prediction"].to_numpy() == pytest.approx(mean, abs=1e-6)
    assert table["hull_energy_per_atom"].to_numpy() == pytest.approx(
        load_hull(stages.phases).energy_many(parsed.fractions), abs=1e-9
    )
    known = stages.store.read_table(stages.phases).to_pandas().set_index("formula")["formation_energy_per_atom"]
    compounds = parsed.arity > 1
    for formula, energy in zip(parsed.reduced, table["formation_energy_per_atom"], strict=True):
        if formula in known and len(formula) > 2:
            assert energy == pytest.approx(known[formula])
    stated = table["formation_energy_per_atom"].notna() & compounds
    assert (table["stable"] & compounds).to_numpy().tolist() == (
        stated & (table["formation_energy_per_atom"] <= table["hull_energy_per_atom"] + 1e-9)
    ).tolist()
    binary = next(numbers for numbers in explained.result["systems"] if numbers["system"] == "Li-O")
    own = table[table["system"] == "Li-O"].iloc[2:]
    assert binary["n_phases"] == own["formation_energy_per_atom"].notna().sum()
    assert sorted(binary["stable_both"]) == sorted(own[own["stable"] & own["predicted_stable"]]["formula"])
    features = stages.store.read_table(stages.features).to_pandas()
    trained = features[(features["split"] == "train") & (features["chemsys"] == "Li-O")]
    assert binary["training_rows"] == len(trained)
    ends = {formula for pair in binary["tie_lines"]["reference"] for formula in pair}
    assert ends == {"Li", "O", *own[own["stable"]]["formula"]}


class Page(HTMLParser):
    """Collects the tags, ids and addresses of a page, and checks its nesting."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.n_figures = 0
        self.feed(html)
        self.close()
        assert not self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "br", "img", "link"):
            self.open.append(tag)
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.ids += [str(values["id"])] if values.get("id") else []
        self.addresses += [str(values[key]) for key in ("href", "src") if values.get(key)]
        self.n_figures += tag == "svg"

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_page_stands_alone(explained: Explained) -> None:
    page = Page(explained.page)
    assert len(page.ids) == len(set(page.ids))
    assert all(address.startswith(("#", "data:image/png")) for address in page.addresses)
    assert {address[1:] for address in page.addresses if address.startswith("#")} <= set(page.ids)
    # components of elements, compounds, rows; matrix; two maps; by layer; areas; curves; two diagrams
    assert page.n_figures == 11
    for words in ("Not probed: contains Cr, Mn, Fe, Co or Ni", "<h3>Li-O</h3>", "<h3>Li-Al-F</h3>", "Like Na."):
        assert words in explained.page
    assert not re.search(r"\b(nan|None)\b", explained.page)


def test_without_systems_control_or_probes(stages: Any) -> None:
    parameters = ExplainParameters(
        layers=("layers.1",), elements=(), probes=(), untrained=False, n_permutations=1, represent="compounds"
    )
    ref = stages.run(explain, deep(stages), stages.phases, stages.features, parameters)
    result = json.loads(stages.store.read_bytes(ref, RESULT))
    assert (result["systems"], result["probes"], result["not_probed"]) == ([], [], [])
    assert {entry["network"] for entry in result["agreement"]} == {"trained"}
    assert result["map_layer"] == "layers.1"
    assert result["coloured_by"] is None
    assert stages.store.read_table(ref, "probe_roc").num_rows == 0
    page = stages.store.read_bytes(ref, PAGE).decode()
    assert Page(page).n_figures == 5
    assert "Phase diagrams" not in page


def test_kinds_of_compounds() -> None:
    parsed, kinds = ab_compounds()
    assert len(parsed) == 20
    named = dict(zip(parsed.chemsys, kinds, strict=True))
    assert named["Cl-Na"] == "I-VII"
    assert named["Mg-S"] == "II-VI"
    assert named["Cl-Mg"] == "II-VII"
    assert named["K-S"] == "I-VI"


@pytest.mark.parametrize(
    ("layers", "n_hidden", "probed"),
    [
        (("1", "2", "8"), 16, ("1", "2", "4", "8", "12", "16")),
        (("3", "layers.0"), 16, ("1", "2", "3", "4", "8", "12", "16", "layers.0")),
        (("1",), 1, ("1",)),
    ],
)
def test_layers_that_are_probed(layers: tuple[str, ...], n_hidden: int, probed: tuple[str, ...]) -> None:
    assert Networks({}, layers, tuple(str(k + 1) for k in range(n_hidden))).probed == probed


# Rows and their properties


def table_of(stages: Any, frame: pd.DataFrame, name: str) -> ArtifactRef:
    """Keep a table in the shape of `compounds`."""
    request = ArtifactRequest("compounds", "tests.explain", 1, {"name": name})
    columns = {"material_id": [f"m{i}" for i in range(len(frame))], "source": "file", "source_version": "1"}
    columns |= {"chemsys": parse_many(frame["formula"]).chemsys}
    whole = frame.assign(**columns).assign(source_id=columns["material_id"])
    table = pa.Table.from_pandas(whole, preserve_index=False)
    return stages.store.get_or_build(request, lambda writer: writer.write_table("compounds", table, "compounds")).ref


@pytest.fixture(scope="module")
def polymorphs(stages: Any) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "formula": ["NaCl", "ZnS", "NaCl", "LiF", "ZnS"],
            "formation_energy_per_atom": [-2.0, -1.0, -2.1, None, None],
            "band_gap": [5.0, 2.0, 6.0, None, 3.0],
            "prototype": ["B2", "B3", "B1", "B1", "B4"],
        }
    )


def test_the_lowest_row_of_a_composition_stands_for_it(stages: Any, polymorphs: pd.DataFrame) -> None:
    one = read_rows(stages.store, table_of(stages, polymorphs, "one"), ExplainParameters())
    other = read_rows(stages.store, table_of(stages, polymorphs[::-1], "other"), ExplainParameters())
    assert one.frame["formula"].tolist() == ["LiF", "NaCl", "ZnS"]
    assert one.frame["prototype"].tolist() == other.frame["prototype"].tolist() == ["B1", "B1", "B3"]
    assert one.n_table == 3
    assert one.fractions.sum(axis=1) == pytest.approx(1.0)


def test_large_tables_are_drawn_from_by_seed(stages: Any) -> None:
    drawn = [
        read_rows(stages.store, stages.phases, ExplainParameters(max_rows=20, seed=seed)).frame["formula"].tolist()
        for seed in (0, 0, 1)
    ]
    assert drawn[0] == drawn[1] == sorted(drawn[0])
    assert len(set(drawn[0])) == 20
    assert drawn[2] != drawn[0]


@pytest.mark.parametrize(
    ("text", "labels", "known"),
    [
        ("band_gap>5", [0, 1, 0], [0, 1, 1]), ("band_gap < 2.5", [0, 0, 1], [0, 1, 1]),
        ("prototype=B1", [1, 1, 0], [1, 1, 1]), ("alkali", [1, 1, 0], [1, 1, 1]),
    ],
)  # fmt: skip
def test_properties_of_rows(
    stages: Any, polymorphs: pd.DataFrame, text: str, labels: list[int], known: list[int]
) -> None:
    rows = read_rows(stages.store, table_of(stages, polymorphs, "one"), ExplainParameters())
    found = labels_of(text, rows)
    assert found.labels.tolist() == [bool(flag) for flag in labels]
    assert found.applies.tolist() == [bool(flag) for flag in known]


def test_columns_of_yes_and_no() -> None:
    frame = pd.DataFrame({"formula": ["LiF", "NaCl", "ZnS"], "magnetic": [True, None, False], "number": [1, 0, 2]})
    rows = Rows(frame, parse_many(frame["formula"]), 3)
    found = labels_of("magnetic", rows)
    assert (found.labels.tolist(), found.applies.tolist()) == ([True, False, False], [True, False, True])
    with pytest.raises(InputError, match="'number' is not of yes and no; give a condition such as number>0"):
        labels_of("number", rows)
    with pytest.raises(InputError, match=r"'colour' is neither a property \(charge_balanced.*nor a column.*--table"):
        labels_of("colour", rows)
    with pytest.raises(InputError, match=r"compares what is no number; write formula=VALUE"):
        labels_of("formula>3", rows)
    with pytest.raises(InputError, match="compares what is no number"):
        labels_of("number>many", rows)


# What is refused


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("elements", ("Na", "Xx"), "'Xx' is none of the 86"), ("systems", ("Ti-O-Na-Cl",), "two or three"),
        ("systems", ("Ti-Qq",), "'Qq'"), ("probes", ("a b",), "is no property"),
        ("probes", ("gap>",), "is no property"),
        ("max_atoms", 2, "greater than or equal to 3"), ("test_share", 1.0, "less than 1"),
    ],
)  # fmt: skip
def test_bad_parameters(field: str, value: Any, words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        ExplainParameters.model_validate({field: value})


def test_parameters_are_put_in_one_form() -> None:
    parameters = ExplainParameters(systems=(" Ti - O", "Ti-O"), elements=("Na", "Na"), probes=(" halogen ", "halogen"))
    assert (parameters.systems, parameters.elements, parameters.probes) == (("Ti-O",), ("Na",), ("halogen",))


def test_other_networks_and_layers_are_refused(stages: Any) -> None:
    with pytest.raises(InputError, match="not from a formula"):
        stages.run(explain, stages.moduli_network, stages.phases, None, ExplainParameters())
    with pytest.raises(InputError, match="no layer '99'; take a number from 1 to 17"):
        stages.run(explain, deep(stages), stages.phases, None, ExplainParameters(layers=("99",)))
    with pytest.raises(InputError, match="neither a property"):
        stages.run(explain, deep(stages), stages.phases, None, ExplainParameters(probes=("is_blue",)))
    assert resolve_table.fn(stages.root, stages.features.key) == stages.features
    with pytest.raises(InputError, match="'model' artifact; give one of kind phases"):
        resolve_table.fn(stages.root, deep(stages).key)


def test_mixed_schemes_only_on_request(stages: Any) -> None:
    other = EnergyScheme(source="elsewhere", release="1", functional="pbe")
    table = stages.store.read_table(stages.phases).replace_schema_metadata(None)
    request = ArtifactRequest("phases", "tests.explain", 1, {}, energy_scheme=other)
    phases = stages.store.get_or_build(request, lambda writer: writer.write_table("phases", table, "phases")).ref
    few = {"layers": ("1",), "elements": (), "probes": (), "untrained": False, "n_permutations": 1, "max_atoms": 4}
    mixed = ExplainParameters(systems=("Li-O",), **few)
    with pytest.raises(SchemeMismatch, match="network and phases"):
        stages.run(explain, deep(stages), phases, None, mixed)
    # without a phase diagram no energies meet
    stages.run(explain, deep(stages), phases, None, ExplainParameters(**few))
    allowed = mixed.model_copy(update={"allow_mixed_scheme": True})
    ref = stages.run(explain, deep(stages), phases, None, allowed)
    assert stages.store.read_table(ref, "predicted_diagram").column("mixed_scheme").to_pylist()[0] is True
    assert "Mixed energy schemes" in stages.store.read_bytes(ref, PAGE).decode()
