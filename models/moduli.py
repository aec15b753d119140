"""Moduli from structures: ensembles of crystal-graph networks, boosted trees and kernel machines.

Members come from `models.moduli_members`, error bars from `models.moduli_calibration`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from models.crystal_graph import CrystalGraphs
from models.elasticity import instability_reason
from models.electrodeposition import moduli_reasons
from models.folds import grouped_folds
from models.moduli_calibration import calibrated_std, ensemble_spread, fit_calibration
from models.moduli_members import Members, train_members
from models.moduli_training import ModuliTraining, checked_targets

FloatArray = NDArray[np.float64]


@dataclass(frozen=True)
class ModuliPrediction:
    """Predicted moduli of n crystals.

    Attributes
    ----------
    log10_bulk, log10_shear : ndarray, shape (n,)
        Mean of all predictions, log10(GPa).
    log10_bulk_std, log10_shear_std : ndarray, shape (n,), or None
        Calibrated standard deviation, log10(GPa); None for a single prediction without a calibration.
    """

    log10_bulk: FloatArray
    log10_shear: FloatArray
    log10_bulk_std: FloatArray | None
    log10_shear_std: FloatArray | None

    def to_frame(self) -> pd.DataFrame:
        """Columns of the `moduli` table.

        Returns
        -------
        DataFrame
            bulk_modulus_vrh, shear_modulus_vrh [GPa], log10_bulk_modulus_std, log10_shear_modulus_std [log10(GPa)].
        """
        missing = np.full(len(self.log10_bulk), np.nan)
        return pd.DataFrame(
            {
                "bulk_modulus_vrh": 10**self.log10_bulk,
                "shear_modulus_vrh": 10**self.log10_shear,
                "log10_bulk_modulus_std": missing if self.log10_bulk_std is None else self.log10_bulk_std,
                "log10_shear_modulus_std": missing if self.log10_shear_std is None else self.log10_shear_std,
            }
        )


class ModuliPredictor(Members):
    """An ensemble that predicts K and G from crystal graphs.

    Parameters
    ----------
    architecture : mapping
        ``{"name": "cgcnn", "parameters": {...}}``.
    normalisation : mapping
        ``{"mean": [K, G], "std": [K, G]}`` of what the networks learn, log10(GPa A^5).
    members : sequence of mapping
        Arrays by name, one mapping per member: see `models.moduli_members.TrainedMembers`.
    calibration : mapping, optional
        From `fit_calibration`.
    threads : int, optional
        Torch's threads while predicting.

    Raises
    ------
    InputError
        No member, another architecture, or weights that do not fit it.
    """

    def __init__(
        self,
        architecture: Mapping[str, Any],
        normalisation: Mapping[str, Sequence[float]],
        members: Sequence[Mapping[str, NDArray[Any]]],
        calibration: Mapping[str, Any] | None = None,
        *,
        threads: int | None = None,
    ) -> None:
        super().__init__(architecture, normalisation, members, threads)
        self.calibration = calibration

    def predict(self, graphs: CrystalGraphs) -> ModuliPrediction:
        """Mean and calibrated standard deviation.

        Parameters
        ----------
        graphs : CrystalGraphs
            n crystals.

        Returns
        -------
        ModuliPrediction
            Row by row as the graphs, independent of what else is among them (to rounding in fp32).
        """
        members = self.predict_members(graphs)
        mean, spread = self.mean(members), ensemble_spread(members)
        std = spread if self.calibration is None else calibrated_std(spread, self.calibration, mean.shape)
        if std is None:
            return ModuliPrediction(mean[:, 0], mean[:, 1], None, None)
        return ModuliPrediction(mean[:, 0], mean[:, 1], std[:, 0], std[:, 1])


def training_rows(frame: pd.DataFrame, *, require_positive_definite: bool = True) -> list[str | None]:
    """Say for each row of an elastic table why a network should not learn from it.

    Parameters
    ----------
    frame : DataFrame
        bulk_modulus_vrh, shear_modulus_vrh [GPa] and, if the crystal's stability is to be asked for, elastic_tensor
        [GPa].
    require_positive_definite : bool
        Refuse crystals that the tensor shows to be mechanically unstable.

    Returns
    -------
    list of str or None
        None for a row to train on.
    """
    reasons = moduli_reasons(frame["bulk_modulus_vrh"], frame["shear_modulus_vrh"])
    if not require_positive_definite or "elastic_tensor" not in frame:
        return reasons
    return [reason or instability_reason(value) for reason, value in zip(reasons, frame["elastic_tensor"], strict=True)]


@dataclass(frozen=True)
class TrainedModuli:
    """An ensemble and what its model card needs.

    Attributes
    ----------
    architecture, normalisation : dict
        As `ModuliPredictor` takes them.
    members : list of dict
        Arrays by name.
    calibration : dict
        From `fit_calibration`.
    histories : list of list of dict
        Learning curve of each member.
    """

    architecture: dict[str, Any]
    normalisation: dict[str, list[float]]
    members: list[dict[str, NDArray[Any]]]
    calibration: dict[str, Any]
    histories: list[list[dict[str, Any]]]

    def predictor(self, threads: int | None = None) -> ModuliPredictor:
        """Build the predictor.

        Parameters
        ----------
        threads : int, optional
            Torch's threads while predicting.
        """
        return ModuliPredictor(self.architecture, self.normalisation, self.members, self.calibration, threads=threads)


def train_ensemble(
    graphs: CrystalGraphs,
    log10_bulk: ArrayLike,
    log10_shear: ArrayLike,
    formulas: Sequence[str],
    parameters: ModuliTraining | None = None,
    *,
    n_members: int = 3,
    calibration_folds: int = 10,
    on_member: Callable[[int], dict[str, Any]] | None = None,
) -> TrainedModuli:
    """Train members that differ by their seed and calibrate them on one held-out fold of formulas.

    Parameters
    ----------
    graphs : CrystalGraphs
        n crystals.
    log10_bulk, log10_shear : array_like, shape (n,)
        log10(GPa).
    formulas : sequence of str, length n
        Reduced formulas: no formula is both learned from and calibrated on.
    parameters : ModuliTraining, optional
        Settings; member m takes seed + m.
    n_members : int
        Members.
    calibration_folds : int
        One part in this many is held out for the calibration.
    on_member : callable, optional
        Called with the number of a member before it is trained; returns ``resume`` and ``on_epoch`` for `train_moduli`.

    Returns
    -------
    TrainedModuli
        Weights, calibration and learning curves.
    """
    settings = parameters or ModuliTraining()
    targets = checked_targets(graphs, log10_bulk, log10_shear)
    held_out = grouped_folds(formulas, calibration_folds, settings.seed) == 0
    learned = np.flatnonzero(~held_out)
    members = train_members(graphs.select(learned), targets[learned], settings, n_members, on_member)
    architecture, normalisation = settings.network().architecture(), members.normalisation
    raw = ModuliPredictor(architecture, normalisation, members.states, threads=settings.threads)
    predicted = raw.predict_members(graphs.select(np.flatnonzero(held_out)))
    calibration = fit_calibration(raw.mean(predicted), ensemble_spread(predicted), targets[held_out])
    return TrainedModuli(architecture, normalisation, members.states, calibration, members.histories)
