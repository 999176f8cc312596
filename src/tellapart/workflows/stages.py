"""The caller of the training loop: it logs events, saves checkpoints, stops, and leaves out pictures that break."""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator
from contextlib import nullcontext
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tellapart.core.events import Computing, Event, Logged, LrFound, Note, Retrained, StageDone, StageStarted, Validated
from tellapart.errors import DataError, LostCacheError, UnreadableError
from tellapart.runs.run import EventLog, Run
from tellapart.runs.sessions import note_saved
from tellapart.workflows.finalize import unbroken
from tellapart.workflows.leading import same_state

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.models.network import Network
    from tellapart.recipe.schema import Recipe
    from tellapart.training.checkpoint import Checkpoints, State
    from tellapart.training.dataset import Dataset
    from tellapart.training.parallel.workers import Workers
    from tellapart.training.runtime import Runtime
    from tellapart.workflows.train import RunOptions


@dataclass(frozen=True)
class Job:
    """What is trained, on which pictures, and where. `stop` holds the number of a signal once one has come.

    With `workers`, each of several processes has a job of its own: the leader's run directory is the user's, those of
    the others are temporary.
    """

    run: Run
    recipe: Recipe
    catalog: Catalog
    split: Split
    options: RunOptions
    stop: list[int]
    workers: Workers | None = None

    @property
    def leads(self) -> bool:
        """Whether this process writes for the user: it is alone, or leads the others."""
        return self.workers is None or self.workers.leads


def train_stages(
    job: Job, network: Network, state: State, checkpoints: Checkpoints, one: bool = False
) -> Generator[Event, None, State]:
    """Train all stages from where `state` stands; with `one`, the one it stands in.

    A picture that breaks is recorded and left out, and training goes on without it from the last checkpoint. It goes
    on from there too where stored features were cut off.

    Returns:
        The state after the last of these stages.

    Raises:
        KeyboardInterrupt: a signal came; the state has been saved.
        UnreadableError: a picture broke, and such pictures are not to be skipped.
    """
    end = state.stage + 1 if one else len(job.recipe.stages)
    while state.stage < end:
        try:
            yield from _fit_and_log(job, network, state, checkpoints, end)
        except UnreadableError as error:
            skip(job, error)
            state = yield from _last_saved(job, network, checkpoints)
        except LostCacheError as error:
            yield Note(f"{error.message} It is made again, and training goes on from what was saved last.")
            state = yield from _last_saved(job, network, checkpoints)
    return state


def _fit_and_log(job: Job, network: Network, state: State, checkpoints: Checkpoints, end: int) -> Iterator[Event]:
    """Follow `fit` until so many stages are done.

    At each event: log it, save if that is due, hand it on, stop if a signal came.
    """
    from tellapart.training.fit import fit
    from tellapart.training.runtime import parse

    log = EventLog.continued(job.run.events_file, state.events)
    logged = _logged_stages(job.run)
    dataset = _dataset(job, network, state.retraining)
    started, prepared = time.monotonic(), 0.0
    with job.workers.together() if job.workers else nullcontext():
        if job.leads and not state.retraining:
            _write_previews(job, network, dataset)
    runtimes = {stage: runtime for (_, stage), runtime in logged.items()}
    for event in fit(network, job.recipe, dataset, state, parse(job.options.runtime), runtimes, job.workers):
        # A resumed stage starts once more, but stands in the log once.
        again = isinstance(event, StageStarted) and (event.retraining, event.stage) in logged
        if isinstance(event, Computing):
            prepared = time.monotonic() - started
        if isinstance(event, Logged) and not again:
            apart = {"preparation": round(prepared, 3)} if prepared else {}
            log.add(event, seconds=round(time.monotonic() - started - prepared, 3), **apart)
            started, prepared = time.monotonic(), 0.0
        state.events = log.n_lines
        save = _must_save(job, event, state, end) or checkpoints.due(
            isinstance(event, Validated | Retrained | StageDone)
        )
        if save:
            checkpoints.save(network, state)
            if job.workers and job.leads:
                note_saved(job.run)
        try:
            yield event
        except GeneratorExit:  # whoever follows has left, e.g. as its terminal was closed
            if not save:  # else both generations would be of this state
                checkpoints.save(network, state)
            raise
        if job.stop:
            raise KeyboardInterrupt
        if state.stage == end:
            return


def _logged_stages(run: Run) -> dict[tuple[bool, int], Runtime]:
    """The runtime of each stage that the log says has begun, by (whether in the retraining, number)."""
    from tellapart.training.runtime import Runtime

    names = {field.name for field in fields(Runtime)}
    return {
        (event.get("retraining", False), event["stage"]): Runtime(
            **{name: value for name, value in event["runtime"].items() if name in names}
        )
        for event in run.events()
        if event["event"] == "StageStarted"
    }


def _must_save(job: Job, event: Event, state: State, end: int) -> bool:
    """Whether a checkpoint cannot wait: before a stop, after a test that shall not be repeated, and at the end."""
    return bool(job.stop) or isinstance(event, LrFound) or state.stage == end


def _last_saved(job: Job, network: Network, checkpoints: Checkpoints) -> Generator[Event, None, State]:
    """Load network and state as they were last saved, or as the training began where nothing has been saved."""
    from tellapart.training.checkpoint import State, load_checkpoint

    state, note = State(), ""
    if job.leads and not job.run.begun:
        state = load_checkpoint(job.run.checkpoint("initial"), network)
    elif job.leads:
        state, note = checkpoints.load(network)
    if note:
        yield Note(note)
    return same_state(job.workers, network, state) if job.workers else state


def _write_previews(job: Job, network: Network, dataset: Dataset) -> None:
    """Write contact sheets and the table of layers before the first step, once in a run."""
    from tellapart.workflows.preview_images import network_table, write_sheets

    if not job.run.network_file.is_file():
        write_sheets(dataset, job.recipe, job.run.figures)
        job.run.write_json(job.run.network_file, network_table(network, job.recipe.stages[0].batch_size))


def _dataset(job: Job, network: Network, retraining: bool) -> Dataset:
    """The pictures to train and to validate on; the retraining trains on all of them."""
    from tellapart.training.dataset import Dataset

    train, validation = (unbroken(job.run, job.catalog, rows) for rows in (job.split.train, job.split.validation))
    if retraining:
        train, validation = np.sort(np.concatenate([train, validation])), validation[:0]
    for rows, part in ((train, "training"), (validation, "validation")):
        if not len(rows) and not (retraining and part == "validation"):
            raise DataError(
                f"None of the {part} pictures can be read any more: they are in {job.run.skipped_file}.",
                "Put them back and delete that file, or train on other pictures with another --out.",
            )
    recipe = job.recipe
    catalog, teacher = job.catalog, None
    if recipe.distill:
        from tellapart.workflows.lessons import read_lessons

        catalog, teacher = read_lessons(job.run, job.catalog, recipe.distill)
        more = np.arange(len(job.catalog), len(catalog))
        train = np.concatenate([train, unbroken(job.run, catalog, more)])
    return Dataset(
        catalog,
        train,
        validation,
        network.preprocessing,
        recipe.augment,
        recipe.seed,
        recipe.data.ahead,
        recipe.augment_per == "batch",
        teacher,
    )


def skip(job: Job, error: UnreadableError) -> None:
    """Record a picture that broke after the scan, so that it is left out from here on.

    Raises:
        UnreadableError: such pictures are not to be skipped.
    """
    path = path_to_skip(error, job.catalog, job.options)
    job.run.write_json(job.run.skipped_file, [*job.run.skipped, {"path": path, "reason": error.reason}])


def path_to_skip(error: UnreadableError, catalog: Catalog, options: RunOptions) -> str:
    """The path in the catalog of a picture that broke after the scan.

    Raises:
        UnreadableError: such pictures are not to be skipped.
    """
    if options.on_unreadable != "skip":
        raise UnreadableError(
            error.path,
            f"{error.reason}. It could be read when the pictures were scanned. "
            "To leave such pictures out, repeat the command with --on-unreadable skip",
        ) from error
    path = Path(error.path)
    return path.relative_to(catalog.root).as_posix() if path.is_relative_to(catalog.root) else path.as_posix()
