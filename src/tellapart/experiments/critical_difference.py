"""The same settings on several picture sets: mean ranks, and which of them cannot be told apart.

Each set ranks the settings, 1 for the best; ties share the mean of their ranks. Friedman's test asks whether the mean
ranks differ at all. With Nemenyi's test two settings differ if their mean ranks are further apart than the critical
difference q · √(k (k + 1) / (6 N)), with q from the studentised range for k settings; bars join those that are not.
With few sets that test is weak, and it depends on which settings stand beside: Wilcoxon's signed-rank test of each
pair, corrected by Holm's method, does not (Benavoli and others). It needs five sets or more to show anything.

Sources: J. Demšar, Statistical comparisons of classifiers over multiple data sets, JMLR 7 (2006); A. Benavoli,
G. Corani, F. Mangili, Should we really use post-hoc tests based on mean-ranks?, JMLR 17 (2016).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import Literal

import numpy as np

from tellapart.core.predictions import Floats
from tellapart.errors import UsageError
from tellapart.evaluation.significance import ALPHA, holm
from tellapart.report.study_details import Ranks


def critical_difference(
    sets: Sequence[str],
    names: Sequence[str],
    scores: Floats,
    lower_is_better: bool = False,
    test: Literal["nemenyi", "wilcoxon"] = "nemenyi",
) -> Ranks:
    """Mean ranks of settings over picture sets, with the groups that cannot be told apart.

    Args:
        sets: names of the picture sets, at least two.
        names: of the settings, at least two.
        scores: [n_sets, n_settings], all finite.
        lower_is_better: such as a loss.
        test: "nemenyi", or "wilcoxon" for signed-rank tests of each pair with Holm's correction.

    Raises:
        UsageError: fewer than two sets or settings, or a score that is missing.
    """
    from scipy.stats import friedmanchisquare, rankdata, studentized_range

    n, k = scores.shape
    if n < 2 or k < 2:
        raise UsageError("Ranks need at least two picture sets and two settings.", "Name the studies of more sets.")
    if not np.isfinite(scores).all():
        raise UsageError("A setting has no score on one of the picture sets.", "Finish all studies first.")
    each = rankdata(scores if lower_is_better else -scores, axis=1)
    ranks = each.mean(axis=0)
    order = np.argsort(ranks, kind="stable")
    distance = None
    if test == "nemenyi":
        distance = float(studentized_range.isf(ALPHA, k, math.inf) / math.sqrt(2) * math.sqrt(k * (k + 1) / (6 * n)))
        alike = np.abs(ranks[:, None] - ranks[None]) <= distance
        words = f"Nemenyi's test, critical difference {distance:.2f}"
    else:
        alike = _alike(scores)
        words = "Wilcoxon's signed-rank test of each pair, corrected by Holm's method"
    tied = bool((each == each[:, :1]).all())
    p = 1.0 if tied else float(friedmanchisquare(*scores.T).pvalue) if k > 2 else _sign_p(each)
    sorted_ranks = [float(ranks[i]) for i in order]
    groups = _groups(alike[np.ix_(order, order)])
    return Ranks(
        list(sets),
        [names[i] for i in order],
        sorted_ranks,
        [(sorted_ranks[i], sorted_ranks[j]) for i, j in groups],
        distance,
        p,
        words,
    )


def _sign_p(each: Floats) -> float:
    """Of two settings, Friedman's test is the sign test."""
    from scipy.stats import binomtest

    wins = int((each[:, 0] < each[:, 1]).sum())
    losses = int((each[:, 0] > each[:, 1]).sum())
    return float(binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def _alike(scores: Floats) -> np.ndarray[tuple[int, int], np.dtype[np.bool_]]:
    """[k, k]: whether two settings cannot be told apart by Wilcoxon's test, corrected for all pairs."""
    from scipy.stats import wilcoxon

    k = scores.shape[1]
    pairs = list(combinations(range(k), 2))
    plain = []
    for i, j in pairs:
        differences = scores[:, i] - scores[:, j]
        plain.append(float(wilcoxon(differences).pvalue) if differences.any() else 1.0)
    alike = np.ones((k, k), bool)
    for (i, j), p in zip(pairs, holm(plain).tolist(), strict=True):
        alike[i, j] = alike[j, i] = p >= ALPHA
    return alike


def _groups(alike: np.ndarray[tuple[int, int], np.dtype[np.bool_]]) -> list[tuple[int, int]]:
    """Longest runs of neighbours, in the order of ranks, of which no two can be told apart; none of a single one."""
    k = len(alike)
    runs: list[tuple[int, int]] = []
    for start in range(k):
        end = start
        while end + 1 < k and alike[start : end + 2, start : end + 2].all():
            end += 1
        if end > start and not any(s <= start and end <= e for s, e in runs):
            runs.append((start, end))
    return runs
