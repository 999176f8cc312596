"""The trainings of a study that are still to be done, and the order in which they are."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from tellapart.experiments.description import SeedRange
from tellapart.experiments.directory import Study
from tellapart.experiments.results import FAILED, RESULT, StudyResults, read_results, read_values, training_folder
from tellapart.experiments.seeds import Seed, n_first, seeds_of
from tellapart.experiments.space import Cell


@dataclass(frozen=True)
class Task:
    """One training: a cell with a seed, and with a fold where there are any. `number` is that of the cell."""

    cell: Cell
    number: int
    seed: Seed
    fold: int | None

    @property
    def name(self) -> str:
        """Its folder below the cells: unique in a study."""
        return f"{self.cell.id}/{self.seed.number}" + ("" if self.fold is None else f"_fold{self.fold}")


class Tasks(Protocol):
    """Where the runner gets its trainings from. It is called by one thread at a time."""

    def next(self) -> Task | None:
        """A training to begin now; None: there is none."""

    def goes_on(self, task: Task, epoch: int, score: float) -> bool:
        """Whether a training that scored this after an epoch is worth its next one."""

    def ended(self, task: Task, result: dict[str, Any]) -> None:
        """A training has ended, and its files are written."""


class PlannedTasks:
    """Trainings of a list, one after the other."""

    def __init__(self, tasks: Iterable[Task]) -> None:
        self._left = deque(tasks)

    def next(self) -> Task | None:
        """The next of the list."""
        return self._left.popleft() if self._left else None

    def goes_on(self, task: Task, epoch: int, score: float) -> bool:
        """Always: all cells of a plan are compared."""
        return True

    def ended(self, task: Task, result: dict[str, Any]) -> None:
        """Nothing depends on it."""


def tasks_of(study: Study, cell: Cell, number: int, seed: Seed) -> list[Task]:
    """The trainings of a cell with one seed: one a fold."""
    folds: Sequence[int | None] = range(study.description.folds) if study.description.folds else (None,)
    return [Task(cell, number, seed, fold) for fold in folds]


def first_tasks(study: Study) -> list[Task]:
    """The trainings that every cell of the design has, seed by seed, so that an early end leaves all cells alike."""
    seeds = itertools.islice(seeds_of(study.description, study.space.base.seed), n_first(study.description))
    return [
        task
        for seed in seeds
        for number, cell in enumerate(study.cells)
        for task in tasks_of(study, cell, number, seed)
    ]


def more_tasks(study: Study) -> list[Task]:
    """Trainings of undecided cells with one seed more; none where all are decided or have the most.

    The rounds are decided anew from their beginning, each from the results that it had. So a study that was stopped
    goes the way of an unbroken one.
    """
    seeds = study.description.seeds
    if not isinstance(seeds, SeedRange):
        return []
    from tellapart.experiments.cell_statistics import summarise, undecided

    results = read_results(study.directory)
    by_id = {cell.id: (number, cell) for number, cell in enumerate(study.cells)}
    for seed in itertools.islice(seeds_of(study.description, study.space.base.seed), seeds.first, seeds.last):
        ids = undecided(summarise(_before(results, seed.number)))
        if not ids:
            return []
        wanted = [study.description.baseline, *(cell for cell in ids if cell != study.description.baseline)]
        tasks = [
            task for cell in wanted if cell in by_id for task in tasks_of(study, by_id[cell][1], by_id[cell][0], seed)
        ]
        if left := undone(study, tasks):
            return left
    return []


def _before(results: StudyResults, seed: int) -> StudyResults:
    """The results that there were before a seed was trained."""
    return StudyResults(results.directory, results.description, results.runs.filter(results.runs["seed"] < seed))


def undone(study: Study, tasks: Iterable[Task], retry_failed: bool = False) -> list[Task]:
    """Those of some trainings that have not ended; with `retry_failed`, those that failed too."""
    return [task for task in tasks if not _ended(study, task, retry_failed)]


def _ended(study: Study, task: Task, retry_failed: bool) -> bool:
    result = result_of(study, task)
    return result is not None and not (retry_failed and result["status"] == FAILED)


def result_of(study: Study, task: Task) -> dict[str, Any] | None:
    """What a training left; None where it has not ended."""
    path = training_folder(study.directory, task.cell.id, task.seed.number, task.fold) / RESULT
    return read_values(path, "status", "scores") if path.is_file() else None
