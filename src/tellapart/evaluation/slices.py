"""Slices: the scores of parts of the pictures, and which of them are proven to be worse than the rest.

Each part (dark pictures, one file type, one group) is compared with all other pictures by Fisher's exact, one-sided
test. Holm's method corrects the p-values for the number of parts. A slice says where scores are low, not why: all dark
pictures may be of one hard class.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.evaluation.intervals import wilson
from tellapart.evaluation.metrics import Array
from tellapart.evaluation.significance import ALPHA, fewer_right, holm

#: Fewest pictures of a part: with fewer, an interval covers half the scale.
SMALLEST = 20
_QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")
#: A column of numbers with no more different values than this has one part a value.
_FEW = 6


@dataclass(frozen=True)
class Slice:
    """The accuracy of a part of the pictures.

    Attributes:
        by: the column, such as "brightness". name: the part of it, such as "12–63, lowest quarter".
        n: number of pictures. right: number of them that are answered rightly.
        value, low, high: accuracy with its 95 % interval (Wilson). rest: accuracy of all other pictures.
        p: p-value of so few right ones. p_corrected: the same, corrected for all parts (Holm).
    """

    by: str
    name: str
    n: int
    right: int
    value: float
    low: float
    high: float
    rest: float
    p: float
    p_corrected: float

    @property
    def worse(self) -> bool:
        """Whether it is proven to be worse than the rest."""
        return self.p_corrected < ALPHA


@dataclass(frozen=True)
class Slices:
    """The accuracy of all parts.

    Attributes:
        n, right: number of all pictures, and of those answered rightly.
        smallest: fewest pictures of a part. n_small: number of parts left out because they have fewer.
        parts: the lowest accuracy first.
    """

    n: int
    right: int
    smallest: int
    n_small: int
    parts: tuple[Slice, ...]

    @property
    def worst(self) -> tuple[Slice, ...]:
        """Those proven to be worse than the rest."""
        return tuple(part for part in self.parts if part.worse)


def slices(right: Array, columns: Mapping[str, Array], smallest: int = SMALLEST) -> Slices:
    """Score every part of some pictures.

    Args:
        right: bool [n], whether each picture is answered rightly.
        columns: by name, [n] each. Numbers are cut into quarters (NaN is left out), anything else goes by value (None
            is left out). Columns with one value only have no parts.
        smallest: fewest pictures of a part, and of the others.
    """
    right = np.asarray(right, bool)
    n, all_right = len(right), int(right.sum())
    parts, n_small = [], 0
    for by, values in columns.items():
        for name, inside in _parts(np.asarray(values)):
            size = int(inside.sum())
            if size < smallest:
                n_small += 1
            elif n - size >= smallest:  # else there is nothing to compare it with
                parts.append((by, name, size, int(right[inside].sum())))
    tests = [fewer_right(k, size, all_right, n) for _, _, size, k in parts]
    scored = []
    for (by, name, size, k), p, corrected in zip(parts, tests, holm(tests).tolist(), strict=True):
        low, high = wilson(k / size, size)
        rest = (all_right - k) / (n - size)
        scored.append(Slice(by, name, size, k, k / size, float(low), float(high), rest, p, corrected))
    scored.sort(key=lambda part: (part.value, part.by, part.name))
    return Slices(n, all_right, smallest, n_small, tuple(scored))


def _parts(values: Array) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Name and pictures of each part of a column."""
    if values.dtype.kind in "iuf":
        known = np.isfinite(values.astype(float))
        different = np.unique(values[known])
        if len(different) > _FEW:
            return _quarters(values, known)
        return [(f"{value:g}", values == value) for value in different.tolist()]
    named: dict[Any, list[int]] = {}
    for i, value in enumerate(values.tolist()):
        if value is not None:
            named.setdefault(str(value), []).append(i)
    parts = []
    for name in sorted(named):
        inside = np.zeros(len(values), bool)
        inside[named[name]] = True
        parts.append((name, inside))
    return parts


def _quarters(values: Array, known: npt.NDArray[np.bool_]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Four parts of about the same number of pictures; equal values stay together, so that there may be fewer."""
    numbers = values.astype(float)
    edges = np.quantile(numbers[known], [0.25, 0.5, 0.75])
    quarter = np.where(known, np.searchsorted(edges, numbers, side="left"), -1)
    parts = []
    for i, title in enumerate(_QUARTERS):
        inside = quarter == i
        if inside.any():
            low, high = numbers[inside].min(), numbers[inside].max()
            span = f"{_short(low)}–{_short(high)}" if low < high else _short(low)
            parts.append((f"{span}, {title}", inside))
    return parts


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.2g}"
