"""How much of the spread does each source of randomness make? Nested analysis of variance.

Where the split, the initial weights and the order of pictures have seeds of their own, each inside the one before, the
variance of a score is the sum of one component each. They are found by the method of moments from the mean squares of
each stage, pooled over cells, for any numbers of seeds (Searle, Casella, McCulloch, Variance Components, 1992, ch. 3).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl

from tellapart.core.predictions import Floats, Rows
from tellapart.evaluation.study_summary import VarianceShare

#: From the outermost to the innermost. One that does not vary is left out.
SOURCES = {
    "split_seed": "split of the pictures",
    "init_seed": "initial weights",
    "order_seed": "order of the pictures, augmentation and dropout",
}


def variance_shares(runs: pl.DataFrame) -> list[VarianceShare]:
    """The share of each source that was varied, the outermost first; empty where nothing can be told.

    Args:
        runs: one row a training: `cell`, `score`, and a column a source. Rows without a finite score do not count.
    """
    done = runs.filter(pl.col("score").is_not_null() & pl.col("score").is_finite())
    columns = [name for name in SOURCES if name in done.columns and _varies(done, name)]
    if not columns:
        return []
    keys = [done[name].to_list() for name in ("cell", *columns)]
    components = nested_components(keys, done["score"].to_numpy())
    total = sum(components)
    if not total > 0:
        return []
    return [
        VarianceShare(SOURCES[name], component / total, component**0.5, done[name].n_unique())
        for name, component in zip(columns, components, strict=True)
    ]


def _varies(runs: pl.DataFrame, name: str) -> bool:
    """Whether a cell has trainings with different seeds of a source."""
    return bool((runs.group_by("cell").agg(pl.col(name).n_unique())[name] > 1).any())


def nested_components(keys: Sequence[Sequence[object]], values: Floats) -> list[float]:
    """Variance components of nested groups; the first key is fixed (the cell) and has none. Never below 0.

    Args:
        keys: one a stage, the outermost first, each [n]. Groups of a stage are those of all keys down to it.
        values: [n].

    Returns:
        One a stage after the first.
    """
    values = np.asarray(values, float)
    groups = [_numbers(list(zip(*keys[: depth + 1], strict=True))) for depth in range(len(keys))]
    n_stages = len(keys) - 1
    squares, freedom = np.zeros(n_stages), np.zeros(n_stages)
    expected = np.zeros((n_stages, n_stages))
    for stage in range(n_stages):
        outer, inner = groups[stage], groups[stage + 1]
        squares[stage] = _between(outer, inner, values)
        freedom[stage] = inner.max() - outer.max()
        for source in range(stage, n_stages):
            # What a component of variance 1 adds to this stage's sum of squares.
            expected[stage, source] = _expected(outer, inner, groups[source + 1])
    components = np.zeros(n_stages)
    for stage in reversed(range(n_stages)):
        rest = squares[stage] - expected[stage] @ components
        if freedom[stage] > 0 and expected[stage, stage] > 0:
            components[stage] = max(0.0, rest / expected[stage, stage])
    return [float(component) for component in components]


def _numbers(keys: list[tuple[object, ...]]) -> Rows:
    order: dict[tuple[object, ...], int] = {}
    return np.array([order.setdefault(key, len(order)) for key in keys], np.int64)


def _between(outer: Rows, inner: Rows, values: Floats) -> float:
    """Σ over observations of (mean of the inner group − mean of the outer group)²."""
    means = [np.bincount(g, values) / np.bincount(g) for g in (outer, inner)]
    return float(((means[1][inner] - means[0][outer]) ** 2).sum())


def _expected(outer: Rows, inner: Rows, source: Rows) -> float:
    """The expectation of `_between` where each group of the source adds an independent value of variance 1."""

    def weight(groups: Rows) -> float:
        pairs, counts = np.unique(np.stack([groups, source]), axis=1, return_counts=True)
        return float((counts**2 / np.bincount(groups)[pairs[0]]).sum())

    return weight(inner) - weight(outer)
