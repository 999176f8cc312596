"""What the leader of a training tells the command that started it, and what it is asked in return."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import TYPE_CHECKING, Any

from tellapart.core.events import Computing, Event, Note, Progress
from tellapart.workflows.progress import ProgressSink, ShowStep

if TYPE_CHECKING:
    from tellapart.recipe.schema import Recipe

#: A message: "event" with an event; "say", "note" or "lost" with a text; "failed" with message and hint; or "done" or
#: "stopped".
Message = tuple[str, Any]
#: Seconds between two deliveries: often enough for an eye, seldom enough to cost a step nothing.
_EVERY = 0.5
#: Messages that wait at most; of progress only the latest is worth keeping.
_MOST = 10_000


class Mailbox:
    """An actor: holds messages until the command takes them, and its wish to stop until the leader asks."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.stop = False

    def put(self, messages: list[Message]) -> bool:
        """Take messages; answer whether the training is to stop."""
        self.messages = [*self.messages, *messages][-_MOST:]
        return self.stop

    def take(self) -> list[Message]:
        """Give all messages that wait."""
        messages, self.messages = self.messages, []
        return messages

    def ask_to_stop(self) -> None:
        """Stop the training at its next step."""
        self.stop = True


class Mailed(ProgressSink):
    """Sends what a workflow shows to a mailbox.

    Args:
        mailbox: the actor's handle.
    """

    def __init__(self, mailbox: Any) -> None:
        self.mailbox = mailbox
        self.waiting: list[Message] = []
        self.sent = 0.0
        self.answer: Any = None

    def say(self, text: str) -> None:
        """Send one line."""
        self.send("say", text)

    def note(self, text: str) -> None:
        """Send one line that must not pass in silence."""
        self.send("note", text)

    @contextmanager
    def steps(self) -> Iterator[ShowStep]:
        """Give a function that sends how far some work is."""

        def show(text: str | None, done: int, total: int) -> None:
            if text:
                self.send("event", Computing(-1, text, done, total))

        yield show

    def follow(self, events: Iterable[Event], recipe: Recipe) -> None:
        """Send a training's events until it ends."""
        for event in events:
            self.send("event", event)

    def send(self, kind: str, value: Any = None) -> None:
        """Deliver a message now or soon.

        Raises:
            KeyboardInterrupt: the command wants the training to stop.
        """
        passing = isinstance(value, Progress | Computing)
        if passing and self.waiting and type(self.waiting[-1][1]) is type(value):
            self.waiting.pop()
        self.waiting.append((kind, value))
        if not passing or time.monotonic() - self.sent > _EVERY:
            self.deliver()

    def deliver(self, wait: bool = False) -> None:
        """Deliver what waits; with `wait`, until it has arrived."""
        ray: Any = import_module("ray")
        if self.answer is not None and ray.wait([self.answer], timeout=0)[0] and ray.get(self.answer):
            raise KeyboardInterrupt
        self.answer, self.waiting, self.sent = self.mailbox.put.remote(self.waiting), [], time.monotonic()
        if wait:
            with contextlib.suppress(Exception):
                ray.get(self.answer, timeout=10)


def as_event(message: Message) -> Event | None:
    """A message as an event for whoever shows a training; None for what is no news to a person."""
    kind, value = message
    if kind == "event":
        event: Event = value
        return event
    return Note(value) if kind in ("say", "note") else None
