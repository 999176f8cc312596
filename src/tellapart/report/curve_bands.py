"""Learning curves of several trainings of one setting as one curve with a band."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np

from tellapart.core.predictions import Floats
from tellapart.report.curves import Curves

#: What is drawn after each epoch.
MEASURES = ("training_accuracy", "validation_accuracy", "training_loss", "validation_loss")


@dataclass(frozen=True)
class Band:
    """A measure after each epoch, over seeds: mean, lowest and highest [n_epochs]; NaN where it was not measured."""

    mean: Floats
    low: Floats
    high: Floats


@dataclass(frozen=True)
class Banded:
    """Learning curves over the epochs that all seeds reached.

    Attributes:
        epochs: 1 to n, counted on over stages.
        bands: one of `MEASURES` → band.
        best: the epoch whose weights were kept, the median over seeds.
        accuracy_name: "Accuracy", or "Label accuracy" where pictures may have several labels.
    """

    epochs: Sequence[int]
    bands: Mapping[str, Band]
    best: int
    accuracy_name: str = "Accuracy"

    @property
    def gap(self) -> float:
        """Training accuracy less that on validation, at the epoch that was kept; NaN where either is not known."""
        at = min(self.best, len(self.epochs)) - 1
        return float(self.bands["training_accuracy"].mean[at] - self.bands["validation_accuracy"].mean[at])


def banded(trainings: Sequence[Sequence[Mapping[str, Any]]], best: int) -> Banded | None:
    """Curves of trainings by their epochs (`MEASURES` → number or None); None where one has no epoch.

    Args:
        best: the epoch whose weights were kept; 0: the last one that all reached.
    """
    n = min((len(epochs) for epochs in trainings), default=0)
    if not n:
        return None
    bands = {name: _band([[_number(epoch.get(name)) for epoch in of[:n]] for of in trainings]) for name in MEASURES}
    return Banded(range(1, n + 1), bands, best or n)


def bands_of(courses: Sequence[Curves]) -> Banded | None:
    """Learning curves of runs of one recipe; None where one of them has no epoch."""
    n = min((len(course.epoch) for course in courses), default=0)
    if not n:
        return None
    lines = {
        "training_accuracy": [course.train_accuracy[:n] for course in courses],
        "validation_accuracy": [course.validation_accuracy[:n] for course in courses],
        "training_loss": [course.train_loss[:n] for course in courses],
        "validation_loss": [course.validation_loss[:n] for course in courses],
    }
    best = int(median(course.best or len(course.epoch) for course in courses))
    return Banded(range(1, n + 1), {name: _band(of) for name, of in lines.items()}, best, courses[0].accuracy_name)


def _band(lines: Sequence[Sequence[float]]) -> Band:
    values: Floats = np.array(lines, float)
    # An epoch without a value in any training is NaN in mean and band, and breaks the curve.
    return Band(values.mean(axis=0), values.min(axis=0), values.max(axis=0))


def _number(value: Any) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
