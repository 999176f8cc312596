"""The confusion matrix, and the pairs of classes most often confused."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from tellapart.core.scores import Evaluation
from tellapart.report import formatting
from tellapart.report.answers import Answers
from tellapart.report.blocks import Cell, Group, Matrix, MatrixCell, Table

#: The most pictures behind one cell. Where there are more, the page says so.
IN_CELL = 12
#: The most classes of a matrix that can be drawn and read. Of more classes, those with most errors are shown.
MOST_CLASSES = 100
TITLE = "Which classes are taken for which"
_PAIRS = 10

Counts = npt.NDArray[np.int64]


def confusion_matrix(evaluation: Evaluation, answers: Answers) -> Matrix:
    """The confusion matrix, given class by answered class, with the pictures behind each cell."""
    counts = np.asarray(evaluation.confusion, np.int64)
    classes = worst_classes(counts, MOST_CLASSES)
    names = evaluation.classes
    totals = np.maximum(counts.sum(axis=1), 1)
    groups, cells = [], []
    for label in classes:
        line = []
        for answer in classes:
            n = int(counts[label, answer])
            share = n / int(totals[label])
            key = f"{label}-{answer}" if n else ""
            line.append(MatrixCell(n, share, key))
            if n:
                groups.append(_group(key, _title(names, label, answer), n, share, answers, label, answer))
        cells.append(line)
    shown = [names[i] for i in classes]
    first = _largest_error(counts, classes)
    caption = "Each row is a given class, each column an answer; right answers lie on the diagonal. "
    if len(classes) < len(names):
        caption += f"The {len(classes)} classes with most errors are shown, of {len(names)}. "
    if len(classes) > 30:
        caption += "Scroll in both directions to see all."
    pairs = _confused_pairs(counts, names, {group.key for group in groups})
    return Matrix(TITLE, shown, shown, ("given", "answered"), cells, groups, first, True, caption.strip(), pairs)


def worst_classes(counts: Counts, most: int) -> list[int]:
    """All classes, or the `most` with most errors (as given or answered class), in the order of the classes."""
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return sorted(np.argsort(-errors, kind="stable")[:most].tolist())


def _title(names: tuple[str, ...], label: int, answer: int) -> str:
    a, b = formatting.visible(names[label]), formatting.visible(names[answer])
    return f"{a}, answered right" if label == answer else f"{a}, answered {b}"


def _group(key: str, title: str, n: int, share: float, answers: Answers, label: int, answer: int) -> Group:
    positions = answers.cell(label, answer)[:IN_CELL]
    of = f"{formatting.percent(share)} of {formatting.count(round(n / share))}"
    return Group(key, title, n, of, answers.cards(positions), label == answer)


def _largest_error(counts: Counts, classes: list[int]) -> str:
    """Key of the cell with most errors, or of the first class where there is none."""
    off = counts * (1 - np.eye(len(counts), dtype=np.int64))
    label, answer = np.unravel_index(int(off.argmax()), off.shape)
    if off[label, answer] and label in classes and answer in classes:
        return f"{label}-{answer}"
    return next((f"{i}-{i}" for i in classes if counts[i, i]), "")


def _confused_pairs(counts: Counts, names: tuple[str, ...], keys: set[str]) -> Table | None:
    """The pairs most often confused; None where every answer was right."""
    off = counts * (1 - np.eye(len(counts), dtype=np.int64))
    order = np.argsort(-off, axis=None, kind="stable")[:_PAIRS]
    rows = []
    for label, answer in zip(*np.unravel_index(order, off.shape), strict=True):
        n, total = int(off[label, answer]), int(counts[label].sum())
        if n:
            key = f"{label}-{answer}"
            rows.append(
                [
                    Cell(names[label]),
                    Cell(names[answer]),
                    Cell(formatting.count(n), n, opens=key if key in keys else ""),
                    Cell(formatting.percent(n / total), n / total),
                ]
            )
    all_pairs = int((off > 0).sum())
    caption = f"The first {len(rows)} of {all_pairs} pairs." if all_pairs > len(rows) else ""
    columns = ["given", "answered", "pictures", "of the given"]
    return Table(columns, rows, caption, title="Most often confused") if rows else None


def label_matrix(answers: Answers) -> Matrix:
    """Multilabel: true positives, misses and false positives of each label."""
    columns = [("found", True, True), ("missed", True, False), ("too many", False, True)]
    groups, cells = [], []
    for label, name in enumerate(answers.predictions.classes):
        n_labelled = max(1, int(answers.labels[:, label].sum()))
        line = []
        for number, (result, was_given, was_answered) in enumerate(columns):
            positions = answers.label_cell(label, was_given, was_answered)
            n, key = len(positions), f"{label}-{number}"
            line.append(MatrixCell(n, n / n_labelled, key if n else ""))
            if n:
                share = f"{formatting.percent(n / n_labelled)} of the {formatting.count(n_labelled)} given"
                cards = answers.cards(positions[:IN_CELL])
                groups.append(Group(key, f"{formatting.visible(name)}, {result}", n, share, cards, number == 0))
        cells.append(line)
    first = max(
        (cell for line in cells for cell in line[1:] if cell.n), key=lambda cell: cell.n, default=MatrixCell(0, 0.0)
    )
    caption = (
        "For each label: found (given and answered), missed (given, not answered), too many (answered, not given). "
        "Fractions are of the pictures given the label."
    )
    names, heads = list(answers.predictions.classes), [result for result, _, _ in columns]
    return Matrix(
        "What is found, missed and made up", names, heads, ("label", "result"), cells, groups, first.key, False, caption
    )
