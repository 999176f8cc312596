"""What a learning-rate test says: rates to take, read from the losses of a training whose rate rose. No torch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tellapart.errors import TrainingError

Floats = npt.NDArray[np.float64]

BETA = 0.98
FEWEST = 10
#: Names of the suggestions, as a recipe takes them; the first is the one to take if in doubt.
RULES = ("valley", "steepest", "tenth_of_minimum", "highest_falling")


@dataclass(frozen=True, eq=False)
class LrSuggestions:
    """Suggested learning rates, and the curve that they are read from (Smith 2017, arXiv 1506.01186).

    None of them lies in the last decade before the loss diverges. Each has two digits.

    Attributes:
        lrs: float64 [n], rising: up to where the loss stopped being a number.
        losses: float64 [n], as they came.
        smoothed: float64 [n], see `smooth`.
        valley: in the middle of the way down, on a logarithmic scale; the one to take if in doubt. The way goes from
            where a tenth of the fall is done to where nine tenths are.
        steepest: where the loss falls fastest against the logarithm of the learning rate.
        tenth_of_minimum: a tenth of the learning rate at which the loss comes to its lowest.
        highest_falling: the highest one, up to the lowest loss, at which the loss still falls, and does so at least a
            quarter as fast as where it is steepest; nearer to the lowest loss it is as good as flat.
        diverges: where the loss rises clearly after its fall, or stops being a number; None: it does neither, so the
            test ended too early, and higher rates might do as well.
    """

    lrs: Floats
    losses: Floats
    smoothed: Floats
    valley: float
    steepest: float
    tenth_of_minimum: float
    highest_falling: float
    diverges: float | None

    @property
    def by_rule(self) -> dict[str, float]:
        """All suggestions, by their rules."""
        return {rule: getattr(self, rule) for rule in RULES}


def sweep(first: float, last: float, n: int) -> Floats:
    """The n learning rates of a test: geometric, from first to last."""
    return np.geomspace(first, last, n)


def running_mean(losses: Sequence[float] | Floats, beta: float = BETA) -> Floats:
    """M ← beta · m + (1 - beta) · loss, over 1 - beta^(t + 1), which corrects the start from m = 0.

    It lags behind the losses by two decades of a test of 100 steps, so no rate is read from it.
    """
    means = np.empty(len(losses))
    mean = 0.0
    for step, loss in enumerate(losses):
        mean = beta * mean + (1 - beta) * float(loss)
        means[step] = mean / (1 - beta ** (step + 1))
    return means


def blew_up(losses: Sequence[float] | Floats, factor: float = 4.0) -> bool:
    """Whether a test is over: the last loss is not finite, or the running mean is above `factor` times its lowest."""
    if not np.isfinite(losses[-1]):
        return True
    means = running_mean(losses)
    return bool(means[-1] > factor * means.min())


def smooth(losses: Sequence[float] | Floats) -> Floats:
    """The losses without their noise, and without a lag: running median of three, then a Gaussian.

    Its deviation is a 25th of the steps: a third of a decade in a test of 100. Losses count up to as far above the
    first ones as the lowest lies below, so that the explosion at the end does not reach into what comes before.

    Args:
        losses: [n], finite.
    """
    y = np.asarray(losses, np.float64)
    padded = np.concatenate([y[:1], y, y[-1:]])
    medians = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
    start = _start(y)
    clipped = np.minimum(medians, start + max(0.0, start - medians.min()))
    steps = np.arange(len(y))
    weights = np.exp(-0.5 * ((steps[:, None] - steps) / _deviation(len(y))) ** 2)
    return np.asarray(weights @ clipped / weights.sum(axis=1), np.float64)


def suggest(lrs: Sequence[float] | Floats, losses: Sequence[float] | Floats) -> LrSuggestions:
    """Read the suggestions from a test.

    Args:
        lrs: [n], rising.
        losses: [n], the loss of each step, before it.

    Raises:
        TrainingError: fewer than 10 steps before the loss was no number, or a loss that fell by less than 1 % or than
            its noise.
    """
    x, y = np.asarray(lrs, np.float64), np.asarray(losses, np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise ValueError(f"{x.shape} learning rates and {y.shape} losses")
    bad = np.flatnonzero(~np.isfinite(y))
    end = int(bad[0]) if len(bad) else len(y)
    if end < FEWEST:
        raise TrainingError(
            f"The learning-rate test has {end} usable steps; it needs {FEWEST}.",
            "Begin at a lower learning rate, or take more steps.",
        )
    ends_at = float(x[end]) if len(bad) else None
    x, y = x[:end], y[:end]
    curve, start, noise = smooth(y), _start(y), _noise(y)
    turn = _turn(curve, start, noise / math.sqrt(_window(end)))
    lowest = int(curve[:turn].argmin())
    fall = start - float(curve[lowest])
    if lowest < _n_first(end) or fall < max(0.01 * abs(start), _chance(end) * noise):
        raise TrainingError(
            "The loss did not fall during the learning-rate test, or by no more than its noise.",
            "Test other learning rates or larger batches, or check that the labels belong to the pictures.",
        )
    diverges = float(x[turn]) if turn < end else ends_at or (float(x[-1]) if blew_up(y) else None)
    limit = math.inf if diverges is None else diverges / 10
    return LrSuggestions(x, y, curve, **_read(x[:turn], (start - curve[:turn]) / fall, limit), diverges=diverges)


def _read(x: Floats, fallen: Floats, limit: float) -> dict[str, float]:
    """The suggestions by name.

    Args:
        x: learning rates [n], up to where the loss diverges.
        fallen: share of the fall that is done at each [n]; it comes to 1.
        limit: the highest rate that may be suggested.
    """
    lowest = int(np.argmax(fallen >= 0.98))  # on a plateau the lowest point itself is chance
    down = int(np.argmax(fallen >= 0.9))
    begin = int(np.flatnonzero(fallen[: down + 1] < 0.1).max(initial=0))
    slope = np.gradient(fallen, np.log(x))[begin : lowest + 1]
    still = np.flatnonzero(slope >= slope.max() / 4)
    lrs = {
        "valley": math.sqrt(x[begin] * x[down]),
        "steepest": x[begin + slope.argmax()],
        "tenth_of_minimum": x[lowest] / 10,
        "highest_falling": x[begin + still[-1]],
    }
    return {name: two_digits(min(float(lr), limit)) for name, lr in lrs.items()}


def two_digits(lr: float) -> float:
    """A learning rate rounded down to two digits, so that the one that is printed is the one that is taken."""
    exponent = math.floor(math.log10(lr)) - 1
    return float(f"{math.floor(lr / 10.0**exponent + 1e-6)}e{exponent}")


def _turn(curve: Floats, start: float, error: float) -> int:
    """The first step at which the loss rises clearly, once half of its fall is done; their number, if it never does.

    Args:
        curve: smoothed losses [n].
        start: the loss before its fall.
        error: standard error of the curve. Four of it are the least that is no noise.
    """
    lowest = np.minimum.accumulate(curve)
    fall = start - float(lowest[-1])
    rises = (start - lowest >= fall / 2) & (curve - lowest > max(fall / 10, 4 * error))
    return int(rises.argmax()) if rises.any() else len(curve)


def _n_first(n: int) -> int:
    return max(3, n // 10)


def _start(losses: Floats) -> float:
    """The loss before its fall: at the first tenth of the rates, which change nothing."""
    return float(np.median(losses[: _n_first(len(losses))]))


def _noise(losses: Floats) -> float:
    """Deviation of single losses, from the differences of neighbours in the first half, where rates change little."""
    steps = np.diff(losses[: max(FEWEST, len(losses) // 2)])
    return float(1.4826 * np.median(np.abs(steps - np.median(steps))) / math.sqrt(2))


def _chance(n: int) -> float:
    """The deepest fall that noise alone shows in a test of n steps, once in a hundred times; 1 is its deviation.

    The errors of the lowest point and of the start are of independent losses. Their factor was found by simulation.
    """
    return 4 * (1 + 12 / n) * math.hypot(_window(n) ** -0.5, _n_first(n) ** -0.5)


def _deviation(n: int) -> float:
    return max(1.0, n / 25)


def _window(n: int) -> float:
    """How many losses `smooth` takes the mean of."""
    return 2 * math.sqrt(math.pi) * _deviation(n)
