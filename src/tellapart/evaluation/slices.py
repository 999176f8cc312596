"""Where a model does worse than elsewhere: the score of parts of the pictures, and no alarm for looking at many parts.

Each part (dark pictures, one file type, one group) is held against all other pictures by Fisher's exact test, on one
side; the p-values are corrected for the number of parts looked at (Holm). A part that is worse for a reason found in
another column (all dark pictures are of one hard class) is shown all the same: a slice says where, not why.
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

#: Pictures that a part must have to be looked at: with fewer, an interval reaches over half the scale.
SMALLEST = 20
_QUARTERS = ("lowest quarter", "second quarter", "third quarter", "highest quarter")
#: Numbers with no more different values than this are taken one by one, as names are.
_FEW = 6


@dataclass(frozen=True)
class Slice:
    """The score of some pictures.

    Attributes:
        by: the column, such as "brightness". name: which of its pictures, such as "12–63, lowest quarter".
        n: pictures. right: how many of them are answered rightly.
        value, low, high: the share, with its 95 % interval (Wilson). rest: the share among all other pictures.
        p: how often chance alone would leave so few right. p_corrected: the same, corrected for all parts (Holm).
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
    """All parts looked at.

    Attributes:
        n, right: all pictures, and those answered rightly.
        smallest: pictures that a part must have. n_small: parts that were left out for having fewer.
        found: the lowest score first.
    """

    n: int
    right: int
    smallest: int
    n_small: int
    found: tuple[Slice, ...]

    @property
    def worst(self) -> tuple[Slice, ...]:
        """Those proven to be worse than the rest."""
        return tuple(part for part in self.found if part.worse)


def slices(right: Array, columns: Mapping[str, Array], smallest: int = SMALLEST) -> Slices:
    """Score every part of some pictures.

    Args:
        right: bool [n], whether each picture is answered rightly.
        columns: by name, [n] each: numbers are cut into quarters (NaN: not known, left out), anything else goes by
            value (None: left out). Columns with one value only have no parts.
        smallest: pictures that a part must have, and the others too.
    """
    right = np.asarray(right, bool)
    n, all_right = len(right), int(right.sum())
    parts, n_small = [], 0
    for by, values in columns.items():
        for name, where in _parts(np.asarray(values)):
            size = int(where.sum())
            if size < smallest:
                n_small += 1
            elif n - size >= smallest:  # else there is nothing to hold it against
                parts.append((by, name, size, int(right[where].sum())))
    tests = [fewer_right(k, size, all_right, n) for _, _, size, k in parts]
    found = []
    for (by, name, size, k), p, corrected in zip(parts, tests, holm(tests).tolist(), strict=True):
        low, high = wilson(k / size, size)
        rest = (all_right - k) / (n - size)
        found.append(Slice(by, name, size, k, k / size, float(low), float(high), rest, p, corrected))
    found.sort(key=lambda part: (part.value, part.by, part.name))
    return Slices(n, all_right, smallest, n_small, tuple(found))


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
        where = np.zeros(len(values), bool)
        where[named[name]] = True
        parts.append((name, where))
    return parts


def _quarters(values: Array, known: npt.NDArray[np.bool_]) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    """Four parts of about the same number of pictures; equal values stay together, so that there may be fewer."""
    numbers = values.astype(float)
    edges = np.quantile(numbers[known], [0.25, 0.5, 0.75])
    quarter = np.where(known, np.searchsorted(edges, numbers, side="left"), -1)
    parts = []
    for i, title in enumerate(_QUARTERS):
        where = quarter == i
        if where.any():
            low, high = numbers[where].min(), numbers[where].max()
            parts.append((f"{_short(low)}–{_short(high)}, {title}" if low < high else f"{_short(low)}, {title}", where))
    return parts


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 10 or value == round(value) else f"{value:.2g}"
