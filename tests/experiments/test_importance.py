"""Importance of factors, effects and interactions, on tables whose answer is known."""

from __future__ import annotations

from itertools import product

import numpy as np
import polars as pl
import pytest

from tellapart.evaluation.study_summary import CellResult, StudySummary
from tellapart.experiments.description import Description, Factor, Level, Objective
from tellapart.experiments.factor_effects import factor_effects, interactions
from tellapart.experiments.importance import ADDITIVE, EXACT, PED, exact, importance
from tellapart.experiments.paired_cells import span
from tellapart.experiments.variance_shares import nested_components, variance_shares


def made_up(design, factors, score, cells=None, kind="list"):
    """Summary and description of cells with one seed each; `score` gives a cell's from its labels."""
    chosen = cells or [dict(zip(factors, labels, strict=True)) for labels in product(*factors.values())]
    results = [
        CellResult(str(i), i, levels, {0: score(**levels)}, span([score(**levels)]), span([]), span([]), None)
        for i, levels in enumerate(chosen)
    ]
    description = Description(
        name="s",
        objectives=(Objective(name="accuracy", direction="maximize"),),
        factors=tuple(
            Factor(name=name, kind=kind, levels=tuple(Level(label=x) for x in labels) if kind == "list" else ())
            for name, labels in factors.items()
        ),
        design=design,
        baseline="0",
        seeds=1,
    )
    return StudySummary("accuracy", False, "0", results, "0"), description


FACTORS = {"a": ["0", "1", "2"], "b": ["0", "1"]}


def test_a_grid_whose_effects_add_up_has_no_interaction():
    shares, method = importance(*made_up("grid", FACTORS, lambda a, b: int(a) * 2 + int(b)))
    assert method == EXACT
    variance_a, variance_b = np.var([0, 2, 4]), np.var([0, 1])
    total = variance_a + variance_b
    assert {one.name: one.share for one in shares} == pytest.approx(
        {"a": variance_a / total, "b": variance_b / total, "a × b": 0}, abs=1e-12
    )


def test_an_interaction_alone_leaves_the_factors_nothing():
    def both(a, b):
        return (int(a) - 0.5) * (int(b) - 0.5)

    shares, _ = importance(*made_up("grid", {"a": ["0", "1"], "b": ["0", "1"]}, both))
    assert [(one.name, one.share) for one in shares[:1]] == [("a × b", pytest.approx(1))]


def test_shares_of_two_factors_are_the_whole():
    table = np.random.default_rng(0).normal(size=(4, 5))
    assert sum(exact(["a", "b"], table).values()) == pytest.approx(1)
    assert exact(["a", "b"], np.full((2, 2), 0.5)) == {}


def test_one_thing_at_a_time_adds_up():
    cells = [{"a": "0", "b": "0"}, {"a": "1", "b": "0"}, {"a": "0", "b": "1"}]
    summary, description = made_up(
        "one-at-a-time", {"a": ["0", "1"], "b": ["0", "1"]}, lambda a, b: 3 * int(a) + int(b), cells
    )
    shares, method = importance(summary, description)
    assert method == ADDITIVE
    assert {one.name: one.share for one in shares} == pytest.approx({"a": 0.9, "b": 0.1})
    assert interactions(summary, description) == []


def test_in_a_search_the_factor_that_matters_comes_first():
    rng = np.random.default_rng(1)
    factors = {name: [repr(float(x)) for x in rng.uniform(0.1, 1, 60)] for name in ("matters", "idle")}
    cells = [dict(zip(factors, labels, strict=True)) for labels in zip(*factors.values(), strict=True)]
    summary, description = made_up(
        "optuna", factors, lambda matters, idle: -((float(matters) - 0.4) ** 2), cells, "range"
    )
    shares, method = importance(summary, description)
    assert method == PED
    assert shares[0].name == "matters"
    assert shares[0].share > 0.7


def test_a_grid_with_a_gap_is_no_whole_grid():
    cells = [{"a": a, "b": b} for a, b in product(FACTORS["a"], FACTORS["b"])][:-1]
    assert importance(*made_up("grid", FACTORS, lambda a, b: int(a), cells)) == ([], "")


def test_effects_are_means_over_the_other_factors():
    summary, description = made_up("grid", FACTORS, lambda a, b: int(a) * 2 + int(b))
    effects = {
        effect.factor: [(level.level, level.score.value, level.n_cells) for level in effect.levels]
        for effect in factor_effects(summary, description)
    }
    assert effects == {"a": [("0", 0.5, 2), ("1", 2.5, 2), ("2", 4.5, 2)], "b": [("0", 2.0, 3), ("1", 3.0, 3)]}
    (table,) = interactions(summary, description)
    assert table.scores == [[0, 1], [2, 3], [4, 5]]


def test_numbers_of_a_search_are_in_order():
    cells = [{"lr": x} for x in ("0.5", "0.01", "0.1")]
    summary, description = made_up("random", {"lr": []}, lambda lr: float(lr), cells, "range")
    (effect,) = factor_effects(summary, description)
    assert effect.continuous
    assert [level.level for level in effect.levels] == ["0.01", "0.1", "0.5"]


def test_variance_components_of_a_balanced_table_are_the_textbook_ones():
    """One-way: (mean square between − within) / n, and within."""
    rng = np.random.default_rng(2)
    table = rng.normal(size=(6, 1)) + rng.normal(0, 0.5, (6, 4))
    keys = [["cell"] * 24, np.repeat(np.arange(6), 4).tolist(), list(range(24))]
    within = table.var(axis=1, ddof=1).mean()
    between = 4 * table.mean(axis=1).var(ddof=1)
    assert nested_components(keys, table.ravel()) == pytest.approx([(between - within) / 4, within])


def test_planted_components_are_found_again():
    rng = np.random.default_rng(3)
    rows = []
    for split in range(60):
        of_split = rng.normal(0, 0.03)
        for init in range(3):
            of_init = rng.normal(0, 0.01)
            for order in range(2 + split % 2):  # not balanced
                value = 0.8 + of_split + of_init + rng.normal(0, 0.02)
                rows.append(("c", value, split, 10 * split + init, 100 * split + 10 * init + order))
    runs = pl.DataFrame(rows, schema=["cell", "score", "split_seed", "init_seed", "order_seed"], orient="row")
    shares = variance_shares(runs)
    assert [one.deviation for one in shares] == pytest.approx([0.03, 0.01, 0.02], rel=0.35)
    assert sum(one.share for one in shares) == pytest.approx(1)
    assert variance_shares(runs.filter(pl.col("split_seed") < 0)) == []
    assert variance_shares(runs.with_columns(score=pl.lit(0.5))) == []
