"""Contestants timed in turn on the same machine, so that a slow moment hits them all; medians and spread."""

from __future__ import annotations

import multiprocessing
import signal
import statistics
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from multiprocessing.connection import Connection
from typing import Any

from tellapart.core.events import Computing
from tellapart.errors import TellapartError

#: What `in_turn` lets run: each step ends with the number of pictures that were worked on since the one before. 0 says
#: that what was done until now (getting ready, judging) is not to be timed.
Contestant = Iterator[int]
ROUNDS = 7
_FEWEST = 3


@dataclass(frozen=True)
class Figure:
    """One line of the table.

    Attributes:
        what: was measured.
        unit: "pictures/s" and the like, where more is better; "s", where less is.
        values: by contestant, one a round. The first is Tellapart, the second whom it is compared with.
        note: what else should be known.
    """

    what: str
    unit: str
    values: Mapping[str, Sequence[float]]
    note: str = ""

    @property
    def ratios(self) -> list[float]:
        """How many times faster the first is than the second, round by round."""
        ours, theirs = list(self.values.values())[:2]
        pairs = zip(ours, theirs, strict=False)
        return [b / a if self.unit == "s" else a / b for a, b in pairs]

    def lines(self) -> list[str]:
        """For people: what, each contestant's median and range, and how many times faster."""
        found = [self.what]
        for name, values in self.values.items():
            low, high = _number(min(values)), _number(max(values))
            extent = f"  ({low} to {high}, n = {len(values)})" if len(values) > 1 else ""
            found.append(f"  {name:<40} {_number(statistics.median(values)):>8} {self.unit}{extent}")
        if len(self.values) > 1:
            low, high = (f"{ratio:.2f}" for ratio in (min(self.ratios), max(self.ratios)))
            extent = f"  ({low} to {high})" if len(self.ratios) > 1 else ""
            found.append(f"  {'times faster':<40} {statistics.median(self.ratios):>8.2f}{extent}")
        return [*found, *([f"  {self.note}"] if self.note else [])]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; with the medians."""
        medians = {name: statistics.median(values) for name, values in self.values.items()}
        ratio = statistics.median(self.ratios) if len(self.values) > 1 else None
        return {**asdict(self), "medians": medians, "times faster": ratio}


def _number(value: float) -> str:
    """Three digits that say something: 3,120, 56.9, 0.413."""
    return f"{float(f'{value:.3g}'):,.0f}" if value >= 100 else f"{value:.3g}"


def in_turn(
    what: str,
    contestants: Mapping[str, Contestant],
    seconds: float,
    clock: Callable[[], float] = time.perf_counter,
) -> Generator[Computing, None, dict[str, list[float]]]:
    """Let contestants run in turn: a round that warms up, then up to `ROUNDS`, each in the order opposite to the last.

    Args:
        what: for the progress events.
        contestants: by name; they must not end.
        seconds: after which no further round begins, once there are three.
        clock: seconds; `time.process_time` counts the processors' time instead.

    Yields:
        Computing, after each turn.

    Returns:
        Pictures a second, by contestant, one a round.
    """
    names, total = list(contestants), (ROUNDS + 1) * len(contestants)
    found: dict[str, list[float]] = {name: [] for name in names}
    start, done = time.perf_counter(), 0
    for number in range(ROUNDS + 1):
        if number > _FEWEST and time.perf_counter() - start > seconds:
            break
        for name in names if number % 2 else reversed(names):
            rate = _turn(contestants[name], clock)
            if number:
                found[name].append(rate)
            done += 1
            yield Computing(-1, what, done, total)
    return found


def apart(make: Callable[..., Contestant], *given: Any) -> Contestant:
    """A contestant in a process of its own, so that what ours asks of the process (see `memory`) is not done for it.

    Args:
        make: makes it, there; a function of a module.
        given: to `make`; must be able to be pickled.

    Raises:
        TellapartError: the process has ended.
    """
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_serve, args=(there, make, given), daemon=True)
    # Who asks for turns is stopped, and then asks for no more. The new process is deaf from its first moment on: while
    # it loads torch it would answer with a traceback.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    process.start()
    signal.signal(signal.SIGINT, before)
    there.close()
    try:
        while True:
            here.send("go on")
            yield here.recv()
    except (EOFError, ConnectionError):
        name = " ".join([make.__name__, *(word for word in given if isinstance(word, str))])
        raise TellapartError(
            f"{name} ended before its turn was over; what it said stands above.", "Leave this row out with --rows."
        ) from None
    finally:
        here.close()
        process.join()


def _serve(pipe: Connection[int, str], make: Callable[..., Contestant], given: tuple[Any, ...]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for systems that do not pass it on
    contestant = make(*given)
    try:
        while True:
            pipe.recv()  # nothing is done ahead: it would be in the others' turns
            pipe.send(next(contestant))
    except (EOFError, BrokenPipeError):
        return


def _turn(contestant: Contestant, clock: Callable[[], float]) -> float:
    """Pictures a second until a contestant has worked on some."""
    start = clock()
    for n in contestant:
        if n:
            return n / max(1e-9, clock() - start)
        start = clock()
    raise ValueError("a contestant ended before the others")
