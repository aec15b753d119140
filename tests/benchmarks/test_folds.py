from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from benchmarks.folds import TITLE, Measured, main, rows_of, section
from benchmarks.screen_page import section_of
from models.errors import InputError
from storage.store import ArtifactStore


def test_line_is_of_the_rounds_medians_and_ratios() -> None:
    measured = Measured("net", one=[8.0, 12.0, 10.0], two=[4.0, 8.0, 5.0], shares=[(2, 2), (3, 1), (2, 2)])
    assert measured.line == ("net", "10.0 s", "5.0 s", "2.00 (1.50 to 2.00)", "2 + 2, 3 + 1")


def test_section_is_a_whole_one() -> None:
    lines = [Measured(name, [4.0], [2.0], [(2, 2)]) for name in ("net", "other")]
    text = section(lines, 1234, "the starter set", "Load average: 0.")
    assert section_of(f"# Page\n\n{text}\n## Next\n", TITLE) == text
    assert "4 folds of 1,234 compositions of the starter set, one thread each" in text
    assert text.endswith("| other | 4.0 s | 2.0 s | 2.00 (2.00 to 2.00) | 2 + 2 |\n")


def test_rows_are_drawn_and_all_of_them_are_dealt_out(tiny: Any, tmp_path: Path) -> None:
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        root, rows = rows_of(tmp_path / name, str(tiny.energies_file), None, 100)
        made.append(ArtifactStore(root).read_table(rows).to_pandas())
    assert made[0].equals(made[1])
    assert set(made[0]["split"]) == {"train"}
    known = dict(zip(tiny.energies["formula"], tiny.energies["formation_energy_per_atom"], strict=True))
    assert 90 < len(made[0]) <= 100  # a row of each composition
    assert all(labels[0] in known.values() for labels in made[0]["labels"])


def test_a_column_that_is_not_there_is_named(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="COLUMN=NAME"):
        rows_of(tmp_path, str(tiny.energies_file), ["energy"], 100)


@pytest.mark.soak
@pytest.mark.timeout(600)
def test_it_measures_and_writes_its_section(prefect_server: object, tiny: Any, tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Benchmarks\n\n## Screening\n\nkept\n")
    entry = "elemnet@widths=[16,8,1],preset=small,epochs=20"
    given = ["--data", str(tiny.energies_file), "--rows", "120", "--entry", entry, "--rounds", "2", "--out", str(page)]
    main(given)
    text = page.read_text()
    assert "## Screening\n\nkept\n" in text
    (line,) = [line for line in section_of(text, TITLE).splitlines() if line.startswith(f"| {entry} |")]
    *_, ratio, shares = (cell.strip() for cell in line.strip("|").split("|"))
    assert float(ratio.split()[0]) > 0
    assert {sum(map(int, share.split(" + "))) for share in shares.split(", ")} == {4}
