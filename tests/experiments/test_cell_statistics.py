"""A study's trainings → cells, differences and verdicts."""

from __future__ import annotations

import json
import math
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tellapart.core.predictions import Predictions
from tellapart.evaluation.significance import holm
from tellapart.experiments.cell_statistics import summarise, undecided
from tellapart.experiments.description import Objective, SeedRange
from tellapart.experiments.pareto import front
from tellapart.experiments.results import CURVE, RESULT, VALIDATION, read_results
from tellapart.experiments.run_study import best_cell
from tellapart.experiments.study_report import write_report
from tests.experiments.made_up import cell_id, write_study

RATES = ["0.1", "0.01", "0.001", "0.0001"]
PLANTED = [({"lr": rate}, accuracy) for rate, accuracy in zip(RATES, (0.7, 0.7, 0.9, 0.5), strict=True)]


def study(folder, **more):
    values = {"n_seeds": 5, "n_pictures": 300, "random": 3} | more
    return read_results(write_study(folder, {"lr": RATES}, PLANTED, **values))


@pytest.fixture(scope="module")
def lr(tmp_path_factory):
    """Five seeds of four rates; tests only read it."""
    return study(tmp_path_factory.mktemp("study") / "lr")


def by_rate(summary):
    return {one.levels["lr"]: one for one in summary.cells}


def test_planted_differences_are_found_and_planted_equality_is_not_claimed(lr):
    cells = by_rate(summarise(lr))
    assert cells["0.1"].difference is None  # the baseline
    assert {rate: cells[rate].difference.verdict for rate in RATES[1:]} == {
        "0.01": "cannot tell",
        "0.001": "better",
        "0.0001": "worse",
    }
    assert [rate for rate in RATES if cells[rate].leading] == ["0.001"]


def test_means_intervals_and_p_values_are_those_of_scipy(lr):
    own_pictures = lr.description.model_copy(update={"vary_randomness": ("split", "init")})  # the seeds show all chance
    results = replace(lr, description=own_pictures)
    summary = summarise(results)
    table = {
        rate: results.runs.filter(results.runs["cell"] == cell_id({"lr": rate}))["score"].to_numpy() for rate in RATES
    }
    cells = by_rate(summary)
    p = [stats.ttest_rel(table[rate], table["0.1"]).pvalue for rate in RATES[1:]]
    assert [cells[rate].difference.p for rate in RATES[1:]] == pytest.approx(p, rel=1e-6)
    assert [cells[rate].difference.p_corrected for rate in RATES[1:]] == pytest.approx(holm(p).tolist(), rel=1e-6)
    for rate in RATES:
        assert cells[rate].score.value == pytest.approx(table[rate].mean())
        assert cells[rate].score.high == pytest.approx(
            stats.t.interval(0.95, 4, table[rate].mean(), stats.sem(table[rate]))[1]
        )
    assert not summary.shared_pictures


def test_the_choice_of_pictures_is_in_the_interval(tmp_path):
    few, many = (by_rate(summarise(study(tmp_path / str(n), n_pictures=n)))["0.001"].difference for n in (60, 1200))
    assert few.high - few.low > 1.5 * (many.high - many.low)
    assert 0 < many.picture_share < 1


def test_pictures_weigh_as_the_model_says(lr):
    """Variance components of accuracy by hand: mean squares of a table of seeds and pictures."""
    results = lr
    rows = {rate: results.runs.filter(results.runs["cell"] == cell_id({"lr": rate})) for rate in ("0.1", "0.001")}
    right = {
        rate: np.stack([(p := results.predictions(path)).logits.argmax(1) == p.target for path in table["path"]])
        for rate, table in rows.items()
    }
    d = right["0.001"].astype(float) - right["0.1"]
    n, m = d.shape
    rest = d - d.mean(0, keepdims=True) - d.mean(1, keepdims=True) + d.mean()
    mean_square_rest = (rest**2).sum() / (n - 1) / (m - 1)
    of_seeds = d.mean(1).var(ddof=1) / n
    of_pictures = max(0.0, d.mean(0).var(ddof=1) / m - mean_square_rest / n / m) + 2 / (m + 2) / m
    difference = by_rate(summarise(results))["0.001"].difference
    assert difference.picture_share == pytest.approx(of_pictures / (of_seeds + of_pictures), abs=0.06)
    reach = math.sqrt(stats.t.isf(0.025, n - 1) ** 2 * of_seeds + stats.norm.isf(0.025) ** 2 * of_pictures)
    assert difference.high - difference.value == pytest.approx(reach, rel=0.05)


def test_folds_are_one_score_a_seed_over_all_pictures(tmp_path):
    results = study(tmp_path / "folds", folds=3, n_seeds=3)
    cell = by_rate(summarise(results))["0.001"]
    own = results.runs.filter(results.runs["cell"] == cell_id({"lr": "0.001"}))
    assert cell.n == 3
    assert cell.scores[0] == pytest.approx(own.filter(own["seed"] == 0)["score"].mean())
    assert cell.minutes.value == pytest.approx(own["seconds"].sum() / 3 / 60)


def spoil(results, rate, seed, **values):
    path = results.directory / "cells" / cell_id({"lr": rate}) / str(seed) / RESULT
    path.write_text(json.dumps(json.loads(path.read_text()) | values))
    if values["status"] != "done":  # such a training leaves its result alone
        (path.parent / VALIDATION).unlink()
        (path.parent / CURVE).unlink()


def test_a_lucky_seed_whose_others_failed_is_not_the_best(tmp_path):
    results = study(tmp_path / "lr", n_seeds=3)
    for seed in (1, 2):
        spoil(results, "0.001", seed, status="failed", reason="memory ran out")
    results = read_results(results.directory)
    summary = summarise(results)
    assert summary.best == best_cell(results) != cell_id({"lr": "0.001"})
    assert by_rate(summary)["0.001"].score.value > max(cell.score.value for cell in summary.cells if cell.n == 3)
    assert not by_rate(summary)["0.0001"].leading  # by one seed, nothing could be told


def test_looking_often_leaves_no_cell_out_of_the_leading_ones(lr):
    """A difference that a plain test tells, and a look before the last does not, is none yet."""
    few = replace(lr, runs=lr.runs.filter(pl.col("seed") < 3))
    plain = by_rate(summarise(replace(few, description=few.description.model_copy(update={"seeds": 3}))))
    planned = few.description.model_copy(update={"seeds": SeedRange(first=2, last=40)})
    early = by_rate(summarise(replace(few, description=planned)))
    assert plain["0.001"].difference.verdict == "better"
    assert early["0.001"].difference.verdict == "cannot tell"
    assert not plain["0.1"].leading
    assert early["0.1"].leading


def test_the_front_of_several_objectives(lr):
    objectives = (Objective(name="accuracy", direction="maximize"), Objective(name="seconds", direction="minimize"))
    about = lr.description.model_copy(update={"objectives": objectives})
    dear = lr.runs.with_columns(seconds=pl.when(pl.col("cell") == cell_id({"lr": "0.001"})).then(9.0).otherwise(2.0))
    cells = by_rate(summarise(replace(lr, description=about, runs=dear)))
    assert [cells[rate].others["seconds"] for rate in RATES] == [2.0, 2.0, 9.0, 2.0]
    equal = max(("0.1", "0.01"), key=lambda rate: cells[rate].score.value)
    assert {rate for rate in RATES if cells[rate].on_front} == {equal, "0.001"}


@given(st.lists(st.tuples(*[st.sampled_from([0.0, 1.0, 2.0, math.nan])] * 3), max_size=12))
def test_a_front_is_what_nothing_dominates(points):
    def beaten(a, b):
        return all(x <= y for x, y in zip(b, a, strict=True)) and b != a

    whole = [p for p in points if not any(map(math.isnan, p))]
    expected = [p in whole and not any(beaten(p, other) for other in whole) for p in points]
    assert front(np.array(points, float).reshape(-1, 3)).tolist() == expected


def test_failed_stopped_and_endless_trainings_keep_their_reasons(tmp_path):
    results = study(tmp_path / "lr", n_seeds=3)
    for seed in range(3):
        spoil(results, "0.01", seed, status="failed", reason="the loss is not finite")
    spoil(results, "0.001", 0, status="stopped", reason="stopped after 2 epochs by the search")
    summary = summarise(read_results(results.directory))
    cells = by_rate(summary)
    assert cells["0.01"].failed == {"the loss is not finite": 3}
    assert (cells["0.01"].n, cells["0.01"].difference, cells["0.01"].leading) == (0, None, False)
    assert cells["0.001"].stopped == {"stopped after 2 epochs by the search": 1}
    assert cells["0.001"].n == 2
    assert summary.tested == 2
    assert any("1 cell of 4 has no score" in note for note in summary.notes)


def test_one_seed_says_that_nothing_can_be_told(tmp_path):
    summary = summarise(study(tmp_path / "lr", n_seeds=1))
    assert {one.difference.verdict for one in summary.cells if one.difference} == {"cannot tell"}
    assert all(one.leading for one in summary.cells)
    assert any("trained once" in note for note in summary.notes)


def test_a_baseline_that_learned_something_is_not_at_chance(lr):
    assert summarise(lr).notes == []


def test_a_study_without_a_baseline_score_compares_nothing(tmp_path):
    results = study(tmp_path / "lr", n_seeds=2)
    for seed in range(2):
        spoil(results, "0.1", seed, status="failed", reason="killed")
    summary = summarise(read_results(results.directory))
    assert all(one.difference is None for one in summary.cells)
    assert any("baseline has no score" in note for note in summary.notes)


def test_a_baseline_whose_first_seed_failed_is_compared_on_the_others(tmp_path):
    results = study(tmp_path / "lr", n_seeds=3)
    spoil(results, "0.1", 0, status="failed", reason="killed")
    summary = summarise(read_results(results.directory))
    cells = by_rate(summary)
    assert (cells["0.1"].n, cells["0.1"].failed) == (2, {"killed": 1})
    assert set(cells["0.001"].difference.by_seed) == {1, 2}
    assert write_report(results.directory, paper=False).is_file()


def test_seconds_are_judged_over_seeds_alone(lr):
    description = lr.description.model_copy(update={"objectives": (Objective(name="seconds", direction="minimize"),)})
    write = replace(lr, description=description, runs=lr.runs.with_columns(score="seconds"))
    summary = summarise(write)
    assert (summary.metric, summary.lower_is_better, summary.n_pictures) == ("seconds", True, 0)
    assert all(one.difference.picture_share == 0 for one in summary.cells if one.difference)


def test_a_cell_judged_on_other_pictures_is_less_sure(lr, tmp_path):
    """Its pictures are no pairs, so that their chance counts twice."""
    folder = tmp_path / "lr"
    shutil.copytree(lr.directory, folder)
    before = by_rate(summarise(lr))["0.01"].difference
    for path in folder.glob(f"cells/{cell_id({'lr': '0.01'})}/*/validation.parquet"):
        p = Predictions.load(path)
        replace(p, row=p.row + 1_000).save(path)
    after = by_rate(summarise(read_results(folder)))["0.01"].difference
    assert after.value == before.value
    assert after.high - after.low > 1.2 * (before.high - before.low)


def test_seeds_go_to_the_undecided_and_to_the_baseline(tmp_path):
    results = study(tmp_path / "lr", n_seeds=6, spread=0.003, seeds=SeedRange(first=3, last=8))
    summary = summarise(results)
    verdicts = {rate: one.difference.verdict for rate, one in by_rate(summary).items() if one.difference}
    assert verdicts == {"0.01": "cannot tell", "0.001": "better", "0.0001": "worse"}
    assert undecided(summary) == [cell_id({"lr": "0.1"}), cell_id({"lr": "0.01"})]


def test_no_seeds_beyond_the_plan(tmp_path):
    results = study(tmp_path / "lr", n_seeds=4, seeds=SeedRange(first=3, last=4))
    assert undecided(summarise(results)) == []


def test_seeds_on_demand_ask_for_smaller_p_values(lr):
    plan = lr.description.model_copy(update={"seeds": SeedRange(first=3, last=12)})
    at_once, on_demand = by_rate(summarise(lr)), by_rate(summarise(replace(lr, description=plan)))
    assert on_demand["0.001"].difference.p > 2 * at_once["0.001"].difference.p


def test_a_baseline_at_chance_is_no_study(tmp_path):
    results = read_results(
        write_study(tmp_path / "c", {"lr": ["1", "2"]}, [({"lr": "1"}, 0.35), ({"lr": "2"}, 0.8)], 2, 90, random=1)
    )
    assert any("from chance" in note for note in summarise(results).notes)


def test_nested_seeds_count_once_for_each_outermost(lr):
    """Trainings that share their initial weights are no independent ones: n is that of the outermost seeds."""
    nested = lr.description.model_copy(update={"nested": True, "vary_randomness": ("init", "order"), "seeds": 2})
    runs = lr.runs.filter(lr.runs["seed"] < 4).with_columns(init_seed=pl.col("seed") // 2, order_seed="seed")
    summary = summarise(replace(lr, description=nested, runs=runs))
    cell = by_rate(summary)["0.001"]
    own = runs.filter(runs["cell"] == cell.cell)["score"].to_numpy().reshape(2, 2).mean(axis=1)
    assert (cell.n, cell.score.n) == (4, 2)
    assert list(cell.difference.by_seed) == [0, 1]
    assert cell.score.high == pytest.approx(stats.t.interval(0.95, 1, own.mean(), stats.sem(own))[1])
    assert [one.source for one in summary.variance] == [
        "initial weights",
        "order of the pictures, augmentation and dropout",
    ]
