"""The house rules that a machine can check."""

from __future__ import annotations

import ast
import importlib
import importlib.resources
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("deployments", "flows", "models", "storage", "tasks")
FILES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

#: Third-party packages that a room may import, by import name (DESIGN: "the house").
ALLOWED = {
    "models": {"numpy", "scipy", "numba", "pandas", "torch", "sklearn", "pymatgen", "matminer", "pyarrow"},
    "storage": {"numpy", "pyarrow", "fsspec", "pydantic", "safetensors"},
}
#: And one file of a room, beyond that.
ALLOWED_IN = {"models/selfbuilt.py": {"chgnet"}, "models/search.py": {"optuna"}}
#: Import name -> distribution, where they differ.
DISTRIBUTIONS = {
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "prefect_dask": "prefect-dask",
    "mp_api": "mp-api",
    "dask_cuda": "dask-cuda",
}


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text())


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imported(path: Path) -> set[str]:
    """Top-level names of everything a file imports, at any depth."""
    names: set[str] = set()
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            names.add(node.module.partition(".")[0])
    return names


def third_party(path: Path) -> set[str]:
    return {name for name in imported(path) if name not in sys.stdlib_module_names and name not in ROOMS}


def project() -> dict[str, object]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        return tomllib.load(file)


def functions(path: Path) -> list[ast.FunctionDef | ast.AsyncFunctionDef]:
    return [node for node in ast.walk(tree(path)) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]


def test_arrows_point_one_way() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint, "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_room_imports_only_what_it_may(room: str) -> None:
    for path in FILES:
        if path.relative_to(ROOT).parts[0] == room:
            assert third_party(path) <= ALLOWED[room] | ALLOWED_IN.get(name_of(path), set()), name_of(path)


def test_every_import_is_a_declared_dependency() -> None:
    metadata = project()["project"]
    assert isinstance(metadata, dict)
    extras = [text for name, group in metadata["optional-dependencies"].items() if name != "dev" for text in group]
    declared = {Requirement(text).name.lower() for text in [*metadata["dependencies"], *extras]}
    for path in FILES:
        needed = {DISTRIBUTIONS.get(name, name).lower() for name in third_party(path)}
        assert needed <= declared, name_of(path)


def test_files_and_functions_are_short() -> None:
    long_files = {name_of(path): n for path in FILES if (n := len(path.read_text().splitlines())) > MAX_FILE_LINES}
    assert not long_files
    long_functions = {
        f"{name_of(path)}:{node.name}": length
        for path in FILES
        for node in functions(path)
        if (length := (node.end_lineno or 0) - node.lineno + 1) > MAX_FUNCTION_LINES
    }
    assert not long_functions


def test_public_names_have_docstrings() -> None:
    bare = []
    for path in FILES:
        if not ast.get_docstring(tree(path)):
            bare.append(name_of(path))
        for node in tree(path).body:
            public = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and node.name[0] != "_"
            if public and not ast.get_docstring(node):
                bare.append(f"{name_of(path)}:{node.name}")
    assert not bare


def test_what_workers_import_is_light() -> None:
    """Every process of a cluster pays for it: scipy loads its parts on use, others are imported where they are used."""
    heavy = ("scipy.stats", "scipy.signal", "matplotlib", "sklearn", "optuna", "pymatgen.io.cif", "pymatgen.io.vasp")
    code = f"import flows.campaign, sys; print(sorted(set({heavy!r}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]", done


def test_nothing_is_unpickled() -> None:
    for path in FILES:
        assert not imported(path) & {"pickle", "joblib", "cloudpickle", "dill", "shelve", "marshal"}, name_of(path)
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
                pytest.fail(f"{name_of(path)}:{node.lineno} calls torch.load")


def test_packages_are_listed_one_by_one() -> None:
    tool = project()["tool"]
    assert isinstance(tool, dict)
    listed = set(tool["setuptools"]["packages"])
    there = {".".join(path.parent.relative_to(ROOT).parts) for path in FILES}
    assert listed == there
    assert all((ROOT / package.replace(".", "/") / "__init__.py").is_file() for package in listed)


def test_tests_are_no_package() -> None:
    assert not list((ROOT / "tests").rglob("__init__.py"))


def test_entry_point_exists() -> None:
    metadata = project()["project"]
    assert isinstance(metadata, dict)
    for target in metadata["scripts"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(importlib.import_module(module), name))


def test_package_data_is_found_by_name() -> None:
    files = importlib.resources.files("deployments")
    assert (files / "prefect.yaml").is_file()
    assert (files / "profiles" / "local.yaml").is_file()


def test_everything_that_is_installed_is_pinned() -> None:
    pins = set(re.findall(r"^([A-Za-z0-9._-]+)==", (ROOT / "constraints.txt").read_text(), flags=re.MULTILINE))
    pinned = {re.sub(r"[-_.]+", "-", name).lower() for name in pins}
    metadata = project()["project"]
    assert isinstance(metadata, dict)
    groups = [metadata["dependencies"], *metadata["optional-dependencies"].values()]
    wanted = {re.sub(r"[-_.]+", "-", Requirement(text).name).lower() for group in groups for text in group}
    assert wanted <= pinned
    assert "+" not in "".join(line for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
