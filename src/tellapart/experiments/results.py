"""The results of a study, from its directory: one row a training. No torch, no optuna."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from tellapart.core.files import write_text
from tellapart.core.plain_json import read_json_file
from tellapart.core.predictions import Predictions
from tellapart.core.text import json_text
from tellapart.errors import RunError
from tellapart.experiments.description import Description, parse_description

DESCRIPTION, RESULT, CURVE, CELL = "study.json", "result.json", "curve.json", "cell.json"
CELLS, VALIDATION, CLOSED = "cells", "validation.parquet", "close.json"
DONE, FAILED, STOPPED = "done", "failed", "stopped"

#: Columns of every table of results; one a validation metric follows them.
SCHEMA: dict[str, Any] = {
    "cell": pl.String,
    "number": pl.Int64,
    "levels": pl.String,
    "seed": pl.Int64,
    "split_seed": pl.Int64,
    "init_seed": pl.Int64,
    "order_seed": pl.Int64,
    "fold": pl.Int64,
    "status": pl.String,
    "reason": pl.String,
    "score": pl.Float64,
    "training_score": pl.Float64,
    "seconds": pl.Float64,
    "n_parameters": pl.Int64,
    "epochs": pl.Int64,
    "best_epoch": pl.Int64,
    "still_rising": pl.Boolean,
    "path": pl.String,
}


@dataclass(frozen=True)
class StudyResults:
    """A study and its trainings.

    Attributes:
        directory: of the study.
        description: what it varies, holds and measures.
        runs: one row a training, by number of its cell, seed and fold: columns of `SCHEMA`, then `validation_*`.
            `cell` is an id from the recipe's content; `number` is the cell's place in the design.
            `levels` is JSON: factor → label, in the order of the factors; a factor that does not apply is missing.
            `seed` counts the trainings of a cell; the three others say what it was trained with.
            `fold` is null without cross-validation. `status` is "done", "failed" or "stopped" (pruned by the search).
            `score` is the first objective on validation; `training_score` is the accuracy in training at the best
            epoch, null where none was measured. `still_rising`: validation was best in the last epoch of all.
            `path` is that of the training's folder, relative to `directory`.
    """

    directory: Path
    description: Description
    runs: pl.DataFrame

    @property
    def metrics(self) -> list[str]:
        """Names of the metrics on validation, the headline first."""
        return [name.removeprefix("validation_") for name in self.runs.columns if name.startswith("validation_")]

    def levels(self, cell: str) -> dict[str, str]:
        """Factor → label of a cell."""
        values: dict[str, str] = json.loads(self.runs.filter(pl.col("cell") == cell)["levels"][0])
        return values

    def predictions(self, path: str) -> Predictions:
        """What a training answered on its validation pictures; its `path` names it."""
        return Predictions.load(self.directory / path / VALIDATION)

    def curve(self, path: str) -> list[dict[str, Any]]:
        """The epochs of a training: stage, epoch, losses and accuracies in training and on validation."""
        try:
            epochs: list[dict[str, Any]] = read_json_file(self.directory / path / CURVE)
        except (OSError, ValueError) as error:
            raise RunError(f"{self.directory / path / CURVE} is damaged: {error}.") from error
        return epochs


def read_description(directory: Path) -> Description:
    """The description of a study.

    Raises:
        RunError: the directory holds no study, or its description is damaged.
    """
    path = directory / DESCRIPTION
    if not path.is_file():
        raise RunError(
            f"{directory} is no study: it has no {DESCRIPTION}.",
            "Give the folder that `tellapart study … --out FOLDER` wrote.",
        )
    try:
        return parse_description(read_json_file(path))
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}.", "Put back a copy of it, or begin the study again.") from error


def read_results(directory: str | Path) -> StudyResults:
    """The study in a directory, with all trainings that have ended.

    Raises:
        RunError: the directory holds no study, or a file of it is damaged.
    """
    directory = Path(directory)
    description = read_description(directory)
    rows = sorted(_rows(directory, description), key=lambda row: (row["number"], row["seed"], row["fold"] or 0))
    names = list(dict.fromkeys(name for row in rows for name in row))
    schema = {name: SCHEMA.get(name, pl.Float64) for name in [*SCHEMA, *(n for n in names if n not in SCHEMA)]}
    return StudyResults(directory, description, pl.DataFrame(rows, schema=schema, orient="row"))


def trainings_of_cells(results: StudyResults) -> list[tuple[str, int]]:
    """Every cell that has a folder, in the order of the design: its levels in words, and how many trainings ended."""
    ended = dict(results.runs.group_by("cell").len().iter_rows())
    cells = [
        (read_values(path, "number", "levels"), path.parent.name)
        for path in (results.directory / CELLS).glob(f"*/{CELL}")
    ]
    return [
        (", ".join(f"{name} = {label}" for name, label in about["levels"].items()), ended.get(cell, 0))
        for about, cell in sorted(cells, key=lambda pair: pair[0]["number"])
    ]


def _rows(directory: Path, description: Description) -> Iterator[dict[str, Any]]:
    cells = directory / CELLS
    for cell in sorted(cells.iterdir()) if cells.is_dir() else []:
        about: dict[str, Any] = {}
        for folder in sorted(cell.iterdir()) if (cell / CELL).is_file() else []:
            if (folder / RESULT).is_file():
                about = about or read_values(cell / CELL, "number", "levels")
                yield _row(directory, folder, about, read_values(folder / RESULT, "status", "scores"), description)


def _row(
    directory: Path, folder: Path, about: dict[str, Any], result: dict[str, Any], description: Description
) -> dict[str, Any]:
    try:
        scores = {name: value for name, value in result["scores"].items() if name.startswith("validation_")}
        values = {
            "cell": folder.parent.name,
            "number": about["number"],
            "levels": json.dumps({name: str(label) for name, label in about["levels"].items()}, ensure_ascii=False),
            **{name: result[name] for name in SCHEMA if name in result},
            "training_score": result["scores"].get("training_accuracy"),
            "score": objective_value(description.objective.name, result),
            "path": folder.relative_to(directory).as_posix(),
        }
        for name, value in (values | scores).items():
            _check(name, value)
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        hint = f"Delete {folder}; it is trained again."
        raise RunError(f"{folder / RESULT} is damaged: {error!r}.", hint) from error
    return values | scores


def _check(name: str, value: Any) -> None:
    """Refuse a value that its column cannot hold."""
    kind: Any = {pl.String: str, pl.Int64: int, pl.Boolean: bool}.get(SCHEMA.get(name, pl.Float64), int | float)
    if value is None and name not in ("number", "seed", "status"):
        return
    if not isinstance(value, kind) or (kind is int and abs(value) >= 2**63):
        raise TypeError(f"{name} is {value!r:.80}")
    if isinstance(value, str):
        value.encode()  # JSON may hold halves of characters, which no table does


def objective_value(name: str, result: dict[str, Any]) -> float | None:
    """An objective in a result's plain values; None where the training has none."""
    value = result.get(name) if name in ("seconds", "n_parameters") else result["scores"].get(f"validation_{name}")
    if result["status"] != DONE or value is None or not math.isfinite(value):
        return None
    return float(value)


def read_values(path: Path, *keys: str) -> dict[str, Any]:
    """The plain values in a JSON file of a study, which has these keys.

    Raises:
        RunError: it is damaged.
    """
    try:
        values = read_json_file(path)
        if not (isinstance(values, dict) and values.keys() >= set(keys)):
            raise ValueError(f"it lacks {' or '.join(keys)}")
    except (OSError, ValueError) as error:
        raise RunError(f"{path} is damaged: {error}.", f"Delete {path.parent}; it is trained again.") from error
    return values


def write_values(path: Path, values: Any) -> None:
    """Write plain values as JSON, whole or not at all. Numbers that are not finite become null."""
    finite = json.loads(json_text(values))
    write_text(path, json.dumps(finite, indent=1, ensure_ascii=False) + "\n")


def training_folder(directory: Path, cell: str, seed: int, fold: int | None = None) -> Path:
    """Where a training of a cell lies."""
    return directory / CELLS / cell / (f"{seed}" if fold is None else f"{seed}_fold{fold}")


def write_training(
    folder: Path,
    result: dict[str, Any],
    curve: list[dict[str, Any]] | None = None,
    predictions: Predictions | None = None,
) -> None:
    """Write a training that has ended. Its result comes last: with it, the training counts as ended.

    Args:
        folder: see `training_folder`.
        result: "status", "reason", "seed", "split_seed", "init_seed", "order_seed", "fold", "seconds",
            "n_parameters", "epochs", "best_epoch", "still_rising" and "scores".
        curve, predictions: see `StudyResults`; None where it failed.
    """
    if predictions is not None:
        predictions.save(folder / VALIDATION)
    if curve is not None:
        write_values(folder / CURVE, curve)
    write_values(folder / RESULT, result)
