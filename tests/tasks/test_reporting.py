"""The report: what it says, that it says it twice alike, and that nothing in the data can break out of it."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest

from tasks.reporting import summary, tables, wording
from tasks.reporting.data import CleaningCounts, ReportData
from tasks.reporting.render import render_report

VOID = {"meta", "br", "hr", "img", "input", "link"}
SECTIONS = ("summary", "data", "network", "screen", "electrolytes", "worth", "provenance", "glossary")


class Page(HTMLParser):
    """Checks nesting while parsing; collects headings, ids and addresses."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.headings: list[int] = []
        self.ids: list[str] = []
        self.addresses: list[str] = []
        self.figures: list[dict[str, str | None]] = []
        self.tags: list[str] = []
        self.feed(html)
        self.close()
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        self._collect(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self._collect(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def _collect(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if re.fullmatch(r"h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if values.get("id"):
            self.ids.append(str(values["id"]))
        self.addresses += [str(values[key]) for key in ("href", "src", "action", "srcset", "data") if values.get(key)]
        if tag == "svg":
            self.figures.append(values)


def candidates(n: int = 300, seed: int = 3) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    arity = rng.choice([2, 3, 4], n)
    elements = ["Li", "Na", "K", "Mg", "Ca", "Al", "F", "O", "S", "Cl"]
    chosen = [sorted(rng.choice(elements, k, replace=False)) for k in arity]
    energy = -0.2 - rng.exponential(0.05, n)
    hull = -rng.gamma(4.0, 0.5, n)
    return pd.DataFrame(
        {
            "index": np.arange(n) * 11,
            "formula": ["".join(f"{e}{k}" for k, e in enumerate(c, 2)) for c in chosen],
            "chemsys": ["-".join(c) for c in chosen],
            "arity": arity.astype(np.int8),
            "formation_energy_per_atom": hull + energy,
            "prediction_std": np.nan,
            "hull_energy_per_atom": hull,
            "energy_above_hull": energy,
            "decomposition_energy": energy,
            "probability_stable": 1 / (1 + np.exp(8 * energy + 1)),
            "known": rng.random(n) < 0.1,
            "hull_incomplete": rng.random(n) < 0.4,
            "out_of_domain": rng.random(n) < 0.05,
        }
    )


def ranking(n: int = 30) -> pd.DataFrame:
    shear = np.linspace(2.0, 60.0, n)
    chi = -2.0 + 0.6 * shear
    return pd.DataFrame(
        {
            "rank": np.arange(1, n + 1, dtype=np.int32),
            "material_id": [f"demo-{i}" for i in range(n)],
            "formula": ["Li2WS4", "LiBH4", *["Li3PS4"] * (n - 2)],
            "chemsys": "Li-S-W",
            "energy_above_hull": 0.0,
            "band_gap": 2.5,
            "bulk_modulus_vrh": 2 * shear,
            "shear_modulus_vrh": shear,
            "log10_bulk_modulus_std": 0.1,
            "log10_shear_modulus_std": 0.13,
            "moduli_source": "predicted",
            "volume_ratio": 0.06,
            "poisson_ratio": 0.29,
            "chi": chi,
            "chi_q05": chi - 1.5,
            "chi_q95": chi + 2.0,
            "lambda_crit_nm": np.where(chi < 0, np.inf, 3.0),
            "probability_stable": np.linspace(0.6, 0.0, n),
            "pugh_ratio": 2.0,
        }
    )


def full() -> ReportData:
    rng = np.random.default_rng(5)
    truth = rng.normal(-1.0, 1.0, 500)
    moduli = 10 ** rng.normal(1.5, 0.3, (60, 2))
    table = candidates()
    stated = np.linspace(0.05, 0.95, 6)
    return ReportData(
        title="A campaign",
        subtitle="potential-computed (CHGNet), not DFT",
        parameters={"screen": {"threshold": -0.2, "arities": [2, 3, 4]}},
        banners=[("warning", "Starter set")],
        cleaning=[CleaningCounts("phases", 1000, 990, 6, 4, [("outside the physical range", 6)])],
        references=pd.DataFrame(
            {"element": ["Tb", "O"], "reference_correction": [0.66, 0.0], "n_compounds": [1200, 9000],
             "shift": [0.658, 0.0], "shift_error": [0.004, 0.001], "neighbours": ["Gd, Dy", "S"],
             "release": ["oqmd-2017", None]}
        ),
        learning_curve=pd.DataFrame(
            {"member": 0, "epoch": range(1, 11), "learning_rate": 1e-3, "train_mae": np.linspace(0.5, 0.04, 10),
             "validation_mae": np.linspace(0.5, 0.06, 10)}
        ),
        predictions=pd.DataFrame(
            {"material_id": "x", "formula": "NaCl", "split": ["train"] * 250 + ["validation"] * 250,
             "formation_energy_per_atom": truth, "prediction": truth + rng.normal(0, 0.05, 500)}
        ),
        metrics={"validation": {"n": 250, "mae": 0.04, "r2": 0.99, "p90": 0.08}},
        screen_summary={"n_compositions": 12_345_678, "n_systems": {"2": 45, "3": 120, "4": 210}, "threshold": -0.2,
                        "n_below": {str(k): int(v) for k, v in table["arity"].value_counts().items()}},
        candidates=table,
        calibration={"method": "platt", "out_of_system_mae": 0.081, "reliability": [
            {"stated": p, "observed": p, "observed_low": p - 0.04, "observed_high": p + 0.04, "n": 9} for p in stated]},
        canaries={"CaF2": {"in_phases": True, "energy_above_hull": 0.0}},
        moduli_metrics={"shear_modulus_vrh": {"n": 60, "mae_log10": 0.1}},
        moduli_predictions=pd.DataFrame(
            {"bulk_modulus_vrh": moduli[:, 0], "bulk_modulus_prediction": moduli[:, 0] * 1.1,
             "shear_modulus_vrh": moduli[:, 1], "shear_modulus_prediction": moduli[:, 1] * 0.9}
        ),
        ranking=ranking(),
        excluded=pd.DataFrame({"stage": ["filter"] * 3, "reason": ["gap", "gap", "alloy"], "material_id": list("abc")}),
        provenance=[{"stage": "tasks.screen", "kind": "candidates", "key": "candidates-0123456789abcdef01234567",
                     "digest": "ab" * 32, "rows": 300, "source": None}],
        model_card={"name": "ElemNet", "architecture": {"name": "elemnet", "parameters": {}}},
    )  # fmt: skip


@pytest.fixture(scope="module")
def data() -> ReportData:
    return full()


@pytest.fixture(scope="module")
def page(data: ReportData) -> str:
    return render_report(data)


def text_of(html: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", "", re.sub(r"<(style|script)>.*?</\1>", "", html, flags=re.DOTALL)).split())


def test_structure(page: str) -> None:
    parsed = Page(page)
    assert parsed.headings[0] == 1
    assert parsed.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(parsed.headings, parsed.headings[1:], strict=False))
    assert set(SECTIONS) <= set(parsed.ids)
    assert len(parsed.ids) == len(set(parsed.ids))
    assert parsed.tags.count("svg") == 12
    assert all(f["role"] == "img" and len(str(f["aria-label"])) > 40 for f in parsed.figures)
    assert "Not in this report" not in page


def test_nothing_is_fetched_from_anywhere(page: str) -> None:
    assert all(address.startswith(("#", "data:image/png;base64,")) for address in Page(page).addresses)
    assert "//" not in re.sub(r"data:image/png;base64,[^\"]*", "", page)
    assert "@import" not in page
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_references_inside_figures_resolve(page: str) -> None:
    ids = set(Page(page).ids)
    assert set(re.findall(r'href="#([^"]+)"', page)) <= ids
    assert set(re.findall(r"url\(#([^)]+)\)", page)) <= ids


def test_same_data_same_bytes(data: ReportData, page: str) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "svg.fonttype": "path"}):  # somebody's own settings
        assert render_report(full()) == page
        assert mpl.rcParams["font.size"] == 30


def test_summary_states_the_numbers_of_the_tables(data: ReportData, page: str) -> None:
    table, text = data.candidates, text_of(page)
    assert table is not None
    known = table["known"]
    incomplete = ~known & table["hull_incomplete"]
    domain = ~known & ~incomplete & table["out_of_domain"]
    rest = table[~(known | incomplete | domain)]
    assert "12,345,678 compositions in 375 chemical systems were screened" in text
    assert f"{len(table)} of them lie at or below −0.2 eV/atom" in text
    assert f"After taking out {known.sum()} already known, {incomplete.sum()} in systems" in text
    assert f"{len(rest)} remain, in {rest['chemsys'].nunique()} chemical systems" in text
    rows = data.predictions[data.predictions["split"] == "validation"]  # type: ignore[index]
    mae = (rows["prediction"] - rows["formation_energy_per_atom"]).abs().mean()
    assert f"is off by {mae:.3f} eV/atom" in text
    assert "30 lithium compounds were ranked" in text
    assert "; 1 is predicted to keep a flat interface" in text
    assert f"<dd>{len(rest)}</dd>" in page


def test_steps_of_the_waterfall_add_up(data: ReportData) -> None:
    numbers = summary.screen_numbers(data)
    assert numbers is not None
    steps = summary.waterfall_steps(numbers)
    assert steps[0][1] - sum(number for _, number, _ in steps[1:-1]) == steps[-1][1]
    assert sum(numbers.below_by_arity.values()) == numbers.n_below


def test_best_of_each_system_without_flags(data: ReportData) -> None:
    assert data.candidates is not None
    clean, flagged = tables.candidate_tables(data.candidates)
    assert all(not row["flags"] for row in clean)
    assert all(row["flags"] for row in flagged)
    assert len({row["chemsys"] for row in clean}) == len(clean) <= tables.N_CANDIDATES
    energies = [row["decomposition_energy"] for row in clean]
    assert energies == sorted(energies)
    free = data.candidates[summary.flag_category(data.candidates) == 0]
    assert energies[0] == free["decomposition_energy"].min()
    assert sum(row["n_in_system"] for row in tables.best_per_system(free, 10**6)) == len(free)


@pytest.mark.parametrize("label", wording.FLAG_LABELS.values())
def test_flags_are_chips_with_words(page: str, label: str) -> None:
    assert re.search(rf'<span class="chip \w+">{label}</span>', page)


def test_text_of_the_data_is_escaped(data: ReportData) -> None:
    evil = '<script>alert(1)</script>$x^2$&"'
    table, ranked = candidates(5), ranking(3)
    table.loc[:, ["known", "hull_incomplete", "out_of_domain"]] = False
    table["formula"] = evil
    ranked["formula"] = evil
    html = render_report(
        replace(
            data, title=evil, subtitle=evil, banners=[("info", evil)], candidates=table, ranking=ranked,
            screen_summary={"threshold": -0.2}, parameters={evil: evil}, model_card={"name": evil},
            excluded=pd.DataFrame({"stage": [evil], "reason": [evil]}), provenance=[{"key": evil}],
        )
    )  # fmt: skip
    parsed = Page(html)
    assert parsed.tags.count("script") == 1
    assert "alert(1)</script>" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_the_ranking_shows_windows_stars_and_hypothetical_structures_where_there_are_some() -> None:
    marks = ("hypothetical structure</span>", "★</td>", ">Window</span>", ">Conducts</span>")
    html = render_report(ReportData(title="t", ranking=ranking(3)))
    assert [mark in html for mark in marks] == [False] * 4
    table = ranking(3).assign(
        hypothetical=[False, True, False], pareto=[True, False, False], reduction_potential=[0.5, np.nan, 1.25],
        oxidation_potential=[3.0, np.nan, 2.0], superionic_likelihood=[0.004, 0.31, np.nan],
    )  # fmt: skip
    html = render_report(ReportData(title="t", ranking=table))
    assert [html.count(mark) for mark in marks] == [1] * 4
    assert "0.50 … 3.00</td>" in html
    assert "– … –</td>" in html
    assert "31\u202f%</td>" in html


def test_every_stage_may_be_missing() -> None:
    empty = render_report(ReportData(title="Nothing yet"))
    assert Page(empty).tags.count("svg") == 0
    for words in ("learning curve", "parity plot", "the screen; it was not run", "a ranking", "list of artifacts"):
        assert words in empty


TABLES = ("references", "learning_curve", "predictions", "candidates", "moduli_predictions", "ranking", "excluded")


@pytest.mark.parametrize("name", TABLES)
def test_one_stage_alone(data: ReportData, name: str) -> None:
    html = render_report(ReportData(title="t", **{name: getattr(data, name)}))
    Page(html)
    assert 'class="missing"' in html


def test_empty_tables_are_stages_that_left_nothing() -> None:
    html = render_report(ReportData(title="t", **{name: pd.DataFrame() for name in TABLES}))
    assert Page(html).tags.count("svg") == 0
    assert "a ranking; either it was not run or nothing passed its filters" in html


def test_screen_that_kept_nothing() -> None:
    given = {"n_compositions": 1000, "threshold": -0.2, "n_below": {}}
    html = render_report(ReportData(title="t", screen_summary=given, candidates=pd.DataFrame()))
    assert "kept nothing at this threshold" in html
    assert "0 of them lie at or below" in text_of(html)


def test_summary_alone_makes_the_waterfall() -> None:
    given = {"n_compositions": 1000, "threshold": -0.2, "n_below": {2: 5, 3: 5}, "n_known": 3, "n_remaining": 7}
    numbers = summary.screen_numbers(ReportData(title="t", screen_summary=given))
    assert numbers is not None
    assert (numbers.n_below, numbers.removed["known"], numbers.n_remaining) == (10, 3, 7)


def test_contradicting_counts_are_refused(data: ReportData) -> None:
    with pytest.raises(ValueError, match="counts 7 candidates, the table has 300 rows"):
        replace(data, screen_summary={"n_below": {2: 7}})


def test_missing_columns_and_unknown_levels_are_named() -> None:
    with pytest.raises(ValueError, match="'ranking' lacks chi"):
        ReportData(title="t", ranking=ranking().drop(columns="chi"))
    with pytest.raises(ValueError, match="unknown banner level 'loud'"):
        ReportData(title="t", banners=[("loud", "x")])


def test_banner_on_potential_moduli(page: str) -> None:
    words = "Potential moduli, not evidence"
    assert words not in page
    assert words in render_report(ReportData(title="t", ranking=ranking(3), moduli_data_source="selfbuilt"))
    assert words in render_report(ReportData(title="t", ranking=ranking(3), provenance=[{"source": "selfbuilt"}]))
    assert words not in render_report(ReportData(title="t", moduli_data_source="selfbuilt"))


def test_banner_on_mixed_schemes(page: str) -> None:
    assert "Mixed energy schemes" not in page
    assert "Mixed energy schemes" in render_report(ReportData(title="t", ranking=ranking(3).assign(mixed_scheme=True)))


def test_canary_that_came_out_as_new_is_shouted(page: str) -> None:
    assert "none of them came out as new" in page
    table = candidates(4)
    table.loc[:, ["known", "hull_incomplete", "out_of_domain"]] = False
    table.loc[0, "formula"] = "ThO2"
    table.loc[1, "formula"] = "OF9"
    html = render_report(ReportData(title="t", candidates=table))
    assert "ThO<sub>2</sub> came out as new: a hull that lacks them" in html
    assert "Here OF<sub>9</sub> is among the candidates without a flag" in html


def test_errors_on_training_rows_are_called_that(data: ReportData) -> None:
    assert data.predictions is not None
    html = render_report(ReportData(title="t", predictions=data.predictions.assign(split="train")))
    assert "These are training rows" in html
    assert "none of which it was trained on" not in html


def test_calibration_without_probability_says_why() -> None:
    html = render_report(
        ReportData(
            title="t", candidates=candidates(5), calibration={"method": "none", "reason": "3 stable rows; 10 needed"}
        )
    )
    assert "3 stable rows; 10 needed" in html


@pytest.mark.parametrize(
    "words",
    [
        "predicted formation energy (eV/atom)", "MAE (eV/atom)", "prediction − reference (eV/atom)",
        "decomposition energy (eV/atom)", "shear modulus G (GPa, logarithmic)",
        "stability parameter χ (kJ mol⁻¹ nm⁻¹)", "compositions (logarithmic)", "stable: χ &lt; 0", "no flag (",
    ],
)  # fmt: skip
def test_axis_labels_with_units(page: str, words: str) -> None:
    assert any(words in text for text in re.findall(r"<text[^>]*>([^<]*)</text>", page))


def test_formulas_have_subscripts(page: str) -> None:
    assert "Li<sub>2</sub>WS<sub>4</sub>" in page
    assert "Li₂WS₄" in page
    assert wording.formula_html("CuSO4(H2O)5") == "CuSO<sub>4</sub>(H<sub>2</sub>O)<sub>5</sub>"
    assert wording.formula_html("<b>") == "&lt;b&gt;"


def test_canaries_and_glossary_and_provenance(data: ReportData, page: str) -> None:
    for words in ("CaF<sub>2</sub>", "ab" * 32, "candidates-0123456789abcdef01234567", "Pugh", "no confidence level"):
        assert words in page
    assert tables.canary_rows(data)[0]["on_hull"] is True
    assert tables.canary_rows(data)[1]["on_hull"] is None


def test_page_stays_small_with_many_candidates() -> None:
    table = pd.concat([candidates(20_000, seed) for seed in range(5)], ignore_index=True)
    rng = np.random.default_rng(0)
    truth = rng.normal(size=50_000)
    data = ReportData(
        title="large",
        screen_summary={"threshold": -0.2},
        candidates=table,
        predictions=pd.DataFrame(
            {"split": "validation", "formation_energy_per_atom": truth, "prediction": truth + rng.normal(size=50_000)}
        ),
    )
    assert len(render_report(data).encode()) < 2_000_000


def test_a_ranking_against_sodium_says_so() -> None:
    page = render_report(ReportData(title="t", ranking=ranking(30), metal="Na"))
    text = text_of(page)
    assert "30 sodium compounds were ranked" in text
    assert "Sodium electrolytes against dendrites" in text
    assert "lithium" not in text.lower()
    assert "G of Na" in page


def interfaces() -> pd.DataFrame:
    """Two facets on two planes of one crystal, and one crystal that could not be judged."""
    rows = [
        {"material_id": "a", "formula": "Li2WS4", "facet": facet, "plane": plane, "chi": chi,
         "chi_by_direction": [chi - 0.3, chi, chi - 0.1]}
        for facet, plane, chi in (
            ("(0 1 0)", "(0 0 1)", -1.5), ("(1 1 0)", "(0 0 1)", 0.2), ("(0 1 0)", "(1 0 0)", 3.0),
            ("(1 1 0)", "(1 0 0)", 4.0),
        )
    ]  # fmt: skip
    return pd.DataFrame([*rows, {"material_id": "b", "formula": "LiF", "reason": "no tensor"}])


def test_directions_are_drawn_of_the_most_stable_plane(page: str) -> None:
    assert "By direction." not in page
    few = ReportData(title="t", ranking=ranking(3))
    html = render_report(replace(few, interfaces=interfaces()))
    assert "By direction." in html
    assert "chi of Li2WS4 on its plane (0 0 1)" in html
    assert "for 2 facets of lithium; the worst pair of directions has −1.50 kJ" in html
    unjudged = render_report(replace(few, interfaces=interfaces().tail(1)))
    assert "By direction." not in unjudged


def test_regimes_show_every_ranked_compound(page: str) -> None:
    assert "Regimes of stability against lithium" in page
    assert "stiff ones above; 30 ranked compounds" in page
