"""How a classifier fails, in a few sentences: its hardest classes, and those it takes for each other."""

from __future__ import annotations

import math

import numpy as np

from tellapart.core.scores import Evaluation, Metric
from tellapart.core.text import counted, percent

_MOST = 3


def failures(evaluation: Evaluation) -> list[str]:
    """Sentences on the classes of lowest recall and on the commonest confusions; empty where every answer was right."""
    return [*_hardest(evaluation), *_confused(evaluation)]


def _hardest(evaluation: Evaluation) -> list[str]:
    noun = "label" if evaluation.multilabel else "class"
    named = [
        (entry["recall"], name, entry["n"])
        for name, entry in zip(evaluation.classes, evaluation.per_class, strict=False)
        if math.isfinite(entry["recall"].value) and entry["recall"].value < 1
    ]
    named.sort(key=lambda each: each[0].value)
    return [
        f"Of {counted(n, 'picture')} given the {noun} {name}, {percent(recall.value)} were answered with it"
        f"{_interval(recall)}."
        for recall, name, n in named[:_MOST]
    ]


def _interval(metric: Metric) -> str:
    if not (math.isfinite(metric.low) and math.isfinite(metric.high)):
        return ""
    return f" (95 % interval {percent(metric.low)} to {percent(metric.high)})"


def _confused(evaluation: Evaluation) -> list[str]:
    if not evaluation.confusion:
        return []
    counts = np.array(evaluation.confusion)
    counts -= np.diag(counts.diagonal())
    order = np.argsort(-counts, axis=None, kind="stable")[:_MOST]
    pairs = [divmod(int(position), len(counts)) for position in order]
    return [
        f"{counted(int(counts[i, j]), 'picture')} of {evaluation.classes[i]} {'was' if counts[i, j] == 1 else 'were'} "
        f"taken for {evaluation.classes[j]}."
        for i, j in pairs
        if counts[i, j]
    ]
