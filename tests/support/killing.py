"""Processes that die without a chance to tidy up."""

from __future__ import annotations

import subprocess

import psutil


def kill_family(process: subprocess.Popen[bytes]) -> None:
    """SIGKILL a process and everything it started, the process first, or its nannies would start new workers."""
    me = psutil.Process(process.pid)
    me.suspend()
    family = [me, *me.children(recursive=True)]
    for member in family:
        try:
            member.kill()
        except psutil.NoSuchProcess:
            continue
    psutil.wait_procs(family, timeout=20)
    process.communicate()
    assert not any(member.is_running() and member.status() != psutil.STATUS_ZOMBIE for member in family)


def workers(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    """Return the Dask worker processes below a process: what its nannies spawned."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        try:
            if any("multiprocessing" in part and "spawn" in part for part in child.cmdline()):
                found.append(child)
        except psutil.NoSuchProcess:
            continue
    return found
