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

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from tellapart.core.predictions import Floats, Predictions
from tellapart.core.suggest import suggest
from tellapart.errors import DataError, UsageError
from tellapart.evaluation import metrics
from tellapart.evaluation.comparison import Comparison, Contender, Standing
from tellapart.evaluation.difference import Pair, corrected, difference, seed_variances
from tellapart.evaluation.intervals import PROPORTIONS, resampled_rows
from tellapart.evaluation.weighted_scores import scorer


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
    _check_pictures(first, [answered.predictions for contender in contenders for answered in contender.seeds])
    scores = [[metrics.scores(a.predictions, a.temperature, a.thresholds) for a in c.seeds] for c in contenders]
    metric = metric or next(iter(scores[0][0]))
    if metric not in scores[0][0]:
        raise UsageError(f"There is no score {metric!r} here.", suggest(metric, scores[0][0]))
    standings = [_standing(c.name, metric, of_seeds) for c, of_seeds in zip(contenders, scores, strict=True)]
    exact = metric in PROPORTIONS and all(len(contender.seeds) == 1 for contender in contenders)
    samples = None if exact else _resampled(contenders, metric, n_bootstrap, seed)
    variances = None if samples is None else seed_variances(standings, samples)
    pairs = [
        Pair(
            i,
            j,
            (contenders[i], contenders[j]),
            (standings[i], standings[j]),
            None if samples is None else (samples[i], samples[j]),
            None if variances is None else (variances[i], variances[j]),
        )
        for i, j in combinations(range(len(contenders)), 2)
    ]
    differences = corrected([difference(pair, metric) for pair in pairs], metric)
    return Comparison(metric, len(first), first.multilabel, tuple(standings), tuple(differences))


def _resampled(contenders: Sequence[Contender], metric: str, n_bootstrap: int, seed: int) -> list[Floats]:
    """The score on resampled pictures, the same ones for all: [n_bootstrap, n_seeds] for each contender."""
    rng = np.random.default_rng(seed)
    scorers = [[scorer(answered, metric) for answered in contender.seeds] for contender in contenders]
    n = len(contenders[0].seeds[0].predictions)
    pieces: list[list[Floats]] = [[] for _ in contenders]
    for weights in resampled_rows(n, n_bootstrap, rng):
        for piece, of_seeds in zip(pieces, scorers, strict=True):
            piece.append(np.stack([score(weights) for score in of_seeds], axis=1))
    return [np.concatenate(piece) for piece in pieces]


def _standing(name: str, metric: str, scores: Sequence[dict[str, float]]) -> Standing:
    values = tuple(of_seed[metric] for of_seed in scores)
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    others = {key: float(np.mean([of_seed[key] for of_seed in scores])) for key in scores[0]}
    return Standing(name, values, float(np.mean(values)), deviation, others)


def _check_pictures(first: Predictions, every: Sequence[Predictions]) -> None:
    if not len(first):
        raise DataError("There is no picture with a label to compare on.")
    for other in every:
        same = other.classes == first.classes and np.array_equal(other.target, first.target)
        if not same:
            raise DataError(
                "These answers cannot be compared: they are about other pictures, labels or classes.",
                "Compare answers to the same pictures, in the same order.",
            )
