"""Explain: a composition network and a table -> what its layers know and what it makes of phase diagrams, as a page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE
from torch import nn

from models.activations import untrained_copy
from models.errors import InputError
from models.probe import PROPERTIES
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.model_files import ModelCard
from storage.scheme import check_same_scheme
from storage.store import ArtifactStore, ArtifactWriter
from storage.tables import read_any
from tasks.explain_diagrams import diagram_results
from tasks.explain_layers import Networks, component_rows, shown_layers, similarity_results
from tasks.explain_parameters import PROBE, ExplainParameters
from tasks.explain_probes import probe_results
from tasks.explain_rows import labels_of, read_rows
from tasks.further_columns import is_ours
from tasks.inputs import as_compounds, is_file
from tasks.loading import load_card, load_predictor
from tasks.parameters import SourceParameters
from tasks.reporting.explanation import ExplanationData, render_explanation
from tasks.stage import build, stage

STAGE_VERSION = 1
RESULT = "explanation.json"
PAGE = "explanation.html"
TABLE_KINDS = ("phases", "training", "features", "compounds")


@task(name="find-table", cache_policy=NO_CACHE)
def resolve_table(root: str, text: str, probes: Sequence[str] = ()) -> ArtifactRef:
    """Find or make the table of compositions that a user named: phases, training, features or compounds.

    Of a file the columns that are probed are kept, whatever their names.
    """
    if text == "starter":
        return as_compounds(root, text)
    if is_file(text):
        matches = [PROBE.fullmatch(probe) for probe in probes if probe not in PROPERTIES]
        named = {match["column"] for match in matches if match is not None}
        there = read_any(text.removeprefix("file:")).column_names
        further = tuple(name for name in there if name in named and not is_ours(name))
        file = text.removeprefix("file:")
        return as_compounds(root, text, SourceParameters(source=f"file:{file}", further=further))
    ref = ArtifactStore(root).resolve(text)
    if ref.kind not in TABLE_KINDS:
        raise InputError(f"{text} is a '{ref.kind}' artifact; give one of kind {', '.join(TABLE_KINDS)}, or a file")
    return ref


@stage("explain")
def explain(
    root: str, network: ArtifactRef, phases: ArtifactRef, table: ArtifactRef | None, parameters: ExplainParameters
) -> ArtifactRef:
    """Look into a trained composition network.

    Parameters
    ----------
    root
        The store's folder or URL.
    network
        A network of element fractions; of an ensemble the layers of the first member are looked at, and energies are
        the ensemble's.
    phases
        Known phases: the reference hull of the phase diagrams.
    table
        Compositions whose activations are shown and probed, with the columns of the probes; None for the phases.
    parameters
        Layers, elements, properties, systems.

    Returns
    -------
    ArtifactRef
        An `explanation`: `explanation.json` with all numbers, the tables `layer_components`, `element_similarity`,
        `probe_roc` and `predicted_diagram`, and the page `explanation.html`.
    """
    store = ArtifactStore(root)
    inputs = {"network": network, "phases": phases} | ({} if table is None else {"table": table})
    schemes = [store.manifest(ref).energy_scheme for ref in (network, phases)]
    mixed = bool(parameters.systems) and check_same_scheme(
        schemes[0], schemes[1], "network and phases", parameters.allow_mixed_scheme
    )
    request = ArtifactRequest(
        "explanation",
        "tasks.explain",
        STAGE_VERSION,
        parameters.model_dump(mode="json"),
        inputs,
        energy_scheme=schemes[1],
    )
    return build(root, request, lambda writer: _write(writer, store, inputs, parameters, mixed))


def _write(
    writer: ArtifactWriter,
    store: ArtifactStore,
    inputs: dict[str, ArtifactRef],
    parameters: ExplainParameters,
    mixed: bool,
) -> None:
    card = load_card(inputs["network"])
    networks = _networks(inputs["network"], card, parameters)
    rows = read_rows(store, inputs.get("table", inputs["phases"]), parameters)
    labels = {text: labels_of(text, rows) for text in parameters.probes}
    first = next(iter(labels.values()), None)
    components, explained = component_rows(networks, rows, first, parameters)
    similarity, likenesses = similarity_results(networks, parameters)
    curves, probes = probe_results(networks, rows, labels, parameters)
    diagrams, systems = diagram_results(store, inputs["network"], inputs["phases"], parameters, mixed)
    result = {
        "model": {"name": card.name, "members": card.n_members, "target": card.targets[0].name},
        "rows": len(rows.frame),
        "rows_in_table": rows.n_table,
        "layers": list(networks.layers),
        "hidden_layers": list(networks.hidden),
        "represent": parameters.represent,
        "measure": parameters.measure,
        "explained": explained,
        "coloured_by": None if first is None else {"probe": parameters.probes[0], "meaning": first.meaning},
        "mixed_scheme": mixed,
        "systems": systems,
    }
    result |= likenesses | probes
    writer.write_json(RESULT, result)
    tables = {"layer_components": components, "element_similarity": similarity, "probe_roc": curves}
    for name, frame in (tables | ({"predicted_diagram": diagrams} if systems else {})).items():
        writer.write_table(name, pa.Table.from_pandas(frame, preserve_index=False), name)
    data = ExplanationData(result, components, similarity, curves, diagrams, _origins(store, inputs))
    writer.write_bytes(PAGE, render_explanation(data).encode())
    writer.count("rows", len(rows.frame))
    writer.count("systems", len(systems))
    writer.count("not_probed", len(probes["not_probed"]))


def _networks(ref: ArtifactRef, card: ModelCard, parameters: ExplainParameters) -> Networks:
    trained: nn.Module = load_predictor(ref).networks[0]
    layers, hidden = shown_layers(trained, parameters)
    by_name = {"trained": trained}
    if parameters.untrained:
        by_name["untrained"] = untrained_copy(trained, card.architecture.model_dump(), parameters.seed)
    return Networks(by_name, layers, hidden)


def _origins(store: ArtifactStore, inputs: dict[str, ArtifactRef]) -> list[dict[str, Any]]:
    """Return what the page rests on, for its last section."""
    origins = []
    for role, ref in inputs.items():
        manifest = store.manifest(ref)
        scheme = manifest.energy_scheme
        origins.append(
            {
                "role": role,
                "kind": ref.kind,
                "rows": manifest.rows,
                "scheme": scheme.label if scheme else "not stated",
                "key": ref.key,
                "digest": ref.digest,
            }
        )
    return origins
