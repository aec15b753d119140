"""Errors of the artifact store: every message is one line that ends with a remedy."""

from __future__ import annotations


class StoreError(RuntimeError):
    """Anything the store, a table file or a model file can say about its input or its disk."""


class ArtifactNotFound(StoreError):
    """No artifact answers to the key, prefix, folder or address that was given."""


class AmbiguousKey(ArtifactNotFound):
    """More than one artifact answers to a key prefix."""


class ArtifactCorrupt(StoreError):
    """A manifest or payload file differs from what was committed."""


class SchemaError(StoreError):
    """A table lacks a column, or a column has the wrong type or empty values where there must be none."""


class LeaseTimeout(StoreError):
    """Another process kept building the same artifact for longer than the caller would wait."""


class SchemeMismatch(StoreError):
    """Energies of two different schemes were about to be compared."""


class ForeignPart(StoreError):
    """A stored part belongs to another run, or the set of parts has gaps or doubles."""
