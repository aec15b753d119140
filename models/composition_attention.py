"""A composition network that looks at elements in pairs: attention over the elements of a compound.

ElemNet has to learn from one vector of 86 fractions which elements go together. Here a compound is a set of elements,
each with a learned and a tabulated description and its share; layers of attention let every element see the others, and
the energy per atom is the mean of the elements' contributions, weighted by their shares. The idea is that of Roost
(R. E. A. Goodall and A. A. Lee, Nat. Commun. 11, 6280 (2020)) and CrabNet (A. Y.-T. Wang et al., npj Comput. Mater. 7,
77 (2021)); what differs is that shares enter attention as an additive log-weight, that an element also knows its number
of atoms in the formula unit, and a size that trains on two cores.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from models.element_table import N_PROPERTIES, element_table
from models.elements import N_ELEMENTS
from models.errors import InputError
from models.gaussians import gaussians

N_SHARES = 41
"""Gaussians, 0.025 apart and wide, that the share of an element is spread over."""
MAX_UNIT = 60
"""Largest formula unit [atoms] that is told apart."""
MAX_ATOMS = 31
"""Largest number of atoms of one element in it that is told apart."""
SLOTS = (4, 12)
"""Elements per compound that inference makes room for; more rarely occur, and the last is the most there may be."""

_LEAST = 1e-4
"""Share below which logarithms stop to fall."""
_WHOLE = 2e-3
"""How far a number of atoms may be from a whole one, for shares in float32."""


class CompositionAttention(nn.Module):
    """Attention over the elements of a compound; its value does not depend on their order.

    Parameters
    ----------
    n_features
        Number of input columns: the 86 element fractions.
    width
        Numbers that describe an element.
    n_layers
        Layers of attention.
    n_heads
        Heads of each, a divisor of the width.
    expansion
        Width of a layer's hidden units, in widths.
    head_width
        Width of the units behind the last layer of attention.
    n_outputs
        Numbers per compound.
    dropout
        Share of the updates dropped in training.

    Raises
    ------
    InputError
        If a size is outside what it can be.
    """

    input_parts = ("element_embedding", "properties", "shares", "unit_embedding", "atoms_embedding", "mix")
    """What describes an element before any attention: one group of layers in a transfer."""

    def __init__(
        self,
        n_features: int = N_ELEMENTS,
        width: int = 128,
        n_layers: int = 3,
        n_heads: int = 4,
        expansion: int = 2,
        head_width: int = 256,
        n_outputs: int = 1,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if n_features != N_ELEMENTS:
            raise InputError(f"Attention reads the {N_ELEMENTS} element fractions, not {n_features} columns.")
        if min(width, n_layers, n_heads, expansion, head_width, n_outputs) < 1 or width % n_heads:
            raise InputError(f"Attention needs positive sizes and a width that {n_heads} heads divide, got {width}.")
        if not 0.0 <= dropout < 1.0:
            raise InputError(f"Attention's dropout is the share of updates dropped, 0 to below 1, got {dropout}.")
        self.n_outputs = n_outputs
        self.element_embedding = nn.Embedding(N_ELEMENTS, width)
        self.element_properties: Tensor
        self.register_buffer("element_properties", torch.zeros(N_ELEMENTS, N_PROPERTIES))
        self.properties = nn.Linear(N_PROPERTIES, width)
        self.shares = nn.Linear(N_SHARES + 2, width)
        self.unit_embedding = nn.Embedding(MAX_UNIT + 1, width)
        self.atoms_embedding = nn.Embedding(MAX_ATOMS + 1, width)
        self.mix = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.layers = nn.ModuleList(_Layer(width, n_heads, expansion, dropout) for _ in range(n_layers))
        self.norm = nn.LayerNorm(width)
        self.hidden = nn.ModuleList([nn.Linear(width, head_width), nn.Linear(head_width, head_width)])
        self.output = nn.Linear(head_width, n_outputs)
        nn.init.normal_(self.element_embedding.weight, std=0.5)
        nn.init.normal_(self.unit_embedding.weight, std=0.1)
        nn.init.normal_(self.atoms_embedding.weight, std=0.1)
        nn.init.normal_(self.output.weight, std=0.02)
        nn.init.zeros_(self.output.bias)

    def fit_inputs(self, fractions: Tensor) -> None:
        """Take in the tabulated properties of the elements, which the weights carry from then on."""
        self.element_properties.copy_(torch.from_numpy(element_table()))

    @property
    def n_weights(self) -> int:
        """Number of trained numbers, biases included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def forward(self, fractions: Tensor) -> Tensor:
        """Element fractions (n, 86), dimensionless -> outputs (n, n_outputs) in units of the targets.

        In training, compounds of as many elements are computed together. In evaluation all rows have the same number
        of slots, so that a row's last bits cannot depend on what other rows contain.

        Raises
        ------
        InputError
            If a compound has no element, or more than the last of `SLOTS`.
        """
        n_elements = (fractions > 0).sum(dim=1)
        most = int(n_elements.max()) if len(fractions) else 1
        if most > SLOTS[-1] or (len(fractions) and int(n_elements.min()) < 1 and self.training):
            raise InputError(f"Attention takes compounds of 1 to {SLOTS[-1]} elements, one has {most}.")
        if self.training:
            return self._by_number(fractions, n_elements)
        output = self._slots(fractions, SLOTS[0])
        for row in torch.nonzero(n_elements > SLOTS[0])[:, 0].tolist():
            # few, and one by one, since how many of them a batch has is a matter of its other rows
            output[row] = self._slots(fractions[row : row + 1], SLOTS[1])[0]
        return output

    def _by_number(self, fractions: Tensor, n_elements: Tensor) -> Tensor:
        order = torch.argsort(n_elements, stable=True)
        outputs = []
        for number, rows in _runs(n_elements[order]):
            outputs.append(self._slots(fractions[order[rows]], number))
        return torch.cat(outputs)[torch.argsort(order)]

    def _slots(self, fractions: Tensor, slots: int) -> Tensor:
        """Return the outputs of compounds, each in so many slots; those that stay empty have no weight anywhere."""
        shares, elements = fractions.topk(slots, dim=1)
        log_shares = shares.clamp(min=_LEAST).log()
        empty = torch.zeros_like(shares).masked_fill(shares == 0, -math.inf)  # no attention to an empty slot
        with torch.autocast(fractions.device.type, enabled=False):
            inputs = self.shares(spread_shares(shares)) + self.properties(self.element_properties)[elements]
        unit, atoms = formula_units(shares)
        hidden = self.element_embedding(elements) + inputs
        hidden = hidden + self.unit_embedding(unit)[:, None] + self.atoms_embedding(atoms)
        hidden = hidden + self.mix(hidden)
        for layer in self.layers:
            hidden = layer(hidden, log_shares, empty)
        hidden = nn.functional.silu(self.hidden[0](self.norm(hidden)))
        hidden = hidden + nn.functional.silu(self.hidden[1](hidden))
        with torch.autocast(fractions.device.type, enabled=False):
            contributions: Tensor = self.output(hidden.to(shares.dtype))
            return (contributions * shares[:, :, None]).sum(dim=1)


class _Layer(nn.Module):
    """Attention and hidden units, each added to what came in (normalised first, so that the sum stays in range)."""

    def __init__(self, width: int, n_heads: int, expansion: int, dropout: float) -> None:
        super().__init__()
        self.n_heads = n_heads
        self.attention_norm = nn.LayerNorm(width)
        self.attention = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.share_power = nn.Parameter(torch.ones(n_heads))
        self.hidden_norm = nn.LayerNorm(width)
        self.hidden = nn.Linear(width, expansion * width)
        self.projected = nn.Linear(expansion * width, width)
        self.dropout = nn.Dropout(dropout)
        for layer in (self.attended, self.projected):  # a layer starts as the identity
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor, log_shares: Tensor, empty: Tensor) -> Tensor:
        """Descriptions (n, slots, width), log-shares and what empty slots add to a score (n, slots) -> descriptions.

        An element is attended to in proportion to its share to a learned power, which attention without the weights
        would not know.
        """
        n, slots, width = x.shape
        size = width // self.n_heads
        query, key, value = self.attention(self.attention_norm(x)).view(n, slots, 3, self.n_heads, size).unbind(2)
        # sums over at most a dozen elements: as products of vectors they are faster than as thousands of small matrices
        scores = (query[:, :, None] * key[:, None]).sum(dim=-1) / math.sqrt(size)
        weighted = log_shares[..., None] * self.share_power + empty[..., None]
        weights = (scores.to(weighted.dtype) + weighted[:, None]).softmax(dim=2)
        attended = (weights[..., None].to(value.dtype) * value[:, None]).sum(dim=2).reshape(n, slots, width)
        x = x + self.dropout(self.attended(attended))
        hidden = nn.functional.silu(self.hidden(self.hidden_norm(x)))
        updated: Tensor = x + self.dropout(self.projected(hidden))
        return updated


def spread_shares(shares: Tensor) -> Tensor:
    """Spread shares (n, slots) over `N_SHARES` Gaussians, beside their value and logarithm: (n, slots, N_SHARES + 2).

    An energy depends on a share sharply, near the compositions that prototypes have, and smoothly in between.
    """
    centres = torch.linspace(0.0, 1.0, N_SHARES, dtype=shares.dtype, device=shares.device)
    width = 1.0 / (N_SHARES - 1)
    bumps = gaussians(-0.5 * ((shares[..., None] - centres) / width) ** 2)
    return torch.cat([bumps, shares[..., None], 0.3 * shares.clamp(min=_LEAST).log()[..., None]], dim=-1)


def formula_units(shares: Tensor) -> tuple[Tensor, Tensor]:
    """Return the atoms of the smallest formula unit (n,) and of each element in it (n, slots).

    The unit is 0 where no number of atoms up to `MAX_UNIT` makes all counts whole; then all counts are 0 too.
    """
    units = torch.arange(1, MAX_UNIT + 1, dtype=shares.dtype, device=shares.device)
    counts = shares[:, :, None] * units
    whole = ((counts - counts.round()).abs() < _WHOLE).all(dim=1)
    unit = torch.where(whole.any(dim=1), whole.int().argmax(dim=1) + 1, 0)
    atoms = (shares * unit[:, None]).round().long().clamp(max=MAX_ATOMS)
    return unit, atoms


def _runs(numbers: Tensor) -> list[tuple[int, slice]]:
    """Return the runs of equal values in ascending numbers (n,), as value and slice."""
    values, lengths = numbers.unique_consecutive(return_counts=True)
    ends = lengths.cumsum(0)
    return [
        (value, slice(end - length, end))
        for value, length, end in zip(values.tolist(), lengths.tolist(), ends.tolist(), strict=True)
    ]
