"""A study from its file to its page: the order of the parts, readable from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.core.files import plainly, sweep, write_text
from tellapart.core.hardware import keep_freed, limit_spinning, n_processors
from tellapart.core.signals import stop_politely
from tellapart.data.catalog import Catalog
from tellapart.errors import RecipeError, TellapartError, UsageError
from tellapart.experiments.description import SeedRange
from tellapart.experiments.designs import cells_of
from tellapart.experiments.directory import Study, begin, description_of, locked, set_state, write_study
from tellapart.experiments.execute import Bench, Hands, Team, one_by_one
from tellapart.experiments.read_study import Source
from tellapart.experiments.results import DONE, FAILED, StudyResults, read_results
from tellapart.experiments.space import Space, read_space
from tellapart.experiments.splits import StudySplits
from tellapart.experiments.study_file import StudyFile
from tellapart.experiments.tasks import PlannedTasks, Task, Tasks, first_tasks, more_tasks, result_of, undone
from tellapart.workflows.progress import ProgressSink, clock_text

if TYPE_CHECKING:
    import optuna

    from tellapart.experiments.estimate import Estimate
    from tellapart.training.runtime import Runtime

WINNER = "winner.toml"


@dataclass(frozen=True)
class StudyOptions:
    """How a study is run, besides what it is.

    Attributes:
        storage: URL of a database in which several processes or machines meet; empty: a file in the directory.
        parallel: trainings at a time.
        minutes: no training is begun after that; None: as long as it takes.
        retry_failed: do those again that failed.
        command: what continues the study.
        hands: processes elsewhere that do the trainings; None: those of this machine.
    """

    storage: str = ""
    parallel: int = 1
    minutes: float | None = None
    retry_failed: bool = False
    command: str = ""
    hands: Hands | None = None


def run_study(
    file: StudyFile, source: Source, catalog: Catalog, directory: Path, options: StudyOptions, sink: ProgressSink
) -> StudyResults:
    """Do the trainings of a study that are still to be done, and write its table and page.

    Args:
        file, source: the study, and where it was written.
        catalog: its pictures.
        directory: of the study; made, or gone on with.
        sink: shows progress.

    Raises:
        TellapartError: whatever is wrong with file, pictures, recipe, directory or storage, in plain words.
        KeyboardInterrupt: stopped by a signal; the same command goes on.
    """
    limit_spinning()
    space, splits = read_space(file, source), StudySplits(catalog, read_base(file), file.folds)
    with plainly(), locked(directory, shared=bool(options.storage)), stop_politely() as stop:
        keep_freed()
        study, notes = _begin(directory, file, space, splits, options)
        for note in notes:
            sink.note(note)
        if not options.storage:
            sweep(directory)
        planned = first_tasks(study)
        _check_cells(study, undone(study, planned, options.retry_failed), sink)
        write_study(study)
        complete = _do_all(study, planned, options, sink, stop)
        set_state(directory, "done" if complete else "open")
        results = read_results(directory)
        write_winner(study, results)
    finish(directory, sink)
    return results


def dry_run(
    file: StudyFile, source: Source, catalog: Catalog, directory: Path, options: StudyOptions, sink: ProgressSink
) -> Estimate:
    """What a study would do and take; nothing is trained, and nothing written to its directory.

    Raises:
        TellapartError: as `run_study` does before the first training.
    """
    limit_spinning()
    from tellapart.experiments.description import Description
    from tellapart.experiments.estimate import estimate
    from tellapart.experiments.train_cell import use_threads

    space, splits = read_space(file, source), StudySplits(catalog, read_base(file), file.folds)
    cells, runtime = cells_of(file, space), _runtime(file)
    use_threads(n_threads(file, options))
    description = Description(**description_of(directory, file, space, cells, splits))
    study = Study(directory, file, space, catalog, splits, cells, description)
    tasks = first_tasks(study)
    left = undone(study, tasks, options.retry_failed)
    _check_cells(study, left, sink)
    expected = estimate(tasks, left, splits, runtime, options.parallel, sink)
    if file.design == "optuna":
        n = file.budget.trials
        pace = (
            f", about {n * expected.seconds / 60:.0f} min if they take as long as the baseline"
            if expected.seconds
            else ""
        )
        return replace(expected, more=f" The search adds up to {n:,} cells{pace}.")
    if isinstance(description.seeds, SeedRange):
        most = description.seeds.last - description.seeds.first
        return replace(expected, more=f" Cells that stay undecided get up to {most} seeds more.")
    return expected


def n_threads(file: StudyFile, options: StudyOptions) -> int:
    """Threads of each training: the file's, or an even share of this machine's processors."""
    return file.threads or max(1, n_processors() // options.parallel)


def read_base(file: StudyFile) -> Any:
    """The recipe that a study changes."""
    from tellapart.recipe.load import read_recipe

    return read_recipe(file.recipe, list(file.set))[0]


def _begin(
    directory: Path, file: StudyFile, space: Space, splits: StudySplits, options: StudyOptions
) -> tuple[Study, list[str]]:
    from tellapart.training.runtime import environment

    runtime = _runtime(file)
    threads = n_threads(file, options)
    cells = cells_of(file, space)
    return begin(directory, file, space, cells, splits, environment(), runtime.as_dict(), threads, options.command)


def _runtime(file: StudyFile) -> Runtime:
    from tellapart.training.runtime import parse

    runtime = parse(file.runtime)
    if runtime is None:
        raise UsageError(
            'runtime = "auto" may choose otherwise from cell to cell: a study has one runtime.',
            'For example: runtime = "float32"',
        )
    return replace(runtime, why="the same for all trainings of the study")


def _check_cells(study: Study, tasks: list[Task], sink: ProgressSink) -> None:
    """Refuse a study with a cell that cannot be trained, before the first one is.

    Raises:
        TellapartError: with the levels of the cell.
    """
    from tellapart.experiments.train_cell import check_cell

    cells = {task.cell.id: task for task in tasks if task.seed.number == 0 and not task.fold}
    with sink.steps() as show:
        for number, task in enumerate(cells.values()):
            split = study.splits.of(task.cell.recipe, task.seed.split, task.fold)
            try:
                check_cell(task.cell.recipe, study.catalog, split, task.seed)
            except TellapartError as error:
                raise RecipeError(
                    f"The cell {levels_text(task)} cannot be trained: {error.message}", error.hint
                ) from error
            show("checking cells", number + 1, len(cells))


def _do_all(study: Study, planned: list[Task], options: StudyOptions, sink: ProgressSink, stop: list[int]) -> bool:
    """Do what is left of a plan, then what undecided cells or a search add to it. Returns whether all is done."""
    from tellapart.experiments.storage import Mirror, open_storage

    minutes = options.minutes if options.minutes is not None else study.file.budget.minutes
    deadline = time.monotonic() + 60 * minutes if minutes is not None else None
    bench = Bench.of(study, stop)
    with open_storage(study.directory, options.storage, study.description) as trials:
        crew = _Crew(study, bench, trials, options, sink, deadline, Mirror(trials, study.description))
        for task in planned if not options.storage else []:
            if (result := result_of(study, task)) and result["status"] == DONE:
                crew.mirror.add(task, result)
        crew.plan(undone(study, planned, options.retry_failed), "trainings")
        while not crew.is_over and (tasks := more_tasks(study)):
            crew.plan(tasks, "trainings of undecided cells")
        if study.description.design == "optuna" and not crew.is_over:
            crew.search()
    if crew.is_over:
        sink.say(f"The {minutes:g} minutes are over. The same command goes on.")
    return not crew.is_over


@dataclass
class _Crew:
    """Those who do trainings, and what they share."""

    study: Study
    bench: Bench
    trials: optuna.Study
    options: StudyOptions
    sink: ProgressSink
    deadline: float | None
    mirror: Any

    @property
    def is_over(self) -> bool:
        """Whether the time is over."""
        return self.deadline is not None and time.monotonic() >= self.deadline

    def plan(self, tasks: list[Task], name: str) -> None:
        """Do the trainings of a list, here or together with others."""
        from tellapart.experiments.shared_tasks import SharedTasks

        if self.options.storage:
            shared = SharedTasks(self.study, self.trials, tasks, self.sink.say)
            try:
                self._do(shared, len(tasks), name)
            finally:
                shared.close()
        elif tasks:
            self._do(PlannedTasks(tasks), len(tasks), name, mirrored=True)

    def search(self) -> None:
        """Do the trainings that Optuna asks for."""
        from tellapart.experiments.search import SearchTasks, fetch

        shared = bool(self.options.storage)
        search = SearchTasks(self.study, self.trials, shared, self.options.parallel)
        of_a_trial = len(first_tasks(replace(self.study, cells=self.study.cells[:1])))
        n_left = max(0, self.study.file.budget.trials - len(self.trials.get_trials(deepcopy=False))) + 1
        try:
            self._do(search, n_left * of_a_trial, "trainings of the search", asks=self.study.file.pruner == "halving")
        finally:
            search.close()
        if shared:
            fetch(self.study, self.trials)

    def _do(self, tasks: Tasks, total: int, name: str, asks: bool = False, mirrored: bool = False) -> None:
        with _progress(self.sink, total, name, self.options.parallel) as show:

            def ended(task: Task, result: dict[str, Any]) -> None:
                if mirrored:
                    self.mirror.add(task, result)
                if result["status"] == FAILED:
                    self.sink.note(f"{levels_text(task)}, seed {task.seed.number} failed: {result['reason']}")
                show(task, True)

            timed = _UntilTime(tasks, lambda: self.is_over)
            hands = self.options.hands or Hands(self.options.parallel)
            if self.options.hands or hands.n > 1:
                Team(self.bench, timed, hands, asks, lambda t: show(t, False), ended).work()
            else:
                one_by_one(self.bench, timed, asks, lambda t: show(t, False), ended)


@dataclass
class _UntilTime:
    """Trainings of which none is begun once the time is over."""

    tasks: Tasks
    is_over: Any

    def next(self) -> Task | None:
        """The next one, if there is time."""
        return None if self.is_over() else self.tasks.next()

    def goes_on(self, task: Task, epoch: int, score: float) -> bool:
        """As `tasks` says."""
        return self.tasks.goes_on(task, epoch, score)

    def ended(self, task: Task, result: dict[str, Any]) -> None:
        """As `tasks` does."""
        self.tasks.ended(task, result)


@contextmanager
def _progress(sink: ProgressSink, total: int, name: str, parallel: int) -> Iterator[Any]:
    """One line for the whole study: how many trainings are done, and the time that is left."""
    start, done = time.monotonic(), 0
    with sink.steps() as show:

        def tell(task: Task, has_ended: bool) -> None:
            nonlocal done
            done += has_ended
            left = (time.monotonic() - start) / done * (total - done) if done else 0.0
            pace = f", about {clock_text(left)} left" if done and left > 0 else ""
            show(f"{name}{pace}; {levels_text(task)}, seed {task.seed.number}", done, max(total, done))

        yield tell


def levels_text(task: Task) -> str:
    """The levels of a training's cell, in words."""
    return ", ".join(f"{name} = {label}" for name, label in task.cell.levels.items()) or "the recipe as it is"


def best_cell(results: StudyResults) -> str | None:
    """The cell with the best mean of the first objective, of those with most seeds; None where none has a score."""
    import polars as pl

    scored = results.runs.filter(pl.col("score").is_not_null())
    if scored.is_empty():
        return None
    cells = scored.group_by("cell", "number").agg(pl.col("score").mean(), pl.len().alias("n"))
    # A cell that was given up after a lucky first seed is none to choose.
    most = max(cells["n"].to_list())
    whole = cells.filter(pl.col("n") >= min(most, n_expected(results)))
    lowest = results.description.objective.direction == "minimize"
    ranked = whole.sort("score", "number", descending=[not lowest, False])
    return str(ranked["cell"][0])


def n_expected(results: StudyResults) -> int:
    """Number of trainings that every cell was to have."""
    from tellapart.experiments.seeds import n_first

    return n_first(results.description) * max(1, results.description.folds)


def write_winner(study: Study, results: StudyResults) -> None:
    """Write the recipe of the best cell: for `train --recipe`, and for the next study."""
    cell = best_cell(results)
    if cell is None:
        return
    recipe = (study.directory / "cells" / cell / "recipe.toml").read_text(encoding="utf-8")
    levels = ", ".join(f"{name} = {label}" for name, label in results.levels(cell).items())
    head = (
        f"# The best cell of the study {study.directory.name} on validation: {levels or 'the recipe as it is'}.\n"
        "#\n#     tellapart train PICTURES --recipe winner.toml\n\n"
    )
    write_text(study.directory / WINNER, f"{head}{recipe}")


def finish(directory: Path, sink: ProgressSink, paper: bool = True) -> Path:
    """Write table, page and paper pack of a study as it stands. Returns the page's path."""
    from tellapart.experiments.study_report import write_report

    with sink.steps() as show:
        show("table and page", 0, 1)
        return write_report(directory, paper)
