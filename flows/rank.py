"""Lithium electrolytes ranked by how well they stop dendrites: moduli -> chi -> ranking."""

from __future__ import annotations

from prefect import flow

from flows.parameters import RankFlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.featurize import featurize_graphs
from tasks.inputs import resolve_compounds, resolve_model, resolve_phases, table_names
from tasks.moduli import predict_moduli, train_moduli
from tasks.rank import rank as rank_task


@flow(name="rank")
def rank(parameters: RankFlowParameters) -> ArtifactRef:
    """Rank the candidates of a table."""
    return on_cluster(parameters.cluster, rank_stages, parameters)


@flow(name="rank-stages")
def rank_stages(parameters: RankFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find the tables. 2. Learn moduli, or take a model. 3. Predict. 4. Rank."""
    p, root = parameters, store_root(parameters.store)
    candidates = resolve_compounds.submit(root, p.electrolytes).result()
    phases = resolve_phases.submit(root, p.phases).result() if p.phases else None
    stated = resolve_compounds.submit(root, p.stated).result() if p.stated else None
    if p.model is not None:
        network = resolve_model.submit(root, p.model).result()
    else:
        tables = [resolve_compounds.submit(root, text).result() for text in table_names(p.structures)]
        crystals = [featurize_graphs.submit(root, table).result() for table in tables]
        network = train_moduli.submit(root, crystals, p.moduli).result()
    graphs = featurize_graphs.submit(root, candidates).result()
    moduli = predict_moduli.submit(root, network, graphs).result()
    return rank_task.submit(root, candidates, moduli, p.ranking, phases, stated).result()
