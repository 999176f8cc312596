"""Whether new pictures differ from validation: a permutation test for each of their counts, corrected for several."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats
from tellapart.evaluation.significance import holm

Integers = npt.NDArray[np.int64]
#: Draws of the permutation test: the smallest p-value is 1 / (1 + DRAWS).
DRAWS = 9_999
LEVEL = 0.05
#: A proven difference of a smaller share of the pictures is called small.
LARGE = 0.05
#: With fewer pictures, only large differences can be proven.
FEW = 100
#: Cells that are tested one by one; rarer ones count as one cell. More pictures than can be drawn are scaled down.
_MOST_CELLS, _MOST_PICTURES = 1_000, 100_000_000


@dataclass(frozen=True)
class Difference:
    """One count of new pictures beside that of validation.

    Attributes:
        name: what was counted: "unknown", "certainty" or "classes".
        p: of the permutation test, after Holm's correction for all that were tested.
        distance: total variation distance: the share of the pictures, 0 to 1, that would have to change their cell.
        validation, new: shares by cell.
    """

    name: str
    p: float
    distance: float
    validation: Mapping[str, float]
    new: Mapping[str, float]

    @property
    def proven(self) -> bool:
        """Whether the difference is beyond chance."""
        return self.p < LEVEL

    @property
    def moved(self) -> list[str]:
        """The cells by how much their shares differ, the largest difference first."""
        return sorted(self.new, key=lambda cell: -abs(self.new[cell] - self.validation[cell]))


def differences(counts: Mapping[str, tuple[Mapping[str, int], Mapping[str, int]]], seed: int = 0) -> list[Difference]:
    """Test whether two samples have the same shares, for several counts of them.

    The statistic is the chi-squared one of a table with two rows; its distribution is that over all divisions of the
    pooled pictures into two samples of these sizes (a permutation test), so that it holds for few pictures too.
    p-values are corrected by Holm's method. Sources: P. Good, Permutation, Parametric and Bootstrap Tests of Hypotheses
    (2005); S. Holm, A simple sequentially rejective multiple test procedure, Scand. J. Statistics 6 (1979).

    Args:
        counts: name → (counts of validation, counts of new pictures), each by cell. Samples without pictures are
            left out.
        seed: of the draws.
    """
    tested: list[tuple[str, list[str], Integers]] = []
    for name, (validation, new) in counts.items():
        cells = list(dict.fromkeys([*validation, *new]))
        table = np.array([[part.get(cell, 0) for cell in cells] for part in (validation, new)], np.int64)
        if (table.sum(axis=1) > 0).all():
            tested.append((name, cells, table))
    p = holm([_p_value(table, seed) for _, _, table in tested])
    return [_difference(name, cells, table, float(own)) for (name, cells, table), own in zip(tested, p, strict=True)]


def _difference(name: str, cells: Sequence[str], table: Integers, p: float) -> Difference:
    shares = table / table.sum(axis=1, keepdims=True)
    old, new = (dict(zip(cells, row.tolist(), strict=True)) for row in shares)
    return Difference(name, p, float(np.abs(shares[0] - shares[1]).sum() / 2), old, new)


def _p_value(table: Integers, seed: int) -> float:
    table = _bounded(table)
    pooled = table.sum(axis=0)
    n_validation, n_new = (int(n) for n in table.sum(axis=1))
    rng = np.random.default_rng(seed)
    # The draws are of the smaller sample: the other one is what remains.
    n_drawn = min(n_validation, n_new)
    drawn = rng.multivariate_hypergeometric(pooled, n_drawn, DRAWS, method="marginals")
    own = table[0] if n_validation <= n_new else table[1]
    statistics = _chi_squared(np.vstack([own, drawn]), pooled)
    return float((statistics >= statistics[0] * (1 - 1e-12)).sum() / (1 + DRAWS))


def _bounded(table: Integers) -> Integers:
    if table.shape[1] > _MOST_CELLS:
        order = np.argsort(-table.sum(axis=0), kind="stable")
        rare = table[:, order[_MOST_CELLS - 1 :]].sum(axis=1, keepdims=True)
        table = np.hstack([table[:, order[: _MOST_CELLS - 1]], rare])
    total = int(table.sum())
    return table if total <= _MOST_PICTURES else np.asarray(table * (_MOST_PICTURES / total), np.int64)


def _chi_squared(rows: Integers, pooled: Integers) -> Floats:
    """Up to a factor that all tables of these margins share: Σ (drawn - expected)² / expected of one sample."""
    present = pooled > 0
    expected = pooled[present] * (rows[0].sum() / pooled.sum())
    return np.asarray((((rows[:, present] - expected) ** 2) / expected).sum(axis=1))
