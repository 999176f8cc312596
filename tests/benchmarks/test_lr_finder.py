"""The finder beside the rule that fastai publishes, on made-up curves; the measured ones are in benchmarks/results."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.lr_finder import fastai_valley
from tellapart.training.lr_suggestions import running_mean, suggest, sweep


def published(lrs: np.ndarray, means: np.ndarray) -> float:
    """The loops of the published rule: the length of the longest falling subsequence that ends at each step."""
    lengths, end = [1] * len(means), 0
    start = 0
    for i in range(1, len(means)):
        for j in range(i):
            if means[i] < means[j] and lengths[i] < lengths[j] + 1:
                lengths[i] = lengths[j] + 1
            if lengths[end] < lengths[i]:
                end, start = i, i - lengths[i]
    third = (end - start) / 3
    return float(lrs[start + int(third) + int(third / 2)])


@pytest.mark.parametrize("seed", range(5))
def test_the_rule_beside_which_we_measure_is_the_published_one(seed: int) -> None:
    lrs = sweep(1e-7, 10, 100)
    losses = 2 / (1 + lrs * 300) + np.random.default_rng(seed).normal(0, 0.1, 100)
    expected = published(lrs[10:-5], running_mean(losses)[10:-5])
    assert fastai_valley(lrs.tolist(), losses.tolist()) == expected


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("falls_at", [1e-4, 1e-3, 1e-2])
def test_the_valley_is_where_the_loss_falls(falls_at: float, noise: float) -> None:
    """Without noise the running mean falls to the end of a test without explosion: fastai's valley is its middle."""
    lrs = sweep(1e-7, 10, 100)
    losses = 1.1 / (1 + (lrs / falls_at) ** 1.5) + np.random.default_rng(0).normal(0, noise, 100)
    assert 1 / 3 < suggest(lrs, losses).valley / falls_at < 3
    if not noise:
        assert fastai_valley(lrs.tolist(), losses.tolist()) == pytest.approx(1.3e-3, rel=0.05)
