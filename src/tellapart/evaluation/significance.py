"""Statistical significance of a difference: exact tests, intervals, sample sizes, several comparisons.

All of it is about paired differences: the score of the second result on a picture less that of the first.

Sources: Q. McNemar, Note on the sampling error of the difference between correlated proportions, Psychometrika 12
(1947); D. G. Bonett, R. M. Price, Adjusted Wald confidence interval for a difference of binomial proportions based on
paired data, Journal of Educational and Behavioral Statistics 37 (2012); R. J. Connor, Sample size for testing
differences in proportions for the paired-sample design, Biometrics 43 (1987); S. Holm, A simple sequentially rejective
multiple test procedure, Scandinavian Journal of Statistics 6 (1979).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.extras import require
from tellapart.core.predictions import Floats

#: Significance level, and the power of a planned comparison.
ALPHA, POWER = 0.05, 0.8
_Z = NormalDist().inv_cdf(1 - ALPHA / 2)
_Z_POWER = NormalDist().inv_cdf(POWER)


def mcnemar(only_first: int, only_second: int) -> float:
    """The exact, two-sided p-value of McNemar's test.

    Pictures that both answer rightly, or both wrongly, say nothing. The others are coin tosses if neither is better.

    Args:
        only_first, only_second: pictures that only the one, only the other answers rightly.
    """
    n = only_first + only_second
    return float(_stats().binomtest(only_first, n).pvalue) if n else 1.0


def share_interval(only_first: int, only_second: int, n: int) -> tuple[float, float]:
    """95 % interval of the difference of two shares of the same n pictures, second less first; within -1..1.

    The adjusted Wald interval (Bonett and Price) counts one picture more on each side. So it holds with few pictures
    too, and has a width where both always answer alike.
    """
    total = n + 2
    first, second = (only_first + 1) / total, (only_second + 1) / total
    half = _Z * math.sqrt((first + second - (second - first) ** 2) / total)
    value = (only_second - only_first) / n
    low, high = max(-1.0, second - first - half), min(1.0, second - first + half)
    return min(low, value), max(high, value)


def pictures_needed(difference: float, variance: float, fixed: float = 0.0) -> float:
    """The sample size that shows a difference of this size with a power of 80 % at a level of 5 %.

    For two shares this is Connor's formula; infinite where no number of pictures would do.

    Args:
        difference: of the scores.
        variance: of the difference on one picture.
        fixed: the part of the variance of the difference that more pictures do not lessen: that over seeds.
    """
    room = difference**2 - (_Z + _Z_POWER) ** 2 * fixed
    if difference == 0 or room <= 0:
        return math.inf
    spread = _Z * math.sqrt(variance + difference**2) + _Z_POWER * math.sqrt(variance)
    return max(1.0, spread**2 / room)


def smallest_difference(error: float) -> float:
    """The difference that is shown with a power of 80 %, for a standard error of the difference."""
    return (_Z + _Z_POWER) * error


def holm(p: npt.ArrayLike) -> Floats:
    """p-values corrected by Holm's method: those below 0.05 hold together, with at most 5 % chance of a false one.

    Args:
        p: [n] in 0..1. NaN stays NaN and does not count.
    """
    plain = np.asarray(p, float)
    corrected = np.full(plain.shape, np.nan)
    known = np.flatnonzero(np.isfinite(plain))
    order = known[np.argsort(plain[known], kind="stable")]
    left = len(order) - np.arange(len(order))
    corrected[order] = np.minimum(1.0, np.maximum.accumulate(plain[order] * left))
    return corrected


def seed_variance(scores: npt.ArrayLike, resampled: Floats) -> tuple[float, float]:
    """The variance of a recipe's score over seeds on endless pictures, never below 0.

    Scores differ because one network is better than another, and because each has its luck with these pictures. The
    luck shows in the resamples, where it comes on top once more. It is subtracted, since the variance over pictures
    contains it already.

    Args:
        scores: [n_seeds], at least two.
        resampled: [n_resamples, n_seeds], the same on resampled pictures.

    Returns:
        That variance, and the plain one of the scores.
    """
    plain = float(np.var(np.asarray(scores, float), ddof=1))
    luck = max(0.0, float(resampled.var(axis=1, ddof=1).mean()) - plain)
    return max(0.0, plain - luck), plain


def freedom(total: float, parts: Iterable[tuple[float, float]]) -> float:
    """Degrees of freedom of a variance added up from parts (Welch and Satterthwaite).

    Args:
        total: the variance.
        parts: of each part that it was estimated from, the variance and its degrees of freedom.
    """
    below = sum(variance**2 / n for variance, n in parts)
    return total**2 / below if below > 0 else math.inf


def t_test(ratio: float, n: float) -> float:
    """Two-sided p-value of a difference in units of its standard error, by Student's t with n degrees of freedom."""
    return 2 * float(_stats().t.sf(abs(ratio), n))


def t_limit(n: float) -> float:
    """Standard errors that a 95 % interval reaches to each side: 1.96 for many degrees of freedom, 12.7 for one."""
    return float(_stats().t.isf(ALPHA / 2, n))


def fewer_right(right: int, n: int, all_right: int, total: int) -> float:
    """Fisher's exact, one-sided p-value of so few right answers in a part of the pictures.

    Args:
        right, n: right answers and pictures in the part.
        all_right, total: those of all pictures, the part included.
    """
    return float(_stats().hypergeom.cdf(right, total, all_right, n))


def two_shares(first: int, n_first: int, second: int, n_second: int) -> float:
    """Fisher's exact, two-sided p-value of two shares of different pictures.

    Args:
        first, second: pictures of either kind that are right, of `n_first` and `n_second`.
    """
    return float(_stats().fisher_exact([[first, n_first - first], [second, n_second - second]]).pvalue)


def _stats() -> Any:
    return require("scipy.stats", "Comparing scores", "train")
