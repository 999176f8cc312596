"""The difference of two contenders' scores: its interval, its p-value, and what it would take to prove it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats
from tellapart.evaluation import metrics, significance
from tellapart.evaluation.comparison import Answered, Contender, Difference, Standing, Verdict
from tellapart.evaluation.intervals import PROPORTIONS

#: With fewer pictures answered differently, even the most uneven division is no proof (McNemar: p > 0.05).
FEWEST = 6


@dataclass(frozen=True)
class SeedVariance:
    """The variance over seeds of a contender's mean score.

    Attributes:
        net: without the part that comes from the pictures.
        plain: with it; `freedom`, the degrees of freedom, belong to this one.
    """

    net: float
    plain: float
    freedom: float


def seed_variances(standings: Sequence[Standing], samples: Sequence[Floats]) -> list[SeedVariance] | None:
    """One a contender; None where no recipe was trained more than once. A recipe trained once borrows the others'.

    Args:
        standings: of the contenders.
        samples: of each contender, its scores on resampled pictures, [n_resamples, n_seeds].
    """
    known = {
        i: significance.seed_variance(standing.scores, samples[i])
        for i, standing in enumerate(standings)
        if len(standing.scores) > 1
    }
    if not known:
        return None
    degrees = {i: len(standings[i].scores) - 1 for i in known}
    total = sum(degrees.values())
    pooled = [sum(known[i][part] * degrees[i] for i in known) / total for part in (0, 1)]
    variances = []
    for i, standing in enumerate(standings):
        n = len(standing.scores)
        net, plain = known.get(i, pooled)
        variances.append(SeedVariance(net / n, plain / n, degrees.get(i, total)))
    return variances


@dataclass(frozen=True)
class Pair:
    """Two contenders and all that their difference rests on.

    Attributes:
        first, second: their positions.
        contenders, standings: the two.
        samples: of each, its scores on resampled pictures, [n_resamples, n_seeds]; None for an exact test.
        variances: of each, over seeds; None where nothing is known of seeds.
    """

    first: int
    second: int
    contenders: tuple[Contender, Contender]
    standings: tuple[Standing, Standing]
    samples: tuple[Floats, Floats] | None
    variances: tuple[SeedVariance, SeedVariance] | None

    @property
    def value(self) -> float:
        """Score of the second less that of the first."""
        return self.standings[1].value - self.standings[0].value

    @property
    def n(self) -> int:
        """Number of pictures."""
        return len(self.contenders[0].seeds[0].predictions)

    @property
    def networks(self) -> tuple[Answered, Answered] | None:
        """The two networks, where either contender is a single one."""
        one, other = (contender.seeds for contender in self.contenders)
        return (one[0], other[0]) if len(one) == len(other) == 1 else None


def difference(pair: Pair, metric: str) -> Difference:
    """One pair; p is not corrected yet for several pairs."""
    discordant = None if pair.networks is None else _discordant(*pair.networks, metric)
    if pair.samples is None:
        assert discordant is not None  # exact tests are for single networks
        return _of_shares(pair, discordant)
    one, other = pair.samples
    pictures = float((other.mean(axis=1) - one.mean(axis=1)).var(ddof=1))
    parts = [(pictures, float(max(1, pair.n - 1)))]
    seeds = 0.0
    if pair.variances is not None:
        seeds = sum(variance.net for variance in pair.variances)
        parts += [(variance.plain, variance.freedom) for variance in pair.variances]
    total = pictures + seeds
    error, low, high, p = _interval(pair, metric, total, parts)
    test = "paired bootstrap" if pair.variances is None else "paired bootstrap and seeds"
    by_answers = pair.networks is not None and metric not in ("log_loss", "mean_average_precision")
    if by_answers and pair.networks is not None and _n_differing(*pair.networks) < FEWEST:
        p, low, high, test = 1.0, min(low, 0.0), max(high, 0.0), "too few answers differ"
    return Difference(
        first=pair.first,
        second=pair.second,
        value=pair.value,
        low=low,
        high=high,
        p=p,
        p_corrected=p,
        verdict="cannot tell",
        discordant=discordant,
        test=test,
        needed=significance.pictures_needed(pair.value, pictures * pair.n, seeds),
        smallest=significance.smallest_difference(error),
        seed_share=None if pair.variances is None else seeds / total if total else 0.0,
    )


def _interval(
    pair: Pair, metric: str, variance: float, parts: Sequence[tuple[float, float]]
) -> tuple[float, float, float, float]:
    """Standard error, both ends of the 95 % interval, and p, from the variance and its parts, see `freedom`."""
    value = pair.value
    if variance < 1e-18:  # all answers alike, or all unlike: as sure as so many pictures make it, and not more
        low, high = significance.share_interval(0, 0, pair.n) if metric != "log_loss" else (0.0, 0.0)
        p = significance.mcnemar(0, pair.n) if abs(value) > 1e-12 else 1.0
        return high / 1.96, value + low, value + high, p
    error, degrees = math.sqrt(variance), significance.freedom(variance, parts)
    reach = significance.t_limit(degrees) * error
    return error, value - reach, value + reach, significance.t_test(value / error, degrees)


def _of_shares(pair: Pair, discordant: tuple[int, int]) -> Difference:
    """Two single networks and a score that is a share of the pictures: no resampling is needed."""
    n = pair.n
    value = (discordant[1] - discordant[0]) / n
    low, high = significance.share_interval(*discordant, n)
    p = significance.mcnemar(*discordant)
    if p >= significance.ALPHA:  # the exact test is a little stricter than the interval; the stricter one counts
        low, high = min(low, 0.0), max(high, 0.0)
    differing = sum(discordant) / n
    smoothed = (sum(discordant) + 2) / (n + 2)
    return Difference(
        first=pair.first,
        second=pair.second,
        value=value,
        low=low,
        high=high,
        p=p,
        p_corrected=p,
        verdict="cannot tell",
        discordant=discordant,
        test="McNemar, exact",
        needed=significance.pictures_needed(value, differing - value**2),
        smallest=significance.smallest_difference(math.sqrt(smoothed / n)),
        seed_share=None,
    )


def _discordant(one: Answered, other: Answered, metric: str) -> tuple[int, int]:
    """Pictures that only the one, only the other answers rightly: with several labels, every label."""
    first, second = (_right(answered, metric) for answered in (one, other))
    return int((first & ~second).sum()), int((second & ~first).sum())


def _right(answered: Answered, metric: str) -> npt.NDArray[np.bool_]:
    """Whether each picture is answered rightly, in the sense of a score that is a share; else of the plain one."""
    p = answered.predictions
    rows = metrics.row_scores(p, answered.answers, answered.temperature)
    plain = "exact_match" if p.multilabel else "accuracy"
    return rows[metric if metric in PROPORTIONS and metric in rows else plain] > 0


def _n_differing(one: Answered, other: Answered) -> int:
    """Pictures that the two answer differently."""
    return int((one.answers != other.answers).reshape(len(one.predictions), -1).any(axis=1).sum())


def corrected(differences: Sequence[Difference], metric: str) -> list[Difference]:
    """The same with p-values for all together (Holm), and verdicts."""
    sign = -1 if metric == "log_loss" else 1
    result = []
    for each, p in zip(differences, significance.holm([each.p for each in differences]).tolist(), strict=True):
        verdict: Verdict = "cannot tell"
        if p < significance.ALPHA:
            verdict = "better" if sign * each.value > 0 else "worse"
        result.append(replace(each, p_corrected=p, verdict=verdict))
    return result
