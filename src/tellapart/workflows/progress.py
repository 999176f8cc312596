"""What a person sees while Tellapart works: one live line and a row an epoch; plain lines when not at a terminal."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tellapart.core.events import (
    Computing,
    Event,
    LrFound,
    Note,
    Progress,
    Retrained,
    StageDone,
    StageStarted,
    Validated,
)

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

    from tellapart.data.catalog import Catalog
    from tellapart.recipe.schema import Recipe

T = TypeVar("T")
#: Seconds between two plain lines of progress.
_PLAIN_EVERY = 10.0


@dataclass
class Console:
    """Where progress goes: standard error, so that answers on standard output stay clean.

    Attributes:
        quiet: show nothing.
        as_json: every event as one line of JSON on standard output, nothing else.
    """

    quiet: bool = False
    as_json: bool = False

    @property
    def live(self) -> bool:
        return sys.stderr.isatty() and not self.quiet and not self.as_json

    def say(self, text: str) -> None:
        """One line for people."""
        if not self.quiet and not self.as_json:
            print(text, file=sys.stderr, flush=True)

    def scan(self, pictures: str | Path, **options: Any) -> Catalog:
        """Scan with progress."""
        from tellapart.data.scan import scan

        start = time.monotonic()
        with self._bar() as step:
            catalog = scan(pictures, progress=lambda done, total: step("scanning", done, total), **options)
        unreadable = len(catalog) - len(catalog.readable)
        self.say(
            f"{_n(len(catalog), 'picture', 'pictures')}, {_n(len(catalog.classes), 'class', 'classes')}"
            f" ({catalog.layout.rstrip('.')})"
            f"{f', {unreadable} unreadable' if unreadable else ''}; {time.monotonic() - start:.1f} s"
        )
        return catalog

    def watch(self, work: Generator[Computing, None, T]) -> T:
        """Show how far some work is, and give its result."""
        with self._bar() as step:
            while True:
                try:
                    done = next(work)
                except StopIteration as end:
                    result: T = end.value
                    return result
                step(done.what, done.done, done.total)

    def follow(self, events: Iterable[Event], recipe: Recipe) -> None:
        """Show a training's events until it ends."""
        if self.quiet:
            for event in events:
                if isinstance(event, Note):  # it is no progress
                    print(event.text, file=sys.stderr, flush=True)
            return
        if self.as_json:
            for event in events:
                print(json.dumps({"event": type(event).__name__, **asdict(event)}), flush=True)
            return
        several_stages = len(recipe.stages) > 1
        meter = _Meter()
        with self._bar() as step:
            for event in events:
                self._show(event, step, meter, several_stages)

    def _show(self, event: Event, step: Callable[..., None], meter: _Meter, several_stages: bool) -> None:
        match event:
            case StageStarted():
                name = f"stage {event.stage + 1}" + (f", {event.name}" if event.name else "")
                again = "once more, on training and validation pictures: " if event.retraining else ""
                step(None, 0, 0)
                self.say(f"{again}{name if several_stages or event.name else 'training'}: {event.description}")
                if meter.runtime != event.runtime["why"]:  # the same for every stage is said once
                    meter.runtime = event.runtime["why"]
                    self.say(f"  {meter.runtime}")
                share = "labels right" if event.multilabel else "val. accuracy"
                self.say(f"  {'epoch':>7}  {'train loss':>10}  {'val. loss':>9}  {share:>13}")
            case Progress():
                speed = meter.add(event)
                left = (event.steps * (event.epochs - event.epoch + 1) - event.step) * meter.seconds_a_step
                pace = f"  {speed:.0f} pictures/s  {_time(left)} left" if speed else ""
                step(f"epoch {event.epoch}/{event.epochs}  loss {event.loss:.4f}{pace}", event.step, event.steps)
            case Validated():
                best = "  best so far" if event.best else ""
                step(None, 0, 0)
                self.say(
                    f"  {f'{event.epoch}/{event.epochs}':>7}  {event.train_loss:>10.4f}  {event.validation_loss:>9.4f}"
                    f"  {event.validation_accuracy:>13.2%}{best}"
                )
            case Retrained():
                step(None, 0, 0)
                self.say(f"  {f'{event.epoch}/{event.epochs}':>7}  {event.train_loss:>10.4f}  {'–':>9}  {'–':>13}")
            case LrFound():
                step(None, 0, 0)
                others = [f"{name.replace('_', ' ')} {lr:.1e}" for name, lr in event.suggestions.items()]
                why = ", ".join(others) or "the loss did not fall in the test"
                self.say(f"  learning rate {event.lr:.1e}: {event.taken.replace('_', ' ')} ({why})")
            case StageDone():
                self.say(f"  {event.reason}; epoch {event.best_epoch} is kept")
            case Note():
                self.say(event.text)
            case Computing():
                step(event.what, event.done, event.total)

    def _bar(self) -> _Shown:
        return _Shown(self)


@dataclass
class _Meter:
    """Speed of training, as a running mean, and how the machine runs it, as last said."""

    last: float = 0.0
    seconds_a_step: float = 0.0
    runtime: str = ""

    def add(self, event: Progress) -> float:
        now = time.monotonic()
        took = now - self.last
        # The first step of an epoch also waited for validation.
        if self.last and event.step > 1:
            self.seconds_a_step = 0.9 * self.seconds_a_step + 0.1 * took if self.seconds_a_step else took
        self.last = now
        return event.n_pictures / self.seconds_a_step if self.seconds_a_step else 0.0


class _Shown:
    """A context that shows steps: as one live line at a terminal, else as a plain line every few seconds."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.bar: Bar | None = None
        self.task: Any = None
        self.last = time.monotonic()

    def __enter__(self) -> Callable[..., None]:
        if self.console.live:
            from rich.console import Console as Rich
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn
            from rich.progress import Progress as Bar

            columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
            self.bar = Bar(*columns, console=Rich(stderr=True), transient=True, redirect_stderr=True)
            self.task = self.bar.add_task("", total=None, visible=False)
            self.bar.start()
        return self.step

    def __exit__(self, *_: object) -> None:
        if self.bar:
            self.bar.stop()

    def step(self, text: str | None, done: int, total: int) -> None:
        """Show how far something is; a text of None hides the line."""
        if self.bar:
            self.bar.update(self.task, description=text or "", completed=done, total=total, visible=text is not None)
        elif text and time.monotonic() - self.last > _PLAIN_EVERY:
            self.last = time.monotonic()
            self.console.say(f"  {text}: {done:,} of {total:,}")


def _n(n: int, one: str, more: str) -> str:
    return f"{n:,} {one if n == 1 else more}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
