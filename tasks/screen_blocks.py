"""The blocks of a screen, over the cluster."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from storage.artifact import ArtifactRef
from tasks.parameters import ScreenParameters
from tasks.screen import screen_block
from tasks.spaces import Block
from tasks.window import run_in_window


def screen_blocks(
    root: str,
    network: ArtifactRef,
    phases: ArtifactRef,
    precision: ArtifactRef | None,
    parameters: ScreenParameters,
    blocks: Sequence[Block],
    window: int,
    student: ArtifactRef | None = None,
) -> list[ArtifactRef]:
    """Screen every block, at most `window` of them in flight; the parts, in the order of the blocks."""
    return run_in_window(
        partial(screen_block.submit, root, network, phases, precision, parameters, student=student),
        blocks,
        window,
        "screen",
        lambda block: block.stop - block.start,
        "compositions",
    )
