"""Rankings of compositions: moduli from formulas, v from ranked compounds, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from models.composition_chi import MIN_KNOWN, composition_chi, known_ratios
from models.errors import InputError
from models.formula import parse_many
from models.stability_sampling import SamplingParameters
from storage.artifact import ArtifactRef
from storage.store import ArtifactStore
from tasks.examples import ExampleParameters, choose_examples
from tasks.ingest import ingest
from tasks.parameters import RankParameters, SourceParameters
from tasks.predicted_columns import predicted_columns
from tasks.rank import rank
from tasks.rank_compositions import MODULI, CompositionRankParameters, rank_compositions
from tasks.train import train_network
from tasks.train_parameters import TrainParameters

FORMULAS = ["LiF", "Li2S", "Li2TiO3", "NaCl", "LiMg", "Li3OCl", "Li2MgCl4"]


@pytest.fixture(scope="module")
def ranking(stages: Any, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    """Ranked lithium compounds: the tiny ones, and as many sulphides as are needed."""
    known = stages.tiny.structures
    more = known[known["material_id"] == "rocksalt-LiS"].iloc[[0] * MIN_KNOWN].copy()
    more["material_id"] = [f"more-{n}" for n in range(MIN_KNOWN)]
    more["volume_ratio"] = np.linspace(0.02, 0.04, MIN_KNOWN)
    path: Path = tmp_path_factory.mktemp("known") / "known.parquet"
    pd.concat([known, more]).to_parquet(path)
    candidates = stages.run(ingest, SourceParameters(source=f"file:{path}"))
    return stages.run(rank, candidates, stages.moduli, RankParameters(min_band_gap=None))


@pytest.fixture(scope="module")
def models(stages: Any) -> dict[str, ArtifactRef]:
    """Networks of both moduli, and one of wide gaps."""

    def trained(target: str, loss: str, members: int, **labels: Any) -> ArtifactRef:
        rows = stages.run(
            choose_examples, stages.structures, ExampleParameters(targets=(target,), calibration_fraction=0.3, **labels)
        )
        training = TrainParameters(
            architecture={"widths": [16, 8, 1]}, target=target, preset="small", epochs=20, batch_size=32, threads=1,
            settings={"loss": loss}, members=members,
        )  # fmt: skip
        return stages.run(train_network, rows, training)

    moduli = {role: trained(column, "mae", 2, log10=True) for role, column in MODULI.items()}
    single = trained(MODULI["bulk"], "mae", 1, log10=True)
    return moduli | {"insulator": trained("band_gap", "cross_entropy", 1, above=1.0), "single": single}


@pytest.fixture(scope="module")
def compositions(stages: Any, tmp_path_factory: pytest.TempPathFactory) -> ArtifactRef:
    path: Path = tmp_path_factory.mktemp("compositions") / "list.csv"
    pd.DataFrame({"formula": FORMULAS}).to_csv(path, index=False)
    return stages.run(ingest, SourceParameters(source=f"file:{path}"))


def tables(stages: Any, ref: ArtifactRef) -> tuple[pd.DataFrame, pd.DataFrame]:
    store: ArtifactStore = stages.store
    return store.read_table(ref).to_pandas(), store.read_table(ref, "excluded").to_pandas()


def test_every_composition_is_ranked_or_has_a_reason(
    stages: Any, ranking: ArtifactRef, models: dict[str, ArtifactRef], compositions: ArtifactRef
) -> None:
    three = {role: model for role, model in models.items() if role != "single"}
    ref = stages.run(rank_compositions, compositions, ranking, three, CompositionRankParameters())
    table, excluded = tables(stages, ref)
    assert sorted([*table["formula"], *excluded["formula"]]) == sorted(parse_many(FORMULAS).reduced)
    assert excluded.set_index("formula")["stage"].to_dict() == {
        "NaCl": "metal",
        parse_many(["LiMg"]).reduced[0]: "anion",
    }
    assert table["rank"].tolist() == list(range(1, len(table) + 1))
    assert (np.diff(table["probability"]) <= 0).all()
    assert table["probability_on_hull"].isna().all()  # nobody screened them
    np.testing.assert_allclose(table["probability"], table["probability_chi"] * table["probability_insulator"])
    # moduli and spreads are those of the models; v is that of the sulphides, or of all known ones
    parsed = parse_many(table["formula"].tolist())
    shear = predicted_columns(models["shear"], parsed)
    np.testing.assert_allclose(table["shear_modulus_vrh"], shear["prediction"], rtol=1e-6)
    known = stages.store.read_table(ranking).to_pandas()
    ratios = known_ratios(known["formula"].tolist(), known["volume_ratio"].to_numpy(float))
    by_formula = table.set_index("formula")
    assert by_formula.at["Li2S", "anion"] == "S"
    assert by_formula.at["Li2S", "volume_ratio_median"] == pytest.approx(np.median(ratios.by_anion["S"]))
    assert by_formula.at["LiF", "volume_ratio_median"] == pytest.approx(np.median(ratios.every))
    row = by_formula.loc["LiF"]
    _, spread = composition_chi(
        ["LiF"], ([row["bulk_modulus_vrh"]], [row["shear_modulus_vrh"]]),
        ([row["log10_bulk_modulus_std"]], [row["log10_shear_modulus_std"]]), ratios,
        parameters=SamplingParameters(n_samples=1024),
    )  # fmt: skip
    assert row["probability_chi"] == spread.probability_stable[0]
    assert row["chi_q50"] == pytest.approx(spread.q50[0])


def test_redox_active_metals_go_on_request(
    stages: Any, ranking: ArtifactRef, models: dict[str, ArtifactRef], compositions: ArtifactRef
) -> None:
    moduli = {role: models[role] for role in MODULI}
    wanted = CompositionRankParameters(forbid_redox_active=True)
    table, excluded = tables(stages, stages.run(rank_compositions, compositions, ranking, moduli, wanted))
    assert "redox_active" in excluded["stage"].tolist()
    assert not table["formula"].str.contains("Ti").any()
    assert table["probability_insulator"].isna().all()
    np.testing.assert_allclose(table["probability"], table["probability_chi"])


def test_models_and_rankings_of_no_use(
    stages: Any, ranking: ArtifactRef, models: dict[str, ArtifactRef], compositions: ArtifactRef
) -> None:
    sound = {role: model for role, model in models.items() if role != "single"}

    def refused(models: dict[str, ArtifactRef], words: str, metal: str = "Li") -> None:
        with pytest.raises(InputError, match=words):
            rank_compositions.fn(
                stages.root, compositions, ranking, models, CompositionRankParameters.model_validate({"metal": metal})
            )

    refused(sound | {"bulk": models["shear"]}, "--target bulk_modulus_vrh --log10")
    refused(sound | {"shear": stages.network}, "--target shear_modulus_vrh --log10")
    refused(sound | {"bulk": models["single"]}, "states no error of its modulus")
    refused(sound | {"insulator": models["bulk"]}, "--target band_gap --above")
    refused(sound | {"bulk": stages.moduli_network}, "crystal_graph, not from a formula")
    refused(sound, "ranks compounds of Li", "Na")
