"""The command line: every command on a tiny chemistry, and one line for everything a user can get wrong."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import yaml

from command_line import Cli, Ended, assert_one_line
from deployments.cli import _run
from prefect_home import prepared
from storage.scheme import EnergyScheme, with_scheme
from storage.store import ArtifactStore

COMMANDS = [
    [], ["demo"], ["campaign"], ["campaign", "run"], ["campaign", "examples"], ["ingest"], ["merge"], ["featurize"],
    ["train"], ["cross-validate"], ["tune"], ["transfer"], ["predict"], ["hull"],
    ["screen"], ["backtest"], ["explain"], ["stability"], ["substitute"], ["rank"], ["rank-compositions"], ["report"],
    ["export"], ["artifacts"], ["artifacts", "ls"], ["artifacts", "show"], ["artifacts", "lineage"],
    ["artifacts", "verify"], ["artifacts", "why"], ["artifacts", "gc"], ["ui"], ["deploy"], ["doctor"], ["starter-set"],
]  # fmt: skip


def true_cli(*arguments: str | Path, folder: Path) -> Ended:
    """Run a command in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    command = [Path(sys.executable).with_name("elemscreen"), *map(str, arguments)]
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=200, check=False
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@dataclass(frozen=True)
class House:
    """A store in which a campaign ran, and the scheduler of the cluster that it ran on."""

    root: Path
    dask: str
    printed: dict[str, str]

    @property
    def store(self) -> ArtifactStore:
        """The store."""
        return ArtifactStore(self.root)

    def key(self, kind: str, stage: str = "tasks.") -> str:
        """Key of the artifact of a kind (and of a stage, where two make this kind)."""
        refs = self.store.list(kind)
        return next(ref.key for ref in refs if self.store.manifest(ref).stage.startswith(stage))


@pytest.fixture(scope="module")
def house(scheduler: str, tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> House:
    root = tmp_path_factory.mktemp("cli") / "store"
    with pytest.MonkeyPatch.context() as patch:
        arguments = ["campaign", "run", str(tiny.campaign_file), "--store", str(root), "--dask", scheduler]
        patch.setattr(sys, "argv", ["elemscreen", *arguments])
        from deployments.commands import campaigns

        printed: dict[str, str] = {}
        patch.setattr(campaigns, "_finish", lambda result: printed.update(finish_lines(result)))
        assert _run() == 0
    return House(root, scheduler, printed)


def finish_lines(result: Any) -> dict[str, str]:
    """Return where the artifacts of a campaign lie."""
    return {name: getattr(result, name).uri for name in ("candidates", "ranking", "report")}


# What there is


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_help_of_every_command(cli: Cli, command: list[str]) -> None:
    ended = cli(*command, "--help")
    assert ended.code == 0
    assert re.search(rf"Usage: .*{' '.join(command)}", ended.out)
    assert ended.err == ""


def test_every_command_is_listed_above() -> None:
    from deployments.commands import app

    def walk(command: Any, path: list[str]) -> Iterator[list[str]]:
        yield path
        for name, below in getattr(command, "commands", {}).items():
            yield from walk(below, [*path, name])

    found = [path for name in app.COMMANDS for path in walk(app.load(name), [name])]
    assert sorted([[], *found]) == sorted(COMMANDS)


def test_units_are_no_markup(cli: Cli) -> None:
    assert "[kJ/mol/nm]" in cli("--help").out
    for command, unit in (("stability", "kJ/mol/nm"), ("rank", "eV/atom"), ("screen", "eV/atom"), ("ingest", "K")):
        assert f"[{unit}]" in cli(command, "--help").out


def test_the_tree_says_of_each_command_what_it_says_of_itself() -> None:
    from deployments.commands import app

    assert {name: line for name, (_, line) in app.COMMANDS.items()} == {
        name: str(app.load(name).help).splitlines()[0] for name in app.COMMANDS
    }


def test_help_comes_at_once(tmp_path: Path) -> None:
    """Of every command: the libraries that take seconds are loaded when it runs."""
    code = (
        "import sys; from deployments.commands.app import COMMANDS, load; "
        "print({name: sorted({'prefect', 'distributed', 'torch', 'scipy'} & set(sys.modules)) for name in COMMANDS "
        "if load(name)})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert {name: loaded for name, loaded in ast.literal_eval(done.stdout).items() if loaded} == {}


@pytest.mark.parametrize("arguments", [["--help"], ["artifacts", "ls"], ["rank", "--help"]], ids=" ".join)
def test_commands_that_run_no_flow_start_at_once(arguments: list[str], tmp_path: Path) -> None:
    """They load neither Prefect nor Dask nor torch, which take seconds."""
    code = (
        "import atexit, sys; sys.argv[0] = 'elemscreen'; from deployments.cli import main; "
        "atexit.register(lambda: print(sorted({'prefect', 'distributed', 'torch', 'scipy'} & set(sys.modules)))); "
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "[]", done


def test_version_and_examples(cli: Cli) -> None:
    assert re.fullmatch(r"\d+\.\d+.*", cli("--version").out.strip())
    examples = cli("campaign", "examples").out.split()
    assert {Path(example).name for example in examples} == {"demo.yaml", "oqmd.yaml"}
    assert all(Path(example).is_file() for example in examples)


def test_the_examples_are_campaigns(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    from deployments.commands.campaigns import load_campaign

    monkeypatch.setenv("ELEMSCREEN_DATA", "/data")
    for example in cli("campaign", "examples").out.split():
        assert load_campaign(Path(example), ["training.epochs=3"]).training.epochs == 3


# Tables in, tables out


@pytest.mark.timeout(600)
def test_campaign_run_ends_with_its_three_artifacts(house: House) -> None:
    assert {name: Path(uri).is_dir() for name, uri in house.printed.items()} == {
        "candidates": True,
        "ranking": True,
        "report": True,
    }


def test_ingest(cli: Cli, house: House, tmp_path: Path) -> None:
    path, out = tmp_path / "mine.csv", tmp_path / "out.csv"
    path.write_text("compound,e\nNaCl,-2.1\nHe2O,-1\nMgO,inf\nLi2O,-2\n")
    maps = ["--map", "compound=formula", "--map", "e=formation_energy_per_atom"]
    place = ["--store", house.root, "--dask", house.dask]
    ended = cli("ingest", "--source", f"file:{path}", *maps, "--database", "mine", "--out", out, *place)
    assert ended.code == 0, ended
    assert "rows in 4, kept 2, rejected 2" in ended.out
    assert pd.read_csv(out)["formula"].tolist() == ["NaCl", "Li2O"]


def test_train(cli: Cli, house: House, tiny: Any) -> None:
    place = ["--store", house.root, "--dask", house.dask]
    ended = cli("train", "--data", tiny.energies_file, "--preset", "small", "--epochs", "1", "--threads", "1", *place)
    assert ended.code == 0, ended
    assert re.search(r"^validation\s+mae \d", ended.out, re.MULTILINE)
    card = json.loads(Path(ended.last).read_text())
    assert card["architecture"]["name"] == "elemnet"


def test_predict(cli: Cli, house: House, tmp_path: Path) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out.parquet"
    path.write_text("name,formula\na,NaCl\nb,Na)Cl\nc,Li2O\nd,HeO\n")
    ended = cli(
        "predict", "--model", house.key("model", "tasks.train"), "--in", path, "--out", out, "--store", house.root
    )
    assert ended.code == 0, ended
    assert "2 of 4 rows cannot be used" in ended.out
    table = pd.read_parquet(out)
    assert table["name"].tolist() == list("abcd")
    assert table["prediction"].notna().tolist() == [True, False, True, False]
    assert table["prediction_std"].isna().all()
    assert table["reason"].notna().tolist() == [False, True, False, True]


def test_hull(cli: Cli, house: House, tmp_path: Path) -> None:
    path, out = tmp_path / "in.csv", tmp_path / "out.csv"
    path.write_text("formula,formation_energy_per_atom\nLiF,-9.0\nMgO,NaN\nXx,1.0\n")
    ended = cli("hull", "--phases", house.key("phases"), "--in", path, "--out", out, "--store", house.root)
    assert ended.code == 0, ended
    table = pd.read_csv(out)
    assert table["energy_above_hull"].iloc[0] < 0
    assert table["decomposition_energy"].iloc[0] <= table["energy_above_hull"].iloc[0] + 1e-12
    assert table["hull_energy_per_atom"].isna().tolist() == [False, True, True]
    assert table["reason"].iloc[1] == "formation_energy_per_atom is not a finite number"


def test_a_known_phase_lies_on_or_above_the_hull(cli: Cli, house: House, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    ended = cli(
        "hull", "--phases", house.key("phases"), "--in", house.key("phases"), "--out", out, "--store", house.root
    )
    assert ended.code == 0, ended
    above = pd.read_parquet(out)["energy_above_hull"]
    assert above.min() > -1e-9
    assert (above < 1e-9).sum() > 5


def test_stability(cli: Cli, house: House, tiny: Any, tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    rows = [
        {"formula": "Li2S", "bulk_modulus_vrh": 40.0, "shear_modulus_vrh": 20.0, "volume_ratio": 0.9},
        {"formula": "Li2S", "bulk_modulus_vrh": -1.0, "shear_modulus_vrh": 20.0, "volume_ratio": 0.9},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    ended = cli("stability", "--in", path, "--store", house.root)
    assert ended.code == 0, ended
    table = pq.read_table(ended.last).to_pandas()  # without --out: an artifact
    assert Path(ended.last).is_relative_to(house.root)
    assert table["chi"].notna().tolist() == [True, False]
    assert isinstance(table["reason"].iloc[1], str)
    lithium = tiny.structures[tiny.structures["formula"].str.startswith("Li")]
    lithium.to_parquet(tmp_path / "structures.parquet")
    ended = cli("stability", "--in", tmp_path / "structures.parquet", "--out", tmp_path / "out.parquet")
    assert ended.code == 0, ended
    assert np.isfinite(pd.read_parquet(tmp_path / "out.parquet")["volume_ratio"]).all()


def test_stability_of_interfaces(cli: Cli, tmp_path: Path) -> None:
    """A soft isotropic salt, which every plane and direction of is stable, and one without a volume."""
    path, out = tmp_path / "in.jsonl", tmp_path / "out.parquet"
    soft = [
        [2.0 if i == j < 3 else 0.7 if i == j else 0.6 if max(i, j) < 3 else 0.0 for j in range(6)] for i in range(6)
    ]
    common = {"elastic_tensor": json.dumps(soft), "lattice": "[[4, 0, 0], [0, 4, 0], [0, 0, 4]]"}
    rows = [{"formula": "Li2S", "volume_ratio": 0.1} | common, {"formula": "Li2O", "volume_ratio": None} | common]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    ended = cli("stability", "--in", path, "--anisotropic", "--out", out, "--store", tmp_path / "store")
    assert ended.code == 0, ended
    assert "1 of 1 crystals have an interface that is stable in all directions" in ended.out
    assert re.search(r"^Li2S : Li \(.*\) on \(.*\), .* and 49 more; chi down to -\d", ended.out, re.MULTILINE)
    assert "1 of 53 rows cannot be used" in ended.out
    table = pd.read_parquet(out)
    assert table["stable"].iloc[:52].all()
    assert table["reason"].iloc[52] == "volume ratio is missing"
    ended = cli("stability", "--in", path, "--anisotropic", "--convention", "published", "--out", out)
    assert ended.code == 0, ended
    assert "1 of 1 crystals have an interface with chi below 0 by the published convention" in ended.out
    table = pd.read_parquet(out)
    assert table["plane"].iloc[0] == "[0 0 1]"
    assert table["stable"].isna().all()
    assert set(table["convention"].iloc[:28]) == {"published"}
    given = ["stability", "--in", path, "--convention", "published"]
    assert_one_line(cli(*given), "--anisotropic")
    assert_one_line(cli(*given, "--anisotropic", "--max-index", "2"), "--max-index")
    assert_one_line(cli("stability", "--in", tmp_path / "none.csv", "--anisotropic"), "none.csv")


def test_explain(cli: Cli, house: House) -> None:
    place = ["--store", house.root, "--dask", house.dask]
    given = ["--model", house.key("model", "tasks.train"), "--phases", house.key("phases"), "--no-untrained"]
    few = ["--layer", "1", "--probe", "halogen", "--probe", "magnetic_3d", "--elements", "Li"]
    ended = cli("explain", *given, *few, "--system", "Li-O", *place)
    assert ended.code == 0, ended
    assert "not probed: magnetic_3d" in ended.out
    assert re.search(r"Li-O .*\d\.\d{3}", ended.out)
    assert "<h3>Li-O</h3>" in Path(ended.last).read_text()
    assert_one_line(cli("explain", *given, "--system", "Li-Xx", *place), "systems", "Xx")
    assert_one_line(cli("explain", *given, "--layer", "99", *place), "no layer '99'", "from 1 to 4")


def test_screen_and_rank(cli: Cli, house: House, tiny: Any, tmp_path: Path) -> None:
    place = ["--store", house.root, "--dask", house.dask]
    network, phases = house.key("model", "tasks.train"), house.key("phases")
    space = ["--elements", "Li,Na,O", "--arity", "2", "--max-atoms", "3", "--threshold", "100"]
    ended = cli("screen", "--model", network, "--phases", phases, *space, "--out", tmp_path / "c.csv", *place)
    assert ended.code == 0, ended
    assert "9 compositions, 9 at or below" in ended.out
    assert pd.read_csv(tmp_path / "c.csv")["chemsys"].value_counts().to_dict() == {"Li-Na": 3, "Li-O": 3, "Na-O": 3}
    moduli = house.key("model", "tasks.moduli")
    ended = cli("rank", "--in", tiny.structures_file, "--model", moduli, "--out", tmp_path / "r.csv", *place)
    assert ended.code == 0, ended
    ranking = pd.read_csv(tmp_path / "r.csv")
    windows = ["--phases", phases, "--preset", "full"]
    ended = cli("rank", "--in", tiny.structures_file, "--model", moduli, *windows, "--out", tmp_path / "f.csv", *place)
    assert ended.code == 0, ended
    full = pd.read_csv(tmp_path / "f.csv")
    assert set(full["material_id"]) <= set(ranking["material_id"])
    assert (full["reduction_potential"] <= 1).all()
    assert ranking["rank"].tolist() == list(range(1, len(ranking) + 1))
    assert (np.diff(ranking["chi"]) >= 0).all()


def test_rank_compositions(cli: Cli, house: House, tiny: Any, tmp_path: Path) -> None:
    """Survivors of the screen, with networks of the logarithms of the moduli and v of the ranked compounds."""
    # in a copy: further models and rankings are none of the house's
    house = House(Path(shutil.copytree(house.root, tmp_path / "copy")), house.dask, house.printed)
    place = ["--store", house.root, "--dask", house.dask]
    learn = ["--log10", "--data", tiny.structures_file, "--preset", "small", "--epochs", "2", "--members", "2", *place]
    models = []
    for modulus in ("bulk", "shear"):
        ended = cli("train", "--target", f"{modulus}_modulus_vrh", "--threads", "1", "--set", "widths=[8,1]", *learn)
        assert ended.code == 0, ended
        models += [f"--{modulus}-model", Path(ended.last).parents[1].name]
    lithium = tiny.structures[tiny.structures["formula"].str.contains("Li")]
    twice = pd.concat([lithium, lithium.assign(material_id=lithium["material_id"] + "-again")])
    twice.to_parquet(tmp_path / "known.parquet")
    few = ["--in", house.key("candidates"), "--ranking", house.key("ranking"), *models, *place]
    assert_one_line(cli("rank-compositions", *few), "too few to draw from")
    known = ["--in", tmp_path / "known.parquet", "--model", house.key("model", "tasks.moduli"), "--min-band-gap", "0"]
    ended = cli("rank", *known, "--max-above-hull", "1", *place)
    assert ended.code == 0, ended
    out = ["--ranking", Path(ended.last).parents[1].name, *models, "--out", tmp_path / "c.csv", *place]
    ended = cli("rank-compositions", "--in", house.key("candidates"), *out)
    assert ended.code == 0, ended
    table = pd.read_csv(tmp_path / "c.csv")
    assert re.search(rf"^{len(table)} ranked, \d+ excluded with a reason", ended.out, re.MULTILINE)
    screened = house.store.read_table(house.store.resolve(house.key("candidates"))).to_pandas()
    stated = screened.set_index("formula")["probability_stable"].reindex(table["formula"]).to_numpy(float)
    np.testing.assert_allclose(table["probability_on_hull"].to_numpy(float), stated)
    expected = table["probability_chi"] * np.where(np.isnan(stated), 1.0, stated)
    np.testing.assert_allclose(table["probability"], expected, rtol=1e-9)
    assert (np.diff(table["probability"]) <= 0).all()


def test_candidates_get_structures_and_are_ranked(cli: Cli, house: House, tiny: Any, tmp_path: Path) -> None:
    place = ["--store", house.root, "--dask", house.dask]
    out = tmp_path / "made.parquet"
    given = ["--in", house.key("candidates"), "--known", tiny.structures_file, "--per-composition", "1"]
    ended = cli("substitute", *given, "--out", out, *place)
    assert ended.code == 0, ended
    made = pd.read_parquet(out)
    n = len(pd.read_parquet(house.store.local_path(house.store.list("candidates")[0], "candidates.parquet")))
    assert f"{len(made):,} structures for {len(made):,} of {n:,} compositions; hypothetical" in ended.out
    assert (made["source"] == "substitution").all()
    key = next(ref.key for ref in house.store.list("compounds") if "substitute" in house.store.manifest(ref).stage)
    ranked = [
        "--in",
        key,
        "--model",
        house.key("model", "tasks.moduli"),
        "--max-above-hull",
        "9",
        "--min-band-gap",
        "0",
    ]
    ended = cli("rank", *ranked, "--out", tmp_path / "r.csv", *place)
    assert ended.code == 0, ended
    ranking = pd.read_csv(tmp_path / "r.csv")
    assert len(ranking) > 0
    assert ranking["hypothetical"].all()


def test_a_dry_run_says_what_a_screen_would_take(cli: Cli, house: House) -> None:
    screen = ["screen", "--model", house.key("model", "tasks.train"), "--phases", house.key("phases")]
    before = {ref.key for ref in house.store.list()}
    ended = cli(
        *screen, "--elements", "Li,Na,O,F", "--arity", "2,3", "--threshold", "100", "--block-size", "100", "--dry-run",
        "--store", house.root,
    )  # fmt: skip
    assert ended.code == 0, ended
    size, speed, left = ended.out.splitlines()
    assert size == "622 compositions in 10 chemical systems, 7 tasks"
    assert re.fullmatch(r"about [\d,]+ compositions/s on one core of this machine \(measured on 1,244\): .*", speed)
    assert re.fullmatch(r"about 620 candidates \(100.00%\), [\d.]+ MB on disk", left)
    assert {ref.key for ref in house.store.list()} == before


def test_screen_a_list_and_keep_all_predictions(cli: Cli, house: House, tmp_path: Path) -> None:
    place = ["--store", house.root, "--dask", house.dask]
    screen = ["screen", "--model", house.key("model", "tasks.train"), "--phases", house.key("phases")]
    path = tmp_path / "mine.txt"
    path.write_text("Na2O\nLiX\nLiNaMgAlO4\nLi2O\nLi4O2\n")
    rest = ["--threshold", "100", "--keep-predictions", "--out", tmp_path / "c.csv", *place]
    ended = cli(*screen, "--formulas", path, *rest)
    assert ended.code == 0, ended
    assert "list: 5 rows, 2 rejected, see" in ended.out
    assert "3 compositions, 3 at or below" in ended.out
    assert pd.read_csv(tmp_path / "c.csv")["formula"].tolist() == ["Li2O", "Na2O", "NaLiMgAlO4"]
    lines = ended.out.splitlines()
    files = lines[lines.index("all predictions, 1 files in the order of the index:") + 1]
    assert pd.read_parquet(files).columns.tolist() == ["formation_energy_per_atom"]
    assert len(pd.read_parquet(files)) == 3
    rejected = next(line for line in lines if line.startswith("list:")).partition("see ")[2]
    assert pd.read_parquet(rejected)["formula"].tolist() == ["LiX", "Li4O2"]
    assert_one_line(cli(*screen, "--formulas", path, "--arity", "2", *place), "--formulas", "rule")
    assert_one_line(cli(*screen, "--formulas", tmp_path / "no.csv", *place), "there is no file", "no.csv")
    assert_one_line(cli(*screen, "--keep-predictions", "--precision", "fast", *place), "keep_predictions", "fp32")


def test_export_and_report(cli: Cli, house: House, tmp_path: Path) -> None:
    key = house.key("ranking")
    ended = cli("export", "--in", key, "--out", tmp_path / "ranking.csv", "--store", house.root)
    assert ended.code == 0, ended
    assert len(pd.read_csv(tmp_path / "ranking.csv")) == house.store.manifest(house.store.resolve(key)).rows
    path = Path(cli("report", "--store", house.root).last)
    assert path.name == "report.html"
    assert cli("report", house.key("report"), "--out", tmp_path / "page.html", "--store", house.root).code == 0
    assert (tmp_path / "page.html").read_bytes() == path.read_bytes()
    assert_one_line(cli("report", key, "--store", house.root), "give one of kind report")


# The store


def test_artifacts(cli: Cli, house: House) -> None:
    place = ["--store", str(house.root)]
    phases = house.key("phases")
    listed = cli("artifacts", "ls", *place)
    assert listed.code == 0
    assert all(ref.key in listed.out for ref in house.store.list())
    only = cli("artifacts", "ls", "--kind", "phases", *place)
    assert phases in only.out
    assert house.key("ranking") not in only.out
    shown = json.loads(cli("artifacts", "show", phases[:-8], *place).out)
    assert shown["manifest"]["counts"]["kept"] == 260
    assert shown["run"]
    line = cli("artifacts", "lineage", house.key("candidates"), *place).out
    assert all(key in line for key in (phases, house.key("features"), house.key("model", "tasks.train")))
    verified = cli("artifacts", "verify", *place)
    assert (verified.code, verified.out.strip()) == (0, f"{len(house.store.list())} whole, 0 damaged")
    train, moduli = house.key("model", "tasks.train"), house.key("model", "tasks.moduli")
    why = cli("artifacts", "why", train, moduli, *place)
    assert why.code == 0
    assert "stage" in why.out


def test_verify_and_gc_find_what_is_broken(cli: Cli, house: House, tmp_path: Path) -> None:
    root = tmp_path / "store"
    source = house.store.resolve(house.key("phases"))
    compounds = {record.key for record in house.store.manifest(source).inputs.values()}
    for key in (source.key, *compounds):
        copy(house.root / key, root / key)
    assert cli("artifacts", "verify", "--store", root).code == 0
    path = ArtifactStore(root).local_path(ArtifactStore(root).resolve(source.key), "phases.parquet")
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1])
    ended = cli("artifacts", "verify", "--store", root)
    assert ended.code == 1
    assert "2 whole, 1 damaged" in ended.out
    assert source.key in ended.out
    assert "Traceback" not in ended.err

    stray = root / ".tmp" / f"{source.key}.0123"
    stray.mkdir(parents=True)
    (stray / "half.parquet").write_bytes(b"half")
    would = cli("artifacts", "gc", "--dry-run", "--store", root)
    assert "would be removed" in would.out
    assert stray.is_dir()
    assert cli("artifacts", "gc", "--store", root).code == 0
    assert not stray.exists()
    assert len(list(root.glob("*/manifest.json"))) == 3
    assert cli("artifacts", "gc", "--older-than", "0", "--keep", "references", "--store", root).code == 0
    left = {folder.parent.name.rsplit("-", 1)[0] for folder in root.glob("*/manifest.json")}
    assert left == {"references", "compounds"}  # what a kept artifact was made from stays too


def copy(source: Path, target: Path) -> None:
    import shutil

    shutil.copytree(source, target)


def test_an_empty_store(cli: Cli, tmp_path: Path) -> None:
    assert "the store is empty" in cli("artifacts", "ls", "--store", tmp_path / "store").out
    assert_one_line(cli("report", "--store", tmp_path / "store"), "elemscreen demo")


# What a user can get wrong


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("name,energy\nNaCl,-1\n", "formula"),
        ("formula,formation_energy_per_atom\n", "no rows"),
        ("", "empty"),
        ("formula,formation_energy_per_atom\nNaCl,-1,4\n", "not a proper CSV"),
    ],
)
def test_tables_of_no_use(cli: Cli, house: House, tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "in.csv"
    path.write_text(text)
    place = ["--store", house.root]
    network, phases = house.key("model", "tasks.train"), house.key("phases")
    assert_one_line(cli("predict", "--model", network, "--in", path, *place), said)
    assert_one_line(cli("hull", "--phases", phases, "--in", path, *place), said)
    ended = cli("ingest", "--source", f"file:{path}", "--dask", house.dask, *place)
    assert_one_line(ended, said)


def test_missing_columns(cli: Cli, house: House, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("formula\nNaCl\n")
    phases = house.key("phases")
    assert_one_line(cli("hull", "--phases", phases, "--in", path, "--store", house.root), "formation_energy_per_atom")
    assert_one_line(cli("stability", "--in", path, "--store", house.root), "bulk_modulus_vrh")
    path.write_text("formula,bulk_modulus_vrh,shear_modulus_vrh\nNaCl,10,5\n")
    assert_one_line(cli("stability", "--in", path, "--store", house.root), "volume_ratio")


def test_rows_of_no_use_at_all(cli: Cli, house: House, tmp_path: Path) -> None:
    """A formula that does not parse, an element outside the 86, a NaN energy, and nothing else."""
    path = tmp_path / "in.csv"
    path.write_text("formula,formation_energy_per_atom\nNa)Cl,-1\nHeO,-1\nMgO,inf\n")
    ended = cli("ingest", "--source", f"file:{path}", "--dask", house.dask, "--store", house.root)
    assert_one_line(ended, "no usable row")
    ended = cli(
        "hull", "--phases", house.key("phases"), "--in", path, "--out", tmp_path / "o.csv", "--store", house.root
    )
    assert ended.code == 0
    assert pd.read_csv(tmp_path / "o.csv")["reason"].notna().all()


def test_a_table_of_another_scheme(cli: Cli, house: House, tmp_path: Path) -> None:
    scheme = EnergyScheme(source="mp", release="2024", functional="r2scan")
    rows = house.store.read_table(house.store.resolve(house.key("phases")))
    path = tmp_path / "other.parquet"
    pq.write_table(with_scheme(rows.select(["formula", "formation_energy_per_atom"]), scheme), path)
    place = ["--store", house.root]
    network, phases = house.key("model", "tasks.train"), house.key("phases")
    for command in (["predict", "--model", network], ["hull", "--phases", phases]):
        assert_one_line(cli(*command, "--in", path, *place), "energy schemes differ", "--allow-mixed-scheme")
        ended = cli(*command, "--in", path, "--allow-mixed-scheme", "--out", tmp_path / "o.parquet", *place)
        assert ended.code == 0
        assert pd.read_parquet(tmp_path / "o.parquet")["mixed_scheme"].all()


def test_phases_of_another_scheme(cli: Cli, house: House, tiny: Any) -> None:
    """A file that was ingested as another functional's is not the hull of this network."""
    place = ["--store", house.root, "--dask", house.dask]
    source = ["--source", f"file:{tiny.energies_file}", "--functional", "r2scan", "--database", "tiny"]
    assert cli("ingest", *source, *place).code == 0
    store = house.store
    other = next(
        ref.key for ref in store.list("compounds") if store.manifest(ref).parameters.get("functional") == "r2scan"
    )
    space = ["--elements", "Li,O", "--arity", "2"]
    ended = cli("screen", "--model", house.key("model", "tasks.train"), "--phases", other, *space, *place)
    assert_one_line(ended, "energy schemes differ", "--allow-mixed-scheme")


def test_keys_that_are_not_there(cli: Cli, house: House, tmp_path: Path) -> None:
    place = ["--store", house.root]
    for command in ("show", "lineage", "why"):
        assert_one_line(cli("artifacts", command, "phases-ffff", *place), "phases-ffff", "artifacts ls")
    assert_one_line(cli("artifacts", "verify", "phases-ffff", *place), "phases-ffff")
    assert_one_line(cli("export", "--in", "nothing", "--out", tmp_path / "o.csv", *place), "nothing")
    assert_one_line(cli("export", "--in", "candidates_part", "--out", tmp_path / "o.csv", *place), "could be any of")
    assert_one_line(cli("export", "--in", house.key("phases"), "--out", tmp_path / "o.xlsx", *place), "o.xlsx")
    ranking = house.key("ranking")
    assert_one_line(cli("predict", "--model", ranking, "--in", ranking, *place), "kind model")
    assert_one_line(cli("hull", "--phases", ranking, "--in", ranking, *place), "kind phases")
    moduli = house.key("model", "tasks.moduli")
    assert_one_line(cli("predict", "--model", moduli, "--in", ranking, *place), "give a composition network")
    assert_one_line(cli("artifacts", "gc", "--older-than", "-1", *place), "--older-than")


def test_options_of_no_use(cli: Cli, house: House, tmp_path: Path) -> None:
    place = ["--store", house.root]
    both = ["--model", house.key("model", "tasks.train"), "--phases", house.key("phases")]
    assert_one_line(cli("screen", *both, "--arity", "two", *place), "--arity")
    assert_one_line(cli("screen", *both, "--max-atoms", "99", *place), "max_atoms")
    assert_one_line(cli("ingest", "--source", "oqdm", *place), "file:PATH")
    assert_one_line(cli("ingest", "--source", "file:x.csv", "--map", "formula", *place), "--map takes COLUMN=NAME")
    assert_one_line(cli("train", "--data", "x", "--target", "formula", *place), "targets", "no column of numbers")
    assert_one_line(cli("rank", "--in", "x", "--metal", "Fe", *place), "metal", "Na")
    assert_one_line(cli("rank", "--in", "x", "--preset", "best", *place), "--preset", "mechanical or full")
    assert_one_line(cli("rank", "--in", "x", "--preset", "full", *place), "--phases")
    assert_one_line(cli("predict", "--modle", "x"), "--modle", "elemscreen predict --help")
    assert_one_line(cli("predict", "--in", "x"), "--model", "elemscreen predict --help")
    assert_one_line(cli("train", "--data", "x", "--epochs", "few"), "--epochs", "elemscreen train --help")
    assert_one_line(cli("forecast"), "forecast", "elemscreen --help")
    assert_one_line(cli("stability", "--in", "x", "--anisotropic", "--max-index", "9", *place), "max_index")
    ended = cli("ingest", "--source", f"file:{tmp_path / 'absent.csv'}", "--dask", house.dask, *place)
    assert_one_line(ended, "absent.csv")


@pytest.mark.parametrize("profile", ["hadoop", "nowhere.yaml", "tcp://127.0.0.1:9"])
def test_a_cluster_that_is_not_there(
    cli: Cli, house: House, tiny: Any, profile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tasks import cluster

    monkeypatch.setitem(cluster.DASK_SETTINGS, "distributed.comm.timeouts.connect", "1s")
    ended = cli("ingest", "--source", f"file:{tiny.energies_file}", "--store", house.root, "--dask", profile)
    assert_one_line(ended, profile)


CAMPAIGN_FILES = [
    ("name: [unclosed\n", [], "not valid YAML"),
    ("- a\n- b\n", [], "mapping"),
    ("energies: {source: 'file:${ELEMSCREEN_NO_SUCH_FOLDER}/t.csv'}\n", [], "ELEMSCREEN_NO_SUCH_FOLDER"),
    ("name: costs $5\n", [], "$$"),
    ("epochs: 3\n", [], "epochs"),
    ("training: {epochs: many}\n", [], "training.epochs"),
    ("screening: {spaces: []}\n", [], "screening.spaces"),
    ("name: a\n", ["training.epochs"], "--set takes key=value"),
    ("name: a\n", ["name.first=b"], "--set"),
    ("name: a\n", ["training.epochs=0"], "training.epochs"),
    ("name: a\n", ["training.epochs=[1"], "--set"),
    ("name: a\n", ["trainning.epochs=1"], "trainning"),
]


@pytest.mark.parametrize(("text", "changes", "said"), CAMPAIGN_FILES)
def test_campaign_files_of_no_use(cli: Cli, tmp_path: Path, text: str, changes: list[str], said: str) -> None:
    path = tmp_path / "campaign.yaml"
    path.write_text(text)
    options = [option for change in changes for option in ("--set", change)]
    assert_one_line(cli("campaign", "run", path, *options, "--store", tmp_path / "store"), said)


def test_a_campaign_file_that_is_not_there(cli: Cli, tmp_path: Path) -> None:
    assert_one_line(cli("campaign", "run", tmp_path / "absent.yaml"), "absent.yaml")
    assert_one_line(cli("campaign", "run", tmp_path), "no campaign file")


def test_a_campaign_that_needs_what_is_not_there(cli: Cli, house: House, tiny: Any, tmp_path: Path) -> None:
    """A user's mistake that shows only in a stage, on a worker."""
    campaign = tiny.campaign()
    campaign["energies"]["source"] = f"file:{tiny.structures_file}"  # no formation energies in it
    path = tmp_path / "campaign.yaml"
    path.write_text(yaml.safe_dump(campaign))
    ended = cli("campaign", "run", path, "--store", tmp_path / "store", "--dask", house.dask)
    assert_one_line(ended, "has no formation energies", "--map")


@pytest.mark.timeout(400)
def test_processes_of_their_own(house: House, tiny: Any, tmp_path: Path) -> None:
    """The installed command, with its own server and cluster: a success, a user's mistake in a stage, one before."""
    path = tmp_path / "in.csv"
    path.write_text("name,energy\nNaCl,-1\n")
    place = ["--store", prepared(tmp_path / "store"), "--dask", tiny.cluster_file]
    assert_one_line(true_cli("ingest", "--source", f"file:{path}", *place, folder=tmp_path), "formula")
    assert_one_line(true_cli("artifacts", "show", "x", "--store", house.root, folder=tmp_path), "artifacts ls")
    ended = true_cli("artifacts", "verify", "--store", house.root, folder=tmp_path)
    assert ended.code == 0
    assert ended.err == ""
