"""Predicted uncertainty: from members' spread to a calibrated predictive distribution, and how well it is calibrated.

The raw standard deviation orders predictions by their errors but is not their size, and errors divided by it have
heavier tails than a Gaussian. On rows that did not train the network, two things are therefore fitted: a monotone map
to a scale, and the distribution of the errors in units of that scale. The map minimises log(scale) + |error| / scale,
which is consistent for the expected absolute error whatever the shape of the errors (T. Gneiting, J. Am. Stat. Assoc.
106, 746 (2011)); the scale is then normalised to the half width that holds 68.27 % of them, a Gaussian's sigma.

Errors are prediction minus truth, in the unit of the prediction. Rows are taken for independent: keep whole groups
(chemical systems) on one side of the cut, or the numbers describe interpolation only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

from models.errors import InputError
from models.stability import wilson

FloatArray = NDArray[np.float64]

MIN_CALIBRATION_ROWS: Final = 50
LEVELS: Final = np.arange(1, 200) / 200
"""Probabilities of the stored quantiles of the standardised residuals."""
REPORTED_INTERVALS: Final = (0.5, 0.6827, 0.9, 0.95, 0.99)
_ONE_SIGMA: Final = 0.6826894921370859
_END: Final = float(LEVELS[0])
_ATOMS: Final = (np.arange(1000) + 0.5) / 1000
_TEMPERATURES: Final = (0.05, 20.0)


def combine(means: ArrayLike, scales: ArrayLike | None = None) -> tuple[FloatArray, FloatArray | None]:
    """Mean and standard deviation of the mixture that an ensemble predicts, by the law of total variance.

    Parameters
    ----------
    means, scales
        Members' means and aleatoric standard deviations (m, n), in one unit; scales None where none are predicted.

    Returns
    -------
    mean, std : ndarray, shape (n,)
        The squared std is the variance of the means (m - 1 in the denominator) plus the mean squared scale
        (Lakshminarayanan et al., arXiv:1612.01474); None for one member without scales. InputError for
        other shapes, no member, NaN or negative scales.
    """
    mu = np.asarray(means, dtype=np.float64)
    if mu.ndim != 2 or len(mu) == 0 or not np.isfinite(mu).all():
        raise InputError(f"Members' means must be finite and of shape (members, n), got shape {mu.shape}: check them.")
    variance = mu.var(axis=0, ddof=1) if len(mu) > 1 else None
    if scales is not None:
        sigma = np.asarray(scales, dtype=np.float64)
        if sigma.shape != mu.shape or not (np.isfinite(sigma) & (sigma >= 0)).all():
            raise InputError(f"Members' scales must be finite, not negative and of shape {mu.shape}: check them.")
        variance = np.mean(sigma**2, axis=0) + (0.0 if variance is None else variance)
    return np.asarray(mu.mean(axis=0)), None if variance is None else np.asarray(np.sqrt(variance))


@dataclass(frozen=True)
class CalibratedUncertainty:
    """Predictive distribution: mean + scale(std) times a standardised residual. Arguments broadcast; NaN means stay.

    Attributes
    ----------
    scale : mapping
        ``method`` "quadrature", sqrt(floor^2 + (gain std)^2), or "isotonic": straight lines through ``spread`` and
        ``value``, constant below the first, with ``slope`` beyond the last.
    quantiles : tuple of float
        Standardised residuals (truth - mean) / scale at `LEVELS`, strictly ascending; ``rms``: their root mean square.
    lower_tail, upper_tail : tuple of float
        Scale and shape of the generalised Pareto tails beyond the first and the last quantile; shape 0: exponential.
    symmetric, n
        Whether residuals of both signs share one distribution; number of calibration rows.
    scores : mapping
        Scores on the half that was not fitted, lower is better: mean of log(scale) + |error| / scale for
        ``quadrature`` and ``isotonic``, CRPS of the standardised residuals for ``symmetric`` and ``asymmetric``.
    """

    scale: Mapping[str, Any]
    quantiles: tuple[float, ...]
    lower_tail: tuple[float, float]
    upper_tail: tuple[float, float]
    symmetric: bool
    rms: float
    n: int
    scores: Mapping[str, float]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able form."""
        return asdict(self) | {key: list(getattr(self, key)) for key in ("quantiles", "lower_tail", "upper_tail")}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> CalibratedUncertainty:
        """Take back what `to_dict` or `fit_uncertainty` gave; InputError where it is something else."""
        try:
            known = {key: stored[key] for key in cls.__dataclass_fields__}
            known |= {key: tuple(map(float, known[key])) for key in ("quantiles", "lower_tail", "upper_tail")}
        except (KeyError, TypeError) as error:
            raise InputError(f"The stored uncertainty is incomplete ({error}): fit it again.") from error
        if len(known["quantiles"]) != len(LEVELS) or not (np.diff(known["quantiles"]) > 0).all():
            raise InputError(f"The stored uncertainty needs {len(LEVELS)} ascending quantiles: fit it again.")
        return cls(**known)

    def apply(self, std: ArrayLike) -> FloatArray:
        """Scale of raw standard deviations (n,): half width that holds 68.27 % of the errors; never falls with std."""
        return _scale(_spread(std), self.scale)

    def deviation(self, std: ArrayLike) -> FloatArray:
        """Root mean square error expected at raw standard deviations (n,); heavy tails put it above the scale."""
        return self.rms * self.apply(std)

    def quantile(self, mean: ArrayLike, std: ArrayLike, probability: ArrayLike) -> FloatArray:
        """Value below which the truth lies with the given probability, 0 to 1 exclusive."""
        p = np.asarray(probability, dtype=np.float64)
        if not ((p > 0) & (p < 1)).all():
            raise InputError("A quantile needs a probability between 0 and 1, both excluded.")
        z = np.interp(p, LEVELS, self.quantiles)
        for sign, beyond, (scale, shape) in ((-1, p, self.lower_tail), (1, 1.0 - p, self.upper_tail)):
            z = z + sign * scale * scipy.special.boxcox(_END / np.minimum(beyond, _END), shape)
        return np.asarray(np.asarray(mean, dtype=np.float64) + self.apply(std) * z)

    def interval(self, mean: ArrayLike, std: ArrayLike, level: float = 0.95) -> tuple[FloatArray, FloatArray]:
        """Central interval that holds the truth with probability ``level``: lower and upper end (n,)."""
        tail = (1.0 - level) / 2.0
        return self.quantile(mean, std, tail), self.quantile(mean, std, 1.0 - tail)

    def cdf(self, value: ArrayLike, mean: ArrayLike, std: ArrayLike) -> FloatArray:
        """Probability that the truth is at or below a value; at the truth itself, its PIT value."""
        z = (np.asarray(value, dtype=np.float64) - np.asarray(mean, dtype=np.float64)) / self.apply(std)
        first, last = self.quantiles[0], self.quantiles[-1]
        low = _END / scipy.special.inv_boxcox(np.maximum(first - z, 0.0) / self.lower_tail[0], self.lower_tail[1])
        high = _END / scipy.special.inv_boxcox(np.maximum(z - last, 0.0) / self.upper_tail[0], self.upper_tail[1])
        inside = np.interp(z, self.quantiles, LEVELS)
        return np.asarray(np.where(z < first, low, np.where(z > last, 1.0 - high, inside)))

    def crps(self, truth: ArrayLike, mean: ArrayLike, std: ArrayLike) -> FloatArray:
        """Continuous ranked probability score of each row, in the unit of the prediction; lower is better.

        E|X - y| - E|X - X'| / 2 (Gneiting and Raftery, J. Am. Stat. Assoc. 102, 359 (2007), equation 21) with the
        distribution as 1000 equally likely values.
        """
        scale = self.apply(std)
        z = (np.asarray(truth, dtype=np.float64) - np.asarray(mean, dtype=np.float64)) / scale
        atoms = self.quantile(0.0, 0.0, _ATOMS) / self.apply(0.0)
        m, sums = len(atoms), np.concatenate([[0.0], np.cumsum(atoms)])
        below = np.searchsorted(atoms, z, side="right")
        distance = (z * (2 * below - m) + sums[-1] - 2 * sums[below]) / m
        spread = 2.0 / m**2 * float(np.sum((2 * np.arange(1, m + 1) - m - 1) * atoms))
        return np.asarray(scale * (distance - spread / 2))


def fit_uncertainty(error: ArrayLike, std: ArrayLike) -> dict[str, Any]:
    """Fit the predictive distribution on calibration rows, which must not have trained the network.

    The map of the scale (quadrature or isotonic) and the symmetry of the residuals are chosen by cross-validation on
    two halves; the simpler choice stands unless the other is better by one standard error of the paired differences
    (Breiman et al., Classification and Regression Trees (1984), section 3.4.3). The order of the rows is of no account.

    Parameters
    ----------
    error
        Prediction minus truth (n,), at least `MIN_CALIBRATION_ROWS` rows.
    std
        Raw standard deviations (n,), not negative; of any unit, for instance all 1 where a network states none.

    Returns
    -------
    dict
        JSON-able, for `CalibratedUncertainty.from_dict`. InputError for NaN, negative standard deviations, unequal
        lengths, too few rows, or errors of which most are 0.
    """
    e, s = _rows(error, std)
    if len(e) < MIN_CALIBRATION_ROWS:
        raise InputError(f"{len(e)} rows cannot calibrate an uncertainty, at least {MIN_CALIBRATION_ROWS} are needed.")
    order = np.lexsort((e, s))
    e, s = e[order], s[order]
    first = np.random.default_rng(0).permutation(len(e)) < len(e) // 2
    fits = {"quadrature": _fit_quadrature, "isotonic": _fit_isotonic}
    losses = {name: np.empty(len(e)) for name in (*fits, "symmetric", "asymmetric")}
    for fitted in (first, ~first):
        for name, fit in fits.items():
            scale = _scale(s[~fitted], fit(np.abs(e[fitted]), s[fitted]))
            losses[name][~fitted] = np.log(scale) + np.abs(e[~fitted]) / scale
    method = "isotonic" if _is_better(losses["isotonic"], losses["quadrature"]) else "quadrature"
    model = fits[method](np.abs(e), s)
    factor = float(np.quantile(np.abs(e) / _scale(s, model), _ONE_SIGMA, method="weibull"))
    if factor == 0:
        raise InputError("Most errors are 0: calibrate on rows that the network has not seen.")
    model |= {k: (np.asarray(v) * factor).tolist() for k, v in model.items() if k not in ("method", "spread")}
    z = -e / _scale(s, model)
    for fitted in (first, ~first):
        for name in ("symmetric", "asymmetric"):
            losses[name][~fitted] = _standard(z[fitted], name == "symmetric").crps(z[~fitted], 0.0, 1.0)
    shape = _standard(z, not _is_better(losses["asymmetric"], losses["symmetric"]))
    scores = {name: float(loss.mean()) for name, loss in losses.items()}
    return shape.to_dict() | {"scale": model, "scores": scores}


def miscalibration_curve(pit: ArrayLike, n_levels: int = 99) -> tuple[FloatArray, FloatArray]:
    """List the levels j / (n_levels + 1), j = 1 ... n_levels, and the observed share of PIT values (n,) up to each."""
    values = _vector(pit, "PIT values")
    if values.min() < 0 or values.max() > 1:
        raise InputError("PIT values lie between 0 and 1; give the predictive distribution function at the truth.")
    expected = np.arange(1, n_levels + 1) / (n_levels + 1)
    return expected, np.searchsorted(np.sort(values), expected, side="right") / len(values)


def calibration_error(pit: ArrayLike, n_levels: int = 99) -> float:
    """Mean absolute difference of expected and observed cumulative frequency over equally spaced levels.

    The levels are one-sided, F(truth) <= p, as in Kuleshov et al., arXiv:1807.00263, whose squared and weighted
    differences are here absolute and unweighted; by default over p = 0.01, 0.02, ..., 0.99.
    """
    expected, observed = miscalibration_curve(pit, n_levels)
    return float(np.mean(np.abs(expected - observed)))


def coverage(truth: ArrayLike, low: ArrayLike, high: ArrayLike) -> dict[str, float | int]:
    """Share of truths (n,) inside their intervals: ``n``, ``share`` and its 95 % Wilson interval ``low``, ``high``."""
    y, bottom, top = (_vector(v, what) for v, what in ((truth, "truths"), (low, "lower ends"), (high, "upper ends")))
    if not len(y) == len(bottom) == len(top):
        raise InputError(f"{len(y)} truths need as many intervals, got {len(bottom)} lower and {len(top)} upper ends.")
    share = float(np.mean((bottom <= y) & (y <= top)))
    interval = wilson(share, len(y))
    return {"n": len(y), "share": share, "low": interval[0], "high": interval[1]}


def error_by_spread(error: ArrayLike, std: ArrayLike, n_bins: int = 10) -> list[dict[str, float | int]]:
    """Predicted against observed errors in bins of (nearly) equal counts along the predicted standard deviation (n,).

    Per bin ``n``, ``low``, ``high``, ``std`` (root mean squared prediction) and ``rmse``, which should equal it: the
    reliability diagram of Levi et al., Sensors 22, 5540 (2022).
    """
    e, s = _rows(error, std)
    parts = np.array_split(np.lexsort((e, s)), min(n_bins, len(e)))
    means = [{k: float(np.sqrt(np.mean(v[rows] ** 2))) for k, v in (("std", s), ("rmse", e))} for rows in parts]
    ends = [{"n": len(rows), "low": float(s[rows[0]]), "high": float(s[rows[-1]])} for rows in parts]
    return [end | mean for end, mean in zip(ends, means, strict=True)]


def uncertainty_report(
    truth: ArrayLike, mean: ArrayLike, std: ArrayLike, calibrated: CalibratedUncertainty, *, n_bins: int = 10
) -> dict[str, Any]:
    """Quality of a calibrated uncertainty on rows (n,) that neither trained nor calibrated it.

    Returns
    -------
    dict
        JSON-able: ``n``; ``calibration_error``; ``expected`` and ``observed`` of `miscalibration_curve`; ``coverage``
        of the `REPORTED_INTERVALS` (level as text); ``sharpness`` (mean predicted standard deviation), ``rmse``,
        ``mae`` and ``crps`` (mean) in the unit of the prediction; ``error_by_spread``; ``spearman`` (rank correlation
        of |error| and std, None where either is constant). InputError for NaN, negative std or unequal lengths.
    """
    (y, s), (mu, _) = _rows(truth, std), _rows(mean, std)
    error, pit = mu - y, calibrated.cdf(y, mu, s)
    ordered = np.ptp(s) > 0 and np.ptp(np.abs(error)) > 0
    curve = zip(("expected", "observed"), miscalibration_curve(pit), strict=True)
    return {name: values.tolist() for name, values in curve} | {
        "n": len(y),
        "calibration_error": calibration_error(pit),
        "coverage": {f"{p:g}": coverage(y, *calibrated.interval(mu, s, p)) for p in REPORTED_INTERVALS},
        "sharpness": float(calibrated.deviation(s).mean()),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "crps": float(calibrated.crps(y, mu, s).mean()),
        "error_by_spread": error_by_spread(error, calibrated.deviation(s), n_bins),
        "spearman": float(scipy.stats.spearmanr(np.abs(error), s).statistic) if ordered else None,
    }


def fit_temperature(logits: ArrayLike, labels: ArrayLike) -> float:
    """Temperature T, 0.05 to 20, that makes labels (n,) most likely under softmax(logits (n, classes) / T).

    Guo et al., arXiv:1706.04599, section 4.2; the loss is convex in 1 / T. InputError for other shapes or labels.
    """
    x, y = np.asarray(logits, dtype=np.float64), np.asarray(labels)
    if x.ndim != 2 or y.shape != x.shape[:1] or len(y) < MIN_CALIBRATION_ROWS or not np.isfinite(x).all():
        raise InputError(f"A temperature needs finite logits (n, classes), n labels and n >= {MIN_CALIBRATION_ROWS}.")
    if not np.isin(y, np.arange(x.shape[1])).all():
        raise InputError(f"Labels must be whole numbers from 0 to {x.shape[1] - 1}: number the classes.")
    own, bounds = (np.arange(len(y)), y.astype(np.int64)), (1.0 / _TEMPERATURES[1], 1.0 / _TEMPERATURES[0])
    best = scipy.optimize.minimize_scalar(
        lambda b: -np.mean(scipy.special.log_softmax(b * x, axis=1)[own]), bounds=bounds, options={"xatol": 1e-8}
    )
    return float(1.0 / best.x)


def tempered(logits: ArrayLike, temperature: float) -> FloatArray:
    """Probabilities softmax(logits / temperature) over the last axis."""
    if not temperature > 0:
        raise InputError(f"A temperature must be above 0, not {temperature}: fit it again.")
    return np.asarray(scipy.special.softmax(np.asarray(logits, dtype=np.float64) / temperature, axis=-1))


def expected_calibration_error(probability: ArrayLike, outcome: ArrayLike, n_bins: int = 10) -> float:
    """Mean distance of the observed share from the mean stated probability over bins of (nearly) equal counts.

    ``probability`` (n,) is what was stated for what came true (``outcome`` 1) or not (0): one class, or the predicted
    class and its hit. Equal counts, not widths: Nixon et al., arXiv:1904.01685; bins weigh as their rows.
    """
    p, y = _vector(probability, "probabilities"), _vector(outcome, "outcomes")
    if p.shape != y.shape or p.min() < 0 or p.max() > 1 or not np.isin(y, (0, 1)).all():
        raise InputError("Calibration needs probabilities from 0 to 1 and as many outcomes, each 0 or 1.")
    parts = np.array_split(np.lexsort((y, p)), min(n_bins, len(p)))
    return float(sum(abs(y[rows].sum() - p[rows].sum()) for rows in parts) / len(p))


def _standard(residual: FloatArray, symmetric: bool) -> CalibratedUncertainty:
    """Distribution of standardised residuals (n,) at a scale of 1: quantiles at i / (n + 1), tails beyond few rows."""
    z = np.concatenate([residual, -residual]) if symmetric else residual
    quantiles, tails = np.quantile(z, LEVELS, method="weibull"), []
    share = min(0.25, max(0.05, 20 / len(z)))
    for sign, beyond in ((-1.0, LEVELS), (1.0, 1.0 - LEVELS)):
        start = float(np.quantile(sign * z, 1.0 - share, method="weibull"))
        scale, shape = _pareto(np.sort(sign * z[sign * z >= start] - start))
        few = beyond < 5 / (len(z) + 1)
        quantiles[few] = sign * (start + scale * scipy.special.boxcox(share / beyond[few], shape))
        tails.append((scale * (share / _END) ** shape, shape))
    quantiles = np.maximum.accumulate(quantiles)
    if symmetric:
        quantiles = (quantiles - quantiles[::-1]) / 2
    quantiles += 1e-9 * (np.arange(len(LEVELS)) - len(LEVELS) // 2)  # ties would leave the distribution no inverse
    rms, unit = float(np.sqrt(np.mean(residual**2))), {"method": "quadrature", "floor": 1.0, "gain": 0.0}
    low, high = tails
    return CalibratedUncertainty(unit, tuple(quantiles.tolist()), low, high, symmetric, rms, len(residual), {})


def _pareto(excess: FloatArray) -> tuple[float, float]:
    """Scale and shape, 0 to 0.5, from weighted moments: Hosking and Wallis, Technometrics 29, 339 (1987)."""
    n, mean, shape = len(excess), float(excess.mean()), 0.0
    if n >= 50:  # fewer rows tell a heavy tail from an exponential one by chance only
        light = mean - 2.0 * float(np.mean((n - np.arange(1, n + 1)) / (n - 1) * excess))
        shape = min(max(2.0 - mean / light, 0.0), 0.5) if light > 0 else 0.0
    return max(mean * (1.0 - shape), 1e-6), shape


def _scale(std: FloatArray, model: Mapping[str, Any]) -> FloatArray:
    if model["method"] == "quadrature":
        return np.asarray(np.hypot(model["floor"], model["gain"] * std))
    last = model["spread"][-1]
    return np.asarray(np.interp(std, model["spread"], model["value"]) + model["slope"] * np.maximum(std - last, 0.0))


def _fit_quadrature(size: FloatArray, std: FloatArray) -> dict[str, Any]:
    unit, level = float(np.median(std[std > 0])) if (std > 0).any() else 1.0, float(size.mean()) or 1.0
    x, y = std / unit, size / level

    def loss(logs: FloatArray) -> float:
        scale = np.hypot(np.exp(logs[0]), np.exp(logs[1]) * x)
        return float(np.mean(np.log(scale) + y / scale))

    starts, bounds = ((-0.1, -2.0), (-0.7, -0.7), (-2.0, -0.1)), ((-7.0, 3.0), (-12.0, 7.0))
    fits = [scipy.optimize.minimize(loss, x0=start, bounds=bounds, method="L-BFGS-B") for start in starts]
    floor, gain = np.exp(min(fits, key=lambda fit: float(fit.fun)).x)
    return {"method": "quadrature", "floor": float(floor * level), "gain": float(gain * level / unit)}


def _fit_isotonic(size: FloatArray, std: FloatArray) -> dict[str, Any]:
    """Isotonic regression of |error| over bins along ``std`` (ascending): it minimises the loss of the scale too."""
    parts = np.array_split(np.arange(len(std)), min(40, max(2, len(std) // 50)))
    spread, group = np.unique([np.median(std[rows]) for rows in parts], return_inverse=True)
    weights = np.bincount(group, [len(rows) for rows in parts])
    means = np.bincount(group, [size[rows].sum() for rows in parts]) / weights
    value = np.maximum(scipy.optimize.isotonic_regression(means, weights=weights).x, 1e-3 * (float(size.mean()) or 1.0))
    slope = (value[-1] - value[0]) / (spread[-1] - spread[0]) if len(spread) > 1 else 0.0
    return {"method": "isotonic", "spread": spread.tolist(), "value": value.tolist(), "slope": float(slope)}


def _is_better(losses: FloatArray, simpler: FloatArray) -> bool:
    gain = simpler - losses
    return bool(gain.mean() > gain.std(ddof=1) / np.sqrt(len(gain)))


def _vector(values: ArrayLike, what: str) -> FloatArray:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or len(array) == 0 or not np.isfinite(array).all():
        raise InputError(f"The {what} must be a finite vector with at least one row, got shape {array.shape}.")
    return array


def _spread(std: ArrayLike) -> FloatArray:
    array = np.asarray(std, dtype=np.float64)
    if not (np.isfinite(array) & (array >= 0)).all():
        raise InputError("Standard deviations must be finite and not negative: drop those rows first.")
    return array


def _rows(values: ArrayLike, std: ArrayLike) -> tuple[FloatArray, FloatArray]:
    array, spread = _vector(values, "errors, truths or means"), _spread(std)
    if array.shape != spread.shape:
        raise InputError(f"{len(array)} rows need as many standard deviations, got {spread.size}.")
    return array, spread
