"""Errors of the science that bad input causes."""

from __future__ import annotations


class InputError(ValueError):
    """Bad input that a user can cause; the message is one line that names the remedy."""


class FormulaError(InputError):
    """A chemical formula that cannot be read or that lies outside the 86 elements."""
