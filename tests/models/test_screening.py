"""The screening kernel against a loop over pymatgen and the bare network, and against itself cut in pieces."""

from __future__ import annotations

import dataclasses
import itertools
from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition, Element

from models.elements import ELEMENT_INDEX
from models.elemnet import ElemNet
from models.errors import InputError
from models.features import element_fractions
from models.hull import PhaseHull
from models.predictor import Predictor
from models.screening import ScreenBlock, composition_fractions, merge_blocks, screen_range
from models.space import CompositionSpace

ELEMENTS = ("Li", "O", "Fe", "F")
SPACE = CompositionSpace(ELEMENTS, (2, 3), 6)
PHASES = {
    "Li2O": -2.0,
    "FeO": -1.4,
    "Fe2O3": -1.7,
    "LiF": -3.1,
    "FeF2": -2.3,
    "FeF3": -2.5,
    "LiFeO2": -1.9,
    "Li5FeO4": -1.6,  # outside of the space: ten atoms
    "Fe3O": 0.3,  # known, not stable
    "Li3F": -0.2,  # known, not stable
}
ARCHITECTURE = {"name": "elemnet", "parameters": {"widths": [48, 16, 1]}}


@cache
def network(seed: int) -> ElemNet:
    torch.manual_seed(seed)
    return ElemNet(widths=(48, 16, 1)).eval()


@cache
def predictor(n_members: int = 1) -> Predictor:
    members = [{k: v.numpy() for k, v in network(seed).state_dict().items()} for seed in range(n_members)]
    return Predictor(ARCHITECTURE, {"mean": [-1.2], "std": [0.8]}, members, batch_size=32)


@cache
def hull() -> PhaseHull:
    fractions = composition_fractions(*arrays(list(PHASES)))
    return PhaseHull(fractions, np.array(list(PHASES.values())))


def arrays(formulas: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Element columns and counts by pymatgen."""
    elements = np.full((len(formulas), 4), -1)
    counts = np.zeros((len(formulas), 4), dtype=int)
    for row, formula in enumerate(formulas):
        amounts = sorted((ELEMENT_INDEX[e.symbol], int(n)) for e, n in Composition(formula).items())
        elements[row, : len(amounts)] = [e for e, _ in amounts]
        counts[row, : len(amounts)] = [n for _, n in amounts]
    return elements, counts


def diagram(without: str | None = None) -> PhaseDiagram:
    compounds = [PDEntry(Composition(f), e * Composition(f).num_atoms) for f, e in PHASES.items() if f != without]
    return PhaseDiagram([*compounds, *(PDEntry(Composition(e), 0.0) for e in ELEMENTS)])


def columns(block: ScreenBlock) -> dict[str, bytes | None]:
    values = {f.name: getattr(block, f.name) for f in dataclasses.fields(block)}
    return {k: v.tobytes() if isinstance(v, np.ndarray) else repr(v).encode() for k, v in values.items()}


@cache
def whole(n_members: int = 1) -> ScreenBlock:
    return screen_range(0, len(SPACE), SPACE, predictor(n_members), hull(), 0.1)


def test_agrees_with_a_loop_over_pymatgen_and_the_bare_network() -> None:
    full = diagram()
    phases = {Composition(f).reduced_formula: f for f in PHASES}
    found = {}
    for k in SPACE.arities:
        for system in itertools.combinations(ELEMENTS, k):
            for counts in itertools.product(range(1, 7), repeat=k):
                if sum(counts) > 6 or np.gcd.reduce(counts) != 1:
                    continue
                composition = Composition(dict(zip(system, counts, strict=True)))
                x = torch.zeros(1, 86)
                for element, n in composition.items():
                    assert isinstance(element, Element)
                    x[0, ELEMENT_INDEX[element.symbol]] = n / sum(counts)
                with torch.no_grad():
                    energy = network(0)(x).item() * 0.8 - 1.2
                on_hull = full.get_hull_energy_per_atom(composition)
                own = phases.get(composition.reduced_formula)
                others = diagram(own).get_hull_energy_per_atom(composition) if own else on_hull
                if energy - others <= 0.1:
                    found[composition.reduced_formula] = (energy, on_hull, energy - others, own is not None)
    block = whole()
    formulas = SPACE.formulas(block.compositions)
    assert len(found) > 5
    assert sorted(formulas) == sorted(found)
    expected = np.array([found[f] for f in formulas], dtype=float)
    assert block.prediction == pytest.approx(expected[:, 0], abs=1e-5)
    assert block.hull_energy == pytest.approx(expected[:, 1], abs=1e-9)
    assert block.decomposition_energy == pytest.approx(expected[:, 2], abs=1e-5)
    assert block.known.tolist() == expected[:, 3].astype(bool).tolist()
    assert block.energy_above_hull == pytest.approx(expected[:, 0] - expected[:, 1], abs=1e-5)


def test_counts_by_arity() -> None:
    block = whole()
    assert block.n_screened == {2: SPACE.count(2), 3: SPACE.count(3)}
    assert sum(block.n_below.values()) == len(block)
    arity = (block.elements >= 0).sum(axis=1)
    assert block.n_below == {k: int((arity == k).sum()) for k in (2, 3)}


def test_a_known_stable_phase_competes_with_the_others_only() -> None:
    # A network that says -2.2 everywhere: Li2O (-2.0 known) is below the hull of all by 0.2, of the others by 2.2.
    constant = {k: np.zeros_like(v) for k, v in network(0).state_dict().items()}
    flat = Predictor(ARCHITECTURE, {"mean": [-2.2], "std": [1.0]}, [constant], batch_size=32)
    block = screen_range(0, len(SPACE), SPACE, flat, hull(), -1.0)
    row = SPACE.formulas(block.compositions).index("Li2O")
    assert block.hull_energy[row] == pytest.approx(-2.0)
    assert block.decomposition_energy[row] == pytest.approx(-2.2)
    assert block.known[row]


@settings(max_examples=25, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(SPACE)), max_size=5),
    batch=st.sampled_from([1, 7, 32, 50, 1000]),
    n_members=st.sampled_from([1, 2]),
)
def test_any_partition_gives_the_same_bytes(cuts: list[int], batch: int, n_members: int) -> None:
    bounds = [0, *sorted(cuts), len(SPACE)]
    blocks = [
        screen_range(a, b, SPACE, predictor(n_members), hull(), 0.1, batch=batch) for a, b in itertools.pairwise(bounds)
    ]
    assert columns(merge_blocks(blocks)) == columns(whole(n_members))


def test_ensemble_carries_its_spread() -> None:
    assert whole(1).prediction_std is None
    std = whole(2).prediction_std
    assert std is not None
    assert std.shape == (len(whole(2)),)
    assert np.all(std >= 0)


def test_columns_have_their_types() -> None:
    for block in (whole(2), screen_range(5, 5, SPACE, predictor(2), hull(), 0.1)):
        assert block.index.dtype == np.int64
        assert block.elements.dtype == np.int16
        assert block.counts.dtype == np.int8
        assert block.prediction.dtype == np.float32
        assert block.prediction_std is not None
        assert block.prediction_std.dtype == np.float32
        assert block.hull_energy.dtype == block.decomposition_energy.dtype == np.float64
        assert block.known.dtype == np.bool_
    assert np.all(np.diff(whole().index) > 0)


def test_progress_and_interruption() -> None:
    seen: list[tuple[int, int]] = []
    screen_range(3, 60, SPACE, predictor(), hull(), 0.1, batch=20, on_progress=lambda done, n: seen.append((done, n)))
    assert seen == [(20, 57), (40, 57), (57, 57)]

    class Stop(Exception):
        pass

    def stop(done: int, n: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        screen_range(0, 60, SPACE, predictor(), hull(), 0.1, batch=20, on_progress=stop)


def test_fractions_from_counts_are_the_formulas_features() -> None:
    formulas = ["Li2O", "LiFeO2", "Fe2O3", "Li5FeO4"]
    fractions = composition_fractions(*arrays(formulas))
    assert fractions[0, ELEMENT_INDEX["Li"]] == pytest.approx(2 / 3)
    assert fractions.sum(axis=1) == pytest.approx(np.ones(4))
    assert np.array_equal(fractions.astype(np.float32), element_fractions(formulas))
    compositions = SPACE.unrank(np.arange(len(SPACE)))
    exact = composition_fractions(compositions.elements, compositions.counts)
    assert np.array_equal(exact.astype(np.float32), SPACE.fractions(compositions))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"start": -1}, "outside the composition space"),
        ({"stop": len(SPACE) + 1}, "outside the composition space"),
        ({"start": 9, "stop": 8}, "outside the composition space"),
        ({"threshold": float("nan")}, "threshold"),
        ({"batch": 0}, "batch"),
    ],
)
def test_unusable_requests_are_refused(arguments: dict[str, float], message: str) -> None:
    given_ = {"start": 0, "stop": 10, "threshold": 0.0, **arguments}
    with pytest.raises(InputError, match=message):
        screen_range(space=SPACE, predictor=predictor(), hull=hull(), **given_)  # type: ignore[arg-type]


def test_nothing_to_merge_is_refused() -> None:
    with pytest.raises(InputError, match="at least one range"):
        merge_blocks([])
