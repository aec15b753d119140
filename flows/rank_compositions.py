"""Compositions without a structure ranked by how likely they stop dendrites: moduli -> chi -> ranking."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import FlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.examples import ExampleParameters, choose_examples
from tasks.inputs import resolve_artifact, resolve_compositions, resolve_compounds, resolve_model
from tasks.members import train_ensemble
from tasks.rank_compositions import MODULI, CompositionRankParameters, rank_compositions
from tasks.train_parameters import TrainParameters


class CompositionRankFlowParameters(FlowParameters):
    """Parameters of the flow `rank-compositions`."""

    compositions: str = Field(description="candidates of a screen, or a table of formulas: a file, a folder or a key")
    ranking: str = Field(description="ranked known compounds, whose volume ratios are drawn from: folder or key")
    structures: str = Field("starter", description="compounds with moduli to learn from, where no model is given")
    bulk_model: str | None = Field(None, description="model of log10 of the bulk modulus: folder or key")
    shear_model: str | None = Field(None, description="model of log10 of the shear modulus: folder or key")
    insulator_model: str | None = Field(None, description="model of whether the band gap is wide; empty: not asked")
    training: TrainParameters = Field(
        default_factory=lambda: TrainParameters(network="attention", members=3, threads=1),
        description="how the networks of the moduli are trained, where none is given",
    )
    settings: CompositionRankParameters = Field(default_factory=CompositionRankParameters)


@flow(name="rank-compositions")
def rank_by_composition(parameters: CompositionRankFlowParameters) -> ArtifactRef:
    """Rank compositions that have no structure yet."""
    return on_cluster(parameters.cluster, rank_by_composition_stages, parameters)


@flow(name="rank-compositions-stages")
def rank_by_composition_stages(parameters: CompositionRankFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find the tables. 2. Learn each modulus, or take a model. 3. Rank."""
    p, root = parameters, store_root(parameters.store)
    compositions = resolve_compositions.submit(root, p.compositions).result()
    ranking = resolve_artifact.submit(root, p.ranking, ("ranking",)).result()
    given = {"bulk": p.bulk_model, "shear": p.shear_model, "insulator": p.insulator_model}
    models = {role: resolve_model.submit(root, text).result() for role, text in given.items() if text}
    for role in [role for role in MODULI if role not in models]:
        structures = resolve_compounds.submit(root, p.structures).result()
        learnt = ExampleParameters(targets=(MODULI[role],), log10=True)
        rows = choose_examples.submit(root, structures, learnt).result()
        models[role] = train_ensemble(root, rows, p.training.model_copy(update={"target": MODULI[role]}))
    return rank_compositions.submit(root, compositions, ranking, models, p.settings).result()
