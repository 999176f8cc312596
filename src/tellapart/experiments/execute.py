"""Doing the trainings of a study: one after the other in this process, or several at a time in others."""

from __future__ import annotations

import errno
import json
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol

from tellapart.core.events import Validated
from tellapart.core.files import trouble
from tellapart.data.catalog import Catalog
from tellapart.errors import RunError, TellapartError
from tellapart.experiments.description import Description
from tellapart.experiments.directory import CATALOG, STUDY_FILE, Study
from tellapart.experiments.results import (
    FAILED,
    STOPPED,
    read_description,
    training_folder,
    write_training,
)
from tellapart.experiments.splits import StudySplits
from tellapart.experiments.tasks import Task, Tasks

if TYPE_CHECKING:
    from tellapart.experiments.train_cell import Trained

#: Says after an epoch, given its number and score, whether a training goes on.
GoesOn = Callable[[int, float], bool]
#: Called when a training has ended.
Ended = Callable[[Task, dict[str, Any]], None]
#: Errors of one training, which leave the others as they are.
_OF_A_TRAINING = (TellapartError, RuntimeError, MemoryError, ArithmeticError, ValueError, IndexError)


@dataclass
class Bench:
    """Where trainings of a study are done: its pictures, and how they are run.

    Attributes:
        stop: holds a signal's number once one has come.
    """

    directory: Path
    description: Description
    catalog: Catalog
    splits: StudySplits
    stop: list[int]

    @classmethod
    def of(cls, study: Study, stop: list[int]) -> Bench:
        """That of a study under way."""
        bench = cls(study.directory, study.description, study.catalog, study.splits, stop)
        bench._set_threads()
        return bench

    @classmethod
    def open(cls, directory: Path) -> Bench:
        """That of a study's directory, for a process of its own."""
        from tellapart.experiments.read_study import read_study
        from tellapart.recipe.load import read_recipe

        file, _ = read_study(directory / STUDY_FILE)
        catalog = Catalog.load(directory / CATALOG)
        recipe, _ = read_recipe(file.recipe, list(file.set))
        bench = cls(directory, read_description(directory), catalog, StudySplits(catalog, recipe, file.folds), [])
        bench._set_threads()
        return bench

    def _set_threads(self) -> None:
        from tellapart.experiments.train_cell import use_threads

        use_threads(self.description.threads)

    def do(self, task: Task, goes_on: GoesOn | None = None) -> dict[str, Any]:
        """Do one training and write its files; one that fails leaves its reason.

        Raises:
            RunError: the disk is full, or the files cannot be written: no other training could be stored either.
            KeyboardInterrupt: a signal came.
        """
        folder = training_folder(self.directory, task.cell.id, task.seed.number, task.fold)
        try:
            trained = self._train(task, goes_on)
        except _OF_A_TRAINING as error:
            return self._left(folder, task, FAILED, _reason(error))
        except OSError as error:
            raise trouble(error) from error
        if isinstance(trained, str):
            return self._left(folder, task, STOPPED, trained)
        try:
            write_training(folder, trained.result, trained.curve, trained.predictions)
        except OSError as error:
            raise trouble(error) from error
        return trained.result

    def _train(self, task: Task, goes_on: GoesOn | None) -> Trained | str:
        """The training; a sentence where it was given up."""
        from tellapart.experiments.train_cell import train_cell
        from tellapart.training.runtime import Runtime

        split = self.splits.of(task.cell.recipe, task.seed.split, task.fold)
        runtime = Runtime(**self.description.runtime)
        training = train_cell(task.cell.recipe, self.catalog, split, task.seed, task.fold, runtime)
        higher = self.description.objective.direction == "maximize"
        epoch = 0
        while True:
            try:
                event = next(training)
            except StopIteration as end:
                trained: Trained = end.value
                return trained
            if self.stop:
                raise KeyboardInterrupt
            if isinstance(event, Validated) and goes_on:
                epoch += 1
                if not goes_on(epoch, event.validation_accuracy if higher else event.validation_loss):
                    training.close()
                    return f"given up after epoch {epoch}: others were better by then"

    def _left(self, folder: Path, task: Task, status: str, reason: str) -> dict[str, Any]:
        result = unfinished(task, status, reason)
        try:
            write_training(folder, result)
        except OSError as error:
            raise trouble(error) from error
        return result


def unfinished(task: Task, status: str, reason: str) -> dict[str, Any]:
    """The result of a training that gave no network."""
    seed = task.seed
    seeds = {"seed": seed.number, "split_seed": seed.split, "init_seed": seed.init, "order_seed": seed.order}
    return {"status": status, "reason": reason, **seeds, "fold": task.fold, "scores": {}}


def _reason(error: BaseException) -> str:
    if isinstance(error, TellapartError):
        return error.message
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:500]}"


def one_by_one(bench: Bench, tasks: Tasks, asks: bool, begins: Callable[[Task], None], ended: Ended) -> None:
    """Do trainings in this process, until there are no more.

    Args:
        asks: whether `tasks` is asked after each epoch.
        begins, ended: called around each.
    """
    while (task := tasks.next()) is not None:
        begins(task)
        current = task

        def goes_on(epoch: int, score: float, current: Task = current) -> bool:
            return tasks.goes_on(current, epoch, score)

        result = bench.do(task, goes_on if asks else None)
        tasks.ended(task, result)
        ended(task, result)


class Hand(Protocol):
    """Another process that does trainings, see `worker`; here or on another machine."""

    def exchange(self, line: str) -> str:
        """Give it a line, and take the line that it answers; "" where it died."""

    def finish(self) -> None:
        """It gets nothing more to do."""

    def kill(self) -> None:
        """End it at once."""

    def death(self) -> str:
        """A sentence on why it ended."""


class LocalHand:
    """A process on this machine."""

    def __init__(self, directory: Path) -> None:
        command = [sys.executable, "-m", "tellapart.experiments.worker", str(directory)]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, encoding="utf-8")

    def exchange(self, line: str) -> str:
        """Give it a line, and take the line that it answers; "" where it died."""
        assert self._process.stdin
        assert self._process.stdout
        return self._process.stdout.readline() if _send(self._process.stdin, line) else ""

    def finish(self) -> None:
        """Close its input, at whose end it ends."""
        assert self._process.stdin
        self._process.stdin.close()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def death(self) -> str:
        """A sentence on why it ended."""
        return _death(self._process.wait())


@dataclass(frozen=True)
class Hands:
    """How a team gets its processes.

    Attributes:
        n: how many work at a time.
        hire: starts one for a study's directory.
        n_tries: how often a training is given to one, where those before died over it.
    """

    n: int
    hire: Callable[[Path], Hand] = LocalHand
    n_tries: int = 1


class Team:
    """Several processes that do trainings, each led by a thread; everything that is shared is done under one lock."""

    def __init__(
        self, bench: Bench, tasks: Tasks, hands: Hands, asks: bool, begins: Callable[[Task], None], ended: Ended
    ) -> None:
        self._bench, self._tasks, self._hands, self._asks = bench, tasks, hands, asks
        self._begins, self._ended = begins, ended
        self._lock = threading.Lock()
        self._leading: dict[str, threading.Event] = {}
        self._errors: list[BaseException] = []
        self._busy = 0
        self._over = False
        self._hired: list[Hand] = []
        self._threads = [threading.Thread(target=self._lead, daemon=True) for _ in range(hands.n)]

    def work(self) -> None:
        """Do all trainings.

        Raises:
            KeyboardInterrupt: a signal came.
            TellapartError: trainings can no longer be stored.
        """
        for thread in self._threads:
            thread.start()
        try:
            for thread in self._threads:
                while thread.is_alive():
                    thread.join(0.2)
                    if self._bench.stop:
                        raise KeyboardInterrupt
        finally:
            self._end()
        if self._errors:
            raise self._errors[0]

    def _end(self) -> None:
        """End the processes. What they were at is not failed: the same command does it."""
        self._over = True
        for hand in self._hired:
            hand.kill()

    def _lead(self) -> None:
        """Give tasks to one process until there are none; a process that died is replaced."""
        try:
            hand = self._hire()
            while (task := self._next()) is not None:
                with self._after_its_leader(task):
                    for _ in range(self._hands.n_tries):
                        result = self._give(hand, task)
                        if result is not None or self._over:
                            break
                        reason, hand = hand.death(), self._hire()
                if result is None and self._over:
                    return
                if result is None:
                    folder = training_folder(self._bench.directory, task.cell.id, task.seed.number, task.fold)
                    result = self._bench._left(folder, task, FAILED, reason)
                with self._lock:
                    self._busy -= 1
                    self._tasks.ended(task, result)
                    self._ended(task, result)
            hand.finish()
        except Exception as error:  # noqa: BLE001 - raised again by the thread that waits
            self._errors.append(error)
            self._end()

    def _next(self) -> Task | None:
        """A task; where none is there yet, but others may bring some, wait for them."""
        while True:
            with self._lock:
                if self._errors or self._bench.stop:
                    return None
                task = self._tasks.next()
                if task is not None:
                    self._busy += 1
                    self._begins(task)
                    return task
                if not self._busy:
                    return None
            threading.Event().wait(0.1)

    def _after_its_leader(self, task: Task) -> _Turn:
        """Of trainings that begin from the same stored features, the first goes alone, so that each is made once."""
        with self._lock:
            group = shares(task)
            first = group not in self._leading
            event = self._leading.setdefault(group, threading.Event())
        return _Turn(event, first or not group)

    def _hire(self) -> Hand:
        hand = self._hands.hire(self._bench.directory)
        self._hired.append(hand)
        return hand

    def _give(self, hand: Hand, task: Task) -> dict[str, Any] | None:
        """The result of a task; None where the process died over it."""
        values = {
            "cell": task.cell.id,
            "levels": task.cell.levels,
            "changes": task.cell.changes,
            "recipe": task.cell.recipe.model_dump_json(),
            "number": task.number,
            "seed": [task.seed.number, task.seed.split, task.seed.init, task.seed.order],
            "fold": task.fold,
            "asks": self._asks,
        }
        line = hand.exchange(json.dumps(values))
        while line:
            answer = json.loads(line)
            if "error" in answer:
                raise RunError(*answer["error"])
            if "result" in answer:
                result: dict[str, Any] = answer["result"]
                return result
            with self._lock:
                goes_on = self._tasks.goes_on(task, answer["epoch"], answer["score"])
            line = hand.exchange(json.dumps({"goes_on": goes_on}))
        return None


@dataclass
class _Turn:
    """A place behind the first training of a group."""

    event: threading.Event
    first: bool

    def __enter__(self) -> None:
        if not self.first:
            self.event.wait()

    def __exit__(self, *_: object) -> None:
        self.event.set()


def _send(pipe: IO[str], line: str) -> bool:
    try:
        pipe.write(line + "\n")
        pipe.flush()
    except OSError as error:
        if error.errno in (errno.EPIPE, errno.EINVAL):
            return False
        raise
    return True


def _death(code: int) -> str:
    if code < 0:
        more = ", as the system does where memory runs out" if code == -9 else ""
        return f"Its process was ended by signal {-code}{more}."
    return f"Its process ended with exit code {code}."


def shares(task: Task) -> str:
    """What tells the stored features that a training begins from; empty where it has none."""
    recipe = task.cell.recipe
    frozen = [stage for stage in recipe.stages if stage.train != "all" and (stage.views or not recipe.augment)]
    if not frozen:
        return ""
    values = recipe.model_dump(mode="json", include={"data", "model"})
    parts = [(stage.train, stage.size, stage.model_dump(mode="json")["views"]) for stage in frozen]
    seed = 0 if recipe.model.pretrained else task.seed.init
    return json.dumps([values, parts, seed])
