import numpy as np
import pytest

from tellapart.core.predictions import Predictions
from tellapart.evaluation.mistakes import wrongest
from tellapart.report.answers import Answers

CLASSES = ("a", "b", "c")


def one_label() -> Answers:
    chances = np.array(
        [[0.7, 0.2, 0.1], [0.1, 0.8, 0.1], [0.3, 0.36, 0.34], [0.05, 0.9, 0.05], [0.5, 0.4, 0.1]], np.float64
    )
    predictions = Predictions.of([10, 11, 12, 13, 14], np.log(chances), [0, 0, 0, 2, -1], CLASSES)
    return Answers(predictions, "{}.jpg".format)


def multilabel() -> Answers:
    chances = np.array([[0.9, 0.2, 0.6], [0.4, 0.1, 0.2], [0.97, 0.45, 0.1]])
    logits = np.log(chances / (1 - chances))
    target = [[1, 0, 0], [0, 0, 0], [0, 1, 0]]
    return Answers(Predictions.of([3, 5, 8], logits, target, CLASSES), "{}.jpg".format)


def test_cells_hold_all_pictures_once() -> None:
    answers = one_label()
    found = [answers.cell(given, answered) for given in range(3) for answered in range(3)]
    assert sorted(np.concatenate(found).tolist()) == [0, 1, 2, 3]
    assert answers.predictions.row[answers.cell(0, 1)].tolist() == [11, 12]


def test_a_card_tells_given_answer_and_both_probabilities() -> None:
    card = one_label().card(1)
    assert (card.row, card.name) == (11, "11.jpg")
    assert [(label.name, label.right) for label in card.answered] == [("b", False)]
    assert [label.name for label in card.labels] == ["a"]
    assert card.answered[0].certainty == pytest.approx(0.8)
    assert card.labels[0].certainty == pytest.approx(0.1)


def test_a_card_without_a_known_label_judges_nothing() -> None:
    card = one_label().card(4)
    assert card.labels == []
    assert card.answered[0].right is None


def test_temperature_changes_certainty_not_answers() -> None:
    plain = one_label()
    soft = Answers(plain.predictions, plain.name, temperature=3.0)
    assert soft.answered.tolist() == plain.answered.tolist()
    assert (soft.probabilities.max(axis=1) < plain.probabilities.max(axis=1)).all()


def test_several_labels() -> None:
    answers = multilabel()
    assert answers.answered.tolist() == [[True, False, True], [False, False, False], [True, False, False]]
    assert answers.label_cell(0, is_labelled=True, is_answered=True).tolist() == [0]
    assert answers.label_cell(0, is_labelled=False, is_answered=True).tolist() == [2]
    assert answers.label_cell(1, is_labelled=True, is_answered=False).tolist() == [2]


def test_several_labels_have_a_threshold_each() -> None:
    plain = multilabel()
    answers = Answers(plain.predictions, plain.name, thresholds=np.array([0.95, 0.4, 0.5]))
    assert answers.answered.tolist() == [[False, False, True], [False, False, False], [True, True, False]]


def test_a_card_of_several_labels_marks_each() -> None:
    card = multilabel().card(2)
    assert [(label.name, label.right) for label in card.answered] == [("a", False)]
    assert [(label.name, label.right) for label in card.labels] == [("b", False)]


def test_cards_of_judged_pictures_are_found_by_row_and_link_to_the_file() -> None:
    plain = one_label()
    answers = Answers(plain.predictions, plain.name, link="file:///pictures/{}.jpg".format)
    cards = answers.cards_of(wrongest(plain.predictions, 2))
    assert [(card.row, card.name, card.link) for card in cards] == [
        (13, "13.jpg", "file:///pictures/13.jpg"),
        (11, "11.jpg", "file:///pictures/11.jpg"),
    ]
    assert answers.card(0, note="look").note == "look"
