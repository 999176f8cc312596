"""Selections of pictures for galleries: right, wrong and uncertain answers, from predictions alone.

Certainty is the calibrated probability of the answer. With several labels a picture has a decision a label ("it is" or
"it is not"), and its certainty is that of the least certain decision. Of equals the lower row comes first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.evaluation.metrics import Array, answers, by_parts, known, take


@dataclass(frozen=True)
class AnsweredPicture:
    """One picture with its labels and the model's answer.

    Attributes:
        row: its row number in the catalog.
        labels: names of its labels; none where it has no label.
        answer: names of the classes that the model answered.
        certainty: in 0..1.
    """

    row: int
    labels: tuple[str, ...]
    answer: tuple[str, ...]
    certainty: float


def wrongest(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[AnsweredPicture, ...]:
    """Pictures answered wrongly, most certain first; with several labels, those with the largest error of a label."""
    labelled = known(predictions)
    answer, certainty = _answers_with_certainty(labelled, temperature, thresholds)
    error = certainty
    if labelled.multilabel:
        error = by_parts(labelled, partial(_largest_error, temperature=temperature))
    return _listed(labelled, answer, certainty, _sorted(-error, _n_wrong(labelled, answer) > 0, limit))


def _largest_error(part: Predictions, temperature: Temperature) -> Floats:
    """[n]: how far the probability of a label lies from what is known of it, at most."""
    error = np.abs(part.target - part.probabilities(temperature))
    return np.asarray((error if part.unknown is None else error * ~part.unknown).max(axis=1))


def right(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[AnsweredPicture, ...]:
    """Pictures answered rightly, spread evenly over all of them: a usual right answer."""
    return _sample(predictions, limit, temperature, thresholds, wrong=False)


def wrong(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[AnsweredPicture, ...]:
    """Pictures answered wrongly, spread evenly over all of them."""
    return _sample(predictions, limit, temperature, thresholds, wrong=True)


def right_and_certain(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[AnsweredPicture, ...]:
    """Pictures answered rightly, most certain first."""
    labelled = known(predictions)
    answer, certainty = _answers_with_certainty(labelled, temperature, thresholds)
    return _listed(labelled, answer, certainty, _sorted(-certainty, _n_wrong(labelled, answer) == 0, limit))


def least_certain(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[AnsweredPicture, ...]:
    """Pictures with the least certain answers, right or wrong; those without a label too."""
    answer, certainty = _answers_with_certainty(predictions, temperature, thresholds)
    return _listed(predictions, answer, certainty, _sorted(certainty, np.ones(len(predictions), bool), limit))


def of_class(predictions: Predictions, name: str) -> Predictions:
    """The pictures labelled with one class; with several labels, those that have it among others.

    Raises:
        ValueError: there is no such class.
    """
    number = predictions.classes.index(name)
    target = predictions.target
    return take(predictions, target[:, number] == 1 if predictions.multilabel else target == number)


def n_wrong(
    predictions: Predictions, *, temperature: Temperature = 1.0, thresholds: npt.ArrayLike | None = None
) -> npt.NDArray[np.int64]:
    """int64 [n]: wrong decisions of each picture with a label: 0 or 1, or the number of its wrong labels."""
    labelled = known(predictions)
    return _n_wrong(labelled, answers(labelled, temperature, thresholds)).astype(np.int64)


def wrong_by_class(
    predictions: Predictions, *, temperature: Temperature = 1.0, thresholds: npt.ArrayLike | None = None
) -> tuple[tuple[str, int, int, int], ...]:
    """Several labels: (label, pictures that have it, false negatives, false positives), in class order.

    Raises:
        ValueError: predictions of one label a picture.
    """
    if not predictions.multilabel:
        raise ValueError("missed and additional labels are counted where a picture may have several")
    answer = answers(predictions, temperature, thresholds)
    positive = predictions.target == 1
    missed, added = (positive & (answer == 0)).sum(axis=0), (~positive & (answer == 1)).sum(axis=0)
    counts = zip(predictions.classes, positive.sum(axis=0), missed, added, strict=True)
    return tuple((name, int(n), int(a), int(b)) for name, n, a, b in counts)


def most_confused(predictions: Predictions, limit: int = 10) -> tuple[tuple[str, str, int], ...]:
    """Pairs of classes (label, answer, number of pictures) that were taken for each other, most frequent first.

    Raises:
        ValueError: predictions of several labels, where a wrong answer does not stand for one label.
    """
    _need_one_label(predictions)
    labelled = known(predictions)
    answer = answers(labelled)
    wrong = answer != labelled.target
    pairs, n = np.unique(np.stack([labelled.target[wrong], answer[wrong]], axis=1), axis=0, return_counts=True)
    names = labelled.classes
    order = np.argsort(-n, kind="stable")[:limit]
    return tuple((names[pairs[i, 0]], names[pairs[i, 1]], int(n[i])) for i in order)


def cell(
    predictions: Predictions, label: str, answered: str, limit: int = 24, *, temperature: Temperature = 1.0
) -> tuple[AnsweredPicture, ...]:
    """Pictures in one cell of the confusion matrix, most certain first.

    Args:
        label, answered: names of classes.

    Raises:
        ValueError: predictions of several labels, or a name that is not one of the classes.
    """
    _need_one_label(predictions)
    row, column = predictions.classes.index(label), predictions.classes.index(answered)
    inside = take(predictions, (predictions.target == row) & (answers(predictions) == column))
    answer, certainty = _answers_with_certainty(inside, temperature, None)
    return _listed(inside, answer, certainty, _sorted(-certainty, np.ones(len(inside), bool), limit))


def most_wrong_labels(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[AnsweredPicture, ...]:
    """Several labels: pictures with the most wrong labels (missed or added), of equals the most certain first."""
    answer, certainty = _answers_with_certainty(predictions, temperature, thresholds)
    n_wrong = _n_wrong(predictions, answer)
    return _listed(predictions, answer, certainty, _sorted(-(n_wrong + certainty), n_wrong > 0, limit))


def missing_labels(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[AnsweredPicture, ...]:
    """Several labels: answered labels that pictures do not have and may lack by mistake, most probable first.

    Each entry names one label as its `answer`, with that label's probability as `certainty`; a picture may have
    several entries.

    Raises:
        ValueError: predictions of one label a picture.
    """
    if not predictions.multilabel:
        raise ValueError("a missing label can only be found where a picture may have several")
    answer = answers(predictions, temperature, thresholds)
    line, column = np.nonzero((answer == 1) & (predictions.target == 0))
    certainty = by_parts(predictions, lambda part: part.probabilities(temperature))[line, column]
    return tuple(
        AnsweredPicture(
            int(predictions.row[line[i]]),
            _names(predictions, predictions.target[line[i]]),
            (predictions.classes[column[i]],),
            float(certainty[i]),
        )
        for i in np.argsort(-certainty, kind="stable")[:limit]
    )


def _sample(
    predictions: Predictions, limit: int, temperature: Temperature, thresholds: npt.ArrayLike | None, *, wrong: bool
) -> tuple[AnsweredPicture, ...]:
    labelled = known(predictions)
    answer, certainty = _answers_with_certainty(labelled, temperature, thresholds)
    positions = np.flatnonzero((_n_wrong(labelled, answer) > 0) == wrong)
    spread = np.linspace(0, len(positions) - 1, min(limit, len(positions))).round().astype(np.int64)
    return _listed(labelled, answer, certainty, positions[spread])


def _answers_with_certainty(
    predictions: Predictions, temperature: Temperature, thresholds: npt.ArrayLike | None
) -> tuple[Array, Floats]:
    """Answers as in `metrics.answers`, and certainty [n]."""
    answer = answers(predictions, temperature, thresholds)
    if not predictions.multilabel:
        return answer, by_parts(predictions, lambda part: part.probabilities(temperature).max(axis=1))

    def weakest(part: Predictions) -> Floats:
        p = part.probabilities(temperature)
        return np.asarray(np.where(answers(part, temperature, thresholds) == 1, p, 1 - p).min(axis=1))

    return answer, by_parts(predictions, weakest)


def _n_wrong(predictions: Predictions, answer: Array) -> Array:
    """[n]: number of wrong decisions of each picture."""
    wrong = answer != predictions.target
    return np.asarray(wrong.sum(axis=1) if predictions.multilabel else wrong.astype(np.int64))


def _sorted(key: Floats, mask: Array, limit: int) -> Array:
    """At most `limit` positions of the mask, by rising key."""
    positions = np.flatnonzero(mask)
    return np.asarray(positions[np.argsort(key[positions], kind="stable")][:limit])


def _listed(
    predictions: Predictions, answer: Array, certainty: Floats, positions: Array
) -> tuple[AnsweredPicture, ...]:
    return tuple(
        AnsweredPicture(
            int(predictions.row[i]),
            _names(predictions, predictions.target[i]),
            _names(predictions, answer[i]),
            float(certainty[i]),
        )
        for i in positions
    )


def _names(predictions: Predictions, labels: Array) -> tuple[str, ...]:
    """Class names of one line of targets or answers."""
    if predictions.multilabel:
        return tuple(predictions.classes[i] for i in np.flatnonzero(labels))
    return (predictions.classes[int(labels)],) if labels >= 0 else ()


def _need_one_label(predictions: Predictions) -> None:
    if predictions.multilabel:
        raise ValueError("pairs of classes are only confused where a picture has one label")
