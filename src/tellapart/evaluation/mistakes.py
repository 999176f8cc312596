"""Which pictures were judged rightly, wrongly or hesitantly: selections for galleries, from predictions alone.

Certainty is the probability, after the temperature, of what the model decided. With several labels a picture has a
decision a label ("it is" or "it is not"), and its certainty is that of the weakest of them.
Of equals the lower row comes first.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.evaluation.metrics import Array, answers, by_parts, known, take


@dataclass(frozen=True)
class Judged:
    """What a model said of one picture.

    Attributes:
        row: its row number in the catalog.
        given: names of its labels; none where it has no label.
        answer: names of the classes it was answered with.
        certainty: in 0..1.
    """

    row: int
    given: tuple[str, ...]
    answer: tuple[str, ...]
    certainty: float


def wrongest(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[Judged, ...]:
    """Pictures answered wrongly, most certain first; with several labels, those furthest off in a label."""
    seen = known(predictions)
    answer, certainty = _judge(seen, temperature, thresholds)
    badness = certainty
    if seen.multilabel:
        badness = by_parts(seen, lambda part: np.abs(part.target - part.probabilities(temperature)).max(axis=1))
    return _listed(seen, answer, certainty, _sorted(-badness, _n_wrong(seen, answer) > 0, limit))


def right(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[Judged, ...]:
    """Pictures answered rightly, drawn evenly over all of them: what a usual right answer looks like."""
    return _sample(predictions, limit, temperature, thresholds, wrong=False)


def wrong(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[Judged, ...]:
    """Pictures answered wrongly, drawn evenly over all of them."""
    return _sample(predictions, limit, temperature, thresholds, wrong=True)


def right_and_certain(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[Judged, ...]:
    """Pictures answered rightly, most certain first."""
    seen = known(predictions)
    answer, certainty = _judge(seen, temperature, thresholds)
    return _listed(seen, answer, certainty, _sorted(-certainty, _n_wrong(seen, answer) == 0, limit))


def least_certain(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[Judged, ...]:
    """Pictures that the model is least sure of, right or wrong; those without a label too."""
    answer, certainty = _judge(predictions, temperature, thresholds)
    return _listed(predictions, answer, certainty, _sorted(certainty, np.ones(len(predictions), bool), limit))


def of_class(predictions: Predictions, name: str) -> Predictions:
    """The pictures that were given one class; with several labels, those that have it among others.

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
    seen = known(predictions)
    return _n_wrong(seen, answers(seen, temperature, thresholds)).astype(np.int64)


def wrong_by_class(
    predictions: Predictions, *, temperature: Temperature = 1.0, thresholds: npt.ArrayLike | None = None
) -> tuple[tuple[str, int, int, int], ...]:
    """Several labels: (label, given, missed, answered though not given), in class order.

    Raises:
        ValueError: predictions of one label a picture.
    """
    if not predictions.multilabel:
        raise ValueError("missed and additional labels are counted where a picture may have several")
    answer = answers(predictions, temperature, thresholds)
    given = predictions.target == 1
    missed, more = (given & (answer == 0)).sum(axis=0), (~given & (answer == 1)).sum(axis=0)
    counts = zip(predictions.classes, given.sum(axis=0), missed, more, strict=True)
    return tuple((name, int(n), int(a), int(b)) for name, n, a, b in counts)


def most_confused(predictions: Predictions, limit: int = 10) -> tuple[tuple[str, str, int], ...]:
    """Pairs of classes (label, answer, number of pictures) that were taken for each other, most frequent first.

    Raises:
        ValueError: predictions of several labels, where a wrong answer does not stand for one given label.
    """
    _need_one_label(predictions)
    seen = known(predictions)
    answer = answers(seen)
    wrong = answer != seen.target
    pairs, n = np.unique(np.stack([seen.target[wrong], answer[wrong]], axis=1), axis=0, return_counts=True)
    names = seen.classes
    order = np.argsort(-n, kind="stable")[:limit]
    return tuple((names[pairs[i, 0]], names[pairs[i, 1]], int(n[i])) for i in order)


def cell(
    predictions: Predictions, given: str, answered: str, limit: int = 24, *, temperature: Temperature = 1.0
) -> tuple[Judged, ...]:
    """Pictures in one cell of the confusion matrix, most certain first.

    Args:
        given, answered: names of classes.

    Raises:
        ValueError: predictions of several labels, or a name that is not one of the classes.
    """
    _need_one_label(predictions)
    label, other = predictions.classes.index(given), predictions.classes.index(answered)
    inside = take(predictions, (predictions.target == label) & (answers(predictions) == other))
    answer, certainty = _judge(inside, temperature, None)
    return _listed(inside, answer, certainty, _sorted(-certainty, np.ones(len(inside), bool), limit))


def most_wrong_labels(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[Judged, ...]:
    """Several labels: pictures with the most labels wrong (missed or too many), of equals the most certain first."""
    answer, certainty = _judge(predictions, temperature, thresholds)
    n_wrong = _n_wrong(predictions, answer)
    return _listed(predictions, answer, certainty, _sorted(-(n_wrong + certainty), n_wrong > 0, limit))


def missing_labels(
    predictions: Predictions,
    limit: int = 24,
    *,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
) -> tuple[Judged, ...]:
    """Several labels: labels that may be missing in the data, as they are answered but not given, most probable first.

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
        Judged(
            int(predictions.row[line[i]]),
            _names(predictions, predictions.target[line[i]]),
            (predictions.classes[column[i]],),
            float(certainty[i]),
        )
        for i in np.argsort(-certainty, kind="stable")[:limit]
    )


def _sample(
    predictions: Predictions, limit: int, temperature: Temperature, thresholds: npt.ArrayLike | None, *, wrong: bool
) -> tuple[Judged, ...]:
    seen = known(predictions)
    answer, certainty = _judge(seen, temperature, thresholds)
    found = np.flatnonzero((_n_wrong(seen, answer) > 0) == wrong)
    spread = np.linspace(0, len(found) - 1, min(limit, len(found))).round().astype(np.int64)
    return _listed(seen, answer, certainty, found[spread])


def _judge(
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


def _sorted(key: Floats, where: Array, limit: int) -> Array:
    """At most `limit` positions where `where` holds, by rising key."""
    positions = np.flatnonzero(where)
    return np.asarray(positions[np.argsort(key[positions], kind="stable")][:limit])


def _listed(predictions: Predictions, answer: Array, certainty: Floats, positions: Array) -> tuple[Judged, ...]:
    return tuple(
        Judged(
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
