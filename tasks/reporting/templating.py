"""The templates of the pages: where they are, and the filters that they use."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from tasks.reporting import wording

FOLDER = Path(__file__).parent / "templates"


@cache
def environment() -> Environment:
    """Return the environment of all pages; what a template lacks is an error."""
    made = Environment(
        loader=FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    made.filters.update(
        count=wording.count,
        decimal=wording.decimal,
        significant=wording.significant,
        percent=wording.percent,
        threshold=wording.threshold,
        wavelength=wording.wavelength,
        formula=wording.formula_html,
        value=wording.plain_value,
        plural=wording.plural,
        words=wording.label,
    )
    return made
