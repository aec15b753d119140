"""The report of a campaign: figures, tables and one self-contained HTML page. Pure functions, no store, no Prefect."""

from __future__ import annotations

from tasks.reporting.data import CleaningCounts, ReportData
from tasks.reporting.render import render_report

__all__ = ["CleaningCounts", "ReportData", "render_report"]
