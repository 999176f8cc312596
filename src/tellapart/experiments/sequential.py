"""Seeds on demand: looking again after each further seed, without claiming more than 5 % of differences that are none.

Whoever tests after every seed and stops at the first p below 0.05 finds a difference far too often. *Alpha spending*
lays down how much of the 5 % may be spent up to each look; here by the O'Brien–Fleming-like function, which spends
almost nothing early, and so leaves the last look nearly as strong as a plain test:

    spent(t) = 4 · (1 − Φ(z(α/4) / √t)),  t = seeds so far / most seeds

The critical values follow from it by numerical integration over what goes on to each look. They are for normal
statistics with known variance. For t tests each look is judged by its p-value (significance-level approach), which
spends a little too much: α is lowered by `T_PRICE` for that, a factor found by simulation
(`benchmarks/study_simulation.py`).

Where all seeds are judged on the same pictures, statistics of two looks are more alike than the seeds alone make them.
That lowers the chance of crossing any boundary, so the boundaries hold then too.

`sequential_p` turns it around: the smallest α at which the plan would have claimed the difference by now. Such a
p-value holds whenever one stops, so those of several cells can be corrected by Holm's method.

Sources: P. C. O'Brien, T. R. Fleming, A multiple testing procedure for clinical trials, Biometrics 35 (1979);
K. K. G. Lan, D. L. DeMets, Discrete sequential boundaries for clinical trials, Biometrika 70 (1983); P. Armitage,
C. K. McPherson, B. C. Rowe, Repeated significance tests on accumulating data, JRSS A 132 (1969); S. J. Pocock, Group
sequential methods in the design and analysis of clinical trials, Biometrika 64 (1977); Q. Liu, K. M. Anderson, On
adaptive extensions of group sequential trials, JASA 103 (2008).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats

#: What t tests spend more than tests with known variance: 1.09 to 1.15 times 5 %, over ten plans of 2 to 30 seeds.
T_PRICE = 0.86
_GRID, _STEPS, _FARTHEST = 201, 45, 12.0
#: Levels at which the plan is computed; those between are interpolated.
_ALPHAS = np.concatenate([np.logspace(-9, -1, 33), np.linspace(0.15, 0.999, 12)])


def spent(alpha: npt.ArrayLike, times: npt.ArrayLike) -> Floats:
    """[n_alphas, n_looks]: what may be spent up to each look, at times in 0..1."""
    from scipy.special import ndtr, ndtri

    limit = ndtri(1 - np.atleast_1d(np.asarray(alpha, float)) / 4)
    return np.asarray(4 * ndtr(-limit[:, None] / np.sqrt(np.asarray(times, float))[None]))


def nominal_levels(alpha: npt.ArrayLike, times: npt.ArrayLike) -> Floats:
    """[n_alphas, n_looks]: a two-sided p-value below it, at that look, claims a difference.

    For normal statistics with known variance, with α in 0..1 in all.

    Args:
        alpha: one or several.
        times: of the looks: the share of the information that is there, rising, the last at most 1.
    """
    from scipy.special import ndtr

    at = np.asarray(times, float)
    increments = np.diff(spent(alpha, at), axis=1, prepend=0.0)
    limits = np.empty_like(increments)
    points, weights = np.zeros((len(increments), 1)), np.ones((len(increments), 1))
    before = 0.0
    for look, now in enumerate(at):
        # Between looks the sum of what came in moves like a Brownian motion: by a normal step of this deviation.
        step = np.sqrt(now - before)
        low, high = np.zeros(len(increments)), np.full(len(increments), _FARTHEST)
        for _ in range(_STEPS):
            middle = (low + high) / 2
            edge = (middle * np.sqrt(now))[:, None]
            crossing = (weights * (ndtr((points - edge) / step) + ndtr((-points - edge) / step))).sum(axis=1)
            over = crossing > increments[:, look]
            low, high = np.where(over, middle, low), np.where(over, high, middle)
        limits[:, look] = high
        points, weights = _going_on(points, weights, high * np.sqrt(now), step)
        before = now
    return np.asarray(2 * ndtr(-limits))


def _going_on(points: Floats, weights: Floats, edge: Floats, step: float) -> tuple[Floats, Floats]:
    """The density of what has not crossed, at points between the edges, times the weights of Simpson's rule."""
    simpson = np.full(_GRID, 2.0)
    simpson[1::2], simpson[0], simpson[-1] = 4.0, 1.0, 1.0
    after = edge[:, None] * np.linspace(-1, 1, _GRID)
    density = np.empty_like(after)
    for i in range(len(edge)):
        away = (after[i][:, None] - points[i][None]) / step
        density[i] = np.exp(-(away**2) / 2) @ weights[i] / (step * np.sqrt(2 * np.pi))
    return after, density * simpson * (edge[:, None] * 2 / (_GRID - 1) / 3)


@lru_cache(maxsize=64)
def _plan(first: int, last: int) -> Floats:
    """[n_alphas, n_looks]: nominal levels of a look after each seed from `first` to `last`."""
    return nominal_levels(_ALPHAS, np.arange(first, last + 1) / last)


def sequential_p(p_values: Mapping[int, float], first: int, last: int) -> float:
    """The p-value of a difference that was looked at after several numbers of seeds; it only falls from look to look.

    Args:
        p_values: number of seeds → two-sided p-value of the plain t test on these; NaN counts as 1.
        first, last: the plan: looks after `first`, `first` + 1 … `last` seeds. Equal: one look, the plain p-value.

    Returns:
        In 0..1, NaN where there was no look. At 5 % it may be held against 0.05 whenever one stops.
    """
    looks = {n: p for n, p in p_values.items() if first <= n <= last and np.isfinite(p)}
    if not looks:
        return float("nan")
    if first == last:
        return looks[last]
    levels = np.log(_plan(first, last))
    smallest = 1.0
    for n, p in looks.items():
        alpha = float(np.exp(np.interp(np.log(max(p, 1e-300)), levels[:, n - first], np.log(_ALPHAS))))
        smallest = min(smallest, alpha / T_PRICE if p < 1 else 1.0)
    return smallest


def boundaries(first: int, last: int, alpha: float = 0.05) -> Sequence[tuple[int, float]]:
    """The plan in numbers: for each number of seeds, the p-value of a plain t test that claims a difference."""
    levels = nominal_levels(alpha if first == last else alpha * T_PRICE, np.arange(first, last + 1) / last)[0]
    return [(first + i, float(level)) for i, level in enumerate(levels)]
