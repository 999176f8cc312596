"""Everything that is written about a study, from its directory: table.csv, study.html and paper/."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from tellapart.core.files import plainly, write_text
from tellapart.evaluation.study_summary import StudySummary
from tellapart.experiments.cell_statistics import summarise
from tellapart.experiments.paper_pack import write_paper
from tellapart.experiments.results import read_results
from tellapart.experiments.study_page import write_study_page
from tellapart.report.study_table import records, table_csv

TABLE = "table.csv"


def write_report(directory: str | Path, paper: bool = True) -> Path:
    """Write the table, the page and the paper pack of a study, finished or not; each file whole or not at all.

    Args:
        directory: of the study.
        paper: whether the paper pack is written too; it takes the longest.

    Returns:
        The page.

    Raises:
        RunError: the directory holds no study, a file of it is damaged, or the disk is full.
    """
    results = read_results(directory)
    summary = summarise(results)
    with plainly():
        write_text(results.directory / TABLE, table_csv(summary))
        page = write_study_page(results, summary)
        if paper:
            write_paper(results, summary)
    return page


def table(summary: StudySummary) -> pl.DataFrame:
    """One row a cell, in the order of the design: its levels, scores, difference and verdict."""
    return pl.DataFrame(records(summary), infer_schema_length=None)
