"""From the trainings of a study to its summary: cells, their differences to the baseline, and verdicts.

The unit is the cell, not the run: its mean over seeds. Differences are paired (`paired_cells`), p-values of seeds added
on demand are sequential (`sequential`), and all cells are corrected together by Holm's method.

*Leading* cells are the best one and those that cannot be told from it. A cell is left out only if its p-value against
the best, times the number of other cells, is below 0.05: so the truly best one is left out in at most 5 % of studies
(multiple comparisons with the best, Hsu 1996, with Bonferroni's bound).
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from tellapart.core.predictions import Predictions
from tellapart.core.text import counted
from tellapart.evaluation.chance import at_chance, constant_accuracy
from tellapart.evaluation.comparison import Answered
from tellapart.evaluation.intervals import resampled_rows
from tellapart.evaluation.metrics import ONE_LABEL, SEVERAL_LABELS, known
from tellapart.evaluation.significance import ALPHA, holm
from tellapart.evaluation.study_summary import CellDifference, CellResult, StudySummary
from tellapart.evaluation.weighted_scores import scorer
from tellapart.experiments.description import Description
from tellapart.experiments.factor_effects import factor_effects, interactions
from tellapart.experiments.importance import importance
from tellapart.experiments.paired_cells import Scores, corrected, described, parts, span
from tellapart.experiments.pareto import with_objectives
from tellapart.experiments.results import DONE, FAILED, STOPPED, StudyResults
from tellapart.experiments.seeds import n_first
from tellapart.experiments.sequential import sequential_p
from tellapart.experiments.variance_shares import SOURCES, variance_shares

#: Resamples of the pictures: their variance is then known to 4 %.
_N_RESAMPLES = 500


def summarise(results: StudyResults) -> StudySummary:
    """Judge a study by the trainings that have ended.

    A cell whose trainings failed has no score and no verdict; it is in the summary with its reasons. A training whose
    score is not finite counts as failed.

    Raises:
        RunError: predictions of a training are missing or damaged.
    """
    description = results.description
    metric = description.objective.name
    lower = description.objective.direction == "minimize"
    runs = _by_cell(results.runs)
    each = _scores(results, runs, metric)
    scores = {cell: _independent(one, runs[cell], description) for cell, one in each.items()}
    cells = [_cell(cell, own, each[cell], scores[cell]) for cell, own in runs.items()]
    plan = seed_plan(results)
    cells, tested = _against_baseline(cells, scores, description.baseline, plan, lower)
    best = _best(cells, lower, n_first(description))
    cells = _mark_leading(cells, scores, best, plan)
    cells = with_objectives(cells, runs, description.objectives)
    shared = not _own_pictures(results)
    summary = StudySummary(
        metric=metric,
        lower_is_better=lower,
        baseline=description.baseline,
        cells=cells,
        best=best,
        n_pictures=description.n_validation if _is_metric(metric) else 0,
        shared_pictures=shared,
        seeds=plan,
        tested=tested,
        one_at_a_time=description.design == "one-at-a-time",
        others=[objective.name for objective in description.objectives[1:]],
        varied=description.vary_randomness,
        nested=description.nested,
    )
    return replace(_with_factors(summary, results), notes=_notes(summary, results))


def undecided(summary: StudySummary) -> list[str]:
    """Ids of the cells that the next seed is for: those that cannot be told from the baseline yet, and the baseline.

    Empty once all are decided, or have as many seeds as the plan allows.
    """
    last = summary.seeds[1]
    open_cells = [
        one.cell
        for one in summary.cells
        if one.cell != summary.baseline
        and 0 < one.n < last
        and not (one.failed or one.stopped)
        and (one.difference is None or one.difference.verdict == "cannot tell")
    ]
    baseline = summary.cell(summary.baseline)
    needs = open_cells and baseline is not None and baseline.n < last
    return [summary.baseline, *open_cells] if needs else open_cells


def seed_plan(results: StudyResults) -> tuple[int, int]:
    """Planned seeds a cell, (first, last)."""
    seeds = results.description.seeds
    return (seeds, seeds) if isinstance(seeds, int) else (seeds.first, seeds.last)


def _by_cell(runs: pl.DataFrame) -> dict[str, list[dict[str, Any]]]:
    grouped: dict[str, list[dict[str, Any]]] = {}
    for row in runs.sort("number", "seed", "fold").iter_rows(named=True):
        grouped.setdefault(row["cell"], []).append(row)
    return grouped


def _by_seed(rows: Sequence[Mapping[str, Any]], n_folds: int) -> Iterator[tuple[int, list[Mapping[str, Any]]]]:
    """Each seed of a cell whose trainings (one, or one a fold) are all done."""
    for seed in sorted({row["seed"] for row in rows}):
        own = [row for row in rows if row["seed"] == seed]
        usable = [row for row in own if row["status"] == DONE and _finite(row["score"])]
        if len(usable) == len(own) == max(1, n_folds):
            yield seed, usable


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _own_pictures(results: StudyResults) -> bool:
    """Whether each seed is judged on validation pictures of its own."""
    return "split" in results.description.vary_randomness and not results.description.folds


def _is_metric(name: str) -> bool:
    return name in ONE_LABEL or name in SEVERAL_LABELS


def _scores(results: StudyResults, runs: Mapping[str, list[dict[str, Any]]], metric: str) -> dict[str, Scores]:
    """Each cell's scores, also on resampled pictures where all trainings are judged on the same ones."""
    folds = results.description.folds
    done = {cell: dict(_by_seed(rows, folds)) for cell, rows in runs.items()}
    by_seed = {
        cell: {seed: float(np.mean([row["score"] for row in rows])) for seed, rows in seeds.items()}
        for cell, seeds in done.items()
    }
    n, share = results.description.n_validation, metric != "log_loss"
    if not _is_metric(metric):
        return {cell: Scores(values, {}) for cell, values in by_seed.items()}
    if _own_pictures(results):
        overlap = n / results.description.n_train if results.description.n_train else 0.0
        return {cell: Scores(values, {}, n, overlap, share) for cell, values in by_seed.items()}
    resamples = _Resamples(metric)
    return {
        cell: Scores(
            by_seed[cell],
            {seed: resamples.of(_together(results, rows)) for seed, rows in seeds.items()},
            n,
            0.0,
            share,
        )
        for cell, seeds in done.items()
    }


def _together(results: StudyResults, rows: Sequence[Mapping[str, Any]]) -> Predictions:
    """The predictions of one seed: of all its folds together, each picture once."""
    every = [results.predictions(row["path"]) for row in rows]
    if len(every) == 1:
        return every[0]
    masks = [np.zeros(p.logits.shape, bool) if p.unknown is None else p.unknown for p in every]
    unknown = np.concatenate(masks) if any(p.unknown is not None for p in every) else None
    row, logits, target = (np.concatenate([getattr(p, name) for p in every]) for name in ("row", "logits", "target"))
    return Predictions.of(row, logits, target, every[0].classes, unknown)


class _Resamples:
    """Scores of predictions on resamples: the same ones for all that were judged on the same pictures.

    A cell that has another validation part (a factor moves `data.validation`) has resamples of its own. They are
    independent, so the variance of its difference is that of both parts; where these overlap, that is too much.
    """

    def __init__(self, metric: str) -> None:
        self.metric = metric
        self._weights: dict[bytes, list[npt.NDArray[np.float32]]] = {}

    @property
    def n_parts(self) -> int:
        """How many different sets of pictures there are."""
        return len(self._weights)

    def of(self, predictions: Predictions) -> npt.NDArray[Any]:
        """[n_resamples], float32 so that thousands of cells fit into memory."""
        answered = known(predictions)
        key = answered.row.tobytes()
        if key not in self._weights:
            generator = np.random.default_rng(self.n_parts)
            self._weights[key] = list(resampled_rows(len(answered), _N_RESAMPLES, generator))
        score = scorer(Answered(answered), self.metric)
        return np.concatenate([score(weights) for weights in self._weights[key]]).astype(np.float32)


def _independent(scores: Scores, rows: Sequence[Mapping[str, Any]], description: Description) -> Scores:
    """The scores whose luck is independent: of nested seeds, the mean for each outermost one."""
    if not description.nested:
        return scores
    outermost = next(name for name in SOURCES if name.removesuffix("_seed") in description.vary_randomness)
    groups: dict[int, list[int]] = {}
    for row in rows:
        if row["seed"] in scores.by_seed:
            groups.setdefault(row[outermost], []).append(row["seed"])
    return replace(
        scores,
        by_seed={outer: float(np.mean([scores.by_seed[s] for s in seeds])) for outer, seeds in groups.items()},
        resampled={outer: np.mean([scores.resampled[s] for s in seeds], axis=0) for outer, seeds in groups.items()}
        if scores.resampled
        else {},
    )


def _cell(cell: str, rows: Sequence[Mapping[str, Any]], scores: Scores, independent: Scores) -> CellResult:
    """A cell; its interval is over the scores whose luck is `independent`."""
    done = [row for row in rows if row["seed"] in scores.by_seed]
    first_of_seed = {row["seed"]: row for row in reversed(rows)}
    sizes = [row["n_parameters"] for row in rows if row["n_parameters"]]
    reasons = {
        status: Counter(row["reason"] or "no reason was written" for row in rows if row["status"] == status)
        for status in (FAILED, STOPPED)
    }
    endless = [row for row in rows if row["status"] == DONE and not _finite(row["score"])]
    reasons[FAILED].update("its score is not finite" for _ in endless)
    seconds = [sum(r["seconds"] or 0.0 for r in done if r["seed"] == seed) for seed in scores.by_seed]
    return CellResult(
        cell=cell,
        number=rows[0]["number"],
        levels=json.loads(rows[0]["levels"]),
        scores=scores.by_seed,
        score=span(list(independent.by_seed.values())),
        training=span([row["training_score"] for row in done if _finite(row["training_score"])]),
        minutes=span([s / 60 for s in seconds]),
        n_parameters=sizes[0] if sizes else None,
        still_rising=len({row["seed"] for row in done if row["still_rising"]}),
        failed=reasons[FAILED],
        stopped=reasons[STOPPED],
        paths={seed: row["path"] for seed, row in sorted(first_of_seed.items())},
    )


def _against_baseline(
    cells: Sequence[CellResult], scores: Mapping[str, Scores], baseline: str, plan: tuple[int, int], lower: bool
) -> tuple[list[CellResult], int]:
    """The cells with their differences to the baseline, corrected for all; and the number of these."""
    others = [one.cell for one in cells if one.cell != baseline and one.n] if baseline in scores else []
    p_values = {cell: _p_value(scores[cell], scores[baseline], plan) for cell in others}
    tested = sum(math.isfinite(p) for p in p_values.values())
    together = dict(zip(others, holm(list(p_values.values())).tolist(), strict=True)) if others else {}
    judged: dict[str, CellDifference] = {}
    for cell in others:
        plain = described(scores[cell], scores[baseline], p_values[cell], tested)
        if plain is not None:
            judged[cell] = corrected(plain, together[cell], lower)
    return [replace(one, difference=judged.get(one.cell)) for one in cells], tested


def _p_value(cell: Scores, other: Scores, plan: tuple[int, int]) -> float:
    """P of a difference; where seeds come on demand, of all looks so far."""
    n = len(cell.by_seed.keys() & other.by_seed.keys())
    if n < 2:
        return math.nan
    first, last = plan
    if first == last or n > last:
        between = parts(cell, other)
        return math.nan if between is None else between.p()
    looks = {k: between.p() for k in range(max(2, first), n + 1) if (between := parts(cell, other, k))}
    return sequential_p(looks, max(2, first), last)


def _best(cells: Sequence[CellResult], lower: bool, n_planned: int) -> str:
    """The best of the cells that have all seeds: one lucky seed, of which the others failed, is no best cell."""
    with_score = [one for one in cells if one.n]
    if not with_score:
        return ""
    enough = min(n_planned, max(one.n for one in with_score))
    sign = 1 if lower else -1
    whole = [one for one in with_score if one.n >= enough]
    return min(whole, key=lambda one: (sign * one.score.value, one.number)).cell


def _mark_leading(
    cells: Sequence[CellResult], scores: Mapping[str, Scores], best: str, plan: tuple[int, int]
) -> list[CellResult]:
    marked = []
    others = sum(1 for one in cells if one.n) - 1
    for one in cells:
        leading = bool(one.n) and one.cell == best
        if one.n and one.cell != best:
            # As for the verdicts: whoever looks after each seed must not find a difference by looking often.
            leading = not _p_value(scores[one.cell], scores[best], plan) * others < ALPHA
        marked.append(replace(one, leading=leading))
    return marked


def _with_factors(summary: StudySummary, results: StudyResults) -> StudySummary:
    description = results.description
    effects = factor_effects(summary, description)
    shares, method = importance(summary, description)
    return replace(
        summary,
        effects=effects,
        interactions=interactions(summary, description),
        importance=shares,
        importance_method=method,
        variance=variance_shares(results.runs) if description.nested else (),
    )


def _is_at_chance(summary: StudySummary, baseline: CellResult, results: StudyResults) -> bool:
    """Whether the baseline's accuracy is that of a constant answer, as far as its pictures tell."""
    predictions = results.predictions(baseline.paths[next(iter(baseline.scores))])  # a failed seed has none
    return at_chance(baseline.score.value, constant_accuracy(predictions.target), summary.n_pictures)


def _notes(summary: StudySummary, results: StudyResults) -> list[str]:
    notes = []
    if summary.best and all(one.n < 2 for one in summary.cells):
        notes.append("Each cell was trained once: another seed gives another score. Nothing can be told; add seeds.")
    missing = sum(1 for one in summary.cells if not one.n)
    if missing:
        have = "has" if missing == 1 else "have"
        notes.append(f"{counted(missing, 'cell')} of {len(summary.cells):,} {have} no score.")
    baseline = summary.cell(summary.baseline)
    if baseline is None or not baseline.n:
        notes.append("The baseline has no score yet: nothing is compared with it.")
    elif summary.metric == "accuracy" and _is_at_chance(summary, baseline, results):
        notes.append("The baseline cannot be told from chance: a network that has learned nothing compares nothing.")
    beyond = sum(1 for one in summary.cells if one.n > summary.seeds[1])
    if beyond and summary.on_demand:
        notes.append(f"{counted(beyond, 'cell')} had more seeds than planned: their p-values are those of plain tests.")
    if any("data.validation" in factor.keys for factor in results.description.factors):
        notes.append("Settings with another validation part were judged on other pictures: less of them can be told.")
    if results.description.state == "open":
        notes.append("This study is not finished: what stands here may change.")
    return notes
