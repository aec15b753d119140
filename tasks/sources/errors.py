"""Errors of services that are asked for data."""

from __future__ import annotations


class SourceError(RuntimeError):
    """A service that does not answer as it should, after all patience; the message is one line with a remedy.

    Running again is worth it: pages that were read are kept.
    """
