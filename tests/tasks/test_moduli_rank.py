"""Moduli and ranking: an ensemble from graphs, filters with a reason for every row that goes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from models.elasticity import isotropic_tensor
from models.electrodeposition import stability_parameter
from models.errors import InputError
from models.formula import parse
from models.moduli_training import ModuliTraining
from storage.model_files import read_model
from storage.store import ArtifactStore
from tasks.featurize import featurize_graphs, read_graphs
from tasks.ingest import ingest
from tasks.moduli import moduli_settings, predict_moduli, train_moduli
from tasks.parameters import ModuliParameters, RankParameters, SourceParameters
from tasks.rank import rank
from tasks.stage import reference


def ranked(stages: Any, parameters: RankParameters, *more: Any) -> tuple[pd.DataFrame, pd.DataFrame, dict[str, int]]:
    ref = stages.run(rank, stages.structures, stages.moduli, parameters, *more)
    store = stages.store
    return store.read_table(ref).to_pandas(), store.read_table(ref, "excluded").to_pandas(), stages.counts(ref)


def test_the_moduli_model(stages: Any) -> None:
    card, members = read_model(stages.moduli_network)
    assert card.features == "crystal_graph"
    assert card.n_members == len(members) == 1
    counts = stages.counts(stages.moduli_network)
    assert counts["rows_train"] + counts["rows_calibration"] == 75
    assert counts["rows_calibration"] >= 20  # what calibrated error bars need
    assert card.calibration is not None
    parity = stages.store.read_table(stages.moduli_network, "parity").to_pandas()
    assert parity["split"].value_counts().to_dict() == card.split
    # no formula is both learned from and measured
    assert (parity.groupby("formula")["split"].nunique() == 1).all()
    held = parity[parity["split"] == "calibration"]
    error = np.abs(np.log10(held["bulk_modulus_prediction"] / held["bulk_modulus_vrh"])).mean()
    assert card.metrics["log10_bulk_modulus"]["mae"] == pytest.approx(error, rel=1e-6)
    truth = stages.tiny.structures.set_index("material_id")["bulk_modulus_vrh"]
    np.testing.assert_allclose(parity["bulk_modulus_vrh"], truth[parity["material_id"]])


def test_the_card_says_what_its_normalisation_is_of(stages: Any) -> None:
    """Not log10 of the moduli, but of these times the volume per atom [A^3] to the power 5/3."""
    card, _ = read_model(stages.moduli_network)
    graphs, rows = read_graphs(stages.store, stages.graphs)
    volumes = dict(zip(stages.tiny.structures["material_id"].iloc[rows], graphs.volumes_per_atom, strict=True))
    parity = stages.store.read_table(stages.moduli_network, "parity").to_pandas()
    learnt = parity[parity["split"] == "train"]
    volume = np.array([volumes[name] for name in learnt["material_id"]])
    expected = [np.log10(learnt[name] * volume ** (5 / 3)).mean() for name in ("bulk_modulus_vrh", "shear_modulus_vrh")]
    np.testing.assert_allclose(card.normalisation.mean, expected, rtol=1e-12)
    assert card.normalised_quantity is not None
    assert card.normalised_quantity.startswith("log10(M v^(5/3))")
    network, _ = read_model(stages.network)
    assert "normalised_quantity" not in network.model_dump()  # other cards are what they were


def test_predicted_moduli_have_error_bars(stages: Any) -> None:
    table = stages.store.read_table(stages.moduli).to_pandas()
    assert table["material_id"].tolist() == stages.tiny.structures["material_id"].tolist()
    assert (table[["bulk_modulus_vrh", "shear_modulus_vrh", "log10_bulk_modulus_std"]] > 0).all(axis=None)
    assert set(table["moduli_source"]) == {"predicted"}


def test_a_prediction_is_that_of_the_parity_table(stages: Any) -> None:
    parity = stages.store.read_table(stages.moduli_network, "parity").to_pandas().set_index("material_id")
    table = stages.store.read_table(stages.moduli).to_pandas().set_index("material_id")
    np.testing.assert_allclose(table["bulk_modulus_vrh"], parity.loc[table.index, "bulk_modulus_prediction"], rtol=1e-4)


def test_the_seed_is_part_of_the_key(stages: Any) -> None:
    other = stages.moduli_parameters.model_copy(update={"seed": 5})
    ref = stages.run(train_moduli, [stages.graphs], other)
    assert ref.key != stages.moduli_network.key
    assert ref.digest != stages.moduli_network.digest


def test_an_energy_model_does_not_predict_moduli(stages: Any) -> None:
    with pytest.raises(InputError, match="give a moduli model"):
        stages.run(predict_moduli, stages.network, stages.graphs)


def test_rows_that_cannot_be_learned_from(tmp_path: Path, tiny: Any) -> None:
    """A negative modulus is refused with its row; too few rows are one line."""
    store = ArtifactStore(tmp_path / "store")

    def graphs_of(frame: pd.DataFrame, name: str) -> Any:
        frame.to_parquet(tmp_path / name)
        ref = reference(ingest.fn(store.root, SourceParameters(source=f"file:{tmp_path / name}")))
        return reference(featurize_graphs.fn(store.root, ref))

    frame = tiny.structures.copy()
    frame.loc[4, "bulk_modulus_vrh"] = -3.0
    frame.loc[7, ["bulk_modulus_vrh", "shear_modulus_vrh"]] = None
    parameters = ModuliParameters(members=1, epochs=1, settings={"n_trees": 5})
    ref = reference(train_moduli.fn(store.root, [graphs_of(frame, "a.parquet")], parameters))
    refused = store.read_table(ref, "rejected/rejected").to_pylist()
    assert [row["material_id"] for row in refused] == [frame["material_id"][4]]  # row 7 states nothing: no error
    counts = store.manifest(ref).counts
    assert counts["rows_train"] + counts["rows_calibration"] == 73
    with pytest.raises(InputError, match="at least 50"):
        train_moduli.fn(store.root, [graphs_of(frame.head(20), "b.parquet")], parameters)


def test_several_tables_are_learnt_from_together(tmp_path: Path, tiny: Any) -> None:
    """All rows of both, each counted within its own table; neither table is enough on its own."""
    store = ArtifactStore(tmp_path / "store")
    parts = []
    for name, frame in (
        ("a.parquet", tiny.structures.iloc[:40].copy()),
        ("b.parquet", tiny.structures.iloc[40:].copy()),
    ):
        frame.iloc[4, frame.columns.get_loc("bulk_modulus_vrh")] = -3.0
        frame.to_parquet(tmp_path / name)
        ref = reference(ingest.fn(store.root, SourceParameters(source=f"file:{tmp_path / name}")))
        parts.append(reference(featurize_graphs.fn(store.root, ref)))
    parameters = ModuliParameters(members=1, epochs=1, settings={"n_trees": 5})
    ref = reference(train_moduli.fn(store.root, parts, parameters))
    manifest = store.manifest(ref)
    assert sorted(manifest.inputs) == ["compounds", "compounds_2", "graphs", "graphs_2"]
    assert manifest.inputs["graphs_2"].key == parts[1].key
    assert manifest.counts["rows_train"] + manifest.counts["rows_calibration"] == 73
    refused = store.read_table(ref, "rejected/rejected").to_pylist()
    ids = tiny.structures["material_id"]
    assert [(row["row"], row["material_id"]) for row in refused] == [(4, ids.iloc[4]), (4, ids.iloc[44])]
    card, _ = read_model(ref)
    assert card.training_data == f"{parts[0].digest}+{parts[1].digest}"
    with pytest.raises(InputError, match="at least 50"):
        train_moduli.fn(store.root, parts[:1], parameters)
    with pytest.raises(InputError, match="two of the tables with moduli are the same"):
        train_moduli.fn(store.root, [*parts, parts[0]], parameters)


def test_sizes_and_trainer_are_what_was_set() -> None:
    given = {"n_convolutions": 2, "atom_width": 32, "optimiser": "sgd", "learning_rate": 0.01}
    settings = moduli_settings(ModuliParameters(epochs=7, seed=3, settings=given))
    assert (settings.n_convolutions, settings.atom_width, settings.epochs, settings.seed) == (2, 32, 7, 3)
    assert (settings.optimiser, settings.learning_rate, settings.threads) == ("sgd", 0.01, 1)
    assert moduli_settings(ModuliParameters()) == ModuliTraining(threads=1)
    with pytest.raises(InputError, match=r"Unknown training parameter 'n_convolution': .*n_convolutions"):
        moduli_settings(ModuliParameters(settings={"n_convolution": 2}))
    with pytest.raises(InputError, match="optimiser is one of"):
        moduli_settings(ModuliParameters(settings={"optimiser": "lbfgs"}))
    for wrong in ({"n_convolutions": "4"}, {"learning_rate": "1e-3"}, {"momentum": True}, {"hidden_width": None}):
        with pytest.raises(InputError, match="is a number, got"):
            moduli_settings(ModuliParameters(settings=wrong))
    assert moduli_settings(ModuliParameters(settings={"clip_norm": None})).clip_norm is None
    with pytest.raises(ValidationError, match="'epochs' is a parameter of its own"):
        ModuliParameters(settings={"epochs": 3})


def test_every_candidate_is_ranked_or_has_a_reason(stages: Any) -> None:
    ranking, excluded, counts = ranked(stages, RankParameters())
    ids = [*ranking["material_id"], *excluded["material_id"]]
    assert sorted(ids) == sorted(stages.tiny.structures["material_id"])
    assert counts["candidates"] == 75 == counts["ranked"] + counts["excluded"]
    assert counts["ranked"] == len(ranking) == 8
    assert counts["excluded"] == sum(n for name, n in counts.items() if name.startswith("excluded_"))
    assert (excluded["reason"].str.len() > 0).all()
    assert ranking["rank"].tolist() == list(range(1, 9))
    assert (np.diff(ranking["chi"]) >= 0).all()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"max_energy_above_hull": None}, 12),  # CsCl structures come in
        ({"min_band_gap": None}, 10),  # sulphides come in
        ({"max_energy_above_hull": None, "min_band_gap": None}, 15),
    ],
)
def test_filters(stages: Any, change: dict[str, Any], expected: int) -> None:
    ranking, _, _ = ranked(stages, RankParameters(**change))
    assert len(ranking) == expected
    assert ranking["formula"].str.contains("Li").all()


def test_stated_moduli_come_before_predicted_ones(stages: Any) -> None:
    stated, _, _ = ranked(stages, RankParameters())
    assert set(stated["moduli_source"]) == {"stated"}
    truth = stages.tiny.structures.set_index("material_id").loc[stated["material_id"]]
    np.testing.assert_allclose(stated["shear_modulus_vrh"], truth["shear_modulus_vrh"])
    chi = stability_parameter(
        stated["bulk_modulus_vrh"].to_numpy(), stated["shear_modulus_vrh"].to_numpy(), stated["volume_ratio"].to_numpy()
    ).chi
    np.testing.assert_allclose(stated["chi"], chi, rtol=1e-9)

    predicted, _, _ = ranked(stages, RankParameters(prefer_stated=False))
    assert set(predicted["moduli_source"]) == {"predicted"}
    moduli = stages.store.read_table(stages.moduli).to_pandas().set_index("material_id")
    np.testing.assert_allclose(
        predicted["shear_modulus_vrh"], moduli.loc[predicted["material_id"], "shear_modulus_vrh"]
    )
    assert (predicted["chi_q05"] < predicted["chi_q95"]).all()


def test_unknown_distances_are_kept_or_not_and_filled_from_the_hull(stages: Any, tmp_path: Path) -> None:
    """LiF states a formation energy and no distance from the hull: with phases the distance is worked out."""
    frame = stages.tiny.structures[["material_id", "formula", "structure", "bulk_modulus_vrh", "shear_modulus_vrh"]]
    frame = frame[frame["material_id"].isin(["rocksalt-LiF", "ZnS-LiF", "rocksalt-LiCl"])].copy()
    lowest = stages.store.read_table(stages.phases).to_pandas().set_index("formula")["formation_energy_per_atom"]["LiF"]
    frame["formation_energy_per_atom"] = [lowest, lowest + 0.5, None]
    assert frame["material_id"].tolist() == ["rocksalt-LiF", "ZnS-LiF", "rocksalt-LiCl"]
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    source = stages.energies_source.model_copy(update={"source": f"file:{path}"})
    candidates = stages.run(ingest, source)
    graphs = stages.run(featurize_graphs, candidates)
    moduli = stages.run(predict_moduli, stages.moduli_network, graphs)

    def names(parameters: RankParameters, *more: Any) -> set[str]:
        ref = stages.run(rank, candidates, moduli, parameters, *more)
        return set(stages.store.read_table(ref).column("material_id").to_pylist())

    assert names(RankParameters()) == {"rocksalt-LiF", "ZnS-LiF", "rocksalt-LiCl"}
    assert names(RankParameters(), stages.phases) == {"rocksalt-LiF", "rocksalt-LiCl"}
    assert names(RankParameters(keep_unknown=False, min_band_gap=None), stages.phases) == {"rocksalt-LiF"}


def test_a_hull_of_another_scheme_gives_windows_and_no_distances(stages: Any, tmp_path: Path) -> None:
    """The structures' table is of another scheme than the phases."""
    frame = stages.tiny.structures.drop(columns=["energy_above_hull"]).assign(formation_energy_per_atom=9.0)
    path = tmp_path / "t.parquet"
    frame.to_parquet(path)
    candidates = stages.run(ingest, SourceParameters(source=f"file:{path}", database="other"))
    moduli = stages.run(predict_moduli, stages.moduli_network, stages.run(featurize_graphs, candidates))
    plain = stages.run(rank, candidates, moduli, RankParameters())
    other = stages.run(rank, candidates, moduli, RankParameters(), stages.phases)
    one, two = (stages.store.read_table(ref).to_pandas() for ref in (plain, other))
    assert one["material_id"].tolist() == two["material_id"].tolist()
    assert two["energy_above_hull"].isna().all()
    assert one["oxidation_potential"].isna().all()
    assert two["oxidation_potential"].notna().all()


def test_windows_are_those_of_the_hull_and_filters(stages: Any) -> None:
    """LiF is the only phase of Li-F on the tiny hull that lithium leaves alone."""
    everything = RankParameters(max_energy_above_hull=None, min_band_gap=None)
    table, _, _ = ranked(stages, everything, stages.phases)
    hull = stages.store.read_table(stages.phases).to_pandas().set_index("formula")["formation_energy_per_atom"]
    system = {f: e for f, e in hull.items() if set(parse(str(f))) <= {"Li", "F"} and len(parse(str(f))) == 2}
    shares = np.array([[0.0, 0.0], *([parse(str(f))["Li"] / sum(parse(str(f)).values()), e] for f, e in system.items()),
                       [1.0, 0.0]])  # fmt: skip
    at = shares[np.argsort(shares[:, 0])]
    lithium = 0.5
    g = lambda n: min(  # noqa: E731 - energy per half fluorine with n lithium, from every pair of phases
        (n + 0.5) * (a[1] + (b[1] - a[1]) * (n / (n + 0.5) - a[0]) / (b[0] - a[0]))
        for a in at for b in at if a[0] <= n / (n + 0.5) < b[0]
    )  # fmt: skip
    row = table.set_index("formula").loc["LiF"].iloc[0]
    assert row["reduction_potential"] == pytest.approx((g(lithium) - g(lithium + 1e-5)) / 1e-5, abs=1e-4)
    assert row["oxidation_potential"] == pytest.approx((g(lithium - 1e-5) - g(lithium)) / 1e-5, abs=1e-4)
    assert (table["reaction_energy"] <= 1e-9).all()
    middle = float(table["oxidation_potential"].median())
    limited = everything.model_copy(update={"min_oxidation_potential": middle})
    kept, excluded, counts = ranked(stages, limited, stages.phases)
    assert (kept["oxidation_potential"] >= middle).all()
    assert 0 < counts["excluded_window"] == (excluded["stage"] == "window").sum()
    assert len(kept) == (table["oxidation_potential"] >= middle).sum()


def test_crystals_with_a_tensor_are_judged_on_their_interfaces(stages: Any, tmp_path: Path) -> None:
    """The stated table has moduli and tensors of three: a soft one, a stiff one, and one of another symmetry."""
    soft, stiff = isotropic_tensor(1.0, 0.7), isotropic_tensor(60.0, 40.0)
    tensors = {"rocksalt-LiCl": soft, "rocksalt-LiF": stiff, "ZnS-LiBr": stiff + np.diag([40.0, 0, 0, 0, 0, 0])}
    frame = stages.tiny.structures.set_index("material_id").loc[list(tensors)].reset_index()
    frame["elastic_tensor"] = [tensor.ravel().tolist() for tensor in tensors.values()]
    frame["bulk_modulus_vrh"], frame["shear_modulus_vrh"] = [1.0, 60.0, 60.0], [0.7, 40.0, 40.0]
    path = tmp_path / "stated.parquet"
    frame.to_parquet(path)
    stated = stages.run(ingest, SourceParameters(source=f"file:{path}"))
    ref = stages.run(rank, stages.structures, stages.moduli, RankParameters(), None, stated)
    ranking = stages.store.read_table(ref).to_pandas().set_index("material_id")
    assert ranking["moduli_source"].to_dict() == {
        name: "stated" if name in tensors else "predicted" for name in ranking.index
    }
    assert ranking["n_interfaces"].dropna().to_dict() == {"rocksalt-LiCl": 52, "rocksalt-LiF": 52, "ZnS-LiBr": 0}
    assert ranking["n_stable_interfaces"].dropna().to_dict() == {"rocksalt-LiCl": 52, "rocksalt-LiF": 0, "ZnS-LiBr": 0}
    interfaces = stages.store.read_table(ref, "interfaces").to_pandas()
    assert (
        interfaces.groupby("material_id")["chi"].min()["rocksalt-LiCl"]
        == ranking.at["rocksalt-LiCl", "chi_interface"]
        < 0
    )
    assert interfaces.set_index("material_id").at["ZnS-LiBr", "reason"].startswith("elastic tensor does not have the")
    sodium = stages.run(rank, stages.structures, stages.moduli, RankParameters(metal="Na"), None, stated)
    assert stages.store.read_table(sodium)["n_interfaces"].null_count == stages.store.read_table(sodium).num_rows > 0
