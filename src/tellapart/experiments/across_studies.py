"""The same settings on several picture sets: one study a set, put together by their levels."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tellapart.core.files import check_suffix
from tellapart.core.text import as_lines, first_few
from tellapart.errors import UsageError
from tellapart.evaluation.study_summary import StudySummary
from tellapart.experiments.cell_statistics import summarise
from tellapart.experiments.critical_difference import critical_difference
from tellapart.experiments.results import DESCRIPTION, read_results
from tellapart.report.blocks import Cell, Page, Section, Table, Text
from tellapart.report.page import write_page
from tellapart.report.sections.study_effects import ranks_section
from tellapart.report.study_details import Ranks
from tellapart.report.study_words import label, value

#: From so many picture sets on, pairs are tested one by one: Wilcoxon's test can show something then.
_ENOUGH_FOR_PAIRS = 6
_MOST = 40


def is_study(path: str | Path) -> bool:
    """Whether a folder holds a study."""
    return (Path(path) / DESCRIPTION).is_file()


def compare_studies(studies: Sequence[str | Path], out: str | Path | None = None) -> Ranks:
    """Rank the settings that several studies have in common, each study on a picture set of its own.

    Args:
        studies: directories, at least two, with the same objective.
        out: a page (.html) to write.

    Raises:
        UsageError: fewer than two studies, other objectives, fewer than two settings in common, or too many.
        RunError: one of them is no study.
    """
    if out is not None:
        check_suffix(Path(out), (".html",))
    if len(studies) < 2:
        raise UsageError(
            "One study alone is not compared with anything.", "tellapart study show FOLDER shows its settings."
        )
    summaries = [summarise(read_results(path)) for path in studies]
    first = summaries[0]
    other = next((one for one in summaries if one.metric != first.metric), None)
    if other is not None:
        raise UsageError(
            f"The studies have other objectives: {first.metric} and {other.metric}.",
            "Compare studies of one objective.",
        )
    every = [{label(summary, one): one for one in summary.cells if one.n} for summary in summaries]
    names = [name for name in every[0] if all(name in cells for cells in every)]
    if not 2 <= len(names) <= _MOST:
        raise UsageError(
            f"The studies have {len(names)} settings in common: {first_few(names) or 'none'}.",
            f"Name studies of the same file, on different pictures, with 2 to {_MOST} settings.",
        )
    scores = np.array([[cells[name].score.value for name in names] for cells in every])
    test = "wilcoxon" if len(studies) >= _ENOUGH_FOR_PAIRS else "nemenyi"
    sets = [str(path) for path in studies]
    ranks = critical_difference(sets, names, scores, first.lower_is_better, test)  # type: ignore[arg-type]
    if out is not None:
        table = _scores(summaries, sets, names, scores)
        page = Page(f"{len(names)} settings on {len(sets)} picture sets", [], [ranks_section(ranks), table])
        write_page(page, Path(out), _no_picture)
    return ranks


def ranks_text(ranks: Ranks) -> str:
    """Mean ranks for a terminal, the best first, and what cannot be told apart."""
    width = max(map(len, ranks.names))
    lines = [f"Mean ranks over {len(ranks.sets)} picture sets (1 is best):"]
    lines += [f"  {name:<{width}}  {rank:.2f}" for name, rank in zip(ranks.names, ranks.ranks, strict=True)]
    for start, end in ranks.groups:
        alike = [n for n, r in zip(ranks.names, ranks.ranks, strict=True) if start <= r <= end]
        lines.append(f"Cannot be told apart: {', '.join(alike)}.")
    return as_lines([*lines, f"{ranks.test}. Friedman's test: p = {ranks.p:.3g}."])


def _scores(summaries: Sequence[StudySummary], sets: Sequence[str], names: Sequence[str], scores: object) -> Section:
    table = np.asarray(scores)
    rows = [
        [Cell(name), *(Cell(value(summaries[0].metric, v), v) for v in table[:, i].tolist())]
        for i, name in enumerate(names)
    ]
    note = Text("The mean over seeds on each set's validation pictures.", "note")
    return Section("scores", "Scores", [Table(["setting", *sets], rows, sortable=len(rows) > 2), note])


def _no_picture(row: int) -> bytes:
    raise OSError(f"this page has no pictures, but asks for number {row}")
