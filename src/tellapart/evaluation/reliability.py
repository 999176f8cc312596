"""The reliability diagram and the expected calibration error, with its interval."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.core.scores import Metric
from tellapart.errors import DataError
from tellapart.evaluation import intervals
from tellapart.evaluation.metrics import Array, known, ratio, take

BINS = 15
_PART = 2**20  # probabilities handled at a time


@dataclass(frozen=True)
class Bin:
    """One column of a reliability diagram.

    Attributes:
        low, high: its edges; a certainty of `high` lies in it, one of `low` does not.
        n: number of answers in it; with several labels, of decisions on a label.
        certainty: their mean certainty.
        right: their share that is right (several labels: whose label is given), with its 95 % interval.
    """

    low: float
    high: float
    n: int
    certainty: float
    right: Metric


@dataclass(frozen=True)
class Reliability:
    """Certainty against accuracy.

    Attributes:
        error: the expected calibration error, in 0..1, 0 is best, with an interval bootstrapped over pictures. With few
            pictures it is too high on average, even where every certainty is true: it sums absolute values.
        bins: those that are not empty, by rising certainty.
    """

    error: Metric
    bins: tuple[Bin, ...]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Reliability:
        """The inverse of `as_dict`."""
        bins = tuple(Bin(**{**entry, "right": Metric(**entry["right"])}) for entry in values["bins"])
        return cls(Metric(**values["error"]), bins)


def reliability(
    predictions: Predictions, temperature: Temperature = 1.0, bins: int = BINS, n_bootstrap: int = 1000, seed: int = 0
) -> Reliability:
    """The reliability diagram: answers in bins of equal width by their certainty, and the share of right ones in each.

    Several labels: the probability of every label of every picture, and whether the picture has it.

    Source: M. P. Naeini, G. F. Cooper, M. Hauskrecht, Obtaining well calibrated probabilities using Bayesian binning,
    AAAI 2015, with 15 bins as in C. Guo et al., On calibration of modern neural networks, ICML 2017.

    Raises:
        DataError: no picture has a label.
    """
    predictions = known(predictions)
    if not len(predictions):
        raise DataError("None of the pictures has a label: certainty cannot be checked.")
    sums = np.zeros((4, bins))  # answers, certainty, right ones, variance of these if the certainties are true
    gaps = np.zeros((len(predictions), bins), np.float32)  # what each picture adds to each bin's gap
    for start, certainty, right, is_known in _answers(predictions, temperature):
        index = np.clip(np.ceil(certainty * bins).astype(np.int64) - 1, 0, bins - 1)
        for line, values in enumerate((is_known, certainty, right, certainty * (1 - certainty))):
            sums[line] += np.bincount(index.ravel(), (values * is_known).ravel(), bins)
        cell = np.arange(len(index))[:, None] * bins + index
        flat = np.bincount(cell.ravel(), ((certainty - right) * is_known).ravel(), len(index) * bins)
        gaps[start : start + len(index)] = flat.reshape(-1, bins)
    n, total = sums[0], sums[0].sum()
    error = float(np.abs(sums[1] - sums[2]).sum() / total)
    rng = np.random.default_rng(seed)
    pieces = intervals.resampled_rows(len(predictions), n_bootstrap, rng)
    samples = np.concatenate([np.abs(gaps.T @ weights).sum(axis=0) for weights in pieces]) / total
    # The basic interval (Davison and Hinkley 1997, 5.2): resampled errors are too large by as much as this one is.
    low, high = 2 * error - np.quantile(samples, [0.975, 0.025])
    # What certainties that are true would show with so few pictures (Bröcker and Smith 2007) may be no error at all.
    honest = np.abs(rng.normal(size=(n_bootstrap, bins)) * np.sqrt(sums[3])).sum(axis=1) / total
    low = 0.0 if error <= np.quantile(honest, 0.975) else max(float(low), 0.0)
    share = ratio(sums[2], n)
    least, most = intervals.wilson(share, n)
    return Reliability(
        Metric(error, min(low, error), max(float(high), error), len(predictions)),
        tuple(
            Bin(
                float(i / bins),
                float((i + 1) / bins),
                int(n[i]),
                float(sums[1, i] / n[i]),
                Metric(float(share[i]), float(least[i]), float(most[i]), int(n[i])),
            )
            for i in np.flatnonzero(n)
        ),
    )


def _answers(predictions: Predictions, temperature: Temperature) -> Iterator[tuple[int, Floats, Array, Floats]]:
    """Number of a first picture; from it on certainties, whether they are right, and whether that is known (1 or 0).

    Each is [k, 1], or [k, n_classes] with several labels.
    """
    step = max(1, _PART // len(predictions.classes))
    for start in range(0, len(predictions), step):
        part = take(predictions, slice(start, start + step))
        p = part.probabilities(temperature)
        if part.multilabel:
            is_known = np.ones(p.shape) if part.unknown is None else (~part.unknown).astype(float)
            yield start, p, part.target.astype(float), is_known
        else:
            right = part.logits.argmax(axis=1) == part.target
            certainty = p.max(axis=1, keepdims=True)
            yield start, certainty, right[:, None].astype(float), np.ones_like(certainty)
