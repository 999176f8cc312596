"""Matrices of answers and of pairs of labels: the counts, and the validation part beside the test part."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tellapart.core.scores import Evaluation
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.report.answers import Answers
from tellapart.report.blocks import Matrix, MatrixCell, Text
from tellapart.report.page import write_report
from tellapart.report.run_data import ReportData
from tellapart.report.sections.confusion import confusion_matrix, label_confusion, label_matrix
from tellapart.report.sections.label_pairs import labels_together

Make = Callable[..., ReportData]
LABELS = ("beach", "boat", "palm <b>", "sunset")


def numbers(cells: list[list[MatrixCell]]) -> list[list[int]]:
    return [[cell.n for cell in line] for line in cells]


def evaluated(data: ReportData) -> tuple[Answers, Evaluation, Evaluation]:
    """The answers, their evaluation, and that of worse answers: those of validation."""
    predictions = data.predictions
    assert predictions is not None
    noise = np.random.default_rng(5).normal(0, 3, predictions.logits.shape).astype(np.float32)
    worse = replace(predictions, logits=predictions.logits + noise)
    test, validation = (
        evaluate_predictions(each, on=on, n_bootstrap=5) for each, on in ((predictions, "test"), (worse, "validation"))
    )
    return Answers(predictions, str), test, validation


def test_the_matrix_of_validation_stands_beside_that_of_the_test(make_data: Make, tmp_path: Path) -> None:
    data = make_data()
    answers, test, validation = evaluated(data)
    matrix = confusion_matrix(test, answers, validation)
    assert matrix.beside is not None
    assert numbers(matrix.cells) == [list(line) for line in test.confusion]
    assert numbers(matrix.beside.cells) == [list(line) for line in validation.confusion]
    assert (matrix.name, matrix.beside.name) == ("test: 90 pictures", "validation: 90 pictures")
    page = write_report(replace(data, evaluations=[test, validation]), tmp_path).read_text(encoding="utf-8")
    without_pictures = re.findall(r'<button type="button" tabindex="-1" disabled[^>]*>(\d+)</button>', page)
    assert list(map(int, without_pictures)) == [n for line in validation.confusion for n in line if n]
    alone = confusion_matrix(test, answers)
    assert (alone.beside, alone.name) == (None, "")
    assert confusion_matrix(test, answers, replace(validation, classes=("a", "b", "c"))).beside is None


def test_labels_of_both_parts(make_data: Make, tmp_path: Path) -> None:
    answers, test, validation = evaluated(make_data(LABELS, 120, multilabel=True))
    matrix = label_matrix(test, answers, validation)
    assert matrix.beside is not None
    expected = [
        [found := round(entry["recall"].value * entry["n"]), entry["n"] - found, entry["n_predicted"] - found]
        for entry in validation.per_class
    ]
    assert numbers(matrix.beside.cells) == expected
    pairs = label_confusion(test, answers, validation)
    assert isinstance(pairs, Matrix)
    assert pairs.beside is not None
    for one, evaluation in ((pairs, test), (pairs.beside, validation)):
        counts = numbers(one.cells)
        listed = {(pair["label"], pair["answer"]): pair["n"] for pair in evaluation.taken_for}
        for i, label in enumerate(LABELS):
            for j, answer in enumerate(LABELS):
                assert counts[i][j] == (listed.get((label, answer), 0) if i != j else counts[i][i])
    for group in pairs.groups:
        i, j = map(int, group.key.split("-"))
        assert len(group.cards) == min(group.n, 12)
        names = [{label.name for label in card.answered} for card in group.cards]
        assert all(LABELS[j] in answered and (i == j or LABELS[i] not in answered) for answered in names)


def test_no_label_taken_for_another_is_said(make_data: Make) -> None:
    answers, test, _ = evaluated(make_data(LABELS, 40, multilabel=True))
    assert isinstance(label_confusion(replace(test, taken_for=()), answers), Text)
    assert label_confusion(replace(test, per_class=()), answers) is None


def test_labels_together_are_counted_over_all_parts(make_data: Make) -> None:
    pictures = make_data(LABELS, 60, multilabel=True).pictures
    target = np.concatenate([part.target for part in pictures.parts.values()]).astype(int)
    matrix, table = labels_together(pictures)
    assert isinstance(matrix, Matrix)
    assert numbers(matrix.cells) == (target.T @ target).tolist()  # type: ignore[arg-type]
    n = [int(row[2].text) for row in table.rows]  # type: ignore[union-attr]
    assert n == sorted(n, reverse=True)
    single = replace(
        pictures, parts={"train": replace(pictures.parts["train"], target=np.eye(4, dtype=np.uint8)[:, :4])}
    )
    assert labels_together(single) == []


@pytest.mark.parametrize("multilabel", [False, True])
def test_more_classes_than_can_be_drawn(make_data: Make, multilabel: bool) -> None:
    names = tuple(f"class {i}" for i in range(120))
    answers, test, validation = evaluated(make_data(names, 300, multilabel=multilabel, skill=1.0))
    matrix = (label_confusion if multilabel else confusion_matrix)(test, answers, validation)
    assert isinstance(matrix, Matrix)
    assert matrix.beside is not None
    assert len(matrix.rows) == len(matrix.cells) == len(matrix.beside.cells) == 100
    assert matrix.beside.rows == matrix.rows
    assert "of 120" in matrix.caption
