"""A campaign that is killed with SIGKILL, server and workers too, and run again ends with the same artifacts.

One such kill is in `test_campaign.py`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from killing import after_commits, check_killed, committed, finish, kill_when

#: Commits after which the run is killed: one kill in every stretch of the campaign, from the first ingest on.
ALL_STAGES = (0, 1, 3, 4, 5, 6, 7, 8, 9, 10, 11, 13, 15, 17, 18, 19, 20, 21)


@pytest.fixture(scope="module")
def undisturbed(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a campaign ends with when nobody disturbs it."""
    return finish(tiny, tmp_path_factory.mktemp("undisturbed") / "store")


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_killed_while_it_recovers(tiny: Any, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    """Killed early, and once more near the end of the run that goes on."""
    root = tmp_path / "store"
    kill_when(tiny, root, after_commits(root, 5, seed=1))
    assert 5 <= committed(root) < len(undisturbed)
    check_killed(tiny, root, len(undisturbed) - 3, 2, undisturbed)


@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("n", ALL_STAGES)
def test_killed_at_every_stage(tiny: Any, tmp_path: Path, undisturbed: dict[str, str], n: int) -> None:
    check_killed(tiny, tmp_path / "store", n, n, undisturbed)
