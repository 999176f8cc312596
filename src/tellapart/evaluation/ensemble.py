"""An ensemble of finished runs: the mean of their probabilities for the same pictures."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tellapart.core.predictions import Floats, Predictions, average_logits
from tellapart.core.text import first_few
from tellapart.errors import DataError, UsageError
from tellapart.evaluation.metrics import Array

_SHOWN = 5


def average(predictions: Sequence[Predictions], weights: Sequence[float] | None = None) -> Predictions:
    """The mean of probabilities, as logits that give exactly these, see `predictions.average_logits`.

    Probabilities are those before any temperature: a temperature is fitted on the average.

    Args:
        predictions: of the same pictures, with the same classes (matched by name; the first one's order is kept) and
            the same labels.
        weights: one number above 0 for each; only their ratios count. Equal by default.

    Returns:
        Rows, target and classes of the first; the mean logits.

    Raises:
        UsageError: no predictions, or weights that cannot be used.
        DataError: other pictures, classes or labels.
    """
    if not predictions:
        raise UsageError("There are no predictions to average.", "Name at least one run.")
    shares = _shares(len(predictions), weights)
    first = predictions[0]
    each = [other.logits[:, _columns(first, other, number)] for number, other in enumerate(predictions, start=1)]
    mean = average_logits(each, first.multilabel, "probabilities", shares.tolist())
    return Predictions.of(first.row, mean, first.target, first.classes, first.unknown)


def _shares(n: int, weights: Sequence[float] | None) -> Floats:
    """Weights with sum 1."""
    each = np.ones(n) if weights is None else np.asarray(weights, np.float64)
    if each.shape != (n,):
        raise UsageError(f"There are {each.size} weights for {n} predictions.", "Give one weight for each.")
    if not (np.isfinite(each) & (each > 0)).all():
        raise UsageError(
            f"Weights must be numbers above 0, not {', '.join(f'{w:g}' for w in each)}.",
            "Leave out what should not count.",
        )
    return np.asarray(each / each.sum())


def _columns(first: Predictions, other: Predictions, number: int) -> Array:
    """The columns of another's logits that hold the first one's classes, in their order.

    Raises:
        DataError: the two are not about the same pictures, classes and labels.
    """
    who = f"Predictions 1 and {number} cannot be averaged"
    if first.multilabel != other.multilabel:
        raise DataError(f"{who}: one has one label a picture, the other several.", "Average runs of one kind.")
    if set(first.classes) != set(other.classes):
        here, there = set(first.classes) - set(other.classes), set(other.classes) - set(first.classes)
        only = (
            f"only in {n}: {first_few(sorted(names), _SHOWN)}" for n, names in ((1, here), (number, there)) if names
        )
        raise DataError(f"{who}: their classes differ ({'; '.join(only)}).", "Average runs on the same classes.")
    if not np.array_equal(first.row, other.row):
        both = len(np.intersect1d(first.row, other.row, assume_unique=True))
        raise DataError(
            f"{who}: they are about other pictures ({len(first)} and {len(other)}, {both} of them the same).",
            "Average runs with the same split, on the same part of it.",
        )
    position = {name: column for column, name in enumerate(other.classes)}
    columns = np.array([position[name] for name in first.classes])
    n_differ = int(_labels_differ(first, other, columns).sum())
    if n_differ:
        raise DataError(
            f"{who}: {n_differ} of {len(first)} pictures have other labels in the two.",
            "Average runs on the same catalog of pictures.",
        )
    return columns


def _labels_differ(first: Predictions, other: Predictions, columns: Array) -> Array:
    """Pictures whose labels, by name, are not the same: bool [n]."""
    if first.multilabel:
        return np.asarray((first.target != other.target[:, columns]).any(axis=1))
    # One entry more at the end, so that -1 (no label) stays -1.
    as_other = np.append(columns, -1)[first.target]
    return np.asarray(as_other != other.target)
