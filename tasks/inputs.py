"""What a user may give where a table is asked for: a file, an artifact folder, or a key (prefix)."""

from __future__ import annotations

import os
from pathlib import Path

import pyarrow as pa
from prefect import task
from prefect.cache_policies import NO_CACHE

from models.errors import InputError
from storage.artifact import ArtifactRef
from storage.scheme import EnergyScheme, table_scheme
from storage.store import ArtifactStore
from storage.tables import read_any
from tasks.clean import clean_phases, clean_training
from tasks.examples import ExampleParameters, choose_examples
from tasks.featurize import featurize_fractions
from tasks.ingest import ingest
from tasks.parameters import CleanParameters, SourceParameters
from tasks.references import audit_references
from tasks.stage import reference


def is_file(text: str) -> bool:
    """Whether a text names a file that is there."""
    return os.path.isfile(text.removeprefix("file:"))  # of pathlib's a text longer than a name can be is an error


def table_names(text: str) -> list[str]:
    """Return the tables of a text that names one, or several with commas between; a path's own commas are its name's.

    Raises
    ------
    InputError
        A name is empty, or there twice.
    """
    if "," not in text or os.path.exists(text.removeprefix("file:")):
        return [text]
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise InputError(f"{text!r} names a table that has no name: leave out the comma at its end, or name the table")
    if doubled := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"the table {doubled[0]} is named twice: its rows would count twice; name it once")
    return names


def as_compounds(root: str, text: str, source: SourceParameters | None = None) -> ArtifactRef:
    """Return a `compounds` artifact for a file or an artifact of that kind."""
    if text == "starter":
        return reference(ingest.fn(root, SourceParameters(source="starter")))
    if is_file(text):
        file = f"file:{text.removeprefix('file:')}"
        parameters = (source or SourceParameters()).model_copy(update={"source": file})
        return reference(ingest.fn(root, parameters))
    return _of_kind(root, text, ("compounds",))


def as_phases(root: str, text: str, source: SourceParameters | None = None) -> ArtifactRef:
    """Return a `phases` artifact, cleaning a table of energies where that is what was given."""
    ref = None if text == "starter" or is_file(text) else _of_kind(root, text, ("phases", "compounds"))
    if ref is not None and ref.kind == "phases":
        return ref
    compounds = ref or as_compounds(root, text, source)
    cleaning = CleanParameters()
    references = reference(audit_references.fn(root, compounds, cleaning))
    return reference(clean_phases.fn(root, compounds, references, cleaning))


def as_features(root: str, text: str, cleaning: CleanParameters, source: SourceParameters | None = None) -> ArtifactRef:
    """Return a `features` artifact, cleaning and featurizing where a table of energies was given."""
    ref = None
    if text != "starter" and not is_file(text):
        ref = _of_kind(root, text, ("features", "training", "compounds"))
    if ref is not None and ref.kind == "features":
        return ref
    if ref is None or ref.kind == "compounds":
        compounds = ref or as_compounds(root, text, source)
        references = reference(audit_references.fn(root, compounds, cleaning))
        ref = reference(clean_training.fn(root, compounds, references, cleaning))
    return reference(featurize_fractions.fn(root, ref))


def as_rows(
    root: str, text: str, cleaning: CleanParameters, source: SourceParameters, examples: ExampleParameters | None
) -> ArtifactRef:
    """Return a `features` artifact, or with `examples` one of that kind, from whatever was given."""
    if text != "starter" and not is_file(text):
        ref = _of_kind(root, text, ("examples", "features", "training", "compounds"))
        if ref.kind == "examples":
            return ref
    if examples is None:
        return as_features(root, text, cleaning, source)
    return reference(choose_examples.fn(root, as_compounds(root, text, source), examples))


def as_model(root: str, text: str) -> ArtifactRef:
    """Return a `model` artifact."""
    return _of_kind(root, text, ("model",))


def as_table(root: str, text: str) -> tuple[pa.Table, EnergyScheme | None]:
    """Return the rows of a file or of an artifact's main table, and the energy scheme they state."""
    if is_file(text):
        table = read_any(text.removeprefix("file:"))
        return table, table_scheme(table)
    store = ArtifactStore(root)
    ref = store.resolve(text)
    return store.read_table(ref), store.manifest(ref).energy_scheme


def _of_kind(root: str, text: str, kinds: tuple[str, ...]) -> ArtifactRef:
    # keys have no dot: whoever writes one means a file
    if "." in Path(text).name and "://" not in text and not os.path.exists(text):
        raise InputError(f"there is no file {text} (looked in {Path.cwd()}): give its path, or an artifact's key")
    ref = ArtifactStore(root).resolve(text)
    if ref.kind not in kinds:
        raise InputError(f"{text} is a '{ref.kind}' artifact; give one of kind {' or '.join(kinds)}, or a file")
    return ref


@task(name="find-compounds", cache_policy=NO_CACHE)
def resolve_compounds(root: str, text: str, source: SourceParameters | None = None) -> ArtifactRef:
    """Find or make the `compounds` artifact that a user named."""
    return as_compounds(root, text, source)


@task(name="find-compositions", cache_policy=NO_CACHE)
def resolve_compositions(root: str, text: str) -> ArtifactRef:
    """Find the `candidates` that a user named, or find or make `compounds`."""
    if is_file(text) or text == "starter":
        return as_compounds(root, text)
    return _of_kind(root, text, ("candidates", "compounds"))


@task(name="find-artifact", cache_policy=NO_CACHE)
def resolve_artifact(root: str, text: str, kinds: tuple[str, ...]) -> ArtifactRef:
    """Find the artifact of one of some kinds that a user named."""
    return _of_kind(root, text, kinds)


@task(name="find-phases", cache_policy=NO_CACHE)
def resolve_phases(root: str, text: str) -> ArtifactRef:
    """Find or make the `phases` artifact that a user named."""
    return as_phases(root, text)


@task(name="find-features", cache_policy=NO_CACHE)
def resolve_features(root: str, text: str, cleaning: CleanParameters, source: SourceParameters) -> ArtifactRef:
    """Find or make the `features` artifact that a user named."""
    return as_features(root, text, cleaning, source)


@task(name="find-rows", cache_policy=NO_CACHE)
def resolve_rows(
    root: str, text: str, cleaning: CleanParameters, source: SourceParameters, examples: ExampleParameters | None
) -> ArtifactRef:
    """Find or make the rows to learn from that a user named."""
    return as_rows(root, text, cleaning, source, examples)


@task(name="find-model", cache_policy=NO_CACHE)
def resolve_model(root: str, text: str) -> ArtifactRef:
    """Find the `model` artifact that a user named."""
    return as_model(root, text)


@task(name="find-attributes", cache_policy=NO_CACHE)
def resolve_attributes(root: str, text: str) -> ArtifactRef:
    """Find the `attributes` artifact that a user named."""
    return _of_kind(root, text, ("attributes",))
