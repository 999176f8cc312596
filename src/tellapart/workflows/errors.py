"""The errors command: galleries of a run's wrong answers, and label issues, on one page."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import polars as pl

from tellapart.core.files import file_part
from tellapart.core.predictions import Predictions
from tellapart.core.several_runs import describe_several
from tellapart.core.suggest import suggest
from tellapart.core.text import as_lines, counted
from tellapart.data.catalog import Catalog
from tellapart.errors import DataError, MissingExtraError, RunError, UsageError
from tellapart.evaluation.mistakes import most_confused, of_class
from tellapart.report import formatting
from tellapart.report.answers import Answers
from tellapart.report.blocks import Block, Card, Gallery, Label, Page, Section, Text
from tellapart.report.page import write_page
from tellapart.report.sections.galleries import first_row, label_blocks, pairs_table, right_galleries, wrong_galleries
from tellapart.report.thumbnail import thumbnails_of
from tellapart.runs.run import Run
from tellapart.runs.trained_on import known_pictures
from tellapart.workflows.progress import ProgressSink, progress_sink
from tellapart.workflows.scan import scan

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tellapart.evaluation.label_issues_table import LabelIssues

_SHOWN = 42


@dataclass(frozen=True)
class ErrorFiles:
    """Files of the command, the ranking of labels, and a summary.

    Attributes:
        page: the page. tables: the ranking of labels, as Parquet and CSV; empty where it could not be made.
        text: the most frequent errors and most suspicious labels, for the terminal.
        labels: the ranking, a row a picture, the most suspicious first: see `LabelIssues.table`. None where it could
            not be made.
    """

    page: Path
    tables: tuple[Path, ...]
    text: str
    labels: pl.DataFrame | None = None

    def __str__(self) -> str:
        """The summary."""
        return self.text


def list_errors(
    where: Run | str | Path | Catalog,
    *,
    out: str | Path | None = None,
    on: str = "",
    only: str | None = None,
    model: str | None = None,
    progress: bool = False,
    **label_options: Any,
) -> ErrorFiles:
    """Show right, wrong and uncertain answers, and labels that may be wrong: of a run, or of pictures without one.

    Args:
        where: a finished run, or its directory; or labelled pictures: a folder, a table, or what `scan` gave.
        out: the folder for page and tables; by default the run's own, or runs/NAME-errors.
        on: of a run: whose answers are shown, "test" or "validation"; by default the first that there is.
        only: show only pictures given this class.
        model: of pictures: the pretrained network that checks the labels.
        progress: show progress on standard error.
        label_options: of pictures: as for `scan`.

    Raises:
        UsageError: no such class or part, or an option that does not go with `where`.
        RunError: an average or a cross-validation, where a run or pictures are needed.
        WeightsError: of pictures: no pretrained weights are at hand.
        MissingExtraError: of pictures: cleanlab is not installed.
    """
    sink, folder = progress_sink(progress), None if out is None else Path(out)
    if isinstance(where, Catalog):
        return errors_of_pictures(where, folder or beside(where.root), model, only, sink)
    run = where if isinstance(where, Run) else Run(Path(where))
    if run.started or run.is_average:
        if model is not None:
            raise UsageError("--model goes with pictures; a run has its own network.", "Leave --model out.")
        refuse_label_options(label_options)
        return errors_of_run(run, folder, on, only, sink)
    refuse_several(run.directory)
    if on:
        raise UsageError(f"--on goes with a run, and {run.directory} is none.", "Leave --on out.")
    catalog = scan(run.directory, sink, **label_options)
    return errors_of_pictures(catalog, folder or beside(run.directory), model, only, sink)


def refuse_several(where: Path) -> None:
    """Refuse to take the results of several runs for pictures."""
    if several := describe_several(where):
        raise RunError(*several)


def refuse_label_options(label_options: dict[str, Any]) -> None:
    """Refuse options on the layout of labels where a run has its labels already."""
    name = next((name for name, value in label_options.items() if value), None)
    if name:
        option = name.replace("_", "-")
        raise UsageError(f"--{option} goes with pictures; a run has its own labels.", f"Leave --{option} out.")


def beside(pictures: Path) -> Path:
    """Default folder for results on pictures without a run."""
    return Path("runs") / f"{pictures.resolve().name}-errors"


def errors_of_run(run: Run, out: Path | None, on: str, only: str | None, progress: ProgressSink) -> ErrorFiles:
    """Write `errors.html` (of one class, a page of its own) and the ranking of labels of a finished run.

    Args:
        run: finished.
        out: the folder to write to; None: the run's own.
        on: whose answers the galleries show: "test" or "validation"; "" for test, or validation where there is none.
        only: show only pictures given this class.
        progress: where it is shown.

    Raises:
        UsageError: no such class or part.
    """
    known = run.evaluations
    on = on or next(iter(known))
    if on not in known:
        raise UsageError(f"--on {on}: {run.directory} has no such part.", f"It has: {', '.join(known)}.")
    values = run.evaluation_values
    limits = values["thresholds"]
    predictions = _only(run.predictions(on), only)
    limits = None if limits is None else np.asarray(limits, np.float64)
    answers = _answers(run.catalog, predictions, values["temperature"], limits)
    issues, why_not = _issues(run, progress)
    name = f"average, {run.directory.name}" if run.is_average else run.recipe.model.name
    about = f"{name}, {counted(len(predictions), f'{on} picture')}"
    contents = run.catalog.table["sha256"].gather(predictions.row).to_list()
    copies = known_pictures(run, contents, ("train", "validation") if on == "test" else ("train",))
    note = f"{copies}: its answers to these say nothing about new ones." if copies.n else ""
    return _write(run.catalog, answers, issues, why_not, out or run.directory, only, about, note)


def errors_of_pictures(
    catalog: Catalog, out: Path, model: str | None, only: str | None, progress: ProgressSink, seed: int = 0
) -> ErrorFiles:
    """Write the same without a training: a quick classifier on pretrained features answers, cross-validated.

    The catalog is kept beside the page, so that the pictures can be reviewed from there.

    Raises:
        WeightsError: no pretrained weights are at hand.
        MissingExtraError: cleanlab is not installed.
    """
    from tellapart.workflows.label_issues import issues_of_pictures

    _check_class(only, catalog.classes)  # before minutes are spent on the features
    issues = issues_of_pictures(catalog, model, progress, seed)
    answers = _answers(catalog, _only(issues.predictions, only), 1.0, None)
    about = f"{counted(len(answers.predictions), 'picture')}, each answered by a quick model that has not seen it"
    files = _write(catalog, answers, issues, "", out, only, about)
    catalog.save(out / "catalog.parquet")  # last: it says that the ranking beside it is of these pictures
    return files


def _issues(run: Run, progress: ProgressSink) -> tuple[LabelIssues | None, str]:
    """The label issues, or why there are none: the galleries do without them."""
    from tellapart.workflows.label_issues import issues_of_run

    if several := describe_several(run.directory):
        return None, f"Labels are not ranked here. {' '.join(several)}"
    try:
        return issues_of_run(run, progress), ""
    except (MissingExtraError, DataError) as error:
        return None, f"{error.message} {error.hint}"


def _check_class(only: str | None, classes: Sequence[str]) -> None:
    if only is not None and only not in classes:
        raise UsageError(f"--class {only}: there is no such class.", suggest(only, classes))


def _only(predictions: Predictions, only: str | None) -> Predictions:
    _check_class(only, predictions.classes)
    return predictions if only is None else of_class(predictions, only)


def _answers(catalog: Catalog, predictions: Predictions, temperature: float, limits: Any) -> Answers:
    return Answers(predictions, catalog.name, temperature, limits, catalog.link)


def _write(
    catalog: Catalog,
    answers: Answers,
    issues: LabelIssues | None,
    why_not: str,
    out: Path,
    only: str | None,
    about: str,
    note: str = "",
) -> ErrorFiles:
    page = Page(
        title=f"Errors: {catalog.root.name}",
        subtitle=[about, *([f"given {formatting.visible(only)}"] if only is not None else [])],
        notes=[note] if note else [],
        sections=_sections(catalog, answers, issues, why_not, only),
    )
    path = out / (f"errors-{file_part(only)}.html" if only is not None else "errors.html")
    write_page(page, path, thumbnails_of(catalog))
    tables = issues.save(out) if issues else ()
    text = _text(answers, issues, why_not, only)
    return ErrorFiles(path, tables, f"{note}\n{text}" if note else text, issues.table if issues else None)


def _sections(
    catalog: Catalog, answers: Answers, issues: LabelIssues | None, why_not: str, only: str | None
) -> list[Section]:
    labels = [_suspicious(catalog, issues, only)] if issues else [Text(why_not, "note")]
    sections = [Section("labels", "Labels that may be wrong", labels, "Labels")]
    if not len(answers.predictions):
        return [
            *sections,
            Section("wrong", "Wrong and uncertain", [Text("No picture of this class is here.")], "Wrong"),
        ]
    worst, uncertain = (replace(gallery, named=True) for gallery in wrong_galleries(answers, _SHOWN))
    wrong: list[Block] = [worst, *first_row(uncertain, "of the least certain answers")]
    right = [
        block
        for gallery in right_galleries(answers, _SHOWN)
        for block in first_row(replace(gallery, named=True), f"under “{gallery.title}”")
    ]
    sections.append(Section("wrong", "Wrong and uncertain", wrong, "Wrong"))
    if answers.predictions.multilabel:
        sections.append(Section("several", "Label by label", label_blocks(answers, _SHOWN), "Label by label"))
    elif (pairs := pairs_table(answers)) is not None:
        sections.append(Section("pairs", "Taken for each other", [pairs], "Pairs"))
    sections.append(Section("right", "Right, and a fair sample of the wrong", right, "Right"))
    return sections


def _suspects(issues: LabelIssues, only: str | None) -> pl.DataFrame:
    """The suspected labels, the most suspicious first; of one class, where `only` names it."""
    table = issues.table.filter(issues.table["suspicious"])
    return table if only is None else table.filter(table["given"].list.contains(only))


def _suspicious(catalog: Catalog, issues: LabelIssues, only: str | None) -> Block:
    """A gallery of the most suspicious labels with the reasons."""
    table = _suspects(issues, only)
    cards = [
        Card(
            line["row"],
            line["file"],
            [Label(name) for name in line["given"]],
            [Label(name) for name in line["suggested"]],
            link=catalog.link(line["row"]),
            note=line["reason"],
        )
        for line in table.head(_SHOWN).iter_rows(named=True)
    ]
    n = table.height
    which = f"{counted(n, 'picture')} with a label that may be wrong"
    first = f"; here are the {len(cards)} most suspicious" if n > len(cards) else ""
    return Gallery(
        "The most suspicious first",
        cards,
        f"{which}{first}. With ? what the label might be. {issues.method} "
        "Look at each: a picture that is hard, rather than wrongly labelled, is suspected too.",
        f"No label is suspected. {issues.method}",
        named=True,
    )


def _text(answers: Answers, issues: LabelIssues | None, why_not: str, only: str | None) -> str:
    lines = []
    if not answers.predictions.multilabel:
        pairs = most_confused(answers.predictions, 5)
        width = max((len(f"{a} taken for {b}") for a, b, _ in pairs), default=0)
        lines += [
            f"  {f'{formatting.visible(a)} taken for {formatting.visible(b)}':<{width}}  {n:>5,}" for a, b, n in pairs
        ]
        lines = ["Most often confused:", *lines] if pairs else ["No answer was wrong."]
    if issues is None:
        return as_lines([*lines, why_not])
    suspects = _suspects(issues, only)
    label = "a label" if only is None else f"the label {only}"
    lines.append(f"{counted(suspects.height, 'picture')} with {label} that may be wrong.")
    for line in suspects.head(10).iter_rows(named=True):
        labels = ", ".join(map(formatting.visible, line["given"])) or "no label"
        lines.append(f"  {formatting.visible(line['file'])} ({labels}): {formatting.visible(line['reason'])}")
    return as_lines(lines)
