"""The page of a study: the finding in words, what stands in its table and charts, its size, hostile names."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from tellapart.evaluation.study_summary import (
    CellDifference,
    CellResult,
    FactorEffect,
    Importance,
    Interaction,
    LevelEffect,
    Span,
    StudySummary,
    VarianceShare,
)
from tellapart.report.blocks import Chart, Fold, Side
from tellapart.report.curve_bands import Band, Banded
from tellapart.report.page import render
from tellapart.report.sections.study_effects import pareto
from tellapart.report.sections.study_page import study_page
from tellapart.report.study_details import Ranks, StudyDetails
from tellapart.report.study_methods import methods
from tellapart.report.study_table import markdown, records, text
from tellapart.report.study_words import finding, verdict, verdict_note
from tellapart.report.thumbnail import Thumbnails


def span(value: float, half: float = 0.02, n: int = 3) -> Span:
    return Span(value, value - half, value + half, n)


def cell(i: int, score: float, verdict: str = "cannot tell", leading: bool = False, **more) -> CellResult:
    values = {0: score - 0.01, 1: score, 2: score + 0.01}
    difference = CellDifference(score - 0.7, score - 0.75, score - 0.65, 0.01, 0.03, verdict, {0: 0.0, 1: 0.1}, 12)
    base = {
        "cell": f"c{i}",
        "number": i,
        "levels": {"stages.0.lr": f"{i}e-3", "dropout": "none"},
        "scores": values,
        "score": span(score),
        "training": span(score + 0.1),
        "minutes": span(1.0 + i),
        "n_parameters": 1000 * (i + 1),
        "difference": None if i == 0 else difference,
        "leading": leading,
        "paths": {seed: f"cells/c{i}/{seed}" for seed in values},
    }
    return CellResult(**(base | more))


def summary(*cells: CellResult, **more) -> StudySummary:
    values = {"baseline": "c0", "best": cells[-1].cell, "n_pictures": 296, "seeds": (3, 3), "tested": len(cells) - 1}
    return StudySummary("accuracy", False, cells=cells, **(values | more))


def details(one: StudySummary, **more) -> StudyDetails:
    return StudyDetails("batch", "Two sizes.", one, "grid", ["stages.0.lr", "dropout"], 1184, **more)


def html(one: StudyDetails) -> str:
    return render(study_page(one), Thumbnails({}, 0, {}))


def test_the_finding_is_a_sentence():
    one = summary(cell(0, 0.7), cell(1, 0.9, "better", leading=True))
    assert (
        finding(one)[0]
        == "lr = 1e-3, dropout = none is best: 90.0\u202f% over 3 seeds, +20.0 points against the baseline."
    )
    assert finding(one)[1] == "Of 1 setting held against the baseline, 1 is better (lr = 1e-3, dropout = none)."


def test_none_is_called_best_that_cannot_be_told_from_another():
    one = summary(cell(0, 0.7, leading=True), cell(1, 0.71, leading=True), cell(2, 0.72, leading=True))
    assert finding(one) == [
        "No setting can be told from the best: lr = 2e-3, dropout = none has the highest score, 72.0\u202f%.",
        "None of 2 settings can be told from the baseline.",
    ]
    assert 'class="strong"' not in html(details(one))


def test_bold_is_what_is_proven_best():
    page = html(details(summary(cell(0, 0.7), cell(1, 0.9, "better", leading=True))))
    assert re.findall(r'class="strong">([^<]*)<', page) == ["90.0\u202f%"]


def test_a_verdict_says_what_it_takes():
    one = summary(cell(0, 0.7), cell(1, 0.71))
    assert (verdict(one, one.cells[0]), verdict_note(one, one.cells[0])) == ("baseline", "")
    assert (verdict(one, one.cells[1]), verdict_note(one, one.cells[1])) == ("cannot tell", "about 12 more seeds")

    def note(**values) -> str:
        base = {"value": 0.01, "low": 0, "high": 0, "p": 1, "p_corrected": 1, "by_seed": {0: 0, 1: 0}}
        difference = CellDifference(**(base | values), verdict="cannot tell")
        return verdict_note(one, cell(1, 0.71, difference=difference))

    assert note(pictures=1234) == "never with 296 validation pictures, about 1,300 would do"
    assert note() == "never with 296 validation pictures: more of them, and more seeds"
    assert note(value=0.0) == "no difference was seen"
    assert note(by_seed={0: 0.1}) == "one seed"
    assert note(more_seeds=1.0) == "about 1 more seed"


def test_the_methods_take_their_numbers_from_the_summary():
    text = methods(details(summary(cell(0, 0.7), cell(1, 0.9), seeds=(3, 12))))
    for part in (
        "2 settings, 6 trainings",
        "with 3 random seeds",
        "296 pictures, training on 1,184 pictures",
        "1 difference to the baseline was tested by a two-sided paired t test",
        "Holm's method at a level of 0.05",
        "from 3 to 12",
        "The test part was not used.",
    ):
        assert part in text


def test_the_baseline_is_named_where_tables_call_it_so():
    one = summary(cell(0, 0.7), cell(1, 0.9), one_at_a_time=True)
    assert "baseline, lr = 0e-3, dropout = none, (2 settings" in methods(replace(details(one), design="one-at-a-time"))
    assert "Baseline: lr = 0e-3, dropout = none. Validation and training" in html(details(one))
    assert "The baseline: lr = 0e-3, dropout = none." in text(one).splitlines()
    assert "The baseline:" not in text(replace(one, one_at_a_time=False))


def test_the_methods_say_what_chance_was():
    one = summary(cell(0, 0.7), cell(1, 0.9))
    assert "3 random seeds, which change initial weights and order of the pictures; for one seed" in methods(
        details(one)
    )
    split = methods(details(replace(one, varied=("split",), shared_pictures=False)))
    assert "validation parts of 296 pictures, drawn anew for each split" in split
    assert "Nadeau and Bengio" in split
    nested = methods(details(replace(one, varied=("order", "split"), nested=True, seeds=(2, 2), shared_pictures=False)))
    assert "trained 4 times: 2 splits of the pictures, for each of these 2 orders of the pictures" in nested
    assert "Trainings that share a split of the pictures are not independent" in nested
    assert "so n = 2." in nested
    assert "paired t test over splits of the pictures" in nested
    assert "Student's t over splits of the pictures" in nested
    assert "random seeds" not in nested


def test_the_methods_of_folds_pruning_and_a_closed_study():
    stopped = cell(1, 0.9, stopped={"given up": 2}, failed={"NaN": 1})
    one = replace(details(summary(cell(0, 0.7), stopped)), folds=5, design="optuna")
    text = methods(replace(one, test=[("winner", "90 %", "")]))
    assert "6 trainings, 5 folds each" in text
    assert "cross-validation over 296 pictures." in text  # on how many pictures a fold trains is another number
    assert "2 trainings were stopped early by the search and are left out." in text
    assert "1 training failed and is left out." in text
    assert "The test part was opened once, after all choices" in text


def test_a_share_that_is_no_half_is_not_most_and_chance_makes_nothing():
    factors = [Importance("stages.0.lr × dropout", 0.4), Importance("dropout", 0.35)]
    one = summary(cell(0, 0.7), cell(1, 0.9, "better", leading=True), importance=factors)
    assert finding(one)[2] == "lr × dropout makes the largest part of the differences between settings (40\u202f%)."
    half = replace(one, importance=[Importance("dropout", 0.6)])
    assert "dropout makes most of the differences" in finding(half)[2]
    chance = summary(cell(0, 0.7, leading=True), cell(1, 0.71, leading=True), importance=factors)
    assert len(finding(chance)) == 2


def test_several_objectives_have_their_columns_and_their_front():
    cells = [cell(i, 0.7 + i / 10, others={"macro_f1": 0.9 - i / 10}, on_front=i > 0) for i in range(3)]
    one = summary(*cells, others=["macro_f1", "seconds"])
    assert finding(one)[2] == (
        "In accuracy, macro f1 and seconds together, 2 settings are beaten by no other: "
        "lr = 1e-3, dropout = none; lr = 2e-3, dropout = none."
    )
    page = html(details(one))
    assert "Score against macro f1" in page
    assert page.count(" ◆<") == 2
    assert [record["macro_f1"] for record in records(one)] == [0.9, 0.8, 0.7]
    assert [record["on_front"] for record in records(one)] == [0, 1, 1]
    assert "seconds" not in records(one)[0]  # there are minutes
    assert markdown(one).splitlines()[0].endswith("| parameters | macro f1 |")


def whole_study() -> StudyDetails:
    """A study with every section and every chart."""
    bands = {
        f"{part}_{measure}": Band(*(np.array([0.5, 0.6]) + d for d in (0, -0.1, 0.1)))
        for part in ("training", "validation")
        for measure in ("accuracy", "loss")
    }
    levels = [LevelEffect(f"{i}e-3", {0: 0.7, 1: 0.8}, Span(0.75, math.nan, math.nan, 2), 1) for i in (0, 1)]
    one = summary(
        cell(0, 0.7, still_rising=2),
        cell(1, 0.9, "better", leading=True, failed={"The loss is not finite.": 1}, stopped={"pruned": 1}),
        effects=[FactorEffect("stages.0.lr", levels)],
        interactions=[Interaction("stages.0.lr", "dropout", ["a", "b"], ["c", "d"], [[0.1, math.nan], [0.2, 0.3]])],
        importance=[Importance("stages.0.lr", 0.8), Importance("stages.0.lr × dropout", 0.1)],
        importance_method="exact",
        variance=[VarianceShare("initial weights", 1.0, 0.01, 4)],
    )
    ranks = Ranks(["a", "b", "c"], ["x", "y"], [1.2, 1.8], [(1.2, 1.8)], 0.9, 0.2, "Nemenyi's test")
    return details(
        one,
        curves={f"c{i}": Banded(range(1, 3), bands, 2) for i in (0, 1)},
        facts=[("processor", "EPYC")],
        command="tellapart study batch.toml",
        ranks=ranks,
    )


def charts_of(blocks) -> list[Chart]:
    """All charts, also those side by side and behind a click."""
    inside = [block for one in blocks if isinstance(one, Side | Fold) for block in one.blocks]
    return [one for one in blocks if isinstance(one, Chart)] + (charts_of(inside) if inside else [])


def test_every_chart_says_what_it_shows_and_has_its_numbers():
    charts = charts_of([block for section in study_page(whole_study()).sections for block in section.blocks])
    assert len(charts) > 10
    for chart in charts:
        assert re.search(r"\d", chart.caption), chart.title
        assert chart.table is not None, chart.title
        assert chart.table.rows, chart.title
        assert re.search(r'aria-label="[^"]*: [^"]*\d', str(chart.svg)), chart.title
    finding = next(chart for chart in charts if chart.title == "lr")
    assert finding.caption.startswith("All have 75")


def test_all_sections_are_there_and_points_open_their_runs():
    page = html(whole_study())
    anchors = re.findall(r'<section id="(\w+)"', page)
    assert anchors == [
        "finding",
        "settings",
        "effects",
        "curves",
        "tradeoffs",
        "importance",
        "ranks",
        "trouble",
        "methods",
    ]
    assert '<a href="cells/c1/0/" aria-label="' in page
    assert 'href="cells/c1/"' in page
    for words in (
        "The loss is not finite.",
        "pruned",
        "1 setting still rising",
        "Gap at epoch 2",
        "lr × dropout",
        "EPYC",
    ):
        assert words in page


def test_names_cannot_write_html():
    evil = '"><script>alert(1)</script>'
    one = summary(cell(0, 0.7, levels={evil: evil}), cell(1, 0.9, levels={evil: "\u202e"}, failed={evil: 1}))
    page = html(details(one))
    assert "<script>alert" not in page
    assert "\u202e" not in page


def test_two_thousand_cells_are_a_page_of_less_than_five_megabytes():
    cells = [cell(i, 0.5 + i / 10_000, "better" if i % 2 else "worse") for i in range(2_000)]
    page = html(details(summary(*cells)))
    assert len(page.encode()) < 5e6
    assert "The best 300 of 2,000 settings; all are in table.csv." in page
    assert ">baseline<" in page


@pytest.mark.parametrize("scored", [0, 1])
def test_a_study_that_has_hardly_begun_has_a_page(scored):
    empty = replace(cell(1, 0.7), scores={}, score=span(math.nan), difference=None)
    cells = [empty] if not scored else [cell(0, 0.7), empty]
    page = html(details(summary(*cells, best="c0" if scored else "", tested=0)))
    assert "No setting has a score yet." in page or "One setting has a score" in page


def test_the_pareto_front_is_what_no_other_beats_in_both():
    points = [(1, 0.5), (2, 0.7), (3, 0.6), (2, 0.4), (4, 0.9)]
    assert pareto(points, lower_is_better=False) == [0, 1, 4]
    assert pareto([(1, 0.5), (2, 0.4), (3, 0.6)], lower_is_better=True) == [0, 1]
