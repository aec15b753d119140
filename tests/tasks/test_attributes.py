"""Featurize at scale: values, counts, resumption, and structures that hang or take their process along."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil
import pyarrow as pa
import pytest
from distributed import Client, LocalCluster
from pydantic import ValidationError

from models.magpie import MAGPIE_NAMES, magpie_from_formulas
from models.structural_attributes import STRUCTURAL_NAMES, structural_attributes
from models.structures import parse_structure
from storage.artifact import ArtifactRef
from storage.parts import PartFolder
from storage.store import ArtifactStore
from tasks import attributes
from tasks.attributes import FeaturizeParameters, attribute_columns, attributes_request, featurize_attributes
from tasks.child import Child, ChildError, Work
from tasks.ingest import ingest
from tasks.parameters import SourceParameters
from tasks.stage import reference

#: Stands in for the attributes in a child: what it does depends on the elements of the structure.
ODD = """
import os, signal, time

def attributes(text):
    with open(os.environ["ODD_LOG"], "a") as log:
        log.write(str(hash_of(text)) + "\\n")
    print("a library that talks", flush=True)
    if '"Br"' in text:
        time.sleep(600)
    if '"K"' in text:
        os.kill(os.getpid(), signal.SIGKILL)
    if '"Mg"' in text:
        raise ValueError("no magnesium\\nhere")
    if '"Ca"' in text:
        raise KeyError("calcium")
    return [float(hash_of(text))] * 126

def slowly(text):
    time.sleep(0.2)
    return attributes(text)

def hash_of(text):
    import zlib
    return zlib.crc32(text.encode()) % 1000

def dies_once(text):
    mark = os.environ["ODD_LOG"] + ".died"
    if not os.path.exists(mark):
        open(mark, "w").close()
        os._exit(3)
    return text.upper()

def pid(text):
    return os.getpid()

def shout(text):
    raise SystemExit("no")
"""


@pytest.fixture
def store(tmp_path: Path) -> ArtifactStore:
    return ArtifactStore(tmp_path / "store")


@pytest.fixture
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Let the children compute something odd; the log of its calls, a line each."""
    (tmp_path / "library").mkdir()
    (tmp_path / "library" / "odd_attributes.py").write_text(ODD)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "library"))
    monkeypatch.setenv("ODD_LOG", str(tmp_path / "calls.log"))
    monkeypatch.setattr(attributes, "VORONOI", Work("odd_attributes:attributes"))
    return tmp_path / "calls.log"


def take(store: ArtifactStore, frame: pd.DataFrame, folder: Path) -> ArtifactRef:
    frame.to_parquet(folder / "t.parquet")
    return reference(ingest.fn(store.root, SourceParameters(source=f"file:{folder / 't.parquet'}")))


def run(store: ArtifactStore, compounds: ArtifactRef, **parameters: Any) -> ArtifactRef:
    return reference(featurize_attributes.fn(store.root, compounds, FeaturizeParameters(**parameters)))


def salts(tiny: Any, *elements: str) -> pd.DataFrame:
    """Return binary salts of these elements, three structures each."""
    columns = ["material_id", "formula", "structure"]
    two = tiny.structures["material_id"].str.extract(r"-(Li|Na|K|Mg|Ca)(.*)")
    return tiny.structures[two[0].isin(elements) & two[1].isin(elements)][columns].reset_index(drop=True)


def rejected(store: ArtifactStore, ref: ArtifactRef) -> dict[str, str]:
    rows = store.read_table(ref, "rejected/rejected").to_pylist()
    return {row["material_id"]: row["reason"] for row in rows}


# From the composition


def test_magpie_of_a_table(store: ArtifactStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    formulas = ["NaCl", "Li7La3Zr2O12", "Fe", "Fe3O4", "KF"]
    frame = pd.DataFrame({"formula": formulas, "formation_energy_per_atom": [-2.0, None, 0.0, -1.5, -2.9]})
    compounds = take(store, frame, tmp_path)
    monkeypatch.setattr(attributes, "BLOCK", 2)
    ref = run(store, compounds)
    table = store.read_table(ref)
    assert table.column("formula").to_pylist() == formulas
    assert table.column("formation_energy_per_atom").to_pylist() == [-2.0, None, 0.0, -1.5, -2.9]
    expected = magpie_from_formulas(formulas).astype(np.float32)
    np.testing.assert_array_equal(np.array(table.column("attributes").to_pylist(), np.float32), expected)
    manifest = store.manifest(ref)
    assert manifest.counts == {"rows_in": 5, "rows_kept": 5, "rows_rejected": 0, "without_structure": 0}
    assert manifest.energy_scheme == store.manifest(compounds).energy_scheme
    assert len(manifest.tables()) == 3
    assert b'"0-norm"' in store.read_bytes(ref, "names.json")
    wide = attribute_columns(store, ref)
    assert wide.column_names[-145:] == list(MAGPIE_NAMES)
    np.testing.assert_array_equal(wide.column("MagpieData mean Number").to_numpy(), expected[:, 9])


def test_a_formula_outside_of_the_elements_is_rejected(store: ArtifactStore, tmp_path: Path) -> None:
    """Ingest refuses such rows; a table from elsewhere may hold them."""
    writer = Collector()
    table = pa.table({"material_id": ["a", "b"], "formula": ["NaCl", "HeF2"], "chemsys": ["Cl-Na", "F-He"]})
    (block,) = attributes._magpie(table.column("formula"))
    assert attributes._write_block(writer, table, block, 0) == 1  # type: ignore[arg-type]
    assert writer.tables[0].column("material_id").to_pylist() == ["a"]
    (refused,) = writer.refused[0].to_pylist()
    assert (refused["row"], refused["material_id"]) == (1, "b")
    assert "He" in refused["reason"]


class Collector:
    """Keeps what would be written."""

    def __init__(self) -> None:
        self.tables: list[pa.Table] = []
        self.refused: list[pa.Table] = []

    def write_table(self, name: str, table: pa.Table, schema: str) -> None:
        self.tables.append(table)

    def reject(self, rows: pa.Table) -> None:
        self.refused.append(rows)


def test_the_key_knows_what_decides_the_result(store: ArtifactStore, tmp_path: Path) -> None:
    compounds = take(store, pd.DataFrame({"formula": ["NaCl"]}), tmp_path)

    def key(**parameters: Any) -> str:
        return attributes_request(store, compounds, FeaturizeParameters(**parameters)).key

    assert key() == key(chunk=3) == key(seconds_per_structure=5)
    assert key() != key(features="voronoi") == key(features="voronoi", chunk=3)
    assert key(features="voronoi") != key(features="voronoi", seconds_per_structure=5)


@pytest.mark.parametrize("wrong", [{"features": "soap"}, {"seconds_per_structure": 0}, {"chunk": 0}, {"colour": 1}])
def test_parameters_are_checked(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        FeaturizeParameters(**wrong)


# From the structure


def test_voronoi_is_the_same_bytes_whatever_the_chunks_and_workers(tmp_path: Path, tiny: Any) -> None:
    """One chunk in this process, or two over the workers of a cluster."""
    frame = salts(tiny, "Li", "O")
    frame.loc[[1], "structure"] = None
    here, there = ArtifactStore(tmp_path / "here"), ArtifactStore(tmp_path / "there")
    ours = run(here, take(here, frame, tmp_path), features="voronoi", chunk=100)
    compounds = take(there, frame, tmp_path)
    parameters = FeaturizeParameters(features="voronoi", chunk=1)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
    with cluster, Client(cluster) as client:
        theirs = client.submit(lambda: reference(featurize_attributes.fn(there.root, compounds, parameters))).result(
            timeout=120
        )
    assert (theirs.key, theirs.digest) == (ours.key, ours.digest)
    assert there.manifest(theirs).payload == here.manifest(ours).payload
    assert here.manifest(ours).counts == {"rows_in": 3, "rows_kept": 2, "rows_rejected": 0, "without_structure": 1}
    table = attribute_columns(here, ours)
    assert table.column_names[-126:] == list(STRUCTURAL_NAMES)
    frame = frame.dropna(subset="structure")
    assert table.column("material_id").to_pylist() == frame["material_id"].tolist()
    expected = structural_attributes(parse_structure(frame["structure"].iloc[-1])).astype(np.float32)
    last = [table.column(name)[-1].as_py() for name in STRUCTURAL_NAMES]
    np.testing.assert_array_equal(np.array(last, np.float32), expected)
    assert not (here.scratch_root / ours.key).exists()


def test_structures_that_hang_or_die_are_rejected_alone(
    store: ArtifactStore, tmp_path: Path, tiny: Any, odd: Path
) -> None:
    frame = salts(tiny, "Li", "K", "Mg", "Ca", "O", "Br")
    names = ["rocksalt-LiO", "rocksalt-LiBr", "CsCl-LiO", "rocksalt-KO", "CsCl-MgO", "ZnS-LiO", "ZnS-CaO"]
    frame = frame.set_index("material_id").loc[names].reset_index()
    compounds = take(store, frame, tmp_path)
    parameters = FeaturizeParameters(features="voronoi", seconds_per_structure=1.5, chunk=4)
    cluster = LocalCluster(n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None)
    with cluster, Client(cluster) as client:
        ref = client.submit(lambda: reference(featurize_attributes.fn(store.root, compounds, parameters))).result(
            timeout=120
        )
    assert store.manifest(ref).counts == {
        "rows_in": 7, "rows_kept": 3, "rows_rejected": 4, "rejected": 4, "without_structure": 0,
    }  # fmt: skip
    kept = store.read_table(ref)
    assert kept.column("material_id").to_pylist() == ["rocksalt-LiO", "CsCl-LiO", "ZnS-LiO"]
    assert [len(values) for values in kept.column("attributes").to_pylist()] == [126] * 3
    reasons = rejected(store, ref)
    assert reasons["rocksalt-LiBr"].startswith("structure: took longer than 1.5 s and was ended")
    assert reasons["rocksalt-KO"].startswith("structure: its process died 2 times (SIGKILL)")
    assert reasons["CsCl-MgO"] == "structure: no magnesium here"
    assert reasons["ZnS-CaO"] == "structure: KeyError: 'calcium'"
    assert not [child for child in children() if " -m tasks.child " in child]


def children() -> list[str]:
    """Return the command lines of the processes below this one."""
    lines = []
    for process in psutil.Process().children(recursive=True):
        try:
            lines.append(" ".join(process.cmdline()))
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            continue
    return lines


def test_a_run_that_was_killed_computes_nothing_twice(
    tmp_path: Path, tiny: Any, odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = salts(tiny, "Li", "Na", "O", "F", "Cl")
    whole, broken = ArtifactStore(tmp_path / "whole"), ArtifactStore(tmp_path / "broken")
    expected = run(whole, take(whole, frame, tmp_path), features="voronoi")
    once = Counter(odd.read_text().split())
    odd.unlink()
    compounds = take(broken, frame, tmp_path)
    write = PartFolder.write

    def stop_after_three(self: PartFolder, name: str, table: pa.Table, schema: str) -> None:
        write(self, name, table, schema)
        if len(self.names()) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(PartFolder, "write", stop_after_three)
    with pytest.raises(KeyboardInterrupt):
        run(broken, compounds, features="voronoi", chunk=2)
    monkeypatch.setattr(PartFolder, "write", write)
    assert len(odd.read_text().split()) == 6
    ref = run(broken, compounds, features="voronoi", chunk=5)  # another chunk size goes on all the same
    assert Counter(odd.read_text().split()) == once
    assert ref.digest == expected.digest


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_killed_with_sigkill_it_goes_on(tmp_path: Path, tiny: Any, odd: Path) -> None:
    """Only the chunk that was under way is computed again."""
    frame = salts(tiny, "Li", "Na", "O", "F", "Cl")
    whole, broken = ArtifactStore(tmp_path / "whole"), ArtifactStore(tmp_path / "broken")
    expected = run(whole, take(whole, frame, tmp_path), features="voronoi")
    odd.unlink()
    compounds = take(broken, frame, tmp_path)
    code = (
        "import sys; from tasks import attributes as a; from storage.artifact import ArtifactRef; "
        "a.VORONOI = a.Work('odd_attributes:slowly'); "
        "a.featurize_attributes.fn(sys.argv[1], ArtifactRef.model_validate_json(sys.argv[2]), "
        "a.FeaturizeParameters(features='voronoi', chunk=2))"
    )
    process = subprocess.Popen([sys.executable, "-c", code, broken.root, compounds.model_dump_json()])
    while len(list(broken.scratch_root.glob("attributes-*/*.sha256"))) < 3:
        assert process.poll() is None
        time.sleep(0.01)
    process.kill()
    process.wait(20)
    assert run(broken, compounds, features="voronoi", chunk=2).digest == expected.digest
    calls = Counter(odd.read_text().split())
    assert sum(calls.values()) <= len(frame) + 2


def test_a_damaged_checkpoint_is_computed_again(
    tmp_path: Path, tiny: Any, odd: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = salts(tiny, "Li", "O", "F")
    whole, broken = ArtifactStore(tmp_path / "whole"), ArtifactStore(tmp_path / "broken")
    expected = run(whole, take(whole, frame, tmp_path), features="voronoi")
    compounds = take(broken, frame, tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(attributes, "_merged", lambda parts, n: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            run(broken, compounds, features="voronoi", chunk=4)
    (scratch,) = broken.scratch_root.glob("attributes-*")
    part = scratch / "0000000000.parquet"
    part.write_bytes(part.read_bytes()[:-9])
    assert run(broken, compounds, features="voronoi", chunk=3).digest == expected.digest


def test_a_table_without_structures_gives_an_empty_one(store: ArtifactStore, tmp_path: Path) -> None:
    compounds = take(store, pd.DataFrame({"formula": ["NaCl", "Li2O"]}), tmp_path)
    ref = run(store, compounds, features="voronoi")
    assert store.manifest(ref).counts == {"rows_in": 2, "rows_kept": 0, "rows_rejected": 0, "without_structure": 2}
    assert store.read_table(ref).num_rows == attribute_columns(store, ref).num_rows == 0


# The child


def test_what_killed_a_process_once_may_have_nothing_to_do_with_the_call(odd: Path) -> None:
    with Child(Work("odd_attributes:dies_once"), 20) as child:
        assert child.ask("li\n") == ("LI\n", None)


def test_a_child_answers_many_calls_and_ends_with_its_context(odd: Path) -> None:
    with Child(Work("odd_attributes:pid"), 20) as child:
        (first, _), (second, _) = child.ask("a"), child.ask("b" * 1_000_000)
        assert first == second != os.getpid()
        assert psutil.pid_exists(first)
    assert not psutil.pid_exists(first)


def test_a_child_that_does_not_start_is_no_rejected_row() -> None:
    with (
        Child(Work("odd_attributes_that_are_not_there:f"), 20) as child,
        pytest.raises(ChildError, match="exit code 1"),
    ):
        child.ask("a")


@pytest.mark.timeout(60)
def test_an_orphan_ends_itself(odd: Path) -> None:
    """Without its parent a child ends at the end of the input, and one that hangs soon after its limit."""
    command = [sys.executable, "-m", "tasks.child", "odd_attributes:attributes", "", "0.1"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as idle:
        assert idle.stdin is not None
        assert idle.stdout is not None
        assert idle.stdout.readline() == b"{}\n"
        idle.stdin.close()
        assert idle.wait(20) == 0
    code = "import tasks.child as child; child.GRACE_S = 0.2; child.main()"
    stuck_command = [sys.executable, "-c", code, "odd_attributes:attributes", "", "0.1"]
    with subprocess.Popen(stuck_command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as stuck:
        assert stuck.stdin is not None
        stuck.stdin.write(b'" \\"Br\\" "\n')
        stuck.stdin.flush()
        started = time.monotonic()
        assert stuck.wait(30) == -signal.SIGALRM
        assert time.monotonic() - started < 25
