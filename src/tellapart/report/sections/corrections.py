"""Effect of label corrections on the scores: a run trained with them against the run before."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tellapart.core.predictions import Predictions
from tellapart.core.scores import Evaluation
from tellapart.errors import RunError
from tellapart.evaluation.compare import compare
from tellapart.evaluation.comparison import Contender, Difference
from tellapart.evaluation.evaluate import evaluate_predictions
from tellapart.evaluation.metrics import take
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Section, Table, Text
from tellapart.report.run_answers import answered
from tellapart.report.sections.settings import differing
from tellapart.runs.run import Run
from tellapart.runs.settings import settings


@dataclass(frozen=True)
class Change:
    """Scores on the test pictures that both runs have.

    Attributes:
        before: the first run, scored by the labels as given.
        relabelled: the same answers, scored by the corrected labels.
        after: the run with corrections, scored by the corrected labels.
        n: number of pictures. n_corrected: those whose label was corrected.
        difference: `after` less `relabelled`, in the first metric, with its interval and verdict.
    """

    before: Evaluation
    relabelled: Evaluation
    after: Evaluation
    n: int
    n_corrected: int
    difference: Difference


def descendants(first: Run) -> list[Run]:
    """Finished runs beside this one that were trained with its corrections, by name."""
    runs = []
    for folder in sorted(first.directory.absolute().parent.iterdir()):
        other = Run(folder)
        if folder.is_dir() and other.started and other.finished and _first(other) == first.directory.absolute():
            runs.append(other)
    return runs


def change(first: Run, second: Run) -> Change | None:
    """Compare two runs on the test pictures of both; None where there are none, or the classes differ.

    Raises:
        RunError: one of them is not finished, or is damaged.
    """
    if first.catalog.classes != second.catalog.classes or not {"test"} <= first.evaluations.keys() & second.evaluations:
        return None
    old, new = _by_path(first), _by_path(second)
    both = old.join(new, on="path", suffix="_new").sort("row")
    if not both.height:
        return None
    before = _rows(first.predictions("test"), both["row"])
    after = _rows(second.predictions("test"), both["row_new"])
    # The second run's target, in the order of the first: rows differ where pictures were excluded.
    order = np.argsort(np.argsort(both["row_new"].to_numpy()))
    target = after.target[order]
    unknown = None if after.unknown is None else after.unknown[order]
    aligned = Predictions.of(before.row, after.logits[order], target, before.classes, unknown)
    answers = [answered(first, replace(before, target=target, unknown=unknown)), answered(second, aligned)]
    differs = before.target != target
    return Change(
        _evaluated(first, before),
        _evaluated(first, replace(before, target=target, unknown=unknown)),
        _evaluated(second, after),
        both.height,
        int((differs.any(axis=1) if differs.ndim == 2 else differs).sum()),
        compare(
            [Contender(run.directory.name, (one,)) for run, one in zip((first, second), answers, strict=True)]
        ).differences[0],
    )


def corrections_section(run: Run) -> Section | None:
    """The section on corrections, in the report of a run that was trained with them; None for other runs."""
    about = run.environment.get("corrections")
    if not about:
        return None
    blocks: list[Block] = [Text(about["applied"])]
    first = Run(Path(about["first"])) if about.get("first") else None
    if first is not None and first.directory.is_dir() and first.finished:
        blocks += _table(first, run)
    return Section("corrections", "What the corrections changed", blocks, "Corrections", after="score")


def change_sentences(first: Run, second: Run) -> list[str]:
    """The change in sentences."""
    try:
        changed = change(first, second)
    except RunError:
        return []
    if changed is None:
        return [f"{second.directory.name}: its test pictures or classes are others; the scores cannot be compared."]
    name = changed.before.headline[0]
    scores = [_score(name, evaluation) for evaluation in (changed.before, changed.relabelled, changed.after)]
    return [
        f"{second.directory.name}, on the {formatting.count(changed.n)} test pictures of both runs, "
        f"{formatting.count(changed.n_corrected)} of them with a corrected label; {formatting.plain(name).lower()}:",
        f"{first.directory.name} by the labels as given {scores[0]}; by the corrected labels {scores[1]}; "
        f"{second.directory.name} by the corrected labels {scores[2]}.",
        _verdict(changed),
    ]


def _table(first: Run, second: Run) -> list[Block]:
    changed = change(first, second)
    if changed is None:
        return [Text("The test pictures or classes are others than before; the scores cannot be compared.", "note")]
    names = [name for name in changed.after.metrics if name in changed.before.metrics]
    evaluations = (changed.before, changed.relabelled, changed.after)
    rows = [[Cell(formatting.plain(name)), *(_cell(name, e) for e in evaluations)] for name in names]
    caption = (
        f"On the {formatting.count(changed.n)} test pictures that both runs have; "
        f"{formatting.count(changed.n_corrected)} of them "
        "have a corrected label. From the first column to the second only the labels differ. "
        + _only_training(first, second)
    )
    one, two = first.directory.name, second.directory.name
    columns = ["metric", f"{one}, labels as given", f"{one}, corrected labels", f"{two}, corrected labels"]
    return [Text(_verdict(changed)), Table(columns, rows, caption)]


def _only_training(first: Run, second: Run) -> str:
    """What differs from one training to the other, besides the labels that they learnt from."""
    others = list(differing([settings(first), settings(second)]))
    libraries = ("tellapart", "torch", "torchvision", "timm", "numpy", "pillow", "simplejpeg")
    others += [name for name in libraries if first.environment.get(name) != second.environment.get(name)]
    if not others:
        return "From the second to the third only the training differs."
    return (
        f"From the second to the third more than the training differs ({', '.join(others)}): what the corrections did "
        "cannot be told from that."
    )


def _cell(name: str, evaluation: Evaluation) -> Cell:
    metric = evaluation.metrics[name]
    return Cell(formatting.score(name, metric.value), metric.value, quiet=formatting.interval(name, metric))


def _score(name: str, evaluation: Evaluation) -> str:
    metric = evaluation.metrics[name]
    return f"{formatting.score(name, metric.value)} ({formatting.interval(name, metric)})"


def _first(run: Run) -> Path | None:
    about: dict[str, Any] = run.environment.get("corrections") or {}
    return Path(about["first"]) if about.get("first") else None


def _by_path(run: Run) -> pl.DataFrame:
    rows = run.predictions("test").row
    return pl.DataFrame({"path": run.catalog.table["path"].gather(rows), "row": rows})


def _rows(predictions: Predictions, rows: pl.Series) -> Predictions:
    return take(predictions, np.isin(predictions.row, rows.to_numpy()))


def _verdict(changed: Change) -> str:
    """The difference that the new training makes, with its interval and a verdict."""
    name, d = changed.after.headline[0], changed.difference
    span = (
        f"{formatting.plain(name)} {100 * d.value:+.1f} points (95\u202f%: {100 * d.low:+.1f} to {100 * d.high:+.1f})"
    )
    return f"The training with corrections against the first, by the corrected labels: {span}: {d.verdict}."


def _evaluated(run: Run, predictions: Predictions) -> Evaluation:
    about = run.evaluation_values
    return evaluate_predictions(
        predictions, on="test", temperature=about["temperature"], thresholds=about["thresholds"] or None
    )
