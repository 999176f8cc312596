"""The headline: the score, and the pictures that it rests on."""

from __future__ import annotations

import math

import numpy as np

from tellapart.core.scores import BEFORE_RETRAINING, Evaluation, Metric
from tellapart.core.text import counted
from tellapart.report import formatting
from tellapart.report.blocks import Headline
from tellapart.report.curves import Curves
from tellapart.report.run_data import ReportData

#: Names of the parts of the split on the page.
PARTS = {"train": "training"}


def headline(data: ReportData) -> Headline | None:
    """The first metric of the first evaluation, with its interval and a sentence."""
    if data.evaluation is None:
        return None
    name, metric = data.evaluation.headline
    share = formatting.is_share(name, metric.value)
    text = [formatting.sentence(data.evaluation)]
    mark = _commonest(data) if name == "accuracy" else None
    if mark:
        text.append(
            f"Always answering “{formatting.visible(mark[1])}”, the commonest, would get {formatting.percent(mark[0])}."
        )
    if data.evaluation.on == "validation":
        text.append("The best epoch was chosen on these pictures, so this is a little flattering.")
    if data.evaluation.on == BEFORE_RETRAINING:
        text.append("The network that answers was trained on these pictures too: no pictures are left to judge it.")
    text += map(formatting.visible, data.evaluation.notes)
    return Headline(
        figure=formatting.number(metric.value) if share else formatting.score(name, metric.value),
        unit="%" if share else "",
        metric=f"{formatting.plain(name).lower() if name[:2] != 'f1' else formatting.plain(name)}"
        f" on {_which(data.evaluation)}",
        interval=f"95\u202f% interval: {formatting.interval(name, metric)}",
        sentence=" ".join(text),
        span=span(metric) if share else None,
        mark=(mark[0], "always the commonest class") if mark and share else None,
    )


def _which(evaluation: Evaluation) -> str:
    """The pictures of a score, in words: "540 test pictures"."""
    n = formatting.count(evaluation.n)
    if evaluation.on == "test":
        return f"{n} test pictures"
    if evaluation.on == "validation":
        return f"{n} validation pictures"
    if evaluation.on == BEFORE_RETRAINING:
        return f"{n} validation pictures, before retraining"
    if evaluation.on == "train":
        return f"{n} pictures it was trained on"
    return f"{n} pictures of {formatting.visible(evaluation.on)}"


def _commonest(data: ReportData) -> tuple[float, str] | None:
    """Share and name of the commonest class among the headline's pictures: the score of a constant answer."""
    if data.predictions is None or data.predictions.multilabel:
        return None
    known = data.predictions.target[data.predictions.target >= 0]
    if not len(known):
        return None
    counts = np.bincount(known, minlength=len(data.predictions.classes))
    return float(counts.max() / len(known)), data.predictions.classes[int(counts.argmax())]


def span(metric: Metric) -> tuple[float, float, float] | None:
    """Low, value, high for the scale; None where one of them is not known."""
    if not all(map(math.isfinite, (metric.low, metric.value, metric.high))):
        return None
    return metric.low, metric.value, metric.high


def facts(data: ReportData, course: Curves) -> list[tuple[str, str, str]]:
    """Numbers of pictures, classes and epochs, and the time: (name, value, an addition in small type)."""
    parts = ", ".join(
        f"{formatting.count(len(part))} {PARTS.get(name, name)}"
        for name, part in data.pictures.parts.items()
        if len(part)
    )
    noun = "labels" if data.pictures.multilabel else "classes"
    facts = [
        ("pictures", formatting.count(data.pictures.n), parts),
        (noun, formatting.count(len(data.pictures.classes)), ""),
    ]
    if course.epoch:
        stages = counted(len(course.stages), "stage") if len(course.stages) > 1 else ""
        facts.append(("epochs", formatting.count(len(course.epoch)), stages))
    if course.total_seconds:
        apart = f"an epoch {formatting.duration(course.epoch_seconds)}"
        apart += f"; before, {formatting.duration(course.preparation)} of preparation" if course.preparation else ""
        facts.append(("training time", formatting.duration(course.total_seconds), apart))
    return facts
