"""Leases: at most one process at a time builds the artifact of a key, and a dead one's place is taken over.

A key's leases are numbered files ``.leases/<key>/<generation>.json``; the highest number holds. Taking a lease, or
taking over from a dead holder, is creating the next number, which the file system or object store lets one process do.
Nothing is ever deleted but lower numbers, so two waiters cannot both replace the same dead holder. A holder shows that
it lives by its heartbeat. Releasing rewrites the holder's own file with ``released``.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
import uuid
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from storage.backends import Backend, LocalBackend
from storage.errors import StoreError

logger = logging.getLogger(__name__)

FOLDER = ".leases"
CLOCK_MARGIN = 10
"""A lease whose time stamp is this many lease lengths old is dead even by a clock that is badly off."""


@dataclass(frozen=True)
class Holder:
    """Who holds a lease, as its file says.

    Attributes
    ----------
    host, machine
        Host name; boot id and PID namespace, which decide whether `pid` means anything here.
    pid, started
        Process id and start time of the process (clock ticks since boot; None where the system does not say).
    owner
        Random id of this holding.
    lease_s
        Seconds without a heartbeat after which others may take over.
    beat
        Time of the last heartbeat written into the file (s since the epoch).
    released
        The holder is done.
    """

    host: str
    machine: str
    pid: int
    started: str | None
    owner: str
    lease_s: float
    beat: float
    released: bool = False

    @property
    def label(self) -> str:
        """Short text for messages."""
        return f"process {self.pid} on {self.host}"

    def to_bytes(self) -> bytes:
        """Return the lease file."""
        return json.dumps(self.__dict__, sort_keys=True).encode()

    def is_dead_here(self) -> bool:
        """Whether the holder ran on this machine and is certainly gone."""
        if self.machine != this_machine():
            return False
        alive, started = process_start(self.pid)
        return not alive or (None not in (started, self.started) and started != self.started)


@cache
def this_machine() -> str:
    """Return an id of this boot and PID namespace: two containers may share a host name, not this."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    if not boot.exists():
        return f"{socket.gethostname()}/{uuid.getnode():x}"
    return f"{boot.read_text().strip()}/{os.readlink('/proc/self/ns/pid')}"


def process_start(pid: int) -> tuple[bool, str | None]:
    """Return whether a process lives and when it started, so that a reused process id is not taken for the old one."""
    if Path("/proc/self/stat").exists():
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        except (FileNotFoundError, ProcessLookupError):
            return _answers(pid), None  # /proc may hide other users' processes
        return fields[0] not in ("Z", "X"), fields[19]
    return _answers(pid), None


def _answers(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


@dataclass(frozen=True)
class Sight:
    """What a waiter saw: the generation, its holder (None when unreadable) and something that a heartbeat changes."""

    generation: int
    holder: Holder | None
    pulse: Any
    age_s: float


class Lease:
    """The right to build one key, with a heartbeat thread while it is held.

    Use as a context manager after `acquire` returned one.
    """

    def __init__(self, backend: Backend, key: str, generation: int, holder: Holder) -> None:
        self._backend = backend
        self._key = key
        self._generation = generation
        self._holder = holder
        self._done = threading.Event()
        self._lost = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {key}", daemon=True)
        self._thread.start()

    @property
    def owner(self) -> str:
        """Random id of this holding."""
        return self._holder.owner

    def __enter__(self) -> Lease:
        """Return the lease."""
        return self

    def __exit__(self, *_: object) -> None:
        """Release it."""
        self.release()

    def still_held(self) -> bool:
        """Look into the store whether nobody has taken over."""
        if not self._lost.is_set():
            generations = _generations(self._backend, self._key)
            if not generations or generations[-1] != self._generation:
                self._lost.set()
        return not self._lost.is_set()

    def release(self) -> None:
        """Stop the heartbeat and let the next one in."""
        self._done.set()
        self._thread.join()
        path = _path(self._key, self._generation)
        try:
            if self.still_held():
                done = Holder(**{**self._holder.__dict__, "released": True})
                self._backend.replace(path, done.to_bytes(), durable=False)
        except (OSError, StoreError) as error:
            # The work is done or has failed with its own error, which this one must not hide.
            logger.warning("the lease on %s could not be released: %s", self._key, error)
            if isinstance(self._backend, LocalBackend):
                with contextlib.suppress(OSError):
                    os.utime(self._backend.path(path), (0, 0))  # needs no space; a time long ago means free

    def _beat(self) -> None:
        while not self._done.wait(self._holder.lease_s / 3):
            try:
                if not self.still_held():
                    logger.warning("the lease on %s was taken over by another process", self._key)
                    return
                self._pulse()
            except (OSError, StoreError) as error:
                logger.warning("heartbeat of the lease on %s failed: %s", self._key, error)

    def _pulse(self) -> None:
        path = _path(self._key, self._generation)
        if isinstance(self._backend, LocalBackend):
            os.utime(self._backend.path(path))
        else:
            now = Holder(**{**self._holder.__dict__, "beat": time.time()})
            self._backend.replace(path, now.to_bytes(), durable=False)


def _path(key: str, generation: int) -> str:
    return f"{FOLDER}/{key}/{generation:08d}.json"


def _generations(backend: Backend, key: str) -> list[int]:
    names = backend.names(f"{FOLDER}/{key}")
    return sorted(int(name[:8]) for name in names if len(name) == 13 and name[:8].isdigit() and name.endswith(".json"))


def look(backend: Backend, key: str) -> Sight | None:
    """Return the newest lease of a key, or None when there never was one (or it was just replaced)."""
    generations = _generations(backend, key)
    if not generations:
        return None
    path = _path(key, generations[-1])
    try:
        data = backend.read(path)
        stamp = backend.modified(path) if isinstance(backend, LocalBackend) else None
    except FileNotFoundError:
        return None
    try:
        holder = Holder(**json.loads(data))
    except (ValueError, TypeError):
        holder = None
    beat = stamp if stamp is not None else (holder.beat if holder else time.time())
    return Sight(generations[-1], holder, (generations[-1], stamp, data), time.time() - beat)


def is_free(sight: Sight | None) -> bool:
    """Whether the next generation may be created at once: never held, released, dead here, or silent for very long."""
    if sight is None:
        return True
    if sight.holder is None:
        return False
    holder = sight.holder
    return holder.released or holder.is_dead_here() or sight.age_s > CLOCK_MARGIN * holder.lease_s


def is_live(backend: Backend, key: str) -> bool:
    """Whether somebody is building this key, as far as one look tells."""
    return not is_free(look(backend, key))


class Watch:
    """A waiter's own clock on a lease: silent for one lease length means dead, whatever the holder's clock says."""

    def __init__(self, lease_s: float) -> None:
        self._lease_s = lease_s
        self._pulse: Any = None
        self._since = time.monotonic()

    def may_take_over(self, sight: Sight | None) -> bool:
        """Whether the lease seen now is free, or has shown no heartbeat while we watched."""
        if is_free(sight):
            return True
        assert sight is not None
        if sight.pulse != self._pulse:
            self._pulse, self._since = sight.pulse, time.monotonic()
            return False
        limit = sight.holder.lease_s if sight.holder else self._lease_s
        return time.monotonic() - self._since > limit


def acquire(backend: Backend, key: str, sight: Sight | None, lease_s: float) -> Lease | None:
    """Take the lease that follows `sight`, or return None when somebody else was faster."""
    generation = sight.generation + 1 if sight else 1
    me = Holder(
        host=socket.gethostname(),
        machine=this_machine(),
        pid=os.getpid(),
        started=process_start(os.getpid())[1],
        owner=uuid.uuid4().hex,
        lease_s=lease_s,
        beat=time.time(),
    )
    try:
        backend.create(_path(key, generation), me.to_bytes(), durable=False)
    except FileExistsError:
        return None
    generations = _generations(backend, key)
    if generations[-1] != generation:
        # Our look was so old that this number had been used and cleaned up since.
        backend.delete(_path(key, generation))
        return None
    for older in generations[:-1]:
        backend.delete(_path(key, older))
    if sight is not None and sight.holder is not None and not sight.holder.released:
        logger.warning("took over %s from %s, which stopped without finishing", key, sight.holder.label)
    return Lease(backend, key, generation, me)
