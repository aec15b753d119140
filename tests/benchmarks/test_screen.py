from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from benchmarks.screen_byhand import random_systems
from benchmarks.screen_page import in_turns, section_of, spread, table, with_others, with_section, write_section

PAGE = "# Benchmarks\n\nTable.\n\n## Screening\n\nold\n\n### Hull\n\nold\n\n## Ingest\n\nkept\n"


def test_section_ends_at_the_next_one() -> None:
    assert section_of(PAGE, "Screening") == "## Screening\n\nold\n\n### Hull\n\nold\n"
    assert section_of(PAGE, "Ingest") == "## Ingest\n\nkept\n"
    assert section_of(PAGE, "Hull") == ""


def test_section_is_replaced_and_the_others_stay() -> None:
    page = with_section(PAGE, "Screening", "## Screening\n\nnew\n")
    assert page == "# Benchmarks\n\nTable.\n\n## Screening\n\nnew\n\n## Ingest\n\nkept\n"
    assert with_section(page, "Screening", "## Screening\n\nnew\n") == page


def test_section_that_is_not_there_goes_to_the_end() -> None:
    assert with_section("# Benchmarks\n\nTable.\n", "Screening", "## Screening\n\nnew") == (
        "# Benchmarks\n\nTable.\n\n## Screening\n\nnew\n"
    )


def test_new_page_keeps_what_others_wrote() -> None:
    new = "# Benchmarks\n\nOther table.\n\n## Ingest\n\nnew\n"
    page = with_others(new, f"{PAGE}\n## Folds\n\nfolds\n", ours=("Ingest",))
    assert page == new + "\n## Screening\n\nold\n\n### Hull\n\nold\n\n## Folds\n\nfolds\n"
    assert with_others(page, page, ours=("Ingest",)) == page
    assert with_others("# Benchmarks\n\nTable.\n", PAGE, ours=("Ingest",)).count("## ") == 2  # Screening, ### Hull


@pytest.mark.parametrize("before", [None, PAGE])
def test_section_written_twice_is_there_once(tmp_path: Path, before: str | None) -> None:
    path = tmp_path / "page.md"
    if before is not None:
        path.write_text(before)
    for _ in range(2):
        write_section(path, "Screening", "## Screening\n\nnew\n")
    page = path.read_text()
    assert page.startswith("# Benchmarks\n")
    assert page.count("## Screening") == 1
    assert ("## Ingest\n\nkept\n" in page) == (before is not None)


def test_works_run_in_turns() -> None:
    order: list[str] = []

    def work(name: str, units: float) -> float:
        order.append(name)
        sum(range(10_000))
        return units

    turns = in_turns({"a": lambda: work("a", 2.0), "b": lambda: work("b", 1.0)}, 3)
    assert all(one != other for one, other in pairwise(order))
    assert len(order) == 2 * (1 + 3)  # one round unmeasured
    assert [len(speeds) for speeds in (*turns.wall.values(), *turns.processor.values())] == [3] * 4
    assert turns.ratio("a", "a") == 1.0
    assert turns.ratio("a", "b", 2.0) == 2.0 * turns.ratio("a", "b")
    assert turns.running > 0.0


def test_spread_is_of_the_rounds_ratios() -> None:
    assert spread([2.0, 9.0, 4.0], [1.0, 3.0, 1.0]) == "3.00 (2.00 to 4.00)"


def test_table() -> None:
    assert table(("a", "b"), [(1, "x")]) == "| a | b |\n| --- | --- |\n| 1 | x |\n"


def test_random_systems_are_ascending_and_the_same_again() -> None:
    systems = random_systems(20)
    assert systems.shape == (20, 4)
    assert (np.diff(systems, axis=1) > 0).all()
    assert np.array_equal(systems, random_systems(20))
