"""The verb: a study from Python, with its table and its page."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from tellapart.core.suggest import suggest
from tellapart.data.catalog import Catalog
from tellapart.data.scan import scan as scan_pictures
from tellapart.errors import UsageError
from tellapart.experiments.read_study import Source, from_here, parse_study, read_study, study_of
from tellapart.experiments.results import StudyResults, read_results
from tellapart.experiments.run_study import StudyOptions, run_study
from tellapart.experiments.study_file import StudyFile
from tellapart.workflows.progress import ProgressSink, progress_sink
from tellapart.workflows.scan import scan

#: What `scan` takes that says nothing of labels.
_NOT_OF_LABELS = ("root", "workers", "progress", "measures")


@dataclass(frozen=True)
class StudyOutcome:
    """A study with its trainings done.

    Attributes:
        directory: of the study.
        table: one row a cell: its levels, scores, difference to the baseline and verdict; see `study_report.table`.
        runs: one row a training; see `StudyResults`.
        page: path of study.html.
    """

    directory: Path
    table: pl.DataFrame
    runs: pl.DataFrame
    page: Path

    @property
    def results(self) -> StudyResults:
        """The study as its directory has it, with curves and predictions."""
        return read_results(self.directory)


def study(
    pictures: str | Path | Catalog | None = None,
    vary: Mapping[str, Any] | None = None,
    *,
    file: str | Path | None = None,
    recipe: str | Path | None = None,
    out: str | Path | None = None,
    storage: str = "",
    parallel: int = 1,
    minutes: float | None = None,
    retry_failed: bool = False,
    progress: bool = False,
    **keys: Any,
) -> StudyOutcome:
    """Train each cell of a study several times, and say which settings mattered; or go on with a study.

    Args:
        pictures: a folder, a table of files and labels, or what `scan` gave; by default, what the file says.
        vary: factor → levels, as `[vary]` of a study's file: {"stages.0.lr": [1e-4, 1e-3]}.
        file: a study's TOML file, or the name of a shipped study; the other arguments are set over it.
        recipe: what the cells change; "transfer" by default.
        out: the study's directory; by default studies/NAME.
        storage: URL of a database, in which several machines work on one study.
        parallel: trainings at a time.
        minutes: no training is begun after that; the same call goes on.
        retry_failed: do those again that failed.
        progress: show progress on standard error.
        keys: other keys of the file: seeds, design, objective, baseline, folds, budget, set …

    Raises:
        TellapartError: whatever is wrong with study, pictures or directory, in plain words.
    """
    sink = progress_sink(progress)
    values = {name: value for name, value in {"vary": vary, "recipe": recipe}.items() if value is not None}
    read, source = read_given(file, _plain(values | keys))
    read = with_pictures(read, pictures)
    catalog = pictures if isinstance(pictures, Catalog) else pictures_of(read, sink)
    directory = directory_of(out, file, catalog)
    options = StudyOptions(storage, parallel, minutes, retry_failed, f"tellapart study {directory}")
    run_study(read, source, catalog, directory, options, sink)
    return outcome(directory)


def _plain(value: Any) -> Any:
    """Values of Python as those of a TOML file: arrays and tuples become lists, numbers of NumPy plain ones."""
    if isinstance(value, Mapping):
        return {name: _plain(each) for name, each in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, list | tuple | range):
        return [_plain(each) for each in value]
    return str(value) if isinstance(value, Path) else value


def read_given(file: str | Path | None, values: dict[str, Any]) -> tuple[StudyFile, Source]:
    """A study from a file and what is set over it, or from the latter alone."""
    if file is not None:
        return read_study(file, values)
    source = Source(None)
    return parse_study(study_of(from_here(values), source, validate=False), source), source


def with_pictures(file: StudyFile, pictures: str | Path | Catalog | None, **label_options: Any) -> StudyFile:
    """The study with its pictures and how they are read, so that its directory alone is enough to go on."""
    named = {name: value for name, value in label_options.items() if value not in (None, False)}
    for name, value in named.items():
        if isinstance(value, Path):  # below the pictures' folder, or from here
            named[name] = str(value.absolute() if value.exists() else value)
    changes: dict[str, Any] = {"label_options": file.label_options | named}
    if isinstance(pictures, str | Path):
        changes["pictures"] = str(Path(pictures).absolute())
    for text in (*named.values(), changes.get("pictures")):
        if isinstance(text, str) and not _is_unicode(text):
            raise UsageError(
                f"{text}: the file of a study cannot hold this name, which is no Unicode.",
                "Give it another name, or a link to it: ln -s FOLDER pictures",
            )
    return file.model_copy(update=changes)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def pictures_of(file: StudyFile, progress: ProgressSink) -> Catalog:
    """The pictures that a study's file names, read as it says.

    Raises:
        UsageError: it names none, or an option that reading them does not have.
        DataError: see `scan`.
    """
    if file.pictures is None:
        raise UsageError(
            "The study names no pictures.", 'Give them: tellapart study study.toml photos/, or pictures = "…"'
        )
    known = [name for name in inspect.signature(scan_pictures).parameters if name not in _NOT_OF_LABELS]
    for name in file.label_options:
        if name not in known:
            raise UsageError(f"label_options: there is no '{name}'.", suggest(name, known))
    return scan(file.pictures, progress, **file.label_options)


def directory_of(out: str | Path | None, file: str | Path | None, catalog: Catalog) -> Path:
    """The directory of a study: studies/NAME after its file, or after its pictures."""
    if out is not None:
        return Path(out)
    return Path("studies") / (Path(file).stem if file is not None else catalog.root.name)


def outcome(directory: Path) -> StudyOutcome:
    """A study as its directory has it."""
    from tellapart.experiments.cell_statistics import summarise
    from tellapart.experiments.study_report import table

    results = read_results(directory)
    return StudyOutcome(directory, table(summarise(results)), results.runs, directory / "study.html")
