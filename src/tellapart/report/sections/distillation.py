"""Who taught a network, and whether it is the better for it."""

from __future__ import annotations

from typing import Any

from tellapart.core.own_paths import without_folders
from tellapart.core.scores import Metric
from tellapart.core.text import counted
from tellapart.report import formatting
from tellapart.report.blocks import Block, Cell, Section, Side, Table, Text
from tellapart.report.sections.headline import span
from tellapart.runs.run import Run

_NOT_COMPARED = "It was not compared with the same student on the labels alone: whether the teacher helped is open."


def distillation(run: Run) -> Section | None:
    """The section of a run that a teacher taught; None where nobody did."""
    about = run.distillation
    if about is None or run.recipe.distill is None:
        return None
    verdict, config = about["verdict"], run.recipe.distill
    names = ", ".join(without_folders(list(about["teachers"])))
    further = f", and {counted(about['unlabelled'], 'picture')} without a label" if about["unlabelled"] else ""
    how = (
        f"The teacher: {names}. The student learnt from the training pictures{further}: {config.share:.0%} of its loss "
        f"is the teacher's answers at temperature {config.temperature:g}, the rest the labels."
    )
    left_out = f" Left out: {'; '.join(about['left_out'])}." if about["left_out"] else ""
    words: list[Block] = [Text(verdict["sentence"] if verdict else _NOT_COMPARED, "lead"), Text(how + left_out)]
    blocks = [Side([words, _scores(verdict)])] if verdict else words
    return Section("distillation", "A teacher's student", blocks, "Teacher", after="pictures")


def _scores(verdict: dict[str, Any]) -> Table:
    teachers = [
        (f"the teacher {i}" if len(verdict["teachers"]) > 1 else "the teacher", score)
        for i, score in enumerate(verdict["teachers"], start=1)
    ]
    named = [("this student", verdict["distilled"]), ("the same, labels alone", verdict["alone"]), *teachers]
    rows, metric = [], verdict["metric"]
    for name, values in named:
        value = Metric(**values)
        drawn = span(value) if formatting.is_share(metric, value.value) else None
        score = formatting.score(metric, value.value)
        rows.append([Cell(name), Cell(score, value.value, formatting.interval(metric, value), drawn)])
    caption = f"In small figures: the 95\u202f% interval. All on the same {verdict['on']} pictures."
    return Table(["network", formatting.plain(metric)], rows, caption)
