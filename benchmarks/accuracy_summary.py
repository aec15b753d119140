"""The section In short of docs/accuracy.md: its numbers are read off the page's other sections.

    python -m benchmarks.accuracy_summary

Run it after a section was written anew. A section that is not there yet has no row.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from benchmarks.accuracy_tables import PAGE
from benchmarks.screen_page import section_of, table
from models.errors import InputError

TITLE = "In short"


@dataclass(frozen=True)
class Claim:
    """A number of the page.

    Attributes
    ----------
    what
        In the reader's words.
    section
        Title of the section that it is in.
    row, column
        First cell of its row, and the column's head, in the first table of the section that has both.
    published
        What a paper reports, and for how many rows.
    """

    what: str
    section: str
    row: str
    column: str = "MAE"
    published: str = ""


CLAIMS = (
    Claim("OQMD, one ElemNet", "ElemNet on the OQMD", "ElemNet, seed 0", published="0.050 (231k rows)"),
    Claim("OQMD, ElemNets that go on once, 4 networks in all", "ElemNets that go on when their epochs are over",
          "2 seeds, 1 restart"),
    Claim("OQMD, ElemNets that go on twice, 6 networks in all", "ElemNets that go on when their epochs are over",
          "2 seeds, 2 restarts"),
    Claim("OQMD, attention", "The attention network on the OQMD", "attention, 192 wide, 4 layers",
          published="0.031 (CrabNet, Roost; 239k rows)"),
    Claim("OQMD, random forest on Magpie attributes", "Forests and other baselines on the OQMD",
          "random forest, Magpie", published="0.071 (231k rows)"),
    Claim("50,000 rows of it, IRNet 48", "Residual and plain networks on Magpie attributes", "IRNet 48",
          published="0.038 (436k rows)"),
    Claim("50,000 rows of it, plain network of 48 layers", "Residual and plain networks on Magpie attributes",
          "plain 48", published="0.109 (436k rows)"),
    Claim("measured energies, from scratch", "Transfer to measured formation energies", "from scratch",
          published="0.130 (1,963 rows)"),
    Claim("measured energies, transferred", "Transfer to measured formation energies", "transferred",
          published="0.064 (1,963 rows)"),
    Claim("JARVIS-DFT, transferred", "Transfer to JARVIS-DFT", "transferred", published="0.031 (on the hull only)"),
    Claim("Materials Project's hull, transferred", "Transfer to the Materials Project's hull", "transferred",
          published="0.025 (23,641 rows)"),
    Claim("metals and insulators, area under the curve", "Metals and insulators", "attention", "auc"),
)  # fmt: skip


def value(page: str, claim: Claim) -> str | None:
    """Return a claim's number as the page has it; None where its section is not there.

    Raises
    ------
    InputError
        The section is there and has no such row or column.
    """
    section = section_of(page, claim.section)
    if not section:
        return None
    header: list[str] = []
    for line in section.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")] if line.startswith("|") else []
        if not cells:
            header = []
        elif not header:
            header = cells
        elif cells[0] == claim.row and claim.column in header:
            return cells[header.index(claim.column)]
    raise InputError(f"the section {claim.section!r} has no {claim.column} of {claim.row!r}: correct its claim")


def anchor(title: str) -> str:
    """Return what a link to a heading is called, as GitHub makes it."""
    return re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-")


def summary(page: str) -> str:
    """Return the section."""
    rows = [
        (claim.what, found, claim.published, f"[{claim.section}](#{anchor(claim.section)})")
        for claim in CLAIMS
        if (found := value(page, claim)) is not None
    ]
    return (
        f"## {TITLE}\n\nRead off the sections below by `python -m benchmarks.accuracy_summary`.\n\n"
        f"{table(('what', 'MAE, or what is named', 'published', 'section'), rows)}"
    )


def main() -> None:
    """Write the section before all others."""
    page = PAGE.read_text()
    old = section_of(page, TITLE)
    page = page.replace(old.rstrip(), "", 1) if old else page
    before, _, rest = page.partition("\n## ")
    PAGE.write_text(f"{before.rstrip()}\n\n{summary(page).rstrip()}\n\n## {rest.lstrip()}")
    print(summary(page))


if __name__ == "__main__":
    main()
