"""Processes that this one did not start: find them again, ask them to stop."""

from __future__ import annotations

import time

import psutil


def creation_time(pid: int) -> float:
    """Return when process `pid` began [s since the epoch]; together with the id it names a process for good."""
    return psutil.Process(pid).create_time()


def find(pid: int, created: float) -> psutil.Process | None:
    """Return the process `pid` that began at `created` [s], or None when it is gone or its id was given to another."""
    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - created) > 1.0 or process.status() == psutil.STATUS_ZOMBIE:
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def stop(process: psutil.Process, grace_s: float = 10.0) -> None:
    """Ask a process to end, and end it when it has not done so after `grace_s` seconds."""
    for ask in (process.terminate, process.kill):
        try:
            ask()
        except psutil.NoSuchProcess:
            return
        if _ended(process, grace_s):
            return
    raise psutil.TimeoutExpired(grace_s, process.pid)


def _ended(process: psutil.Process, wait_s: float) -> bool:
    """Wait for the end of a process; another's child that its parent has not asked after yet (a zombie) has ended."""
    deadline = time.monotonic() + wait_s
    while time.monotonic() < deadline:
        try:
            process.wait(0.05)  # a child of ours leaves the process table with this
            return True
        except psutil.TimeoutExpired:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return True
        except psutil.NoSuchProcess:
            return True
    return False
