"""Look whether the code that runs is the code that was installed.

The folders of this distribution are its import packages, and `models` or `tasks` are names that other projects use
too. A folder of that name in the current directory comes first on Python's path when Python puts the directory there
(`python -m`, `PYTHONPATH=.`), so every start looks before anything of ours is imported.
"""

from __future__ import annotations

import importlib.util
import sys
from dataclasses import dataclass
from pathlib import Path

#: The import packages of the distribution.
ROOMS = ("deployments", "flows", "models", "storage", "tasks")


@dataclass(frozen=True)
class Shadow:
    """A package that resolves outside of the distribution.

    Attributes
    ----------
    package
        Its name.
    folder
        The folder that is in the way; None when the package is missing altogether.
    """

    package: str
    folder: Path | None

    def __str__(self) -> str:
        """Return one line that names the folder and the remedy."""
        if self.folder is None:
            return f"the package '{self.package}' of elemscreen is missing: install elemscreen again"
        return (
            f"{self.folder} is in the way of elemscreen's own package '{self.package}': start 'elemscreen' itself "
            "(not 'python -m'), take that folder's parent off PYTHONPATH, or start from another folder"
        )


def home() -> Path:
    """Return the folder that holds the distribution's packages."""
    return Path(__file__).resolve().parents[1]


def find_shadows() -> list[Shadow]:
    """Return the packages that do not come from this distribution; nothing is imported."""
    shadows = []
    for package in ROOMS:
        folder = _resolve(package)
        if folder is None or folder != home() / package:
            shadows.append(Shadow(package, folder))
    return shadows


def check_packages() -> None:
    """End the program with one line (exit code 2) when a folder is in the way of one of our packages."""
    shadows = find_shadows()
    if shadows:
        print(f"error: {shadows[0]}", file=sys.stderr)
        raise SystemExit(2)


def _resolve(package: str) -> Path | None:
    try:
        spec = importlib.util.find_spec(package)
    except ValueError:  # already imported, without a spec
        spec = None
    if spec is None:
        return None
    if spec.origin is not None:
        return Path(spec.origin).resolve().parent
    places = list(spec.submodule_search_locations or [])  # a folder without __init__.py
    return Path(places[0]).resolve() if places else None
