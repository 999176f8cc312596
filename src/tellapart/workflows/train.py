"""From pictures to a report: the order of the parts, readable from top to bottom."""

from __future__ import annotations

import os
import shlex
import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tellapart.core.events import Event, Logged, LrFound, Note, Retrained, StageDone, StageStarted, Validated
from tellapart.core.files import plainly, sweep
from tellapart.core.signals import stop_politely
from tellapart.core.system import give_back, keep_freed
from tellapart.errors import DataError, MissingExtraError, UnreadableError
from tellapart.runs.run import EventLog, Run, locked
from tellapart.workflows.finalize import check_judgement, conclude, unbroken

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.models.network import Network
    from tellapart.recipe.schema import Recipe
    from tellapart.training.checkpoint import Checkpoints, State
    from tellapart.training.dataset import Dataset
    from tellapart.workflows.progress import Console

# Threads of torch that wait for each other spin by default; where other programs use the processors too, that makes a
# training many times slower. Spinning briefly costs little on a quiet machine. Read when torch is loaded: later.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

Rows = npt.NDArray[np.int64]


@dataclass(frozen=True)
class RunOptions:
    """What the user asked for besides the recipe.

    Attributes:
        on_unreadable: "error" stops at a picture that breaks after the scan; "skip" leaves it out and records it.
        runtime: as `runtime.parse` reads it.
        command: what repeats this training, for the report.
        resume_anyway: go on although versions, pictures or what the recipe says of later stages have changed.
        corrections: what `mending.Mended.record` says of corrections that were applied to the pictures.
    """

    on_unreadable: str = "error"
    runtime: str = "auto"
    command: str = ""
    resume_anyway: bool = False
    corrections: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class _Job:
    """One call of `run`: what is trained on what, where, how; `stop` holds a signal once one has come."""

    run: Run
    recipe: Recipe
    catalog: Catalog
    split: Split
    run_options: RunOptions
    stop: list[int]


def run(recipe: Recipe, catalog: Catalog, split: Split, out: Path, run_options: RunOptions) -> Iterator[Event]:
    """Train, evaluate, bundle and report, or go on where an earlier call was stopped. A finished run is left alone.

    Args:
        recipe: what is trained, and how.
        catalog, split: the pictures.
        out: the run directory.
        wishes: see `RunOptions`.

    Yields:
        Every event, for whoever shows progress.

    Raises:
        RunError: the directory is in use, damaged, holds other things, or was begun with other pictures, another
            division of them or another recipe; or something cannot be written.
        RecipeError: the recipe judges several labels, and the pictures have one each.
        KeyboardInterrupt: stopped by a signal, after the state was saved.
    """
    from tellapart.runs.resume import begin, check_run_directory, restore_plan
    from tellapart.training.runtime import environment, parse

    _need_train_extra()
    parse(run_options.runtime)  # a mistake in it shows before anything is written
    check_judgement(recipe, catalog)
    training = Run(out)
    check_run_directory(training)
    with plainly(), locked(out), stop_politely() as stop:
        keep_freed()
        skip = run_options.on_unreadable == "skip"
        about = {"command": run_options.command, **environment()}
        about |= {"corrections": run_options.corrections} if run_options.corrections else {}
        if recipe.plan and not recipe.plan.why:
            begun = training.begun
            recipe = (
                restore_plan(training, recipe)
                if begun
                else (yield from _make_plan(recipe, catalog, split, run_options))
            )
        catalog, split, changed = begin(training, recipe, catalog, split, about, skip, run_options.resume_anyway)
        yield from map(Note, changed)
        if training.finished:
            return
        sweep(out)
        job = _Job(training, recipe, catalog, split, run_options, stop)
        network, state, checkpoints = yield from _network(job)
        yield from _train(job, network, state, checkpoints)
        give_back()
        yield from _finish(job, network)


def _make_plan(
    recipe: Recipe, catalog: Catalog, split: Split, run_options: RunOptions
) -> Generator[Event, None, Recipe]:
    """The recipe with nothing left open; a picture that broke after the scan is passed over, if that was asked for."""
    from tellapart.training.auto_plan import plan

    while True:
        try:
            return (yield from plan(recipe, catalog, split))
        except UnreadableError as error:
            path = _to_skip(error, catalog, run_options)
            split = replace(split, train=split.train[catalog.table["path"].gather(split.train).to_numpy() != path])
            yield Note(f"{path} can no longer be read: networks are tried without it.")


def _network(job: _Job) -> Generator[Event, None, tuple[Network, State, Checkpoints]]:
    """The network, where its training stands, and what keeps both; its initial weights are kept."""
    import torch

    from tellapart.models.create import create_network
    from tellapart.training.checkpoint import Checkpoints, State, save_checkpoint

    run, recipe = job.run, job.recipe
    torch.manual_seed(recipe.seed)
    network = create_network(recipe.model, len(job.catalog.classes), recipe.data)
    checkpoints = Checkpoints(run.checkpoint("last"), run.checkpoint("previous"))
    if run.begun:
        state, note = checkpoints.load(network)
        if note:
            yield Note(note)
        return network, state, checkpoints
    answers, last = network.preprocessing.height, recipe.stages[-1].size
    if last not in (None, answers):
        yield Note(
            f"The last stage trains at {last} pixels, and the classifier will answer at {answers}, which may cost it "
            f"much of what it learnt. With data.size = {last} both are the same."
        )
    save_checkpoint(run.checkpoint("initial"), network, State())
    run.write_json(run.environment_file, {**run.environment, "weights": network.weights_source})
    return network, State(), checkpoints


def _train(job: _Job, network: Network, state: State, checkpoints: Checkpoints) -> Iterator[Event]:
    """All stages; then, if asked for, all of them once more on everything, from the same initial weights."""
    from tellapart.training.checkpoint import load_checkpoint, save_checkpoint

    run, recipe = job.run, job.recipe
    if not state.retraining:
        state = yield from _stages(job, network, state, checkpoints)
        save_checkpoint(run.checkpoint("validated" if recipe.retrain else "best"), network, state)
        if not recipe.retrain:
            return
        load_checkpoint(run.checkpoint("initial"), network)
        state = state.for_retraining()
        checkpoints.save(network, state)
    state = yield from _stages(job, network, state, checkpoints)
    save_checkpoint(run.checkpoint("best"), network, state)


def _stages(job: _Job, network: Network, state: State, checkpoints: Checkpoints) -> Generator[Event, None, State]:
    """The training loop's caller: log, checkpoints, stopping, pictures that broke. Gives where the training stands."""
    from tellapart.training.checkpoint import load_checkpoint
    from tellapart.training.fit import fit
    from tellapart.training.runtime import Runtime, parse

    run, recipe = job.run, job.recipe
    log = EventLog.continued(run.events_file, state.events)
    while state.stage < len(recipe.stages):
        begun = {(e.get("retraining", False), e["stage"]): e for e in run.events() if e["event"] == "StageStarted"}
        known = {stage: Runtime(**event["runtime"]) for (_, stage), event in begun.items()}
        dataset = _dataset(job, network, state.retraining)
        started = time.monotonic()
        try:
            if not state.retraining:
                _look(run, network, recipe, dataset)
            for event in fit(network, recipe, dataset, state, parse(job.run_options.runtime), known):
                if isinstance(event, StageStarted) and (event.retraining, event.stage) in begun:
                    pass
                elif isinstance(event, Logged):
                    log.add(event, seconds=round(time.monotonic() - started, 3))
                    started = time.monotonic()
                state.events = log.n_lines
                must = job.stop or isinstance(event, LrFound) or state.stage == len(recipe.stages)
                if must or checkpoints.due(isinstance(event, Validated | Retrained | StageDone)):
                    checkpoints.save(network, state)
                yield event
                if job.stop:
                    raise KeyboardInterrupt
        except UnreadableError as error:
            _skip(job, error)
            if run.begun:
                state, note = checkpoints.load(network)
                if note:
                    yield Note(note)
            else:
                state = load_checkpoint(run.checkpoint("initial"), network)
            log = EventLog.continued(run.events_file, state.events)
    return state


def _look(run: Run, network: Network, recipe: Recipe, dataset: Dataset) -> None:
    """What can be seen before the first step is written once: contact sheets, then the network's layers."""
    from tellapart.workflows.preview_images import network_table, write_sheets

    if not run.network_file.is_file():
        write_sheets(dataset, recipe, run.figures)
        run.write_json(run.network_file, network_table(network, recipe.stages[0].batch_size))


def _dataset(job: _Job, network: Network, everything: bool) -> Dataset:
    """The pictures to train and to validate on; in the retraining, all of them to train on."""
    from tellapart.training.dataset import Dataset

    train, validation = (unbroken(job.run, job.catalog, rows) for rows in (job.split.train, job.split.validation))
    if everything:
        train, validation = np.sort(np.concatenate([train, validation])), validation[:0]
    for rows, part in ((train, "training"), (validation, "validation")):
        if not len(rows) and not (everything and part == "validation"):
            raise DataError(
                f"None of the {part} pictures can be read any more: they are in {job.run.skipped_file}.",
                "Put them back and delete that file, or train on other pictures with another --out.",
            )
    how, recipe = network.preprocessing, job.recipe
    return Dataset(job.catalog, train, validation, how, recipe.augment, recipe.seed, recipe.data.ahead)


def _skip(job: _Job, error: UnreadableError) -> None:
    """Record a picture that broke after the scan, so that it is left out from here on; if that was asked for."""
    path = _to_skip(error, job.catalog, job.run_options)
    job.run.write_json(job.run.skipped_file, [*job.run.skipped, {"path": path, "reason": error.reason}])


def _to_skip(error: UnreadableError, catalog: Catalog, run_options: RunOptions) -> str:
    """The path in the catalog of a picture that broke after the scan.

    Raises:
        UnreadableError: such pictures are not to be skipped.
    """
    if run_options.on_unreadable != "skip":
        raise UnreadableError(
            error.path,
            f"{error.reason}. It could be read when the pictures were scanned. "
            "To leave such pictures out, repeat the command with --on-unreadable skip",
        ) from error
    return Path(error.path).relative_to(catalog.root).as_posix()


def _finish(job: _Job, network: Network) -> Iterator[Event]:
    """What follows a training, seen to its end: pictures that broke, stopping. Done again from here if broken off."""
    while not job.run.finished:
        try:
            for event in conclude(job.run, network, job.recipe, job.catalog, job.split):
                yield event
                if job.stop and not job.run.finished:
                    raise KeyboardInterrupt
        except UnreadableError as error:
            _skip(job, error)


def train(
    pictures: str | Path | Catalog,
    split: Split | None = None,
    recipe: str | Path | Recipe = "fast",
    out: str | Path | None = None,
    *,
    changes: list[str] | None = None,
    corrections: str | Path | None = None,
    on_unreadable: str = "error",
    runtime: str = "auto",
    resume_anyway: bool = False,
    quiet: bool = False,
) -> Run:
    """Train a classifier, evaluate it, bundle it and write the report; or go on where an earlier call stopped.

    Args:
        pictures: a folder, a table of files and labels, or what `scan` gave.
        split: what `split` gave; by default, what the recipe says.
        recipe: the name of a shipped recipe, a TOML file, or a `Recipe`.
        out: the run directory; by default runs/NAME, after the folder of pictures.
        changes: "key=value" changes to the recipe, such as "stages.0.epochs=2".
        corrections: the corrections.csv of a review, applied before the split.
        on_unreadable: "error" stops at a picture that breaks after the scan, "skip" leaves it out and records it.
        runtime: "auto" measures what is fastest; or e.g. "cpu,float32,channels-last".
        resume_anyway: go on although versions, contents or labels of the same pictures, or what the recipe says of
            stages not begun yet have changed; recorded, and said in the report.
        quiet: show no progress.

    Returns:
        The run, finished.

    Raises:
        TellapartError: whatever is wrong with pictures, recipe, weights or directory, in plain words.
    """
    from tellapart.recipe.load import load_recipe
    from tellapart.recipe.schema import Recipe
    from tellapart.workflows import progress

    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    show = progress.Console(quiet=quiet)
    catalog = show.scan(pictures) if isinstance(pictures, str | Path) else pictures
    directory = Path(out) if out is not None else Path("runs") / catalog.root.name
    source = shlex.quote(str(pictures)) if isinstance(pictures, str | Path) else shlex.quote(str(catalog.root))
    options = "".join(f" --set {shlex.quote(change)}" for change in changes or [])
    options += f" --corrections {shlex.quote(str(corrections))}" if corrections is not None else ""
    name = "RECIPE" if isinstance(recipe, Recipe) else shlex.quote(str(recipe))
    command = f"tellapart train {source} --recipe {name}{options} --out {shlex.quote(str(directory))}"
    run_options = RunOptions(on_unreadable, runtime, command, resume_anyway)
    follow(show, loaded, catalog, directory, run_options, split, corrections)
    return Run(directory)


def follow(
    console: Console,
    recipe: Recipe,
    catalog: Catalog,
    out: Path,
    run_options: RunOptions,
    split: Split | None = None,
    corrections: str | Path | None = None,
) -> None:
    """Apply corrections, divide the pictures unless a split is given, and `run` to the end with progress shown."""
    from tellapart.runs.resume import divide
    from tellapart.workflows.apply_corrections import mend

    mended = mend(catalog, corrections, console.say)
    divided = split or divide(mended.catalog, recipe, out, mended.split)
    console.follow(run(recipe, mended.catalog, divided, out, replace(run_options, corrections=mended.record)), recipe)


def _need_train_extra() -> None:
    import importlib.util

    for module in ("torch", "torchvision", "timm", "safetensors", "sklearn", "matplotlib", "jinja2", "onnxscript"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("Training", "train", module)
