"""A story told as a page: what was trained on, how it went, how good it is, where it errs, how to repeat it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from tellapart.records import Evaluation, Metric
from tellapart.report import words
from tellapart.report.answers import Answers
from tellapart.report.blocks import (
    Block,
    Card,
    Cell,
    Chart,
    ClassCard,
    Classes,
    Code,
    Fold,
    Gallery,
    Headline,
    Page,
    Section,
    Side,
    Table,
    Text,
)
from tellapart.report.charts import Line, line_chart
from tellapart.report.confusion import confusion_matrix, label_matrix
from tellapart.report.curves import Curves, curves
from tellapart.report.story import Story

_GALLERY = 24
_LISTED = 200
_PARTS = {"train": "training"}


def tell(story: Story) -> Page:
    """The page of a story. Sections for which there is nothing to show are left out."""
    answers = None
    if story.predictions is not None:
        limits = None if story.thresholds is None else np.asarray(story.thresholds, np.float64)
        answers = Answers(story.predictions, story.pictures.name, story.temperature, limits)
    course = curves(story.events)
    sections = [
        pictures_section(story),
        training_section(course),
        score_section(story, answers),
        classes_section(story.evaluation),
        errors_section(answers),
        *story.more,
        repeat_section(story),
    ]
    return Page(
        title=story.title,
        subtitle=[text for text in (story.model, story.when) if text],
        headline=headline(story),
        facts=_facts(story, course),
        notes=story.notes,
        sections=[section for section in sections if section is not None],
    )


def headline(story: Story) -> Headline | None:
    """The first metric of the first evaluation, with its interval and a sentence."""
    if story.evaluation is None:
        return None
    name, metric = story.evaluation.headline
    share = words.is_share(name, metric.value)
    text = [words.sentence(story.evaluation)]
    mark = _commonest(story) if name == "accuracy" else None
    if mark:
        text.append(f"Always answering “{words.visible(mark[1])}”, the commonest, would get {words.percent(mark[0])}.")
    if story.evaluation.on == "validation":
        text.append("The best epoch was chosen on these pictures, so this is a little flattering.")
    return Headline(
        figure=words.number(metric.value) if share else words.score(name, metric.value),
        unit="%" if share else "",
        what=f"{words.plain(name).lower() if name[:2] != 'f1' else words.plain(name)} on {_which(story.evaluation)}",
        interval=f"95\u202f% interval: {words.interval(name, metric)}",
        sentence=" ".join(text),
        span=_span(metric) if share else None,
        mark=(mark[0], "always the commonest class") if mark and share else None,
    )


def _which(evaluation: Evaluation) -> str:
    """Which pictures a score comes from: "540 test pictures"."""
    n = words.count(evaluation.n)
    if evaluation.on == "test":
        return f"{n} test pictures"
    if evaluation.on == "validation":
        return f"{n} validation pictures"
    if evaluation.on == "train":
        return f"{n} pictures it was trained on"
    return f"{n} pictures of {words.visible(evaluation.on)}"


def _commonest(story: Story) -> tuple[float, str] | None:
    """Share and name of the commonest class among the pictures of the headline: what no effort at all would give."""
    if story.predictions is None or story.predictions.several:
        return None
    known = story.predictions.target[story.predictions.target >= 0]
    if not len(known):
        return None
    counts = np.bincount(known, minlength=len(story.predictions.classes))
    return float(counts.max() / len(known)), story.predictions.classes[int(counts.argmax())]


def _span(metric: Metric) -> tuple[float, float, float] | None:
    if not all(map(math.isfinite, (metric.low, metric.value, metric.high))):
        return None
    return metric.low, metric.value, metric.high


def _facts(story: Story, course: Curves) -> list[tuple[str, str, str]]:
    parts = ", ".join(
        f"{words.count(len(part))} {_PARTS.get(name, name)}" for name, part in story.pictures.parts.items() if len(part)
    )
    what = "labels" if story.pictures.several else "classes"
    facts = [
        ("pictures", words.count(story.pictures.n), parts),
        (what, words.count(len(story.pictures.classes)), ""),
    ]
    if course.epoch:
        stages = words.some(len(course.stages), "stage") if len(course.stages) > 1 else ""
        facts.append(("epochs", words.count(len(course.epoch)), stages))
    if course.total_seconds:
        facts.append(("training time", words.duration(course.total_seconds), ""))
    return facts


def pictures_section(story: Story) -> Section:
    """Classes with counts and examples, how the labels were found, what could not be read."""
    pictures = story.pictures
    parts = {name: part for name, part in pictures.parts.items() if len(part)}
    counts = {name: part.counts(len(pictures.classes)) for name, part in parts.items()}
    # Examples come from what was trained on; six a class where there are few classes.
    shown = next(iter(parts.values()), None)
    most = 6 if len(pictures.classes) <= 40 else 3
    classes = []
    for i, name in enumerate(pictures.classes):
        rows = [] if shown is None else shown.rows_of(i, most).tolist()
        cards = [Card(row, pictures.name(row), has_answer=False) for row in rows]
        by_part = [(_PARTS.get(part, part), int(counts[part][i])) for part in parts]
        classes.append(ClassCard(name, sum(n for _, n in by_part), by_part, cards))
    blocks: list[Block] = []
    if pictures.layout:
        blocks.append(Text(pictures.layout))
    if pictures.several:
        blocks.append(Text(_label_counts(story), "note"))
    blocks.append(Classes(classes, max((c.n for c in classes), default=0)))
    if pictures.unreadable:
        blocks.append(_unreadable(pictures.unreadable))
    return Section("pictures", "What it was trained on", blocks, "Pictures")


def _label_counts(story: Story) -> str:
    """How many pictures have none, one, or more labels."""
    per_picture = np.concatenate([np.asarray(part.target.sum(axis=1)) for part in story.pictures.parts.values()])
    none, one = int((per_picture == 0).sum()), int((per_picture == 1).sum())
    more = len(per_picture) - none - one
    return (
        f"A picture may have several labels: {words.count(none)} have none, {words.count(one)} one, "
        f"{words.count(more)} two or more."
    )


def _unreadable(files: Iterable[tuple[str, str]]) -> Block:
    listed = list(files)
    n = words.some(len(listed), "file")
    rows = [[Cell(path), Cell(reason)] for path, reason in listed[:_LISTED]]
    caption = f"The first {_LISTED} of {n}." if len(listed) > _LISTED else ""
    inner = Table(["file", "why"], rows, caption)
    return Fold(f"{n} could not be read and {'was' if len(listed) == 1 else 'were'} left out", [inner])


def training_section(course: Curves) -> Section | None:
    """Curves of loss, accuracy and learning rate; stages; every epoch as a table."""
    if not course.epoch:
        return None
    charts: list[Block] = [
        chart
        for chart in (
            _curve_chart(course, "Loss", course.train_loss, course.validation_loss),
            _curve_chart(course, "Accuracy", course.train_accuracy, course.validation_accuracy),
            _rate_chart(course),
        )
        if chart is not None
    ]
    stages = _stage_table(course)
    blocks: list[Block] = []
    if course.best is not None:
        blocks.append(Text(f"The weights kept are those after epoch {course.best} of {len(course.epoch)}."))
    blocks += [Side([*charts, stages]), Fold("Every epoch as a table", [_epoch_table(course)])]
    return Section("training", "How the training went", blocks, "Training")


def _curve_chart(course: Curves, title: str, train: tuple[float, ...], validation: tuple[float, ...]) -> Chart | None:
    if not any(map(math.isfinite, (*train, *validation))):
        return None
    share = title != "Loss"
    marked = validation if any(map(math.isfinite, validation)) else train
    best = None
    if course.best is not None and math.isfinite(marked[course.best - 1]):
        best = (float(course.best), marked[course.best - 1], "best")
    svg = line_chart(
        [Line("training", course.epoch, train, quiet=True), Line("validation", course.epoch, validation)],
        title=f"{title} after each epoch, on training and validation pictures",
        x_title="epoch",
        form=_percent if share else None,
        whole_x=True,
        y_limits=(0.0, 1.0) if share else (0.0, math.inf),
        spans=[(span.name, span.start, span.end) for span in course.stages],
        best=best,
    )
    return Chart(title, svg)


def _rate_chart(course: Curves) -> Chart | None:
    if not course.rate or max(course.rate) <= 0:
        return None
    steps = list(zip(course.rate_at, course.rate, strict=True))
    peaks = [max((rate for at, rate in steps if span.start < at <= span.end), default=0.0) for span in course.stages]
    peaks = [peak for peak in peaks if peak > 0]
    log = len(peaks) > 1 and max(peaks) / min(peaks) > 30
    # On a logarithmic axis the last steps of a cosine would stretch it over many empty powers of ten.
    floor = min(peaks) / 100 if log else -math.inf
    rate = [max(value, floor) for value in course.rate]
    svg = line_chart(
        [Line("", course.rate_at, rate)],
        title="Learning rate over the training",
        x_title="epoch",
        log=log,
        whole_x=True,
        y_limits=(0.0, math.inf),
        spans=[(span.name, span.start, span.end) for span in course.stages],
    )
    return Chart("Learning rate", svg, "Logarithmic scale." if log else "")


def _percent(share: float) -> str:
    text = f"{100 * share:.1f}".removesuffix(".0")
    return f"{text}\u202f%"


def _stage_table(course: Curves) -> Table:
    rows = [
        [
            Cell(span.name, quiet=" ".join(map(_sentence, filter(None, (span.plan, span.reason))))),
            Cell(str(span.end - span.start), span.end - span.start),
            Cell(str(span.best) if span.best else "–", span.best or 0),
            Cell(words.duration(span.seconds), span.seconds),
        ]
        for span in course.stages
    ]
    return Table(["stage", "epochs", "best at", "time"], rows)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


def _epoch_table(course: Curves) -> Table:
    def loss(value: float) -> Cell:
        return Cell(f"{value:.4f}" if math.isfinite(value) else "–", value)

    def share(value: float) -> Cell:
        return Cell(words.percent(value), value)

    rows = [
        [
            Cell(f"{epoch}{' (best)' if epoch == course.best else ''}", epoch),
            loss(course.train_loss[i]),
            loss(course.validation_loss[i]),
            share(course.train_accuracy[i]),
            share(course.validation_accuracy[i]),
            Cell(words.duration(course.seconds[i]), course.seconds[i]),
        ]
        for i, epoch in enumerate(course.epoch)
    ]
    names = ["epoch", "training loss", "validation loss", "training accuracy", "validation accuracy", "time"]
    return Table(names, rows)


def score_section(story: Story, answers: Answers | None) -> Section | None:
    """The table of metrics, and which classes are taken for which."""
    if story.evaluation is None:
        return None
    blocks: list[Block] = [_metrics_table(story)]
    if answers is not None and len(answers.predictions):
        if story.evaluation.several:
            blocks.append(label_matrix(answers))
        elif story.evaluation.confusion:
            blocks.append(confusion_matrix(story.evaluation, answers))
    return Section("score", "How good it is", blocks, "Score")


def _metrics_table(story: Story) -> Table:
    """One line a metric, one column an evaluation."""
    names = list(dict.fromkeys(name for evaluation in story.evaluations for name in evaluation.metrics))
    rows = []
    for name in names:
        cells = [Cell(words.plain(name), quiet=words.meaning(name))]
        for evaluation in story.evaluations:
            metric = evaluation.metrics.get(name)
            if metric is None:
                cells.append(Cell("–", math.nan))
            else:
                cells.append(Cell(words.score(name, metric.value), metric.value, quiet=words.interval(name, metric)))
        rows.append(cells)
    columns = ["metric", *(f"{words.visible(e.on)} ({words.count(e.n)})" for e in story.evaluations)]
    return Table(columns, rows, "In small figures: the 95\u202f% interval.")


def classes_section(evaluation: Evaluation | None) -> Section | None:
    """Precision, recall and F1 of each class."""
    if evaluation is None or not evaluation.per_class:
        return None
    what = "label" if evaluation.several else "class"
    rows = []
    for name, entry in zip(evaluation.classes, evaluation.per_class, strict=True):
        scores = [_score_cell(entry.get(field), drawn=field == "f1") for field in ("precision", "recall", "f1")]
        rows.append(
            [
                Cell(name),
                Cell(words.count(entry["n"]), entry["n"]),
                Cell(words.count(entry["n_predicted"]), entry["n_predicted"]),
                *scores,
            ]
        )
    caption = (
        f"Precision: of the pictures answered with a {what}, the share to which it was given. "
        f"Recall: of the pictures given a {what}, the share answered with it. F1: one number for both."
    )
    table = Table([what, "given", "answered", "precision", "recall", "F1"], rows, caption, sortable=True)
    return Section("classes", f"Every {what}", [table], "Labels" if evaluation.several else "Classes")


def _score_cell(metric: Metric | None, drawn: bool) -> Cell:
    if metric is None or not math.isfinite(metric.value):
        return Cell("–", -1.0)
    return Cell(words.percent(metric.value), metric.value, words.interval("", metric), _span(metric) if drawn else None)


def errors_section(answers: Answers | None) -> Section | None:
    """The wrongest and the least certain pictures."""
    if answers is None or not len(answers.predictions):
        return None
    wrong, unsure = answers.most_wrong(_GALLERY), answers.least_certain(_GALLERY)
    n = int(answers.wrong.sum())
    several = answers.predictions.several
    first = Gallery(
        "The most wrong answers",
        answers.cards(wrong),
        f"{words.some(n, 'picture')} with a wrong {'label' if several else 'answer'}"
        + (f"; here are {len(wrong)}, " if n > len(wrong) else ", ")
        + ("those furthest off in a label first. " if several else "the most certain first. ")
        + "Some of them may have been given a wrong label.",
        "No answer was wrong.",
    )
    second = Gallery(
        "The least certain answers",
        answers.cards(unsure),
        "Pictures with a label close to its threshold, the closest first."
        if several
        else "The lowest certainties, right or wrong, the lowest first.",
    )
    return Section("errors", "Where it errs", [first, second], "Errors")


def repeat_section(story: Story) -> Section | None:
    """Command, recipe, environment."""
    blocks: list[Block] = []
    if story.command:
        blocks.append(Code(story.command, "This command repeats the training"))
    if story.recipe:
        blocks.append(Fold("The recipe, with every default", [Code(story.recipe)]))
    if story.environment:
        rows = [[Cell(key), Cell(value)] for key, value in _flat(story.environment)]
        blocks.append(Fold("The environment", [Table(["what", "value"], rows)]))
    return Section("repeat", "How to repeat it", blocks, "Repeat") if blocks else None


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, str]]:
    """Nested values as dotted names and text."""
    for key, value in values.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list | tuple):
            yield name, ", ".join(map(str, value))
        else:
            yield name, str(value)
