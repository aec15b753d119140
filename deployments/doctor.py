"""What this machine has and lacks for elemscreen, one line each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import psutil
from dask.system import CPU_COUNT
from distributed.system import MEMORY_LIMIT

from deployments import process
from deployments.guard import ROOMS, find_shadows, home
from deployments.server import configured_api_url, is_healthy, read_state

Status = Literal["ok", "note", "problem"]

_GIB = 2**30
_MIN_MEMORY_GIB = 4
_MIN_DISK_GIB = 5
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")
#: Extra -> the module whose presence shows it.
_EXTRAS = {"dev": "pytest", "gpu": "dask_cuda", "selfbuilt": "chgnet", "optimade": "optimade"}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    subject
        What it is.
    status
        `ok`; `note` for something optional that is missing; `problem` for something that will fail.
    text
        What was found, and the remedy of a problem.
    """

    subject: str
    status: Status
    text: str


def examine(store: str) -> list[Finding]:
    """Look at everything that a run on this machine needs.

    Parameters
    ----------
    store
        Absolute folder or URL of the artifact store.

    Returns
    -------
    list of Finding
        In the order in which a person would ask.
    """
    checks: list[Callable[[], list[Finding]]] = [
        check_python,
        check_packages,
        check_versions,
        check_torch,
        check_fast_mode,
        check_machine,
        lambda: check_store(store),
        lambda: check_server(store),
        check_extras,
        check_browser,
    ]
    return [finding for check in checks for finding in check()]


def check_python() -> list[Finding]:
    """Look at the interpreter and the operating system."""
    text = f"{platform.python_version()} at {sys.executable}, {platform.system()} {platform.machine()}"
    return [Finding("python", "ok", text)]


def check_packages() -> list[Finding]:
    """Look whether each of our packages comes from this distribution."""
    shadows = find_shadows()
    if shadows:
        return [Finding("packages", "problem", str(shadow)) for shadow in shadows]
    found = [Finding("packages", "ok", f"{', '.join(ROOMS)} from {home()}")]
    here = [room for room in ROOMS if (Path.cwd() / room).is_dir() and (Path.cwd() / room).resolve() != home() / room]
    if here:
        names = ", ".join(f"{room}/" for room in here)
        text = f"the current folder holds {names} of its own: 'elemscreen' works here, 'python -m' would not"
        found.append(Finding("packages", "note", text))
    return found


def check_versions() -> list[Finding]:
    """Compare installed versions with `constraints.txt`, where the checkout with it is at hand."""
    file = home() / "constraints.txt"
    if not file.is_file():
        return [
            Finding("versions", "note", "installed without a checkout: there is no constraints.txt to compare with")
        ]
    pins = read_pins(file)
    wrong = [
        f"{name} {installed} instead of {wanted}"
        for name, wanted in pins.items()
        if (installed := _installed(name)) is not None and installed != wanted
    ]
    if wrong:
        more = f" and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        remedy = f"pip install -c {file} -e {home()}"
        return [Finding("versions", "note", f"{'; '.join(wrong[:4])}{more} (tested set: {remedy})")]
    return [Finding("versions", "ok", f"as in {file.name}")]


def check_torch() -> list[Finding]:
    """Look at the build of torch and the GPUs it sees."""
    import torch

    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU build"
    found = [Finding("torch", "ok", f"{torch.__version__} ({build})")]
    if torch.cuda.is_available():
        for index in range(torch.cuda.device_count()):
            gpu = torch.cuda.get_device_properties(index)
            found.append(Finding("gpu", "ok", f"{gpu.name}, {gpu.total_memory / _GIB:.0f} GiB"))
    elif shutil.which("nvidia-smi"):
        text = "nvidia-smi is here, but torch sees no GPU: install the CUDA build of torch"
        found.append(Finding("gpu", "note", text))
    else:
        found.append(Finding("gpu", "note", "none: everything runs on CPU cores"))
    return found


def check_fast_mode() -> list[Finding]:
    """Look at what `--precision fast` sieves in on this processor."""
    from models.sieve import best_sieve, second_sieve

    kind = best_sieve()
    if kind is None:
        text = "this processor multiplies nothing faster than fp32: --precision fast computes in fp32"
        return [Finding("fast mode", "note", text)]
    second = second_sieve(kind)
    after = "" if second is None else f", then in {second}"
    return [Finding("fast mode", "ok", f"--precision fast sieves in {kind}{after}")]


def check_machine() -> list[Finding]:
    """Look at the cores and the memory that this process may use (cgroup limits counted)."""
    total, free = MEMORY_LIMIT / _GIB, psutil.virtual_memory().available / _GIB
    status: Status = "ok" if total >= _MIN_MEMORY_GIB else "problem"
    remedy = "" if status == "ok" else f": a campaign needs {_MIN_MEMORY_GIB} GiB"
    return [
        Finding("cores", "ok", f"{CPU_COUNT}, of {os.cpu_count()} in the machine"),
        Finding("memory", status, f"{total:.1f} GiB, {free:.1f} GiB of it free{remedy}"),
    ]


def check_store(store: str) -> list[Finding]:
    """Look whether the store can be written, and at the room beside it."""
    if "://" in store.removeprefix("file://"):
        return [Finding("store", "ok", f"{store} (object store)")]
    folder = Path(store.removeprefix("file://"))
    there = next(parent for parent in (folder, *folder.parents) if parent.exists())
    if not os.access(there, os.W_OK):
        text = f"{folder} cannot be written: choose another with --store or ELEMSCREEN_STORE"
        return [Finding("store", "problem", text)]
    free = shutil.disk_usage(there).free / _GIB
    text = f"{folder}{'' if there == folder else ' (not made yet)'}, {free:.1f} GiB free"
    if free < _MIN_DISK_GIB:
        return [Finding("store", "problem", f"{text}: a campaign needs {_MIN_DISK_GIB} GiB")]
    return [Finding("store", "ok", text)]


def check_server(store: str) -> list[Finding]:
    """Look for the Prefect server that a run would use."""
    configured = configured_api_url()
    if configured:
        if is_healthy(configured):
            return [Finding("prefect", "ok", f"{configured} answers")]
        text = f"{configured} does not answer: start it, or unset PREFECT_API_URL to use an embedded one"
        return [Finding("prefect", "problem", text)]
    state = read_state(store)
    if state is None:
        return [Finding("prefect", "ok", "no server runs; the next run starts an embedded one")]
    if process.find(state.pid, state.created) is None or not is_healthy(state.api_url):
        return [Finding("prefect", "note", "the embedded server ended without a word; the next run replaces it")]
    return [
        Finding("prefect", "ok", f"embedded server {state.prefect_version} at {state.api_url} (process {state.pid})")
    ]


def check_extras() -> list[Finding]:
    """Look for the optional extras."""
    there = [extra for extra, module in _EXTRAS.items() if importlib.util.find_spec(module) is not None]
    absent = [extra for extra in _EXTRAS if extra not in there]
    text = f"{', '.join(there) or 'none'} installed"
    if absent:
        text += f"; not installed: {', '.join(absent)} (pip install 'elemscreen[{absent[0]}]')"
    return [Finding("extras", "note" if absent else "ok", text)]


def check_browser() -> list[Finding]:
    """Look for a Chromium for the browser tests."""
    path = next((found for name in _BROWSERS if (found := shutil.which(name))), None)
    if path is None:
        return [Finding("browser", "note", "no Chromium on the PATH: browser tests are skipped")]
    return [Finding("browser", "ok", path)]


def read_pins(file: Path) -> dict[str, str]:
    """Return the `name==version` lines of a constraints file as {name: version}."""
    pins = {}
    for line in file.read_text().splitlines():
        match = re.match(r"([A-Za-z0-9._-]+)==([^\s;]+)", line)
        if match:
            pins[match[1]] = match[2]
    return pins


def _installed(name: str) -> str | None:
    try:
        version = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return version.partition("+")[0]
