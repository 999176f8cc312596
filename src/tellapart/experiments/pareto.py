"""Several objectives: their means over seeds, and the Pareto front, the cells that no other one beats in all."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats
from tellapart.evaluation.study_summary import CellResult
from tellapart.experiments.description import Objective


def with_objectives(
    cells: Sequence[CellResult], runs: Mapping[str, Sequence[Mapping[str, Any]]], objectives: Sequence[Objective]
) -> list[CellResult]:
    """The cells with the means of all objectives but the first, which is their score, and with their front marked.

    Args:
        runs: cell → its trainings, as rows of a study's table.
    """
    if len(objectives) < 2:
        return list(cells)
    judged = []
    for one in cells:
        rows = [row for row in runs[one.cell] if row["seed"] in one.scores]
        others = {objective.name: _mean([_value(row, objective.name) for row in rows]) for objective in objectives[1:]}
        judged.append(replace(one, others=others))
    points = np.array([[one.score.value, *one.others.values()] for one in judged], float)
    signs = np.array([1.0 if objective.direction == "minimize" else -1.0 for objective in objectives])
    return [replace(one, on_front=bool(on)) for one, on in zip(judged, front(points * signs), strict=True)]


def front(points: Floats) -> npt.NDArray[np.bool_]:
    """[n]: of points [n, n_objectives], all to be low, those that no other one dominates; never one with a NaN."""
    whole = np.isfinite(points).all(axis=1)
    on: npt.NDArray[np.bool_] = np.zeros(len(points), np.bool_)
    others = points[whole]
    for i in np.flatnonzero(whole):
        on[i] = not ((others <= points[i]).all(axis=1) & (others < points[i]).any(axis=1)).any()
    return on


def _value(row: Mapping[str, Any], name: str) -> float | None:
    value: float | None = row.get(name if name in ("seconds", "n_parameters") else f"validation_{name}")
    return value


def _mean(values: Sequence[float | None]) -> float:
    numbers = [value for value in values if value is not None]
    return float(np.mean(numbers)) if numbers and len(numbers) == len(values) else math.nan
