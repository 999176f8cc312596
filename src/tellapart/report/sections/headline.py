"""What stands first on the page: the score, and what it rests on."""

from __future__ import annotations

import math

import numpy as np

from tellapart.core.scores import BEFORE_RETRAINING, Evaluation, Metric
from tellapart.core.text import counted
from tellapart.report import formatting
from tellapart.report.blocks import Headline
from tellapart.report.curves import Curves
from tellapart.report.run_data import Story

#: What the parts are called on the page.
PARTS = {"train": "training"}


def headline(story: Story) -> Headline | None:
    """The first metric of the first evaluation, with its interval and a sentence."""
    if story.evaluation is None:
        return None
    name, metric = story.evaluation.headline
    share = formatting.is_share(name, metric.value)
    text = [formatting.sentence(story.evaluation)]
    mark = _commonest(story) if name == "accuracy" else None
    if mark:
        text.append(
            f"Always answering “{formatting.visible(mark[1])}”, the commonest, would get {formatting.percent(mark[0])}."
        )
    if story.evaluation.on == "validation":
        text.append("The best epoch was chosen on these pictures, so this is a little flattering.")
    if story.evaluation.on == BEFORE_RETRAINING:
        text.append("The network that answers was trained on these pictures too: no pictures are left to judge it.")
    return Headline(
        figure=formatting.number(metric.value) if share else formatting.score(name, metric.value),
        unit="%" if share else "",
        what=f"{formatting.plain(name).lower() if name[:2] != 'f1' else formatting.plain(name)}"
        f" on {_which(story.evaluation)}",
        interval=f"95\u202f% interval: {formatting.interval(name, metric)}",
        sentence=" ".join(text),
        span=span(metric) if share else None,
        mark=(mark[0], "always the commonest class") if mark and share else None,
    )


def _which(evaluation: Evaluation) -> str:
    """Which pictures a score comes from: "540 test pictures"."""
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


def _commonest(story: Story) -> tuple[float, str] | None:
    """Share and name of the commonest class among the pictures of the headline: what no effort at all would give."""
    if story.predictions is None or story.predictions.multilabel:
        return None
    known = story.predictions.target[story.predictions.target >= 0]
    if not len(known):
        return None
    counts = np.bincount(known, minlength=len(story.predictions.classes))
    return float(counts.max() / len(known)), story.predictions.classes[int(counts.argmax())]


def span(metric: Metric) -> tuple[float, float, float] | None:
    """Low, value, high, to be drawn; None where one of them is not known."""
    if not all(map(math.isfinite, (metric.low, metric.value, metric.high))):
        return None
    return metric.low, metric.value, metric.high


def facts(story: Story, course: Curves) -> list[tuple[str, str, str]]:
    """How many pictures, classes and epochs, and the time: (what, value, a quiet addition)."""
    parts = ", ".join(
        f"{formatting.count(len(part))} {PARTS.get(name, name)}"
        for name, part in story.pictures.parts.items()
        if len(part)
    )
    noun = "labels" if story.pictures.multilabel else "classes"
    facts = [
        ("pictures", formatting.count(story.pictures.n), parts),
        (noun, formatting.count(len(story.pictures.classes)), ""),
    ]
    if course.epoch:
        stages = counted(len(course.stages), "stage") if len(course.stages) > 1 else ""
        facts.append(("epochs", formatting.count(len(course.epoch)), stages))
    if course.total_seconds:
        facts.append(("training time", formatting.duration(course.total_seconds), ""))
    return facts
