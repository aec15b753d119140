"""The discovery back-test: hold compounds out, train without them, and see how many finds are true."""

from __future__ import annotations

from prefect import flow
from pydantic import Field

from flows.parameters import FlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.backtest import hold_out, judge_held_out
from tasks.backtest_parameters import HoldoutParameters, JudgeParameters
from tasks.calibrate import calibrate
from tasks.clean import clean_phases, clean_training
from tasks.featurize import featurize_fractions
from tasks.inputs import resolve_compounds
from tasks.members import train_ensemble
from tasks.parameters import CleanParameters, SourceParameters
from tasks.references import audit_references
from tasks.train_parameters import TrainParameters


class BacktestFlowParameters(FlowParameters):
    """Parameters of the flow `backtest`."""

    data: str = Field("starter", description="energies: `starter`, a file, an artifact folder or a key")
    energies: SourceParameters = Field(default_factory=SourceParameters, description="how to read `data`, if a file")
    known: str | None = Field(None, description="a list of known compositions: file, artifact folder or key")
    ways: tuple[HoldoutParameters, ...] = Field((HoldoutParameters(),), min_length=1, description="each is trained for")
    cleaning: CleanParameters = Field(default_factory=CleanParameters)
    training: TrainParameters = Field(default_factory=TrainParameters)
    judging: JudgeParameters = Field(default_factory=JudgeParameters)


@flow(name="backtest")
def backtest(parameters: BacktestFlowParameters) -> list[ArtifactRef]:
    """Measure what a screen's finds are worth: one artifact per way of holding out, each with its own network."""
    return on_cluster(parameters.cluster, backtest_stages, parameters)


@flow(name="backtest-stages")
def backtest_stages(parameters: BacktestFlowParameters) -> list[ArtifactRef]:
    """Run the stages: 1. hold out. 2. Clean, train and calibrate on the rest, as ever. 3. Judge what was held out."""
    p, root = parameters, store_root(parameters.store)
    compounds = resolve_compounds.submit(root, p.data, p.energies).result()
    known = resolve_compounds.submit(root, p.known).result() if p.known else None
    today = audit_references.submit(root, compounds, p.cleaning).result()  # the truth is corrected by all that is known
    judged = []
    for way in p.ways:
        training_side = hold_out.submit(root, compounds, way, "training").result()
        held_out = hold_out.submit(root, compounds, way, "held_out").result()
        references = audit_references.submit(root, training_side, p.cleaning).result()
        phases = clean_phases.submit(root, training_side, references, p.cleaning).result()
        training = clean_training.submit(root, training_side, references, p.cleaning).result()
        features = featurize_fractions.submit(root, training).result()
        network = train_ensemble(root, features, p.training)
        calibration = calibrate.submit(root, network, phases).result()
        truth = clean_phases.submit(root, held_out, today, p.cleaning).result()
        result = judge_held_out.submit(root, network, phases, calibration, held_out, truth, known, p.judging)
        judged.append(result.result())
    return judged
