from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from deployments.guard import ROOMS, find_shadows, home

CHECK = "from deployments.guard import check_packages; check_packages(); import models.errors; print('works')"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A user's folder with a `models/` of its own."""
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "__init__.py").write_text("raise RuntimeError('the wrong models')")
    return tmp_path


def start(folder: Path, *first: Path) -> subprocess.CompletedProcess[str]:
    path = [str(entry) for entry in (*first, home())]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(path), "PYTHONSAFEPATH": "1"}
    return subprocess.run(
        [sys.executable, "-c", CHECK], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )


def test_packages_resolve_to_this_distribution() -> None:
    assert find_shadows() == []
    assert all((home() / room).is_dir() for room in ROOMS)


def test_own_models_folder_works_when_python_does_not_look_there(folder: Path) -> None:
    done = start(folder)
    assert (done.returncode, done.stdout) == (0, "works\n"), done.stderr


def test_own_models_folder_on_the_path_is_named_in_one_line(folder: Path) -> None:
    done = start(folder, folder)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {folder / 'models'} is in the way of elemscreen's own package 'models'")
    assert done.stderr.count("\n") == 1


def test_folder_without_init_is_not_in_the_way(folder: Path) -> None:
    (folder / "models" / "__init__.py").unlink()  # a plain folder gives way to a package further down the path
    assert start(folder, folder).returncode == 0
