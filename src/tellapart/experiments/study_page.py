"""A study's directory → its page `study.html`."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tellapart.core.scores import Metric
from tellapart.core.text import counted
from tellapart.errors import RunError
from tellapart.evaluation.study_summary import CellResult, StudySummary
from tellapart.experiments.cell_statistics import summarise
from tellapart.experiments.results import CLOSED, DONE, StudyResults, read_values
from tellapart.report import formatting
from tellapart.report.curve_bands import Banded, banded
from tellapart.report.page import write_page
from tellapart.report.sections.study_page import study_page
from tellapart.report.study_details import StudyDetails
from tellapart.report.study_words import amount, interval, value

PAGE = "study.html"
#: Cells whose curves are read: those that the page shows.
_MOST_CURVES = 48


def write_study_page(results: StudyResults, summary: StudySummary | None = None) -> Path:
    """Write `study.html` into a study's directory, whole or not at all.

    Args:
        results: of the study, finished or not.
        summary: where it was made already.

    Raises:
        RunError: a file of the study is damaged.
    """
    path = results.directory / PAGE
    write_page(study_page(study_details(results, summary or summarise(results))), path, _no_picture)
    return path


def study_details(results: StudyResults, summary: StudySummary) -> StudyDetails:
    """What the page and the paper pack show."""
    description = results.description
    facts = [(name.replace("_", " "), str(fact)) for name, fact in description.machine.items()]
    facts += [("threads", str(description.threads))]
    facts += [(name.replace("_", " "), str(fact)) for name, fact in description.runtime.items()]
    return StudyDetails(
        name=description.name,
        about=description.about,
        summary=summary,
        design=description.design,
        varied=[factor.name for factor in description.factors],
        n_train=description.n_train,
        folds=description.folds,
        curves=_curves(results, summary),
        facts=facts,
        command=description.command,
        **_closed(results),
    )


def _closed(results: StudyResults) -> dict[str, Any]:
    """What was measured on the test part, of a closed study."""
    path = results.directory / CLOSED
    if not path.is_file():
        return {}
    values = read_values(path, "metric", "winner_test", "baseline_test", "n_test")
    metric, lines = values["metric"], []
    try:
        for name in ("winner", "baseline"):
            score = Metric(**values[f"{name}_test"][metric])
            spread = f"95 % interval {formatting.interval(metric, score)}"
            lines.append((f"{name}, {formatting.plain(metric).lower()}", value(metric, score.value), spread))
        if difference := values.get("difference"):
            spread = interval(metric, difference["low"], difference["high"])
            lines.append(("winner less baseline", amount(metric, difference["value"]), spread))
        notes = [f"Measured once, on {counted(values['n_test'], 'test picture')} that no setting was chosen by."]
        if (gain := values.get("optimism")) is not None:
            better = amount(metric, abs(gain)).lstrip("+")
            notes.append(
                f"As the best of {values['n_cells']} settings, the winner looked about {better} better on "
                "validation than it is."
            )
    except (KeyError, TypeError, AttributeError) as error:
        raise RunError(f"{path} is damaged: {error!r}.", "Delete it, and close the study again.") from error
    return {"test": lines, "test_notes": notes}


def _curves(results: StudyResults, summary: StudySummary) -> dict[str, Banded]:
    sign = 1 if summary.lower_is_better else -1
    with_score = [one for one in summary.cells if one.n]
    with_score.sort(key=lambda one: (one.cell != summary.baseline, sign * one.score.value, one.number))
    rows: dict[str, list[dict[str, Any]]] = {}
    for row in results.runs.iter_rows(named=True):
        if row["status"] == DONE:
            rows.setdefault(row["cell"], []).append(row)
    curves = {}
    for one in with_score[:_MOST_CURVES]:
        of_cell = banded([results.curve(row["path"]) for row in rows[one.cell]], _kept(rows[one.cell], one))
        if of_cell is not None:
            curves[one.cell] = of_cell
    return curves


def _kept(rows: Sequence[Mapping[str, Any]], one: CellResult) -> int:
    epochs = [row["best_epoch"] for row in rows if row["seed"] in one.scores and row["best_epoch"]]
    return int(statistics.median(epochs)) if epochs else 0


def _no_picture(row: int) -> bytes:
    raise OSError(f"this page has no pictures, but asks for number {row}")
