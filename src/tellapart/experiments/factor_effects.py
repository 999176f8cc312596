"""What each factor does: scores of its levels, seed by seed, with all else alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import combinations

import numpy as np

from tellapart.evaluation.study_summary import CellResult, FactorEffect, Interaction, LevelEffect, StudySummary
from tellapart.experiments.description import Description, Factor
from tellapart.experiments.paired_cells import span

#: A figure of more levels than this is read as a scatter of points.
MOST_LEVELS = 20
#: A factor with more levels makes no heat map that could be read.
_MOST_SIDES = 24


def factor_effects(summary: StudySummary, description: Description) -> list[FactorEffect]:
    """One a factor that has at least two levels with a score.

    In a study of one thing at a time, a level's score is that of the cell which differs from the baseline in this
    factor alone. Else it is the mean over all cells with that level.
    """
    effects = []
    for factor in description.factors:
        groups = _groups(summary, description, factor)
        levels = [_level(label, cells) for label, cells in groups.items()]
        known = [level for level in levels if level.score.n]
        if len(known) < 2:
            continue
        drawn = factor.kind == "range" and not factor.levels
        if drawn:
            known.sort(key=lambda level: number_of(level.level))
        effects.append(FactorEffect(factor.name, known, drawn or len(known) > MOST_LEVELS, factor.log))
    return effects


def number_of(label: str) -> float:
    """A level's label as a number; NaN where it is none."""
    try:
        return float(label)
    except ValueError:
        return math.nan


def level_labels(summary: StudySummary, factor: Factor) -> list[str]:
    """Labels of a factor's levels: in the file's order, then those that a search drew."""
    drawn = (one.levels[factor.name] for one in summary.cells if factor.name in one.levels)
    return list(dict.fromkeys([*(level.label for level in factor.levels), *drawn]))


def _groups(summary: StudySummary, description: Description, factor: Factor) -> dict[str, list[CellResult]]:
    baseline = summary.cell(summary.baseline)
    alone = description.design == "one-at-a-time" and baseline is not None
    groups: dict[str, list[CellResult]] = {label: [] for label in level_labels(summary, factor)}
    for one in summary.cells:
        label = one.levels.get(factor.name)
        if label is None or (alone and baseline is not None and _others_differ(one, baseline, factor.name)):
            continue
        groups[label].append(one)
    return groups


def _others_differ(one: CellResult, baseline: CellResult, factor: str) -> bool:
    names = (one.levels.keys() | baseline.levels.keys()) - {factor}
    return any(one.levels.get(name) != baseline.levels.get(name) for name in names)


def _level(label: str, cells: Sequence[CellResult]) -> LevelEffect:
    cells = [one for one in cells if one.n]
    scores = {seed: _mean(one.scores[seed] for one in cells if seed in one.scores) for seed in _seeds(cells)}
    return LevelEffect(label, scores, span(list(scores.values())), len(cells))


def _seeds(cells: Sequence[CellResult]) -> list[int]:
    """Seeds that all cells have; where there are none, those of any."""
    every = [set(one.scores) for one in cells]
    if not every:
        return []
    return sorted(set.intersection(*every) or set.union(*every))


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def interactions(summary: StudySummary, description: Description) -> list[Interaction]:
    """Mean scores over every two factors that were crossed: at least two levels of each with two of the other."""
    if description.design == "one-at-a-time":
        return []
    tables = []
    for first, second in combinations(description.factors, 2):
        rows, columns = level_labels(summary, first), level_labels(summary, second)
        if not (2 <= len(rows) <= _MOST_SIDES and 2 <= len(columns) <= _MOST_SIDES):
            continue
        sums: dict[tuple[str, str], list[float]] = {}
        for one in summary.cells:
            if one.n and first.name in one.levels and second.name in one.levels:
                key = (one.levels[first.name], one.levels[second.name])
                sums.setdefault(key, []).append(one.score.value)
        table = [[_mean(sums[r, c]) if (r, c) in sums else math.nan for c in columns] for r in rows]
        if sum(math.isfinite(v) for row in table for v in row) >= 4:
            tables.append(Interaction(first.name, second.name, rows, columns, table))
    return tables
