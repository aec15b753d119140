"""`ingest` and `merge`: sources into the store, side by side."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from deployments.commands.run import ClusterOption, OutOption, StoreOption, console, payload_path, run_flow
from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.root import store_root
from storage.store import ArtifactStore
from storage.tables import table_format, write_any
from tasks.parameters import SourceParameters


def parse_map(pairs: list[str] | None) -> dict[str, str]:
    """Return `column=name` pairs as a mapping from the source's column to ours."""
    columns: dict[str, str] = {}
    for pair in pairs or []:
        theirs, sign, ours = pair.rpartition("=")
        if not sign or not theirs or not ours:
            raise InputError(f"--map takes COLUMN=NAME, the source's column and ours; got '{pair}'")
        columns[theirs] = ours
    return columns


def _listed(values: list[str] | None) -> tuple[str, ...]:
    return tuple(item.strip() for value in values or [] for item in value.split(",") if item.strip())


def _given(**values: Any) -> dict[str, Any]:
    """Return the options that were given, so that the parameters' own defaults hold for the others."""
    return {name: value for name, value in values.items() if value not in (None, ())}


def _of_files(text: str) -> Any:
    return typer.Option(help=text, rich_help_panel="Files")


def _of_databases(text: str, *names: str) -> Any:
    return typer.Option(*names, help=text, rich_help_panel="Databases")


_Texts = list[str] | None
MapOption = Annotated[_Texts, typer.Option("--map", help="COLUMN=NAME: the column of the file (or provider) and ours.")]
DatabaseOption = Annotated[str, _of_files("Database that the rows came from.")]
ReleaseOption = Annotated[str, _of_files("Its release; part of the energy scheme.")]
CorrectionsOption = Annotated[str, _of_files("U values and corrections of the energies.")]
TemperatureOption = Annotated[float | None, _of_files(r"Temperature of measured values \[K].")]
IdentitiesOption = Annotated[str | None, _of_files("A table with formulas, for a file that has only material_id.")]
ChemsysOption = Annotated[_Texts, _of_databases("Exactly these systems: Li-P-S,Li-O.")]
ElementsOption = Annotated[_Texts, _of_databases("Made of nothing but these: Li,P,S.")]
IdsOption = Annotated[_Texts, _of_databases("Identifiers: mp-1,mp-2.")]
PropertiesOption = Annotated[
    _Texts,
    _of_databases("formation_energy, energy_above_hull, band_gap, volume, structure, elasticity, elastic_tensor."),
]
ThermoOption = Annotated[str | None, _of_databases("mp: GGA_GGA+U_R2SCAN, GGA_GGA+U or R2SCAN.")]
RestrictedOption = Annotated[bool, _of_databases("mp: CC BY-NC records too.", "--include-restricted")]
DayOption = Annotated[str | None, _of_databases("Day of the snapshot, YYYY-MM-DD.")]
PageOption = Annotated[int | None, _of_databases("Rows per page.")]
EndpointOption = Annotated[str | None, _of_databases("Root of the server.")]
CacheOption = Annotated[str | None, _of_databases("mp: folder for the whole collection, downloaded in one piece.")]
KeyOption = Annotated[str | None, _of_databases("Prefect secret block with the API key; default: $MP_API_KEY.")]
RateOption = Annotated[float | None, _of_databases("Pace.", "--requests-per-second")]


def ingest_command(
    source: Annotated[str, typer.Option(help="mp, oqmd, jarvis, optimade:URL, file:PATH or starter.")],
    columns: MapOption = None,
    functional: Annotated[str | None, typer.Option(help="pbe, pbe+u, r2scan, mixed, chgnet, experiment.")] = None,
    database: DatabaseOption = "file",
    release: ReleaseOption = "unstated",
    corrections: CorrectionsOption = "none",
    temperature: TemperatureOption = None,
    identities: IdentitiesOption = None,
    chemsys: ChemsysOption = None,
    elements: ElementsOption = None,
    ids: IdsOption = None,
    properties: PropertiesOption = None,
    thermo_type: ThermoOption = None,
    include_restricted: RestrictedOption = False,
    as_of: DayOption = None,
    page_size: PageOption = None,
    endpoint: EndpointOption = None,
    cache: CacheOption = None,
    key_block: KeyOption = None,
    requests_per_second: RateOption = None,
    on_drift: Annotated[str, typer.Option(help="warn or refuse, when the source changed too much.")] = "warn",
    out: OutOption = None,
    store: StoreOption = None,
    dask: ClusterOption = "local",
) -> None:
    """Read one source into the store; rows that cannot be used are kept under rejected/ with their reason."""
    from flows.ingest import ingest
    from flows.parameters import IngestParameters
    from tasks.drift import DriftParameters, findings

    if out is not None:
        table_format(out)  # an ending that is not understood is better said before the work
    query = _given(chemsys=_listed(chemsys), elements=_listed(elements), ids=_listed(ids))
    query |= _given(properties=_listed(properties), thermo_type=thermo_type, as_of=as_of, page_size=page_size)
    query |= {"include_restricted": include_restricted}
    service = _given(endpoint=endpoint, cache=cache, key_block=key_block, requests_per_second=requests_per_second)
    file = _given(columns=parse_map(columns), functional=functional, database=database, release=release)
    file |= _given(corrections=corrections, temperature=temperature, identities=identities)
    parameters = SourceParameters.model_validate({"source": source, **file, "query": query, "service": service})
    drift = DriftParameters.model_validate({"on_drift": on_drift})
    result = run_flow(ingest, IngestParameters(source=parameters, drift=drift, store=store, cluster=dask))
    held = ArtifactStore.from_ref(result.compounds)
    for line in findings(held, result.drifts[0]):
        console.print("[yellow]drift:[/]", line, highlight=False, soft_wrap=True)
    _say(held, result.compounds, out)


def merge_command(
    tables: Annotated[list[str], typer.Option("--in", help="Two or more: file, artifact folder or key (prefix).")],
    out: OutOption = None,
    store: StoreOption = None,
) -> None:
    """Put the rows of several sources side by side; nothing is averaged, measured energies stay apart."""
    from tasks.inputs import as_compounds
    from tasks.merge_sources import merge_sources
    from tasks.stage import reference

    if len(tables) < 2:
        raise InputError("merge takes two tables or more: --in A --in B")
    root = store_root(store)
    ref = reference(merge_sources.fn(root, [as_compounds(root, table) for table in tables]))
    _say(ArtifactStore.from_ref(ref), ref, out)


def _say(held: ArtifactStore, ref: ArtifactRef, out: Any) -> None:
    """Print the counts, which account for every row, and where the table is."""
    counts = held.manifest(ref).counts
    words = {"rows_in": "in", "rows_kept": "kept", "rows_rejected": "rejected", "rows_merged": "merged into others"}
    words["rows_measured"] = "measured, kept apart"
    text = ", ".join(f"{word} {counts[name]:,}" for name, word in words.items() if name in counts)
    console.print(f"rows {text}", highlight=False)
    if out is not None:
        write_any(held.read_table(ref), out)
    console.print(str(out) if out else payload_path(ref, "compounds.parquet"), highlight=False, soft_wrap=True)
