"""From pictures to a report: the order of the parts, readable from top to bottom."""

from __future__ import annotations

import importlib.util
import shlex
import time
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tellapart.core.events import Event, Note, SplitReady
from tellapart.core.files import plainly, sweep
from tellapart.core.hardware import give_back, keep_freed, limit_spinning
from tellapart.core.processes import rank
from tellapart.core.signals import stop_politely
from tellapart.core.text import visible
from tellapart.errors import MissingExtraError, UnreadableError, WorkerError
from tellapart.runs.run import Run, locked
from tellapart.runs.sessions import begin_session, end_session
from tellapart.workflows.finalize import answer, check_evaluation, conclude
from tellapart.workflows.leading import divided_recipe, hand_out, received, same_state, same_threads, use_threads
from tellapart.workflows.planned import planned_recipe, train_by_plan
from tellapart.workflows.progress import progress_sink
from tellapart.workflows.settle import settle
from tellapart.workflows.stages import Job, skip, train_stages

if TYPE_CHECKING:
    from tellapart.data.catalog import Catalog
    from tellapart.data.splitting.split import Split
    from tellapart.models.network import Network
    from tellapart.recipe.schema import Recipe
    from tellapart.training.checkpoint import Checkpoints, State
    from tellapart.training.parallel.workers import Workers
    from tellapart.workflows.progress import ProgressSink


@dataclass(frozen=True)
class RunOptions:
    """Options of a training besides its recipe.

    Attributes:
        on_unreadable: "error" stops at a picture that breaks after the scan; "skip" leaves it out and records it.
        runtime: as `runtime.parse` reads it.
        command: the command that repeats this training, for the report.
        resume_anyway: go on although versions, pictures or what the recipe says of later stages have changed.
        corrections: `Corrected.record` of corrections that were applied to the pictures.
        explain: whether the report explains some answers, where the recipe leaves it open.
        began: when the command began, in seconds since 1970: a plan's minutes count from there.
    """

    on_unreadable: str = "error"
    runtime: str = "auto"
    command: str = ""
    resume_anyway: bool = False
    corrections: dict[str, Any] = field(default_factory=dict)
    explain: bool = True
    began: float = field(default_factory=time.time)


def run(recipe: Recipe, catalog: Catalog, split: Split, out: Path, options: RunOptions) -> Generator[Event, None, None]:
    """Train, evaluate, bundle and report, or go on where an earlier call was stopped. A finished run is left alone.

    Args:
        recipe: what is trained, and how.
        catalog, split: the pictures.
        out: the run directory.
        options: see `RunOptions`.

    Yields:
        Every event, for whoever shows progress.

    Raises:
        RunError: the directory is in use, damaged, holds other things, or was begun with other pictures, another
            division of them or another recipe; or something cannot be written.
        RecipeError: the recipe judges several labels, and the pictures have one each.
        KeyboardInterrupt: stopped by a signal, after the state was saved.
    """
    limit_spinning()  # before torch is loaded, which happens just below
    _need_train_extra()
    from tellapart.runs.resume import check_run_directory
    from tellapart.training.parallel.workers import join
    from tellapart.training.runtime import parse

    parse(options.runtime)  # a mistake in it shows before anything is written
    check_evaluation(recipe, catalog)
    started = Run(out)
    check_run_directory(started)
    with plainly(), locked(out), stop_politely() as stop, join(stop) as workers, same_threads():
        keep_freed()
        if workers:
            stop = workers.stop
        job, changes = yield from _begun(started, recipe, catalog, split, options, stop, workers)
        yield from map(Note, changes)
        if workers:
            hand_out(workers, started, started.finished)
        if started.finished:
            return
        yield _split_ready(job.catalog, job.split)
        sweep(out)
        yield from _follow(job)


def _begun(
    started: Run,
    recipe: Recipe,
    catalog: Catalog,
    split: Split,
    options: RunOptions,
    stop: list[int],
    workers: Workers | None,
) -> Generator[Event, None, tuple[Job, list[str]]]:
    """The training, as it begins here or was begun, and what has changed since, in sentences."""
    from tellapart.runs.resume import begin
    from tellapart.training.runtime import environment

    recipe = yield from planned_recipe(started, recipe, catalog, split, options)
    recipe = divided_recipe(started, recipe, workers)
    # The name of a folder may be no UTF-8, which no JSON holds.
    about = {"command": visible(options.command), **environment()}
    about |= {"corrections": options.corrections} if options.corrections else {}
    may_break = options.on_unreadable == "skip"
    catalog, split, changes = begin(started, recipe, catalog, split, about, may_break, options.resume_anyway)
    return Job(started, recipe, catalog, split, options, stop, workers), changes


def _follow(job: Job) -> Generator[Event, None, None]:
    """The training from where it stands to its end, as the leader, or the only process, does it."""
    if job.workers:
        begin_session(job.run, list(job.workers.nodes))
    try:
        network, state, checkpoints = yield from _network(job)
        job = yield from _train(job, network, state, checkpoints)
    except WorkerError:
        raise  # of whom the next session goes on
    except BaseException:
        if job.workers:
            end_session(job.run)
        raise
    if job.workers:  # before the report, which tells of it
        end_session(job.run)
    give_back()
    yield from _finish(job, network)
    if ledger := settle(job.run, job.recipe):
        yield from map(Note, ledger.outcome)


def help_training(on_unreadable: str = "error", runtime: str = "auto") -> Generator[Event, None, None]:
    """Take a share of what the leader of several workers trains: as `run`, in a temporary run directory.

    Raises:
        WorkerError: the leader or another worker has failed.
        KeyboardInterrupt: all were asked to stop, after the leader has saved the state.
    """
    limit_spinning()
    _need_train_extra()
    from tellapart.training.parallel.workers import join

    with plainly(), stop_politely() as stop, join(stop) as workers, same_threads():
        assert workers
        keep_freed()
        with received(workers) as run:
            if run is None:
                return
            use_threads(run.recipe)
            job = Job(run, run.recipe, run.catalog, run.split, RunOptions(on_unreadable, runtime), stop, workers)
            network, state, checkpoints = yield from _network(job)
            job = yield from _train(job, network, state, checkpoints)
            give_back()
            yield from _help_finish(job, network)


def _split_ready(catalog: Catalog, split: Split) -> SplitReady:
    from tellapart.data.splitting.split_warnings import split_warnings

    sizes = len(split.train), len(split.validation), len(split.test)
    return SplitReady(*sizes, split.description, tuple(split_warnings(catalog, split)))


def _network(job: Job) -> Generator[Event, None, tuple[Network, State, Checkpoints]]:
    """The network, the state of its training, and what saves both. A new network's initial weights are saved."""
    import torch

    from tellapart.models.create import create_network
    from tellapart.models.pretrained import announcements
    from tellapart.training.checkpoint import Checkpoints, State, save_checkpoint

    run, recipe = job.run, job.recipe
    if job.leads:
        yield from map(Note, announcements(recipe.model))
    torch.manual_seed(recipe.seed)
    network = create_network(recipe.model, len(job.catalog.classes), recipe.data)
    checkpoints = Checkpoints(run.checkpoint("last"), run.checkpoint("previous"), are_written=job.leads)
    if job.workers and not job.leads:
        state = same_state(job.workers, network, State())
        if not run.checkpoint("initial").is_file():  # the leader has just written its own
            save_checkpoint(run.checkpoint("initial"), network, state)
        return network, state, checkpoints
    if run.begun:
        state, note = checkpoints.load(network)
        if note:
            yield Note(note)
        return network, same_state(job.workers, network, state) if job.workers else state, checkpoints
    size, last = network.preprocessing.height, recipe.stages[-1].size
    if last not in (None, size):
        yield Note(
            f"The last stage trains at {last} pixels, and the classifier will answer at {size}, which may cost it "
            f"much of what it learnt. With data.size = {last} both are the same."
        )
    save_checkpoint(run.checkpoint("initial"), network, State())
    run.write_json(run.environment_file, {**run.environment, "weights": network.weights_source})
    return network, same_state(job.workers, network, State()) if job.workers else State(), checkpoints


def _train(job: Job, network: Network, state: State, checkpoints: Checkpoints) -> Generator[Event, None, Job]:
    """Train all stages; in a recipe with `retrain`, once more on all pictures from the same initial weights.

    Returns:
        The job with its recipe as it was trained: a plan may have gone on with further stages.
    """
    from tellapart.training.checkpoint import load_checkpoint, save_checkpoint

    run = job.run
    if not state.retraining:
        job, state = yield from train_by_plan(job, network, state, checkpoints)
        recipe = job.recipe
        save_checkpoint(run.checkpoint("validated" if recipe.retrain else "best"), network, state)
        if not recipe.retrain:
            return job
        load_checkpoint(run.checkpoint("initial"), network)
        state = state.for_retraining()
        checkpoints.save(network, state)
    state = yield from train_stages(job, network, state, checkpoints)
    save_checkpoint(run.checkpoint("best"), network, state)
    return job


def _finish(job: Job, network: Network) -> Iterator[Event]:
    """Follow `conclude` to its end. After a picture that broke, or in a later call, it begins from its start."""
    while not job.run.finished:
        try:
            for event in conclude(
                job.run, network, job.recipe, job.catalog, job.split, job.workers, job.options.explain
            ):
                yield event
                if job.stop and not job.run.finished:
                    raise KeyboardInterrupt
        except UnreadableError as error:
            skip(job, error)
        if job.workers:  # the others wait for this word, as they are needed once more where a picture broke
            job.workers.json_from_leader(job.run.finished)


def _help_finish(job: Job, network: Network) -> Iterator[Event]:
    """Take a share of the pictures that `_finish` asks about, as often as it asks."""
    assert job.workers
    while True:
        try:
            yield from answer(job.run, network, job.recipe, job.catalog, job.split, job.workers)
        except UnreadableError as error:
            skip(job, error)
        if job.workers.json_from_leader():
            return


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
    progress: bool = False,
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
        progress: show progress on standard error.

    Returns:
        The run, finished.

    Raises:
        TellapartError: whatever is wrong with pictures, recipe, weights or directory, in plain words.
    """
    from tellapart.recipe.load import load_recipe
    from tellapart.recipe.schema import Recipe
    from tellapart.workflows.scan import scan

    began, sink = time.time(), progress_sink(progress)
    if rank():
        help_to_the_end(on_unreadable, runtime)
        return Run(Path(out) if out is not None else Path("runs"))
    loaded = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    catalog = scan(pictures, sink) if isinstance(pictures, str | Path) else pictures
    directory = Path(out) if out is not None else Path("runs") / catalog.root.name
    source = pictures if isinstance(pictures, str | Path) else catalog.root
    words = ["tellapart", "train", source, "--recipe", "RECIPE" if isinstance(recipe, Recipe) else recipe]
    for change in changes or []:
        words += ["--set", change]
    words += ["--corrections", corrections] if corrections is not None else []
    command = shlex.join(map(str, [*words, "--out", directory]))
    options = RunOptions(on_unreadable, runtime, command, resume_anyway, began=began)
    follow(sink, loaded, catalog, directory, options, split, corrections)
    finished = Run(directory)
    if progress:
        from tellapart.report.verdict import verdict

        for line in verdict(finished).lines():
            sink.say(line)
    return finished


def follow(
    progress: ProgressSink,
    recipe: Recipe,
    catalog: Catalog,
    out: Path,
    options: RunOptions,
    split: Split | None = None,
    corrections: str | Path | None = None,
) -> None:
    """Apply corrections, divide the pictures unless a split is given, and `run` to the end with progress shown."""
    from tellapart.runs.resume import divide
    from tellapart.workflows.apply_corrections import correct

    corrected = correct(catalog, corrections, progress.say)
    split = split or divide(corrected.catalog, recipe, out, corrected.split)
    options = replace(options, corrections=corrected.record)
    follow_run(progress, recipe, corrected.catalog, split, out, options)


def follow_run(
    progress: ProgressSink, recipe: Recipe, catalog: Catalog, split: Split, out: Path, options: RunOptions
) -> None:
    """`run` to the end with progress shown. Where it can be shown no longer, the state is saved before that is raised.

    Raises:
        OSError: the terminal was closed, or nobody reads the pipe any more.
    """
    with closing(run(recipe, catalog, split, out, options)) as events:
        progress.follow(events, recipe)


def help_to_the_end(on_unreadable: str, runtime: str) -> None:
    """`help_training` to its end, in silence: the leader says what there is to say."""
    with closing(help_training(on_unreadable, runtime)) as events:
        for _ in events:
            pass


def _need_train_extra() -> None:
    for module in ("torch", "torchvision", "timm", "safetensors", "sklearn", "matplotlib", "jinja2", "onnxscript"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("Training", "train", module)
