"""Which network is better, told on the same pictures: pure functions of trials."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tellapart.core.text import percent
from tellapart.training.planning.budget import Timing

Floats = npt.NDArray[np.float64]
#: A network is as good as the best one, unless it is worse by more than so many standard errors of the difference.
AS_GOOD = 1.0
#: One that is worse by so many is tried no further.
HOPELESS = 2.0


@dataclass(frozen=True)
class Trial:
    """One network at one size, as tried on some training pictures.

    Attributes:
        name, size: the network and the side of its pictures in pixels.
        timing: what it takes here.
        right: [n], for each of the first n pictures of the sample, whether a linear probe fitted without its fold names
            it right, 0 or 1; of several labels, the share of them.
    """

    name: str
    size: int
    timing: Timing
    right: Floats = field(compare=False)

    @property
    def score(self) -> float:
        """Mean of `right`."""
        return float(self.right.mean())

    def __str__(self) -> str:
        return f"{self.name} at {self.size} pixels"


def difference(first: Trial, second: Trial) -> tuple[float, float]:
    """How much better the first is, on the pictures that both have answered, and the standard error of that.

    Pictures that both answer alike say nothing of the difference, and add nothing to its error: so it is told far
    better than from two scores with an error each.
    """
    n = min(len(first.right), len(second.right))
    d = first.right[:n] - second.right[:n]
    # One picture more on either side: where all are answered alike, n pictures leave a doubt of about 1 / n.
    variance = (float(np.square(d).sum()) + 2) / (n + 2) - float(d.mean()) ** 2
    return float(d.mean()), math.sqrt(max(0.0, variance) / n)


def best_of(trials: Sequence[Trial]) -> Trial:
    """The one with the best score on the pictures that all have answered; of equals the first by name, then size."""
    n = min(len(trial.right) for trial in trials)
    return min(trials, key=lambda trial: (-float(trial.right[:n].mean()), trial.name, trial.size))


def as_good(trials: Sequence[Trial], errors: float = AS_GOOD) -> list[Trial]:
    """Those that are not worse than the best by more than so many standard errors of the paired difference."""
    best = best_of(trials)
    return [t for t in trials if t is best or not _worse(t, best, errors)]


def _worse(trial: Trial, best: Trial, errors: float) -> bool:
    mean, error = difference(best, trial)
    return mean > errors * error


def choose(trials: Sequence[Trial], in_time: Sequence[bool], cost: Sequence[float]) -> tuple[Trial, list[str]]:
    """Choose the largest network that is as good as the best, of those that can be trained in time.

    A network that computes more, or sees larger pictures, gains more from fine-tuning. Of equal cost, the name decides.

    Args:
        trials: at least one.
        in_time: of each, whether it can be trained in time. Where none can, the quickest is taken.
        cost: seconds that each would train.

    Returns:
        The choice, and why, in sentences.
    """
    able = [t for t, fits in zip(trials, in_time, strict=True) if fits]
    seconds = {id(t): c for t, c in zip(trials, cost, strict=True)}
    if not able:
        quickest = min(trials, key=lambda t: (seconds[id(t)], t.name, t.size))
        return quickest, [f"No network can be trained in time here; {quickest} is the quickest."]
    best, equals = best_of(able), as_good(able)
    chosen = min(equals, key=lambda t: (-seconds[id(t)], t.name, t.size))
    n = min(len(t.right) for t in able)
    sentence = (
        f"A linear probe on the frozen layers of {chosen}, cross-validated on {len(chosen.right):,} training pictures, "
        f"is right for {percent(chosen.score)}."
    )
    why = [sentence]
    others = [_beside(t, chosen, t in able) for t in trials if t is not chosen]
    if others:
        why.append(f"On the same pictures: {'; '.join(others)}.")
    if chosen is not best:
        mean, error = difference(best, chosen)
        why.append(
            f"It is the largest of those that {n:,} pictures cannot tell from the best, {best} "
            f"({percent(mean, signed=True)} ± {percent(error)})."
        )
    return chosen, why


def _beside(trial: Trial, chosen: Trial, in_time: bool) -> str:
    mean, error = difference(trial, chosen)
    return (
        f"{trial} {percent(mean, signed=True)} ± {percent(error)}{'' if in_time else ', but there is no time for it'}"
    )
