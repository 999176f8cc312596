"""Vectors of length 1, and the nearest ones by cosine similarity. In NumPy alone, since `predict` imports it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = npt.NDArray[np.float32]
Ints = npt.NDArray[np.int64]
_PART = 512  # queries compared at a time


def unit_length(vectors: npt.NDArray[Any], least: float = 1e-12) -> Vectors:
    """Vectors float32 [n, d] divided by their lengths.

    One that is no longer than `least`, or of no finite length, has no direction: it is 0.
    """
    with np.errstate(over="ignore"):
        length = np.linalg.norm(vectors, axis=1, keepdims=True)
    directed = (length > least) & np.isfinite(length)
    return np.asarray(np.divide(vectors, length, out=np.zeros_like(vectors), where=directed), np.float32)


def nearest(
    queries: Vectors, vectors: Vectors, k: int, query_groups: Ints | None = None, groups: Ints | None = None
) -> tuple[Ints, Vectors]:
    """The k vectors with the highest cosine similarity to each query.

    Args:
        queries: [m, d].
        vectors: [n, d], to choose from.
        k: how many are wanted.
        query_groups, groups: [m] and [n], both or neither. A vector of the query's own group does not count, as where
            it is the query itself.

    Returns:
        Positions int64 [m, k], the most similar first (of equals the first), -1 where there are no more. Similarities
        float32 [m, k], -1 to 1, NaN where there is no vector.
    """
    n, m = len(vectors), len(queries)
    position, similarity = np.full((m, k), -1, np.int64), np.full((m, k), np.nan, np.float32)
    units, query_units = unit_length(vectors), unit_length(queries)
    for start in range(0, m, _PART):
        part = slice(start, start + _PART)
        cosine = np.clip(query_units[part] @ units.T, -1, 1)
        if query_groups is not None and groups is not None:
            cosine[query_groups[part, None] == groups[None]] = -np.inf
        # Sorting the few above the k-th value, not all n: of equals at the end of the list the first one counts too.
        least = np.partition(cosine, n - k, axis=1)[:, n - k] if k < n else np.full(len(cosine), -np.inf)
        for row, values in enumerate(cosine, start):
            high = np.flatnonzero((values >= least[row - start]) & np.isfinite(values))
            ranked = high[np.argsort(-values[high], kind="stable")][:k]
            position[row, : len(ranked)], similarity[row, : len(ranked)] = ranked, values[ranked]
    return position, similarity
