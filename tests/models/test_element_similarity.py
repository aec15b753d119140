"""Likeness of elements: exact on small vectors, and groups that a permutation cannot make by chance."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from models.element_similarity import (
    ACTINIDE,
    LANTHANIDE,
    MEASURES,
    Measure,
    element_groups,
    element_vectors,
    group_agreement,
    neighbours,
    similarity_matrix,
)
from models.elements import ELEMENT_INDEX, ELEMENTS
from models.errors import InputError


def linear(width: int = 3) -> tuple[nn.Sequential, np.ndarray]:
    """A network of one layer: an element's activations are its column of the weights."""
    layer = nn.Linear(86, width, bias=False)
    weights = np.random.default_rng(4).integers(-8, 9, size=(width, 86)).astype(np.float32)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(weights))
    return nn.Sequential(layer), weights


def test_groups_of_the_periodic_table() -> None:
    groups = dict(zip(ELEMENTS, element_groups(), strict=True))
    assert [groups[s] for s in ("H", "Na", "Mg", "Ti", "Y", "Hf", "Zn", "Al", "C", "Bi", "O", "I", "Xe")] == [
        "1", "1", "2", "4", "3", "4", "12", "13", "14", "15", "16", "17", "18",
    ]  # fmt: skip
    assert {groups[s] for s in ("La", "Lu", "Eu")} == {LANTHANIDE}
    assert {groups[s] for s in ("Ac", "Th", "Pu")} == {ACTINIDE}
    assert Counter(groups.values())[LANTHANIDE] == 15
    # He, Ne, Ar, Po, At, Rn, Fr and Ra are not among the 86
    assert Counter(groups.values())["1"] == 6
    assert Counter(groups.values())["18"] == 2


def test_vectors_of_elements_and_of_their_compounds() -> None:
    network, weights = linear()
    alone = element_vectors(network, ["0"])["0"]
    assert alone.tolist() == weights.T.tolist()
    mean = element_vectors(network, ["0"], ("Cl", "O"))["0"]
    oxygen, chlorine, sodium = (weights[:, ELEMENT_INDEX[s]] for s in ("O", "Cl", "Na"))
    assert mean[ELEMENT_INDEX["Na"]].tolist() == (0.5 * sodium + 0.25 * (oxygen + chlorine)).tolist()
    # a partner makes no compound with itself
    assert mean[ELEMENT_INDEX["Cl"]].tolist() == (0.5 * (chlorine + oxygen)).tolist()
    assert element_vectors(network, ["0"], ("O", "Cl", "O"))["0"].tolist() == mean.tolist()


@pytest.mark.parametrize(("partners", "words"), [(("Xx", "O"), "Xx is outside"), (("O", "O"), "two partners")])
def test_impossible_partners(partners: tuple[str, ...], words: str) -> None:
    with pytest.raises(InputError, match=words):
        element_vectors(linear()[0], ["0"], partners)


def test_similarities_by_hand() -> None:
    vectors = np.array([[3.0, 0.0], [1.0, 1.0], [-2.0, 0.0], [0.0, 0.0]])
    cosine = similarity_matrix(vectors, "cosine")
    assert cosine[0, 1] == pytest.approx(math.sqrt(0.5))
    assert cosine[0, 2] == -1.0
    assert np.isnan(cosine[3]).all()
    assert np.isnan(cosine[:, 3]).all()
    # mean of the rows: (0.5, 0.25)
    centred = similarity_matrix(vectors, "centred")
    a, b = np.array([2.5, -0.25]), np.array([0.5, 0.75])
    assert centred[0, 1] == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))
    assert centred[3, 3] == 1.0


@given(st.integers(2, 8), st.integers(2, 6), st.integers(0, 99), st.sampled_from(MEASURES))
def test_what_holds_for_every_similarity(n: int, width: int, seed: int, measure: Measure) -> None:
    vectors = np.random.default_rng(seed).normal(size=(n, width))
    matrix = similarity_matrix(vectors, measure)
    assert (matrix == matrix.T).all()
    assert np.diag(matrix).tolist() == [1.0] * n
    assert (np.abs(matrix) <= 1.0).all()
    assert similarity_matrix(7.0 * vectors, measure) == pytest.approx(matrix, abs=1e-9)
    order = np.random.default_rng(seed).permutation(n)
    assert similarity_matrix(vectors[order], measure) == pytest.approx(matrix[np.ix_(order, order)], abs=1e-9)
    if measure == "correlation":
        assert matrix == pytest.approx(np.corrcoef(vectors), abs=1e-9)
    if measure == "centred":
        assert similarity_matrix(vectors + 3.0, measure) == pytest.approx(matrix, abs=1e-9)


@pytest.mark.parametrize("measure", ["correlation", "centred"])
def test_what_equals_the_mean_has_no_direction(measure: Measure) -> None:
    # 0.1 + 0.2 and the like: means of equal numbers are off by rounding
    vectors = np.full((3, 3), 0.1 + 0.2) if measure == "correlation" else np.array([[0.1, 0.7]] * 3)
    assert np.isnan(similarity_matrix(vectors, measure)).all()


def test_unknown_measures_and_bad_tables() -> None:
    with pytest.raises(InputError, match="take one of centred, correlation, cosine"):
        similarity_matrix(np.eye(2), "euclid")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="finite table"):
        similarity_matrix(np.full((2, 2), np.nan))


def test_neighbours_are_sorted_and_never_oneself() -> None:
    matrix = np.full((86, 86), -0.5)
    sodium = ELEMENT_INDEX["Na"]
    matrix[sodium, sodium] = 1.0
    for symbol, value in (("K", 0.9), ("Li", 0.8), ("Rb", 0.9), ("Xe", np.nan)):
        matrix[sodium, ELEMENT_INDEX[symbol]] = value
    assert neighbours(matrix, "Na", 3) == [("K", 0.9), ("Rb", 0.9), ("Li", 0.8)]
    everyone = neighbours(matrix, "Na", 100)
    assert len(everyone) == 84
    assert not {"Na", "Xe"} & {symbol for symbol, _ in everyone}
    with pytest.raises(InputError, match="Xx is outside"):
        neighbours(matrix, "Xx")
    with pytest.raises(InputError, match="all 86"):
        neighbours(matrix[:5, :5], "Na")


def pairs(values: dict[tuple[int, int], float], n: int) -> np.ndarray:
    matrix = np.eye(n)
    for (a, b), value in values.items():
        matrix[a, b] = matrix[b, a] = value
    return matrix


def test_agreement_by_hand() -> None:
    matrix = pairs({(0, 1): 0.9, (2, 3): 0.5, (0, 2): 0.1, (0, 3): 0.2, (1, 2): 0.3, (1, 3): 0.6}, 4)
    found = group_agreement(matrix, ["a", "a", "b", "b"], n_permutations=5000, seed=1)
    assert found.within == pytest.approx(0.7)
    assert found.between == pytest.approx(0.3)
    assert found.difference == pytest.approx(0.4)
    assert (found.n_within, found.n_between) == (2, 4)
    # four rows fall into two pairs in three ways, of which the observed one is the best
    assert found.p_value == pytest.approx(1 / 3, abs=0.02)
    # row 3 has its nearest in row 1
    assert found.nearest == 0.75
    assert found.nearest_by_chance == pytest.approx(1 / 3)


def test_rows_and_pairs_that_take_no_part() -> None:
    matrix = pairs({(0, 1): 0.9, (0, 2): 0.1, (1, 2): np.nan, (0, 3): 0.9, (1, 3): 0.9, (2, 3): 0.9}, 4)
    found = group_agreement(matrix, ["a", "a", "b", ""], n_permutations=9)
    assert (found.n_within, found.n_between) == (1, 1)
    assert found.between == pytest.approx(0.1)
    assert found.nearest == 1.0


def test_true_clusters_are_beyond_chance_and_noise_is_not() -> None:
    rng = np.random.default_rng(0)
    groups = [f"{i // 5}" for i in range(20)]
    centres = rng.normal(size=(4, 12))
    clusters = np.repeat(centres, 5, axis=0) + 0.2 * rng.normal(size=(20, 12))
    found = group_agreement(similarity_matrix(clusters), groups, n_permutations=199)
    assert found.p_value == 1 / 200
    assert found.nearest == 1.0
    again = group_agreement(similarity_matrix(clusters), groups, n_permutations=199)
    assert again == found
    noise = [
        group_agreement(similarity_matrix(rng.normal(size=(20, 12))), groups, n_permutations=99).p_value
        for _ in range(40)
    ]
    # of 40 uniform draws between 8 and 32 lie below one half, but for one case in ten thousand
    assert 8 <= sum(p < 0.5 for p in noise) <= 32


@pytest.mark.parametrize("groups", [["a", "a"], ["a", "b"], ["", ""], ["a"]])
def test_nothing_to_compare_is_refused(groups: list[str]) -> None:
    with pytest.raises(InputError, match=r"give (other groups|one per row)"):
        group_agreement(np.eye(2), groups)
