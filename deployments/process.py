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
    """Wait for the end of a process.

    One that has ended stays in the process table until its parent asks after it. A parent that is gone, or ours, does
    so soon; another one may never, so a process that has ended is not waited for longer than two seconds.
    """
    deadline = time.monotonic() + wait_s
    ended_at: float | None = None
    while time.monotonic() < deadline:
        try:
            process.wait(0.05)
            return True
        except psutil.NoSuchProcess:
            return True
        except psutil.TimeoutExpired:
            if ended_at is None and _is_zombie(process):
                ended_at = time.monotonic()
            if ended_at is not None and time.monotonic() - ended_at > 2.0:
                return True
    return False


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
