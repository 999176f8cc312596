"""The verdict at the end of a training: each next step from runs whose measurements call for it, and for no other."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import polars as pl
import pytest

from tellapart.core.predictions import Predictions
from tellapart.core.scores import ALL_FOLDS, Evaluation
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.metrics import take
from tellapart.recipe.load import load_recipe
from tellapart.report.verdict import Verdict, pictures_word, verdict, verdict_of_folds

CLASSES = ("apple", "leek", "tomato")


@dataclass
class Story:
    """A run as its files would tell it: targets and answers of the test pictures, training pictures, losses."""

    target: list[int]
    answer: list[int]
    certainty: float = 4.0
    trained: tuple[int, ...] = (40, 40, 40)
    losses: list[tuple[float, float]] = field(default_factory=lambda: [(1.0, 1.0), (0.5, 0.6), (0.4, 0.6)])
    changes: tuple[str, ...] = ("stages.0.epochs=3",)
    plan: Any = None
    multilabel: bool = False
    distillation: Any = None

    def predictions(self) -> Predictions:
        target = np.array(self.target)
        logits = np.zeros((len(target), 3), np.float32)
        logits[np.arange(len(target)), self.answer] = self.certainty
        if self.multilabel:
            target = np.eye(3, dtype=np.uint8)[target]
            logits = 2 * logits - self.certainty
        return Predictions.of(np.arange(len(target)), logits, target, CLASSES)

    def evaluation(self) -> Evaluation:
        return evaluate_predictions(self.predictions(), on="test")

    def verdict(self) -> Verdict:
        test, evaluation = self.predictions(), self.evaluation()
        rows = np.repeat(np.arange(3), self.trained)
        run: Any = SimpleNamespace(
            directory=Path("runs/first"),
            evaluations={"test": evaluation},
            evaluation_values={"temperature": 1.0},
            predictions=lambda part: test,
            predictions_file=lambda part: Path(__file__) if part == "test" else Path("nowhere"),
            recipe=load_recipe("scratch", list(self.changes)),
            plan=self.plan,
            distillation=self.distillation,
            events=lambda: [_epoch(i, *pair) for i, pair in enumerate(self.losses)],
            catalog=SimpleNamespace(root=Path("my photos"), target=lambda part: rows),
            split=SimpleNamespace(train=pl.Series(rows)),
        )
        return verdict(run)


def _epoch(i: int, train: float, validation: float) -> dict[str, Any]:
    return {"event": "Validated", "stage": 0, "epoch": i + 1, "train_loss": train, "validation_loss": validation,
            "validation_accuracy": 0.5, "train_accuracy": None, "lrs": [], "best": True}  # fmt: skip


def _mixed(pairs: dict[tuple[int, int], int], right: int = 30) -> tuple[list[int], list[int]]:
    """Targets and answers: `right` of each class, and so many of each pair (target, answer)."""
    both = [(k, k) for k in range(3)] * right + [pair for pair, n in pairs.items() for _ in range(n)]
    return [target for target, _ in both], [answer for _, answer in both]


def test_how_good_and_how_sure() -> None:
    made = Story(*_mixed({(0, 1): 5, (2, 1): 5}, right=30)).verdict()
    assert made.how_good.startswith("90.0\u202f% right, 90 of 100 test pictures")
    assert "always the commonest answer would get 35.0\u202f%" in made.how_good
    assert "95\u202f% sure of 82.6 to 94.5\u202f%" in made.how_sure
    assert "more test pictures would halve that" in made.how_sure
    assert [line.split(":")[0] for line in made.lines()] == ["How good", "How sure", "Next"]


def test_a_terminal_says_nothing_twice() -> None:
    target, answer = _mixed({(0, 1): 5, (2, 1): 5}, right=10)
    made = Story(target, answer).verdict()
    evaluation = Story(target, answer).evaluation()
    assert "half as wide" in evaluation.table()
    other = replace(evaluation, notes=(*evaluation.notes, "Scenes are on both sides."))
    assert "half as wide" not in made.table(other)
    assert made.table(other).endswith("Scenes are on both sides.")
    lost = Story([0, 1, 2] * 20, [0] * 60)
    assert "learned nothing" in lost.evaluation().table()
    assert "learned nothing" not in lost.verdict().table(lost.evaluation())


def test_several_labels() -> None:
    made = Story(*_mixed({(0, 1): 5}), multilabel=True).verdict()
    assert made.how_good.startswith("F1, ")
    assert "always the commonest answer" in made.how_good


def test_a_model_at_chance_is_sent_to_its_pictures() -> None:
    pretrained = ("model.name=tf_efficientnet_lite0", "model.pretrained=true", "stages.0.epochs=3")
    made = Story([0, 1, 2] * 20, [0, 0, 0] * 20, changes=pretrained).verdict()
    assert "learned nothing" in made.next_step
    assert made.next_step.endswith("tellapart audit 'my photos'")
    scratch = Story([0, 1, 2] * 20, [0, 0, 0] * 20).verdict()
    assert scratch.next_step.endswith("a pretrained network needs far fewer pictures: tellapart train 'my photos'")


def test_labels_that_look_wrong_are_counted() -> None:
    pairs = {(0, 1): 1, (1, 2): 1, (2, 0): 1}
    sure = Story(*_mixed(pairs), certainty=8.0).verdict()
    assert sure.next_step.startswith("3 labels of validation and test look wrong")
    assert sure.next_step.endswith("tellapart review runs/first")
    assert "review" not in Story(*_mixed(pairs), certainty=3.0).verdict().next_step


def test_a_training_that_was_still_getting_better() -> None:
    falling = [(1.0, 1.0), (0.8, 0.8), (0.6, 0.6)]
    assert "--set stages.0.epochs=6" in Story(*_mixed({(0, 1): 5}), losses=falling).verdict().next_step
    steps = Story(*_mixed({(0, 1): 5}), losses=falling, changes=("stages=[{steps=70}]",))
    assert "--set stages.0.steps=140" in steps.verdict().next_step
    assert "--minutes" in Story(*_mixed({(0, 1): 5}), losses=falling, plan={}).verdict().next_step


def test_overfitting_says_by_which_losses() -> None:
    rising = [(1.0, 1.0), (0.5, 0.6), (0.1, 0.9)]
    made = Story(*_mixed({(0, 1): 5}), losses=rising).verdict()
    assert "it is overfitting: after epoch 2 the loss on validation rose from 0.6 to 0.9" in made.next_step
    plain = Story(*_mixed({(0, 1): 5}), losses=rising, changes=("augment=[]", "stages.0.epochs=3")).verdict()
    assert plain.next_step.endswith(
        "The recipe fast changes pictures while it trains, where that helps: tellapart train 'my photos'"
    )


def test_pictures_are_named_as_one_types_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert pictures_word(tmp_path / "my photos") == "'my photos'"
    assert pictures_word(tmp_path) == str(tmp_path)
    assert pictures_word(Path("/elsewhere/photos")) == "/elsewhere/photos"


def test_a_class_that_is_short_of_pictures() -> None:
    pairs = {(2, 0): 4, (2, 1): 4}
    made = Story(*_mixed(pairs), trained=(80, 80, 20)).verdict()
    assert made.next_step.startswith("about 60 more pictures of tomato would help most")
    assert "8 of 8 mistakes are its" in made.next_step
    assert "tomato would" not in Story(*_mixed(pairs), trained=(80, 80, 60)).verdict().next_step


def test_two_classes_that_are_mixed_up() -> None:
    made = Story(*_mixed({(0, 1): 3, (1, 0): 2, (2, 0): 1})).verdict()
    assert made.next_step.startswith("5 of 6 mistakes mix up apple and leek")


@pytest.mark.parametrize(
    ("pairs", "right", "words"),
    [
        ({(0, 1): 1}, 5, "would say more than another training"),
        ({(0, 1): 1}, 200, "use it: tellapart predict runs/first PICTURE"),
        ({(0, 1): 3, (1, 2): 3, (2, 0): 3, (1, 0): 1, (2, 1): 1, (0, 2): 1}, 400, "mix up"),
    ],
)
def test_else_more_pictures_to_test_by_or_its_use(pairs: dict[tuple[int, int], int], right: int, words: str) -> None:
    assert words in Story(*_mixed(pairs, right)).verdict().next_step


def test_no_one_cause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tellapart.report.verdict._SHARE_OF_PAIR", 0.5)
    pairs = {(0, 1): 3, (1, 2): 3, (2, 0): 3}
    assert "look at what it gets wrong: tellapart errors" in Story(*_mixed(pairs, 400)).verdict().next_step


def _students(words: str) -> dict[str, Any]:
    score = {"low": 0.8, "high": 0.95, "n": 100}
    values = {"alone": score | {"value": 0.88}, "teachers": [score | {"value": 0.97}]}
    return {"verdict": {"words": words, "metric": "accuracy", **values}}


def test_a_student_stands_beside_its_teacher_and_itself_without() -> None:
    target, answer = _mixed({(0, 1): 5, (2, 1): 5})
    made = Story(target, answer, distillation=_students("better")).verdict()
    assert "Its teacher has 97.0\u202f%; the same network without the teacher has 88.0\u202f%." in made.how_good
    assert "labels-alone" not in made.next_step
    worse = Story(target, answer, distillation=_students("worse")).verdict()
    assert worse.next_step.endswith("tellapart predict runs/first/labels-alone PICTURE")


def _folds(target: list[int], answer: list[int], certainty: float = 4.0) -> Verdict:
    logits = np.zeros((len(target), 3), np.float32)
    logits[np.arange(len(target)), answer] = certainty
    every = Predictions.of(np.arange(len(target)), logits, np.array(target), CLASSES)
    half = len(target) // 2
    rows = np.repeat(np.arange(3), 30)
    runs: list[Any] = [
        SimpleNamespace(
            directory=Path(f"out/fold-{number}"),
            evaluations={"test": evaluate_predictions(take(every, part), on="test")},
            catalog=SimpleNamespace(root=Path("my photos"), target=lambda part: rows),
            recipe=load_recipe("scratch"),
            split=SimpleNamespace(train=pl.Series(rows)),
        )
        for number, part in ((1, np.arange(len(target)) < half), (2, np.arange(len(target)) >= half))
    ]
    pooled = evaluate_predictions(every, on=ALL_FOLDS)
    return verdict_of_folds(runs, pooled, every, "tellapart train photos")


def test_a_cross_validation_has_a_verdict_from_all_its_folds() -> None:
    target, answer = _mixed({(0, 1): 2, (1, 2): 2, (2, 0): 2})
    made = _folds(target, answer)
    assert made.how_good.startswith("93.8\u202f% right, 90 of 96 pictures, each by a training that had not seen it")
    assert "its folds go from 87.5\u202f% to 100.0\u202f%" in made.how_sure
    assert "flatters" not in made.how_sure
    assert made.next_step.endswith("train the one to use: tellapart train photos")
    mixed = _folds(*_mixed({(0, 1): 9, (2, 0): 2}))
    assert mixed.next_step.startswith("9 of 11 mistakes mix up apple and leek")
    assert mixed.next_step.endswith("tellapart errors out/fold-1")
    odd = _folds(*_mixed({(0, 1): 2, (1, 2): 2, (2, 0): 2}), certainty=12.0)
    assert odd.next_step.startswith("6 labels look wrong")
    assert odd.next_step.endswith("tellapart review 'my photos'")
    lost = _folds([0, 1, 2] * 20, [0] * 60, certainty=1.0)
    assert "tellapart train 'my photos'" in lost.next_step
