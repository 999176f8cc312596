"""Galleries of right, wrong and uncertain answers, and tables of wrong labels (multilabel)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tellapart.core.scores import Evaluation
from tellapart.core.text import counted
from tellapart.evaluation import mistakes
from tellapart.report import formatting
from tellapart.report.answers import Answers
from tellapart.report.blocks import Block, Cell, Fold, Gallery, Section, Table
from tellapart.report.sections.confusion import confusion_matrix, label_confusion, label_matrix, plain_matrix

MANY = 21  # fills rows of seven on a desktop and of three on a phone
_ROW = 7  # pictures of a row on a desktop
_PAIRS = 20


def errors_section(evaluations: Sequence[Evaluation], answers: Answers | None) -> Section | None:
    """The report's section on errors: what is taken for what, the most wrong pictures; a click opens the others.

    Args:
        evaluations: the first is of these answers; the matrix of a second one stands beside its own.
        answers: None or empty: there is no section.
    """
    if answers is None or not len(answers.predictions) or not evaluations:
        return None
    evaluation, other = evaluations[0], evaluations[1] if len(evaluations) > 1 else None
    wrong, uncertain = wrong_galleries(answers)
    blocks: list[Block] = []
    if evaluation.multilabel:
        blocks.append(label_matrix(evaluation, answers))
        if pairs := label_confusion(evaluation, answers, other):
            blocks.append(Fold("Which labels are taken for which", [pairs]))
    elif evaluation.confusion:
        blocks.append(confusion_matrix(evaluation, answers))
    blocks += first_row(wrong, "of the most wrong answers")
    blocks.append(Fold("The least certain answers, and those that were right", [uncertain, *right_galleries(answers)]))
    if evaluation.multilabel:
        blocks.append(Fold("Label by label: how many are wrong, and which may be missing", label_blocks(answers)))
    if other is not None and not evaluation.multilabel and evaluation.confusion and other.confusion:
        blocks.append(Fold(f"The same on {formatting.visible(other.on)}", [plain_matrix(other)]))
    return Section("errors", "Where it fails", blocks, "Failures")


def first_row(gallery: Gallery, of_what: str) -> list[Block]:
    """The first row of a gallery; a click opens the rest, "14 more of the most wrong answers"."""
    if len(gallery.cards) <= _ROW:
        return [gallery]
    rest = replace(gallery, title="", caption="", cards=gallery.cards[_ROW:])
    return [replace(gallery, cards=gallery.cards[:_ROW]), Fold(f"{len(rest.cards)} more {of_what}", [rest])]


def wrong_galleries(answers: Answers, most: int = MANY) -> tuple[Gallery, Gallery]:
    """Galleries of the most wrong and of the least certain answers."""
    thresholds = _decision(answers)
    n = int((mistakes.n_wrong(answers.predictions, **thresholds) > 0).sum())
    multilabel = answers.predictions.multilabel
    wrong = mistakes.wrongest(answers.predictions, most, **thresholds)
    first = Gallery(
        "The most wrong answers",
        answers.cards_of(wrong),
        f"{counted(n, 'picture')} with a wrong {'label' if multilabel else 'answer'}"
        + (f"; here are {len(wrong)}, " if n > len(wrong) else ", ")
        + ("those furthest off in a label first. " if multilabel else "the most certain first. ")
        + "Some of them may have been given a wrong label.",
        "No answer was wrong.",
    )
    second = Gallery(
        "The least certain answers",
        answers.cards_of(mistakes.least_certain(answers.predictions, most, **thresholds)),
        "Pictures with a label that the model can hardly decide on, the hardest first."
        if multilabel
        else "The lowest certainties, right or wrong, the lowest first.",
    )
    return first, second


def right_galleries(answers: Answers, most: int = MANY) -> list[Gallery]:
    """Galleries of right answers and, where not all are shown elsewhere, of wrong ones drawn evenly."""
    thresholds, predictions = _decision(answers), answers.predictions
    n_wrong = int((mistakes.n_wrong(predictions, **thresholds) > 0).sum())
    n_right = len(mistakes.n_wrong(predictions, **thresholds)) - n_wrong
    certain = mistakes.right_and_certain(predictions, most, **thresholds)
    right, wrong = mistakes.right(predictions, most, **thresholds), mistakes.wrong(predictions, most, **thresholds)
    galleries = []
    if n_right > len(certain):
        galleries.append(Gallery("Right and most certain", answers.cards_of(certain), "The highest certainties."))
        galleries.append(Gallery("Right", answers.cards_of(right), _drawn(len(right), n_right)))
    else:  # one gallery: both would hold the same pictures
        caption = f"All {formatting.count(n_right)}, the most certain first."
        galleries.append(Gallery("Right", answers.cards_of(certain), caption, "No answer was right."))
    if n_wrong > len(wrong):  # else the most wrong ones are all of them
        galleries.append(Gallery("Wrong", answers.cards_of(wrong), _drawn(len(wrong), n_wrong)))
    return galleries


def _drawn(shown: int, n: int) -> str:
    return f"{shown} of {formatting.count(n)}, drawn evenly." if n > shown else f"All {formatting.count(n)}."


def pairs_table(answers: Answers) -> Table | None:
    """One label: table of the pairs most often confused; None where every answer was right."""
    pairs = mistakes.most_confused(answers.predictions, _PAIRS)
    if not pairs:
        return None
    totals = np.bincount(answers.labels[answers.labels >= 0], minlength=len(answers.predictions.classes))
    rows = []
    for label, answer, n in pairs:
        total = int(totals[answers.predictions.classes.index(label)])
        rows.append(
            [Cell(label), Cell(answer), Cell(formatting.count(n), n), Cell(formatting.percent(n / total), n / total)]
        )
    return Table(["given", "answered", "pictures", "of the given"], rows, title="Most often confused", sortable=True)


def label_blocks(answers: Answers, most: int = MANY) -> list[Block]:
    """Multilabel: wrong labels by picture and by label, the pictures with most, and labels that may be missing."""
    thresholds, predictions = _decision(answers), answers.predictions
    worst = mistakes.most_wrong_labels(predictions, most, **thresholds)
    missing = mistakes.missing_labels(predictions, most, **thresholds)
    rows = [int(np.searchsorted(predictions.row, picture.row)) for picture in missing]
    cards = [
        answers.card(
            i, note=f"missing? {formatting.visible(picture.answer[0])}, {formatting.certainty(picture.certainty)}"
        )
        for i, picture in zip(rows, missing, strict=True)
    ]
    return [
        _histogram(mistakes.n_wrong(predictions, **thresholds)),
        _by_label(mistakes.wrong_by_class(predictions, **thresholds)),
        Gallery(
            "Pictures with the most wrong labels",
            answers.cards_of(worst),
            "Missed labels and those too many count alike. Under each picture: the answers, and what was missed.",
            "No label was wrong.",
        ),
        Gallery(
            "Labels that may be missing",
            cards,
            "Answered, but not given; the most probable first. Where the model is right, the data lack a label.",
            "No label was answered that was not given.",
        ),
    ]


def _histogram(n_wrong: Any) -> Table:
    """Number of pictures by their number of wrong labels."""
    counts, total = np.bincount(n_wrong), max(1, len(n_wrong))
    rows = [
        [
            Cell(str(k), k),
            Cell(formatting.percent(n / total), n / total, span=(0.0, n / total, n / total)),
            Cell(formatting.count(n), n),
        ]
        for k, n in enumerate(counts.tolist())
    ]
    return Table(["wrong labels", "share", "pictures"], rows, title="How many labels of a picture are wrong")


def _by_label(counts: Sequence[tuple[str, int, int, int]]) -> Table:
    rows = []
    for name, n_labelled, missed, more in sorted(counts, key=lambda c: -(c[2] + c[3])):
        cells = [Cell(formatting.count(n), n) for n in (missed + more, missed, more, n_labelled)]
        rows.append([Cell(name), *cells])
    caption = "Missed: given, not answered. Too many: answered, not given."
    columns = ["label", "wrong", "missed", "too many", "given"]
    return Table(columns, rows, caption, sortable=True, title="Wrong labels by label")


def _decision(answers: Answers) -> dict[str, Any]:
    return {"temperature": answers.temperature, "thresholds": answers.thresholds}
