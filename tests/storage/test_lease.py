from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from storage import lease as leases
from storage.artifact import ArtifactRequest
from storage.backends import Backend, LocalBackend, open_backend
from storage.errors import LeaseTimeout, StoreError
from storage.lease import Holder, Watch, acquire, is_free, is_live, look, process_start, this_machine
from storage.store import ArtifactStore
from storage.writer import ArtifactWriter

Build = Callable[[ArtifactWriter], None]
Make = Callable[..., ArtifactRequest]
Start = Callable[..., "subprocess.Popen[str]"]

KEY = "formulas-" + "a" * 24


@pytest.fixture(params=["local", "memory"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Backend:
    return open_backend(tmp_path if request.param == "local" else f"memory://{tmp_path.name}")


def holder(**changes: Any) -> Holder:
    fields: dict[str, Any] = {
        "host": "elsewhere",
        "machine": "another boot",
        "pid": 1,
        "started": "1",
        "owner": "o",
        "lease_s": 0.3,
        "beat": time.time(),
    }
    return Holder(**{**fields, **changes})


def write(backend: Backend, generation: int, who: Holder) -> None:
    backend.replace(f".leases/{KEY}/{generation:08d}.json", who.to_bytes())


def test_one_holder_until_released(backend: Backend) -> None:
    assert look(backend, KEY) is None
    lease = acquire(backend, KEY, None, 60)
    assert lease is not None
    sight = look(backend, KEY)
    assert sight is not None
    assert sight.holder is not None
    assert sight.holder.pid == os.getpid()
    assert sight.holder.owner == lease.owner
    assert not is_free(sight)
    assert is_live(backend, KEY)
    assert acquire(backend, KEY, None, 60) is None
    assert lease.still_held()
    lease.release()
    assert not is_live(backend, KEY)
    after = look(backend, KEY)
    assert after is not None
    with acquire(backend, KEY, after, 60) or pytest.fail("not free") as second:
        assert second.still_held()
        assert backend.names(f".leases/{KEY}") == ["00000002.json"]


def test_dead_process_on_this_machine_is_free_at_once(backend: Backend) -> None:
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    write(backend, 1, holder(machine=this_machine(), pid=child.pid, started="1", lease_s=1_000))
    assert is_free(look(backend, KEY))
    write(backend, 1, holder(machine="another boot", pid=child.pid, started="1", lease_s=1_000))
    assert not is_free(look(backend, KEY))


def test_a_reused_process_id_is_not_the_holder(backend: Backend) -> None:
    alive, started = process_start(os.getpid())
    assert alive
    write(backend, 1, holder(machine=this_machine(), pid=os.getpid(), started=started, lease_s=1_000))
    assert not is_free(look(backend, KEY))
    if started is not None:
        write(backend, 1, holder(machine=this_machine(), pid=os.getpid(), started="12345", lease_s=1_000))
        assert is_free(look(backend, KEY))


def test_a_hidden_process_of_another_user_counts_as_alive(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(pid: int, signal_: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert process_start(2**22 + 5) == (True, None)
    write(backend, 1, holder(machine=this_machine(), pid=2**22 + 5, started="5", lease_s=1_000))
    assert not is_free(look(backend, KEY))


def test_process_start_without_proc(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Path.exists
    monkeypatch.setattr(Path, "exists", lambda path: False if str(path).startswith("/proc") else real(path))
    assert process_start(os.getpid()) == (True, None)
    assert process_start(2**22 + 5) == (False, None)
    this_machine.cache_clear()
    assert "/" in this_machine()
    this_machine.cache_clear()


def test_silent_holder_elsewhere_is_free_after_its_lease_by_our_clock(backend: Backend) -> None:
    # The other host's clock is an hour ahead: its time stamp alone would never expire.
    write(backend, 1, holder(beat=time.time() + 3_600))
    if isinstance(backend, LocalBackend):
        os.utime(backend.path(f".leases/{KEY}/00000001.json"), (time.time() + 3_600,) * 2)
    watch = Watch(60)
    assert not watch.may_take_over(look(backend, KEY))
    time.sleep(0.15)
    assert not watch.may_take_over(look(backend, KEY))
    time.sleep(0.2)
    assert watch.may_take_over(look(backend, KEY))


def test_a_beating_holder_elsewhere_keeps_its_lease(backend: Backend) -> None:
    watch = Watch(60)
    for beat in range(5):
        write(backend, 1, holder(beat=time.time() + beat))
        assert not watch.may_take_over(look(backend, KEY))
        time.sleep(0.12)


def test_very_old_lease_is_free_without_waiting(backend: Backend) -> None:
    write(backend, 1, holder(beat=time.time() - 3.5))
    if isinstance(backend, LocalBackend):
        os.utime(backend.path(f".leases/{KEY}/00000001.json"), (time.time() - 3.5,) * 2)
    assert is_free(look(backend, KEY))


def test_unreadable_lease_is_held_until_it_was_watched_long_enough(backend: Backend) -> None:
    backend.replace(f".leases/{KEY}/00000001.json", b"{")
    watch = Watch(0.1)
    assert not watch.may_take_over(look(backend, KEY))
    time.sleep(0.15)
    assert watch.may_take_over(look(backend, KEY))
    with acquire(backend, KEY, look(backend, KEY), 60) or pytest.fail("not taken"):
        assert backend.names(f".leases/{KEY}") == ["00000002.json"]


def test_only_one_of_many_takes_over(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    write(backend, 7, holder())
    sight = look(backend, KEY)
    barrier = threading.Barrier(8)
    won: list[leases.Lease] = []

    def race() -> None:
        barrier.wait()
        taken = acquire(backend, KEY, sight, 60)
        if taken is not None:
            won.append(taken)

    threads = [threading.Thread(target=race) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert "took over" in caplog.text
    assert "process 1 on elsewhere" in caplog.text
    won[0].release()


def test_a_look_from_long_ago_does_not_win_a_used_number(backend: Backend) -> None:
    stale = None  # saw no lease at all; since then numbers 1 and 2 were used, and 1 was cleaned up
    write(backend, 2, holder())
    assert acquire(backend, KEY, stale, 60) is None
    assert backend.names(f".leases/{KEY}") == ["00000002.json"]


def test_heartbeat_shows_life_and_notices_loss(backend: Backend, caplog: pytest.LogCaptureFixture) -> None:
    lease = acquire(backend, KEY, None, 0.15)
    assert lease is not None
    first = look(backend, KEY)
    time.sleep(0.12)
    second = look(backend, KEY)
    assert first is not None
    assert second is not None
    assert first.pulse != second.pulse
    write(backend, 2, holder())
    deadline = time.monotonic() + 3
    while "taken over" not in caplog.text and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "was taken over by another process" in caplog.text
    assert not lease.still_held()
    lease.release()
    newest = look(backend, KEY)
    assert newest is not None
    assert newest.generation == 2
    assert newest.holder is not None
    assert not newest.holder.released  # releasing a lost lease leaves the new holder's alone


def test_failing_heartbeat_is_logged(
    backend: Backend, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise StoreError("the object store fails")

    lease = acquire(backend, KEY, None, 0.06)
    assert lease is not None
    monkeypatch.setattr(lease, "_pulse", fail)
    time.sleep(0.15)
    assert "heartbeat of the lease" in caplog.text
    monkeypatch.setattr(backend, "replace", fail)
    lease.release()
    assert "could not be released" in caplog.text
    if isinstance(backend, LocalBackend):
        assert not is_live(backend, KEY)


def test_waiting_ends_with_who_holds(store: ArtifactStore, build: Build, request_for: Make) -> None:
    request = request_for()
    with acquire(store.backend, request.key, None, 60) or pytest.fail("not taken"):
        started = time.monotonic()
        with pytest.raises(LeaseTimeout, match=rf"still being built by process {os.getpid()} on .* after 0\.2 s; wait"):
            store.get_or_build(request, build, wait_s=0.2)
        assert 0.15 < time.monotonic() - started < 5
    assert store.get_or_build(request, build, wait_s=0).cached is False


def test_lost_lease_is_noticed_before_the_commit(
    store: ArtifactStore, build: Build, request_for: Make, caplog: pytest.LogCaptureFixture
) -> None:
    request = request_for()
    calls: list[str] = []

    def interrupted(writer: ArtifactWriter) -> None:
        calls.append("first")
        build(writer)
        # Another process takes our lease over, as if we had been silent, builds, and commits something else.
        sight = look(store.backend, request.key)
        other = acquire(store.backend, request.key, sight, 60)
        assert other is not None

        def finish() -> None:
            time.sleep(0.3)

            def others(writer: ArtifactWriter) -> None:
                build(writer)
                writer.count("read", 99)

            with other:
                assert store._build(other, request, others) is not None

        threading.Thread(target=finish).start()

    built = store.get_or_build(request, interrupted)
    assert calls == ["first"]
    assert built.cached is True
    assert store.manifest(built.ref).counts["read"] == 99
    assert "is being built by another process too" in caplog.text
    attempts = [name for name in os.listdir(built.ref.uri) if name != "manifest.json"]
    assert attempts == [built.ref.digest[:16]]  # nothing of ours was published


WORKER = """
import json, os, sys, time
import pyarrow as pa
from storage.artifact import ArtifactRequest
from storage.store import ArtifactStore

root, log, seconds, lease_s = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
table = pa.table({"formula": ["NaCl"], "chemsys": ["Cl-Na"], "source": ["file"]})

def build(writer):
    with open(log, "a") as file:
        file.write(f"{os.getpid()}\\n")
    print("building", flush=True)
    time.sleep(seconds)
    writer.write_table("formulas", table, "formulas")

print("ready", flush=True)

built = ArtifactStore(root).get_or_build(ArtifactRequest("formulas", "tasks.novelty", 1), build, lease_s=lease_s)
print(json.dumps({"cached": built.cached, "key": built.ref.key}), flush=True)
"""


def test_two_processes_one_builds_the_other_waits(start_python: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    processes = [start_python(WORKER, str(tmp_path / "store"), str(log), "0.6", "60") for _ in range(3)]
    results = [json.loads(process.communicate(timeout=60)[0].splitlines()[-1]) for process in processes]
    assert len(log.read_text().splitlines()) == 1
    assert sorted(result["cached"] for result in results) == [False, True, True]
    assert len({result["key"] for result in results}) == 1


def test_a_killed_holders_place_is_taken_at_once(start_python: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = start_python(WORKER, str(tmp_path / "store"), str(log), "60", "60")
    assert first.stdout is not None
    assert [first.stdout.readline() for _ in range(2)] == ["ready\n", "building\n"]
    second = start_python(WORKER, str(tmp_path / "store"), str(log), "0", "60")
    assert second.stdout is not None
    assert second.stdout.readline() == "ready\n"
    time.sleep(0.2)
    assert len(log.read_text().splitlines()) == 1
    first.send_signal(signal.SIGKILL)
    first.wait()
    started = time.monotonic()
    result = json.loads(second.communicate(timeout=60)[0].splitlines()[-1])
    assert time.monotonic() - started < 10  # far less than the lease of 60 s
    assert result["cached"] is False
    assert log.read_text().splitlines() == [str(first.pid), str(second.pid)]


def test_a_stopped_holder_loses_its_lease_and_takes_the_others_result(start_python: Start, tmp_path: Path) -> None:
    log = tmp_path / "log"
    first = start_python(WORKER, str(tmp_path / "store"), str(log), "0.5", "0.6")
    assert first.stdout is not None
    assert [first.stdout.readline() for _ in range(2)] == ["ready\n", "building\n"]
    first.send_signal(signal.SIGSTOP)
    try:
        second = start_python(WORKER, str(tmp_path / "store"), str(log), "0", "0.6")
        result = json.loads(second.communicate(timeout=60)[0].splitlines()[-1])
    finally:
        first.send_signal(signal.SIGCONT)
    assert result["cached"] is False
    out, err = first.communicate(timeout=60)
    assert json.loads(out.splitlines()[-1]) == {"cached": True, "key": result["key"]}
    assert "is being built by another process too" in err
    assert len(log.read_text().splitlines()) == 2
