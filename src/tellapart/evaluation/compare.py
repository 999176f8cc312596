"""Is one better than the other? Scores of several networks on the same pictures, and what their differences prove.

A difference has two sources of chance. *Pictures*: others would have given other scores; both networks answered the
same ones, so pictures are drawn anew for both at once (paired bootstrap), which leaves out what is hard for both.
*Seeds*: the same recipe begun with another seed gives another network. Where there are several trainings of a recipe,
their scores are averaged and the variance of that average is added:

    variance of a difference = variance over pictures + variance over seeds A / n seeds A + the same for B

with as many degrees of freedom as that rests on (few, if there are few seeds). A recipe that was trained once borrows
the variance of the others; if all were, nothing is known of seeds, and the verdict is on these networks alone.

Where a score is a share of the pictures (accuracy) and each side is one network, there are exact ways, and these are
taken: McNemar's test, and an interval for paired shares.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.errors import DataError, UsageError
from tellapart.evaluation import metrics, significance
from tellapart.evaluation.intervals import PROPORTIONS, resampled_rows
from tellapart.evaluation.metrics import Array, Counts

Verdict = Literal["better", "worse", "cannot tell"]
#: With fewer pictures answered differently than this, even the most uneven division is no proof (McNemar: p > 0.05).
FEWEST = 6
_ROW_SCORES = ("accuracy", "top_5_accuracy", "exact_match", "label_accuracy", "log_loss")


@dataclass(frozen=True)
class Answered:
    """One network's answers to the pictures.

    Attributes:
        predictions: of pictures with a label; the same pictures in the same order for all that are compared.
        temperature, thresholds: as in `metrics.answers`.
    """

    predictions: Predictions
    temperature: Temperature = 1.0
    thresholds: npt.ArrayLike | None = None

    @property
    def answers(self) -> Array:
        return metrics.answers(self.predictions, self.temperature, self.thresholds)


@dataclass(frozen=True)
class Contender:
    """What is compared: a recipe, as one or several trainings that differ in their seed only."""

    name: str
    seeds: tuple[Answered, ...]


@dataclass(frozen=True)
class Standing:
    """The scores of a contender.

    Attributes:
        scores: one a seed. value: their mean. deviation: their standard deviation; None for a single one.
        others: every other score, by name: the mean over seeds.
    """

    name: str
    scores: tuple[float, ...]
    value: float
    deviation: float | None
    others: dict[str, float]


@dataclass(frozen=True)
class Difference:
    """Two contenders held against each other.

    Attributes:
        first, second: positions of the two.
        value: score of the second less that of the first; low, high: its 95 % interval.
        p: how often chance alone would make so large a difference. p_corrected: the same, corrected for looking at
            several differences at once (Holm).
        verdict: on the second. "cannot tell" where `p_corrected` is not below 0.05.
        discordant: pictures that only the first, only the second answers rightly (with several labels: every label);
            None where one of them is more than one training.
        test: how p was found.
        needed: about how many pictures would be needed to tell, if the true difference is the one seen; infinite
            where no number would do.
        smallest: the difference that so many pictures (and seeds) show 80 times in 100.
        seed_share: share of the variance that comes from seeds; None where nothing is known of them.
    """

    first: int
    second: int
    value: float
    low: float
    high: float
    p: float
    p_corrected: float
    verdict: Verdict
    discordant: tuple[int, int] | None
    test: str
    needed: float
    smallest: float
    seed_share: float | None


@dataclass(frozen=True)
class Comparison:
    """Contenders on the same pictures.

    Attributes:
        metric: the score compared. n: number of pictures. multilabel: whether they may have several labels.
        standings: one a contender, as given.
        differences: one a pair, the first contender's pairs first.
    """

    metric: str
    n: int
    multilabel: bool
    standings: tuple[Standing, ...]
    differences: tuple[Difference, ...]

    @property
    def lower_is_better(self) -> bool:
        return self.metric == "log_loss"

    @property
    def best(self) -> int:
        """Position of the contender with the best score; the first of equals."""
        sign = -1 if self.lower_is_better else 1
        return max(range(len(self.standings)), key=lambda i: sign * self.standings[i].value)

    @property
    def seeds_known(self) -> bool:
        """Whether some recipe was trained more than once."""
        return any(standing.deviation is not None for standing in self.standings)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; None where no number of pictures would do."""
        values = asdict(self)
        for difference in values["differences"]:
            difference["needed"] = None if math.isinf(difference["needed"]) else difference["needed"]
        return values


def compare(contenders: Sequence[Contender], metric: str = "", n_bootstrap: int = 2000, seed: int = 0) -> Comparison:
    """Hold contenders against each other, every two of them.

    Args:
        contenders: at least two. The pictures of all must be the same, in the same order, with the same labels and
            classes.
        metric: a score as in `metrics.scores`; by default the headline, `accuracy` or `f1_micro`.
        n_bootstrap: resamples of the pictures.
        seed: the same seed gives the same result.

    Raises:
        UsageError: fewer than two contenders, or no such score.
        DataError: no pictures, or not the same ones.
    """
    if len(contenders) < 2:
        raise UsageError("There is nothing to compare with.", "Name at least two runs whose recipes differ.")
    first = contenders[0].seeds[0].predictions
    _check(first, [answered.predictions for contender in contenders for answered in contender.seeds])
    found = [[metrics.scores(a.predictions, a.temperature, a.thresholds) for a in c.seeds] for c in contenders]
    metric = metric or next(iter(found[0][0]))
    if metric not in found[0][0]:
        raise UsageError(f"There is no score {metric!r} here.", f"There are: {', '.join(found[0][0])}.")
    standings = tuple(_standing(c.name, metric, each) for c, each in zip(contenders, found, strict=True))
    exact = metric in PROPORTIONS and all(len(contender.seeds) == 1 for contender in contenders)
    samples = [] if exact else _resampled(contenders, metric, n_bootstrap, seed)
    spreads = _spreads(standings, samples)
    pairs = [
        _difference(i, j, contenders, standings, samples, spreads, metric)
        for i, j in combinations(range(len(contenders)), 2)
    ]
    return Comparison(metric, len(first), first.multilabel, standings, tuple(_corrected(pairs, metric)))


def scorer(answered: Answered, metric: str) -> Callable[[Array], Floats]:
    """A function that gives one score for weighted pictures: [n, k] weights, k times over → [k].

    Each column of weights says how often each picture counts; with ones it is the score itself.
    """
    p, answer = answered.predictions, answered.answers
    metric = "accuracy" if metric == "recall_weighted" and not p.multilabel else metric
    if metric in _ROW_SCORES:
        rows = metrics.row_scores(p, answer, answered.temperature)[metric]
        return lambda weights: np.asarray(rows @ weights / weights.sum(axis=0), np.float64)
    if metric == "mean_average_precision":
        rankings = metrics.rankings(p)
        return lambda weights: metrics.mean_average_precision(rankings, weights)
    counted = _counter(p, answer)
    return lambda weights: metrics.averages(counted(weights), p.multilabel)[metric]


def _counter(p: Predictions, answer: Array) -> Callable[[Array], Counts]:
    """Weights [n, k] → counts a class, [k, n_classes] each."""
    n_classes = len(p.classes)
    if p.multilabel:
        sides = [side.T.astype(np.float32) for side in (p.target & answer, p.target, answer)]
        return lambda weights: Counts(*((side @ weights).T for side in sides))
    right = np.flatnonzero(p.target == answer)
    everywhere = np.arange(len(p))
    groups = [
        _grouped(rows, of[rows]) for rows, of in ((right, p.target), (everywhere, p.target), (everywhere, answer))
    ]

    def count(weights: Array) -> Counts:
        return Counts(*(_summed(weights, group, n_classes) for group in groups))

    return count


def _grouped(rows: Array, classes: Array) -> tuple[Array, Array, Array]:
    """Rows in the order of their classes, the classes that occur, and where each begins."""
    order = np.argsort(classes, kind="stable")
    present, starts = np.unique(classes[order], return_index=True)
    return rows[order], present, starts


def _summed(weights: Array, group: tuple[Array, Array, Array], n_classes: int) -> Array:
    """[k, n_classes]: weights of the pictures of each class, added up."""
    rows, present, starts = group
    sums = np.zeros((n_classes, weights.shape[1]))
    if len(rows):
        sums[present] = np.add.reduceat(weights[rows], starts, axis=0)
    return sums.T


def _resampled(contenders: Sequence[Contender], metric: str, n_bootstrap: int, seed: int) -> list[Floats]:
    """The score on resampled pictures, the same ones for all: [n_bootstrap, n_seeds] for each contender."""
    rng = np.random.default_rng(seed)
    scorers = [[scorer(answered, metric) for answered in contender.seeds] for contender in contenders]
    n = len(contenders[0].seeds[0].predictions)
    parts: list[list[Floats]] = [[] for _ in contenders]
    for weights in resampled_rows(n, n_bootstrap, rng):
        for part, each in zip(parts, scorers, strict=True):
            part.append(np.stack([score(weights) for score in each], axis=1))
    return [np.concatenate(part) for part in parts]


def _standing(name: str, metric: str, found: Sequence[dict[str, float]]) -> Standing:
    scores = tuple(each[metric] for each in found)
    deviation = float(np.std(scores, ddof=1)) if len(scores) > 1 else None
    others = {key: float(np.mean([each[key] for each in found])) for key in found[0]}
    return Standing(name, scores, float(np.mean(scores)), deviation, others)


@dataclass(frozen=True)
class _Spread:
    """Of the mean over a contender's seeds: variance from seeds (net), what it was estimated from, and how well."""

    net: float
    plain: float
    freedom: float


def _spreads(standings: Sequence[Standing], samples: Sequence[Floats]) -> list[_Spread] | None:
    """One a contender; None where no recipe was trained more than once."""
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
    spreads = []
    for i, standing in enumerate(standings):
        n = len(standing.scores)
        net, plain = known.get(i, pooled)
        spreads.append(_Spread(net / n, plain / n, degrees.get(i, total)))
    return spreads


def _difference(
    first: int,
    second: int,
    contenders: Sequence[Contender],
    standings: Sequence[Standing],
    samples: Sequence[Floats],
    spreads: Sequence[_Spread] | None,
    metric: str,
) -> Difference:
    """One pair; p is not corrected yet."""
    one, other = contenders[first].seeds, contenders[second].seeds
    n = len(one[0].predictions)
    value = standings[second].value - standings[first].value
    discordant = _discordant(one[0], other[0], metric) if len(one) == len(other) == 1 else None
    if spreads is None and discordant is not None and metric in PROPORTIONS:
        return _of_shares(first, second, discordant, n)
    pictures = float((samples[second].mean(axis=1) - samples[first].mean(axis=1)).var(ddof=1))
    parts = [(pictures, float(max(1, n - 1)))]
    seeds = 0.0
    if spreads is not None:
        both = (spreads[first], spreads[second])
        seeds = sum(spread.net for spread in both)
        parts += [(spread.plain, spread.freedom) for spread in both]
    total = pictures + seeds
    if total < 1e-18:  # all answers alike, or all unlike: as sure as so many pictures make it, and not more
        low, high = significance.share_interval(0, 0, n) if metric != "log_loss" else (0.0, 0.0)
        error, low, high = high / 1.96, value + low, value + high
        p = significance.mcnemar(0, n) if abs(value) > 1e-12 else 1.0
    else:
        error, degrees = math.sqrt(total), significance.freedom(total, parts)
        reach = significance.t_limit(degrees) * error
        low, high, p = value - reach, value + reach, significance.t_test(value / error, degrees)
    test = "paired bootstrap" if spreads is None else "paired bootstrap and seeds"
    by_answers = discordant is not None and metric not in ("log_loss", "mean_average_precision")
    if by_answers and _n_differing(one[0], other[0]) < FEWEST:
        p, low, high, test = 1.0, min(low, 0.0), max(high, 0.0), "too few answers differ"
    return Difference(
        first,
        second,
        value,
        low,
        high,
        p,
        p,
        "cannot tell",
        discordant,
        test,
        needed=significance.pictures_needed(value, pictures * n, seeds),
        smallest=significance.smallest_difference(error),
        seed_share=None if spreads is None else seeds / total if total else 0.0,
    )


def _of_shares(first: int, second: int, discordant: tuple[int, int], n: int) -> Difference:
    """Two single networks and a score that is a share of the pictures: no resampling is needed."""
    value = (discordant[1] - discordant[0]) / n
    low, high = significance.share_interval(*discordant, n)
    p = significance.mcnemar(*discordant)
    if p >= significance.ALPHA:  # the exact test is a little stricter than the interval; the stricter one counts
        low, high = min(low, 0.0), max(high, 0.0)
    differing = sum(discordant) / n
    smoothed = (sum(discordant) + 2) / (n + 2)
    return Difference(
        first,
        second,
        value,
        low,
        high,
        p,
        p,
        "cannot tell",
        discordant,
        "McNemar, exact",
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


def _corrected(pairs: Sequence[Difference], metric: str) -> list[Difference]:
    """The same with p-values for all together, and verdicts."""
    sign = -1 if metric == "log_loss" else 1
    result = []
    for pair, p in zip(pairs, significance.holm([pair.p for pair in pairs]).tolist(), strict=True):
        verdict: Verdict = "cannot tell"
        if p < significance.ALPHA:
            verdict = "better" if sign * pair.value > 0 else "worse"
        result.append(replace(pair, p_corrected=p, verdict=verdict))
    return result


def _check(first: Predictions, every: Sequence[Predictions]) -> None:
    if not len(first):
        raise DataError("There is no picture with a label to compare on.")
    for other in every:
        same = other.classes == first.classes and np.array_equal(other.target, first.target)
        if not same:
            raise DataError(
                "These answers cannot be compared: they are about other pictures, labels or classes.",
                "Compare answers to the same pictures, in the same order.",
            )
