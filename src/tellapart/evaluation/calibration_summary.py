"""Everything that is fitted on validation pictures so that answers can be trusted, and how it turns out on others."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from tellapart.core.predictions import Floats, Mean, Predictions, Temperature
from tellapart.core.scores import Evaluation
from tellapart.core.text import first_few
from tellapart.evaluation.calibrate import Rule, fit_temperatures, misses, thresholds
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.fit_open_set import fit_strangeness, judge
from tellapart.evaluation.metrics import known
from tellapart.evaluation.open_set import Strangeness
from tellapart.evaluation.reliability import BINS, reliability
from tellapart.evaluation.sets import coverages, set_thresholds

_SHOWN = 5


@dataclass(frozen=True)
class Certainty:
    """What answers are given with.

    Attributes:
        temperature: one number, or one a label.
        thresholds: several labels: one a label; one label: None.
        sets: coverage → threshold of prediction sets; empty for several labels.
        n_validation: number of validation pictures with a label.
        strangeness: from where on a picture is unknown; None for several labels.
        notes: sentences on what could not be had.
    """

    temperature: Temperature
    thresholds: tuple[float, ...] | None
    sets: dict[float, float]
    n_validation: int
    strangeness: Strangeness | None
    notes: tuple[str, ...] = ()


def fit_certainty(validation: Predictions, distance: Floats, rule: Rule = "f1", share: float = 0.99) -> Certainty:
    """Fit all of it.

    Args:
        validation: predictions on the validation pictures.
        distance: [n], see `answering.Known.distance`; not used with several labels.
        rule: for thresholds, see `calibrate.thresholds`.
        share: of the known pictures, this share is to be answered, see `unknown.fit_strangeness`.

    Raises:
        DataError: no picture has a label.
    """
    temperature = fit_temperatures(validation)
    n = len(known(validation))
    if validation.multilabel:
        limits = thresholds(validation, temperature, rule)
        return Certainty(
            temperature,
            tuple(limits.tolist()),
            {},
            n,
            None,
            _missed(misses(validation, temperature, limits, rule), rule),
        )
    labelled = validation.target >= 0
    return Certainty(
        temperature,
        None,
        set_thresholds(validation, temperature),
        n,
        fit_strangeness(known(validation), distance[labelled], temperature, share),
    )


def _missed(labels: list[str], rule: Rule) -> tuple[str, ...]:
    if not labels or rule == "f1":
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
        dictionary a coverage ("coverage", "covered": a Metric, "size": classes a set); "unknown": see `unknown.judge`.
    """
    # A bin of a handful of answers says nothing: fewer bins where there are fewer than 20 answers for each of the 15.
    n = len(known(predictions)) * (len(predictions.classes) if predictions.multilabel else 1)
    bins = min(BINS, max(3, n // 20))
    found: dict[str, Any] = {
        "before": reliability(predictions, bins=bins).as_dict(),
        "after": reliability(predictions, certainty.temperature, bins).as_dict(),
    }
    if not predictions.multilabel:
        turned_out = coverages(predictions, certainty.temperature, certainty.sets)
        found["sets"] = [
            {"coverage": level, "covered": asdict(covered), "size": size}
            for level, (covered, size) in turned_out.items()
        ]
    if certainty.strangeness:
        judged = judge(predictions, distance, certainty.temperature, certainty.strangeness)
        found["unknown"] = {name: asdict(metric) for name, metric in judged.items()}
    return found


def keeps_its_share(certainty: Certainty, predictions: Predictions, distance: Floats) -> Certainty:
    """Answer "unknown" by default only if these pictures, not used so far, do not show that too many are refused.

    That is: only if the 95 % interval of the share accepted among them reaches up to the share promised.
    """
    strange = certainty.strangeness
    if strange is None or not strange.by_default or not (predictions.target >= 0).any():
        return certainty
    accepted = judge(predictions, distance, certainty.temperature, strange)["accepted"]
    if accepted.high >= strange.share:
        return certainty
    note = (
        f"“unknown” is not answered by default: {accepted.value:.1%} of the test pictures were accepted, "
        f"fewer than the {strange.share:.1%} that were to be."
    )
    return replace(certainty, strangeness=replace(strange, by_default=False), notes=(*certainty.notes, note))


def copies_gain(
    plain: Predictions, averaged: Evaluation, certainty: Certainty, n_copies: int, mean: Mean
) -> dict[str, Any]:
    """What averaging over changed copies of each picture brings and costs: plain values, for JSON.

    Args:
        plain: predictions without copies, on the pictures of `averaged`.
        averaged: the evaluation with them.
        certainty: what answers are given with.
        n_copies: of each picture.
        mean: what was averaged.
    """
    alone = evaluate_predictions(
        plain, on=averaged.on, temperature=certainty.temperature, thresholds=certainty.thresholds
    )
    told = tell_copies(alone, averaged, n_copies, mean, n_copies + 1, "the network's runs")
    return {"n_copies": n_copies, "mean": mean, "plain": asdict(alone.headline[1]), "told": told}


def tell_copies(plain: Evaluation, averaged: Evaluation, n_copies: int, mean: Mean, times: float, of_what: str) -> str:
    """One sentence: "accuracy 93.0 % → 93.4 % …, at 5 × the time"."""
    (name, before), (_, after) = plain.headline, averaged.headline
    copies = "copy" if n_copies == 1 else "copies"
    return (
        f"{name} {before.value:.1%} → {after.value:.1%} on {averaged.n:,} pictures, {mean} averaged over each "
        f"picture and {n_copies} changed {copies} of it, at {times:.3g} × {of_what}"
    )


def sample(rows: np.ndarray[Any, np.dtype[np.int64]], n_classes: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """The training pictures that show where the known classes lie: all, or 1,000 to 5,000 of them, evenly spread."""
    most = min(5000, max(1000, 10 * n_classes))
    if len(rows) <= most:
        return rows
    return rows[np.linspace(0, len(rows) - 1, most).astype(np.int64)]
