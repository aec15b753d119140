"""Examples: `compounds` -> rows to learn any property from; and what a training reads of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import Field, field_validator, model_validator

from models.errors import InputError
from models.examples import examples_table
from models.representation import FROM_STRUCTURE, represent
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.schemas import SCHEMAS
from storage.store import ArtifactStore, ArtifactWriter
from tasks.attributes import attribute_columns
from tasks.further_columns import is_ours, read_frame
from tasks.parameters import Parameters
from tasks.stage import build, stage
from tasks.train_parameters import ENERGY

STAGE_VERSION = 1


class ExampleParameters(Parameters):
    """Which labels, and how the rows are split."""

    targets: tuple[str, ...] = Field((ENERGY,), min_length=1, description="columns with what is to be learned")
    above: float | None = Field(
        None, description="two classes instead of numbers: whether the target is larger than this"
    )
    log10: bool = Field(False, description="learn the common logarithm of the targets, which are then positive")
    keep_elements: bool = Field(False, description="keep rows of a single element")
    lowest: float | None = Field(None, description="smallest accepted label")
    highest: float | None = Field(None, description="largest accepted label")
    calibration_fraction: float = Field(0.05, ge=0, lt=0.5, description="by whole chemical systems")
    validation_fraction: float = Field(
        0.1, ge=0, lt=0.5, description="by whole chemical systems; used when the table has no split"
    )
    seed: int = Field(0, description="seed of the split")

    @model_validator(mode="after")
    def _numbers_or_classes(self) -> ExampleParameters:
        if self.log10 and self.above is not None:
            raise ValueError("classes have no logarithm: leave log10 out, or above")
        return self

    @field_validator("targets")
    @classmethod
    def _known_columns(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        columns = SCHEMAS["compounds"].arrow
        known = [field.name for field in columns if pa.types.is_floating(field.type)]
        for name in value:
            if is_ours(name) and name not in known:
                raise ValueError(
                    f"'{name}' is no column of numbers; choose from {', '.join(known)}, or a column of your file"
                )
        return value


@stage("choose-examples")
def choose_examples(root: str, compounds: ArtifactRef, parameters: ExampleParameters) -> ArtifactRef:
    """Write one row per composition, with its labels and its split."""
    store = ArtifactStore(root)
    request = ArtifactRequest(
        "examples",
        "tasks.examples",
        STAGE_VERSION,
        parameters.model_dump(mode="json", exclude=set() if parameters.log10 else {"log10"}),
        {"compounds": compounds},
        energy_scheme=store.manifest(compounds).energy_scheme,
    )

    def write(writer: ArtifactWriter) -> None:
        p = parameters
        columns = list(dict.fromkeys(["material_id", "formula", "split", ENERGY, *p.targets]))
        frame = read_frame(store, compounds, columns)
        limits = None
        if p.lowest is not None or p.highest is not None:
            limits = (-np.inf if p.lowest is None else p.lowest, np.inf if p.highest is None else p.highest)
        kept, rejected, counts = examples_table(
            frame, p.targets, above=p.above, log10=p.log10, keep_elements=p.keep_elements, physical_range=limits,
            calibration_fraction=p.calibration_fraction, validation_fraction=p.validation_fraction, seed=p.seed,
        )  # fmt: skip
        writer.write_table("examples", pa.Table.from_pandas(kept, preserve_index=False), "examples")
        if len(rejected):
            rejected["record"] = None
            writer.reject(rejected.to_dict("records"))
        for name, n in counts.items():
            writer.count(name, n)

    return build(root, request, write)


@dataclass(frozen=True)
class Examples:
    """Rows as a training reads them.

    Attributes
    ----------
    row
        Place of each of n rows in the artifact's table, (n,), ascending.
    formula, chemsys
        Of each row.
    split
        ``train``, ``calibration`` or ``validation``, (n,).
    x
        What the network reads, (n, f), float32.
    y
        Labels (n, k), float64; NaN where one is missing.
    fractions
        Element fractions (n, 86), float32.
    targets, units
        Names of the labels and their units.
    transform
        What was made of the columns: ``none``, ``log10``, or ``class``: 0 and 1 of two classes.
    """

    row: NDArray[np.int64]
    formula: list[str]
    chemsys: NDArray[np.str_]
    split: NDArray[np.str_]
    x: NDArray[np.float32]
    y: NDArray[np.float64]
    fractions: NDArray[np.float32]
    targets: tuple[str, ...]
    units: tuple[str, ...]
    transform: str

    @property
    def is_classes(self) -> bool:
        """Whether the labels are 0 and 1 of two classes."""
        return self.transform == "class"

    def __len__(self) -> int:
        return len(self.formula)

    def located(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return where rows of the artifact's table are among these; those that are not are left out."""
        return np.flatnonzero(np.isin(self.row, rows))

    def labels(self, rows: NDArray[Any]) -> NDArray[Any]:
        """Labels as the trainer takes them: (m,) or (m, k) numbers, or (m,) class numbers."""
        chosen: NDArray[Any] = self.y[rows]
        if self.is_classes:
            chosen = chosen[:, 0].astype(np.int64)
        elif chosen.shape[1] == 1:
            chosen = chosen[:, 0]
        return chosen


@lru_cache(maxsize=3)
def load_examples(rows: ArtifactRef, representation: str, attributes: ArtifactRef | None = None) -> Examples:
    """Return the rows of a `features` or `examples` artifact, once per worker process.

    Parameters
    ----------
    rows
        The artifact.
    representation
        See `models.representation.represent`.
    attributes
        Structural attributes of the compounds that the rows come from, by `material_id`; rows without are left out,
        whatever is read of the others.

    Raises
    ------
    InputError
        For an artifact of another kind, structural attributes that are missing, or no row that has them.
    """
    store = ArtifactStore.from_ref(rows)
    manifest = store.manifest(rows)
    table = store.read_table(rows)
    if rows.kind == "features":
        targets, transform = (ENERGY,), "none"
        y = table.column(ENERGY).to_numpy()[:, None]
    elif rows.kind == "examples":
        targets = tuple(manifest.parameters["targets"])
        logarithm = "log10" if manifest.parameters.get("log10") else "none"
        transform = "class" if manifest.parameters["above"] is not None else logarithm
        y = table.column("labels").combine_chunks().values.to_numpy(zero_copy_only=False).reshape(-1, len(targets))
    else:
        raise InputError(f"{rows.key} is a '{rows.kind}' artifact; give one of kind features or examples")
    structural, numbers = None, np.arange(table.num_rows)
    if representation in FROM_STRUCTURE and attributes is None:
        raise InputError(f"{representation} needs structural attributes; featurize voronoi, and give --attributes")
    if attributes is not None:
        numbers, structural = _with_structures(store, table, attributes)
        table, y = table.take(pa.array(numbers)), y[numbers]
    formulas = table.column("formula").to_pylist()
    fractions = represent(formulas, "element_fraction")
    x = fractions if representation == "element_fraction" else represent(formulas, representation, structural)
    units = tuple("1" if transform == "class" else unit_of(name) for name in targets)
    return Examples(
        numbers, formulas, _texts(table, "chemsys"), _texts(table, "split"), x, np.array(y, dtype=np.float64),
        fractions, targets, units, transform,
    )  # fmt: skip


def unit_of(name: str) -> str:
    """Return the unit of a label: of a column that is none of ours nobody said one."""
    return SCHEMAS["compounds"].unit(name) if is_ours(name) else "its unit"


def _texts(table: pa.Table, name: str) -> NDArray[np.str_]:
    return np.array(table.column(name).to_pylist(), dtype=str)


def _with_structures(
    store: ArtifactStore, table: pa.Table, attributes: ArtifactRef
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the numbers of the rows that have structural attributes, and those attributes."""
    if attributes.kind != "attributes":
        raise InputError(f"{attributes.key} is a '{attributes.kind}' artifact; give one of kind attributes")
    values = attribute_columns(store, attributes)
    names = [name for name in values.column_names if name not in ("material_id", "formula", "chemsys", "split", ENERGY)]
    place = {name: row for row, name in enumerate(values.column("material_id").to_pylist())}
    found = np.array([place.get(name, -1) for name in table.column("material_id").to_pylist()])
    numbers = np.flatnonzero(found >= 0)
    if len(numbers) == 0:
        raise InputError(f"no row of the table has structural attributes in {attributes.key}; featurize its compounds")
    matrix = np.column_stack([values.column(name).to_numpy() for name in names]).astype(np.float32)
    return numbers, matrix[found[numbers]]
