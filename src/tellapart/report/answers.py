"""Predictions as cards of a page: the labels under a picture, and the pictures behind a cell of a matrix."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.evaluation.mistakes import AnsweredPicture
from tellapart.report.blocks import Card, Label

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Answers:
    """Predictions and what a page needs to show them.

    Positions count the lines of `predictions`, not the rows of the catalog.

    Attributes:
        predictions: logits and given labels.
        name: row → the name of the picture.
        temperature: divides the logits.
        thresholds: float64 [n_classes]; multilabel: the probability from which a label is answered.
        link: row → address of the picture's file, or "".
    """

    predictions: Predictions
    name: Callable[[int], str]
    temperature: Temperature = 1.0
    thresholds: Floats | None = None
    link: Callable[[int], str] = lambda row: ""

    @cached_property
    def probabilities(self) -> Floats:
        """Calibrated probabilities, float64 [n, n_classes]."""
        return self.predictions.probabilities(self.temperature)

    @cached_property
    def answered(self) -> npt.NDArray[Any]:
        """Predicted labels. One label: int64 [n], class numbers. Multilabel: bool [n, n_classes], False if unknown."""
        if not self.predictions.multilabel:
            return np.asarray(self.probabilities.argmax(axis=1), np.int64)
        reached = np.asarray(self.probabilities >= self._limits)
        return reached if self.predictions.unknown is None else reached & ~self.predictions.unknown

    @property
    def _limits(self) -> Floats:
        n = len(self.predictions.classes)
        return np.full(n, 0.5) if self.thresholds is None else self.thresholds

    @property
    def labels(self) -> npt.NDArray[Any]:
        """Given labels. One label: class numbers, -1 where unknown. Multilabel: bool [n, n_classes]."""
        target = self.predictions.target
        return target.astype(bool) if self.predictions.multilabel else target

    def cell(self, label: int, answer: int) -> Positions:
        """Positions of the pictures of one cell of the confusion matrix: given `label`, answered `answer`.

        Wrong answers are sorted by falling certainty. Right ones are sorted by rising certainty: the least certain of
        them are worth a look.
        """
        positions = np.flatnonzero((self.labels == label) & (self.answered == answer))
        order = np.argsort(self.probabilities[positions, answer], kind="stable")
        return positions[order if label == answer else order[::-1]]

    def label_cell(self, label: int, is_labelled: bool, is_answered: bool) -> Positions:
        """Multilabel: positions where this label is (not) given and (not) answered, the most wrong first."""
        positions = np.flatnonzero((self.labels[:, label] == is_labelled) & (self.answered[:, label] == is_answered))
        order = np.argsort(self.probabilities[positions, label], kind="stable")
        return positions[order if is_labelled else order[::-1]]

    def swapped(self, label: int, answer: int) -> Positions:
        """Multilabel: positions where `label` is missed and `answer` made up, the most certain first.

        Where both are one label: where it is given and answered, the least certain first.
        """
        if label == answer:
            return self.label_cell(label, True, True)
        missed = self.labels[:, label] & ~self.answered[:, label]
        positions = np.flatnonzero(missed & self.answered[:, answer] & ~self.labels[:, answer])
        return positions[np.argsort(-self.probabilities[positions, answer], kind="stable")]

    def cards(self, positions: Positions) -> list[Card]:
        """Cards for these positions."""
        return [self.card(int(i)) for i in positions]

    def cards_of(self, pictures: Iterable[AnsweredPicture]) -> list[Card]:
        """Cards for pictures as `evaluation.mistakes` lists them."""
        return [self.card(int(np.searchsorted(self.predictions.row, picture.row))) for picture in pictures]

    def card(self, i: int, note: str = "") -> Card:
        """Card of one picture: given and answered labels, each with its probability; `note` is one more line."""
        row = int(self.predictions.row[i])
        chances, classes = self.probabilities[i], self.predictions.classes
        if self.predictions.multilabel:
            labels, answered = self.labels[i], self.answered[i]
            return Card(
                row,
                self.name(row),
                [Label(classes[k], float(chances[k]), bool(answered[k])) for k in np.flatnonzero(labels)],
                [Label(classes[k], float(chances[k]), bool(labels[k])) for k in np.flatnonzero(answered)],
                link=self.link(row),
                note=note,
            )
        answer, truth = int(self.answered[i]), int(self.labels[i])
        right = answer == truth if truth >= 0 else None
        known = [Label(classes[truth], float(chances[truth]), right or None)] if truth >= 0 else []
        answers = [Label(classes[answer], float(chances[answer]), right)]
        return Card(row, self.name(row), known, answers, link=self.link(row), note=note)
