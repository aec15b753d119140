"""Numbers spread over Gaussians, as networks read them."""

from __future__ import annotations

from torch import Tensor

NOTHING = 1e-28
"""Values of Gaussians below it are 0: beside the others, of which one is near 1, they count for nothing in float32.

Processors multiply denormal numbers, which the farthest Gaussians would be, many times more slowly than others.
"""


def gaussians(exponents: Tensor) -> Tensor:
    """Compute exp of exponents that are not above 0.

    Parameters
    ----------
    exponents : Tensor, any shape
        Minus half the squares of the distances from the centres, in widths, or whatever the Gaussians are made of.

    Returns
    -------
    Tensor, same shape
        From 0 to 1, exactly 0 below `NOTHING`.
    """
    values = exponents.exp()
    return values.masked_fill_(values < NOTHING, 0.0)
