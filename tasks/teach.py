"""Teach: a trained network -> `taught`, its energies of new compositions, for another network to learn from as well.

Labels are what limits a network, and another one that generalises better can give as many as are wanted (distillation:
G. Hinton et al., arXiv:1503.02531): a network that screens fast learns most of what a slow, more accurate one knows.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.elements import ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.representation import FROM_FORMULA, represent
from models.substitution import substituted
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.store import ArtifactStore, ArtifactWriter
from tasks.loading import load_card, load_ensemble
from tasks.predicted_columns import require_formulas
from tasks.progress import Progress
from tasks.stage import build, stage
from tasks.teach_parameters import TaughtParameters

STAGE_VERSION = 1
CHUNK_ROWS = 16_384


@stage("teach")
def teach(root: str, rows: ArtifactRef, teacher: ArtifactRef, parameters: TaughtParameters) -> ArtifactRef:
    """Label new compositions, made from those of a table by substitution.

    Parameters
    ----------
    root
        The store.
    rows
        A `features` or `examples` artifact: the one that the teacher was trained on, so that the rows which are kept
        back from a network that learns from it were kept back from the teacher too.
    teacher
        A `model` of one number that reads formulas.
    parameters
        How many.

    Raises
    ------
    InputError
        If the teacher reads more than formulas, predicts something else than one number, or was trained on other rows.
    """
    require_formulas(teacher)
    card = load_card(teacher)
    if len(card.targets) != 1 or card.targets[0].transform != "none":
        raise InputError(f"the model {teacher.key} predicts no single number and cannot teach one")
    if card.training_data != rows.digest:
        raise InputError(
            f"the model {teacher.key} was trained on other rows than {rows.key}: it may know those that are to be "
            "measured; train it on the same ones"
        )
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "taught",
        "tasks.teach",
        STAGE_VERSION,
        parameters.model_dump(mode="json"),
        {"rows": rows, "teacher": teacher},
        energy_scheme=store.manifest(rows).energy_scheme,
    )
    return build(root, request, lambda writer: _write(writer, store, rows, teacher, parameters))


def _write(
    writer: ArtifactWriter, store: ArtifactStore, rows: ArtifactRef, teacher: ArtifactRef, parameters: TaughtParameters
) -> None:
    # of all splits: no composition that is measured is learnt, not even from a teacher that does not know its label
    listed = parse_many(store.read_table(rows, columns=["formula"]).column("formula").to_pylist())
    columns, counts = substituted(listed.elements, listed.amounts, parameters.compositions, parameters.seed)
    if len(columns) == 0:
        raise InputError(
            "no other composition can be made by exchanging elements of the table's; leave the teacher out"
        )
    symbols = np.array([*ELEMENTS, ""], dtype=object)
    formulas = [
        "".join(f"{symbol}{count}" for symbol, count in zip(symbols[row], amounts, strict=True) if count)
        for row, amounts in zip(columns, counts, strict=True)
    ]
    parsed = parse_many(formulas)
    table = {"formula": parsed.reduced, "chemsys": parsed.chemsys, "label": _labels(teacher, parsed.reduced)}
    writer.write_table("taught", pa.table(table), "taught")
    writer.count("asked", parameters.compositions)  # fewer rows: there are no more
    writer.count("rows", len(parsed))


def _labels(teacher: ArtifactRef, formulas: Sequence[str]) -> NDArray[np.float64]:
    """Return what the teacher says of formulas (n,), in the unit of its target."""
    network, features = load_ensemble(teacher), load_card(teacher).features
    progress = Progress("teach", len(formulas), "compositions")
    said = []
    for start in range(0, len(formulas), CHUNK_ROWS):
        said.append(network.predict(represent(formulas[start : start + CHUNK_ROWS], features)).mean[:, 0])
        progress.update(min(start + CHUNK_ROWS, len(formulas)))
    return np.concatenate(said)


def load_taught(taught: ArtifactRef, representation: str) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    """Return what a network reads of taught compositions (n, f), and their labels (n,).

    Raises
    ------
    InputError
        If the network reads more than formulas.
    """
    if representation not in FROM_FORMULA:
        raise InputError(f"compositions have no structure to read {representation} from; leave the teacher out")
    table = ArtifactStore.from_ref(taught).read_table(taught, columns=["formula", "label"])
    return represent(table.column("formula").to_pylist(), representation), table.column("label").to_numpy()
