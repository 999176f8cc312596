"""Predictions → Evaluation: every score with its interval, overall and class by class."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.predictions import Floats, Predictions, Temperature
from tellapart.core.scores import Evaluation, Metric
from tellapart.errors import DataError
from tellapart.evaluation import intervals, label_pairs, metrics
from tellapart.evaluation.chance import chance_note, precision_note
from tellapart.evaluation.metrics import Array, Counts


def evaluate_predictions(
    predictions: Predictions,
    *,
    on: str,
    temperature: Temperature = 1.0,
    thresholds: npt.ArrayLike | None = None,
    n_bootstrap: int = 1000,
    seed: int = 0,
) -> Evaluation:
    """Every score of some predictions with its 95 % interval, overall and class by class.

    Args:
        predictions: pictures without a label (target -1) are left out.
        on: name of these pictures: "test", "validation" or a folder.
        temperature: what logits are divided by, see `calibrate.fit_temperature`.
        thresholds: several labels only: [n_classes], decision thresholds, by default 0.5.
        n_bootstrap: resamples for the intervals, see `intervals`.
        seed: the same seed gives the same intervals.

    Returns:
        Scores as in `metrics.scores`; the headline is `accuracy`, or `f1_micro` for several labels. A class's
        precision rests on the pictures answered with it, its recall on those labelled with it, its F1 on both.
        Notes say where the headline is at chance, and how many more pictures would make it more certain.

    Raises:
        DataError: no picture has a label, or there are not two classes to tell apart.
    """
    known = metrics.known(predictions)
    _check(known, on)
    answer = metrics.answers(known, temperature, thresholds)
    counts = metrics.count(known.target, answer, len(known.classes))
    samples = intervals.bootstrap(known, temperature, thresholds, n_bootstrap, seed)
    losses = metrics.row_scores(known, answer, temperature)["log_loss"]
    scored = {}
    for name, value in metrics.scores(known, temperature, thresholds).items():
        low, high = _interval(name, value, counts, losses, samples, known.multilabel)
        scored[name] = Metric(value, low, high, len(known))
    first, headline = next(iter(scored.items()))
    notes = chance_note(known, headline, temperature), precision_note(first, headline, on)
    return Evaluation(
        on=on,
        multilabel=known.multilabel,
        n=len(known),
        classes=known.classes,
        metrics=scored,
        per_class=_per_class(counts),
        confusion=() if known.multilabel else confusion(known.target, answer, len(known.classes)),
        together=label_pairs.together(known.target, known.classes) if known.multilabel else (),
        taken_for=label_pairs.taken_for(known.target, answer, known.classes) if known.multilabel else (),
        notes=tuple(filter(None, notes)),
    )


def _interval(
    name: str, value: float, counts: Counts, losses: Floats, samples: dict[str, Floats], multilabel: bool
) -> tuple[float, float]:
    """The 95 % interval of a score, in the way that suits it: see `intervals`."""
    if name in intervals.PROPORTIONS:
        low, high = intervals.wilson(value, len(losses))
        return float(low), float(high)
    if name in ("balanced_accuracy", "recall_macro") and not multilabel:
        ends = intervals.balanced_interval(counts)
        # In the macro recall, classes that are answered and never labelled count as 0.
        n_classes = (counts.labelled + counts.predicted > 0).sum() if name == "recall_macro" else 0
        share = (counts.labelled > 0).sum() / n_classes if n_classes else 1.0
        return float(ends[0] * share), float(ends[1] * share)
    if name == "log_loss":
        return intervals.studentised(value, losses, samples[name], samples["log_loss_error"])
    return intervals.percentile(value, samples[name], len(losses))


def confusion(target: Array, answer: Array, n_classes: int) -> tuple[tuple[int, ...], ...]:
    """Counts [n_classes][n_classes]: row = label, column = answer. Arguments are class numbers [n]."""
    cells = np.bincount(target * n_classes + answer, minlength=n_classes**2)
    return tuple(map(tuple, cells.reshape(n_classes, n_classes).tolist()))


def _check(known: Predictions, on: str) -> None:
    if not len(known):
        raise DataError(
            f"None of the pictures of {on} has a label: there is nothing to evaluate.",
            "Give pictures whose answer is known, in one of the layouts that `tellapart scan` understands.",
        )
    if len(known.classes) < (1 if known.multilabel else 2):
        names = ", ".join(map(repr, known.classes)) or "none"
        raise DataError(
            f"The pictures of {on} cannot be evaluated: there are not two classes to tell apart (classes: {names}).",
            "Train on pictures of at least two classes.",
        )


def _per_class(counts: Counts) -> tuple[dict[str, Any], ...]:
    true_positives, labelled, predicted = counts
    precision, recall, f1 = metrics.per_class(counts)
    columns = {
        "precision": (precision, *intervals.wilson(precision, predicted), predicted),
        "recall": (recall, *intervals.wilson(recall, labelled), labelled),
        "f1": (f1, *intervals.f1_interval(counts), labelled + predicted - true_positives),
    }
    return tuple(
        {
            name: Metric(float(value[i]), float(low[i]), float(high[i]), int(n[i]))
            for name, (value, low, high, n) in columns.items()
        }
        | {"n": int(labelled[i]), "n_predicted": int(predicted[i])}
        for i in range(len(labelled))
    )
