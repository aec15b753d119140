"""The stages of a campaign, run once without Prefect on the tiny chemistry."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.calibrate import calibrate
from tasks.clean import clean_phases, clean_training
from tasks.featurize import featurize_fractions, featurize_graphs
from tasks.ingest import ingest
from tasks.moduli import predict_moduli, train_moduli
from tasks.parameters import CleanParameters, ModuliParameters, ScreenParameters, SourceParameters
from tasks.predict import predict_rows
from tasks.references import audit_references
from tasks.stage import reference
from tasks.train_parameters import TrainParameters


class Stages:
    """A store with every artifact up to the screen, and the parameters that made them."""

    def __init__(self, root: Path, tiny: Any) -> None:
        campaign = tiny.campaign()
        self.root = str(root)
        self.store = ArtifactStore(root)
        self.tiny = tiny
        self.energies_source = SourceParameters(**campaign["energies"])
        self.cleaning = CleanParameters(**campaign["cleaning"])
        self.training_parameters = TrainParameters(**campaign["training"])
        self.screening = ScreenParameters(**campaign["screening"])
        self.moduli_parameters = ModuliParameters(**campaign["moduli"])
        self.energies = self.run(ingest, self.energies_source)
        self.structures = self.run(ingest, SourceParameters(**campaign["structures"]))
        self.known = self.run(ingest, SourceParameters(**campaign["known"]))
        self.references = self.run(audit_references, self.energies, self.cleaning)
        self.phases = self.run(clean_phases, self.energies, self.references, self.cleaning)
        self.training = self.run(clean_training, self.energies, self.references, self.cleaning)
        self.features = self.run(featurize_fractions, self.training)
        self.graphs = self.run(featurize_graphs, self.structures)
        self.network = self.run(train_network_task(), self.features, self.training_parameters)
        self.predictions = self.run(predict_rows, self.network, self.features)
        self.calibration = self.run(calibrate, self.network, self.phases)
        self.moduli_network = self.run(train_moduli, [self.graphs], self.moduli_parameters)
        self.moduli = self.run(predict_moduli, self.moduli_network, self.graphs)

    def run(self, stage: Any, *arguments: Any) -> ArtifactRef:
        """Run a stage without Prefect and return its artifact."""
        return reference(stage.fn(self.root, *arguments))

    def counts(self, ref: ArtifactRef) -> dict[str, int]:
        """Return the counts in an artifact's manifest."""
        return self.store.manifest(ref).counts


def train_network_task() -> Any:
    """Return the training stage; its name is also that of the trainer, hence not imported above."""
    from tasks.train import train_network

    return train_network


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory, tiny: Any) -> Stages:
    """All stages up to the screen, run once; tests read from it and add to it, and never change what is there."""
    threads = torch.get_num_threads()
    try:
        return Stages(tmp_path_factory.mktemp("stages") / "store", tiny)
    finally:
        torch.set_num_threads(threads)
