"""A run directory: the only state that the parts of Tellapart share."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from functools import cached_property
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.core.bundle_description import DESCRIPTION
from tellapart.core.events import Logged
from tellapart.core.files import naming, write_text
from tellapart.core.notebook import html_table
from tellapart.core.old_names import current_event
from tellapart.core.plain_json import parse_json
from tellapart.core.predictions import Predictions
from tellapart.core.scores import Evaluation
from tellapart.core.several_runs import AVERAGE, describe_several
from tellapart.core.text import visible
from tellapart.errors import RunError

if TYPE_CHECKING:
    import polars as pl

    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.recipe.schema import Recipe


#: Below a student's run: the same student, trained on the labels alone.
ALONE = "labels-alone"
_BEGIN_AGAIN = "Delete the folder 'checkpoints' to begin this training again from the start."


@dataclass(frozen=True)
class Run:
    """A training on disk. Everything below is a file or folder in `directory`.

    Reading a part that is not there yet is a `RunError` that says so.
    """

    directory: Path

    @property
    def recipe_file(self) -> Path:
        return self.directory / "recipe.toml"

    @property
    def catalog_file(self) -> Path:
        return self.directory / "catalog.parquet"

    @property
    def split_file(self) -> Path:
        return self.directory / "split.json"

    @property
    def events_file(self) -> Path:
        return self.directory / "events.jsonl"

    @property
    def environment_file(self) -> Path:
        return self.directory / "environment.json"

    @property
    def evaluation_file(self) -> Path:
        return self.directory / "evaluation.json"

    @property
    def network_file(self) -> Path:
        """The network layer by layer, see `preview_images.network_table`."""
        return self.directory / "network.json"

    @property
    def skipped_file(self) -> Path:
        return self.directory / "skipped.json"

    @property
    def teacher_file(self) -> Path:
        """A teacher's calibrated answers to the pictures that a student learns from, as `Predictions`."""
        return self.directory / "teacher.parquet"

    @property
    def unlabelled_file(self) -> Path:
        """The catalog of further pictures that only the teacher has answered."""
        return self.directory / "unlabelled.parquet"

    @property
    def distillation_file(self) -> Path:
        return self.directory / "distillation.json"

    @property
    def distillation(self) -> dict[str, Any] | None:
        """Who taught this run, and what came of it, as `DistillationFile` has it; None where nobody did."""
        if not self.distillation_file.is_file():
            return None
        from tellapart.runs.json_files import DistillationFile, read_checked

        values: dict[str, Any] = read_checked(self.distillation_file, DistillationFile)
        return values

    @property
    def workers_file(self) -> Path:
        return self.directory / "workers.json"

    @property
    def plan_file(self) -> Path:
        return self.directory / "plan.json"

    @property
    def plan(self) -> dict[str, Any] | None:
        """What a plan announced and what came of it, as `training.planning.ledger` writes it; None without a plan."""
        if not self.plan_file.is_file():
            return None
        from tellapart.runs.json_files import read_checked
        from tellapart.runs.plan_file import PlanFile

        values: dict[str, Any] = read_checked(self.plan_file, PlanFile)
        return values

    @property
    def skipped(self) -> list[dict[str, str]]:
        """Pictures that broke after the scan and were left out on request: "path" and "reason" of each."""
        if not self.skipped_file.is_file():
            return []
        from tellapart.runs.json_files import SkippedFile, read_checked

        entries: list[dict[str, str]] = read_checked(self.skipped_file, SkippedFile)
        return entries

    @property
    def report(self) -> Path:
        return self.directory / "report.html"

    @property
    def figures(self) -> Path:
        return self.directory / "figures"

    @property
    def bundle(self) -> Path:
        return self.directory / "bundle"

    def checkpoint(self, name: str) -> Path:
        """Where a checkpoint lies.

        Args:
            name: "initial": as the training began. "last", "previous": where it stands. "best": the network that
                answers. "validated": where it was trained again on everything, what was validated before it.
        """
        return self.directory / "checkpoints" / f"{name}.safetensors"

    def predictions_file(self, on: str) -> Path:
        """Where the predictions on the "validation" or "test" pictures lie."""
        return self.directory / "predictions" / f"{on}.parquet"

    @property
    def started(self) -> bool:
        """Whether a training has been set up here: its recipe is written last."""
        return self.recipe_file.is_file()

    @property
    def is_average(self) -> bool:
        """Whether it holds the mean of several runs' answers, which are read as those of a run."""
        return (self.directory / AVERAGE).is_file()

    @property
    def begun(self) -> bool:
        """Whether there is a training to go on with: something has been trained and saved."""
        return self.started and any(self.checkpoint(name).is_file() for name in ("last", "previous"))

    @property
    def finished(self) -> bool:
        """Whether all files of a finished training are there, the report last. One that is lost is made again."""
        made = (self.report, self.evaluation_file, self.predictions_file("validation"), self.bundle / DESCRIPTION)
        return all(path.is_file() for path in made)

    @cached_property
    def recipe(self) -> Recipe:
        from tellapart.recipe.load import read_recipe

        self.need(self.recipe_file)
        recipe, _ = read_recipe(self.recipe_file)  # the user does not write this file: its old keys need no word
        return recipe

    @cached_property
    def catalog(self) -> Catalog:
        from tellapart.data.catalog import Catalog

        self.need(self.catalog_file)
        return Catalog.load(self.catalog_file)

    @cached_property
    def split(self) -> Split:
        from tellapart.data.splitting.split import Split

        self.need(self.split_file)
        return Split.load(self.split_file)

    @property
    def environment(self) -> dict[str, Any]:
        from tellapart.runs.json_files import Environment, read_checked

        self.need(self.environment_file)
        values: dict[str, Any] = read_checked(self.environment_file, Environment, as_written=True)
        return values

    @property
    def evaluations(self) -> dict[str, Evaluation]:
        """By the name of what was evaluated: "test", "validation"."""
        return {name: Evaluation.from_dict(value) for name, value in self.evaluation_values["evaluations"].items()}

    @property
    def evaluation_values(self) -> dict[str, Any]:
        """evaluation.json as plain values: "temperature", "thresholds" (None with one label), "evaluations" …"""
        from tellapart.runs.json_files import EvaluationFile, read_checked

        self.need(self.evaluation_file)
        values: dict[str, Any] = read_checked(self.evaluation_file, EvaluationFile)
        return values

    def predictions(self, on: str) -> Predictions:
        """The network's predictions for the "validation" or "test" pictures."""
        self.need(self.predictions_file(on))
        return Predictions.load(self.predictions_file(on))

    def predictions_table(self, on: str) -> pl.DataFrame:
        """The answers to the "validation" or "test" pictures with their files: see `predictions_table`."""
        from tellapart.runs.predictions_table import predictions_table

        return predictions_table(self, on)

    def _repr_html_(self) -> str:
        """What a notebook shows: the scores of a finished run, and where its report lies."""
        if not self.finished:
            return html_table(f"{self.directory}: a training that has not finished", [], [])
        scores = next(iter(self.evaluations.values()))._repr_html_()
        address = escape(self.report.absolute().as_uri(), quote=True)
        return f"{scores}<p><a href='{address}'>{escape(visible(str(self.report)))}</a></p>"

    def events(self) -> list[dict[str, Any]]:
        """The event log, one dictionary a line; a last line that was cut off by a kill is left out."""
        if not self.events_file.is_file():
            return []
        lines = enumerate(_whole_lines(self.events_file), start=1)
        return [_event(self.events_file, number, line) for number, line in lines]

    def write_json(self, path: Path, values: Any) -> None:
        """Write plain values, whole or not at all."""
        write_text(path, json.dumps(values, indent=1, ensure_ascii=False) + "\n")

    def need(self, path: Path) -> None:
        """Refuse to go on without a file of the run.

        Raises:
            RunError: it is not there; says what the directory is instead, or what to do.
        """
        if path.is_file():
            return
        if several := describe_several(self.directory):
            raise RunError(*several)
        if not self.started:
            raise RunError(
                f"{self.directory} is not a run directory: it has no recipe.toml.",
                "Give the folder that `tellapart train … --out FOLDER` wrote.",
            )
        if self.begun and path in (self.catalog_file, self.split_file, self.environment_file):
            raise RunError(
                f"{self.directory} has lost {path.name}, without which its training cannot go on.",
                "Put that file back, or train again with another --out.",
            )
        raise RunError(
            f"{self.directory} has no {path.relative_to(self.directory)} yet: its training has not finished.",
            "Run the same `tellapart train` command again to go on.",
        )


def _whole_lines(path: Path) -> list[str]:
    """The lines of a log; a last one that was cut off by a kill is left out."""
    try:
        return path.read_text(encoding="utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        raise RunError(f"{path} is damaged: {error}.", _BEGIN_AGAIN) from error


def _event(path: Path, number: int, line: str) -> dict[str, Any]:
    from tellapart.runs.event_values import check_event

    try:
        event = parse_json(line)
    except ValueError as error:
        raise RunError(f"{path} is damaged in line {number}: {error}.", _BEGIN_AGAIN) from error
    if not isinstance(event, dict) or not isinstance(event.get("event"), str):
        raise RunError(f"{path} is damaged in line {number}: this is no event.", _BEGIN_AGAIN)
    event = current_event(event)
    try:
        check_event(event)
    except ValueError as error:
        raise RunError(f"{path} is damaged in line {number}: {error}.", _BEGIN_AGAIN) from error
    return event


@dataclass
class EventLog:
    """events.jsonl: one line an event. Times stand beside the event's own values, which repeat exactly."""

    path: Path
    n_lines: int

    @classmethod
    def continued(cls, path: Path, n_lines: int) -> EventLog:
        """Open a log and drop what lies beyond its first `n_lines`: events after the last checkpoint happen again."""
        lines = _whole_lines(path) if path.is_file() else []
        if len(lines) < n_lines:
            raise RunError(f"{path} has {len(lines)} lines, but the checkpoint was made after {n_lines}.", _BEGIN_AGAIN)
        for number, line in enumerate(lines[:n_lines], start=1):
            _event(path, number, line)
        text = "".join(line + "\n" for line in lines[:n_lines])
        # The size differs also where the last line was cut off by a kill.
        if not path.is_file() or path.stat().st_size != len(text.encode()):
            write_text(path, text)
        return cls(path, n_lines)

    def add(self, event: Logged, **beside: Any) -> None:
        """Append one event."""
        line = json.dumps({"event": type(event).__name__, **asdict(event), **beside})
        with naming(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            file.flush()
            os.fsync(file.fileno())
        self.n_lines += 1


@contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a run directory for this process alone.

    The lock belongs to the operating system, so one of a dead process does not last.

    Raises:
        RunError: another process holds it; the message has its number.
    """
    path = directory / ".lock"
    try:
        directory.mkdir(parents=True, exist_ok=True)
        opened = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise RunError(f"{directory} cannot be written to: {error.strerror}.", "Choose another --out.") from error
    with opened as file:
        if not _try_lock(file.fileno()):
            file.seek(0)
            raise RunError(
                f"{directory} is in use by another process (number {file.read().strip() or 'unknown'}).",
                "Wait until it has finished, stop it, or choose another --out.",
            )
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _try_lock(handle: int) -> bool:
    try:
        import fcntl
    except ImportError:  # Windows has no fcntl; msvcrt locks the first byte instead
        import msvcrt

        try:
            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
