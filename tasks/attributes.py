"""Featurize at scale: the physical attributes of Ward et al. of every compound, from composition or structure.

`magpie` is computed for whole blocks of rows in this process. `voronoi` takes from milliseconds to minutes per
structure, so it runs in chunks over the Dask workers, each structure in a child process that is killed when its time is
up; every finished chunk is kept in the store's scratch folder, where a run that was killed finds it again.

Whether a structure needs more time than it may take depends on the machine; nothing else in the payload does.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from distributed import as_completed, get_worker, worker_client
from numpy.typing import NDArray
from pydantic import Field

from models.elements import ELEMENTS
from models.errors import InputError
from models.formula import parse_many
from models.magpie import MAGPIE_NAMES, magpie_attributes
from models.structural_attributes import STRUCTURAL_NAMES
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.parts import PartFolder
from storage.store import ArtifactStore, ArtifactWriter
from tasks.child import Child, Work
from tasks.parameters import Parameters
from tasks.progress import Progress
from tasks.stage import build, stage

STAGE_VERSION = 1
#: What a child computes from the text of a structure.
VORONOI = Work("models.structural_attributes:attributes_of_text", "models.structural_attributes:prepare")
#: Rows of a part of the table; fixed, since parts are payload.
BLOCK = 50_000

_COLUMNS = ["material_id", "formula", "chemsys", "split", "formation_energy_per_atom"]
_PART = pa.schema(
    [("row", pa.int64()), ("attributes", pa.list_(pa.field("element", pa.float32()))), ("reason", pa.string())]
)
_NAMES = {"magpie": MAGPIE_NAMES, "voronoi": STRUCTURAL_NAMES}


class FeaturizeParameters(Parameters):
    """Which attributes, and what may be spent on a structure."""

    features: Literal["magpie", "voronoi", "element_fraction"] = Field(
        "magpie",
        description="magpie: 145 of the composition; voronoi: 126 of the structure; element_fraction: 86, of the rows "
        "that cleaning leaves for training",
    )
    seconds_per_structure: float = Field(
        60.0, gt=0, description="a structure that takes longer is ended and rejected (voronoi only) [s]"
    )
    chunk: int = Field(50, ge=1, description="structures per Dask task and checkpoint; no part of the result")


def attributes_request(
    store: ArtifactStore, compounds: ArtifactRef, parameters: FeaturizeParameters
) -> ArtifactRequest:
    """Return what the attributes are made from: neither chunks nor workers are part of it."""
    content: dict[str, Any] = {"features": parameters.features}
    if parameters.features == "voronoi":
        content["seconds_per_structure"] = parameters.seconds_per_structure
    return ArtifactRequest(
        "attributes",
        "tasks.attributes",
        STAGE_VERSION,
        content,
        {"compounds": compounds},
        energy_scheme=store.manifest(compounds).energy_scheme,
    )


@stage("featurize-attributes")
def featurize_attributes(root: str, compounds: ArtifactRef, parameters: FeaturizeParameters) -> ArtifactRef:
    """Write the attributes of every row that has them; the others are rejected with a reason or counted.

    The table comes in parts of `BLOCK` rows; ``names.json`` names the attributes in order.

    Raises
    ------
    InputError
        For element fractions, which are those of training rows: `tasks.featurize.featurize_fractions` makes them.
    """
    if parameters.features not in _NAMES:
        raise InputError(f"{parameters.features} is made of cleaned rows; use the flow or command `featurize`")
    store = ArtifactStore(root)
    request = attributes_request(store, compounds, parameters)
    return build(root, request, lambda writer: _write(writer, store, compounds, parameters))


def attribute_columns(store: ArtifactStore, ref: ArtifactRef) -> pa.Table:
    """Return the table of an `attributes` or `features` artifact with one column per feature, for people."""
    table = store.read_table(ref)
    if ref.kind == "features":
        column, names = "element_fraction", tuple(ELEMENTS)
    else:
        column, names = "attributes", _NAMES[store.manifest(ref).parameters["features"]]
    values = table.column(column).combine_chunks().values.to_numpy(zero_copy_only=False)
    table = table.drop_columns([column])
    for name, numbers in zip(names, values.reshape(table.num_rows, len(names)).T, strict=True):
        table = table.append_column(name, pa.array(numbers))
    return table


def _write(
    writer: ArtifactWriter, store: ArtifactStore, compounds: ArtifactRef, parameters: FeaturizeParameters
) -> None:
    table = store.read_table(compounds, columns=_COLUMNS)
    if parameters.features == "magpie":
        results, without = _magpie(table.column("formula")), 0
    else:
        structures = store.read_table(compounds, columns=["structure"]).column("structure")
        without = structures.null_count
        parts = PartFolder(store.scratch(writer.request.key), {"key": writer.request.key})
        _fill(parts, structures, parameters)
        results = _merged(parts, table.num_rows)
    kept = 0
    for number, block in enumerate(results):
        kept += _write_block(writer, table, block, number)
    names = _NAMES[parameters.features]
    writer.write_json("names.json", {"features": parameters.features, "names": list(names)})
    counts = {"rows_in": table.num_rows, "rows_kept": kept, "without_structure": without}
    for name, n in (counts | {"rows_rejected": table.num_rows - kept - without}).items():
        writer.count(name, n)


def _write_block(writer: ArtifactWriter, table: pa.Table, block: pa.Table, number: int) -> int:
    """Write the rows of a block that have attributes, reject the others; return how many were kept."""
    has = block.column("reason").is_null()
    kept, refused = block.filter(has), block.filter(block.column("reason").is_valid())
    rows = table.take(kept.column("row")).append_column("attributes", kept.column("attributes"))
    writer.write_table(f"attributes/{number:05d}", rows, "attributes")
    if refused.num_rows:
        rejected = table.take(refused.column("row")).select(["material_id", "formula"])
        writer.reject(
            rejected.append_column("row", refused.column("row")).append_column("reason", refused.column("reason"))
        )
    return int(kept.num_rows)


def _part(
    rows: Sequence[int], values: NDArray[np.floating], valid: NDArray[np.bool_], reasons: Sequence[Any]
) -> pa.Table:
    """Return results as a table: attributes (n, m) where ``valid``, a reason elsewhere."""
    lengths = np.where(valid, values.shape[1], 0)
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    flat = pa.array(values[valid].astype(np.float32).ravel())
    lists = pa.ListArray.from_arrays(offsets, flat, type=_PART.field("attributes").type, mask=pa.array(~valid))
    return pa.table([pa.array(rows, pa.int64()), lists, pa.array(reasons, pa.string())], schema=_PART)


# From the composition


def _magpie(formulas: pa.ChunkedArray) -> Iterator[pa.Table]:
    """Attributes of all formulas, a block at a time; at least one, so that an empty table is written too."""
    progress = Progress("composition attributes", len(formulas))
    for start in range(0, max(len(formulas), 1), BLOCK):
        parsed = parse_many(formulas.slice(start, BLOCK).to_pylist())
        values = magpie_attributes(parsed.elements, parsed.amounts)
        yield _part(range(start, start + len(parsed)), values, parsed.valid, parsed.reason)
        progress.update(start + len(parsed))


# From the structure


def _fill(parts: PartFolder, structures: pa.ChunkedArray, parameters: FeaturizeParameters) -> None:
    """Compute what no part has yet, chunk by chunk; a chunk that is finished is a part."""
    done = {row for name in parts.names() for row in parts.read(name).column("row").to_pylist()}
    wanted = np.flatnonzero(structures.is_valid().to_numpy())
    rows = [int(row) for row in wanted if int(row) not in done]
    chunks = [rows[start : start + parameters.chunk] for start in range(0, len(rows), parameters.chunk)]
    progress = Progress("structural attributes", len(wanted), "structures")
    finished = len(wanted) - len(rows)
    compute = partial(structure_chunk, VORONOI, parameters.seconds_per_structure)
    for chunk, answers in _spread(compute, chunks, structures):
        valid = np.array([reason is None for _, reason in answers])
        values = np.zeros((len(chunk), len(STRUCTURAL_NAMES)))
        for place, (value, reason) in enumerate(answers):
            if reason is None:
                values[place] = value
        # no part has the first row of this one: parts of another chunk size lie beside it and are as good
        part = _part(chunk, values, valid, [reason for _, reason in answers])
        parts.write(f"{chunk[0]:010d}", part, "attributes_part")
        finished += len(chunk)
        progress.update(finished)


def _merged(parts: PartFolder, n_rows: int) -> Iterator[pa.Table]:
    """All results in the order of the rows, `BLOCK` rows of the input at a time."""
    tables = [parts.read(name) for name in parts.names()]
    merged = pa.concat_tables(tables).sort_by("row") if tables else _PART.empty_table()
    starts = range(0, max(n_rows, 1), BLOCK)
    places = np.searchsorted(merged.column("row").to_numpy(), [*starts, starts[-1] + BLOCK])
    for low, high in pairwise(places):
        yield merged.slice(low, high - low)


Answer = tuple[list[float] | None, str | None]


def structure_chunk(work: Work, seconds: float, texts: list[str]) -> list[Answer]:
    """Attributes of some structures, or the reason why there are none; in a child process, killed when it hangs."""
    with Child(work, seconds) as child:
        return [_sound(*child.ask(text)) for text in texts]


def _sound(value: Any, reason: str | None) -> Answer:
    return (value, None) if reason is None else (None, f"structure: {reason}")


def _spread(
    compute: partial[list[Answer]], chunks: list[list[int]], structures: pa.ChunkedArray
) -> Iterator[tuple[list[int], list[Answer]]]:
    """Results of the chunks as they come, over the Dask workers when called on one; few are under way at once."""

    def texts(chunk: list[int]) -> list[str]:
        return [str(text) for text in structures.take(pa.array(chunk)).to_pylist()]

    try:
        get_worker()
    except ValueError:
        for chunk in chunks:
            yield chunk, compute(texts(chunk))
        return
    waiting = iter(chunks)
    under_way: dict[Any, list[int]] = {}
    with worker_client() as client:
        # structures travel with their chunk, so the scheduler holds only a few chunks per worker
        running = as_completed([])

        def send() -> None:
            chunk = next(waiting, None)
            if chunk is not None:
                future = client.submit(compute, texts(chunk), pure=False)
                under_way[future.key] = chunk
                running.add(future)

        for _ in range(3 * max(1, len(client.nthreads()))):
            send()
        for future in running:
            yield under_way.pop(future.key), future.result()
            send()
