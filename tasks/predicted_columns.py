"""Columns of predictions: what a model of any kind says of formulas, with calibrated uncertainties."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.architectures import n_outputs
from models.errors import InputError
from models.formula import ParsedFormulas
from models.representation import FROM_FORMULA, represent
from models.uncertainty import CalibratedUncertainty, tempered
from storage.artifact import ArtifactRef
from storage.model_files import ModelCard
from tasks.applicability import applicability_columns
from tasks.loading import load_card, load_ensemble, load_predictor

LEVEL = 0.95
"""Share of truths that the interval of a prediction is to hold."""


def predicted_columns(
    model: ArtifactRef, parsed: ParsedFormulas, structural: NDArray[np.floating] | None = None
) -> dict[str, NDArray[np.float64]]:
    """Return the columns that a model adds to n formulas, all of which can be read.

    Parameters
    ----------
    model
        The model.
    parsed
        Formulas.
    structural
        Structural attributes (n, 126), for a model that reads them.

    Returns
    -------
    dict
        For one number ``prediction`` and ``prediction_std`` in its unit: where the model was calibrated, the root mean
        squared error that is to be expected, with ``prediction_low`` and ``prediction_high`` of the `LEVEL` interval;
        else the members' standard deviation, NaN for one network. For classes ``probability`` of class 1, where the
        model was calibrated at its temperature. For several targets ``prediction_NAME`` of each. Of a model that
        learnt logarithms the numbers themselves, with ``prediction_log10_std`` instead of ``prediction_std``; errors
        stay those of the logarithm. Always ``applicability``, from 0 (an element that was never seen) to 1: how well
        the training rows support the composition; NaN where the store no longer has them. Where it has, and the model
        was calibrated, ``expected_error``: the mean absolute error of such rows.

    Raises
    ------
    InputError
        If the model reads something that a formula does not tell, and was not given.
    """
    if structural is None:
        require_formulas(model)
    card = load_card(model)
    return _predictions(model, card, parsed, structural) | applicability_columns(model, parsed)


def require_formulas(model: ArtifactRef) -> None:
    """Raise an InputError for a model that reads something that a formula does not tell."""
    features = load_card(model).features
    if features not in FROM_FORMULA:
        raise InputError(
            f"the model {model.key} predicts from {features}, not from a formula; give a composition network"
        )


def _predictions(
    model: ArtifactRef, card: ModelCard, parsed: ParsedFormulas, structural: NDArray[np.floating] | None
) -> dict[str, NDArray[np.float64]]:
    if len(card.targets) == 1 and card.targets[0].transform != "class":
        columns = _one_number(model, card, parsed, structural)
        return columns if card.targets[0].transform == "none" else _powers(columns)
    said = load_ensemble(model).predict(represent(parsed.reduced, card.features, structural))
    if card.targets[0].transform == "class":
        temperature = (card.calibration or {}).get("temperature", 1.0)
        return {"probability": tempered(said.log_probabilities, temperature)[:, 1]}
    powers = [target.transform == "log10" for target in card.targets]
    means = [10 ** said.mean[:, k] if power else said.mean[:, k] for k, power in enumerate(powers)]
    return {f"prediction_{target.name}": mean for target, mean in zip(card.targets, means, strict=True)}


def _powers(columns: dict[str, NDArray[np.float64]]) -> dict[str, NDArray[np.float64]]:
    """Return the numbers that logarithms were learnt of; a standard deviation stays one of the logarithm."""
    return {
        "prediction_log10_std" if name == "prediction_std" else name: values if name == "prediction_std" else 10**values
        for name, values in columns.items()
    }


def _one_number(
    model: ArtifactRef, card: ModelCard, parsed: ParsedFormulas, structural: NDArray[np.floating] | None
) -> dict[str, NDArray[np.float64]]:
    std: NDArray[Any] | None
    plain = card.features == "element_fraction" and card.monte_carlo is None
    plain = plain and card.targets[0].transform == "none"
    if plain and n_outputs(card.architecture.model_dump()) == 1:
        mean, std = load_predictor(model).predict(parsed.fractions.astype(np.float32))  # the bits of a screen
    else:
        said = load_ensemble(model).predict(represent(parsed.reduced, card.features, structural))
        mean, std = said.mean[:, 0].astype(np.float32), None if said.std is None else said.std[:, 0]
    columns = {"prediction": mean.astype(np.float64)}
    fitted = (card.calibration or {}).get("uncertainty")
    if fitted is None:
        columns["prediction_std"] = np.full(len(mean), np.nan) if std is None else std.astype(np.float64)
        return columns
    calibrated, raw = CalibratedUncertainty.from_dict(fitted), np.ones(len(mean)) if std is None else std
    columns["prediction_std"] = calibrated.deviation(raw)
    columns["prediction_low"], columns["prediction_high"] = calibrated.interval(columns["prediction"], raw, LEVEL)
    return columns
