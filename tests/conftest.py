"""What all tests share: reference data, a tiny chemistry, one Prefect server, hypothesis profiles."""

from __future__ import annotations

import gc
import itertools
import os

# before torch and numpy come: two test processes with a thread per core each would fight over the cores
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import yaml
from hypothesis import HealthCheck, settings

from prefect_home import keep_home
from reliability import record

pytest_plugins = ["loopback.fixtures"]

REPOSITORY = Path(__file__).resolve().parents[1]

#: The rooms with a bound on coverage are covered by their own tests; following the calls of the others costs minutes.
COVERED = {"models", "storage"}


def counts_for_coverage(item: pytest.Item) -> bool:
    """Whether the lines that a test runs count: those of examples by hand, in a room with a bound.

    Property-based tests run the same lines a hundred times, slowly under a tracer, and reference data may be absent.
    """
    if item.path.relative_to(REPOSITORY / "tests").parts[0] not in COVERED or item.get_closest_marker("reference_data"):
        return False
    return not getattr(getattr(item, "obj", None), "is_hypothesis_test", False)


# derandomised: a failure in continuous integration is a failure at home
settings.register_profile("default", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("soak", parent=settings.get_profile("default"), max_examples=2000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "default"))


def reference_folder() -> Path:
    """Folder of the reference data; it need not exist."""
    return Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA") or REPOSITORY.parent / "shared" / "data")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if not counts_for_coverage(item):
            item.add_marker(pytest.mark.no_cover)
    if reference_folder().is_dir():
        return
    reason = f"no reference data at {reference_folder()}: set ELEMSCREEN_REFERENCE_DATA"
    for item in items:
        if item.get_closest_marker("reference_data"):
            item.add_marker(pytest.mark.skip(reason=reason))


def pytest_collection_finish() -> None:
    """Leave what the imports made out of the garbage collections that the tests set off: they would look at it all."""
    gc.collect()
    gc.freeze()


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Say which long proof ended how: `make soak` makes a table of it."""
    if "soak" in report.keywords and (report.when == "call" or report.skipped):
        record("", test=report.nodeid, outcome=report.outcome, seconds=round(report.duration, 1))


@pytest.fixture(scope="session")
def reference_data() -> Path:
    """Folder of the reference data; tests that use it are marked `reference_data`."""
    return reference_folder()


@pytest.fixture(scope="session")
def server_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Store whose embedded server all tests share, those of other test processes too."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if os.environ.get("PYTEST_XDIST_WORKER") else base) / "server-store"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def prefect_server(server_store: Path) -> Iterator[object]:
    """One embedded Prefect server for the whole run (`deployments.server.Server`)."""
    from deployments.server import embedded_server

    with embedded_server(server_store) as server:
        if server.home is not None:  # else one that Prefect's settings name
            keep_home(server.home, server_store / "kept-home")
        yield server


class Tiny:
    """A small made-up chemistry, smooth enough to learn from: tables and the files that hold them.

    Energies follow the spread of electronegativities in a compound (so salts are stable) and punish charge; moduli
    follow charge over volume. Nothing in it is a measured value.
    """

    ELECTRONEGATIVITY: ClassVar = {
        "Li": 0.98, "Na": 0.93, "Mg": 1.31, "Ca": 1.00, "Al": 1.61, "O": 3.44, "F": 3.98, "Cl": 3.16, "S": 2.58,
    }  # fmt: skip
    CHARGE: ClassVar = {"Li": 1, "Na": 1, "Mg": 2, "Ca": 2, "Al": 3, "O": -2, "F": -1, "Cl": -1, "S": -2}
    RADIUS: ClassVar = {
        "Li": 0.8, "Na": 1.1, "K": 1.5, "Mg": 0.8, "Ca": 1.1, "O": 1.3, "F": 1.25, "Cl": 1.7, "Br": 1.85, "S": 1.75,
    }  # fmt: skip

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.energies = self._energies()
        self.structures = self._structures()
        self.energies_file = folder / "energies.parquet"
        self.structures_file = folder / "structures.parquet"
        self.known_file = folder / "known.csv"
        self.cluster_file = folder / "two-workers.yaml"
        self.campaign_file = folder / "tiny.yaml"
        folder.mkdir(parents=True, exist_ok=True)
        self.energies.to_parquet(self.energies_file)
        self.structures.to_parquet(self.structures_file)
        self.known_file.write_text("formula\nLi2O\nLi3AlF6\nNaMgF3\n")
        self.cluster_file.write_text(yaml.safe_dump(self.cluster()))
        self.campaign_file.write_text(yaml.safe_dump(self.campaign(), sort_keys=False))

    @classmethod
    def energy(cls, amounts: dict[str, int]) -> float:
        """Formation energy of a composition [eV/atom]."""
        total = sum(amounts.values())
        shares = {element: n / total for element, n in amounts.items()}
        mean = sum(share * cls.ELECTRONEGATIVITY[element] for element, share in shares.items())
        spread = sum(share * (cls.ELECTRONEGATIVITY[element] - mean) ** 2 for element, share in shares.items())
        charge = abs(sum(share * cls.CHARGE[element] for element, share in shares.items()))
        return round(0.6 * charge - 1.5 * spread, 6)

    @classmethod
    def _energies(cls) -> pd.DataFrame:
        metals, anions = ["Li", "Na", "Mg", "Ca", "Al"], ["O", "F", "Cl", "S"]
        rows: list[dict[str, int]] = []
        for metal, anion in itertools.product(metals, anions):
            rows += [{metal: m, anion: x} for m, x in ((1, 1), (2, 1), (1, 2), (2, 3), (1, 3))]
        for (one, two), anion in itertools.product(itertools.combinations(metals, 2), anions):
            rows += [{one: a, two: b, anion: x} for a, b, x in ((1, 1, 1), (1, 1, 3), (1, 1, 2), (2, 1, 4))]
        formulas = ["".join(f"{element}{n}" for element, n in row.items()) for row in rows]
        return pd.DataFrame(
            {
                "material_id": [f"tiny-{number}" for number in range(len(rows))],
                "formula": formulas,
                "formation_energy_per_atom": [cls.energy(row) for row in rows],
            }
        )

    @classmethod
    def _structures(cls) -> pd.DataFrame:
        from cubic_crystals import face_centred, rocksalt
        from pymatgen.core import Lattice, Structure

        from models.crystals import structure_json

        origin = (0.0, 0.0, 0.0)
        cells = {
            "rocksalt": rocksalt(2.0, "Li", "O"),
            "CsCl": Structure(Lattice.cubic(2 / 3**0.5), ["Li", "O"], [origin, (0.5, 0.5, 0.5)]),
            "ZnS": face_centred(4 / 3**0.5, ("Li", origin), ("O", (0.25, 0.25, 0.25))),
        }
        rows = []
        for metal, anion, (prototype, cell) in itertools.product(
            ["Li", "Na", "K", "Mg", "Ca"], ["O", "F", "Cl", "Br", "S"], cells.items()
        ):
            lattice = Lattice.cubic(cell.lattice.a * (cls.RADIUS[metal] + cls.RADIUS[anion]))
            species = [metal if site.specie.symbol == "Li" else anion for site in cell]
            crystal = Structure(lattice, species, cell.frac_coords).get_primitive_structure()
            volume = crystal.volume / len(crystal)
            bulk = 900.0 * (2 if anion in "OS" else 1) / volume
            rows.append(
                {
                    "material_id": f"{prototype}-{metal}{anion}",
                    "formula": f"{metal}{anion}",
                    "structure": structure_json(crystal),
                    "volume_per_atom": volume,
                    "bulk_modulus_vrh": bulk,
                    "shear_modulus_vrh": bulk * {"rocksalt": 0.6, "CsCl": 0.4, "ZnS": 0.5}[prototype],
                    "band_gap": 0.5 if anion == "S" else 4.0,
                    "energy_above_hull": 0.2 if prototype == "CsCl" else 0.0,
                }
            )
        return pd.DataFrame(rows)

    @staticmethod
    def cluster() -> dict[str, Any]:
        """Profile of a local Dask cluster with two workers."""
        options = {"cores": 2, "dashboard_address": None}
        return {"cluster_class": "tasks.cluster.local_cluster", "options": options}

    def campaign(self) -> dict[str, Any]:
        """Parameters of a whole campaign on these tables, seconds of computing."""
        return {
            "name": "tiny",
            "cluster": str(self.cluster_file),
            "energies": {"source": f"file:{self.energies_file}", "database": "tiny", "functional": "pbe"},
            "structures": {"source": f"file:{self.structures_file}", "database": "tiny"},
            "electrolytes": {"source": f"file:{self.structures_file}", "database": "tiny"},
            "known": {"source": f"file:{self.known_file}", "database": "tiny"},
            "cleaning": {"calibration_fraction": 0.2},
            "training": {
                "preset": "small",
                "epochs": 5,
                "batch_size": 32,
                "architecture": {"widths": [128, 64, 32, 1]},
            },
            "screening": {
                "threshold": 0.3,
                "min_training_rows": 50,
                "spaces": [
                    {"elements": ["Li", "Na", "Mg", "Ca", "Al", "O", "F"], "arities": [2], "max_atoms": 6},
                    {
                        "elements": ["Li", "Na", "Mg", "Al", "O", "F"],
                        "required": ["Li"],
                        "arities": [3],
                        "max_atoms": 5,
                    },
                ],
            },
            "block_size": 60,
            "moduli": {"members": 1, "epochs": 25, "settings": {"n_trees": 20}},
        }


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """Small tables that run through the whole pipeline in seconds."""
    return Tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def scheduler(prefect_server: object, tiny: Tiny) -> Iterator[str]:
    """Address of one Dask cluster with two workers, for all tests that leave its workers alive."""
    from tasks.cluster import open_cluster

    with open_cluster(str(tiny.cluster_file)) as runner:
        assert isinstance(runner.address, str)
        yield runner.address
