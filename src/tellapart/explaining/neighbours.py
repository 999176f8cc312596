"""The pictures that a network finds most alike: the nearest ones among its features."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Rows

_PART = 256


def most_alike(
    features: npt.NDArray[np.float32], asked: npt.NDArray[np.float32], k: int, without: Rows | None = None
) -> tuple[Rows, npt.NDArray[np.float32]]:
    """The most similar pictures, by the cosine between features.

    Args:
        features: float32 [n, d], of the pictures to choose from.
        asked: float32 [m, d], of the pictures to compare with them.
        k: how many are wanted.
        without: int64 [m]: for each picture asked for, the position of one that does not count (such as itself), or -1.

    Returns:
        Positions int64 [m, k], the most similar first (of equals the one that comes first), -1 where there are no
        more; and the similarities float32 [m, k], -1 to 1, not a number where there is no picture.
    """
    n, m = len(features), len(asked)
    position, similarity = np.full((m, k), -1, np.int64), np.full((m, k), np.nan, np.float32)
    all_of_them, some = _unit(features), _unit(asked)
    for start in range(0, m, _PART):
        cosine = np.clip(some[start : start + _PART] @ all_of_them.T, -1, 1)
        if without is not None:
            left_out = without[start : start + _PART]
            line = np.flatnonzero(left_out >= 0)
            cosine[line, left_out[line]] = -np.inf
        order = np.argsort(-cosine, axis=1, kind="stable")[:, :k]
        found = np.take_along_axis(cosine, order, axis=1)
        there = np.isfinite(found)
        part = slice(start, start + len(cosine)), slice(0, min(k, n))
        position[part] = np.where(there, order, -1)
        similarity[part] = np.where(there, found, np.nan)
    return position, similarity


def _unit(vectors: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(length, 1e-12), np.float32)
