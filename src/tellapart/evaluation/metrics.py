"""Scores of predictions: scikit-learn's definitions, and its names where it has one.

Pictures without a label (target -1) are left out, and so are cells of which it is not known whether the label applies
(`Predictions.unknown`): each label is scored on the pictures that are known to have it or not.
A quotient 0 / 0 counts as 0 (`zero_division=0`).
What an average runs over, as in scikit-learn:

* one label: `*_macro` and `*_weighted` over the classes that occur as a label or as an answer;
  `balanced_accuracy` over the classes that occur as a label;
* several labels: `*_macro` over all labels; `mean_average_precision` over the labels that occur, because
  average precision is not defined for the others (scikit-learn warns and counts them as 0).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature

Array = npt.NDArray[Any]

#: Every score, in the order it is shown in; the first is the headline.
ONE_LABEL = (
    "accuracy",
    "top_5_accuracy",
    "balanced_accuracy",
    "f1_macro",
    "precision_macro",
    "recall_macro",
    "f1_weighted",
    "precision_weighted",
    "recall_weighted",
    "log_loss",
)
SEVERAL_LABELS = (
    "f1_micro",
    "f1_macro",
    "precision_micro",
    "precision_macro",
    "recall_micro",
    "recall_macro",
    "exact_match",
    "label_accuracy",
    "mean_average_precision",
    "log_loss",
)
_PART = 2**22  # numbers handled at a time, so that memory does not grow with the pictures


class Counts(NamedTuple):
    """Numbers of pictures a class, each [..., n_classes]. Labelled is scikit-learn's support."""

    true_positives: Array
    labelled: Array
    predicted: Array


class Ranking(NamedTuple):
    """One label's pictures by falling logit, in the pieces that average precision sums over; see `ranking`.

    Attributes:
        rows: positions of the pictures down to the last one that has the label.
        starts: where, in `rows`, each piece begins; a piece ends with pictures that have the label.
        positives: positions of the pictures that have the label.
        piece: the piece that each of those lies in.
        last: the last of those in the same piece.
    """

    rows: Array
    starts: Array
    positives: Array
    piece: Array
    last: Array


def scores(
    predictions: Predictions, temperature: Temperature = 1.0, thresholds: npt.ArrayLike | None = None
) -> dict[str, float]:
    """Every score of some predictions, by name, the headline first.

    One label: `ONE_LABEL`, without `top_5_accuracy` where there are at most five classes. Several: `SEVERAL_LABELS`,
    without `mean_average_precision` where no label occurs. All lie in 0..1, higher is better, but for `log_loss`,
    which lies in 0..∞, lower is better.

    Args:
        predictions: at least one picture with a label.
        temperature: what logits are divided by; matters to `log_loss` and, with thresholds, to answers.
        thresholds: [n_classes], see `answers`.
    """
    predictions = known(predictions)
    answer = answers(predictions, temperature, thresholds)
    values = averages(count(predictions.target, answer, len(predictions.classes)), predictions.multilabel)
    values |= {name: value.mean() for name, value in row_scores(predictions, answer, temperature).items()}
    if predictions.multilabel and predictions.target.any():
        once = np.ones((len(predictions), 1))
        values["mean_average_precision"] = mean_average_precision(rankings(predictions), once)[0]
    order = SEVERAL_LABELS if predictions.multilabel else ONE_LABEL
    return {name: float(values[name]) for name in order if name in values}


def known(predictions: Predictions) -> Predictions:
    """The predictions with a label. With several labels, to have none is one too; to know of none is not."""
    if not predictions.multilabel:
        return take(predictions, predictions.target >= 0)
    return predictions if predictions.unknown is None else take(predictions, ~predictions.unknown.all(axis=1))


def take(predictions: Predictions, index: Any) -> Predictions:
    """Some of the predictions: `index` is a slice, a mask or ascending positions."""
    return replace(
        predictions,
        row=predictions.row[index],
        logits=predictions.logits[index],
        target=predictions.target[index],
        unknown=None if predictions.unknown is None else predictions.unknown[index],
    )


def of_label(predictions: Predictions, number: int) -> Predictions:
    """The predictions of one label alone, of the pictures that are known to have it or not; multilabel, one class."""
    column = slice(number, number + 1)
    alone = replace(
        predictions,
        logits=predictions.logits[:, column],
        target=predictions.target[:, column],
        classes=predictions.classes[column],
        unknown=None,
    )
    return alone if predictions.unknown is None else take(alone, ~predictions.unknown[:, number])


def answers(predictions: Predictions, temperature: Temperature = 1.0, thresholds: npt.ArrayLike | None = None) -> Array:
    """The model's answers.

    One label: int64 [n], the class with the highest logit, of equal ones the first.
    Several: uint8 [n, n_classes], 1 where the probability at this temperature reaches the label's threshold
    (`thresholds`, [n_classes], by default 0.5 each), and 0, as the target, where the cell is not known.
    """
    if not predictions.multilabel:
        return np.asarray(predictions.logits.argmax(axis=1))
    limits = np.broadcast_to(0.5 if thresholds is None else np.asarray(thresholds), len(predictions.classes))

    def of(part: Predictions) -> Array:
        reached = part.probabilities(temperature) >= limits
        return (reached if part.unknown is None else reached & ~part.unknown).astype(np.uint8)

    return by_parts(predictions, of)


def row_scores(predictions: Predictions, answer: Array, temperature: Temperature = 1.0) -> dict[str, Floats]:
    """The scores that are a mean over pictures: name → [n], the value of each picture."""
    losses = by_parts(predictions, lambda part: _log_losses(part, temperature))
    right = answer == predictions.target
    if predictions.multilabel:
        return {
            "exact_match": right.all(axis=1).astype(float),
            "label_accuracy": mean_of_known(right, predictions),
            "log_loss": losses,
        }
    values = {"accuracy": right.astype(float), "log_loss": losses}
    if len(predictions.classes) > 5:
        values["top_5_accuracy"] = (by_parts(predictions, _ranks) < 5).astype(float)
    return values


def mean_of_known(cells: Array, predictions: Predictions) -> Floats:
    """[n]: the mean over the cells [n, n_classes] of each picture that are known; 0 where none is."""
    if predictions.unknown is None:
        return np.asarray(cells.mean(axis=1))
    known_cells = ~predictions.unknown
    return ratio((cells * known_cells).sum(axis=1), known_cells.sum(axis=1))


def count(target: Array, answer: Array, n_classes: int) -> Counts:
    """Count pictures a class. Arguments as in `Predictions.target` and `answers`; each result is [n_classes]."""
    if target.ndim == 2:
        return Counts(*(pairs.sum(axis=0, dtype=np.int64) for pairs in (target & answer, target, answer)))
    return Counts(*(np.bincount(c, minlength=n_classes) for c in (target[target == answer], target, answer)))


def averages(counts: Counts, multilabel: bool) -> dict[str, Floats]:
    """The scores that follow from counts a class: name → [...], for counts [..., n_classes]."""
    precision, recall, f1 = per_class(counts)
    _, labelled, predicted = counts
    occurs = np.ones(labelled.shape) if multilabel else (labelled + predicted > 0).astype(float)
    each = {"precision": precision, "recall": recall, "f1": f1}
    means = {f"{name}_macro": _mean(score, occurs) for name, score in each.items()}
    if multilabel:
        together = per_class(Counts(*(c.sum(axis=-1) for c in counts)))
        return means | {f"{name}_micro": score for name, score in zip(each, together, strict=True)}
    means |= {f"{name}_weighted": _mean(score, labelled) for name, score in each.items()}
    return means | {"balanced_accuracy": _mean(recall, labelled > 0)}


def per_class(counts: Counts) -> tuple[Floats, Floats, Floats]:
    """Precision, recall and F1 of each class, shaped like the counts."""
    true_positives, labelled, predicted = counts
    f1 = ratio(2 * true_positives, labelled + predicted)
    return ratio(true_positives, predicted), ratio(true_positives, labelled), f1


def ratio(part: npt.ArrayLike, whole: npt.ArrayLike) -> Floats:
    """Part / whole, and 0 where whole is 0."""
    above, below = np.asarray(part, float), np.asarray(whole, float)
    return np.asarray(np.divide(above, below, out=np.zeros(np.broadcast(above, below).shape), where=below > 0))


def rankings(predictions: Predictions) -> list[Ranking]:
    """A `Ranking` of every label that occurs."""
    columns = np.flatnonzero(predictions.target.any(axis=0))
    if predictions.unknown is None:
        return [ranking(predictions.target[:, i], predictions.logits[:, i]) for i in columns]
    listed = []
    for i in columns:
        rows = np.flatnonzero(~predictions.unknown[:, i])
        own = ranking(predictions.target[rows, i], predictions.logits[rows, i])
        listed.append(own._replace(rows=rows[own.rows], positives=rows[own.positives]))
    return listed


def ranking(target: Array, logits: Array) -> Ranking:
    """Prepare average precision of one label, so that it can be computed for many weights.

    Args:
        target: [n] of 0 and 1, at least one 1.
        logits: [n]. Pictures with equal logits are retrieved together, as in scikit-learn.
    """
    falling = -logits
    order = np.argsort(falling, kind="stable")
    positives = order[target[order] == 1]
    retrieved = np.searchsorted(falling[order], falling[positives], side="right")
    ends, piece = np.unique(retrieved, return_inverse=True)
    last = np.searchsorted(piece, piece, side="right") - 1
    return Ranking(order[: ends[-1]], np.append(0, ends[:-1]), positives, piece, last)


def mean_average_precision(all_rankings: list[Ranking], weights: Array) -> Floats:
    """Mean over labels of average precision: Σ (recall gained at a logit) · (precision down to that logit).

    Args:
        all_rankings: one a label.
        weights: [n, k]: how often each picture counts, k times over. Where all pictures of a label count 0 times,
            the label is left out.

    Returns:
        [k], in 0..1.
    """
    total, occurs = np.zeros(weights.shape[1]), np.zeros(weights.shape[1])
    for rows, starts, positives, piece, last in all_rankings:
        retrieved = np.add.reduceat(weights.take(rows, axis=0), starts, axis=0).cumsum(axis=0)
        gained = weights.take(positives, axis=0)
        positive = gained.cumsum(axis=0)
        precision = positive[last] / np.maximum(retrieved, 1)[piece]  # nothing retrieved has no positives either
        total += ratio(np.einsum("ij,ij->j", gained, precision), positive[-1])
        occurs += positive[-1] > 0
    return ratio(total, occurs)


def by_parts(predictions: Predictions, function: Callable[[Predictions], Array]) -> Array:
    """`function` of all predictions, some rows at a time. It must give one value (or line) a row."""
    step = max(1, _PART // len(predictions.classes))
    starts = range(0, max(1, len(predictions)), step)
    return np.concatenate([function(take(predictions, slice(start, start + step))) for start in starts])


def _log_losses(predictions: Predictions, temperature: Temperature) -> Floats:
    """[n]: -log of the probability of the right answer; with several labels the mean over labels.

    Computed from the logits, so a probability that rounds to 0 still has its true, finite loss.
    """
    z = predictions.logits.astype(np.float64) / np.asarray(temperature)
    if predictions.multilabel:
        return mean_of_known(np.logaddexp(0, np.where(predictions.target == 1, -z, z)), predictions)
    highest = z.max(axis=1)
    right = z[np.arange(len(z)), predictions.target]
    return np.asarray(np.log(np.exp(z - highest[:, None]).sum(axis=1)) + highest - right)


def _ranks(predictions: Predictions) -> Array:
    """[n]: how many classes stand before the right one. Of equal logits the first class leads, as in `answers`."""
    z, target = predictions.logits, predictions.target[:, None]
    right = np.take_along_axis(z, target, axis=1)
    return np.asarray(((z > right) | ((z == right) & (np.arange(z.shape[1]) < target))).sum(axis=1))


def _mean(values: Floats, weights: Array) -> Floats:
    return ratio((values * weights).sum(axis=-1), weights.sum(axis=-1))
