"""Several sources side by side: no row of one says anything about a row of another."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc

from models.errors import InputError
from storage.artifact import ArtifactRef, ArtifactRequest
from storage.scheme import EnergyScheme
from storage.store import ArtifactStore, ArtifactWriter
from tasks.stage import build, stage

STAGE_VERSION = 1

#: schemes of the sources in a merged table, by source
SCHEMES = "schemes.json"
EXPERIMENTS = "experiments"


@stage("merge-sources")
def merge_sources(root: str, sources: Sequence[ArtifactRef]) -> ArtifactRef:
    """Put the rows of several `compounds` artifacts into one, apart by `source` and `source_id`.

    Nothing is averaged and nothing is left out: two sources that know one composition give two rows. Measured energies
    go to a table of their own, `experiments`. The artifact has an energy scheme when all computed energies share one;
    otherwise `schemes.json` names each source's, and cleaning asks which source is meant.

    Raises
    ------
    InputError
        When a row occurs in two of the tables: a source is merged with itself.
    """
    store = ArtifactStore(root)
    schemes = _schemes(store, sources)
    distinct = set(schemes.values())
    request = ArtifactRequest(
        "compounds",
        "tasks.merge_sources",
        STAGE_VERSION,
        {},
        {f"source_{number}": ref for number, ref in enumerate(sorted(sources, key=lambda ref: ref.key))},
        energy_scheme=next(iter(distinct)) if len(distinct) == 1 else None,
    )
    return build(root, request, lambda writer: _write(writer, store, sources, schemes))


def _schemes(store: ArtifactStore, sources: Sequence[ArtifactRef]) -> dict[str, EnergyScheme]:
    schemes: dict[str, EnergyScheme] = {}
    for ref in sources:
        scheme = store.manifest(ref).energy_scheme
        if scheme is None or scheme.functional == "experiment":
            continue
        if schemes.setdefault(scheme.source, scheme) != scheme:
            raise InputError(
                f"two tables of the source {scheme.source} have different schemes ({schemes[scheme.source].label}, "
                f"{scheme.label}); merge one of them"
            )
    return schemes


def _write(
    writer: ArtifactWriter, store: ArtifactStore, sources: Sequence[ArtifactRef], schemes: dict[str, EnergyScheme]
) -> None:
    table = pa.concat_tables([store.read_table(ref) for ref in sorted(sources, key=lambda ref: ref.key)])
    identity = pa.table({name: table.column(name) for name in ("source", "source_id")})
    groups = identity.group_by(["source", "source_id"]).aggregate([([], "count_all")])
    twice = groups.filter(pc.greater(groups.column("count_all"), 1))
    if twice.num_rows:
        raise InputError(
            f"{twice.num_rows:,} rows are in two of the tables (first: {twice.column('source')[0]} "
            f"{twice.column('source_id')[0]}); merge each source once"
        )
    measured = pc.fill_null(pc.equal(table.column("functional"), "experiment"), False)
    computed = table.filter(pc.invert(measured))
    if computed.num_rows == 0:
        raise InputError("none of the tables has computed rows; measured ones are used as they are, without merging")
    writer.write_table("compounds", computed, "compounds")
    experiments = table.filter(measured)
    if experiments.num_rows:
        writer.write_table(EXPERIMENTS, experiments, "compounds")
    writer.write_json(SCHEMES, {name: scheme.model_dump() for name, scheme in sorted(schemes.items())})
    writer.count("rows_in", table.num_rows)
    writer.count("rows_kept", computed.num_rows)
    writer.count("rows_measured", experiments.num_rows)
    for name, n in sorted(zip(*_counted(computed), strict=True)):
        writer.count(f"rows_of_{name}", n)


def _counted(table: pa.Table) -> tuple[list[str], list[int]]:
    counts = table.column("source").value_counts()
    return [str(name) for name in counts.field("values").to_pylist()], counts.field("counts").to_pylist()
