"""The paired difference of two cells: its interval and p-value, over both sources of chance.

For one seed, two cells have the same split, the same initial weights and the same order of pictures. So their scores
are subtracted seed by seed, and what a seed does to both falls out. The model of a difference d of seed s on picture i:

    d(s, i) = δ + seed(s) + picture(i) + rest(s, i)

Its mean over n seeds and m pictures has the variance σ²(seed)/n + σ²(picture)/m + σ²(rest)/(n·m). The spread of the
seeds' differences shows the first and the last part: that is the paired t test. It is blind for the second, because all
seeds are judged on the same pictures; this part is found by drawing pictures anew (bootstrap), and added. More seeds do
not lessen it: "never with 296 test pictures".

The 95 % interval reaches √(t²·V + z²·W), with V the variance over seeds and t Student's limit at n − 1 degrees of
freedom, W the variance over pictures and z the normal limit: Cochran's rule, which keeps to 5 % where Satterthwaite's
degrees of freedom do not with three seeds. With W = 0 it is the paired t test.

Where each seed has validation pictures of its own, they are in the spread of the seeds already; since the training
parts overlap, the variance is multiplied by 1 + n · validation/training pictures (Nadeau and Bengio).

Sources: D. D. Dorfman, K. S. Berbaum, C. E. Metz, Receiver operating characteristic rating analysis: generalization to
the population of readers and patients with the jackknife method, Investigative Radiology 27 (1992), the same model with
readers for seeds; W. G. Cochran, G. M. Cox, Experimental Designs (1957), section 4.14; C. Nadeau, Y. Bengio, Inference
for the generalization error, Machine Learning 52 (2003); D. G. Bonett, R. M. Price, Adjusted Wald confidence interval
for a difference of binomial proportions based on paired data, JEBS 37 (2012).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.evaluation.significance import ALPHA, POWER
from tellapart.evaluation.study_summary import CellDifference, Span

#: Where a difference of shares rests on few pictures, these many count as answered differently (Bonett and Price).
_BORROWED = 2
#: More seeds or pictures than these are "never".
MOST_SEEDS, MOST_PICTURES = 10_000, 100_000_000


@dataclass(frozen=True)
class Scores:
    """A cell's scores.

    Attributes:
        by_seed: seed → score.
        resampled: seed → the score on the same resamples of the pictures, [n_resamples]; empty where the score is no
            metric, or each seed has pictures of its own.
        n_pictures: validation pictures; 0: the score does not rest on pictures.
        overlap: validation pictures a training picture, where each seed has a part of its own; 0 where all share one.
        share: whether the score is a share of pictures or labels, 0..1.
    """

    by_seed: Mapping[int, float]
    resampled: Mapping[int, npt.NDArray[Any]]
    n_pictures: int = 0
    overlap: float = 0.0
    share: bool = False


@dataclass(frozen=True)
class Parts:
    """A mean difference and the variances it rests on: `of_seeds` with n − 1 degrees of freedom, `of_pictures`."""

    value: float
    of_seeds: float
    of_pictures: float
    n: int
    n_pictures: int

    @property
    def total(self) -> float:
        """The variance of the mean."""
        return self.of_seeds + self.of_pictures

    def reach(self, alpha: float = ALPHA) -> float:
        """Half the width of the interval at 1 − alpha."""
        from scipy.special import ndtri, stdtrit

        # Limits of the lower tail: 1 − alpha would be 1 for a tiny level.
        seeds = float(stdtrit(self.n - 1, alpha / 2)) ** 2 * self.of_seeds if self.of_seeds else 0.0
        return math.sqrt(seeds + float(ndtri(alpha / 2)) ** 2 * self.of_pictures)

    def p(self) -> float:
        """Two-sided p-value: the level at which the interval just reaches 0."""
        if not self.value:
            return 1.0
        if not self.total:
            return 0.0  # seconds or parameters that are the same each time
        low, high = -600.0, 0.0  # logarithms of the level
        for _ in range(50):
            middle = (low + high) / 2
            reached = self.reach(math.exp(middle)) < abs(self.value)
            low, high = (low, middle) if reached else (middle, high)
        return math.exp(high)


def span(values: Sequence[float]) -> Span:
    """Mean of scores with its 95 % interval by Student's t; values that are not finite do not count."""
    from scipy.special import stdtrit

    known = np.array([v for v in values if math.isfinite(v)])
    n = len(known)
    if not n:
        return Span(math.nan, math.nan, math.nan, 0)
    mean = float(known.mean())
    if n < 2:
        return Span(mean, math.nan, math.nan, n)
    reach = float(stdtrit(n - 1, 0.975) * known.std(ddof=1) / math.sqrt(n))
    return Span(mean, mean - reach, mean + reach, n)


def parts(cell: Scores, other: Scores, n_seeds: int | None = None) -> Parts | None:
    """Mean difference and variances of a cell less another, on the seeds that both have; None with fewer than two.

    Args:
        n_seeds: only the first so many seeds.
    """
    seeds = sorted(cell.by_seed.keys() & other.by_seed.keys())[:n_seeds]
    n = len(seeds)
    if n < 2:
        return None
    differences = np.array([cell.by_seed[s] - other.by_seed[s] for s in seeds])
    plain = float(differences.var(ddof=1))
    of_seeds = plain / n + plain * cell.overlap
    of_pictures = 0.0
    if all(s in cell.resampled and s in other.resampled for s in seeds):
        resampled = np.stack([cell.resampled[s] - other.resampled[s] for s in seeds], axis=1).astype(np.float64)
        both = float(resampled.mean(axis=1).var(ddof=1))
        # The part of it that the seeds' own spread contains already: what pictures do to each seed apart.
        luck = max(0.0, float(resampled.var(axis=1, ddof=1).mean()) - plain)
        of_pictures = max(0.0, both - luck / n)
        if cell.share:
            of_pictures += _BORROWED / (cell.n_pictures + _BORROWED) / cell.n_pictures
    value = float(differences.mean())
    if abs(value) < 1e-12:  # the same in sum but for rounding
        value = 0.0
    return Parts(value, of_seeds if of_seeds > 1e-24 else 0.0, of_pictures, n, cell.n_pictures)


def by_seed(cell: Scores, other: Scores) -> dict[int, float]:
    """Seed → difference, of the seeds that both have."""
    return {s: cell.by_seed[s] - other.by_seed[s] for s in sorted(cell.by_seed.keys() & other.by_seed.keys())}


def described(cell: Scores, other: Scores, p: float, n_tests: int) -> CellDifference | None:
    """The difference with interval and what it would take to tell; not corrected yet. None without a common seed.

    Args:
        p: its p-value, see `sequential.sequential_p`; NaN with one seed.
        n_tests: differences that are tested together.
    """
    of_seeds = by_seed(cell, other)
    if not of_seeds:
        return None
    between = parts(cell, other)
    if between is None:
        value = next(iter(of_seeds.values()))
        return CellDifference(value, math.nan, math.nan, math.nan, math.nan, "cannot tell", of_seeds)
    reach = between.reach()
    more_seeds, pictures = needed(between, n_tests)
    return CellDifference(
        between.value,
        between.value - reach,
        between.value + reach,
        p,
        p,
        "cannot tell",
        of_seeds,
        more_seeds,
        pictures,
        between.of_pictures / between.total if between.total else 0.0,
    )


def needed(between: Parts, n_tests: int) -> tuple[float, float]:
    """About how many more seeds would tell, and how many pictures, if the difference is truly the one seen.

    At a power of 80 % and a level of 5 % shared by all tests: Holm's method asks that much of the first one.
    """
    if not between.value:
        return math.inf, math.inf
    alpha = ALPHA / max(1, n_tests)
    per_seed, per_picture = between.of_seeds * between.n, between.of_pictures * between.n_pictures

    def with_seeds(n: int) -> bool:
        return _tells(replace(between, of_seeds=per_seed / n, n=n), alpha)

    def with_pictures(m: int) -> bool:
        return _tells(replace(between, of_pictures=per_picture / m), alpha)

    seeds = _first(between.n, MOST_SEEDS, with_seeds) - between.n
    pictures = _first(between.n_pictures, MOST_PICTURES, with_pictures) if per_picture else math.inf
    return seeds, pictures


def _tells(mean: Parts, alpha: float) -> bool:
    """Whether a difference of this size would be told in 80 of 100 cases."""
    from scipy.special import ndtri

    return mean.reach(alpha) + float(ndtri(POWER)) * math.sqrt(mean.total) <= abs(mean.value)


def _first(start: int, most: int, enough: Callable[[int], bool]) -> float:
    """The smallest number above `start` that is enough, up to `most`; infinite where that is not."""
    if not enough(most):
        return math.inf
    low, high = start, most
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return float(high)


def corrected(difference: CellDifference, p: float, lower_is_better: bool) -> CellDifference:
    """The difference with a p-value corrected for all, and its verdict."""
    if not p < ALPHA:
        return replace(difference, p_corrected=p)
    better = (difference.value < 0) == lower_is_better
    return replace(difference, p_corrected=p, verdict="better" if better else "worse")
