"""Keys of services, from the environment or a Prefect secret block; they appear nowhere else."""

from __future__ import annotations

import os

from prefect.blocks.system import Secret

from models.errors import InputError
from tasks.parameters import SourceParameters
from tasks.sources.mp import KEY_VARIABLE


def api_key(parameters: SourceParameters) -> str | None:
    """Return the key that a source needs, or None where it needs none.

    Raises
    ------
    InputError
        When the secret block is not there. A missing key is the source's to complain about.
    """
    if parameters.source != "mp":
        return None
    block = parameters.service.key_block
    if block is None:
        return os.environ.get(KEY_VARIABLE)
    try:
        value = Secret.load(block, _sync=True).get()  # type: ignore[call-arg, union-attr]
    except ValueError:
        raise InputError(
            f"there is no Prefect secret block '{block}'; make one in the UI (Blocks, Secret), or export {KEY_VARIABLE}"
        ) from None
    return str(value)
