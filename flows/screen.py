"""A composition space against the convex hull of the known phases."""

from __future__ import annotations

from prefect import flow

from flows.parameters import ScreenFlowParameters
from flows.run import on_cluster
from storage.artifact import ArtifactRef
from storage.root import store_root
from tasks.calibrate import calibrate
from tasks.cluster import usual_block_size
from tasks.formulas import with_lists
from tasks.inputs import resolve_compounds, resolve_model, resolve_phases
from tasks.merge import merge_candidates
from tasks.precision import measure_precision
from tasks.screen_blocks import screen_blocks
from tasks.spaces import plan_blocks
from tasks.student import make_student


@flow(name="screen")
def screen(parameters: ScreenFlowParameters) -> ArtifactRef:
    """Keep the compositions that the network puts at or below the threshold."""
    return on_cluster(parameters.cluster, screen_stages, parameters)


@flow(name="screen-stages")
def screen_stages(parameters: ScreenFlowParameters) -> ArtifactRef:
    """Run the stages: 1. find the inputs. 2. Screen block by block. 3. Calibrate. 4. Merge, strictly."""
    p, root = parameters, store_root(parameters.store)
    p = p.model_copy(update={"screening": with_lists(root, p.screening)})
    network = resolve_model.submit(root, p.model).result()
    phases = resolve_phases.submit(root, p.phases).result()
    known = resolve_compounds.submit(root, p.known).result() if p.known else None
    precision = measure_precision.submit(root, network, p.screening).result() if p.screening.is_fast else None
    student = make_student(root, network, phases, precision, p.screening)
    blocks = plan_blocks(p.screening, p.block_size or usual_block_size(p.cluster))
    calibrating = calibrate.submit(root, network, phases)
    parts = screen_blocks(root, network, phases, precision, p.screening, blocks, p.tasks_in_flight, student)
    calibration = calibrating.result()
    return merge_candidates.submit(
        root, parts, network, phases, precision, calibration, known, p.screening, student
    ).result()
