"""Samplers and class weights for unbalanced classes.

Where a picture may have several labels, one without any counts as of a class of its own, "none". Otherwise a balanced
sampler would never show such pictures, or hardly any others.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from tellapart.errors import DataError

Rows = npt.NDArray[np.int64]
Targets = npt.NDArray[Any]
Floats = npt.NDArray[np.float64]
Method = Literal["none", "weighted", "rarest", "oversample"]


@dataclass(frozen=True)
class Contents:
    """Counts of what an epoch showed.

    Attributes:
        n: pictures shown, repeated ones counted each time.
        n_different: pictures shown at least once.
        per_class: int64 [n_classes], how often each class was shown.
        without_label: how often a picture without a label was shown.
    """

    n: int
    n_different: int
    per_class: Rows
    without_label: int


def epoch_length(n: int, multiple: float | None) -> int:
    """Pictures that an epoch shows of n: as many, or `multiple` times as many (see `epoch_order`)."""
    return round(n * (multiple or 1))


def epoch_order(
    rows: Rows,
    targets: Targets,
    n_classes: int,
    method: Method,
    seed: int,
    epoch: int,
    multiple: float | None = None,
    shuffle: bool = True,
) -> Rows:
    """The rows of one epoch, in order: `epoch_length` of them, a function of seed and epoch alone.

    Args:
        rows: int64 [n], the catalog's row numbers.
        targets: of these rows: int64 [n] class numbers, or uint8 [n, n_classes] for several labels.
        n_classes: number of classes.
        method: "none": every row once, shuffled.
            "weighted": drawn with replacement, by the inverse frequency of the class, so that all classes are about
            equally frequent. With several labels the rarest one of a picture counts (as in the repeat factors of
            Gupta 2019, LVIS).
            "rarest": always the next picture of the label shown least so far. Each label's pictures come in shuffled
            rounds. Counts are exactly equal for one label, as equal as can be for several.
            "oversample": every row once, then again and again the next picture of the label shown least so far.
            Pictures without a label are not shown again.
        seed, epoch: 0 or more.
        multiple: of "oversample", above 1.
        shuffle: of "none" and "oversample"; else rows stay in their order, and those shown again follow.

    Raises:
        DataError: "oversample", and no picture has a label.
    """
    rng = np.random.default_rng((seed, epoch))
    if method in ("none", "oversample") or len(rows) == 0:
        if method == "oversample" and len(rows):
            rows = np.concatenate([rows, rows[_oversampled(targets, n_classes, multiple, rng)]])
        return rng.permutation(rows) if shuffle else rows
    line, label = _carried(targets, n_classes)
    if method == "weighted":
        rarity = 1 / np.maximum(np.bincount(label, minlength=n_classes + 1), 1)
        weight = np.zeros(len(rows))
        np.maximum.at(weight, line, rarity[label])
        return rng.choice(rows, len(rows), p=weight / weight.sum())
    return rows[_rarest_first(line, label, len(rows), rng)]


def at_most(rows: Rows, targets: Targets, n_classes: int, per_class: int, seed: int) -> Rows:
    """Draw at most so many rows of each class; all of a smaller class.

    With several labels, a picture is drawn for any label that it carries, so each label has at least that many.

    Args:
        rows, targets, n_classes: see `epoch_order`.
        per_class: at least 1.
        seed: 0 or more; the order is a function of it.

    Returns:
        int64, in the order of `rows`.
    """
    rank = np.random.default_rng(seed).permutation(len(rows))
    line, label = _carried(targets, n_classes)
    by_label = np.lexsort((rank[line], label))
    starts = np.searchsorted(label[by_label], label[by_label])
    first = np.arange(len(line)) - starts < per_class
    return rows[np.unique(line[by_label[first]])]


def _carried(targets: Targets, n_classes: int) -> tuple[Rows, Rows]:
    """Every pair of a picture (its index in `targets`) and a label it carries; "none" is label n_classes."""
    if targets.ndim == 1:
        return np.arange(len(targets)), np.where(targets < 0, n_classes, targets).astype(np.int64)
    line, label = np.nonzero(np.column_stack([targets, ~targets.any(axis=1)]))
    return line, label


def _oversampled(targets: Targets, n_classes: int, multiple: float | None, rng: np.random.Generator) -> Rows:
    """Indices of the pictures that are shown once more, after each has been shown once."""
    line, label = _carried(targets, n_classes)
    has_label = label < n_classes
    if not has_label.any():
        raise DataError("No training picture has a label: there is nothing to oversample.", "Leave 'sampler' out.")
    n_more = epoch_length(len(targets), multiple) - len(targets)
    return _rarest_first(line[has_label], label[has_label], n_more, rng, shown_once=True)


def _rarest_first(line: Rows, label: Rows, n: int, rng: np.random.Generator, shown_once: bool = False) -> Rows:
    """Indices of pictures: n times the next one of the label that has been shown least.

    Args:
        shown_once: each picture has been shown once before.
    """
    carried, first = label.tolist(), np.searchsorted(line, np.arange(line.max() + 2)).tolist()
    by_label = np.argsort(label, kind="stable")
    present, starts = np.unique(label[by_label], return_index=True)
    pictures = np.split(line[by_label], starts[1:])
    rounds = {number: _rounds(its_own, rng) for number, its_own in zip(present.tolist(), pictures, strict=True)}
    # Equal counts are settled by the order in which the labels stand here, so it is shuffled too.
    shown = dict.fromkeys(rng.permutation(present).tolist(), 0)
    rank = {number: i for i, number in enumerate(shown)}
    if shown_once:
        shown = {number: int((label == number).sum()) for number in shown}
    heap = sorted((shown[number], rank[number], number) for number in shown)
    order = np.empty(n, np.int64)
    for i in range(n):
        while heap[0][0] != shown[heap[0][2]]:  # shown since, with a picture taken for another label
            heapq.heapreplace(heap, (shown[heap[0][2]], *heap[0][1:]))
        order[i] = picture = next(rounds[heap[0][2]])
        for number in carried[first[picture] : first[picture + 1]]:
            shown[number] += 1
    return order


def _rounds(pictures: Rows, rng: np.random.Generator) -> Iterator[int]:
    """The pictures over and over, each round in an order of its own."""
    while True:
        yield from rng.permutation(pictures).tolist()


def contents(order: Rows, targets: Targets, n_classes: int) -> Contents:
    """Count what an epoch contained.

    Args:
        order: row numbers, as from `epoch_order`.
        targets: of the whole catalog, so that row numbers point into it.
        n_classes: number of classes.
    """
    _, label = _carried(targets[order], n_classes)
    counts = np.bincount(label, minlength=n_classes + 1)
    return Contents(len(order), len(np.unique(order)), counts[:n_classes], int(counts[n_classes]))


def class_weights(targets: Targets, n_classes: int) -> Floats:
    """Weight of each class in the loss, for one label: n / (classes present × pictures of the class).

    Scikit-learn's "balanced": over the pictures, the weights' mean is 1. A class without pictures gets 1.
    """
    counts = np.bincount(targets[targets >= 0], minlength=n_classes)
    present = counts > 0
    return np.where(present, counts.sum() / (max(present.sum(), 1) * np.maximum(counts, 1)), 1.0)


def positive_weights(targets: Targets, limit: float = 100.0, unknown: npt.NDArray[np.bool_] | None = None) -> Floats:
    """Weight of each label where it is given, for several labels: pictures without it / pictures with it.

    Kept between 1 / limit and limit, so that a label given once in ten thousand does not decide alone. A label that
    is given nowhere gets 1.

    Args:
        targets: uint8 [n, n_classes].
        limit: at least 1.
        unknown: of the same shape: cells that count neither as with nor as without.
    """
    positive = targets.sum(axis=0, dtype=np.int64)
    n_known = len(targets) - (0 if unknown is None else unknown.sum(axis=0))
    ratio = (n_known - positive) / np.maximum(positive, 1)
    return np.where(positive > 0, np.clip(ratio, 1 / limit, limit), 1.0)
