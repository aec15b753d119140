"""All predictions of a screen: those of the network bit for bit, in index order, found whatever the cut was."""

from __future__ import annotations

import itertools
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.errors import ArtifactNotFound, ForeignPart
from storage.store import ArtifactStore
from tasks.formulas import read_formulas
from tasks.loading import load_predictor
from tasks.merge import check_parts, merge_candidates
from tasks.parameters import ScreenParameters, SpaceParameters
from tasks.predictions import prediction_parts, screen_of, stream_predictions
from tasks.screen import screen_block
from tasks.spaces import composition_space, plan_blocks

SPACES = (
    SpaceParameters(elements=("Li", "Na", "Mg", "O", "F"), arities=(2, 3), max_atoms=6),
    SpaceParameters(elements=("Al", "Ca", "S"), arities=(2,), max_atoms=8),
)
KEPT = ScreenParameters(spaces=SPACES, threshold=0.2, min_training_rows=50, keep_predictions=True)


def parts_of(stages: Any, parameters: ScreenParameters, size: int) -> list[ArtifactRef]:
    return [
        stages.run(screen_block, stages.network, stages.phases, None, parameters, block)
        for block in plan_blocks(parameters, size)
    ]


def merged(stages: Any, parameters: ScreenParameters, size: int) -> ArtifactRef:
    parts = parts_of(stages, parameters, size)
    ref = stages.run(merge_candidates, parts, stages.network, stages.phases, None, None, None, parameters)
    assert isinstance(ref, ArtifactRef)
    return ref


@pytest.fixture(scope="module")
def candidates(stages: Any) -> ArtifactRef:
    return merged(stages, KEPT, 130)


def expected(stages: Any, number: int) -> np.ndarray:
    space = composition_space(SPACES[number])
    fractions = space.fractions(space.unrank(np.arange(len(space))))
    return load_predictor(stages.network, stages.phases).predict(fractions)[0]


def streamed(store: ArtifactStore, ref: ArtifactRef, number: int) -> np.ndarray:
    pieces = [piece for piece in stream_predictions(store, ref) if piece.space == number]
    assert [piece.start for piece in pieces] == [0, *np.cumsum([len(piece.values) for piece in pieces])[:-1]]
    return np.concatenate([piece.values for piece in pieces])


def test_they_are_the_networks_in_index_order_bit_for_bit(stages: Any, candidates: ArtifactRef) -> None:
    for number in (0, 1):
        values = streamed(stages.store, candidates, number)
        assert values.dtype == np.float32
        assert values.tobytes() == expected(stages, number).tobytes()
    order = [piece.space for piece in stream_predictions(stages.store, candidates)]
    assert order == sorted(order)


def test_the_candidates_are_the_same(stages: Any, candidates: ArtifactRef) -> None:
    plain = merged(stages, KEPT.model_copy(update={"keep_predictions": False}), 130)
    assert plain.key != candidates.key
    assert stages.store.read_table(plain).equals(stages.store.read_table(candidates))
    with pytest.raises(InputError, match="kept no predictions"):
        prediction_parts(stages.store, plain)


def test_a_part_says_what_it_holds(stages: Any, candidates: ArtifactRef) -> None:
    for found in prediction_parts(stages.store, candidates):
        manifest = stages.store.manifest(found.part)
        entry = manifest.file("all_predictions.parquet")
        assert (entry.schema_name, entry.schema_version) == ("all_predictions", 1)
        assert entry.rows == manifest.parameters["stop"] - manifest.parameters["start"]
        table = stages.store.read_table(found.part, "all_predictions")
        assert table.column_names == ["formation_energy_per_atom"]
        assert int(table.schema.metadata[b"start"]) == found.first
        assert manifest.rows == stages.store.read_table(found.part).num_rows


def test_whatever_parts_there_are_answer(stages: Any, candidates: ArtifactRef, tmp_path: Path) -> None:
    """Another cut gives the same candidates; where parts of the first are gone, those of the second step in."""
    assert merged(stages, KEPT, 77).key == candidates.key
    root = tmp_path / "store"
    shutil.copytree(stages.root, root)
    store = ArtifactStore(root)
    here = store.find(candidates.key)
    assert here is not None
    whole = streamed(store, here, 0)
    first = prediction_parts(store, here)
    shutil.rmtree(root / first[0].part.key)
    second = prediction_parts(store, here)
    assert {found.part.key for found in second} != {found.part.key for found in first}
    for before, after in itertools.pairwise(second):
        assert after.start == (before.stop if after.space == before.space else 0)
    assert streamed(store, here, 0).tobytes() == whole.tobytes()
    for key in store.keys("candidates_part"):
        shutil.rmtree(root / key)
    with pytest.raises(ArtifactNotFound, match="--keep-predictions"):
        prediction_parts(store, here)


def test_parts_without_predictions_are_foreign(stages: Any) -> None:
    plain = parts_of(stages, KEPT.model_copy(update={"keep_predictions": False}), 130)
    with pytest.raises(ForeignPart, match="belongs to another screen"):
        check_parts(stages.store, plain, {"network": stages.network, "phases": stages.phases}, KEPT)


def test_the_parameters_come_back(stages: Any, candidates: ArtifactRef) -> None:
    assert screen_of(stages.store, candidates) == KEPT


def test_of_a_list_in_its_order(stages: Any, tmp_path: Path) -> None:
    path = tmp_path / "mine.txt"
    path.write_text("Na2O\nLiNaMgAlO4\nLi2O\nLi3AlF6\n")
    listed = stages.run(read_formulas, str(path))
    parameters = KEPT.model_copy(update={"spaces": (SpaceParameters(formulas=listed),)})
    ref = merged(stages, parameters, 3)
    from models.features import element_fractions

    fractions = element_fractions(["Na2O", "LiNaMgAlO4", "Li2O", "Li3AlF6"])
    values = load_predictor(stages.network, stages.phases).predict(fractions)[0]
    assert streamed(stages.store, ref, 0).tobytes() == values.tobytes()
    assert screen_of(stages.store, ref) == parameters


def test_not_with_the_fast_mode() -> None:
    with pytest.raises(ValidationError, match="keep_predictions needs precision fp32"):
        ScreenParameters(keep_predictions=True, precision="fast")
