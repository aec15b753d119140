"""Losses of the trainer: outputs of a network and labels -> one number to make small, and the absolute error beside it.

Regression losses work on normalised targets; a label that is NaN is left out, so that rows may lack some of several
properties. The robust losses take a second half of outputs, the logarithms of the predicted scales, and learn from the
rows how uncertain each of them is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn import functional

from models.errors import InputError

Loss = Literal["mae", "mse", "robust_l1", "robust_l2", "cross_entropy"]
LOSSES: Final[tuple[str, ...]] = ("mae", "mse", "robust_l1", "robust_l2", "cross_entropy")
ROBUST: Final[tuple[str, ...]] = ("robust_l1", "robust_l2")
"""Losses of networks that predict their own uncertainty: twice as many outputs as targets."""

MAX_LOG_SCALE: Final = 7.0
"""Bound of the predicted logarithm of a scale: a factor of 1,100 either way, in units of the target's spread.

Without it a network that is sure of a wrong label overflows in one step.
"""


def outputs_per_target(loss: str) -> int:
    """Return how many outputs a network needs per target: two where it predicts its uncertainty too."""
    return 2 if loss in ROBUST else 1


def split_outputs(output: Tensor, n_targets: int) -> tuple[Tensor, Tensor | None]:
    """Return means (n, k) and logarithms of standard deviations (n, k), None for the latter where there are none.

    Raises
    ------
    InputError
        If there is neither one output per target nor two.
    """
    if output.shape[1] == n_targets:
        return output, None
    if output.shape[1] != 2 * n_targets:  # would be broadcast to something that can be trained
        raise InputError(
            f"A network of {output.shape[1]} outputs does not fit {n_targets} target{'s' if n_targets > 1 else ''}: "
            "give it one output per target, or two for losses that learn an uncertainty."
        )
    return output[:, :n_targets], output[:, n_targets:].clamp(-MAX_LOG_SCALE, MAX_LOG_SCALE)


@dataclass(frozen=True)
class Evaluated:
    """A loss on a batch.

    Attributes
    ----------
    loss
        Mean over the labels, to be differentiated.
    error
        Mean absolute error in units of the normalisation; for classes the share of wrong ones. Without gradient.
    n_labels
        Labels that counted.
    """

    loss: Tensor
    error: Tensor
    n_labels: Tensor


def evaluate(
    loss: str, output: Tensor, target: Tensor, class_weights: Tensor | None = None, *, complete: bool = False
) -> Evaluated:
    """Evaluate a loss.

    Parameters
    ----------
    loss
        One of `LOSSES`.
    output
        What the network put out, (n, outputs).
    target
        Normalised targets (n, k) with NaN for labels that are missing; for ``cross_entropy`` class numbers (n,).
    class_weights
        Weight of each class (c,), for ``cross_entropy``.
    complete
        Whether no label is known to be missing: then nothing depends on values, which a device would have to be waited
        for.

    Raises
    ------
    InputError
        If the number of outputs fits neither the targets nor the loss.

    Notes
    -----
    ``robust_l1`` is the negative logarithm of a Laplace density, sqrt(2) abs(y - m) exp(-s) + s, and ``robust_l2``
    that of a normal density, (y - m)^2 exp(-2 s) / 2 + s, with s the logarithm of the standard deviation, both but for
    a constant (A. Kendall and Y. Gal, arXiv:1703.04977, eq. 5 and 8).
    """
    if loss == "cross_entropy":
        value = functional.cross_entropy(output.float(), target, weight=class_weights)
        wrong = (output.detach().argmax(dim=1) != target).double().mean()
        return Evaluated(value, wrong, torch.tensor(len(target)))
    mean, log_scale = split_outputs(output.float(), target.shape[1])
    error = mean - target
    if not complete and not bool((present := torch.isfinite(target)).all()):
        error, log_scale = error[present], None if log_scale is None else log_scale[present]
    absolute = error.abs()
    if loss == "mae":
        value = absolute.mean()
    elif loss == "mse":
        value = error.square().mean()
    elif log_scale is None:
        raise InputError(f"The loss {loss} needs a network with two outputs per target: this one has one of each.")
    elif loss == "robust_l1":
        value = (math.sqrt(2.0) * absolute * (-log_scale).exp() + log_scale).mean()
    else:
        value = (0.5 * error.square() * (-2.0 * log_scale).exp() + log_scale).mean()
    return Evaluated(value, absolute.detach().mean().double(), torch.tensor(error.numel()))
