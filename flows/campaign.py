"""The whole pipeline on one screen: ingest -> clean -> featurize -> train -> screen -> rank -> report."""

from __future__ import annotations

from prefect import flow

from flows.parameters import CampaignParameters
from flows.run import CampaignResult, on_cluster
from storage.root import store_root
from tasks.calibrate import calibrate
from tasks.clean import clean_phases, clean_training
from tasks.cluster import usual_block_size
from tasks.featurize import featurize_fractions, featurize_graphs
from tasks.formulas import with_lists
from tasks.ingest import ingest
from tasks.members import train_ensemble
from tasks.merge import merge_candidates
from tasks.moduli import predict_moduli, require_crystals, train_moduli
from tasks.precision import measure_precision
from tasks.predict import predict_rows
from tasks.rank import rank
from tasks.references import audit_references
from tasks.report import report
from tasks.screen_blocks import screen_blocks
from tasks.spaces import plan_blocks
from tasks.student import make_student


@flow(name="campaign")
def campaign(parameters: CampaignParameters) -> CampaignResult:
    """Screen a composition space against everything known, and rank lithium electrolytes."""
    return on_cluster(parameters.cluster, campaign_stages, parameters)


@flow(name="campaign-stages")
def campaign_stages(parameters: CampaignParameters) -> CampaignResult:
    """Run the stages of a campaign.

    1. Ingest the tables.                      5. Screen the composition space, block by block.
    2. Clean: the hull's phases, training.     6. Learn moduli from structures.
    3. Featurize: fractions, crystal graphs.   7. Rank the lithium electrolytes by chi.
    4. Train the network and measure it.       8. Report.
    """
    p, root = parameters, store_root(parameters.store)
    p = p.model_copy(update={"screening": with_lists(root, p.screening)})

    energies = ingest.submit(root, p.energies).result()
    structures = ingest.submit(root, p.structures or p.energies).result()
    electrolytes = ingest.submit(root, p.electrolytes or p.energies).result()
    known = ingest.submit(root, p.known).result() if p.known else None

    references = audit_references.submit(root, energies, p.cleaning).result()
    phases = clean_phases.submit(root, energies, references, p.cleaning).result()
    training = clean_training.submit(root, energies, references, p.cleaning).result()

    features = featurize_fractions.submit(root, training).result()
    elastic_graphs = featurize_graphs.submit(root, structures).result()
    candidate_graphs = featurize_graphs.submit(root, electrolytes).result()
    require_crystals(root, [elastic_graphs])  # before hours of training

    network = train_ensemble(root, features, p.training)
    predictions = predict_rows.submit(root, network, features).result()
    calibration = calibrate.submit(root, network, phases).result()

    precision = measure_precision.submit(root, network, p.screening).result() if p.screening.is_fast else None
    student = make_student(root, network, phases, precision, p.screening)
    moduli_training = train_moduli.submit(root, [elastic_graphs], p.moduli)
    blocks = plan_blocks(p.screening, p.block_size or usual_block_size(p.cluster))
    parts = screen_blocks(root, network, phases, precision, p.screening, blocks, p.tasks_in_flight, student)
    candidates = merge_candidates.submit(
        root, parts, network, phases, precision, calibration, known, p.screening, student
    ).result()

    moduli_network = moduli_training.result()
    moduli = predict_moduli.submit(root, moduli_network, candidate_graphs).result()
    ranking = rank.submit(root, electrolytes, moduli, p.ranking, phases).result()

    made = {
        "energies": energies, "structures": structures, "electrolytes": electrolytes, "known": known,
        "references": references, "phases": phases, "training": training, "features": features,
        "network": network, "predictions": predictions, "calibration": calibration, "candidates": candidates,
        "moduli_network": moduli_network, "moduli": moduli, "ranking": ranking,
    }  # fmt: skip
    page = report.submit(root, p.name, p.model_dump(mode="json"), made).result()
    return CampaignResult(candidates=candidates, ranking=ranking, report=page)
