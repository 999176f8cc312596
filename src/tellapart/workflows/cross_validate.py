"""Cross-validation: one training a fold, and a score that rests on every picture."""

from __future__ import annotations

import json
import shlex
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tellapart.core.files import write_text
from tellapart.core.predictions import Predictions
from tellapart.core.scores import ALL_FOLDS, Evaluation, score_text
from tellapart.core.several_runs import CROSS_VALIDATION
from tellapart.core.text import as_lines
from tellapart.data.catalog import Catalog
from tellapart.data.splitting.kfold import kfold
from tellapart.errors import UsageError
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.recipe.load import load_recipe
from tellapart.recipe.schema import Recipe
from tellapart.report.verdict import Verdict, pictures_word, verdict_of_folds
from tellapart.runs.resume import refuse_other_files
from tellapart.runs.run import Run
from tellapart.workflows.progress import progress_sink
from tellapart.workflows.scan import scan
from tellapart.workflows.train import RunOptions, follow_run


@dataclass(frozen=True)
class CrossValidation:
    """Result of a cross-validation.

    Attributes:
        runs: one finished training a fold.
        pooled: the score of all predictions together, each by the training that had not seen the picture. With
            several labels its threshold is the recipe's where that is a number, else 0.5: those that the trainings
            chose differ from fold to fold.
        scores: by name, the test score of each fold's training.
        verdict: how good, how sure, and the most useful next step.
    """

    runs: tuple[Run, ...]
    pooled: Evaluation
    scores: dict[str, tuple[float, ...]]
    verdict: Verdict

    def table(self) -> str:
        """The pooled scores with their intervals, and mean ± deviation over the folds."""
        lines = [self.verdict.table(self.pooled), f"Mean and deviation over {len(self.runs)} folds:"]
        width = max(map(len, self.scores))
        lines += [
            f"  {name:<{width}}  {score_text(name, statistics.fmean(values)):>7} ± "
            f"{score_text(name, statistics.stdev(values))}"
            for name, values in self.scores.items()
        ]
        return as_lines(lines)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "folds": [run.directory.name for run in self.runs],
            "pooled": self.pooled.as_dict(),
            "scores": {name: list(values) for name, values in self.scores.items()},
        }


def cross_validate(
    pictures: str | Path | Catalog,
    recipe: str | Path | Recipe = "fast",
    n_folds: int = 5,
    out: str | Path | None = None,
    *,
    changes: list[str] | None = None,
    command: str = "",
    progress: bool = False,
) -> CrossValidation:
    """Train and test once a fold; or go on where an earlier call stopped.

    Args:
        pictures: a folder, a table of files and labels, or what `scan` gave; those given as test ones stay aside.
        recipe: the name of a shipped recipe, a TOML file, or a `Recipe`, for each training. Its share for
            validation is taken out of what is not the fold's test.
        n_folds: at least 2.
        out: gets a run directory a fold, `predictions.parquet` (all answers; logits are calibrated, each fold by its
            own temperature) and `cross_validation.json`; runs/NAME-folds by default.
        changes: "key=value" changes to the recipe.
        command: what repeats this, for the reports.
        progress: show progress on standard error.

    Raises:
        RunError: `out` holds other things or another cross-validation.
        UsageError: a share for the test, which the folds take the place of.
        SplitError: a class is too small for so many folds.
    """
    sink = progress_sink(progress)
    if any(change.partition("=")[0].strip() == "data.test" for change in changes or []):
        raise UsageError("data.test says nothing here: each fold is the test once.", "Their number is --folds.")
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    catalog = scan(pictures, sink) if isinstance(pictures, str | Path) else pictures
    directory = Path(out) if out is not None else Path("runs") / f"{catalog.root.name}-folds"
    splits = kfold(catalog, n_folds, validation=loaded.data.validation, seed=loaded.split_seed)
    refuse_other_files(
        directory,
        {CROSS_VALIDATION, "predictions.parquet", *(f"fold-{number}" for number in range(1, n_folds + 1))},
        f"Choose another --out: an empty folder, or one with a cross-validation of {n_folds} folds.",
    )
    runs = []
    for number, split in enumerate(splits, start=1):
        fold = Run(directory / f"fold-{number}")
        sink.say(f"Fold {number} of {n_folds}{': done already' if fold.finished else ''}")
        follow_run(sink, loaded, catalog, split, fold.directory, RunOptions(command=command, explain=False))
        runs.append(Run(fold.directory))
    predictions = pooled([(run.predictions("test"), run.evaluation_values["temperature"]) for run in runs])
    predictions.save(directory / "predictions.parquet")
    evaluations = [run.evaluations["test"].metrics for run in runs]
    scores = {
        name: tuple(metrics[name].value for metrics in evaluations)
        for name in evaluations[0]
        if all(name in metrics for metrics in evaluations)
    }
    fixed = loaded.evaluation.thresholds if isinstance(loaded.evaluation.thresholds, float) else 0.5
    evaluated = evaluate_predictions(predictions, on=ALL_FOLDS, thresholds=fixed)
    train = f"tellapart train {pictures_word(catalog.root)} --recipe {shlex.quote(str(runs[0].recipe_file))}"
    conclusion = verdict_of_folds(runs, evaluated, predictions, train)
    result = CrossValidation(tuple(runs), evaluated, scores, conclusion)
    write_text(directory / CROSS_VALIDATION, json.dumps(result.as_dict(), indent=1, ensure_ascii=False) + "\n")
    return result


def pooled(folds: Sequence[tuple[Predictions, Any]]) -> Predictions:
    """The folds' predictions as one: logits are divided by each fold's temperature, so that they can be compared."""
    first = folds[0][0]
    rows, logits, targets = (
        np.concatenate(parts)
        for parts in zip(*((p.row, p.logits / np.asarray(t, np.float32), p.target) for p, t in folds), strict=True)
    )
    unknown = None
    if any(p.unknown is not None for p, _ in folds):
        unknown = np.concatenate([np.zeros(p.target.shape, bool) if p.unknown is None else p.unknown for p, _ in folds])
    return Predictions.of(rows, logits, targets, first.classes, unknown)
