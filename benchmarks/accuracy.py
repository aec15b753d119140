"""The tables of docs/accuracy.md, each from a run of the ordinary flows.

    python -m benchmarks.accuracy SECTION [--oqmd KEY_OR_FILE] [--source MODEL_KEY] [--store STORE] [--note TEXT]

`SECTION` is one of those below. What the store has already is not trained again. Data are the files of
`ELEMSCREEN_REFERENCE_DATA`; `--oqmd` takes the cleaned rows of an earlier run instead.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.compute as pc
import pyarrow.parquet as pq

from benchmarks import accuracy_errors
from benchmarks import accuracy_tables as tables
from benchmarks.accuracy_holdouts import holdouts
from benchmarks.run import machine
from deployments.commands.run import run_flow
from flows.cross_validate import CrossValidateParameters, cross_validate
from flows.parameters import TrainFlowParameters
from flows.train import train
from flows.transfer import TransferFlowParameters, transfer
from storage.artifact import ArtifactRef
from storage.model_files import read_model
from storage.root import store_root
from tasks.examples import ExampleParameters
from tasks.inputs import as_model
from tasks.parameters import CleanParameters, SourceParameters
from tasks.train_parameters import TrainParameters
from tasks.validation_parameters import EntryParameters, ValidationParameters, transfer_entries

ATTENTION: dict[str, Any] = {
    "network": "attention",
    "batch_size": 512,
    "settings": {"learning_rate": 2e-3, "weight_decay": 0.1, "clip_norm": 1.0, "beta2": 0.98, "warmup": 0.05},
}
"""How the attention network is trained; chosen on held-out chemical systems of the training rows."""
WIDE = ATTENTION | {
    "architecture": {"width": 192, "n_layers": 4, "n_heads": 6},
    "settings": ATTENTION["settings"] | {"learning_rate": 1.5e-3},
}
FINE_TUNING: dict[str, Any] = {"learning_rate": 5e-4, "weight_decay": 0.1, "clip_norm": 1.0, "beta2": 0.98}
"""How small tables are learnt, transferred and from scratch alike."""
LARGE_TABLE_RATE = 2e-3
"""Learning rate at which the attention network learns large tables."""
MEMBERS = 3
"""Networks of ElemNet's ensemble."""
SEEDS = 2
"""Networks that go on when their epochs are over, one per core."""
ONCE: dict[str, Any] = {"epochs": 40, "threads": 1}
"""How they are trained up to their first end."""
GOING_ON: dict[str, Any] = ONCE | {"restarts": 2, "restart_epochs": 20}
"""And how they go on: three networks per seed."""
CALIBRATION_SHARE = 0.02
"""Share of the training rows, by whole chemical systems, that those networks are calibrated on: there are enough rows
to judge intervals by, and an ElemNet is the better for every row it learns."""
FEW_ROWS = (1_000, 4_000, 16_000)
"""Rows of the OQMD that ElemNets with differently started first layers learn."""
SIZES = (500, 1_000, 2_000, 4_000, 8_000, 16_000, 32_000, 64_000)
"""Rows of the OQMD that are learnt, for the error against the number of training rows."""
DEPTHS = (17, 24, 48)
"""Layers of the residual networks."""
TARGET_SIZES = (50, 100, 200, 400, 800)
"""Rows of a small table that is learnt."""


class Run:
    """What a section needs: the data, the store, and the flows."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.arguments = arguments
        self.where = {"store": arguments.store, "cluster": arguments.dask}
        self.data = Path(os.environ.get("ELEMSCREEN_REFERENCE_DATA", "../shared/data"))
        self.oqmd = arguments.oqmd or str(self.data / "oqmd_formation_energy.parquet")

    def train(
        self,
        members: int = 1,
        epochs: int | None = None,
        teacher: str | None = None,
        calibration: float | None = None,
        **training: Any,
    ) -> ArtifactRef:
        """Train on the OQMD rows."""
        parameters = TrainParameters(members=members, epochs=epochs, **training)
        source = SourceParameters(source=f"file:{self.oqmd}", database="oqmd", functional="pbe")
        where: dict[str, Any] = {"data": self.oqmd, "energies": source, "teacher": teacher} | self.where
        if calibration is not None:
            where["cleaning"] = CleanParameters(calibration_fraction=calibration)
        return run_flow(train, TrainFlowParameters(training=parameters, **where))

    def compare(self, entries: dict[str, dict[str, Any]], validation: dict[str, Any], **rows: Any) -> ArtifactRef:
        """Cross-validate on the OQMD rows, or on others."""
        listed = tuple(
            EntryParameters(name=name, n_seeds=entry.pop("n_seeds", 1), training=TrainParameters(**entry))
            for name, entry in entries.items()
        )
        rows = rows or {"data": self.oqmd}
        parameters = CrossValidateParameters(
            entries=listed, validation=ValidationParameters(**validation), **rows, **self.where
        )
        return run_flow(cross_validate, parameters)

    def transfer(self, file: Path, validation: dict[str, Any], epochs: int, **options: Any) -> ArtifactRef:
        """Transfer the source model to a table.

        From scratch also at the rate at which large tables are learnt, so that it is not the recipe of fine-tuning that
        a small table's own network suffers from.
        """
        model = as_model(store_root(self.arguments.store), self.arguments.source)
        card, _ = read_model(model)
        architecture = {name: value for name, value in card.architecture.parameters.items() if name != "n_features"}
        training = TrainParameters(
            network=card.architecture.name, architecture=architecture, preset="small", epochs=epochs, threads=1,
            settings=FINE_TUNING | options.pop("settings", {}), batch_size=options.pop("batch_size", None),
            transfer=options.pop("transfer", None),
        )  # fmt: skip
        source = SourceParameters(source=f"file:{file}", **options.pop("energies", {}))
        dealt = ValidationParameters(include_validation=True, **validation)
        common = {"data": str(file), "energies": source, "validation": dealt} | self.where
        unseen = options.get("source_rows")
        ref = run_flow(
            transfer,
            TransferFlowParameters(source=self.arguments.source, training=training, **common, **options),
        )
        if dealt.sizes or unseen:
            return ref
        faster = training.model_copy(update={"settings": training.settings | {"learning_rate": LARGE_TABLE_RATE}})
        entries = (
            *transfer_entries(training, model.key),
            EntryParameters(name=f"from scratch, rate {LARGE_TABLE_RATE:g}", training=faster),
        )
        examples = ExampleParameters()
        return run_flow(cross_validate, CrossValidateParameters(entries=entries, examples=examples, **common))


def elemnet(run: Run) -> str:
    """ElemNet, its ensemble and each member alone."""
    # the ensemble first: its members are the networks of their seeds, and are not trained again
    ensemble = run.train(members=MEMBERS, threads=1)
    singles = {f"ElemNet, seed {seed}": run.train(threads=1, seed=seed) for seed in range(MEMBERS)}
    name = f"ElemNet, ensemble of {MEMBERS}"
    return "\n".join(
        (
            tables.models(singles | {name: ensemble}, {name: "put together"}),
            tables.members(ensemble),
            tables.uncertainty({"ElemNet, seed 0": singles["ElemNet, seed 0"], name: ensemble}),
            tables.calibration_figure(ensemble, "elemnet-calibration.svg", name),
        )
    )


def restarts(run: Run) -> str:
    """ElemNets that go on once and twice when their epochs are over, and what each of them is alone."""
    rows = {"calibration": CALIBRATION_SHARE}
    # the ends are trained first, side by side: both ways of going on begin from them, so that each has its own time
    shown = {f"{SEEDS} seeds": run.train(members=SEEDS, **ONCE, **rows)}
    singles = {f"seed {seed}": run.train(seed=seed, **ONCE, **rows) for seed in range(SEEDS)}
    took = []
    for times in (GOING_ON["restarts"], 1):
        name = f"{SEEDS} seeds, {times} restart{'s' * (times > 1)}"
        further = GOING_ON | {"restarts": times}
        shown[name] = run.train(members=SEEDS, **further, **rows)
        chains = [run.train(seed=seed, **further, **rows) for seed in range(SEEDS)]
        minutes = tables.minutes_side_by_side(list(zip(singles.values(), chains, strict=True)), shown[name])
        took.append(f"{name} took {minutes:.0f} minutes")
    name = f"{SEEDS} seeds, {GOING_ON['restarts']} restarts"
    return "\n".join(
        (
            tables.models(singles | shown, dict.fromkeys(shown, "put together")),
            tables.restarts(shown[name], 1 + GOING_ON["restarts"]),
            f"From the first epoch on, a core per seed, {' and '.join(took)}.\n",
            tables.uncertainty({"seed 0": singles["seed 0"], name: shown[name]}),
            tables.calibration_figure(shown[name], "restarts-calibration.svg", name),
        )
    )


def pupil(run: Run) -> str:
    """Train an ElemNet that learns a teacher's energies of 400,000 new compositions too, in as many steps."""
    shown = {
        "the teacher": as_model(store_root(run.arguments.store), run.arguments.source),
        "ElemNet": run.train(threads=1),
        "ElemNet, taught": run.train(threads=1, epochs=10, teacher=run.arguments.source),
    }
    return tables.models(shown) + "\n" + tables.learnt(shown)


def first_layers(run: Run) -> str:
    """ElemNets from few rows: the first layer starts at random, or alike where elements are alike."""
    start = {"first_layer": "periodic"}
    entries = {"random": {"threads": 1}, "periodic": {"threads": 1, "architecture": start}}
    return tables.comparison(run.compare(entries, {"scheme": "split", "sizes": FEW_ROWS}))


def attention(run: Run) -> str:
    """Train the attention network, and see what its uncertainty is worth."""
    refs = {
        "attention, 128 wide, 3 layers": run.train(epochs=40, threads=1, **ATTENTION),
        "attention, 192 wide, 4 layers": run.train(epochs=40, threads=1, **WIDE),
    }
    return tables.models(refs) + "\n" + tables.uncertainty(refs)


def forests(run: Run) -> str:
    """Random forests on Magpie attributes and on fractions, on the same split, and ElemNet beside them."""
    forest = {"network": "random_forest", "threads": 1}
    entries = {
        "random forest, Magpie": forest | {"representation": "magpie"},
        "random forest, fractions": dict(forest),
        "gradient boosting, Magpie": {"network": "gradient_boosting", "representation": "magpie", "threads": 1},
        "ridge, Magpie": {"network": "ridge", "representation": "magpie", "threads": 1},
    }
    compared = run.compare(entries, {"scheme": "split"})
    networks = {"ElemNet": run.train(threads=1), "ElemNet, ensemble": run.train(threads=1, members=MEMBERS)}
    said = {name: accuracy_errors.of_model(ref) for name, ref in networks.items()} | accuracy_errors.of_folds(compared)
    tables.write_figure("errors.svg", accuracy_errors.distribution_figure(said))
    figure = "![Distributions of the errors](accuracy/errors.svg)"
    source = "Published: Jha et al., Sci. Rep. 8, 17593 (2018), from 231k training rows; ElemNet there 0.050."
    parts = (source, accuracy_errors.distribution_table(said), figure, accuracy_errors.element_table(said))
    published = {"random forest, Magpie": "0.071", "random forest, fractions": "0.157"}
    return "\n\n".join((tables.comparison(compared, published), *parts))


def sizes(run: Run) -> str:
    """Error against the number of training rows; small sets are passed over until a network had its steps.

    Each size is learnt with the preset, and the batches, that suit it.
    """
    steps = {"min_steps": 3_000}
    attention = {name: value for name, value in ATTENTION.items() if name != "batch_size"}
    forest = {"network": "random_forest", "threads": 1}
    entries = {
        "ElemNet": {"threads": 1, "settings": dict(steps)},
        "attention": attention | {"epochs": 30, "threads": 1, "settings": ATTENTION["settings"] | steps},
        "random forest, Magpie": forest | {"representation": "magpie"},
        "random forest, fractions": dict(forest),
    }
    return tables.comparison(run.compare(entries, {"scheme": "split", "sizes": SIZES}))


_TRANSFERS = """\
Published: Jha et al., Nat. Commun. 10, 5316 (2019), where ElemNet is transferred from 341k rows of the OQMD and learns
from {}. "As it is" is the network of the OQMD without any training on this table."""


def experiment(run: Run) -> str:
    """Transfer to measured formation energies, ten-fold, also from a source that never saw the formulas; its curve."""
    file = run.data / "experimental_formation_energy.parquet"
    how: dict[str, Any] = {"energies": {"functional": "experiment", "temperature": 298.0}, "batch_size": 64}
    ref = run.transfer(file, {"folds": 10}, 40, **how)
    unseen = run.transfer(file, {"folds": 10}, 40, **how, source_rows=run.oqmd)
    steps = {"min_steps": 600}  # few rows are passed over more often, from scratch and transferred alike
    sized = run.transfer(file, {"folds": 10, "sizes": TARGET_SIZES}, 40, **how, settings=steps)
    published = {"from scratch": "0.1299", "transferred": "0.0642", "as it is": "0.1354"}
    parts = (
        tables.comparison(ref, published), tables.folds(ref), _TRANSFERS.format("1,963 rows"),
        f"### From a source that never saw the formulas\n\n{tables.comparison(unseen)}",
        f"### Fewer rows\n\n{tables.comparison(sized)}",
    )  # fmt: skip
    return "\n\n".join(part.strip() for part in parts)


def jarvis(run: Run) -> str:
    """Transfer to JARVIS-DFT, five-fold."""
    ref = run.transfer(run.data / "jarvis_formation_energy.parquet", {"folds": 5}, 20, batch_size=128)
    published = {"from scratch": "0.0546", "transferred": "0.0311", "as it is": "0.0821"}
    said = _TRANSFERS.format("11,050 rows, those on the hull alone; ours are all")
    return "\n".join((tables.comparison(ref, published), tables.folds(ref), said))


def materials_project(run: Run) -> str:
    """Transfer to the rows of the Materials Project that are on the hull, five-fold."""
    rows = pq.read_table(run.data / "mp_formation_energy.parquet")
    on_hull = rows.filter(pc.less_equal(rows.column("decomposition_energy"), 0.0))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "on_hull.parquet"
        pq.write_table(on_hull, file)
        ref = run.transfer(file, {"folds": 5}, 20, batch_size=128)
    published = {"from scratch": "0.0326", "transferred": "0.0248", "as it is": "0.1084"}
    return "\n".join((tables.comparison(ref, published), tables.folds(ref), _TRANSFERS.format("23,641 rows")))


def systems_held_out(run: Run) -> str:
    """Whole chemical systems held out."""
    return holdouts(run, ATTENTION)


def residual(run: Run) -> str:
    """Individual-residual, stacked-residual and plain networks on Magpie attributes, three seeds."""
    entries = {
        f"{name} {depth}": {
            "network": "residual", "representation": "magpie", "architecture": {"depth": depth, "skip": skip},
            "epochs": 15, "threads": 1, "n_seeds": 3, "settings": {"learning_rate": 1e-3, "weight_decay": 0.1},
        }
        for depth in run.arguments.depths
        for skip, name in (("individual", "IRNet"), ("stacked", "SRNet"), ("none", "plain"))
    }  # fmt: skip
    published = dict(
        zip(
            [f"{name} {depth}" for name in ("IRNet", "SRNet", "plain") for depth in (17, 24, 48)],
            ("0.0411", "0.0403", "0.0382", "0.0551", "0.0546", "0.0471", "0.0653", "0.0719", "0.1085"),
            strict=True,
        )
    )
    said = """\
Published: D. Jha's dissertation, for 436k rows of the OQMD with 271 attributes, 126 of them of the structure; ours are
145 attributes of the composition, 50,000 rows and 15 epochs. With 145 attributes and 341k rows the published errors are
0.054 for IRNet and 0.072 for the plain network of 17 layers, and 0.048 for IRNet of 48 (Table 4.4)."""
    ref = run.compare(entries, {"scheme": "split", "sizes": (50_000,)})
    return "\n".join((tables.comparison(ref, published), tables.out_of_order(ref, published), said))


def classes(run: Run) -> str:
    """Metals and insulators told apart, from band gaps."""
    settings = ATTENTION["settings"] | {"loss": "cross_entropy", "balanced_classes": True}
    training = ATTENTION | {"settings": settings, "target": "band_gap", "epochs": 10, "threads": 1}
    file = run.data / "oqmd_band_gap.parquet"
    ref = run_flow(
        train,
        TrainFlowParameters(
            data=str(file), energies=SourceParameters(source=f"file:{file}", database="oqmd"),
            examples=ExampleParameters(targets=("band_gap",), above=0.0), training=TrainParameters(**training),
            **run.where,
        ),
    )  # fmt: skip
    card, _ = read_model(ref)
    return tables.classes({"attention": card.metrics["validation"]})


SECTIONS: dict[str, tuple[str, Callable[[Run], str]]] = {
    "elemnet": ("ElemNet on the OQMD", elemnet),
    "restarts": ("ElemNets that go on when their epochs are over", restarts),
    "pupil": ("ElemNet, taught by the attention network", pupil),
    "first-layers": ("First layers of ElemNet from few rows", first_layers),
    "attention": ("The attention network on the OQMD", attention),
    "forests": ("Forests and other baselines on the OQMD", forests),
    "sizes": ("Error against the number of training rows", sizes),
    "residual": ("Residual and plain networks on Magpie attributes", residual),
    "experiment": ("Transfer to measured formation energies", experiment),
    "jarvis": ("Transfer to JARVIS-DFT", jarvis),
    "materials-project": ("Transfer to the Materials Project's hull", materials_project),
    "holdouts": ("Chemical systems held out", systems_held_out),
    "classes": ("Metals and insulators", classes),
}


def main() -> None:
    """Run a section and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("section", choices=SECTIONS)
    parser.add_argument("--oqmd", help="cleaned rows, or another file")
    parser.add_argument("--source", help="the model that is transferred")
    parser.add_argument(
        "--depths", type=int, nargs="+", choices=DEPTHS, default=DEPTHS, help="layers of the residual networks"
    )
    parser.add_argument("--store")
    parser.add_argument("--dask", default="local")
    parser.add_argument("--note", default="", help="what the machine did besides")
    arguments = parser.parse_args()
    title, section = SECTIONS[arguments.section]
    text = section(Run(arguments))
    depths = "" if tuple(arguments.depths) == DEPTHS else " ".join(map(str, arguments.depths))
    given = {"--oqmd ROWS": arguments.oqmd, "--source MODEL": arguments.source, f"--depths {depths}": depths}
    options = "".join(f" {option}" for option, value in given.items() if value)
    command = f"`python -m benchmarks.accuracy {arguments.section}{options}`"
    day = f"{dt.datetime.now(dt.UTC):%Y-%m-%d}, {machine()}"
    tables.write_section(title, f"{command}, {day}. {arguments.note}\n\n{text}")


if __name__ == "__main__":
    main()
