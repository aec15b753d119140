"""A disk that fills up during a screen: one clear line, nothing lost, and on with it once there is room."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from storage.reserve import RESERVE_BYTES
from storage.store import ArtifactStore

#: A small disk is a tmpfs in a mount namespace of its own; what is left of it is copied out before it goes.
SCRIPT = """
set -u
mount -t tmpfs -o size="$SMALL" tmpfs "$STORE"
cp -r "$START/." "$STORE"
"$@" > "$OUT/first.out" 2> "$OUT/first.err"; echo $? > "$OUT/first.code"
cp -r "$STORE" "$OUT/first"
mount -o remount,size=500m "$STORE"
"$@" > "$OUT/second.out" 2> "$OUT/second.err"; echo $? > "$OUT/second.code"
cp -r "$STORE" "$OUT/second"
"""


def may_mount() -> bool:
    """Whether a user may have a mount namespace here."""
    if shutil.which("unshare") is None:
        return False
    probe = ["unshare", "--user", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"]
    return subprocess.run(probe, capture_output=True).returncode == 0


@pytest.mark.soak
@pytest.mark.timeout(600)
@pytest.mark.skipif(not may_mount(), reason="needs mount namespaces for users, to have a small disk")
def test_a_full_disk_ends_in_one_line_and_loses_nothing(stages: Any, tmp_path: Path) -> None:
    folders = {name: tmp_path / name.lower() for name in ("STORE", "START", "OUT")}
    for folder in folders.values():
        folder.mkdir()
    for kind in ("model", "phases", "features", "references"):
        for artifact in Path(stages.root).glob(f"{kind}-*"):
            shutil.copytree(artifact, folders["START"] / artifact.name)
    size = sum(file.stat().st_size for file in folders["START"].rglob("*") if file.is_file())
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {name: str(folder) for name, folder in folders.items()}
    # room for the inputs, the server's database and some parts
    environment |= {"SMALL": str(size + RESERVE_BYTES + 6 * 2**20)}
    screen = [
        sys.executable, "-m", "deployments.cli", "screen", "--model", stages.network.key, "--phases", stages.phases.key,
        "--elements", "Li,Na,K,Mg,Ca,Al,Ti,Fe,O,F,S,Cl,N", "--arity", "4", "--threshold", "100",
        "--block-size", "5000", "--store", str(folders["STORE"]), "--dask", str(stages.tiny.cluster_file),
    ]  # fmt: skip
    command = ["unshare", "--user", "--map-root-user", "--mount", "bash", "-c", SCRIPT, "disk", *screen]
    subprocess.run(command, env=environment, check=True, timeout=500)
    out = folders["OUT"]
    errors = (out / "first.err").read_text()
    assert (out / "first.code").read_text().strip() == "2", errors
    said = [line for line in errors.splitlines() if line.strip()]
    assert len(said) == 1, errors
    assert said[0].startswith("elemscreen: ")
    assert "no space left for" in said[0]
    done = {ref.key: ArtifactStore(out / "first").verify(ref).digest for ref in ArtifactStore(out / "first").list()}
    assert any(key.startswith("candidates_part") for key in done)
    assert (out / "second.code").read_text().strip() == "0", (out / "second.err").read_text()
    assert (
        f"{len([key for key in done if key.startswith('candidates_part')])} stored" in (out / "second.out").read_text()
    )
    after = {ref.key: ArtifactStore(out / "second").verify(ref).digest for ref in ArtifactStore(out / "second").list()}
    assert done.items() <= after.items()
    assert any(key.startswith("candidates-") for key in after)
