"""Numbers, formulas and flags as a reader sees them."""

from __future__ import annotations

import math
import re
from typing import Any

from markupsafe import Markup, escape

FLAG_LABELS = {"known": "known", "hull_incomplete": "hull incomplete", "out_of_domain": "out of domain"}
ARITY_NAMES = {1: "unary", 2: "binary", 3: "ternary", 4: "quaternary", 5: "quinary", 6: "senary"}
MISSING = "\u2013"
_MINUS = "\u2212"
_FORMULA = re.compile(r"[A-Za-z0-9().\[\]]+")
_AMOUNT = re.compile(r"(?<=[A-Za-z)\]])(\d+(?:\.\d+)?)")
_SUBSCRIPTS = str.maketrans("0123456789.", "₀₁₂₃₄₅₆₇₈₉.")


def is_missing(value: Any) -> bool:
    """Whether a value is None, NaN or pandas' NA."""
    if value is None:
        return True
    try:
        return bool(value != value)
    except TypeError:  # pandas.NA has no truth value
        return True


def count(value: Any) -> str:
    """Write an integer with thousands separators."""
    return MISSING if is_missing(value) else f"{int(value):,}".replace("-", _MINUS)


def decimal(value: Any, digits: int = 3, sign: bool = False) -> str:
    """Write a number with fixed decimals and a true minus sign; a dash where there is none."""
    if is_missing(value) or not math.isfinite(float(value)):
        return MISSING
    text = f"{float(value):{'+' if sign else ''}.{digits}f}"
    if float(text) == 0.0:
        text = text.lstrip("-+")
    return text.replace("-", _MINUS)


def significant(value: Any, digits: int = 3) -> str:
    """Write a number with significant digits, without an exponent where that stays short."""
    if is_missing(value) or not math.isfinite(float(value)):
        return MISSING
    number = float(value)
    if number != 0 and 1e-3 <= abs(number) < 1e6:
        decimals = max(digits - 1 - math.floor(math.log10(abs(number))), 0)
        return f"{number:,.{decimals}f}".replace("-", _MINUS)
    return f"{number:.{digits}g}".replace("-", _MINUS)


def round_count(value: float) -> str:
    """Write an estimate of a count with two significant digits."""
    return f"{float(f'{value:.2g}'):,.0f}" if value >= 10 else significant(value, 2)


def percent(value: Any) -> str:
    """Write a fraction in percent; never rounded to 0 or 100 when it is neither."""
    if is_missing(value):
        return MISSING
    fraction = float(value)
    if 0 < fraction < 0.01:
        return "<1\u202f%"
    if 0.99 < fraction < 1:
        return ">99\u202f%"
    return f"{100 * fraction:.0f}\u202f%"


def wavelength(value: Any) -> str:
    """Write a critical wavelength in nm; infinite means that every wavelength is stable."""
    return "every" if not is_missing(value) and float(value) == math.inf else significant(value)


def threshold(value: Any) -> str:
    """Write a threshold energy as the user wrote it, with a true minus sign."""
    return MISSING if is_missing(value) else f"{float(value):g}".replace("-", _MINUS)


def formula_html(formula: Any) -> Markup:
    """Write a formula with proper subscripts; text that is no formula is only escaped."""
    text = str(formula)
    if not _FORMULA.fullmatch(text):
        return escape(text)
    return Markup(_AMOUNT.sub(r"<sub>\1</sub>", text))


def formula_text(formula: Any) -> str:
    """Write a formula with Unicode subscripts, for labels in figures."""
    text = str(formula)
    if not _FORMULA.fullmatch(text):
        return text
    return _AMOUNT.sub(lambda match: match.group(1).translate(_SUBSCRIPTS), text)


def plain_value(value: Any) -> str:
    """Any parameter or card entry in a table cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if is_missing(value):
        return MISSING
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return f"{value:.6g}".replace("-", _MINUS)
    if isinstance(value, (list, tuple)):
        return ", ".join(plain_value(item) for item in value) or MISSING
    return str(value)


_LABELS = {
    "mae": "MAE", "rmse": "RMSE", "r2": "R²", "mape": "MAPE (%)", "n": "rows", "n_mape": "rows in MAPE",
    "mae_log10": "MAE (log₁₀)", "rmse_log10": "RMSE (log₁₀)", "bias_log10": "bias (log₁₀)",
    "bulk_modulus_vrh": "bulk modulus K", "shear_modulus_vrh": "shear modulus G",
    "out_of_system_mae": "MAE on unseen chemical systems (eV/atom)", "slope": "slope (per eV/atom)",
    "brier": "Brier score", "n_stable": "stable rows", "calibration_error": "mean gap, stated to observed",
}  # fmt: skip
_PERCENTILE = re.compile(r"p(\d{2})")


def label(name: Any) -> str:
    """Put a metric's name in words: "p90" is "90 % below"; names without an entry lose their underscores."""
    text = str(name)
    percentile = _PERCENTILE.fullmatch(text)
    if percentile:
        return f"{percentile.group(1)}\u202f% below"
    return _LABELS.get(text, text.replace("_", " "))


def plural(number: int, singular: str, several: str | None = None) -> str:
    """Write a count with its noun: "1 system", "2 systems"."""
    return f"{count(number)} {singular if number == 1 else several or singular + 's'}"
