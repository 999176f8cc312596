"""Designs: which cells a study has. The baseline comes first."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping

import numpy as np

from tellapart.errors import RecipeError
from tellapart.experiments.description import Factor, Level
from tellapart.experiments.space import Cell, Space, check_number, condition, number_level
from tellapart.experiments.study_file import StudyFile

#: Draws after which a random design has no more cells that differ.
_IN_VAIN = 200


def cells_of(study: StudyFile, space: Space) -> list[Cell]:
    """The cells of a study, each once, the baseline first; of a search, the baseline alone.

    Raises:
        RecipeError: a cell is no recipe, or there are too many.
    """
    chosen: Iterator[Mapping[str, Level]] = iter([space.own])
    if study.design == "one-at-a-time":
        check_number(1 + sum(len(factor.levels) for factor in space.factors))
        chosen = itertools.chain([space.own], _one_at_a_time(space))
    elif study.design == "grid":
        check_number(math.prod(len(factor.levels) for factor in space.factors))
        chosen = itertools.chain(_grid_baseline(space), _grid(space))
    elif study.design == "random":
        return _random(study, space)
    cells: dict[str, Cell] = {}
    for levels in chosen:
        cell = space.cell(levels)
        cells.setdefault(cell.id, cell)
    return list(cells.values())


def _one_at_a_time(space: Space) -> Iterator[Mapping[str, Level]]:
    """The baseline with one factor changed. A factor with a condition is changed where that holds."""
    for factor in space.factors:
        base = {**space.own, **condition(space, factor)}
        for level in factor.levels:
            yield {**base, factor.name: level}


def _grid_baseline(space: Space) -> list[Mapping[str, Level]]:
    """The baseline of a grid, if its levels are all on the grid; numbers between the levels of a range are not."""
    return [space.own] if all(space.own[factor.name] in factor.levels for factor in space.factors) else []


def _grid(space: Space) -> Iterator[Mapping[str, Level]]:
    names = [factor.name for factor in space.factors]
    for levels in itertools.product(*(factor.levels for factor in space.factors)):
        yield dict(zip(names, levels, strict=True))


def _random(study: StudyFile, space: Space) -> list[Cell]:
    """The baseline, and cells drawn at random. More trials later go on with the same draws."""
    generator = np.random.default_rng(0)
    baseline = space.cell(space.own)
    cells = {baseline.id: baseline}
    in_vain = 0
    while len(cells) <= study.budget.trials and in_vain < _IN_VAIN:
        cell = space.cell({factor.name: _draw(factor, generator) for factor in space.factors})
        in_vain = in_vain + 1 if cell.id in cells else 0
        cells.setdefault(cell.id, cell)
    if len(cells) < 2:
        raise RecipeError("The factors of this study give one cell only.", "Give them more levels.")
    return list(cells.values())


def _draw(factor: Factor, generator: np.random.Generator) -> Level:
    if factor.kind != "range":
        return factor.levels[int(generator.integers(len(factor.levels)))]
    assert factor.low is not None
    assert factor.high is not None
    if factor.integer and not factor.log:
        return number_level(factor, int(generator.integers(int(factor.low), int(factor.high) + 1)))
    if factor.log:
        return number_level(factor, math.exp(generator.uniform(math.log(factor.low), math.log(factor.high))))
    return number_level(factor, generator.uniform(factor.low, factor.high))
