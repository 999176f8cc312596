"""From predictions to cards: which pictures are behind a cell, which are most wrong, which least certain."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.records import Floats, Predictions
from tellapart.report.blocks import Card, Label

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Predictions as answers. Positions count the lines of `predictions`, not the rows of the catalog.

    Attributes:
        predictions: logits and given labels.
        name: row → what the picture is called.
        temperature: divides the logits.
        thresholds: float64 [n_classes]; with several labels, a label is answered from this probability on.
    """

    predictions: Predictions
    name: Callable[[int], str]
    temperature: float = 1.0
    thresholds: Floats | None = None

    @cached_property
    def probabilities(self) -> Floats:
        """float64 [n, n_classes]."""
        return self.predictions.probabilities(self.temperature)

    @cached_property
    def answered(self) -> npt.NDArray[Any]:
        """One label: int64 [n], class numbers. Several: bool [n, n_classes]."""
        if not self.predictions.several:
            return np.asarray(self.probabilities.argmax(axis=1), np.int64)
        return np.asarray(self.probabilities >= self._limits)

    @property
    def _limits(self) -> Floats:
        n = len(self.predictions.classes)
        return np.full(n, 0.5) if self.thresholds is None else self.thresholds

    @property
    def given(self) -> npt.NDArray[Any]:
        """Class numbers, -1 where unknown; or bool [n, n_classes]."""
        target = self.predictions.target
        return target.astype(bool) if self.predictions.several else target

    @cached_property
    def certainty(self) -> Floats:
        """Of the answer, float64 [n]; with several labels, how far the closest one is from its threshold."""
        if not self.predictions.several:
            return np.asarray(self.probabilities.max(axis=1))
        return np.asarray(np.abs(self.probabilities - self._limits).min(axis=1))

    @cached_property
    def wrong(self) -> npt.NDArray[np.bool_]:
        """Bool [n]: the answer differs from what is given, in any label. False where nothing is given."""
        if self.predictions.several:
            return np.asarray((self.given != self.answered).any(axis=1))
        return np.asarray((self.given >= 0) & (self.given != self.answered))

    def most_wrong(self, most: int) -> Positions:
        """Wrong answers, the worst first: the most certain; with several labels, those furthest off in a label."""
        wrong = np.flatnonzero(self.wrong)
        badness = self.certainty
        if self.predictions.several:
            badness = np.abs(self.given - self.probabilities).max(axis=1)
        return wrong[np.argsort(-badness[wrong], kind="stable")][:most]

    def least_certain(self, most: int) -> Positions:
        """Answers with the lowest certainty, the lowest first, right and wrong ones."""
        return np.argsort(self.certainty, kind="stable")[:most].astype(np.int64)

    def cell(self, given: int, answered: int) -> Positions:
        """Pictures given one class and answered another (or the same), wrong ones by falling certainty.

        The right ones come by rising certainty: those are worth a look.
        """
        found = np.flatnonzero((self.given == given) & (self.answered == answered))
        order = np.argsort(self.certainty[found], kind="stable")
        return found[order if given == answered else order[::-1]]

    def label_cell(self, label: int, given: bool, answered: bool) -> Positions:
        """Several labels: pictures where this label is (not) given and (not) answered, the most wrong first."""
        found = np.flatnonzero((self.given[:, label] == given) & (self.answered[:, label] == answered))
        order = np.argsort(self.probabilities[found, label], kind="stable")
        return found[order if given else order[::-1]]

    def cards(self, positions: Positions) -> list[Card]:
        """What is shown under these pictures."""
        return [self.card(int(i)) for i in positions]

    def card(self, i: int) -> Card:
        """Picture, given labels, answered labels, each with its probability."""
        row = int(self.predictions.row[i])
        chances, classes = self.probabilities[i], self.predictions.classes
        if self.predictions.several:
            given, answered = self.given[i], self.answered[i]
            return Card(
                row,
                self.name(row),
                [Label(classes[k], float(chances[k]), bool(answered[k])) for k in np.flatnonzero(given)],
                [Label(classes[k], float(chances[k]), bool(given[k])) for k in np.flatnonzero(answered)],
            )
        answer, truth = int(self.answered[i]), int(self.given[i])
        right = answer == truth if truth >= 0 else None
        known = [Label(classes[truth], float(chances[truth]), right or None)] if truth >= 0 else []
        return Card(row, self.name(row), known, [Label(classes[answer], float(chances[answer]), right)])
