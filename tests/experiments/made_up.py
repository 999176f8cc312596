"""Writes studies that nobody trained, for tests of what reads them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.core.predictions import Predictions
from tellapart.evaluation.metrics import scores as scores_of
from tellapart.experiments.description import Description, Factor, Level, Objective
from tellapart.experiments.results import CELL, CELLS, DESCRIPTION, training_folder, write_training, write_values


def cell_id(levels: dict[str, str]) -> str:
    return hashlib.sha256(repr(sorted(levels.items())).encode()).hexdigest()[:12]


def write_study(
    directory: Path,
    factors: dict[str, Sequence[str]],
    cells: Sequence[tuple[dict[str, str], float]],
    n_seeds: int = 3,
    n_pictures: int = 200,
    spread: float = 0.01,
    random: int = 0,
    folds: int = 0,
    **description: Any,
) -> Path:
    """A study whose cells have these true accuracies; each seed's differs by `spread`, and each picture by chance.

    Args:
        factors: name → labels.
        cells: levels and true accuracy of each; the first is the baseline.
        description: other values of the description.
    """
    generator = np.random.default_rng(random)
    levels = [
        Factor(name=name, kind="list", keys=(name,), levels=tuple(Level(label=x, changes={name: x}) for x in labels))
        for name, labels in factors.items()
    ]
    values = {
        "name": directory.name,
        "objectives": (Objective(name="accuracy", direction="maximize"),),
        "factors": tuple(levels),
        "design": "grid",
        "baseline": cell_id(cells[0][0]),
        "seeds": n_seeds,
        "folds": folds,
        "n_validation": n_pictures,
        "classes": ("cherry", "strawberry", "tomato"),
        "state": "done",
    }
    about = Description(**(values | description))
    write_values(directory / DESCRIPTION, about.model_dump(mode="json"))
    target = np.arange(n_pictures) % 3
    hardness = generator.random(n_pictures)  # the same pictures are hard for all
    for number, (cell, accuracy) in enumerate(cells):
        write_values(directory / CELLS / cell_id(cell) / CELL, {"number": number, "levels": cell})
        for seed in range(n_seeds):
            shift = generator.normal(0, spread)
            for fold in range(folds) if folds else (None,):
                rows = np.arange(n_pictures) if fold is None else np.flatnonzero(np.arange(n_pictures) % folds == fold)
                noise = generator.normal(0, 0.1, len(rows))
                right = hardness[rows] + noise < np.quantile(hardness[rows] + noise, np.clip(accuracy + shift, 0, 1))
                write_training(
                    training_folder(directory, cell_id(cell), seed, fold),
                    *training(seed, fold, rows, target[rows], right, generator, about),
                )
    return directory


def training(
    seed: int,
    fold: int | None,
    rows: np.ndarray,
    target: np.ndarray,
    right: np.ndarray,
    generator: np.random.Generator,
    about: Description,
) -> tuple[dict[str, Any], list[dict[str, Any]], Predictions]:
    """Result, curve and predictions of one training that names the pictures `right` right."""
    logits = generator.normal(0, 0.5, (len(rows), 3))
    logits[np.arange(len(rows)), np.where(right, target, (target + 1) % 3)] += 4
    predictions = Predictions.of(rows, logits, target, about.classes)
    scores = {f"validation_{name}": value for name, value in scores_of(predictions).items()}
    accuracy = scores["validation_accuracy"]
    curve = [
        {
            "stage": 0,
            "epoch": epoch,
            "training_loss": 1 / epoch,
            "training_accuracy": min(1.0, accuracy * (0.7 + 0.1 * epoch)),
            "validation_loss": 1.1 / epoch,
            "validation_accuracy": accuracy * (0.7 + 0.1 * epoch),
        }
        for epoch in (1, 2, 3)
    ]
    result = {
        "status": "done",
        "reason": "",
        "seed": seed,
        "split_seed": 0,
        "init_seed": seed,
        "order_seed": seed,
        "fold": fold,
        "seconds": round(float(generator.uniform(50, 70)), 3),
        "n_parameters": 1_000,
        "epochs": 3,
        "best_epoch": 3,
        "still_rising": False,
        "scores": {"training_accuracy": curve[-1]["training_accuracy"], "training_loss": 1 / 3, **scores},
    }
    return result, curve, predictions
