"""The whole Materials Project in one piece: the client's download of the summary collection as a Delta table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any
from urllib.parse import unquote

import pyarrow.dataset as ds

from models.errors import InputError
from tasks.sources.errors import SourceError
from tasks.sources.mp import DEFAULT_THERMO_TYPE, MaterialsProject
from tasks.sources.service import RawRow
from tasks.sources.transport import Transport

_BATCH_ROWS = 2_000


def read_collection(service: MaterialsProject, transport: Transport, cache: str, version: str) -> Iterator[RawRow]:
    """Yield the rows of the summary collection, downloading it into a folder unless it is there.

    Parameters
    ----------
    service
        The query: its properties and whether restricted records are wanted.
    transport
        For the client's own questions.
    cache
        Folder for the download, several GB; it is kept, and used again for the same version of the database.
    version
        Version of the database; a collection of another version in the folder is replaced.

    Raises
    ------
    InputError
        For properties that the collection does not have.
    SourceError
        When the download fails.
    """
    query = service.query
    if "elastic_tensor" in query.properties or query.thermo_type != DEFAULT_THERMO_TYPE:
        raise InputError(
            "the whole collection has no elastic tensors and only the default thermo type; leave --cache away, so that "
            "they are read page by page"
        )
    Path(cache).mkdir(parents=True, exist_ok=True)
    dataset = _dataset(service, transport, cache, renew=False)
    if _versions_of(dataset) - {version}:
        dataset = _dataset(service, transport, cache, renew=True)
    columns = [name for name in service.fields if name in dataset.schema.names]
    flag = ["deprecated"] if "deprecated" in dataset.schema.names else []
    for batch in dataset.to_batches(columns=columns + flag, batch_size=_BATCH_ROWS):
        rows = (row for row in batch.to_pylist() if not row.get("deprecated"))
        yield from service.rows(iter([{"data": list(rows)}]))


def _dataset(service: MaterialsProject, transport: Transport, cache: str, renew: bool) -> ds.Dataset:
    try:
        with service.rester(transport, local_dataset_cache=cache, force_renew=renew) as rester:
            return rester.materials.summary.search().pyarrow_dataset
    except (InputError, SourceError):
        raise
    except Exception as error:  # the client, the Delta reader and the object store raise errors of every kind
        said = " ".join(str(error).split())[:200]
        raise SourceError(f"the collection of {service.name} was not downloaded ({said}); run again later") from None


def _versions_of(dataset: Any) -> set[str]:
    """Return the database versions of a collection: its folders are named after them, and its schema does not tell."""
    parts = [part for name in dataset.files for part in PurePath(name).parts]
    return {unquote(part.removeprefix("version=")) for part in parts if part.startswith("version=")}
