"""The main page of a report: pictures, training, scores, errors, and how to repeat the training."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tellapart.core.scores import Evaluation, Metric
from tellapart.core.text import counted
from tellapart.report import formatting
from tellapart.report.answers import Answers
from tellapart.report.blocks import (
    Block,
    Card,
    Cell,
    ClassCard,
    Classes,
    Code,
    Fold,
    Page,
    Section,
    Side,
    Table,
    Text,
)
from tellapart.report.curves import curves
from tellapart.report.run_data import ReportData
from tellapart.report.sections.curves import training_section
from tellapart.report.sections.galleries import errors_section
from tellapart.report.sections.headline import PARTS, facts, headline, span
from tellapart.report.sections.label_pairs import labels_together

_LISTED = 200
#: Metrics that are shown without a click.
_FIRST = 3


def report_page(data: ReportData) -> Page:
    """The page of a training. Sections with nothing to show are left out."""
    answers = None
    if data.predictions is not None:
        limits = None if data.thresholds is None else np.asarray(data.thresholds, np.float64)
        answers = Answers(data.predictions, data.pictures.name, data.temperature, limits, data.pictures.link)
    course = curves(data.events)
    # In the order of a reader's questions: how good is it, where does it fail, what to do next, what is it made of.
    sections = [
        score_section(data),
        errors_section(data.evaluations, answers),
        next_section(data),
        pictures_section(data),
        training_section(course),
        repeat_section(data),
    ]
    return Page(
        title=data.title,
        subtitle=[text for text in (data.model, data.when) if text],
        headline=headline(data),
        facts=facts(data, course),
        notes=data.notes,
        remarks=data.remarks,
        sections=with_more([section for section in sections if section is not None], data.more),
    )


def with_more(sections: Sequence[Section], more: Sequence[Section]) -> list[Section]:
    """Insert further sections into those of the page: see `ReportData.more`."""
    page = list(sections)
    behind: dict[str, str] = {}  # the last section put behind an anchor: several stay in their order
    for section in more:
        anchors = [there.anchor for there in page]
        if section.anchor in anchors:
            at = anchors.index(section.anchor)
            page[at] = replace(page[at], blocks=[*page[at].blocks, *section.blocks])
            continue
        last = behind.get(section.after, section.after)
        end = anchors.index("repeat") if "repeat" in anchors else len(anchors)
        page.insert(anchors.index(last) + 1 if last in anchors else end, section)
        behind[section.after] = section.anchor
    return page


def pictures_section(data: ReportData) -> Section:
    """Classes with counts and examples, the layout of the labels, unreadable files."""
    pictures = data.pictures
    parts = {name: part for name, part in pictures.parts.items() if len(part)}
    counts = {name: part.counts(len(pictures.classes)) for name, part in parts.items()}
    # Examples come from what was trained on; six a class where there are few classes.
    shown = next(iter(parts.values()), None)
    most = 6 if len(pictures.classes) <= 40 else 3
    classes = []
    for i, name in enumerate(pictures.classes):
        rows = [] if shown is None else shown.rows_of(i, most).tolist()
        cards = [Card(row, pictures.name(row), has_answer=False) for row in rows]
        by_part = [(PARTS.get(part, part), int(counts[part][i])) for part in parts]
        classes.append(ClassCard(name, sum(n for _, n in by_part), by_part, cards))
    blocks: list[Block] = []
    origin = " ".join(filter(None, (pictures.layout, pictures.divided)))
    if origin:
        blocks.append(Text(origin))
    if pictures.multilabel:
        blocks.append(Text(_label_counts(data), "note"))
    blocks.append(Classes(classes, max((c.n for c in classes), default=0)))
    if pictures.multilabel:
        blocks += labels_together(pictures)
    if pictures.unreadable:
        blocks.append(_unreadable(pictures.unreadable))
    return Section("pictures", "What it was trained on", blocks, "Pictures")


def _label_counts(data: ReportData) -> str:
    """Number of pictures with no label, one, or more."""
    per_picture = np.concatenate([np.asarray(part.target.sum(axis=1)) for part in data.pictures.parts.values()])
    none, one = int((per_picture == 0).sum()), int((per_picture == 1).sum())
    more = len(per_picture) - none - one
    return (
        f"A picture may have several labels: {formatting.count(none)} have none, {formatting.count(one)} one, "
        f"{formatting.count(more)} two or more."
    )


def _unreadable(files: Iterable[tuple[str, str]]) -> Block:
    listed = list(files)
    n = counted(len(listed), "file")
    rows = [[Cell(path), Cell(reason)] for path, reason in listed[:_LISTED]]
    caption = f"The first {_LISTED} of {n}." if len(listed) > _LISTED else ""
    inner = Table(["file", "why"], rows, caption)
    return Fold(f"{n} could not be read and {'was' if len(listed) == 1 else 'were'} left out", [inner])


def next_section(data: ReportData) -> Section | None:
    """The most useful next step, and the commands that follow."""
    if not data.next_step:
        return None
    sentence, _, command = data.next_step.rpartition(": ")
    if not command.startswith("tellapart "):
        sentence, command = data.next_step, ""
    step: list[Block] = [Text(f"{sentence[:1].upper()}{sentence[1:]}{':' if command else ''}", "lead")]
    if command:
        step.append(Code(command))
    then = [(purpose, other) for purpose, other in data.then if other != command]
    if then:
        rows = [[Cell(purpose[:1].upper() + purpose[1:]), Cell(other, code=True)] for purpose, other in then]
        table = Table(["to", "type, in the folder that holds this run"], rows)
        return Section("next", "What to do next", [Side([step, table])], "Next")
    return Section("next", "What to do next", step, "Next")


def score_section(data: ReportData) -> Section | None:
    """The first metrics, and all of them; the scores of each class."""
    if data.evaluation is None:
        return None
    names = list(dict.fromkeys(name for evaluation in data.evaluations for name in evaluation.metrics))
    blocks: list[Block] = [_metrics_table(data, names[:_FIRST])]
    if len(names) > _FIRST:
        blocks.append(
            Fold(f"All {len(names)} scores, and what each means", [_metrics_table(data, names)], printed=True)
        )
    if data.evaluation.per_class:
        blocks.append(Fold(_range(data.evaluation), [classes_table(data.evaluation)], printed=True))
    return Section("score", "How good it is", blocks, "Score")


def _range(evaluation: Evaluation) -> str:
    """The best and the worst class in a line."""
    named = [
        (entry["f1"].value, name)
        for name, entry in zip(evaluation.classes, evaluation.per_class, strict=True)
        if math.isfinite(entry["f1"].value)
    ]
    noun = "label" if evaluation.multilabel else "class"
    if not named:
        return f"Every {noun}"
    (worst, last), (best, first) = min(named), max(named)
    return (
        f"Every {noun}: F1 from {formatting.percent(worst)} ({formatting.shortened(last)}) to "
        f"{formatting.percent(best)} ({formatting.shortened(first)})"
    )


def _metrics_table(data: ReportData, names: Sequence[str]) -> Table:
    """One line a metric, one column an evaluation."""
    rows = []
    for name in names:
        cells = [Cell(formatting.plain(name), quiet=formatting.meaning(name))]
        for evaluation in data.evaluations:
            metric = evaluation.metrics.get(name)
            if metric is None:
                cells.append(Cell("–", math.nan))
            else:
                cells.append(
                    Cell(formatting.score(name, metric.value), metric.value, quiet=formatting.interval(name, metric))
                )
        rows.append(cells)
    columns = ["metric", *(f"{formatting.visible(e.on)} ({formatting.count(e.n)})" for e in data.evaluations)]
    return Table(columns, rows, "In small figures: the 95\u202f% interval.")


def classes_table(evaluation: Evaluation) -> Table:
    """Precision, recall and F1 of each class."""
    noun = "label" if evaluation.multilabel else "class"
    rows = []
    for name, entry in zip(evaluation.classes, evaluation.per_class, strict=True):
        scores = [_score_cell(entry.get(field), drawn=field == "f1") for field in ("f1", "precision", "recall")]
        counts = [Cell(formatting.count(entry[field]), entry[field]) for field in ("n", "n_predicted")]
        rows.append([Cell(name), *scores, *counts])
    caption = (
        f"Precision: of the pictures answered with a {noun}, the share to which it was given. "
        f"Recall: of the pictures given a {noun}, the share answered with it. F1: one number for both. "
        "In small figures, where the page is wide enough: the 95\u202f% interval."
    )
    columns = [noun, "F1", "precision", "recall", "given", "answered"]
    return Table(columns, rows, caption, sortable=True, title=f"Every {noun}")


def _score_cell(metric: Metric | None, drawn: bool) -> Cell:
    if metric is None or not math.isfinite(metric.value):
        return Cell("–", -1.0)
    return Cell(
        formatting.percent(metric.value), metric.value, formatting.interval("", metric), span(metric) if drawn else None
    )


def repeat_section(data: ReportData) -> Section | None:
    """Command, recipe, environment."""
    blocks: list[Block] = []
    if data.command:
        blocks.append(Code(data.command, "This command repeats the training"))
    if data.started_by not in ("", data.command):
        blocks.append(Fold("The command that it was started with", [Code(data.started_by)]))
    if data.recipe:
        blocks.append(Fold("The recipe, with every default", [Code(data.recipe)]))
    if data.environment:
        rows = [[Cell(key), Cell(value)] for key, value in _flat(data.environment)]
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
