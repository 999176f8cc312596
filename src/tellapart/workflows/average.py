"""The mean of several finished runs' answers, evaluated on the same pictures as each of them."""

from __future__ import annotations

import datetime
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tellapart.core.predictions import Predictions
from tellapart.core.scores import Evaluation, with_interval
from tellapart.core.several_runs import AVERAGE
from tellapart.core.text import as_lines, counted
from tellapart.errors import DataError, UsageError
from tellapart.evaluation.calibrate import Rule, fit_temperature, thresholds
from tellapart.evaluation.compare import compare
from tellapart.evaluation.comparison import Answered, Contender
from tellapart.evaluation.ensemble import average as mean_of
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.metrics import known
from tellapart.report import formatting
from tellapart.report.blocks import Cell, Section, Table, Text
from tellapart.report.page import write_report
from tellapart.report.run_answers import answered
from tellapart.report.run_data import ReportData
from tellapart.report.run_report import pictures_of
from tellapart.report.sections.comparison_page import in_words
from tellapart.report.sections.headline import span
from tellapart.runs.resume import refuse_other_files
from tellapart.runs.run import Run

_HINT = "Average runs that were trained with the same pictures and the same split."


def average(runs: Sequence[Run | str | Path], out: str | Path, weights: Sequence[float] | None = None) -> Run:
    """Average the probabilities of finished runs, and evaluate the mean beside each of them.

    Certainty (and, with several labels, the thresholds) are fitted on the mean's validation answers, as for any run.
    It is an evaluation only: it tells whether the runs are better together, and writes no bundle that answers.

    Args:
        runs: at least two finished run directories, trained with the same pictures, classes and split.
        out: a new folder; gets predictions, evaluation.json, average.json (what it is made of) and report.html.
        weights: how much each run counts; only their ratios matter. Equal by default.

    Returns:
        The folder as a run: `ta.evaluate` reads it.

    Raises:
        UsageError: fewer than two runs, one of them twice, or weights that cannot be used.
        RunError: one of them has not finished, or `out` holds other things.
        DataError: other pictures, classes or another split.
    """
    members = [run if isinstance(run, Run) else Run(Path(run)) for run in runs]
    if len({run.directory.resolve() for run in members}) < max(2, len(members)):
        raise UsageError("An average needs at least two different runs.", "Name two or more run directories.")
    evaluations = [run.evaluations for run in members]
    for other in members[1:]:
        _check_alike(members[0], other)
    averaged = Run(Path(out))
    if not averaged.is_average:
        refuse_other_files(averaged.directory, (), "Choose another --out: a folder that is empty or not there yet.")
    predictions = _mean_predictions(members, list(evaluations[0]), weights)
    temperature = fit_temperature(predictions["validation"])
    multilabel = predictions["validation"].multilabel
    limits = tuple(thresholds(predictions["validation"], temperature, _rule(members))) if multilabel else None
    of_mean = {
        on: evaluate_predictions(answers, on=on, temperature=temperature, thresholds=limits)
        for on, answers in predictions.items()
    }
    members[0].catalog.save(averaged.catalog_file)
    members[0].split.save(averaged.split_file)
    for on, answers in predictions.items():
        answers.save(averaged.predictions_file(on))
    made_of = {
        "runs": [str(run.directory.resolve()) for run in members],
        "weights": None if weights is None else list(weights),
    }
    averaged.write_json(averaged.directory / AVERAGE, made_of)
    about = {"temperature": temperature, "thresholds": limits}
    averaged.write_json(
        averaged.evaluation_file, {**about, "evaluations": {on: e.as_dict() for on, e in of_mean.items()}}
    )
    _report(averaged, members, predictions, of_mean, temperature, limits)
    return averaged


def _mean_predictions(
    members: Sequence[Run], parts: Sequence[str], weights: Sequence[float] | None
) -> dict[str, Predictions]:
    """The mean on each part of the pictures; "validation" is among them, since certainty is fitted on it."""
    predictions = {}
    for on in parts:
        try:
            predictions[on] = mean_of([run.predictions(on) for run in members], weights)
        except DataError as error:
            named = ", ".join(f"{i} is {run.directory}" for i, run in enumerate(members, start=1))
            raise DataError(f"{error.message} ({named})", error.hint) from error
    if "validation" not in predictions:
        raise DataError(f"{members[0].directory} has no validation answers to fit a certainty on.", _HINT)
    return predictions


def _report(
    averaged: Run,
    members: Sequence[Run],
    predictions: dict[str, Predictions],
    of_mean: dict[str, Evaluation],
    temperature: float,
    limits: tuple[float, ...] | None,
) -> None:
    names = [str(run.directory) for run in members]
    first = next(iter(of_mean))
    evaluations = [run.evaluations[first] for run in members]
    best = max(range(len(members)), key=lambda i: evaluations[i].headline[1].value)
    mean = Answered(known(predictions[first]), temperature, limits)
    alone = answered(members[best], members[best].predictions(first)).in_order(mean.predictions.classes)
    verdict = _verdict(alone, mean, first)
    data = ReportData(
        title=f"Mean of {len(members)} runs",
        when=datetime.datetime.now().strftime("%Y-%m-%d %H:%M"),
        model=", ".join(names),
        pictures=pictures_of(averaged),
        command=shlex.join(["tellapart", "average", *names, "--out", str(averaged.directory)]),
        evaluations=list(of_mean.values()),
        predictions=predictions[first],
        temperature=temperature,
        thresholds=limits,
        notes=["This is an evaluation of several runs together: it has no bundle, and answers no new pictures."],
        more=[_beside(names, evaluations, of_mean[first], verdict)],
    )
    write_report(data, averaged.directory)


def beside_text(names: Sequence[str], members: Sequence[Evaluation], mean: Evaluation) -> str:
    """The headline of each run and of their mean, as lines for a terminal."""
    name, _ = mean.headline
    lines = [(each, evaluation.metrics[name]) for each, evaluation in zip(names, members, strict=True)]
    lines.append(("their mean", mean.metrics[name]))
    width = max(len(each) for each, _ in lines)
    return as_lines([f"{mean.on}, {name}:"] + [f"  {each:<{width}}  {with_interval(name, m)}" for each, m in lines])


def _verdict(best: Answered, mean: Answered, on: str) -> str:
    """Whether the mean is better than the best of the runs, as far as these pictures tell."""
    compared = compare([Contender("best", (best,)), Contender("mean", (mean,))])
    (difference,) = compared.differences
    words = in_words(compared, difference)
    if difference.verdict == "cannot tell":
        n = counted(compared.n, "picture")
        return f"With these {n} the mean cannot be told from the best of the runs: {words}."
    return f"On the {on} pictures the mean is {difference.verdict} than the best of the runs: {words}."


def _rule(members: Sequence[Run]) -> Rule:
    """The rule for thresholds that all recipes state; "f1" where they differ."""
    rules = [run.recipe.evaluation.thresholds for run in members if run.recipe_file.is_file()]
    return rules[0] if rules and all(rule == rules[0] for rule in rules) else "f1"


def _beside(names: Sequence[str], members: Sequence[Evaluation], mean: Evaluation, verdict: str) -> Section:
    shown = [*list(mean.metrics)[:1], *(name for name in ("f1_macro", "log_loss") if name in mean.metrics)]
    shown = list(dict.fromkeys(shown))
    rows = []
    for name, evaluation in [*zip(names, members, strict=True), ("Their mean", mean)]:
        cells = [Cell(name)]
        for number, metric in enumerate(shown):
            value = evaluation.metrics[metric]
            drawn = span(value) if number == 0 and formatting.is_share(metric, value.value) else None
            cells.append(
                Cell(formatting.score(metric, value.value), value.value, formatting.interval(metric, value), drawn)
            )
        rows.append(cells)
    caption = "In small figures: the 95\u202f% interval. All are judged on the same pictures."
    table = Table(["run", *map(formatting.plain, shown)], rows, caption)
    return Section("together", "Alone and together", [Text(verdict, "lead"), table], "Together", after="pictures")


def _check_alike(first: Run, other: Run) -> None:
    """Refuse runs that were not evaluated on the very same pictures, or do not know the same classes.

    Raises:
        DataError: in plain words, which and how.
    """
    who = f"{other.directory} and {first.directory} cannot be averaged"
    if set(other.catalog.classes) != set(first.catalog.classes):
        only = sorted(set(other.catalog.classes) ^ set(first.catalog.classes))
        raise DataError(f"{who}: only one of them knows {', '.join(only[:5])}.", _HINT)
    if other.catalog.digest != first.catalog.digest:
        raise DataError(f"{who}: they were trained on different pictures or labels.", _HINT)
    for part in ("test", "validation"):
        if not np.array_equal(getattr(other.split, part), getattr(first.split, part)):
            raise DataError(f"{who}: they have different {part} pictures.", _HINT)
