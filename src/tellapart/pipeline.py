"""From pictures to a report: the order of the parts, readable from top to bottom."""

from __future__ import annotations

import os
import shlex
import signal
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from tellapart.errors import DataError, MissingExtraError, RunError, UnreadableError, UsageError
from tellapart.records import Computing, Evaluation, Event, Predictions, StageDone, StageStarted, Validated
from tellapart.run_directory import EventLog, Run, locked

if TYPE_CHECKING:
    from tellapart.bundle.read import Bundle
    from tellapart.data.catalog import Catalog
    from tellapart.data.split import Split
    from tellapart.models.network import Network
    from tellapart.recipe import Recipe
    from tellapart.runtime import Runtime
    from tellapart.training.checkpoint import State

# Threads of torch that wait for each other spin by default; where other programs use the processors too, that makes a
# training many times slower. Spinning briefly costs little on a quiet machine. Read when torch is loaded: later.
os.environ.setdefault("GOMP_SPINCOUNT", "20000")

Rows = npt.NDArray[np.int64]
_GOLDEN = 8
_CHECKPOINT_SECONDS = 60.0


@dataclass(frozen=True)
class Wishes:
    """What the user asked for besides the recipe.

    Attributes:
        on_unreadable: "error" stops at a picture that breaks after the scan; "skip" leaves it out and records it.
        runtime: as `runtime.parse` reads it.
        command: what repeats this training, for the report.
    """

    on_unreadable: str = "error"
    runtime: str = "auto"
    command: str = ""


def run(recipe: Recipe, catalog: Catalog, split: Split, out: Path, wishes: Wishes) -> Iterator[Event]:
    """Train, evaluate, bundle and report, or go on where an earlier call was stopped. A finished run is left alone.

    Args:
        recipe: the plan.
        catalog, split: the pictures.
        out: the run directory.
        wishes: see `Wishes`.

    Yields:
        Every event, for whoever shows progress.

    Raises:
        RunError: the directory is in use, damaged, holds other things, or was begun with other pictures, another
            division of them or another recipe.
        KeyboardInterrupt: stopped by a signal, after the state was saved.
    """
    from tellapart.resume import begin, check_place
    from tellapart.runtime import environment, parse

    _need_train_extra()
    parse(wishes.runtime)  # a mistake in it shows before anything is written
    training = Run(out)
    check_place(training)
    with locked(out), _stop_politely() as stop:
        skip = wishes.on_unreadable == "skip"
        about = {"command": wishes.command, **environment()}
        catalog, split = begin(training, recipe, catalog, split, about, may_break=skip)
        if training.finished:
            return
        network, state = _network(training, recipe, catalog)
        yield from _train(training, network, state, recipe, catalog, split, wishes, stop)
        yield from _finish(training, network, recipe, catalog, split, wishes, stop)


def _network(run: Run, recipe: Recipe, catalog: Catalog) -> tuple[Network, State]:
    """The network and where its training stands; its initial weights are kept."""
    import torch

    from tellapart.models.create import create_network
    from tellapart.training.checkpoint import State, load_checkpoint, save_checkpoint

    torch.manual_seed(recipe.seed)
    network = create_network(recipe.model, len(catalog.classes), recipe.data)
    last = run.checkpoint("last")
    if last.is_file():
        return network, load_checkpoint(last, network)
    save_checkpoint(run.checkpoint("initial"), network, State())
    run.write_json(run.environment_file, {**run.environment, "weights": network.weights_source})
    return network, State()


def _train(
    run: Run,
    network: Network,
    state: State,
    recipe: Recipe,
    catalog: Catalog,
    split: Split,
    wishes: Wishes,
    stop: list[int],
) -> Iterator[Event]:
    """The training loop's caller: log, checkpoints, stopping, pictures that broke."""
    from tellapart.training.checkpoint import load_checkpoint, save_checkpoint
    from tellapart.training.fit import fit

    while state.stage < len(recipe.stages):
        log = EventLog.continued(run.events_file, state.events)
        begun = {e["stage"]: e for e in run.events() if e["event"] == "StageStarted"}
        material = _material(run, network, recipe, catalog, split)
        saved = started = time.monotonic()
        try:
            for event in fit(network, recipe, material, state, _runtime(wishes, begun)):
                if isinstance(event, StageStarted) and event.stage in begun:
                    pass
                elif isinstance(event, StageStarted | Validated | StageDone):
                    log.add(event, seconds=round(time.monotonic() - started, 3))
                    started = time.monotonic()
                state.events = log.n_lines
                due = time.monotonic() - saved > _CHECKPOINT_SECONDS and not isinstance(event, Computing)
                if due or stop or isinstance(event, Validated | StageDone):
                    save_checkpoint(run.checkpoint("last"), network, state)
                    saved = time.monotonic()
                yield event
                if stop:
                    raise KeyboardInterrupt
        except UnreadableError as error:
            _skip(run, catalog, error, wishes)
            last = run.checkpoint("last")
            state = load_checkpoint(last if last.is_file() else run.checkpoint("initial"), network)
    save_checkpoint(run.checkpoint("best"), network, state)


def _material(run: Run, network: Network, recipe: Recipe, catalog: Catalog, split: Split) -> Any:
    from tellapart.training.material import Material

    train, validation = (_unbroken(run, catalog, rows) for rows in (split.train, split.validation))
    for rows, part in ((train, "training"), (validation, "validation")):
        if not len(rows):
            raise DataError(
                f"None of the {part} pictures can be read any more: they are in {run.skipped_file}.",
                "Put them back and delete that file, or train on other pictures with another --out.",
            )
    return Material(catalog, train, validation, network.preprocessing, recipe.augment, recipe.seed)


def _runtime(wishes: Wishes, begun: dict[int, dict[str, Any]]) -> Runtime | None:
    """What is settled: the user's wish, or what this training was begun with."""
    from tellapart.runtime import Runtime, parse

    wish = parse(wishes.runtime)
    return wish or next((Runtime(**event["runtime"]) for event in begun.values()), None)


def _skip(run: Run, catalog: Catalog, error: UnreadableError, wishes: Wishes) -> None:
    """Record a picture that broke after the scan, so that it is left out from here on; if that was asked for.

    Raises:
        UnreadableError: it was not.
    """
    if wishes.on_unreadable != "skip":
        raise UnreadableError(
            error.path,
            f"{error.reason}. It could be read when the pictures were scanned. "
            "To leave such pictures out, repeat the command with --on-unreadable skip",
        ) from error
    path = Path(error.path).relative_to(catalog.root).as_posix()
    run.write_json(run.skipped_file, [*run.skipped, {"path": path, "reason": error.reason}])


def _unbroken(run: Run, catalog: Catalog, rows: Rows) -> Rows:
    """Those of the rows whose pictures have not been left out."""
    broken = catalog.table["path"].gather(rows).is_in([entry["path"] for entry in run.skipped])
    kept: Rows = rows[~broken.to_numpy()]
    return kept


def _finish(
    run: Run,
    network: Network,
    recipe: Recipe,
    catalog: Catalog,
    split: Split,
    wishes: Wishes,
    stop: list[int],
) -> Iterator[Event]:
    """What follows a training, seen to its end: pictures that broke, stopping. Done again from here if broken off."""
    while not run.finished:
        try:
            for event in _conclude(run, network, recipe, catalog, split):
                yield event
                if stop and not run.finished:
                    raise KeyboardInterrupt
        except UnreadableError as error:
            _skip(run, catalog, error, wishes)


def _conclude(
    run: Run, network: Network, recipe: Recipe, catalog: Catalog, split: Split
) -> Generator[Computing, None, None]:
    """Predictions, certainty, scores, bundle, report."""
    from tellapart.evaluation.calibrate import fit_temperature, thresholds
    from tellapart.evaluation.evaluate import evaluate_predictions
    from tellapart.infer.predict import predict
    from tellapart.retelling import report
    from tellapart.runtime import Runtime, default_device, default_workers

    # float32, as the exported model computes: the score is that of the model that will answer.
    runtime = Runtime(default_device(), workers=default_workers())
    predictions: dict[str, Predictions] = {}
    for on, rows in (("validation", split.validation), ("test", split.test)):
        if len(rows := _unbroken(run, catalog, rows)):
            predictions[on] = yield from predict(network, catalog, rows, runtime, f"answers on the {on} pictures")
            predictions[on].save(run.predictions_file(on))
    temperature = fit_temperature(predictions["validation"])
    limits = tuple(thresholds(predictions["validation"], temperature)) if catalog.several else None
    evaluations = {
        on: evaluate_predictions(predictions[on], on=on, temperature=temperature, thresholds=limits)
        for on in reversed(predictions)
    }
    about = {"temperature": temperature, "thresholds": limits}
    run.write_json(run.evaluation_file, {**about, "evaluations": {on: e.as_dict() for on, e in evaluations.items()}})
    yield Computing(-1, "bundle", 0, 1)
    _bundle(run, network, recipe, catalog, split, temperature, limits, next(iter(evaluations.values())))
    yield Computing(-1, "bundle", 1, 1)
    yield Computing(-1, "report", 0, 1)
    report(Run(run.directory))  # as it lies on disk now
    yield Computing(-1, "report", 1, 1)


def _bundle(
    run: Run,
    network: Network,
    recipe: Recipe,
    catalog: Catalog,
    split: Split,
    temperature: float,
    limits: tuple[float, ...] | None,
    evaluation: Evaluation,
) -> None:
    from tellapart.bundle.write import write_bundle
    from tellapart.data.decode import decode
    from tellapart.preprocess import preprocess

    how = network.preprocessing
    rows = _unbroken(run, catalog, split.validation)
    spread = np.unique(rows[np.linspace(0, len(rows) - 1, _GOLDEN).astype(int)])
    golden = [preprocess(decode(catalog.path(row), how.decode_at_least, how.background), how) for row in spread]
    about = {
        "model": recipe.model.name,
        "weights": network.weights_source,
        "architecture": network.architecture.as_dict(),
        "trained_on": f"{len(split.train)} pictures of {catalog.root.name}, {len(catalog.classes)} classes",
        "command": run.environment["command"],
        "evaluation": evaluation.as_dict(),
        "recipe": recipe.model_dump(),
    }
    write_bundle(
        run.bundle,
        network,
        catalog.classes,
        catalog.several,
        temperature=temperature,
        thresholds=limits,
        about=about,
        golden=np.stack(golden),
    )


def train(
    pictures: str | Path | Catalog,
    split: Split | None = None,
    recipe: str | Path | Recipe = "transfer",
    out: str | Path | None = None,
    *,
    changes: list[str] | None = None,
    on_unreadable: str = "error",
    runtime: str = "auto",
    quiet: bool = False,
) -> Run:
    """Train a classifier, evaluate it, bundle it and write the report; or go on where an earlier call stopped.

    Args:
        pictures: a folder, a table of files and labels, or what `scan` gave.
        split: what `split` gave; by default, what the recipe says.
        recipe: the name of a shipped recipe, a TOML file, or a `Recipe`.
        out: the run directory; by default runs/NAME, after the folder of pictures.
        changes: "key=value" changes to the recipe, such as "stages.0.epochs=2".
        on_unreadable: "error" stops at a picture that breaks after the scan, "skip" leaves it out and records it.
        runtime: "auto" measures what is fastest; or e.g. "cpu,float32,channels-last".
        quiet: show no progress.

    Returns:
        The run, finished.

    Raises:
        TellapartError: whatever is wrong with pictures, recipe, weights or directory, in plain words.
    """
    from tellapart import console
    from tellapart.recipe import Recipe, load_recipe
    from tellapart.resume import divide

    plan = recipe if isinstance(recipe, Recipe) else load_recipe(recipe, changes)
    show = console.Console(quiet=quiet)
    catalog = show.scan(pictures) if isinstance(pictures, str | Path) else pictures
    directory = Path(out) if out is not None else Path("runs") / catalog.root.name
    divided = split or divide(catalog, plan, directory)
    source = shlex.quote(str(pictures)) if isinstance(pictures, str | Path) else shlex.quote(str(catalog.root))
    options = "".join(f" --set {shlex.quote(change)}" for change in changes or [])
    name = "RECIPE" if isinstance(recipe, Recipe) else shlex.quote(str(recipe))
    command = f"tellapart train {source} --recipe {name}{options} --out {shlex.quote(str(directory))}"
    wishes = Wishes(on_unreadable, runtime, command)
    show.follow(run(plan, catalog, divided, directory, wishes), plan)
    return Run(directory)


def evaluate(trained: Run | str | Path, on: str | Path = "test") -> Evaluation:
    """How good a finished training is.

    Args:
        trained: the run, or its directory.
        on: "test" or "validation" (what was measured at the end of the training), or a folder or table of other
            pictures with labels: these are scanned and answered by the bundle, without torch.

    Raises:
        RunError: the training has not finished, or has no such part.
        DataError: other pictures have no labels, or labels that the model does not know.
    """
    finished = trained if isinstance(trained, Run) else Run(Path(trained))
    if str(on) in ("test", "validation"):
        known = finished.evaluations
        if str(on) not in known:
            raise RunError(f"{finished.directory} has no {on} part.", f"It has: {', '.join(known)}.")
        return known[str(on)]
    return _evaluate_elsewhere(finished, Path(on))


def _evaluate_elsewhere(finished: Run, folder: Path) -> Evaluation:
    from tellapart.bundle.read import Bundle
    from tellapart.console import Console
    from tellapart.evaluation.evaluate import evaluate_predictions

    if not folder.exists():
        raise UsageError(f"--on {folder}: there is no such folder or table.", "Or use --on test, --on validation.")
    bundle = Bundle.load(finished.directory)
    console = Console()
    catalog = console.scan(folder).with_classes(bundle.classes)
    if catalog.several and not bundle.several:
        raise DataError(
            f"{folder} has any number of labels a picture; this model was trained to give one.",
            "Give pictures with one label each.",
        )
    catalog = replace(catalog, several=bundle.several)  # one label each is a case of several
    rows = np.intersect1d(catalog.readable, catalog.labelled)
    if not len(rows):
        raise DataError(
            f"{folder} holds no picture that can be read and has a label. {catalog.layout}",
            "Put each class into a folder of its own, or add a table with the columns file_name and label.",
        )
    if left_out := len(catalog) - len(rows):
        console.say(f"Left out: {left_out:,} of them, which are unreadable or have no label.")
    logits = _logits(bundle, [catalog.path(row) for row in rows])
    predictions = Predictions.of(rows, logits, catalog.target(rows), bundle.classes)
    return evaluate_predictions(
        predictions, on=str(folder), temperature=bundle.temperature, thresholds=bundle.thresholds or None
    )


def _logits(bundle: Bundle, paths: list[Path]) -> np.ndarray[Any, np.dtype[np.float32]]:
    """The bundle's logits for pictures, float32 [n, n_classes]."""
    from concurrent.futures import ThreadPoolExecutor

    from tellapart.data.decode import decode
    from tellapart.preprocess import Pixels, preprocess

    how = bundle.preprocessing

    def load(path: Path) -> Pixels:
        return preprocess(decode(path, how.decode_at_least, how.background), how)

    size = 64
    with ThreadPoolExecutor() as pool:
        parts = [
            bundle.predict_pixels(np.stack(list(pool.map(load, paths[start : start + size]))))
            for start in range(0, len(paths), size)
        ]
    return np.concatenate([np.empty((0, len(bundle.classes)), np.float32), *parts])


@contextmanager
def _stop_politely() -> Iterator[list[int]]:
    """Turn the first Ctrl-C or SIGTERM into a wish, seen after the current step; a second one ends at once."""
    wish: list[int] = []

    def note(number: int, _frame: object) -> None:
        if wish:
            raise KeyboardInterrupt
        wish.append(number)
        print("\nStopping after this step, so that the same command can go on from here …", file=sys.stderr)

    before: dict[int, Any] = {}
    try:
        for kind in (signal.SIGINT, signal.SIGTERM):
            before[kind] = signal.signal(kind, note)
    except ValueError:
        pass  # not the main thread: signals go to whoever called
    try:
        yield wish
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _need_train_extra() -> None:
    import importlib.util

    for module in ("torch", "torchvision", "timm", "safetensors", "sklearn", "matplotlib", "jinja2", "onnxscript"):
        if importlib.util.find_spec(module) is None:
            raise MissingExtraError("Training", "train", module)
