"""All that is fitted on validation pictures, so that answers can be trusted, and how it turns out on other pictures."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from tellapart.core.predictions import Floats, Mean, Predictions, Rows, Temperature
from tellapart.core.scores import Evaluation
from tellapart.core.text import counted, first_few, percent
from tellapart.evaluation.calibrate import Rule, fit_temperatures, misses, thresholds
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.fit_open_set import acceptance, fit_ood_score
from tellapart.evaluation.metrics import known
from tellapart.evaluation.open_set import OodScore
from tellapart.evaluation.reliability import BINS, reliability
from tellapart.evaluation.sets import coverages, set_thresholds

_SHOWN = 5


@dataclass(frozen=True)
class Certainty:
    """How logits become answers.

    Attributes:
        temperature: above 0, one number or one a label; logits are divided by it.
        thresholds: several labels: the probability from which on each label is answered; one label: None.
        sets: coverage → threshold of prediction sets; empty for several labels.
        n_validation: number of validation pictures with a label.
        ood_score: the out-of-distribution score and its limit; None for several labels.
        notes: sentences on what could not be reached.
    """

    temperature: Temperature = 1.0
    thresholds: tuple[float, ...] | None = None
    sets: dict[float, float] = field(default_factory=dict)
    n_validation: int = 0
    ood_score: OodScore | None = None
    notes: tuple[str, ...] = ()


def fit_certainty(validation: Predictions, distance: Floats, rule: Rule = "f1", share: float = 0.99) -> Certainty:
    """Fit temperature, thresholds, prediction sets and out-of-distribution score.

    Args:
        validation: predictions on the validation pictures.
        distance: [n], see `open_set.KnownClasses.distance`; not used with several labels.
        rule: for thresholds, see `evaluation.calibrate.thresholds`.
        share: of pictures of the known classes, at least this share is to be answered, see `fit_ood_score`.

    Raises:
        DataError: no picture has a label.
    """
    temperature = fit_temperatures(validation)
    n = len(known(validation))
    if validation.multilabel:
        limits = thresholds(validation, temperature, rule)
        notes = _missed(misses(validation, temperature, limits, rule), rule)
        return Certainty(temperature, tuple(limits.tolist()), n_validation=n, notes=notes)
    return Certainty(
        temperature,
        sets=set_thresholds(validation, temperature),
        n_validation=n,
        ood_score=fit_ood_score(known(validation), distance[validation.target >= 0], temperature, share),
    )


def _missed(labels: list[str], rule: Rule) -> tuple[str, ...]:
    if not labels or not isinstance(rule, Mapping):
        return ()
    ((name, least),) = rule.items()
    named = first_few((f"“{label}”" for label in labels), _SHOWN)
    return (
        f"No threshold reaches a {name} of {least:g} on the validation pictures for {named}: "
        "they have the threshold that comes closest.",
    )


def check_certainty(certainty: Certainty, predictions: Predictions, distance: Floats) -> dict[str, Any]:
    """How certainty turns out on pictures: plain values, for JSON.

    Returns:
        "before", "after": `Reliability.as_dict()`, without and with the temperature. One label too: "sets": one
        dictionary a coverage ("coverage", "covered": a Metric, "size": classes a set); "unknown": see `acceptance`.
    """
    # A bin of a handful of answers says nothing: fewer bins where there are fewer than 20 answers for each of the 15.
    n = len(known(predictions)) * (len(predictions.classes) if predictions.multilabel else 1)
    bins = min(BINS, max(3, n // 20))
    summary: dict[str, Any] = {
        "before": reliability(predictions, bins=bins).as_dict(),
        "after": reliability(predictions, certainty.temperature, bins).as_dict(),
    }
    if not predictions.multilabel:
        observed = coverages(predictions, certainty.temperature, certainty.sets)
        summary["sets"] = [
            {"coverage": level, "covered": asdict(covered), "size": size} for level, (covered, size) in observed.items()
        ]
    if certainty.ood_score:
        accepted = acceptance(predictions, distance, certainty.temperature, certainty.ood_score)
        summary["unknown"] = {name: asdict(metric) for name, metric in accepted.items()}
    return summary


def keeps_its_share(certainty: Certainty, predictions: Predictions, distance: Floats) -> Certainty:
    """Certainty that answers "unknown" by default only where test pictures do not show that it refuses too many.

    That is: where the 95 % interval of the share accepted among them reaches up to the share promised.
    """
    score = certainty.ood_score
    if score is None or not score.by_default or not (predictions.target >= 0).any():
        return certainty
    accepted = acceptance(predictions, distance, certainty.temperature, score)["accepted"]
    if accepted.high >= score.share:
        return certainty
    note = (
        f"A picture unlike all classes is answered with “unknown” only with --unknown: that would have refused "
        f"{percent(1 - accepted.value)} of the test pictures, not {percent(1 - score.share)} as expected."
    )
    return replace(certainty, ood_score=replace(score, by_default=False), notes=(*certainty.notes, note))


def tta_gain(
    plain: Predictions, averaged: Evaluation, certainty: Certainty, n_copies: int, mean: Mean
) -> dict[str, Any]:
    """The gain and cost of test-time augmentation: plain values, for JSON.

    Args:
        plain: predictions without it, on the pictures of `averaged`.
        averaged: the evaluation with it.
        certainty: of the answers.
        n_copies: changed copies of each picture.
        mean: what was averaged.
    """
    alone = evaluate_predictions(
        plain, on=averaged.on, temperature=certainty.temperature, thresholds=certainty.thresholds
    )
    sentence = tta_sentence(alone, averaged, n_copies, mean, n_copies + 1, "the network's runs")
    return {"n_copies": n_copies, "mean": mean, "plain": asdict(alone.headline[1]), "sentence": sentence}


def tta_sentence(plain: Evaluation, averaged: Evaluation, n_copies: int, mean: Mean, times: float, cost: str) -> str:
    """One sentence: "accuracy 93.0 % → 93.4 % …, at 5 × the time", where `cost` is "the time"."""
    (name, before), (_, after) = plain.headline, averaged.headline
    return (
        f"{name} {percent(before.value)} → {percent(after.value)} on {averaged.n:,} pictures, {mean} averaged over "
        f"each picture and {counted(n_copies, 'changed copy', 'changed copies')} of it, at {times:.3g} × {cost}"
    )


def sample(rows: Rows, n_classes: int) -> Rows:
    """The training pictures on which `fit_known` rests: all, or 1,000 to 5,000 of them, evenly spread."""
    most = min(5000, max(1000, 10 * n_classes))
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
