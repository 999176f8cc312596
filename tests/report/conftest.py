"""Stories to tell: made up, but with the shape of real ones."""

import io
import math
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from tellapart.core.predictions import Predictions
from tellapart.core.scores import Evaluation, Metric
from tellapart.report.run_data import Part, Pictures, ReportData


def make_jpeg(row: int, side: int = 96) -> bytes:
    """A picture that differs from row to row."""
    random = np.random.default_rng(row)
    small = random.integers(0, 255, (4, 4, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=80)
    return file.getvalue()


def make_events(stages: tuple[tuple[str, int, float], ...] = (("head", 4, 1e-3), ("all", 8, 1e-4))) -> list[dict]:
    """Lines of events.jsonl: name, epochs and highest rate of each stage."""
    random, events, loss, steps = np.random.default_rng(0), [], 1.1, 20
    for stage, (name, epochs, lr) in enumerate(stages):
        events.append(
            {"event": "StageStarted", "stage": stage, "name": name, "description": f"trains {name}", "epochs": epochs}
        )
        for epoch in range(1, epochs + 1):
            loss = 0.15 + (loss - 0.15) * 0.75
            at = [(epoch - 1 + step / steps) / epochs for step in range(1, steps + 1)]
            validation = loss * 1.1 + 0.05 + random.normal() * 0.01 + max(0, epoch - 6) * 0.03
            events.append(
                {
                    "event": "Validated",
                    "stage": stage,
                    "epoch": epoch,
                    "epochs": epochs,
                    "train_loss": loss,
                    "validation_loss": validation,
                    "train_accuracy": 1 - loss * 0.4,
                    "validation_accuracy": 1 - validation * 0.4,
                    "lrs": [lr * (1 + math.cos(math.pi * t)) / 2 for t in at],
                    "best": epoch <= 6,
                    "seconds": 11.5,
                }
            )
        events.append(
            {"event": "StageDone", "stage": stage, "epochs": epochs, "best_epoch": 6, "reason": "all epochs done"}
        )
    return events


def make_predictions(classes: tuple[str, ...], n: int, multilabel: bool = False, skill: float = 4.0) -> Predictions:
    """Answers that are mostly right; neighbouring classes are confused more than others."""
    random = np.random.default_rng(1)
    k = len(classes)
    if multilabel:
        target = (random.random((n, k)) < np.linspace(0.35, 0.05, k)).astype(np.uint8)
        logits = (2.0 * target - 1) * 2.2 + random.normal(0, 1.6, (n, k))
    else:
        target = random.choice(k, n, p=np.linspace(2, 1, k) / np.linspace(2, 1, k).sum())
        logits = random.normal(0, 1.2, (n, k))
        logits[np.arange(n), target] += skill
        logits[np.arange(n), (target + 1) % k] += skill * 0.45
    return Predictions.of(np.arange(n) * 3 + 7, logits, target, classes)


def make_evaluation(predictions: Predictions, on: str = "test") -> Evaluation:
    """Scores by their plainest formulas, with the usual approximate intervals."""
    classes, target = predictions.classes, predictions.target
    p, n = predictions.probabilities(), len(predictions)
    if predictions.multilabel:
        given, answered = target.astype(bool), p >= 0.5
    else:
        given = target[:, None] == np.arange(len(classes))
        answered = p.argmax(axis=1)[:, None] == np.arange(len(classes))

    def metric(value: float, n: int) -> Metric:
        half = 1.96 * math.sqrt(max(value * (1 - value), 1e-3) / max(n, 1))
        return Metric(float(value), max(0.0, float(value) - half), min(1.0, float(value) + half), int(n))

    both, n_given, n_answered = (given & answered).sum(0), given.sum(0), answered.sum(0)
    f1 = 2 * both / np.maximum(n_given + n_answered, 1)
    per_class = tuple(
        {
            "precision": metric(both[i] / max(n_answered[i], 1), n_answered[i]),
            "recall": metric(both[i] / max(n_given[i], 1), n_given[i]),
            "f1": metric(f1[i], n_given[i]),
            "n": int(n_given[i]),
            "n_predicted": int(n_answered[i]),
        }
        for i in range(len(classes))
    )
    if predictions.multilabel:
        scores = {
            "f1_micro": 2 * both.sum() / (n_given.sum() + n_answered.sum()),
            "f1_macro": f1.mean(),
            "precision_micro": both.sum() / n_answered.sum(),
            "recall_micro": both.sum() / n_given.sum(),
            "exact_match": (given == answered).all(1).mean(),
            "mean_average_precision": 0.81,
        }
        confusion: tuple = ()
    else:
        scores = {"accuracy": (given & answered).sum() / n, "balanced_accuracy": (both / np.maximum(n_given, 1)).mean()}
        scores["f1_macro"] = f1.mean()
        counts = np.zeros((len(classes), len(classes)), int)
        np.add.at(counts, (target, p.argmax(axis=1)), 1)
        confusion = tuple(map(tuple, counts.tolist()))
    metrics = {name: metric(value, n) for name, value in scores.items()}
    metrics["log_loss"] = Metric(0.231, 0.19, 0.28, n)
    return Evaluation(on, predictions.multilabel, n, classes, metrics, per_class, confusion)


def make_data(
    classes: tuple[str, ...] = ("Cherry", "Strawberry", "Tomato"),
    n: int = 90,
    multilabel: bool = False,
    skill: float = 4.0,
    name: Callable[[int], str] = "pictures/{:05d}.jpg".format,
    jpeg: Callable[[int], bytes] = make_jpeg,
    **other: object,
) -> ReportData:
    predictions = make_predictions(classes, n, multilabel, skill)
    random = np.random.default_rng(2)

    def part(start: int, n: int) -> Part:
        target = predictions.target[random.integers(0, len(predictions), n)]
        return Part(np.arange(n) * 3 + start, target)

    pictures = Pictures(
        classes=classes,
        multilabel=multilabel,
        parts={"train": part(9, 4 * n), "validation": part(8, n), "test": Part(predictions.row, predictions.target)},
        name=name,
        jpeg=jpeg,
        layout="One folder a class.",
        divided="Validation and test were drawn by class.",
        unreadable=[("Cherry/broken.jpg", "the file ends too early")],
    )
    given: dict = {
        "title": "fruit",
        "when": "4 May 2026, 14:03",
        "model": "mobilenetv2_100, pretrained, 224 × 224 pixels",
        "pictures": pictures,
        "events": make_events(),
        "recipe": 'seed = 0\n\n[model]\nname = "mobilenetv2_100"\n',
        "command": "tellapart train 'my photos/' --out runs/first",
        "environment": {"python": "3.11.9", "packages": {"torch": "2.6.0", "numpy": "2.1.0"}, "cpu": "two cores"},
        "evaluations": [make_evaluation(predictions), make_evaluation(predictions, "validation")],
        "predictions": predictions,
    }
    return ReportData(**(given | other))


@pytest.fixture(name="make_data")
def _make_story() -> Callable[..., ReportData]:
    return make_data
