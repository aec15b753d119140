"""A look ahead at a screen: its counts are exact, its guesses those of the sample."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest

from models.errors import InputError
from storage.errors import StoreError
from tasks import estimate
from tasks.estimate import MERGED, estimate_screen, sample_ranges
from tasks.parameters import ScreenParameters, SpaceParameters
from tasks.spaces import composition_space, plan_blocks

SPACE = SpaceParameters(elements=("Li", "Na", "Mg", "Al", "O", "F"), arities=(2, 3), max_atoms=6)


@pytest.mark.parametrize("size", [1, 100, 8 * 512, 8 * 512 + 1, 446_597_140])
def test_ranges_lie_apart_and_inside(size: int) -> None:
    ranges = sample_ranges(size, 8, 512)
    assert ranges[0][0] >= 0
    assert ranges[-1][1] <= size
    assert all(low < high for low, high in ranges)
    assert all(high <= low for (_, high), (low, _) in itertools.pairwise(ranges))
    assert sum(high - low for low, high in ranges) == min(size, 8 * 512)


def test_a_small_space_is_screened_whole(stages: Any) -> None:
    found = estimate_screen(
        stages.root, stages.network.key, stages.phases.key, ScreenParameters(spaces=(SPACE,), threshold=9.0), 60
    )
    space = composition_space(SPACE)
    assert found.n_compositions == len(space)
    assert found.n_sample == 2 * len(space)  # timed, and counted
    assert found.n_candidates == len(space)  # none lies 9 eV/atom above the hull
    assert found.n_systems == 15 + 20
    assert found.n_blocks == len(plan_blocks(ScreenParameters(spaces=(SPACE,)), 60))
    assert found.core_seconds > 0
    assert found.rate == pytest.approx(len(space) / found.core_seconds)
    assert found.n_bytes > len(space)


def test_a_sample_stands_for_the_rest(stages: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(estimate, "TIMED", (8, 10))
    monkeypatch.setattr(estimate, "COUNTED", (20, 3))
    monkeypatch.setattr(estimate, "BAND_SAMPLE", 50)
    path = tmp_path / "list.txt"
    path.write_text("Li2O\nNaF\nLi3AlF6\n")
    both = (SPACE, SpaceParameters(formulas=str(path)))
    options: dict[str, Any] = {"spaces": both, "threshold": 9.0}
    fast = estimate_screen(
        stages.root,
        stages.network.key,
        str(stages.tiny.energies_file),
        ScreenParameters(**options, precision="fast"),
        7,
    )
    n = len(composition_space(SPACE))
    assert (fast.n_sample, fast.n_compositions) == (80 + 3 + 60 + 3, n + 3)
    assert fast.n_candidates == pytest.approx(n + 3)
    kept = ScreenParameters(**options, keep_predictions=True)
    with_all = estimate_screen(stages.root, stages.network.key, stages.phases.key, kept, 7)
    plain = with_all.n_bytes - estimate.BYTES_PER_PREDICTION * (n + 3)
    assert plain > (1 + MERGED) * (n + 3)


def test_bad_names_are_one_line(stages: Any) -> None:
    with pytest.raises((InputError, StoreError), match="nothing-here"):
        estimate_screen(stages.root, "nothing-here", stages.phases.key, ScreenParameters(), 10)
