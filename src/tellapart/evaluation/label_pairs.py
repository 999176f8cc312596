"""Several labels: which of them occur together, and which is taken for which."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.evaluation.metrics import Array

#: The most pairs that are listed: those of most pictures.
MOST_PAIRS = 10_000
_PART = 2**22  # cells handled at a time, so that memory does not grow with the pictures


def together(target: Array, classes: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Pairs of labels that occur on the same picture, the most frequent first.

    Args:
        target: [n, n_classes], 1 where a picture has the label.
        classes: names of the labels.

    Returns:
        One dictionary a pair: "labels" (two names, in the order of the classes) and "n", its pictures.
    """
    labelled = target == 1
    counts = np.triu(_pictures(labelled, labelled), k=1)
    return tuple({"labels": (classes[i], classes[j]), "n": n} for i, j, n in _largest(counts))


def taken_for(target: Array, answer: Array, classes: Sequence[str]) -> tuple[dict[str, Any], ...]:
    """Pairs of labels of which the one was missed and the other made up on the same picture, the most frequent first.

    A picture with two labels missed, or two made up, counts for each pair of them.

    Args:
        target: as in `together`; 0 where a picture does not have the label.
        answer: [n, n_classes], 1 where the label is answered.
        classes: names of the labels.

    Returns:
        One dictionary a pair: "label" (given, not answered), "answer" (answered, not given) and "n", its pictures.
    """
    counts = _pictures((target == 1) & (answer == 0), (target == 0) & (answer == 1))
    return tuple({"label": classes[i], "answer": classes[j], "n": n} for i, j, n in _largest(counts))


def cut_note(pairs: Sequence[dict[str, Any]]) -> str:
    """A sentence where the list of pairs was cut off; else ""."""
    return f"Counted are the {MOST_PAIRS:,} most frequent pairs alone." if len(pairs) >= MOST_PAIRS else ""


def _pictures(first: npt.NDArray[np.bool_], second: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """[n_classes, n_classes]: pictures for which the one holds of the row's label, the other of the column's."""
    n, n_classes = first.shape
    counts = np.zeros((n_classes, n_classes), np.int64)
    step = max(1, _PART // max(1, n_classes))
    for start in range(0, n, step):
        # float32 holds the counts of so few pictures exactly, and is multiplied faster than whole numbers.
        one, other = (part[start : start + step].astype(np.float32) for part in (first, second))
        counts += np.rint(one.T @ other).astype(np.int64)
    return counts


def _largest(counts: npt.NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """Row, column and count of the largest counts above 0, of equal ones the first."""
    rows, columns = np.nonzero(counts)
    values = counts[rows, columns]
    order = np.argsort(-values, kind="stable")[:MOST_PAIRS]
    return [(int(rows[k]), int(columns[k]), int(values[k])) for k in order]
