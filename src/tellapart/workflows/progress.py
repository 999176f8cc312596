"""What a person sees while Tellapart works: one live line and a row an epoch; plain lines when not at a terminal."""

from __future__ import annotations

import shlex
import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from tellapart.core.events import (
    ASKED_FOR,
    BeginsFrom,
    Computing,
    Event,
    LrFound,
    Note,
    Progress,
    Retrained,
    SplitReady,
    StageDone,
    StageStarted,
    Validated,
)
from tellapart.core.output import print_err, print_json, unguarded
from tellapart.core.text import lr_text, percent, visible

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe

T = TypeVar("T")
#: Shows a text, and how much of how much is done; a text of None says that this work is over.
ShowStep = Callable[[str | None, int, int], None]
#: Seconds between two plain lines of progress.
_PLAIN_EVERY = 10.0


def progress_sink(show: bool, verbose: bool = False) -> ProgressSink:
    """A console if progress is to be shown, with every measurement if `verbose`; else what shows notes alone."""
    return Console(verbose) if show else ProgressSink()


class ProgressSink:
    """Where workflows send what a person may want to see. This one shows nothing but notes.

    A note tells of what must not pass in silence, such as a picture that can no longer be read.
    """

    def say(self, text: str) -> None:
        """Show one line."""

    def note(self, text: str) -> None:
        """Show one line, also where no progress is shown."""
        print_err(text)

    @contextmanager
    def steps(self) -> Iterator[ShowStep]:
        """Give a function that shows how far some work is."""
        yield lambda text, done, total: None

    def watch(self, work: Generator[Computing | Note, None, T]) -> T:
        """Do some work, show how far it is, and what must not pass in silence; return its result."""
        with self.steps() as show:
            while True:
                try:
                    event = next(work)
                except StopIteration as end:
                    result: T = end.value
                    return result
                if isinstance(event, Note):
                    self.note(event.text)
                else:
                    show(event.task, event.done, event.total)

    def follow(self, events: Iterable[Event], recipe: Recipe) -> None:
        """Show a training's events until it ends."""
        for event in events:
            if isinstance(event, Note):
                self.note(event.text)
            elif isinstance(event, SplitReady):
                for warning in event.warnings:
                    self.note(warning)


class JsonLines(ProgressSink):
    """Each event of a training as one line of JSON on standard output; nothing else."""

    def note(self, text: str) -> None:
        """Write the note as an event."""
        self._write(Note(text))

    def follow(self, events: Iterable[Event], recipe: Recipe) -> None:
        """Write a training's events until it ends."""
        for event in events:
            self._write(event)

    def _write(self, event: Event) -> None:
        print_json({"event": type(event).__name__, **asdict(event)})


class Console(ProgressSink):
    """Lines and a progress bar on standard error, so that standard output holds answers alone."""

    def __init__(self, verbose: bool = False) -> None:
        self.verbose = verbose

    def say(self, text: str) -> None:
        """Show one line."""
        print_err(text)

    @contextmanager
    def steps(self) -> Iterator[ShowStep]:
        """Give a function that shows how far some work is: a live line at a terminal, else a line now and then."""
        with _live_line() if sys.stderr.isatty() else nullcontext(_plain_lines(self.say)) as show:
            yield show

    def follow(self, events: Iterable[Event], recipe: Recipe) -> None:
        """Show a training's events until it ends."""
        several_stages = len(recipe.stages) > 1
        meter = _Meter()
        with self.steps() as show:
            show("loading the libraries", 0, 1)  # which takes seconds, before the first event
            for event in events:
                self._show(event, show, meter, several_stages)

    def _show(self, event: Event, step: ShowStep, meter: _Meter, several_stages: bool) -> None:
        match event:
            case SplitReady():
                sizes = f"{event.train:,} training, {event.validation:,} validation, {event.test:,} test pictures"
                self.say(f"{sizes}. {event.description}".rstrip())
                for warning in event.warnings:
                    if warning not in event.description:
                        self.say(warning)
            case StageStarted():
                name = f"stage {event.stage + 1}" + (f", {event.name}" if event.name else "")
                again = "once more, on training and validation pictures: " if event.retraining else ""
                step(None, 0, 0)
                self.say(f"{again}{name if several_stages or event.name else 'training'}: {event.description}")
                runs = event.runtime["why"] if self.verbose else describe_runtime(event.runtime)
                if meter.runtime != runs:  # the same for every stage is said once
                    meter.runtime = runs
                    self.say(f"  {runs}")
                share = "labels right" if event.multilabel else "val. accuracy"
                self.say(f"  {'epoch':>7}  {'train loss':>10}  {'val. loss':>9}  {share:>13}")
            case Progress():
                speed = meter.add(event)
                left = (event.steps * (event.epochs - event.epoch + 1) - event.step) * meter.seconds_a_step
                pace = f"  {speed:.0f} pictures/s{meter.workers(event)}  {clock_text(left)} left" if speed else ""
                step(f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}{pace}", event.step, event.steps)
            case Validated():
                best = "  best so far" if event.best else ""
                step(None, 0, 0)
                self.say(
                    f"  {f'{event.epoch}/{event.epochs}':>7}  {event.train_loss:>10.4f}  {event.validation_loss:>9.4f}"
                    f"  {percent(event.validation_accuracy):>13}{best}"
                )
            case BeginsFrom():
                loss, accuracy = event.validation_loss, event.validation_accuracy
                step(None, 0, 0)
                self.say(f"  {'before':>7}  {'–':>10}  {loss:>9.4f}  {percent(accuracy):>13}  best so far")
            case Retrained():
                step(None, 0, 0)
                self.say(f"  {f'{event.epoch}/{event.epochs}':>7}  {event.train_loss:>10.4f}  {'–':>9}  {'–':>13}")
            case LrFound():
                step(None, 0, 0)
                self.say(f"  {describe_lr(event)}")
            case StageDone():
                self.say(f"  {event.reason}; {f'epoch {event.best_epoch}' if event.best_epoch else 'that'} is kept")
            case Note():
                self.say(event.text)
            case Computing():
                step(event.task, event.done, event.total)


def describe_lr(event: LrFound) -> str:
    """The learning rate that a test has found, and what sets it without a test, in a sentence."""
    rule = event.taken.replace("_", " ")
    if event.taken == "otherwise":
        rule = "the recipe's own, 'otherwise', as the loss did not fall in the test"
    return f"learning rate {lr_text(event.lr)} ({rule}); without a test: --set {shlex.quote(event.setting)}"


def describe_runtime(runtime: dict[str, Any]) -> str:
    """How a stage runs, in a few words; `why` has the measurements behind them."""
    why, engine, frozen = runtime.get("why", ""), runtime.get("engine", "torch"), runtime.get("frozen")
    words = [f"on {runtime['device']}"] if "device" in runtime else []
    words += [f"in {runtime['precision']}"] if "precision" in runtime else []
    if frozen and (engine != "torch" or frozen != runtime.get("precision")):
        words.append(f"(frozen layers: {engine}, {frozen})")
    if why == ASKED_FOR:
        words.append("as asked for")
    elif why:
        words.append("as measured here (--verbose tells more)")
    return " ".join(words)


@dataclass
class _Meter:
    """Speed of training, as a running mean, and how the machine runs it, as last said."""

    last: float = 0.0
    seconds_a_step: float = 0.0
    runtime: str = ""

    def workers(self, event: Progress) -> str:
        """How many train together, and which one they wait for."""
        return f" by {event.workers} workers, slowest {event.slowest}" if event.workers > 1 else ""

    def add(self, event: Progress) -> float:
        now = time.monotonic()
        took = event.n_pictures / event.speed if event.speed else now - self.last
        # The first step of an epoch also waited for validation.
        if self.last and event.step > 1:
            self.seconds_a_step = 0.9 * self.seconds_a_step + 0.1 * took if self.seconds_a_step else took
        self.last = now
        return event.n_pictures / self.seconds_a_step if self.seconds_a_step else 0.0


@contextmanager
def _live_line() -> Iterator[ShowStep]:
    """One line at a terminal that changes, with a bar. A text of None hides it."""
    from rich.console import Console as Rich
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
    from rich.progress import Progress as Bar

    columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
    with Bar(*columns, console=Rich(file=unguarded(sys.stderr)), transient=True, redirect_stderr=True) as bar:
        task = bar.add_task("", total=None, visible=False)

        def show(text: str | None, done: int, total: int) -> None:
            bar.update(task, description=visible(text or ""), completed=done, total=total, visible=text is not None)

        yield show


def _plain_lines(say: Callable[[str], None]) -> ShowStep:
    """A line every few seconds, for files and pipes; and the last step of what had one."""
    last, before, begun = time.monotonic(), (0, 0), False

    def show(text: str | None, done: int, total: int) -> None:
        nonlocal last, before, begun
        begun = begun and before[0] <= done <= total == before[1]  # else it is another task
        before = done, total
        if text and (time.monotonic() - last > _PLAIN_EVERY or (begun and done == total)):
            last, begun = time.monotonic(), done < total
            say(f"  {text}: {done:,} of {total:,}")

    return show


def clock_text(seconds: float) -> str:
    """Seconds as minutes, and hours where there are any: "3:20", "1:03:20"."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
