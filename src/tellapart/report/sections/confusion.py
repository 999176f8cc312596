"""Matrices of answers: given by answered class, the results of each label, and pairs of labels."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from tellapart.core.scores import Evaluation
from tellapart.core.text import counted
from tellapart.evaluation.label_pairs import cut_note
from tellapart.report import formatting
from tellapart.report.answers import Answers, Positions
from tellapart.report.blocks import Block, Cell, Group, Matrix, MatrixCell, Table, Text

#: The most pictures behind one cell. Where there are more, the page says so.
IN_CELL = 12
#: The most classes of a matrix that can be drawn and read. Of more classes, those with most errors are shown.
MOST_CLASSES = 100
TITLE = "Which classes are taken for which"
_LABELS_TITLE = "Which labels are taken for which"
_PAIRS = 5

Counts = npt.NDArray[np.int64]


@dataclass(frozen=True)
class _Square:
    """Counts by given and answered class.

    Attributes:
        counts: [n_classes, n_classes]. totals: pictures given each class, at least 1.
        names: of the classes. noun: "classes" or "labels".
    """

    counts: Counts
    totals: Counts
    names: Sequence[str]
    noun: str


def confusion_matrix(evaluation: Evaluation, answers: Answers, other: Evaluation | None = None) -> Matrix:
    """The confusion matrix, given class by answered class, with the pictures behind each cell.

    Args:
        evaluation, answers: of the same pictures.
        other: of other pictures, such as those of validation: its matrix stands beside this one.
    """
    matrix = _matrix(TITLE, _classes(evaluation), answers.cell, answers)
    if other is None or other.classes != evaluation.classes or not other.confusion:
        return matrix
    shown = worst_classes(_classes(evaluation).counts, MOST_CLASSES)
    return _beside(matrix, evaluation, other, _cells(_classes(other), shown, opens=False))


def plain_matrix(evaluation: Evaluation) -> Matrix:
    """The confusion matrix alone: its cells open no pictures."""
    square = _classes(evaluation)
    shown = worst_classes(square.counts, MOST_CLASSES)
    names = [square.names[i] for i in shown]
    title = f"{TITLE}: {counted(evaluation.n, f'{formatting.visible(evaluation.on)} picture')}"
    return Matrix(title, names, names, ("given", "answered"), _cells(square, shown, opens=False), [])


def _classes(evaluation: Evaluation) -> _Square:
    counts = np.asarray(evaluation.confusion, np.int64)
    return _Square(counts, np.maximum(counts.sum(axis=1), 1), evaluation.classes, "classes")


def label_confusion(evaluation: Evaluation, answers: Answers, other: Evaluation | None = None) -> Block | None:
    """Multilabel: labels that were missed by labels that were made up on the same picture; None where it is not known.

    Arguments as in `confusion_matrix`.
    """
    if not evaluation.per_class:
        return None
    square = _labels(evaluation)
    if not evaluation.taken_for:
        return Text("On no picture was one label missed and another made up.", "note")
    matrix = _matrix(_LABELS_TITLE, square, answers.swapped, answers)
    caption = (
        "Each row is a label that was given and not answered, each column one that was answered and not given, on the "
        "same picture; the diagonal has the labels found. A picture with two labels missed, or two made up, counts for "
        f"each pair. {cut_note(evaluation.taken_for)} {matrix.caption.partition('diagonal. ')[2]}"
    )
    matrix = replace(matrix, caption=caption.strip())
    if other is None or other.classes != evaluation.classes or not other.per_class:
        return matrix
    shown = worst_classes(square.counts, MOST_CLASSES)
    return _beside(matrix, evaluation, other, _cells(_labels(other), shown, opens=False))


def _labels(evaluation: Evaluation) -> _Square:
    number = {name: i for i, name in enumerate(evaluation.classes)}
    counts = np.diag(_true_positives(evaluation))
    for pair in evaluation.taken_for:
        counts[number[pair["label"]], number[pair["answer"]]] = pair["n"]
    n_given = np.array([entry["n"] for entry in evaluation.per_class], np.int64)
    return _Square(counts, np.maximum(n_given, 1), evaluation.classes, "labels")


def _true_positives(evaluation: Evaluation) -> Counts:
    """Multilabel: pictures on which each label was given and answered."""
    return np.array([round(entry["recall"].value * entry["n"]) for entry in evaluation.per_class], np.int64)


def _matrix(title: str, square: _Square, positions: Callable[[int, int], Positions], answers: Answers) -> Matrix:
    """A square matrix with its groups of pictures, and the table of its largest errors."""
    counts, names = square.counts, square.names
    classes = worst_classes(counts, MOST_CLASSES)
    groups = [
        Group(
            f"{label}-{answer}",
            _title(names, label, answer),
            int(counts[label, answer]),
            _share(int(counts[label, answer]), int(square.totals[label])),
            answers.cards(positions(label, answer)[:IN_CELL]),
            label == answer,
        )
        for label in classes
        for answer in classes
        if counts[label, answer]
    ]
    caption = "Each row is a given class, each column an answer; right answers lie on the diagonal. "
    if len(classes) < len(names):
        caption += f"The {len(classes)} {square.noun} with most errors are shown, of {len(names)}. "
    if len(classes) > 30:
        caption += "Scroll in both directions to see all."
    shown = [names[i] for i in classes]
    cells = _cells(square, classes)
    first = _largest_error(counts, classes)
    pairs = _confused_pairs(square, {group.key for group in groups})
    return Matrix(title, shown, shown, ("given", "answered"), cells, groups, first, True, caption.strip(), pairs)


def _cells(square: _Square, classes: Sequence[int], opens: bool = True) -> list[list[MatrixCell]]:
    """Cells of these classes. `opens`: they show pictures."""
    return [
        [
            MatrixCell(n, n / int(square.totals[label]), f"{label}-{answer}" if n and opens else "")
            for answer in classes
            for n in [int(square.counts[label, answer])]
        ]
        for label in classes
    ]


def _beside(matrix: Matrix, one: Evaluation, other: Evaluation, cells: Sequence[Sequence[MatrixCell]]) -> Matrix:
    """The matrix with the one of other pictures beside it."""
    names = [f"{formatting.visible(e.on)}: {formatting.count(e.n)} pictures" for e in (one, other)]
    beside = replace(matrix, cells=cells, groups=(), first="", caption="", table=None, name=names[1])
    return replace(matrix, name=names[0], beside=beside)


def worst_classes(counts: Counts, most: int) -> list[int]:
    """All classes, or the `most` with most errors (as given or answered class), in the order of the classes."""
    errors = counts.sum(axis=0) + counts.sum(axis=1) - 2 * counts.diagonal()
    return sorted(np.argsort(-errors, kind="stable")[:most].tolist())


def _title(names: Sequence[str], label: int, answer: int) -> str:
    a, b = formatting.visible(names[label]), formatting.visible(names[answer])
    return f"{a}, answered right" if label == answer else f"{a}, answered {b}"


def _share(n: int, total: int) -> str:
    return f"{formatting.percent(n / total)} of {formatting.count(total)}"


def _largest_error(counts: Counts, classes: list[int]) -> str:
    """Key of the cell with most errors, or of the first class where there is none."""
    off = counts * (1 - np.eye(len(counts), dtype=np.int64))
    label, answer = np.unravel_index(int(off.argmax()), off.shape)
    if off[label, answer] and label in classes and answer in classes:
        return f"{label}-{answer}"
    return next((f"{i}-{i}" for i in classes if counts[i, i]), "")


def _confused_pairs(square: _Square, keys: set[str]) -> Table | None:
    """The pairs most often confused; None where every answer was right."""
    off = square.counts * (1 - np.eye(len(square.counts), dtype=np.int64))
    order = np.argsort(-off, axis=None, kind="stable")[:_PAIRS]
    rows = []
    for label, answer in zip(*np.unravel_index(order, off.shape), strict=True):
        n, total = int(off[label, answer]), int(square.totals[label])
        if n:
            key = f"{label}-{answer}"
            rows.append(
                [
                    Cell(square.names[label]),
                    Cell(square.names[answer]),
                    Cell(formatting.count(n), n, opens=key if key in keys else ""),
                    Cell(formatting.percent(n / total), n / total),
                ]
            )
    all_pairs = int((off > 0).sum())
    caption = f"The first {len(rows)} of {all_pairs} pairs." if all_pairs > len(rows) else ""
    columns = ["given", "answered", "pictures", "of the given"]
    return Table(columns, rows, caption, title="Most often confused") if rows else None


def label_matrix(evaluation: Evaluation, answers: Answers, other: Evaluation | None = None) -> Matrix:
    """Multilabel: true positives, misses and false positives of each label. Arguments as in `confusion_matrix`."""
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
    matrix = Matrix(
        "What is found, missed and made up", names, heads, ("label", "result"), cells, groups, first.key, False, caption
    )
    if other is None or other.classes != answers.predictions.classes or not other.per_class:
        return matrix
    return _beside(
        matrix,
        evaluation,
        other,
        [_results(*each) for each in zip(other.per_class, _true_positives(other), strict=True)],
    )


def _results(entry: Mapping[str, Any], n_right: int) -> list[MatrixCell]:
    """Multilabel: one label's true positives, misses and false positives, without pictures."""
    n_given = max(1, entry["n"])
    counts = (int(n_right), entry["n"] - int(n_right), entry["n_predicted"] - int(n_right))
    return [MatrixCell(n, n / n_given) for n in counts]
