"""The end of a study: the winner and the baseline are measured on the test part, once."""

from __future__ import annotations

import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tellapart.core.scores import Metric, difference_text, score_text, with_interval
from tellapart.core.text import Lines, as_lines, counted
from tellapart.errors import DataError, RunError
from tellapart.experiments.directory import CATALOG, STUDY_FILE, locked, set_state
from tellapart.experiments.optimism import optimism
from tellapart.experiments.read_study import read_study
from tellapart.experiments.results import (
    CELLS,
    CLOSED,
    StudyResults,
    read_results,
    read_values,
    trainings_of_cells,
    write_values,
)
from tellapart.experiments.run_study import best_cell, finish, n_expected
from tellapart.experiments.splits import StudySplits
from tellapart.workflows.progress import ProgressSink

#: Cells that an error names.
_NAMED = 5


def close_study(
    directory: str | Path, retrain: bool = False, sink: ProgressSink | None = None, *, unfinished: bool = False
) -> dict[str, Any]:
    """Train the best cell and the baseline as whole runs, and measure both on the test part that no cell has seen.

    A study is closed once: choosing goes on elsewhere, since whoever has looked at the test part may choose by it.
    The runs lie in `winner/` and `baseline/`; where the call is stopped, the same call goes on.

    Args:
        directory: of the study.
        retrain: train both once more on training and validation pictures together.
        sink: shows progress.
        unfinished: close it although trainings are missing: the best cell of those that are there is the winner.

    Returns:
        What close.json holds: "winner" and "baseline" (ids of cells), "metric", "n_test", "winner_test" and
        "baseline_test" (metrics with intervals), "difference" (of the two on the test part), "validation_of_winner",
        "optimism" (what the best of "n_cells" looks better than it is), "run_winner", "run_baseline", "retrained".

    Raises:
        RunError: no study, one without a training that gave a score, or one that is not finished.
        DataError: the study has no test part.
    """
    directory, sink = Path(directory), sink or ProgressSink()
    results = read_results(directory)
    if results.description.state == "closed" and (directory / CLOSED).is_file():
        return read_values(directory / CLOSED, "winner", "baseline", "metric")
    if not unfinished:
        _refuse_unfinished(results)
    with locked(directory):
        values = _close(directory, results, retrain, sink)
        write_values(directory / CLOSED, values)
        set_state(directory, "closed")
    finish(directory, sink)
    return read_values(directory / CLOSED)


def _refuse_unfinished(results: StudyResults) -> None:
    """Whoever closes too early can never choose by the trainings that are missing.

    Raises:
        RunError: the study is not finished; it names the cells that lack trainings.
    """
    if results.description.state != "open":
        return
    directory, expected = results.directory, n_expected(results)
    missing = [f"{levels}: {n} of {expected}" for levels, n in trainings_of_cells(results) if n < expected]
    if missing:
        more = f"; and {len(missing) - _NAMED:,} more" if len(missing) > _NAMED else ""
        cells = f"{counted(len(missing), 'cell')} {'lacks' if len(missing) == 1 else 'lack'} trainings"
        lacking = f"{cells} ({'; '.join(missing[:_NAMED])}{more})"
    else:
        lacking = "undecided cells or its search may add trainings"
    name = shlex.quote(str(directory))
    raise RunError(
        f"{directory} is not finished: {lacking}. Its test part can be opened once only.",
        f"Go on: `tellapart study {name}`; or close it with what is there: `tellapart study close {name} --unfinished`",
    )


def _close(directory: Path, results: StudyResults, retrain: bool, sink: ProgressSink) -> dict[str, Any]:
    from tellapart.data.catalog import Catalog
    from tellapart.experiments.run_study import read_base
    from tellapart.runs.run import Run

    description = results.description
    winner = best_cell(results)
    if winner is None:
        raise RunError(f"{directory} has no training with a score: there is no winner.", "Repeat its command.")
    file, _ = read_study(directory / STUDY_FILE)
    catalog = Catalog.load(directory / CATALOG)
    splits = StudySplits(catalog, read_base(file), file.folds)
    if splits.digest != description.fingerprint["split"]:
        raise RunError(
            f"The recipe of {directory} divides the pictures otherwise than when the study was begun.",
            f"Put {file.recipe} back as it was.",
        )
    if not len(splits.whole.test):
        raise DataError(
            f"The study {directory} has no test part (data.test = 0), so there is nothing to open.",
            "Its best cell on validation is in winner.toml.",
        )
    metric = description.objective.name
    if metric in ("seconds", "n_parameters"):
        metric = results.metrics[0]
    names = {"winner": winner, "baseline": description.baseline}
    if winner == description.baseline:
        del names["baseline"]
    for name, cell in names.items():
        sink.say(f"The {name}: {', '.join(f'{k} = {v}' for k, v in results.levels(cell).items())}")
        _train(directory, name, cell, retrain, file.runtime, splits, sink)
    runs = {name: Run(directory / name) for name in names}
    tests = {name: run.evaluations["test"] for name, run in runs.items()}
    of_winner = results.runs.filter(results.runs["cell"] == winner)
    # A metric that validation does not have can be no objective; its direction is the objective's.
    lower = metric == "log_loss"
    return {
        "winner": winner,
        "baseline": description.baseline,
        "metric": metric,
        "n_test": tests["winner"].n,
        "winner_test": {name: asdict(value) for name, value in tests["winner"].metrics.items()},
        "baseline_test": {
            name: asdict(value) for name, value in tests.get("baseline", tests["winner"]).metrics.items()
        },
        "difference": _difference(runs, metric) if len(runs) == 2 else None,
        "validation_of_winner": of_winner[f"validation_{metric}"].mean(),
        "optimism": optimism(results, metric, lower),
        "n_cells": results.runs["cell"].n_unique(),
        "run_winner": "winner",
        "run_baseline": "baseline" if "baseline" in names else "winner",
        "retrained": retrain,
    }


def _train(
    directory: Path, name: str, cell: str, retrain: bool, runtime: str, splits: StudySplits, sink: ProgressSink
) -> None:
    """Train a cell as a whole run; go on with it where it was begun."""
    from tellapart.recipe.load import read_recipe
    from tellapart.workflows.train import RunOptions, follow_run

    recipe, _ = read_recipe(directory / CELLS / cell / "recipe.toml", [f"retrain={str(retrain).lower()}"])
    recipe = recipe.model_copy(update={"seed": splits.recipe.seed})
    command = shlex.join(["tellapart", "study", "close", str(directory), *(["--retrain"] if retrain else [])])
    follow_run(
        sink, recipe, splits.catalog, splits.whole, directory / name, RunOptions(runtime=runtime, command=command)
    )


def _difference(runs: dict[str, Any], metric: str) -> dict[str, Any]:
    """Winner less baseline on the test pictures, with its interval and verdict."""
    from tellapart.evaluation.compare import compare
    from tellapart.evaluation.comparison import Answered, Contender

    contenders = []
    for name in ("baseline", "winner"):
        values = runs[name].evaluation_values
        answered = Answered(runs[name].predictions("test"), values["temperature"], values["thresholds"])
        contenders.append(Contender(name, (answered,)))
    comparison = compare(contenders, metric)
    return asdict(comparison.differences[0])


def close_text(values: dict[str, Any]) -> Lines:
    """What closing a study has shown, in sentences."""
    metric, n = values["metric"], values["n_test"]
    lines = []
    for name in ("winner", "baseline"):
        if name == "baseline" and values["difference"] is None:
            lines.append("The baseline is the winner.")
            continue
        scored = Metric(**values[f"{name}_test"][metric])
        lines.append(f"{name}: {metric} {with_interval(metric, scored)} on {n:,} test pictures")
    if difference := values["difference"]:
        lines.append(
            f"Difference {difference_text(metric, difference['value'])} (95 %: "
            f"{difference_text(metric, difference['low'])} to {difference_text(metric, difference['high'])}): "
            f"{difference['verdict']}."
        )
    if values["optimism"] is not None:
        lines.append(
            f"On validation the winner scored {score_text(metric, values['validation_of_winner'])}. As the best of "
            f"{values['n_cells']} cells it looked about {difference_text(metric, values['optimism']).lstrip('+')} "
            "better than it is."
        )
    return as_lines(lines)
