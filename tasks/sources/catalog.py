"""Which source a name stands for."""

from __future__ import annotations

from models.errors import InputError
from tasks.parameters import SourceParameters
from tasks.sources.mp import MaterialsProject
from tasks.sources.optimade import JARVIS, OptimadeService
from tasks.sources.oqmd import OqmdRest
from tasks.sources.service import Service


def open_service(parameters: SourceParameters, key: str | None = None) -> Service:
    """Return the database that parameters name.

    Parameters
    ----------
    parameters
        The source and what is asked of it.
    key
        API key, for databases that want one.
    """
    query, endpoint = parameters.query, parameters.service.endpoint
    if parameters.source == "mp":
        return MaterialsProject(query, key, endpoint)
    if parameters.source == "oqmd":
        return OqmdRest(query, endpoint)
    if parameters.source == "jarvis":
        return OptimadeService(endpoint or JARVIS, query, parameters.columns, "jarvis", parameters.functional)
    if parameters.source.startswith("optimade:"):
        url = parameters.source.removeprefix("optimade:")
        provider = None if parameters.database == "file" else parameters.database
        return OptimadeService(url, query, parameters.columns, provider, parameters.functional)
    raise InputError(f"'{parameters.source}' is no database")
