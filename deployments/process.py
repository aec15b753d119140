"""Processes that this one did not start: find them again, ask them to stop."""

from __future__ import annotations

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
    try:
        process.terminate()
        process.wait(grace_s)
    except psutil.TimeoutExpired:
        process.kill()
        process.wait(grace_s)
    except psutil.NoSuchProcess:
        return
