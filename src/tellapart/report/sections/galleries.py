"""Galleries of right, wrong and uncertain answers, and tables of wrong labels (multilabel)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tellapart.core.text import counted
from tellapart.evaluation import mistakes
from tellapart.report import formatting
from tellapart.report.answers import Answers
from tellapart.report.blocks import Block, Cell, Fold, Gallery, Section, Table

MANY = 21  # fills rows of seven on a desktop and of three on a phone
_PAIRS = 20


def errors_section(answers: Answers | None) -> Section | None:
    """The report's section on errors: the most wrong and the least certain pictures; a click opens the others."""
    if answers is None or not len(answers.predictions):
        return None
    blocks = wrong_galleries(answers)
    blocks.append(Fold("Pictures answered rightly, and more wrong ones", right_galleries(answers)))
    if answers.predictions.multilabel:
        blocks += label_blocks(answers)
    return Section("errors", "Where it errs", blocks, "Errors")


def wrong_galleries(answers: Answers, most: int = MANY) -> list[Block]:
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
    return [first, second]


def right_galleries(answers: Answers, most: int = MANY) -> list[Block]:
    """Galleries of the most certain right answers, of right and of wrong ones, the latter two drawn evenly."""
    thresholds, predictions = _decision(answers), answers.predictions
    n_wrong = int((mistakes.n_wrong(predictions, **thresholds) > 0).sum())
    n_right = len(mistakes.n_wrong(predictions, **thresholds)) - n_wrong
    certain = mistakes.right_and_certain(predictions, most, **thresholds)
    right, wrong = mistakes.right(predictions, most, **thresholds), mistakes.wrong(predictions, most, **thresholds)
    galleries = [
        Gallery(
            "Right and most certain", answers.cards_of(certain), "The highest certainties.", "No answer was right."
        ),
        Gallery("Right", answers.cards_of(right), _drawn(len(right), n_right), "No answer was right."),
        Gallery("Wrong", answers.cards_of(wrong), _drawn(len(wrong), n_wrong), "No answer was wrong."),
    ]
    return list(galleries)


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
