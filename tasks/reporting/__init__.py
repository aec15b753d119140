"""The report of a campaign: figures, tables and one self-contained HTML page. Pure functions, no store, no Prefect."""

from __future__ import annotations
