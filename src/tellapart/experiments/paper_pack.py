"""A study's paper pack: tables, figures and the paragraph on methods, in the folder `paper/`."""

from __future__ import annotations

import re
from pathlib import Path

from tellapart.core.files import plainly, write_text
from tellapart.core.text import without_controls
from tellapart.evaluation.study_summary import StudySummary
from tellapart.experiments.cell_statistics import summarise
from tellapart.experiments.results import StudyResults
from tellapart.experiments.study_page import study_details
from tellapart.report.study_details import StudyDetails
from tellapart.report.study_figures import write_study_figures
from tellapart.report.study_methods import methods
from tellapart.report.study_table import latex, markdown, table_csv
from tellapart.report.study_words import finding

PAPER = "paper"
#: Figures that a pack may hold. With fewer factors there are fewer, and those of before would not be of this study.
_FIGURE = re.compile(r"(differences|effect_\d+|interaction_\d+|curves|time|parameters|importance|ranks)\.(svg|png)")


def write_paper(results: StudyResults, summary: StudySummary | None = None) -> list[Path]:
    """Write `table.tex`, `table.md`, `table.csv`, `methods.txt` and the figures as SVG and PNG.

    Files of these names are replaced, each whole or not at all, and figures of before that are no longer drawn removed;
    any other file in the folder stays.

    Returns:
        The files written.

    Raises:
        RunError: a file of the study is damaged, or the disk is full.
    """
    details = study_details(results, summary or summarise(results))
    folder = results.directory / PAPER
    with plainly():
        texts = paper_texts(details)
        for name, text in texts.items():
            write_text(folder / name, text)
        written = [*(folder / name for name in texts), *write_study_figures(details, folder)]
        for path in folder.iterdir():
            if path not in written and path.is_file() and _FIGURE.fullmatch(path.name):
                path.unlink()
        return written


def paper_texts(details: StudyDetails) -> dict[str, str]:
    """The tables and the paragraph on methods, by file name."""
    summary = details.summary
    return {
        "table.tex": latex(summary, " ".join(finding(summary))),
        "table.md": markdown(summary),
        "table.csv": table_csv(summary),
        "methods.txt": f"{without_controls(methods(details))}\n",
    }
